"""A port is asked for what it has, and a classification loss that is broken is no reason to fail the rules on boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import FAMILY, LossSpec

from ..thorough import thorough_but

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # thousands of calls of the reference

GAINS = {"class": 2.0, "bbox": 1.0, "giou": 4.0}
OPTIONS = {"gamma": (2.0,), "alpha": (0.75,), "loss_gain": (GAINS,)}


class HardCoded(ReferencePort):
    """Takes one value of each option, gains of extra terms among them, and remembers what it was asked for."""

    def __init__(self, spec: LossSpec) -> None:
        super().__init__(spec, "hard-coded")
        self.gains = GAINS | {name: 3.0 + place for place, name in enumerate(spec.extra_terms)}
        self.options = OPTIONS | {"loss_gain": (self.gains,)}
        self.asked: set[tuple[float, float]] = set()

    def note(self, case: LossCase) -> LossCase:
        config = case.config
        self.asked.add((config.gamma, config.alpha))
        assert config.loss_gain in (self.gains, GAINS), (
            "the gains of a case that has what extra terms read, or of another"
        )
        return case

    def loss(self, case: LossCase) -> LossResult:
        return super().loss(self.note(case))

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        return super().losses_in_turn([self.note(case) for case in cases])

    def losses_of_ranks(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        return super().losses_of_ranks([self.note(case) for case in cases])

    def losses_of_steps(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        return super().losses_of_steps([self.note(case) for case in cases])

    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        return super().match(self.note(case))

    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        return super().denoising_indices(self.note(case))

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        return super().denoising_group(self.note(case))


def verdicts(port: ReferencePort, rules: Sequence[Rule] = RULES) -> dict[str, str]:
    """What each of the rules says at level smoke, if the port's spec has it."""
    judged = PortUnderTest(port)
    return {rule.id: judge(rule, port, level="smoke", shrink=False).verdict for rule in rules if rule.applies(judged)}


NEED_A_CHOICE = {
    "gamma": {"GRAD-09", "API-13", "API-14", "API-20"},
    "alpha": {"CLASS-10", "CLASS-20", "API-13", "API-14", "API-20"},
    "loss_gain": {"CLASS-05", "REG-05", "INV-10", "API-13", "API-14", "API-20"},
}


@pytest.mark.parametrize(("name", "every_nth"), thorough_but([("ultralytics", 16)], product(FAMILY, [16, 4])))
def test_no_rule_asks_for_an_option_that_a_port_does_not_have(name, every_nth):
    port = HardCoded(FAMILY[name])
    choosing = [rule for rule in RULES if rule.id in set.union(*NEED_A_CHOICE.values())]
    found = verdicts(port, [*choosing, *RULES[::every_nth]])
    assert port.asked == {(2.0, 0.75)}
    unsupported = {rule for rule, verdict in found.items() if verdict == "unsupported"}
    assert unsupported == {rule.id for rule in choosing if rule.applies(PortUnderTest(port))}
    assert {rule for rule, verdict in found.items() if verdict in ("fail", "error")} == set()


@pytest.mark.parametrize("option", OPTIONS)
def test_a_rule_that_sets_an_option_itself_needs_a_choice_of_it(option):
    port = ReferencePort()
    port.options = {option: OPTIONS[option]}
    judged = PortUnderTest(port)
    missing = {rule.id: rule.missing(judged) for rule in RULES if rule.applies(judged) and rule.missing(judged)}
    assert missing == {rule: [f"a choice of {option}"] for rule in NEED_A_CHOICE[option]}


class WithoutFocal(ReferencePort):
    """Declares a focal loss that raises, also where it stands in for another one."""

    def loss(self, case: LossCase) -> LossResult:
        if self.spec.choose_class_term(case.config, case.targets) == "focal":
            raise TypeError("expected float targets, got int64")
        return super().loss(case)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        return [self.loss(case) for case in cases]


class WrongFocal(ReferencePort):
    """Declares a focal loss that is twice as large as it should be."""

    def loss(self, case: LossCase) -> LossResult:
        result = super().loss(case)
        is_focal = self.spec.choose_class_term(case.config, case.targets) == "focal"
        returned = ReturnedLosses(result, case, PortUnderTest(self))
        canonical = {key: str(returned.canonical(key)) for key in result.losses}
        doubled = {key for key, name in canonical.items() if is_focal and name.startswith("loss_class")}
        losses = {key: 2.0 * loss if key in doubled else loss for key, loss in result.losses.items()}
        return LossResult(losses, result.gradients, result.dtypes, result.mutated)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> Sequence[LossResult]:
        return [self.loss(case) for case in cases]


WITH_OTHERS = [name for name, spec in FAMILY.items() if len(spec.class_terms) > 1 and "focal" in spec.class_terms]
"""Where a focal loss is one of several: where there is no other, nothing is left to judge by."""


@pytest.mark.parametrize(
    ("kind", "name", "every_nth"),
    thorough_but([(WithoutFocal, "ultralytics", 16)], product([WithoutFocal, WrongFocal], WITH_OTHERS, [16, 4])),
)
def test_a_broken_classification_loss_is_no_reason_to_fail_rules_on_anything_else(kind, name, every_nth):
    of_class = [rule for rule in RULES if rule.id in ("CLASS-01", "CLASS-07")]
    found = verdicts(kind(FAMILY[name]), [*of_class, *RULES[::every_nth]])
    failed = {rule for rule, verdict in found.items() if verdict != "pass"}
    assert failed >= {"CLASS-01", "CLASS-07"}
    assert failed <= {rule.id for rule in RULES if rule.request.about_class}
    assert {rule.split("-")[0] for rule in failed} <= {"CLASS", "GRAD", "NUM", "MATCH", "API"}
