"""Where a failing port's numbers part, and which known mistake explains it: never a guess."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import msgspec
import numpy as np
import pytest

from detr_conformance.deviations import MUSEUM
from detr_conformance.deviations.combined import combined
from detr_conformance.diagnosis import apart, search
from detr_conformance.diagnosis.apart import diagnosed
from detr_conformance.diagnosis.divergence import first_divergence
from detr_conformance.diagnosis.explaining import FAMILIES_OF, with_consequences
from detr_conformance.diagnosis.search import described, diagnose
from detr_conformance.diagnosis.trace import STEPS
from detr_conformance.options import CheckOptions
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import DEVIATION, RULE
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.profiles import RTDETR
from detr_conformance.properties.request import Request
from detr_conformance.properties.run import Outcome
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import get_cdn_group
from detr_conformance.report import RuleEntry

from ..thorough import thorough_but
from .every_diagnosis import PAIRS, diagnosis_of, divergences, names_step, pair_evidence, pairs, singles
from .museum_steps import divergence, evidence

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

WIDE = Request(layers=(2, 3), targets=(0, 3), queries=(2, 6), denoising="always")
CASES = list(islice(pool(WIDE, Domain(), 0), 6))
IN_WHAT_IS_LEFT = {"Port.loss", "Port.losses_in_turn", "Port.__init__", "DETRLoss._targets"}
"""Changed in what lies around a call, or stays after it: no step of a call differs."""


class Silent(ReferencePort):
    """Shows no steps, as a port of somebody else's."""

    trace = None


@pytest.mark.parametrize("deviation", MUSEUM[::16], ids=lambda deviation: deviation.id)
def test_the_first_step_that_differs_is_the_one_that_was_changed(deviation):
    assert names_step(deviation, divergence(deviation))


@pytest.mark.thorough
@pytest.mark.timeout(1800)
def test_nine_in_ten_first_divergences_name_the_step_that_was_changed():
    wrong = divergences()
    assert len(wrong) <= 0.1 * len(MUSEUM), wrong


def test_a_correct_port_does_not_part_from_the_reference():
    assert [first_divergence(Judged(ReferencePort()), case) for case in CASES] == [None] * len(CASES)
    assert [first_divergence(Judged(Silent()), case) for case in CASES] == [None] * len(CASES)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("plausible-nearest-query", "matching"),
        ("rtdetrv3-focal-constant-alpha", "totals"),
        ("plausible-aux-detached", "gradients"),
        ("plausible-query-blind-to-itself", "denoising layout"),
    ],
)
def test_a_port_that_shows_no_steps_is_compared_by_what_it_answers(name, step):
    deviation = DEVIATION[name]
    port = Silent(name, deviation.loss, deviation.generator)
    found = [first_divergence(Judged(port), case.change(use_vfl=False)) for case in CASES]
    assert step in {each.step for each in found if each is not None}


def test_a_divergence_says_where_what_and_how_much():
    deviation = DEVIATION["plausible-focal-alpha-swapped"]
    cases = [case.change(use_vfl=False) for case in CASES]
    found = next(filter(None, (first_divergence(Judged(deviation.port()), case) for case in cases)))
    assert found.step == "class terms"
    assert str(found).startswith("the first step that differs is class terms: terms in call 1 of ")
    assert float(found.got) != float(found.expected)


@pytest.mark.parametrize("deviation", MUSEUM[::128], ids=lambda deviation: deviation.id)
def test_a_deviation_is_named(deviation):
    assert [deviation.id] in diagnosis_of(deviation.port(), evidence(deviation))


@pytest.mark.thorough
@pytest.mark.timeout(7200)
def test_nineteen_of_twenty_deviations_are_named_and_none_is_named_wrongly():
    named = singles()
    assert [name for name, found in named.items() if found and [name] not in found] == []
    assert sum(bool(found) for found in named.values()) >= 0.95 * len(MUSEUM)


PAIR = ("plausible-focal-alpha-swapped", "plausible-negatives-unlabelled")


@pytest.fixture(params=thorough_but([16], [16, 1]))
def part_of_the_museum(request, monkeypatch):
    """Two mistakes are looked for among a part of the museum: among all of it that takes a minute."""
    chosen = [each for place, each in enumerate(MUSEUM) if each.id in PAIR or place % request.param == 0]
    monkeypatch.setattr(search, "MUSEUM", tuple(chosen))


@pytest.mark.usefixtures("part_of_the_museum")
def test_two_deviations_at_once_are_named():
    pair = [DEVIATION[name] for name in PAIR]
    assert diagnosis_of(combined(pair), pair_evidence(*pair)) == [sorted(each.id for each in pair)]


@pytest.mark.thorough
@pytest.mark.timeout(7200)
def test_seven_in_ten_random_pairs_are_named():
    found = pairs()
    named = sum(list(pair) in each for pair, each in found.items())
    assert named >= 0.7 * PAIRS, found


class SlightlyOff(ReferencePort):
    """A mistake that nobody has made yet."""

    def loss(self, case):
        result = super().loss(case)
        return replace(result, losses={key: value * 1.0625 for key, value in result.losses.items()})


@pytest.mark.usefixtures("part_of_the_museum")
def test_what_is_not_known_is_not_named():
    assert diagnose(Judged(SlightlyOff("slightly off")), CASES) is None


@pytest.mark.usefixtures("part_of_the_museum")
def test_two_generators_are_not_tried_together():
    def generator(*arguments, **options):
        labels, boxes, *others = get_cdn_group(*arguments, **options)
        return labels, None if boxes is None else boxes * 1.0625, *others

    assert diagnose(Judged(ReferencePort("with other boxes", denoising=generator)), CASES) is None


def test_what_is_right_is_not_named():
    assert diagnose(Judged(ReferencePort()), CASES) is None


def test_the_conventions_of_another_profile_are_recognised():
    port = ReferencePort("rtdetr in disguise", RTDETR.loss)
    port.capabilities -= {"denoising_group"}
    found = diagnose(Judged(port), [case.change(use_vfl=True, use_fl=True) for case in CASES])
    assert found.profile == "rtdetr"
    assert "--profile rtdetr" in described(found)["message"]


def test_a_diagnosis_that_breaks_off_says_so(small_case, monkeypatch):
    failed = [RuleEntry.of(Outcome(RULE["REG-01"], "fail", "wrong", case=small_case))]
    broken = diagnosed(CheckOptions(port="no_such_module:port"), failed)
    assert broken["message"] == "none: the process that asked the port broke off (exit status 1)"
    monkeypatch.setattr(apart, "SECONDS", 0)
    assert diagnosed(CheckOptions(port="reference"), failed)["message"] == "none: nothing was found in 0 s"


def entry(name, step):
    of_rule = RuleEntry.of(Outcome(RULE[name], "fail", "wrong"))
    return msgspec.structs.replace(of_rule, divergence=None if step is None else {"step": step})


def test_a_rule_that_fails_only_in_consequence_says_of_which():
    entries = [entry("INV-01", "matching"), entry("MATCH-02", "matching"), entry("GRAD-02", "gradients")]
    assert [each.blocked_by for each in with_consequences(entries)] == ["MATCH-02", None, None]


def test_without_a_rule_that_is_about_the_step_nothing_is_blocked():
    entries = [entry("INV-01", "matching"), entry("REG-01", "box losses"), entry("BOX-01", None)]
    assert [each.blocked_by for each in with_consequences(entries)] == [None, None, None]


def test_every_step_but_the_totals_has_its_families():
    assert set(STEPS) - set(FAMILIES_OF) == {"totals"}


def test_numbers_that_are_not_there_are_told():
    broken = Silent("without numbers")
    broken.loss = lambda case: replace(ReferencePort().loss(case), losses={"loss_class": np.array(np.nan)})
    found = first_divergence(Judged(broken), CASES[0])
    assert (found.step, found.got) == ("totals", "nan")
