"""The conventions as a document, `docs/conventions.md`: a row for each decision, a column for each spec."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from detr_conformance.reference import FAMILY, ULTRALYTICS, LossSpec
from detr_conformance.reference.spec import DESCRIBING, children, paths, value_in

HEAD = """# The conventions

What the members of the family decide, field by field of `LossSpec`. Written by `detr-conformance conventions` from
`reference/family.py`: change that, not this file. A column says only what differs from `ultralytics`.

A convention of your own is a `LossSpec` too: `differs(RTDETR, "mine", guard=(Guard(1e-6), "Why.", "Where."))`. Give
it to `check` with `--profile my_module:MINE`, or to your port as its `profile`.
"""

FOR_RULES = ("matched", "background", "probe", "reads_score", "reads_options", "straight_in_alpha")
"""Fields of a classification loss that only say of it what the others decide."""


def markdown() -> str:
    """Every decision, what the base spec decides, and what the others do."""
    others = [spec for spec in FAMILY.values() if spec is not ULTRALYTICS]
    names = [f"`{spec.name}`" for spec in (ULTRALYTICS, *others)]
    lines = [HEAD, f"| decision | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines += [_row(path, others) for path in _decisions(others)]
    return "\n".join([*lines, "", *_undefined(), ""])


def _decisions(others: list[LossSpec]) -> list[str]:
    """Paths of the base spec, and those at which another one differs as a whole, in the order of the fields."""
    hidden = (*DESCRIBING, "undefined")
    single = [path for path in paths(ULTRALYTICS) if path.split(".")[-1] not in (*FOR_RULES, *hidden)]
    whole = {path for spec in others for path in spec.differences if path not in (*single, *hidden)}
    order = [each for path in single for each in (*_prefixes(path, whole), path)]
    return list(dict.fromkeys(order))


def _prefixes(path: str, whole: set[str]) -> Iterator[str]:
    return (each for each in sorted(whole) if path.startswith(f"{each}."))


def _row(path: str, others: list[LossSpec]) -> str:
    cells = [said(value_in(ULTRALYTICS, path)), *(_difference(spec, path) for spec in others)]
    return f"| `{path}` | {' | '.join(_cell(cell) for cell in cells)} |"


def _difference(spec: LossSpec, path: str) -> str:
    difference = spec.differences.get(path)
    if difference is None:
        return ""
    place, _, rest = difference.link.partition(", ")
    return (
        f"{difference.sentence} [{rest.rpartition('/')[2] or 'link'}]({place})"
        if place.startswith("http")
        else (f"{difference.sentence} {difference.link}")
    )


def said(value: Any) -> str:  # noqa: ANN401  # a decision of any kind
    """What a value decides: the first sentence of a function's docstring, or the value itself."""
    if children(value):
        return ""
    if inspect.isfunction(value):
        return _first_sentence(value)
    if value is None or isinstance(value, (int, float, frozenset)):
        return f"`{sorted(value) if isinstance(value, frozenset) else value}`"
    return _first_sentence(type(value)) if not inspect.isclass(value) else _first_sentence(value)


def _first_sentence(documented: Any) -> str:  # noqa: ANN401  # as above
    text = " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
    return text if text.endswith(".") else f"{text}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _undefined() -> Iterator[str]:
    yield "## What they leave undefined\n"
    yield "Rules about it are no part of the run, and no other rule draws it.\n"
    for spec in FAMILY.values():
        for what, reason in spec.undefined.items():
            yield f"- `{spec.name}`, {what}: {reason}"
