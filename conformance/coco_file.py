"""A file in COCO's object-detection annotation format, decoded into typed records.

Only what a box needs is decoded; segmentations, captions, licences and whatever else a real file carries are
skipped. A file that does not hold it is refused in one sentence, never with a decoder's traceback.

Source: COCO Consortium, "Data format", https://cocodataset.org/#format-data.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

from detr_conformance.image_targets import Identity

Number = int | float
"""COCO's ids are integers; files that went through a data frame have 139.0, which Python looks up as 139."""

Numeral = Annotated[str, msgspec.Meta(pattern="^-?[0-9]{1,18}$")]
"""A whole number in quotes, as files that went through a spreadsheet have it."""

Flag = Number | bool | Numeral | None
"""COCO has 0 and 1, other files also true and false."""

Length = Annotated[float, msgspec.Meta(gt=0, le=1e9)]
"""Pixels; no picture is wider, and a sum of such lengths cannot overflow."""

WANTED = "pass a file in COCO's object-detection format, such as instances_val2017.json"


class TargetsFileError(ValueError):
    """A targets file that cannot be used; the message is one sentence: what is wrong, where, what to do."""


# gc=False: up to a million records that cannot form a cycle need no visits by the garbage collector.
class Image(msgspec.Struct, gc=False):
    """An image's id and its size in pixels."""

    id: Identity
    width: Length
    height: Length


class Category(msgspec.Struct, gc=False):
    """A class of objects; ids may have gaps."""

    id: Number | Numeral


class Annotation(msgspec.Struct, gc=False):
    """One box: left, top, width, height in pixels.

    `iscrowd` marks a region of many objects; `ignore`, which some converters write, a box that does not count.
    """

    image_id: Identity
    category_id: Number | Numeral
    bbox: tuple[float, float, float, float]
    id: Identity | None = None
    iscrowd: Flag = 0
    ignore: Any = 0


Record = TypeVar("Record", Image, Category, Annotation)


class Document(msgspec.Struct):
    """The three lists of a COCO file, in file order."""

    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation]


def as_number(value: Number | Numeral) -> Number:
    """The number that a value is, or that is written in it."""
    return int(value) if isinstance(value, str) else value


def is_set(flag: Flag) -> bool:
    """Whether a flag says yes."""
    return flag is not None and bool(as_number(flag))


def is_to_be_ignored(annotation: Annotation) -> bool:
    """Whether `ignore` says so for certain: the format does not know it, so that it may hold anything."""
    return annotation.ignore in (True, 1, "1", "true")


def read_document(path: Path) -> Document:
    """The images, categories and annotations of a file.

    What one list says of another (an annotation's image, a box within its image) is not checked here.

    Args:
        path: a JSON file in UTF-8, with or without a byte order mark.

    Returns:
        The three lists; `images` and `categories` are not empty, image sizes are above 0, numbers are finite.

    Raises:
        TargetsFileError: the file cannot be read, is not JSON, or not in this format; the caller names it.

    Source: https://cocodataset.org/#format-data.
    """
    sections = _sections(_read_text(path))
    document = Document(
        images=_records(sections, "images", Image),
        categories=_records(sections, "categories", Category),
        annotations=_records(sections, "annotations", Annotation),
    )
    for name, records in (("images", document.images), ("categories", document.categories)):
        if not records:
            raise TargetsFileError(f"`{name}` is empty; {WANTED}")
    return document


def _read_text(path: Path) -> bytes:
    """The file's bytes, known to be UTF-8 text, without the byte order mark."""
    try:
        text = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path.
        reason = getattr(error, "strerror", None) or error
        raise TargetsFileError(f"cannot be read ({reason}); {WANTED}") from None
    try:
        # Real files are ASCII, and isascii() needs no second copy of half a gigabyte.
        _ = text.isascii() or text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TargetsFileError(
            f"is not UTF-8 text (byte {error.start}); unpack it if it is compressed, or save it as UTF-8"
        ) from None
    return text.removeprefix(codecs.BOM_UTF8)


def _sections(text: bytes) -> dict[str, msgspec.Raw]:
    """The values of the top-level object, checked to be JSON but not decoded."""
    try:
        return msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError as error:
        got = str(error).rpartition(" ")[2]
        hint = " (a results file is a list of detections)" if got == "`array`" else ""
        raise TargetsFileError(f"the top level is not an `object` but {got}{hint}; {WANTED}") from None
    except RecursionError:
        raise TargetsFileError(f"is nested too deeply to be a COCO file; {WANTED}") from None
    except msgspec.DecodeError as error:
        _refuse_syntax(text, str(error))


def _refuse_syntax(text: bytes, message: str) -> NoReturn:
    """Say where the text stops being JSON, from the decoder's message."""
    if not text.strip():
        raise TargetsFileError(f"is empty; {WANTED}")
    found = re.search(r" \(byte (\d+)\)", message)
    at = int(found[1]) if found else len(text)
    line = text.count(b"\n", 0, at) + 1
    place = f"line {line}, byte {at}"
    if found is None:
        raise TargetsFileError(f"is cut short at {place}; download or export it again")
    # Not JSON, but what Python's json module writes for floats that are not finite.
    if text.startswith((b"NaN", b"Infinity"), at):
        raise TargetsFileError(f"has a number that is not finite at {place}; fix or remove the entry")
    reason = message.replace(found[0], "").removeprefix("JSON is malformed: ")
    raise TargetsFileError(f"is not JSON at {place} ({reason}); {WANTED}")


def _records(sections: dict[str, msgspec.Raw], name: str, record: type[Record]) -> list[Record]:
    """One of the lists, decoded; a record that does not fit is named by its JSON path."""
    if name not in sections:
        raise TargetsFileError(f"has no `{name}`; {WANTED}")
    try:
        return msgspec.json.decode(sections[name], type=list[record])  # type: ignore[valid-type]  # run-time type
    except msgspec.DecodeError as error:
        reason, _, where = str(error).partition(" - at `$")
        raise TargetsFileError(f"{name}{where.rstrip('`')}: {_explained(reason)}") from None


def _explained(reason: str) -> str:
    """What the decoder says is wrong with a record, and what to do."""
    if "matching regex" in reason:  # of a Numeral, the only type here that has one
        return 'expected a whole number, such as 3 or "3", got other text; write ids as numbers, flags as 0 or 1'
    hint = " (captions and panoptic files have no boxes)" if "field `bbox`" in reason else ""
    return f"{reason}{hint}; {WANTED}"
