"""Cases as JSON: exact there and back, and one sentence about everything that is no case."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detr_conformance.properties.case import GeneratorConfig, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.case_json import (
    CaseFormatError,
    from_document,
    from_documents,
    from_json,
    to_document,
    to_json,
)
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import loss_cases
from detr_conformance.properties.tolerance import PRECISIONS

from .sample_cases import small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # thousands of cases, and what the reader itself says

TINY = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}
"""The smallest number above 0, a denormal."""

any_cases = st.sampled_from(sorted(PRECISIONS)).flatmap(
    lambda dtype: loss_cases(
        Request(dtype=dtype, uni_match=(False, True), aux_loss=(True, False), matcher_options=True, images=(1, 3))
    )
)


def bits(array: np.ndarray) -> tuple[object, ...]:
    """Everything that there is to an array; every NaN is the same."""
    floats = array.dtype.kind == "f"
    return array.dtype, array.shape, (np.where(np.isnan(array), np.nan, array) if floats else array).tobytes()


def content(case: LossCase) -> object:
    """A case as something that compares by value."""

    def frozen(value: object) -> object:
        if isinstance(value, np.ndarray):
            return bits(value)
        if isinstance(value, dict):
            return {name: frozen(each) for name, each in value.items()}
        return tuple(frozen(each) for each in value) if isinstance(value, tuple) else value

    return frozen(asdict(case))


def spoilt(case: LossCase) -> LossCase:
    """The case with predictions of every awkward kind, as many as there is room for."""
    awkward = [np.nan, np.inf, -np.inf, -0.0, TINY[case.dtype], -TINY[case.dtype]]
    logits, boxes = case.pred_scores.copy(), case.pred_bboxes.copy()
    logits.ravel()[: len(awkward)] = awkward[: logits.size]
    boxes.ravel()[:4] = awkward[2:]
    return case.change(pred_scores=logits, pred_bboxes=boxes)


@settings(max_examples=100)
@given(any_cases)
def test_a_case_comes_back_bit_for_bit(case):
    for same in (case, spoilt(case)):
        assert content(from_json(to_json(same))) == content(same)


def test_cases_that_were_made_from_each_other_share_their_arrays_again():
    case = small_case()
    other = case.change(alpha=0.5, denoising=None)
    first, second = from_documents([to_document(case), to_document(other)])
    assert (first, second) == (case, other)
    assert first.gt_bboxes is second.gt_bboxes
    assert first.pred_scores is second.pred_scores


@settings(max_examples=25)
@given(any_cases)
def test_the_text_is_plain_json_and_comes_back_unchanged(case):
    text = to_json(spoilt(case))
    assert json.dumps(json.loads(text), indent=1, allow_nan=False) == text
    assert to_json(from_json(text)) == text


def test_the_form_of_a_number_can_be_read():
    document = to_document(small_case(denoising=None))
    assert document["pred_scores"]["shape"] == [2, 3, 4, 2]
    assert document["pred_scores"]["values"][0] == "-0x1.8000000000000p+1"
    assert document["gt_groups"] == [1, 0, 2]


def test_options_given_as_integers_or_as_numpy_numbers_can_be_written():
    gains = {"class": 1, "bbox": np.float32(5), "giou": np.int64(2)}
    case = small_case(
        config=LossConfig(nc=2, loss_gain=gains, gamma=2, uni_match_ind=np.int64(0)),
        matcher=MatcherConfig(cost_gain=gains | {"mask": 1.0}, alpha=1),
        generator=GeneratorConfig(seed=np.int64(7), box_noise_scale=0),
        gt_groups=tuple(np.array([1, 0, 2])),
    )
    read = from_json(to_json(case))
    assert read.config == LossConfig(nc=2, loss_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0}, gamma=2.0)
    assert (read.generator.seed, read.gt_groups, read.matcher.cost_gain["mask"]) == (7, (1, 0, 2), 1.0)


def changed(*path: str | int, to: object) -> dict:
    """The document of a case with the value at a path replaced; a last step that is new adds it."""
    document = to_document(small_case())
    *way, last = path
    owner = document
    for step in way:
        owner = owner[step]
    owner[last] = to
    return document


def without(*path: str) -> dict:
    """The document of a case with a field taken away."""
    document = to_document(small_case())
    *way, last = path
    owner = document
    for step in way:
        owner = owner[step]
    del owner[last]
    return document


MALFORMED = {
    "nothing": (None, "not a case"),
    "a list": ([], "not a case"),
    "another object": ({"colour": "red"}, "not a case"),
    "another format": (changed("format", to="COCO"), "not a case"),
    "a later version": (changed("version", to=2), "version is 2, but this release reads version 1"),
    "a version that is true": (changed("version", to=True), "version is true"),
    "an unknown field": (changed("colour", to="red"), "the case has the unknown field 'colour'"),
    "an unknown option": (changed("config", "colour", to="red"), "config has the unknown field 'colour'"),
    "an unknown gain": (changed("config", "loss_gain", "iou", to="0x1p+0"), "the unknown gain 'iou'"),
    "an unknown part of an array": (changed("gt_bboxes", "dtype", to="f8"), "gt_bboxes has the unknown field 'dtype'"),
    "an unknown part of denoising": (
        changed("denoising", "neg_idx", to=[]),
        "denoising has the unknown field 'neg_idx'",
    ),
    "a field missing": (without("gt_cls"), "the case lacks the field 'gt_cls'"),
    "an option missing": (without("matcher", "alpha"), "matcher lacks the field 'alpha'"),
    "a gain missing": (without("config", "loss_gain", "giou"), "'giou' is missing"),
    "a shape missing": (without("pred_bboxes", "shape"), "pred_bboxes lacks the field 'shape'"),
    "slots missing": (without("denoising", "pos_idx"), "denoising lacks the field 'pos_idx'"),
    "an array that is a list": (changed("pred_bboxes", to=[1, 2]), "pred_bboxes is [1, 2], expected an object"),
    "options that are a list": (changed("config", to=[]), "config is [], expected an object"),
    "denoising that is text": (changed("denoising", to="none"), 'denoising is "none", expected an object'),
    "a shape of another size": (changed("pred_bboxes", "shape", to=[2, 3, 5, 4]), "pred_bboxes holds 96 values"),
    "a shape that is text": (changed("pred_bboxes", "shape", to="2344"), "pred_bboxes.shape is"),
    "a shape of fractions": (changed("pred_bboxes", "shape", to=[2.0, 3, 4, 4]), "pred_bboxes.shape[0] is 2.0"),
    "a negative shape": (changed("pred_bboxes", "shape", to=[-2, -3, 4, 4]), "pred_bboxes holds 96 values"),
    "a shape of too many axes": (changed("pred_bboxes", "shape", to=[96] + [1] * 99), "pred_bboxes holds 96 values"),
    "an immense shape": (changed("pred_bboxes", "shape", to=[0, 2**62, 2**62, 4]), "pred_bboxes holds 96 values"),
    "values that are text": (changed("gt_bboxes", "values", to="0123456789ab"), "gt_bboxes.values is"),
    "a decimal number": (
        changed("gt_bboxes", "values", 1, to="0.5"),
        'gt_bboxes.values[1] is "0.5", expected a hexadecimal',
    ),
    "a bare number": (changed("gt_bboxes", "values", 1, to=0.5), "gt_bboxes.values[1] is 0.5, expected a hexadecimal"),
    "no number at all": (changed("gt_bboxes", "values", 1, to=None), "gt_bboxes.values[1] is null"),
    "a number beyond float64": (changed("gt_bboxes", "values", 1, to="0x1p+9999"), "that float64 can hold"),
    "NaN in a target": (changed("gt_bboxes", "values", 1, to="nan"), "nan"),
    "a number too fine": (changed("pred_scores", "values", 0, to="0x1.00000000000ap-1"), "pred_scores[0, 0, 0, 0] is"),
    "a bare gamma": (changed("config", "gamma", to=1.5), "config.gamma is 1.5, expected a hexadecimal number"),
    "a bare gain": (changed("matcher", "cost_gain", "bbox", to=5), "matcher.cost_gain.bbox is 5"),
    "gains in a list": (changed("config", "loss_gain", to=["0x1p+0"]), "config.loss_gain is"),
    "an infinite gain": (changed("config", "loss_gain", "bbox", to="inf"), "config.loss_gain"),
    "a negative gamma": (changed("matcher", "gamma", to="-0x1p+0"), "matcher.gamma is -1.0, expected at least 0"),
    "a number for a boolean": (changed("config", "use_fl", to=1), "config.use_fl is 1, expected boolean"),
    "a boolean for a number": (changed("config", "nc", to=True), "config.nc is true, expected an integer"),
    "text for a number": (changed("generator", "seed", to="7"), 'generator.seed is "7", expected an integer'),
    "an unknown dtype": (changed("dtype", to="float8"), "dtype is 'float8'"),
    "a dtype that is a number": (changed("dtype", to=32), "dtype is 32, expected a string"),
    "a dtype too narrow": (
        changed("pred_scores", "values", 0, to="0x1.001p+0") | {"dtype": "bfloat16"},
        "bfloat16 cannot hold exactly",
    ),
    "a class too many": (changed("gt_cls", 2, to=2), "has 2 at [2], expected a class from 0 to 1"),
    "a class that is true": (changed("gt_cls", 0, to=True), "gt_cls[0] is true, expected an integer"),
    "a class that is text": (changed("gt_cls", 0, to="1"), 'gt_cls[0] is "1", expected an integer'),
    "classes that are text": (changed("gt_cls", to=""), 'gt_cls is "", expected a list'),
    "a class of a hundred bits": (changed("gt_cls", 0, to=2**99), "gt_cls is"),
    "a target too few": (changed("gt_groups", 2, to=3), "expected (4,) as gt_groups sums"),
    "a count that is a fraction": (changed("gt_groups", 0, to=1.0), "gt_groups[0] is 1.0, expected an integer"),
    "a count too few": (changed("gt_groups", to=[1, 2]), "gt_groups has 2 counts"),
    "a layer that does not exist": (
        changed("config", to=to_document(small_case())["config"] | {"use_uni_match": True, "uni_match_ind": 1}),
        "config.uni_match_ind is 1",
    ),
    "a slot that does not exist": (changed("denoising", "pos_idx", 0, to=[0, 9]), "denoising.pos_idx[0] is [0, 9]"),
    "a slot that is true": (changed("denoising", "pos_idx", 0, 0, to=True), "denoising.pos_idx[0][0] is true"),
    "slots that are text": (changed("denoising", "pos_idx", 1, to=""), 'denoising.pos_idx[1] is "", expected a list'),
    "slots of no image": (changed("denoising", "pos_idx", to=7), "denoising.pos_idx is 7, expected a list"),
    "another image's target": (changed("denoising", "gt_idx", 0, to=[2]), "denoising.gt_idx[0] is [2]"),
    "a group that is a fraction": (changed("denoising", "num_group", to=2.7), "denoising.num_group is 2.7"),
    "no group": (changed("denoising", "num_group", to=0), "denoising.num_group is 0"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_document_is_refused_in_one_sentence_that_names_the_field(name):
    document, reason = MALFORMED[name]
    with pytest.raises(CaseFormatError) as refusal:
        from_json(json.dumps(document))
    assert reason in str(refusal.value)
    assert_one_sentence(refusal.value)


def assert_one_sentence(refusal: CaseFormatError) -> None:
    text = str(refusal)
    assert "\n" not in text
    assert 10 < len(text) < 500


@pytest.mark.parametrize("option", ["class_loss", "query_groups"])
def test_a_case_that_was_written_before_an_option_came_has_its_default(option):
    assert getattr(from_document(without("config", option)).config, option) == getattr(LossConfig(), option)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"format": ' + "9" * 5000 + "}", "NaN", "\x00", '"case"'])
def test_a_text_that_is_no_json_object_is_refused(text):
    with pytest.raises(CaseFormatError) as refusal:
        from_json(text)
    assert_one_sentence(refusal.value)


def test_a_text_that_is_cut_off_anywhere_is_refused():
    text = json.dumps(to_document(small_case(denoising=None)))
    for length in range(0, len(text), 7):
        with pytest.raises(CaseFormatError, match="is the file complete"):
            from_json(text[:length])


def places(tree: object, way: tuple = ()) -> list[tuple]:
    """The path of everything in a document; of long lists the first four entries."""
    own = [] if not way else [way]
    if isinstance(tree, dict):
        return own + [place for name in tree for place in places(tree[name], (*way, name))]
    if isinstance(tree, list):
        return own + [place for index, each in enumerate(tree[:4]) for place in places(each, (*way, index))]
    return own


VALID = to_document(small_case())
PLACES = places(VALID)
SCRAPS = [None, True, False, 0, 1, -1, 2**70, 0.5, float("nan"), "", "x", "nan", "inf", "0x1p+0", "float64"]
SCRAPS += [[], [0], [[]], ["0x1p+0"], {}, {"shape": [], "values": []}, {"shape": [0, 4], "values": []}]
mutations = st.lists(
    st.tuples(
        st.sampled_from(PLACES), st.sampled_from(["replace", "delete", "duplicate", "swap"]), st.sampled_from(SCRAPS)
    ),
    min_size=1,
    max_size=3,
)


def mutate(document: dict, place: tuple, how: str, scrap: object) -> None:
    """Change a document at a place, if an earlier change has left it there."""
    *way, last = place
    owner = document
    for step in way:
        if not isinstance(owner, dict | list) or (isinstance(owner, list) and step not in range(len(owner))):
            return
        owner = owner.get(step) if isinstance(owner, dict) else owner[step]
    if not (last in owner if isinstance(owner, dict) else isinstance(owner, list) and last in range(len(owner))):
        return
    if how == "delete":
        del owner[last]
    elif how == "duplicate" and isinstance(owner, list):
        owner.insert(last, copy.deepcopy(owner[last]))
    elif how == "swap" and isinstance(owner, list):
        owner[last], owner[0] = owner[0], owner[last]
    else:
        owner[last] = copy.deepcopy(scrap)


@settings(max_examples=1500)
@given(mutations)
def test_a_mutated_document_is_a_case_or_is_refused_and_nothing_else(changes):
    document = copy.deepcopy(VALID)
    for place, how, scrap in changes:
        mutate(document, place, how, scrap)
    try:
        case = from_document(document)
    except CaseFormatError as refusal:
        assert_one_sentence(refusal)
    else:
        assert content(from_json(to_json(case))) == content(case)
