"""Specs: what they decide, path by path, and what a family member says about its differences."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from detr_conformance.reference import (
    FAMILY,
    RTDETR,
    ULTRALYTICS,
    Guard,
    LossConfig,
    differing,
    differs,
    replace_in,
    wrap_in,
)
from detr_conformance.reference.keys import SummedKeys
from detr_conformance.reference.spec import paths, value_in


def test_a_field_is_replaced_at_its_path_and_nothing_else_is():
    spec = replace_in(ULTRALYTICS, "class_terms.focal.straight_in_alpha", False)
    assert spec.class_terms["focal"].straight_in_alpha is False
    assert ULTRALYTICS.class_terms["focal"].straight_in_alpha is True
    assert differing(ULTRALYTICS, spec) == ["class_terms.focal.straight_in_alpha"]


def test_a_field_is_wrapped_by_a_function_of_what_it_was():
    spec = wrap_in(ULTRALYTICS, "gain", lambda right: lambda *args: 2.0 * right(*args))
    assert spec.gain(np.array([1.5]), "bbox", LossConfig()).tolist() == [15.0]
    assert differing(ULTRALYTICS, spec) == ["gain"]


@pytest.mark.parametrize("change", [replace_in, wrap_in])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gains", r"LossSpec has no 'gains', expected one of name, options, .*gain"),
        ("class_terms.hinge", r"dict has no 'hinge', expected one of focal, varifocal, bce"),
        ("class_terms.focal.wait", r"ClassTerm has no 'wait', expected one of target, .*weight"),
        ("matcher.guard.epsilon", r"Guard has no 'epsilon', expected the path to end there"),
        ("gain.of", r"function has no 'of'"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_there_is(change, path, message):
    with pytest.raises(KeyError, match=message):
        change(ULTRALYTICS, path, lambda right: right)


def test_paths_lead_to_every_single_value():
    found = paths(ULTRALYTICS)
    assert len(found) == len(set(found))
    assert {
        "gain",
        "class_terms.bce.entropy",
        "matcher.class_costs.softmax",
        "denoising.generator.mask",
    } <= {*found}
    for path in found:
        assert replace_in(ULTRALYTICS, path, value_in(ULTRALYTICS, path)) is not None


def test_a_spec_and_its_copy_decide_alike_and_the_order_does_not_matter():
    assert differing(RTDETR, replace_in(RTDETR, "name", "other")) == []
    assert set(differing(ULTRALYTICS, RTDETR)) == set(differing(RTDETR, ULTRALYTICS))


def test_a_term_that_only_one_spec_has_is_a_difference():
    more = replace_in(ULTRALYTICS, "class_terms", {**ULTRALYTICS.class_terms, "hinge": ULTRALYTICS.class_terms["bce"]})
    assert {path.split(".")[1] for path in differing(more, ULTRALYTICS)} == {"hinge"}
    assert {path.split(".")[1] for path in differing(ULTRALYTICS, more)} == {"hinge"}
    assert "class_terms.bce.probe" in differing(ULTRALYTICS, RTDETR)


def test_a_new_member_says_its_differences_and_keeps_those_of_its_base():
    spec = differs(RTDETR, "mine", guard=(Guard(1e-6), "A larger eps.", "https://example.org, loss.py"))
    assert spec.name == "mine"
    assert spec.differences["guard"] == ("A larger eps.", "https://example.org, loss.py")
    assert RTDETR.differences.keys() <= spec.differences.keys()
    assert differing(RTDETR, spec) == ["guard"]


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_a_member_says_its_differences_and_nothing_else(spec):
    decided = differing(ULTRALYTICS, spec)
    said = [path for path in spec.differences if any(f"{each}.".startswith(f"{path}.") for each in decided)]
    assert said == [*spec.differences]
    unsaid = [path for path in decided if not any(f"{path}.".startswith(f"{each}.") for each in spec.differences)]
    assert unsaid == []


@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_every_difference_has_a_sentence_and_a_link(spec):
    for sentence, link in spec.differences.values():
        assert re.fullmatch(r"[A-Z0-9].*\w\.", sentence)
        assert re.match(r"https://\S+|arXiv \d{4}\.\d{5}", link)
    assert all(reason.endswith(".") for reason in spec.undefined.values())


def test_the_base_has_nothing_to_say():
    assert not ULTRALYTICS.differences
    assert not ULTRALYTICS.undefined
    assert [name for name, spec in FAMILY.items() if spec.name != name] == []


@pytest.mark.parametrize(("one", "other"), list(product(FAMILY, repeat=2)))
def test_a_spec_is_equal_to_itself_alone(one, other):
    assert (FAMILY[one] == FAMILY[other]) == (one == other)
    assert replace_in(FAMILY[one], "keys", SummedKeys()) != FAMILY[one]
