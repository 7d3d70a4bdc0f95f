"""The conventions as a document, `docs/conventions.md`: where they differ, and every decision that there is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from detr_conformance.reference import FAMILY, ULTRALYTICS, LossSpec, differing
from detr_conformance.reference.spec import DESCRIBING, Difference, paths, value_in

HEAD = """# The conventions

What the members of the family decide, by the fields of `LossSpec`. Written by `detr-conformance conventions` from
`reference/family.py`: change that, not this file.

A convention of your own is a `LossSpec` too: `differs(RTDETR, "mine", guard=(Guard(1e-6), "Why.", "Where."))`. Give
it to `check` with `--profile my_module:MINE`, or to your port as its `profile`.
"""
DIFFERENCES = """## Where they differ

Each from `ultralytics`.
"""
DECISIONS = """## Every decision

What there is to decide, and what `ultralytics` does.
"""
UNDEFINED = """## What they leave undefined

Rules about it are no part of the run, and no other rule draws it.
"""

RECIPES = """## What they are trained with

The options of published configurations, by classification loss. A rule about the defaults of a port's constructor
compares them with these; where nothing is published, it asks nothing.
"""

FOR_RULES = frozenset({"closed_form", "any_gamma", "probe", "reads_score", "reads_options", "straight_in_alpha"})
"""Fields of a classification loss that only say of it what the others decide."""


def markdown() -> str:
    """Differences, decisions, recipes, and what is left undefined."""
    lines = [HEAD, DIFFERENCES]
    for spec in FAMILY.values():
        lines += _differences(spec) if spec.differences else ()
    lines += [DECISIONS, *_table(["decision", "what it is", "`ultralytics`"], map(_decision, _decisions()))]
    lines += [RECIPES, *_table(["profile", "loss", "options", "where"], _recipes())]
    return "\n".join([*lines, UNDEFINED, *_undefined(), ""])


def _table(head: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _differences(spec: LossSpec) -> Iterator[str]:
    """A row for each field in which a spec differs from the base."""
    yield f"### `{spec.name}`\n"
    said_of = {path: said for path, said in spec.differences.items() if path not in ("undefined", "recipe")}
    rows = ([f"`{path}`", _base(path, spec), _with_link(said)] for path, said in said_of.items())
    yield from _table(["decision", "`ultralytics`", f"`{spec.name}`"], rows)


def _base(path: str, spec: LossSpec) -> str:
    """What the base decides where the spec differs at or below a path."""
    known = {*paths(ULTRALYTICS)}
    leaves = [each for each in differing(ULTRALYTICS, spec) if _lies_in(each, path) and each in known]
    return _joined({each.removeprefix(f"{path}."): said(value_in(ULTRALYTICS, each)) for each in leaves}, path)


def _lies_in(leaf: str, path: str) -> bool:
    return f"{leaf}.".startswith(f"{path}.") and not FOR_RULES & set(leaf.split("."))


def _joined(decided: Mapping[str, str], path: str) -> str:
    """What several fields decide, those together that decide alike; the field itself needs no name."""
    if path in decided:
        return decided[path]
    names: dict[str, list[str]] = {}
    for name, text in decided.items():
        names.setdefault(text.removesuffix("."), []).append(f"`{name}`")
    return "; ".join(f"{', '.join(of)}: {text}" for text, of in names.items())


def _with_link(difference: Difference) -> str:
    link = _linked(difference.link)
    return f"{difference.sentence} {link if link.startswith('[') else f'({link})'}"


def _linked(link: str) -> str:
    """A link in Markdown, by the name of the file; what leads to no page as it is."""
    place, _, file = link.partition(", ")
    if not place.startswith("http"):
        return link
    return f"[{file.rpartition('/')[2] or '/'.join(place.split('/')[-2:])}]({place})"


def _decisions() -> list[str]:
    """Paths of all fields, but for those that decide nothing."""
    return [
        path
        for path in paths(ULTRALYTICS)
        if not {*FOR_RULES, *DESCRIBING, "undefined", "recipe"} & set(path.split("."))
    ]


def _decision(path: str) -> list[str]:
    return [f"`{path}`", _meaning(path), said(value_in(ULTRALYTICS, path))]


def _meaning(path: str) -> str:
    """What the docstring of its record says about a field; nothing about an entry of a mapping."""
    parent, _, name = path.rpartition(".")
    record = value_in(ULTRALYTICS, parent) if parent else ULTRALYTICS
    section = (inspect.getdoc(type(record)) or "").partition("Attributes:\n")[2]
    found = re.search(rf"^ {{4}}{name}: (.*(?:\n {{8}}.*)*)", section, re.MULTILINE)
    text = "" if found is None or isinstance(record, Mapping) else " ".join(found[1].split())
    return f"{text[:1].upper()}{text[1:]}"


def said(value: Any) -> str:  # noqa: ANN401  # a decision of any kind
    """What a value decides: the first sentence of a function's docstring, or the value itself."""
    if value is None or isinstance(value, (int, float)):
        return f"`{value}`"
    if isinstance(value, frozenset):
        return ", ".join(f"`{each}`" for each in sorted(value))
    if inspect.isfunction(value) or inspect.isclass(value):
        return _first_sentence(value)
    documented = type(value).__module__.startswith("detr_conformance") and not callable(value)
    return _first_sentence(type(value)) if documented else f"`{getattr(value, '__name__', value)}`"


def _first_sentence(documented: Any) -> str:  # noqa: ANN401  # as above
    text = " ".join((inspect.getdoc(documented) or "").split("\n\n")[0].split())
    return text if text.endswith(".") else f"{text}."


def _recipes() -> Iterator[list[str]]:
    """A row for each configuration that a recipe is taken from."""
    for name, spec in FAMILY.items():
        for loss, options in spec.recipe.items():
            for link in dict.fromkeys(each.link for each in options.values()):
                said = [f"`{option}` {_value(each.value)}" for option, each in options.items() if each.link == link]
                yield [f"`{name}`", loss, "; ".join(said), _linked(link)]


def _value(value: Any) -> str:  # noqa: ANN401  # a number, or gains by term
    if isinstance(value, Mapping):
        return ", ".join(f"{term} {gain:g}" for term, gain in value.items())
    return f"{value:g}"


def _undefined() -> Iterator[str]:
    for spec in FAMILY.values():
        for what, reason in spec.undefined.items():
            yield f"- `{spec.name}`, {what}: {reason}"
