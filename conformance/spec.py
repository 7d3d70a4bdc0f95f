"""The rules as a document: `docs/spec.md` and `detr-conformance list` are made here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from detr_conformance.mutants import MUSEUM
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import Matrix, recorded
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import FAMILIES, Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.resolve import BUILT_IN

HEAD = """# The rules

What a correct DETR / RT-DETR training loss does, rule by rule. Written by `detr-conformance spec` from the docstrings
of the properties that check it: change those, not this file. Losses are named by the keys of the base profile
`ultralytics`; another profile has its own names for the same sums.

A rule is a MUST or a SHOULD, as [RFC 2119](https://www.rfc-editor.org/rfc/rfc2119) has it. A MUST is what a correct
training step needs. A SHOULD is what a careful implementation gives besides; the reason beside it says why no training
run by the recipes of the family depends on it. A port that misses only SHOULDs is conformant, and its report lists them
as remarks.

Each rule says what a port has to declare before it is judged by it. Every rule also needs a classification loss, and
names it only where not all of them will do. *A choice of* an option means that the port must not restrict that option
in its `options`.
"""
CATCHES = """## What each rule catches

The decisions that each rule has been seen to notice a change of, and the mutants of the museum that changed them, as
[power.md](power.md) measures it. A decision is a path into a `LossSpec`.
"""
SHOWN = 4
"""So many decisions and mutants are named beside a rule, those that most mutants change and few others catch."""


def markdown() -> str:
    """Every rule: its statement, source, the version that brought it, what a port must declare, and what it catches."""
    return "\n".join([HEAD, *_families(), *_catches(recorded())])


def listing() -> str:
    """One line for each rule and each built-in port."""
    titles = max(len(rule.title) for rule in RULES)
    rules = [f"  {rule.id:9} {rule.title:{titles}}  {rule.obligation:6}  {', '.join(needs(rule))}" for rule in RULES]
    rows = [(name, each.profile, each.judged, each.about) for name, each in BUILT_IN.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    ports = ["  ".join(["", *map(str.ljust, row, widths)]).rstrip() for row in rows]
    head = "Rules, whether a port MUST or SHOULD keep them, and what it has to declare for each:"
    of_ports = "Built-in ports, the profile that each is held to, and the release that docs/findings.md is about:"
    return "\n".join([head, *rules, "", of_ports, *ports, ""])


def needs(rule: Rule, spec: LossSpec | None = None) -> list[str]:
    """What a port of the spec must declare before it is judged by the rule, besides some classification loss.

    By default of the first spec of the family that the rule is about.
    """
    spec = _home(rule) if spec is None else spec
    any_loss = " or ".join(sorted(spec.class_terms))
    return [what for what in rule.demands(_port_of(spec)) if what != any_loss]


def _home(rule: Rule) -> LossSpec:
    """The first spec of the family that the rule is about; the base spec for most."""
    return next(spec for spec in FAMILY.values() if rule.applies(_port_of(spec)))


def _families() -> Iterator[str]:
    for family, about in FAMILIES.items():
        yield f"## {family}: {about}\n"
        yield from (_section(rule) for rule in RULES if rule.family == family)


def _catches(matrix: Matrix) -> Iterator[str]:
    """The table of rules, decisions, and mutants."""
    changed = {mutant.id: mutant.changes() for mutant in MUSEUM}
    yield CATCHES
    yield "| rule | decisions | mutants |"
    yield "|---|---|---|"
    for rule in RULES:
        # Those that few other rules catch say most about this one.
        caught = sorted(matrix.caught_by(rule.id), key=lambda name: (len(matrix.kills[name]), name))
        noticed = Counter(step for name in caught for step in changed[name])
        often = [step for step, _ in sorted(noticed.items(), key=lambda entry: (-entry[1], entry[0]))]
        yield f"| {rule.id} | {_first(often)} | {_first(caught)} |"
    yield ""


def _first(names: Sequence[str]) -> str:
    more = [f"{len(names) - SHOWN} others"] if len(names) > SHOWN else []
    return ", ".join([*(f"`{name}`" for name in names[:SHOWN]), *more])


def _section(rule: Rule) -> str:
    obligation = rule.obligation if rule.reason is None else f"SHOULD: {rule.reason}"
    facts = [f"{obligation}.", f"Source: {rule.source}.", f"Since {rule.added}.", f"Needs {', '.join(needs(rule))}."]
    if rule.convention is not None:
        facts.append(f"Not asked where a profile leaves open: {rule.convention}.")
    return f"### {rule.id} {rule.title}\n\n{rule.statement}\n\n*{' '.join([*facts, *_in_other_profiles(rule)])}*\n"


def _in_other_profiles(rule: Rule) -> Iterator[str]:
    """Where the other profiles differ from the base one: they leave the rule out, or it needs something else."""
    names = {True: list[str](), False: list[str]()}
    for name, spec in FAMILY.items():
        names[rule.applies(_port_of(spec))].append(name)
    if names[False]:
        fewer = min(names.items(), key=lambda each: len(each[1]))[0]
        yield f"{'Only' if fewer else 'Not'} part of a run with {_profiles(names[fewer])}."
    others: dict[str, list[str]] = {}
    for name in names[True]:
        others.setdefault(", ".join(needs(rule, FAMILY[name])), []).append(name)
    others.pop(", ".join(needs(rule)))
    for what, of in others.items():
        yield f"With {_profiles(of)} it needs {what}."


def _profiles(names: Sequence[str]) -> str:
    return f"the profile{'s' if len(names) > 1 else ''} {', '.join(f'`{name}`' for name in names)}"


def _port_of(spec: LossSpec) -> PortUnderTest:
    return PortUnderTest(ReferencePort(spec))
