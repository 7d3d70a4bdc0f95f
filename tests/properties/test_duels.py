"""Duels: whatever is wrong with a matcher, a case is found on which it pairs otherwise, and no right one does."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import GeneratorConfig, LossConfig
from detr_conformance.properties.duels import LEAST, duels
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.wrong_matchers import ROUNDED, WRONG
from detr_conformance.reference import FAMILY, ULTRALYTICS, replace_in

from .sample_cases import small_case

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

RULE = {rule.id: rule for rule in RULES}
OF_THE_BASE = {"1e-7 added to areas", "1e-8 inside the logarithms"}
MAKES_TIES = {"costs cut off at 10", "costs rounded to bfloat16"}
"""In the duels of other names, where a solver may choose either matching."""


def options_of(spec, seed=0, dtype="float32"):
    """A case of three classes of which duels read the options alone."""
    case = small_case(denoising=None, dtype=dtype)
    logits = np.zeros((2, 3, 4, spec.columns(3)))
    return case.change(config=LossConfig(nc=3), pred_scores=logits, generator=GeneratorConfig(seed=seed))


@pytest.mark.parametrize("dtype", LEAST)
@pytest.mark.parametrize("spec", FAMILY.values(), ids=FAMILY)
def test_duels_are_certain_and_show(spec, dtype):
    found = duels(options_of(spec, dtype=dtype), spec)
    assert found.case.dtype == dtype
    assert found.crossed.diagonal().all()
    assert np.abs(found.wrong - found.right).min() >= LEAST[dtype]
    assert oracle.matching_is_certain(found.case, spec)


def test_what_a_spec_decides_itself_is_not_wrong():
    names = {name for seed in range(3) for name in duels(options_of(ULTRALYTICS, seed), ULTRALYTICS).names}
    assert names == WRONG.keys() - OF_THE_BASE


def test_the_same_options_get_the_same_duels():
    made = [duels.__wrapped__(options_of(ULTRALYTICS, 5), ULTRALYTICS) for _ in range(2)]
    assert made[0].case == made[1].case
    assert made[0].names == made[1].names


@pytest.mark.parametrize("name", sorted(WRONG.keys() - OF_THE_BASE - {"the gains of the losses"}))
def test_a_wrong_matcher_inside_the_loss_is_failed_and_named(name):
    spec = replace_in(ULTRALYTICS, "matcher.inside_loss", WRONG[name])
    result = judge(RULE["MATCH-22"], ReferencePort(spec, profile=ULTRALYTICS), level="smoke", shrink=False)
    assert result.verdict == "fail"
    assert name in result.message or name in MAKES_TIES


def test_lost_precision_is_looked_for_where_predictions_are_in_half_precision():
    assert set(duels(options_of(ULTRALYTICS, dtype="float16"), ULTRALYTICS).names) <= ROUNDED.keys()


def test_the_exposed_matcher_is_not_the_wrong_one():
    spec = replace_in(ULTRALYTICS, "matcher.inside_loss", WRONG["IoU in place of GIoU"])
    case = duels(options_of(ULTRALYTICS), ULTRALYTICS).case
    alone, right = (ReferencePort(each).match(case) for each in (spec, ULTRALYTICS))
    assert repr(alone) == repr(right)
