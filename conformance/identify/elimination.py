"""Elimination: alternatives whose predictions are further off a port's answers than the error budget are ruled out.

A port of an alternative is never further off than that, so the right one survives. Cases are drawn until only one is
left, or until no further case shows a difference between those that are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from detr_conformance.identify.answers import Answers, alike, got, is_certain, predicted, share
from detr_conformance.identify.decisions import Decision
from detr_conformance.identify.question import Choice, Question
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortError
from detr_conformance.reference import LossSpec

CASES_ASKED = 2
"""So many cases are asked about however few alternatives there are."""
CASES_DRAWN = 60
"""More cases are not drawn."""
REFUSALS = 3
"""After so many cases without an answer the port is not asked further."""


class Hypotheses:
    """Specs by what they decide, each made once.

    Args:
        decisions: what there is to decide, by path.
        base: what decides all else.
    """

    def __init__(self, decisions: dict[str, Decision], base: LossSpec) -> None:
        """Nothing is made yet."""
        self.decisions = decisions
        self.base = base
        self._made: dict[tuple[tuple[str, int], ...], LossSpec] = {}

    def spec(self, choice: Choice) -> LossSpec:
        """The spec that decides so."""
        key = tuple(sorted(choice.items()))
        if key not in self._made:
            spec = self.base
            for path, place in choice.items():
                spec = self.decisions[path].alternatives[place].put_in(spec, path)
            self._made[key] = spec
        return self._made[key]


@dataclass
class Candidate:
    """One way to take the decisions of a question.

    Attributes:
        choice: of these decisions.
        spec: with these and all other decisions.
        shares: for each answer that was looked at the share of its budget.
        wrong: how many answers are beyond their budgets.
    """

    choice: Choice
    spec: LossSpec
    shares: list[float] = field(default_factory=list)
    wrong: int = 0

    @property
    def worst(self) -> float:
        """The largest share of all."""
        return max(self.shares, default=0.0)


@dataclass
class Outcome:
    """What came of a question.

    Attributes:
        left: for each decision the alternatives that nothing speaks against; if all are ruled out, the nearest ones.
        about: what was looked at.
        cases: those that it answered.
        is_explained: whether some alternative is within every budget.
        margins: for each decision, how many budgets the best of the other alternatives is off; None without any.
        refusal: why there are no answers, if there are none.
    """

    left: dict[str, list[int]]
    cases: list[LossCase]
    about: str
    is_explained: bool
    margins: dict[str, float | None]
    refusal: str = ""


def eliminate(
    answers: Answers,
    hypotheses: Hypotheses,
    left: dict[str, list[int]],
    ways: Sequence[Choice],
    question: Question,
) -> Outcome:
    """Decide some decisions together, with all others at the first alternative that is left.

    Args:
        answers: the port.
        hypotheses: makes specs.
        left: alternatives of all decisions that are left so far.
        ways: the ways in which the decisions in question can be taken.
        question: what to look at, and on which cases.
    """
    names = question.names
    others = {path: places[0] for path, places in left.items()}
    candidates = [Candidate(way, hypotheses.spec(others | way)) for way in ways]
    asked, refusals = list[LossCase](), list[str]()
    for case in _telling(question, candidates, asked):
        refusal = _refusal(answers, case, candidates, names(case))
        if refusal:
            refusals.append(refusal)
        else:
            asked.append(case)
        if len(refusals) == REFUSALS:
            break
    if all(each.wrong for each in candidates):  # now the nearest counts, on all cases
        for each in candidates:
            each.shares, each.wrong = [], 0
        for case in asked:
            _compare(answers, case, candidates, names(case), to_the_end=True)
    return _outcome(candidates, left, asked, question.about, "" if asked else next(iter(refusals), ""))


def _refusal(answers: Answers, case: LossCase, candidates: Sequence[Candidate], names: Sequence[str]) -> str:
    """Compare those that are left on a case; why that could not be done, empty if it could."""
    try:
        _compare(answers, case, [each for each in candidates if not each.wrong], names)
    except PortError as error:
        return str(error)
    return ""


def _telling(question: Question, candidates: Sequence[Candidate], asked: Sequence[LossCase]) -> Iterator[LossCase]:
    """The first cases, and then those on which candidates differ that are left."""
    same = 0
    for case in islice(question.cases(), CASES_DRAWN):
        alive = [each for each in candidates if not each.wrong and is_certain(case, each.spec)]
        if alive and (len(asked) < CASES_ASKED or _differ(case, alive, question.names(case))):
            same = 0
            yield case
        else:
            same += 1
        left = sum(not each.wrong for each in candidates)
        if len(asked) >= CASES_ASKED and (left <= 1 or same == question.patience):
            return


def _differ(case: LossCase, candidates: Sequence[Candidate], names: Sequence[str]) -> bool:
    first, *others = candidates
    return any(
        not alike(predicted(case, name, first.spec), predicted(case, name, each.spec), case.dtype)
        for each in others
        for name in names
    )


def _compare(
    answers: Answers, case: LossCase, candidates: Sequence[Candidate], names: Sequence[str], to_the_end: bool = False
) -> None:
    """Compare candidates with the port's answers, those that have one answer themselves.

    By default nobody looks further at a candidate that is ruled out.
    """
    for each in candidates:
        for name in names if is_certain(case, each.spec) else ():
            expected = predicted(case, name, each.spec)
            each.shares.append(share(got(answers, case, name, each.spec), expected, case.dtype))
            each.wrong += each.shares[-1] > 1.0
            if each.wrong and not to_the_end:
                break


def _outcome(
    candidates: Sequence[Candidate], before: dict[str, list[int]], cases: list[LossCase], about: str, refusal: str
) -> Outcome:
    fewest = min(each.wrong for each in candidates)
    best = [each.choice for each in candidates if each.wrong == fewest]
    left, margins = dict[str, list[int]](), dict[str, float | None]()
    for path in dict.fromkeys(path for each in best for path in each):
        matters = all(path in choice for choice in best)  # elsewhere nothing speaks against what was left
        left[path] = sorted({choice[path] for choice in best}) if matters else before[path]
        others = [each.worst for each in candidates if each.choice.get(path, left[path][0]) not in left[path]]
        margins[path] = min(others, default=None)
    return Outcome(left, cases, about, fewest == 0, margins, refusal)
