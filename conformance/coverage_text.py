"""What the rules ask a port for as a document: `docs/coverage.md`."""

from __future__ import annotations

from collections.abc import Iterator

from detr_conformance.coverage import LEVELS, RANGES, SHARE, Coverage

HEAD = f"""# What the rules ask for

The least and the most that a port of the base profile, `ultralytics`, is asked for, option by option, and how many
questions are at either end of the range that the suite promises, or beyond it. Counted on the reference, at seed 0.
Written by `detr-conformance coverage`, as CONTRIBUTING.md says: run that, do not edit this.

Smoke is counted in full. Of level standard one rule of {SHARE["standard"]} is, as all of them take long and draw from
the same strategies: what other rules set themselves, as the ends of options, is not in those figures.
"""
WORDS = {
    "dtype": "Dtypes",
    "classification": "Classification losses",
    "question": "Questions",
}


def markdown(coverage: Coverage) -> str:
    """The document."""
    return "\n".join([HEAD, *_promises(), *(line for level in LEVELS for line in _level(coverage, level))])


def _promises() -> Iterator[str]:
    yield "## What is promised\n"
    yield "| option or size | from | to | because |"
    yield "|---|---|---|---|"
    for name, promised in RANGES.items():
        yield f"| {name} | {promised.least:g} | {promised.most:g} | {promised.source} |"
    yield ""


def _level(coverage: Coverage, level: str) -> Iterator[str]:
    yield f"## Level {level}: {coverage.questions[level]} questions\n"
    yield "| option or size | least | at the least | most | at the most | different values |"
    yield "|---|---|---|---|---|---|"
    for name, found in coverage.figures[level].items():
        cells = f"{found.least:g} | {found.at_least} | {found.most:g} | {found.at_most} | {found.distinct}"
        yield f"| {name} | {cells} |"
    yield ""
    for name, title in WORDS.items():
        counts = ", ".join(f"{word} {count}" for word, count in coverage.words[level][name].items())
        yield f"{title}: {counts}.\n"
