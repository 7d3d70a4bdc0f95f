"""Every rule on losses sees sizes just past those at which code goes wrong, and what fails there ends small."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import RULE
from detr_conformance.properties import oracle
from detr_conformance.properties.extreme_sizes import extreme_cases
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.reference import FAMILY, ULTRALYTICS

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

JUST_PAST = {
    "layers": (8,),
    "images": (8, 16, 32),
    "queries": (8, 16, 32, 64, 100, 128, 255, 256, 300),
    "classes": (8, 16, 32, 64, 91, 128, 255, 256, 300, 1000),
    "targets of an image": (8, 16, 32, 64, 100, 128, 255, 256, 300),
    "denoising groups": (8, 16, 32, 64),
    "denoising slots": (64, 100, 128, 255, 256, 300),
}


def seen_by(rule, level="smoke", spec=ULTRALYTICS, seed=0):
    return list(extreme_cases(RULE[rule], PortUnderTest(ReferencePort(spec)), level, seed))


def sizes_of(case):
    denoising = case.denoising
    return {
        "layers": case.layers,
        "images": case.images,
        "queries": case.queries,
        "classes": case.config.nc,
        "targets of an image": max(case.gt_groups),
        "denoising groups": 0 if denoising is None else denoising.num_group,
        "denoising slots": 0 if denoising is None else denoising.bboxes.shape[2],
    }


@pytest.mark.parametrize("rule", ["REG-01", "CLASS-02", "GRAD-02", "AUX-01", "DN-01", "MATCH-02"])
def test_a_rule_sees_every_size_just_past_the_numbers_at_which_code_goes_wrong(rule):
    seen = [sizes_of(case) for case in seen_by(rule)]
    most = {axis: max(sizes[axis] for sizes in seen) for axis in JUST_PAST}
    short = {axis: most[axis] for axis, numbers in JUST_PAST.items() if most[axis] <= max(numbers)}
    asked = RULE[rule].request.denoising != "never"
    assert short == {} if asked else short.keys() == {"denoising groups", "denoising slots"}, short


@pytest.mark.parametrize("axis", ["queries", "classes", "targets of an image"])
def test_most_cases_are_long_along_one_axis_alone(axis):
    longest = max(seen_by("REG-01"), key=lambda case: sizes_of(case)[axis])
    assert sum(size > 64 for name, size in sizes_of(longest).items() if name != "denoising slots") == 1


@pytest.mark.parametrize("spec", [ULTRALYTICS, FAMILY["dfine"], FAMILY["lwdetr"]], ids=lambda spec: spec.name)
def test_who_is_matched_is_certain(spec):
    for rule in ("REG-01", "REG-02", "GRAD-03", "GRAD-08"):  # each with another of those that are large
        assert all(oracle.matching_is_certain(case, spec) for case in seen_by(rule, spec=spec))


def test_rules_that_ask_alike_see_the_same_cases_and_another_seed_others():
    assert seen_by("REG-02")[0] is seen_by("GRAD-02")[0]
    assert seen_by("REG-01")[-1] == seen_by("REG-01")[-1] != seen_by("REG-01", seed=1)[-1]


def test_rules_of_other_families_see_one_of_everything_and_no_more():
    seen = [sizes_of(case) for case in seen_by("INV-09")]
    assert seen
    assert max(max(sizes.values()) for sizes in seen) <= 6


def test_a_level_above_smoke_sees_all_that_are_large_and_more_of_each():
    smoke, standard = (seen_by("REG-01", level) for level in ("smoke", "standard"))
    assert len({case.queries for case in standard}) > len({case.queries for case in smoke})
    assert len(standard) > 2 * len(smoke)


def test_a_failure_that_shows_at_a_large_size_alone_is_made_smaller_along_every_other_axis():
    capped = {term: lambda tally, right=right: min(right(tally), 40) for term, right in ULTRALYTICS.normaliser.items()}
    port = ReferencePort(replace(ULTRALYTICS, normaliser=capped), "capped", profile=ULTRALYTICS)
    outcome = judge(RULE["REG-01"], port, level="smoke")
    case = outcome.case
    assert (outcome.verdict, case.layers, case.config.nc, case.denoising) == ("fail", 1, 1, None)
    assert sum(min(case.queries, count) for count in case.gt_groups) == 41
