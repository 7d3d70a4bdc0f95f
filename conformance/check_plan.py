"""What a check is about to do: one port, the conventions it is held to, and the cases it is tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from detr_conformance.coco_file import TargetsFileError
from detr_conformance.errors import UsageError, one_line
from detr_conformance.halves import HALVES, Learned, half_of, part_of
from detr_conformance.image_targets import CocoTargets
from detr_conformance.known_deviations import Known, witnessed
from detr_conformance.known_deviations_file import load
from detr_conformance.options import CheckOptions
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseFormatError, from_json
from detr_conformance.properties.given_case import undefined
from detr_conformance.properties.judging import RuleResult, judge, judge_on
from detr_conformance.properties.levels import Level
from detr_conformance.properties.oracle import expected_losses
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.reading import read_text
from detr_conformance.real_cases import real_cases
from detr_conformance.reference import LossSpec
from detr_conformance.resolve import resolve
from detr_conformance.targets import read_targets


@dataclass(frozen=True, eq=False)
class CheckPlan:
    """What is judged, by what, and on which cases.

    Attributes:
        port: the port.
        profile: the conventions to hold it to.
        level: smoke, standard or exhaustive: how many cases each rule draws.
        seed: which cases.
        targets: real targets, for further cases.
        case: the only case, if given; none is drawn then.
        shard: which part of the rules to judge by, and of how many.
        known: rules that the port is known to break.
        halves: what earlier failures have shown, for each half of the rules.
    """

    port: Port
    profile: LossSpec
    level: Level = "standard"
    targets: CocoTargets | None = None
    case: LossCase | None = None
    seed: int = 0
    shard: tuple[int, int] = (1, 1)
    known: Known = field(default_factory=dict)
    halves: tuple[Learned, ...] = field(default_factory=lambda: tuple(Learned() for _ in range(HALVES)))

    @property
    def applicable(self) -> list[Rule]:
        """The rules that the profile does not leave open."""
        judged = PortUnderTest(self.port, self.profile)
        return [rule for rule in RULES if rule.applies(judged)]

    @property
    def rules(self) -> list[Rule]:
        """The rules to judge by: those of the shard that can be checked on the case, if there is one."""
        shard = part_of(self.applicable, *self.shard)
        return [rule for rule in shard if self.case is None or rule.request.fits(self.case)]

    def learned(self, rule: Rule) -> Learned:
        """What earlier failures have shown that is of use to this rule."""
        return self.halves[half_of(rule.id)]

    def judge(self, rule: Rule) -> RuleResult | None:
        """Judge the port by one rule; None if the given case lacks something that the rule assumes."""
        if self.case is not None:
            outcome = judge_on(self.case, rule, self.port, self.profile)
            return None if outcome.verdict == "pass" and outcome.examples == 0 else outcome
        shown = witnessed(rule, self.known, self.port, self.profile)
        if shown is not None:
            return shown
        judged = PortUnderTest(self.port, self.profile)
        cases = () if self.targets is None else real_cases(self.targets, rule, judged, self.level)
        return judge(rule, self.port, self.profile, self.level, self.seed, cases, small=self.learned(rule).small)


@lru_cache(maxsize=1)
def prepare(options: CheckOptions) -> CheckPlan:
    """The judgement that `check` was asked for; the same one for the same options, so that a port is built once.

    Raises:
        UsageError: something that it names cannot be used.
    """
    case = None if options.case is None else _read_case(options.case)
    targets = None if options.targets is None else _read_targets(options.targets)
    port, profile = resolve(options)
    known = load(options.known_deviations, port)
    judgement = CheckPlan(port, profile, options.level, targets, case, options.seed, options.shard or (1, 1), known)
    if case is not None:
        _refuse_unfit(case, judgement, options)
    return judgement


def _read_case(path: str) -> LossCase:
    try:
        return from_json(read_text(path, "a case in JSON"))
    except CaseFormatError as error:
        raise UsageError(f"{path}: {one_line(error)}") from error


def _read_targets(path: str) -> CocoTargets:
    try:
        return read_targets(path)
    except TargetsFileError as error:
        raise UsageError(one_line(error)) from error


def _refuse_unfit(case: LossCase, judgement: CheckPlan, options: CheckOptions) -> None:
    """Refuse a case that nothing can be said about."""
    unknown = undefined(case, judgement.profile)
    if unknown:
        raise UsageError(
            f"{options.case} has {' and '.join(unknown)}, which the profile {judgement.profile.name} leaves open: "
            "change the case, or choose another --profile"
        )
    try:
        expected_losses(case, judgement.profile)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{options.case} is no call of the loss: {one_line(error)}") from error
    if not judgement.rules:
        raise UsageError(f"{options.case} fits no rule: change its sizes or options")
