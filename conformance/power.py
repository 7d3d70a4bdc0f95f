"""The power of the rules, measured: which of them fail which mutant of the museum, and after how many cases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib.resources import files
from multiprocessing import get_context

import msgspec

from detr_conformance import __version__
from detr_conformance.mutants import MUSEUM, Mutant
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.levels import EXAMPLES
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES

LEVELS = tuple(EXAMPLES)
RULE = {rule.id: rule for rule in RULES}
MUTANT = {mutant.id: mutant for mutant in MUSEUM}

Pair = tuple[str, str]
"""Ids of a rule and of a mutant."""


class Kill(msgspec.Struct, frozen=True, array_like=True):
    """A mutant failed by a rule.

    Attributes:
        level: the lowest level at which it is.
        cases: number of cases that it took, the failing one included.
    """

    level: str
    cases: int


class Size(msgspec.Struct, frozen=True, array_like=True):
    """Size of the smallest case found on which a mutant is failed."""

    images: int
    queries: int
    targets: int


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """What the rules catch.

    Attributes:
        version: of the suite.
        seed: which cases were drawn.
        rules: ids of all rules.
        kills: for each mutant the rules that fail it. Every rule was tried at level smoke, and at a higher level
            where smoke had left something open: a mutant that no rule of its family failed, a rule that failed nothing.
        sizes: for each mutant the size of its smallest failing case.
    """

    version: str
    seed: int
    rules: list[str]
    kills: dict[str, dict[str, Kill]]
    sizes: dict[str, Size]

    def to_json(self) -> str:
        """The matrix as JSON text."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1).decode() + "\n"

    def killed(self, level: str) -> list[str]:
        """Mutants that some rule fails at this level."""
        levels = LEVELS[: LEVELS.index(level) + 1]
        return [name for name, kills in self.kills.items() if any(kill.level in levels for kill in kills.values())]

    def caught_by(self, rule: str) -> list[str]:
        """Mutants that this rule fails."""
        return [name for name, kills in self.kills.items() if rule in kills]

    def idle(self) -> list[str]:
        """Rules that fail nothing."""
        return [rule for rule in self.rules if not self.caught_by(rule)]


def recorded() -> Matrix:
    """The matrix that the suite was released with."""
    return msgspec.json.decode((files("detr_conformance") / "kills.json").read_bytes(), type=Matrix)


NOTHING = Matrix(version=__version__, seed=0, rules=[], kills={}, sizes={})
"""Before anything was tried."""


def measure(
    seed: int = 0, jobs: int | None = None, tell: Callable[[str], None] = print, known: Matrix = NOTHING
) -> Matrix:
    """Try every rule on every mutant that it can see.

    Args:
        seed: which cases are drawn.
        jobs: number of processes; by default one for each core.
        tell: is called with a line whenever a rule is done.
        known: what need not be tried again.

    Raises:
        RuntimeError: a mutant gave no answer, which is a defect of the museum.
    """
    with ProcessPoolExecutor(jobs or os.cpu_count(), mp_context=get_context("spawn")) as pool:
        kills = {
            mutant.id: {rule: kill for rule, kill in known.kills.get(mutant.id, {}).items() if rule in RULE}
            for mutant in MUSEUM
        }
        for level in LEVELS[:2]:
            work = list(untried(known) if level == LEVELS[0] else _left_open(kills))
            trials = pool.map(partial(_trials, level, seed), *zip(*work, strict=True)) if work else ()
            for (rule, names), found in zip(work, trials, strict=True):
                for name, cases in found.items():
                    kills[name][rule] = Kill(level, cases)
                tell(f"{rule} at level {level}: fails {len(found)} of {len(names)}")
        smallest = [
            (_quickest(name, of_rules), name)
            for name, of_rules in kills.items()
            if of_rules and name not in known.sizes
        ]
        sizes = {name: size for name, size in known.sizes.items() if name in MUTANT}
        sizes |= zip((name for _, name in smallest), pool.map(partial(_smallest, seed), smallest), strict=True)
    ordered = {name: dict(sorted(of_rules.items())) for name, of_rules in kills.items()}
    return Matrix(version=__version__, seed=seed, rules=list(RULE), kills=ordered, sizes=sizes)


def can_show(rule: Rule, mutant: Mutant) -> bool:
    """Whether the rule applies to the mutant's home, and calls what the mutant has changed.

    That is the generator of denoising queries, or all the rest.
    """
    return ("denoising_group" in rule.needs) == _generates(mutant) and rule.applies(_of_home(mutant))


@cache
def _of_home(mutant: Mutant) -> PortUnderTest:
    return PortUnderTest(ReferencePort(mutant.home))


def port_of(name: str) -> ReferencePort:
    """A mutant as a port: one for all rules, unless it keeps something from call to call."""
    return MUTANT[name].port() if "side_effects" in MUTANT[name].changes() else _kept_port(name)


@cache
def _kept_port(name: str) -> ReferencePort:
    return MUTANT[name].port()


@cache
def _generates(mutant: Mutant) -> bool:
    return any(path.startswith("denoising.generator") for path in mutant.changes())


def untried(known: Matrix) -> Iterator[tuple[str, list[str]]]:
    """Each rule with the mutants that it can see and has not been tried on."""
    for rule in RULES:
        seen = [mutant.id for mutant in MUSEUM if can_show(rule, mutant)]
        names = [name for name in seen if rule.id not in known.rules or name not in known.kills]
        if names:
            yield rule.id, names


def _left_open(kills: dict[str, dict[str, Kill]]) -> Iterator[tuple[str, list[str]]]:
    """Each rule with the mutants that no rule of their family has failed, or all where the rule has failed none."""
    missed = {
        each.id: each.family for each in MUSEUM if each.family not in {RULE[rule].family for rule in kills[each.id]}
    }
    for rule in RULES:
        seen = [mutant.id for mutant in MUSEUM if can_show(rule, mutant)]
        is_idle = not any(rule.id in kills[name] for name in seen)
        open_to_it = [name for name in seen if not kills[name] or missed.get(name) == rule.family]
        names = seen if is_idle else open_to_it
        if names:
            yield rule.id, names


def _trials(level: str, seed: int, rule: str, names: Sequence[str]) -> dict[str, int]:
    """The mutants that the rule fails, and the number of cases that each took.

    One rule meets all mutants in one process, so that its cases are drawn, and the reference asked, only once.
    """
    outcomes = {name: judge(RULE[rule], port_of(name), level=level, seed=seed, shrink=False) for name in names}
    broken = [f"{rule} on {name}: {each.message}" for name, each in outcomes.items() if each.verdict == "error"]
    if broken:
        raise RuntimeError(f"mutants without an answer: {'; '.join(broken)}")
    return {name: each.examples + 1 for name, each in outcomes.items() if each.verdict == "fail"}


def _quickest(name: str, kills: dict[str, Kill]) -> tuple[str, str]:
    """The rule that fails it first, of its own family if there is one, and the level."""

    def order(rule: str) -> tuple[bool, int, int, str]:
        kill = kills[rule]
        return (RULE[rule].family != MUTANT[name].family, LEVELS.index(kill.level), kill.cases, rule)

    rule = min(kills, key=order)
    return rule, kills[rule].level


def _smallest(seed: int, of: tuple[tuple[str, str], str]) -> Size:
    """The size of the smallest case on which the rule fails the mutant."""
    (rule, level), name = of
    case = judge(RULE[rule], port_of(name), level=level, seed=seed).case
    assert case is not None  # noqa: S101  # it has just been failed by this rule
    return Size(case.images, case.queries, case.targets)


def replay(matrix: Matrix, pairs: Iterable[Pair]) -> list[str]:
    """What is no longer as recorded: a sentence for each pair of a rule and a mutant that it does not fail."""
    wrong = []
    for rule, name in pairs:
        level = matrix.kills[name][rule].level
        outcome = judge(RULE[rule], port_of(name), level=level, seed=matrix.seed, shrink=False)
        if outcome.verdict != "fail":
            wrong.append(f"{rule} does not fail {name} at level {level}: {outcome.verdict} {outcome.message}")
    return wrong


def witnesses(matrix: Matrix) -> list[Pair]:
    """One kill for each mutant, and one for each rule that those leave out: as few as show that all bite."""
    pairs = [(_quickest(name, kills)[0], name) for name, kills in matrix.kills.items() if kills]
    used = {rule for rule, _ in pairs}
    for rule in matrix.rules:
        names = matrix.caught_by(rule)
        if rule not in used and names:
            pairs.append((rule, min(names, key=lambda name: matrix.kills[name][rule].cases)))
    return pairs
