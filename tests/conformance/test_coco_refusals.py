"""What is said about a file that is no COCO annotations file: one sentence with reason, place and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from detr_conformance.coco import TargetsFileError, read_targets

GOOD = """{"images": [{"id": 7, "width": 64, "height": 40}, {"id": 8, "width": 64, "height": 40}],
"annotations": [{"id": 4232, "image_id": 7, "category_id": 3, "bbox": [8, 10, 16, 20]}],
"categories": [{"id": 3}, {"id": 90}]}"""


def refusal(path: Path, content: str | bytes) -> str:
    """The sentence with which a file of this content is refused, without the file's name."""
    __tracebackhide__ = True
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TargetsFileError) as refused:
        read_targets(path)
    name, _, sentence = str(refused.value).partition(".json: ")
    assert f"{name}.json" == str(path)
    assert "; " in sentence, "the sentence does not say what to do"
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a test may write its file."""
    return tmp_path / "instances.json"


def test_the_file_that_the_others_are_made_from_is_good(path: Path) -> None:
    path.write_text(GOOD)
    assert len(read_targets(path).images[0].boxes) == 1


NOT_THE_FORMAT: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "is empty"),
    "blank": (" \n", "is empty"),
    "truncated": ('{"images": [\n{"id": 1,\n"wid', "is cut short at line 3, byte 27"),
    "not JSON": ('{"images":\n oops}', "is not JSON at line 2, byte 12 (invalid character)"),
    "trailing text": ("{}{}", "(trailing characters)"),
    "UTF-16": (GOOD.encode("utf-16"), "is not UTF-8 text (byte 0)"),
    "Latin-1": ('{"info": "Zahnbürste"}'.encode("latin-1"), "is not UTF-8 text (byte 15)"),
    "gzip": (b"\x1f\x8b\x08\x00", "is not UTF-8 text (byte 1); unpack it if it is compressed"),
    "bottomless": ('{"info":' + "[" * 100_000, "is nested too deeply"),
    "a number": ("5", "the top level is not an `object` but `int`;"),
    "null": ("null", "the top level is not an `object` but `null`;"),
    "results": (
        '[{"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.5}]',
        "a results file is a list of detections",
    ),
    "a test set": (
        '{"images": [{"id": 7, "width": 64, "height": 40}], "categories": [{"id": 3}]}',
        "has no `annot",
    ),
    "captions": (
        '{"images": [{"id": 7, "width": 64, "height": 40}], "annotations": []}',
        "has no `categories`",
    ),
    "no images section": ('{"annotations": [], "categories": [{"id": 3}]}', "has no `images`"),
    "YOLO": ("0 0.5 0.5 0.1 0.1\n", "the top level is not an `object` but `int`;"),
}


@pytest.mark.parametrize("name", NOT_THE_FORMAT)
def test_another_kind_of_file_is_refused_with_the_reason(path: Path, name: str) -> None:
    content, words = NOT_THE_FORMAT[name]
    assert words in refusal(path, content)


BBOX = "[8, 10, 16, 20]"
FIRST_IMAGE = '{"id": 7, "width": 64, "height": 40}'

ONE_CHANGE = {
    "a section as an object": (
        '[{"id": 3}, {"id": 90}]',
        "{}",
        "categories: Expected `array`, got `object`",
    ),
    "no categories": ('[{"id": 3}, {"id": 90}]', "[]", "`categories` is empty"),
    "a category's name as id": (
        '{"id": 90}',
        '{"id": "car"}',
        'categories[1].id: expected a whole number, such as 3 or "3", got other text; write ids as numbers',
    ),
    "duplicate category": ('{"id": 90}', '{"id": 3}', "categories[1] has the id 3 of categories[0]"),
    "duplicate image": ('"id": 8', '"id": 7', "images[1] has the id 7 of images[0]: ids must be unique"),
    "no width": ('8, "width": 64', "8", "images[1]: Object missing required field `width`"),
    "width null": ('8, "width": 64', '8, "width": null', "images[1].width: Expected `float`, got `null`"),
    "width zero": ('8, "width": 64', '8, "width": 0', "images[1].width: Expected `float` > 0.0"),
    "width beyond belief": ('8, "width": 64', '8, "width": 1e300', "images[1].width: Expected `float` <= 1"),
    "height negative": ("40}]", "-40}]", "images[1].height: Expected `float` > 0.0"),
    "panoptic": (
        f'"bbox": {BBOX}',
        '"segments_info": []',
        "annotations[0]: Object missing required field `bbox`",
    ),
    "bbox null": (BBOX, "null", "annotations[0].bbox: Expected `array`, got `null`"),
    "three numbers": (BBOX, "[8, 10, 16]", "annotations[0].bbox: Expected `array` of length 4"),
    "five numbers": (BBOX, "[8, 10, 16, 20, 1]", "annotations[0].bbox: Expected `array` of length 4"),
    "a word": (BBOX, '[8, 10, "16", 20]', "annotations[0].bbox[2]: Expected `float`, got `str`"),
    "NaN": (BBOX, "[8, NaN, 16, 20]", "has a number that is not finite at line 2, byte"),
    "infinity": (BBOX, "[8, 10, Infinity, 20]", "has a number that is not finite at line 2, byte"),
    "minus infinity": (BBOX, "[-Infinity, 10, 16, 20]", "has a number that is not finite at line 2, byte"),
    "overflow": (BBOX, "[8, 10, 1e999, 20]", "annotations[0].bbox[2]: Number out of range"),
    "unknown image": ('"image_id": 7', '"image_id": "7"', "has image_id '7', which is not in `images`"),
    "unknown category": (
        '"category_id": 3',
        '"category_id": 4',
        "has category_id 4, which is not in `categories`",
    ),
    "unknown category in quotes": (
        '"category_id": 3',
        '"category_id": "4"',
        "has category_id 4, which is not in `categories`",
    ),
    "a category's name": (
        '"category_id": 3',
        '"category_id": "car"',
        "annotations[0].category_id: expected a whole number",
    ),
    "a fraction in quotes": (
        '"category_id": 3',
        '"category_id": "3.5"',
        "annotations[0].category_id: expected a whole number",
    ),
    "a digit of another alphabet": (
        '"category_id": 3',
        '"category_id": "٣"',
        "annotations[0].category_id: expected a whole number",
    ),
    "a flag in words": ('"id": 4232', '"iscrowd": "no"', "annotations[0].iscrowd: expected a whole number"),
    "duplicate category in quotes": ('{"id": 90}', '{"id": "3"}', "categories[1] has the id 3 of categories[0]"),
    "a list as id": (
        '"image_id": 7',
        '"image_id": [7]',
        "annotations[0].image_id: Expected `int | float | str`",
    ),
    "half a character": ('"image_id": 7', '"image_id": "\\ud800"', "is not JSON at line 2, byte"),
    "no annotation id": (
        '"id": 4232, "image_id": 7',
        '"image_id": 6',
        "annotations[0] has image_id 6, which",
    ),
}


@pytest.mark.parametrize("name", ONE_CHANGE)
def test_one_bad_entry_is_refused_with_its_place(path: Path, name: str) -> None:
    before, after, words = ONE_CHANGE[name]
    assert GOOD.count(before) == 1
    assert words in refusal(path, GOOD.replace(before, after))


def test_a_file_without_images_is_refused(path: Path) -> None:
    assert "`images` is empty" in refusal(path, '{"images": [], "annotations": [], "categories": [{"id": 3}]}')


def test_every_truncation_of_a_good_file_is_refused(path: Path) -> None:
    for length in range(len(GOOD)):
        assert "is " in refusal(path, GOOD[:length])


@pytest.mark.parametrize("name", ["missing.json", ".", "null\0character"])
def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TargetsFileError, match=r"cannot be read \(.+\); pass a file in COCO's"):
        read_targets(tmp_path / name)


def test_a_file_without_permission_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(TargetsFileError, match=r"cannot be read \(Permission denied\)"):
        read_targets(path)
