"""Mistakes as a porter writes them, in float32 torch: a rule fails each, and the diagnosis knows it again."""

from __future__ import annotations

import pytest

from detr_conformance.power import MUTANT

from ..thorough import thorough_but
from .every_diagnosis import diagnosis_of
from .museum_evidence import evidence, failures
from .torch_mutants import NOT_NAMED, TORCH_MUTANTS

pytestmark = [pytest.mark.usefixtures("shapes_unchecked"), pytest.mark.timeout(1800)]

QUICK = ["plausible-iou-for-giou"]


@pytest.mark.parametrize("name", thorough_but(QUICK, [*TORCH_MUTANTS][::2]))
def test_a_mistake_written_in_torch_is_failed_and_named_and_no_other_is(name):
    mutant, port = MUTANT[name], TORCH_MUTANTS[name]
    assert failures(mutant, most=1, port=port)
    found = diagnosis_of(port, evidence(mutant, port=port))
    assert [name] in found if name not in NOT_NAMED else found == [], NOT_NAMED.get(name)
