"""The measured power of the rules as a document: `docs/power.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from detr_conformance.generated_power import GeneratedPower, section
from detr_conformance.mutants import MUSEUM
from detr_conformance.power import LEVELS, MUTANT, RULE, Matrix
from detr_conformance.properties.rule import FAMILIES

SMOKE_SHARE = 0.9
"""At level smoke at least this share of the mutants must be failed; at standard all."""
LARGEST = (2, 4, 3)
"""Most images, queries and targets that the median of the smallest failing cases may have."""

HEAD = """# The power of the rules

Every rule judges every mutant of the bug museum that it can see. A mutant is the reference with one step
changed: a real bug of a public implementation, or a mistake that a porter may make. Written by `detr-conformance
power`, as CONTRIBUTING.md says: run that, do not edit this.

The record of this release tells less than that. The newest rules (CLASS-20, MATCH-22 to -26, NUM-15, NUM-16 and API-12
to -18) were tried on all mutants, the 52 newest mutants on all rules, and every recorded kill was judged again. Of the
museum before, rules of RANK, NUM and API were tried on mutants of their own family, CLASS-19, REG-08 and GRAD-10 to
GRAD-12 on those that came with them, GRAD-06 to GRAD-09 on those of specs without extra terms, and all of them on
whatever no other rule failed.
"""


def shortcomings(matrix: Matrix) -> list[str]:
    """What the rules or the museum have still to learn, a sentence each; none if all is well."""
    total = len(MUSEUM)
    smoke, standard = (len(matrix.killed(level)) for level in LEVELS[:2])
    found = []
    if smoke < SMOKE_SHARE * total:
        found.append(f"level smoke fails {smoke} of {total} mutants, expected {SMOKE_SHARE:.0%}")
    if standard < total:
        survivors = [name for name, kills in matrix.kills.items() if not kills]
        found.append(f"level standard does not fail: {', '.join(survivors)}")
    if matrix.idle():
        found.append(f"rules that fail no mutant: {', '.join(matrix.idle())}")
    if any(size > largest for size, largest in zip(medians(matrix), LARGEST, strict=True)):
        found.append(f"the median smallest case has {_sizes(medians(matrix))}, expected at most {_sizes(LARGEST)}")
    return found


def medians(matrix: Matrix) -> tuple[float, ...]:
    """Median number of images, queries and targets of the smallest failing cases."""
    sizes = [(size.images, size.queries, size.targets) for size in matrix.sizes.values()]
    return tuple(median(column) for column in zip(*sizes, strict=True))


def _sizes(numbers: Sequence[float]) -> str:
    return "{:g} images, {:g} queries, {:g} targets".format(*numbers)


def summary(matrix: Matrix) -> str:
    """The figures."""
    total, real = len(MUSEUM), sum(not name.startswith("plausible") for name in MUTANT)
    rows = [
        ("rules", len(matrix.rules)),
        ("mutants", f"{total}, of which {real} were found in public implementations"),
        *((f"failed at level {level}", _share(len(matrix.killed(level)), total)) for level in LEVELS),
        ("failed by a rule of its own family", _share(len(_failed_by_own_family(matrix)), total)),
        ("rules that fail at least one mutant", _share(len(matrix.rules) - len(matrix.idle()), len(matrix.rules))),
        ("median of the smallest failing cases", _sizes(medians(matrix))),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows), ""])


def markdown(matrix: Matrix, generated: GeneratedPower) -> str:
    """The document: what the rules catch of the museum, and of generated mutants."""
    return "\n".join([HEAD, summary(matrix), *section(generated), *_rules(matrix), *_mutants(matrix)])


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})"


def _failed_by_own_family(matrix: Matrix) -> list[str]:
    def families(name: str) -> set[str]:
        return {RULE[rule].family for rule in matrix.kills[name]}

    return [name for name in matrix.kills if MUTANT[name].family in families(name)]


def _rules(matrix: Matrix) -> Iterator[str]:
    yield "## What each rule catches\n"
    yield "*Alone*: no other rule fails these mutants. *Smoke*: how many of them are failed at that level.\n"
    yield "| rule | | mutants | smoke | alone |"
    yield "|---|---|---|---|---|"
    for rule in matrix.rules:
        names = matrix.caught_by(rule)
        early = sum(matrix.kills[name][rule].level == LEVELS[0] for name in names)
        alone = [f"`{name}`" for name in names if len(matrix.kills[name]) == 1]
        yield f"| {rule} | {RULE[rule].title} | {len(names)} | {early} | {', '.join(alone)} |"
    yield ""


def _mutants(matrix: Matrix) -> Iterator[str]:
    yield "## What fails each mutant\n"
    yield "The five rules that take the fewest cases; `+ n` is the number of others."
    for family, about in FAMILIES.items():
        yield f"\n### {family}: {about}\n"
        yield "| mutant | failed by (cases) | smallest case: images, queries, targets |"
        yield "|---|---|---|"
        for mutant in MUSEUM:
            if mutant.family == family:
                yield f"| `{mutant.id}` | {_killers(matrix, mutant.id)} | {_size(matrix, mutant.id)} |"
    yield ""


def _killers(matrix: Matrix, name: str, most: int = 5) -> str:
    kills = matrix.kills[name]
    quickest = sorted(kills, key=lambda rule: (LEVELS.index(kills[rule].level), kills[rule].cases, rule))
    shown = [f"{rule} ({_cases(kills[rule].level, kills[rule].cases)})" for rule in quickest[:most]]
    more = [f"+ {len(quickest) - most}"] if len(quickest) > most else []
    return ", ".join([*shown, *more]) or "nothing"


def _cases(level: str, cases: int) -> str:
    return f"{cases}" if level == LEVELS[0] else f"{cases} at {level}"


def _size(matrix: Matrix, name: str) -> str:
    size = matrix.sizes.get(name)
    return "" if size is None else f"{size.images}, {size.queries}, {size.targets}"
