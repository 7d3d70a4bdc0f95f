"""The decisions that identification tells apart: every field of a spec in which implementations differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from detr_conformance.conventions import said
from detr_conformance.identify.alternatives import FURTHER, said_of_guard
from detr_conformance.reference import FAMILY, ULTRALYTICS, ClassTerm, Guard, LossSpec, differing, replace_in
from detr_conformance.reference.family import through_corners
from detr_conformance.reference.spec import DESCRIBING, paths, value_in

WHOLE = {"layers": 1, "class_terms": 2, "keys": 1}
"""Records that are decided as a whole, by how they begin, and the number of names in such a path."""

FOLLOWING = {"pairing": ("clear",)}
"""Fields that go with another one: whoever takes that decision has taken them."""
NOT_TOLD = (
    *("undefined", "target_boxes", "columns", "clear", "denoising.regular", "extra_terms", *DESCRIBING),
    *("matcher.mask_costs", "mask_points"),
    *("over_ranks", "over_steps", "recipe"),
)
"""Fields that are no decisions here: what is left open, what may be asked, what moves roundings alone, what goes with
the extra terms, and what no loss of a single batch shows."""


SAID = {
    "layers": "Any number of layers, and of layers of denoising queries.",
    "denoising.generator.logit_eps": "Boxes are clipped to [1e-6, 1 - 1e-6] before the inverse sigmoid.",
    "denoising.generator.padding_is_zero": "Padding boxes are zeros.",
    "denoising.generator.without_targets": "A batch without targets gets no denoising queries.",
}
"""What the base decides, where its value does not say so."""


@dataclass(frozen=True)
class Alternative:
    """One way to take a decision.

    Attributes:
        value: of the field.
        source: the Python expression that makes it, from `FAMILY`, `Guard` and `alternatives`.
        sentence: what is decided.
        link: code that does it, or the paper; empty for the base.
        following: values of the fields that go with it, by path.
    """

    value: Any
    source: str
    sentence: str
    link: str
    following: Mapping[str, Any] = field(default_factory=dict)

    def put_in(self, spec: LossSpec, path: str) -> LossSpec:
        """The spec with this alternative at a path."""
        decided: dict[str, Any] = {path: self.value, **self.following}
        for own, value in decided.items():
            spec = replace_in(spec, own, value)
        return spec


@dataclass(frozen=True)
class Decision:
    """A field of a spec with every way in which it is known to be decided.

    Attributes:
        path: of the field.
        alternatives: those of the family first.
    """

    path: str
    alternatives: tuple[Alternative, ...]

    def place_of(self, spec: LossSpec) -> int | None:
        """Which alternative a spec takes; None where it has no such field."""
        try:
            value = value_in(spec, self.path)
        except KeyError:
            return None
        return next(place for place, each in enumerate(self.alternatives) if each.value == value)


def decisions() -> dict[str, Decision]:
    """Every decision that can be taken in more than one way, by its path."""
    widest = widest_spec()
    different = {_unit(path) for spec in FAMILY.values() for path in differing(ULTRALYTICS, spec)}
    open_paths = [path for path in dict.fromkeys(map(_unit, paths(widest))) if path in different or _further(path)]
    found = {path: Decision(path, tuple(_alternatives(path))) for path in open_paths if _decides(path)}
    return {path: each for path, each in found.items() if len(each.alternatives) > 1}


def widest_spec() -> LossSpec:
    """The base with every classification loss and normaliser that a member of the family has.

    Targets are turned into corners and back: that moves roundings alone, and gives the widest budgets.
    """
    widest: LossSpec = replace_in(ULTRALYTICS, "target_boxes", through_corners)
    for name in ("class_terms", "normaliser"):
        entries = {key: value for spec in FAMILY.values() for key, value in getattr(spec, name).items()}
        widest = replace_in(widest, name, entries | dict(getattr(ULTRALYTICS, name)))
    return widest


def expression(name: str, path: str) -> str:
    """Python for the field of a member of the family: `FAMILY["rtdetr"].normaliser["bbox"]`."""
    record: Any = FAMILY[name]
    text = f'FAMILY["{name}"]'
    for part in path.split("."):
        text += f'["{part}"]' if isinstance(record, Mapping) else f".{part}"
        record = value_in(record, part)
    return text


def _decides(path: str) -> bool:
    return path not in NOT_TOLD and path.partition(".")[0] not in NOT_TOLD


def _unit(path: str) -> str:
    """The path of the decision that a single value belongs to."""
    names = path.split(".")
    return ".".join(names[: WHOLE.get(names[0], len(names))])


def _further(path: str) -> tuple[Any, ...]:
    return FURTHER.get("normaliser" if path.startswith("normaliser.") else path, ())


def _alternatives(path: str) -> Iterator[Alternative]:
    """Those of the family, those of fields like this one, and further ones; each value once."""
    seen: list[Any] = []
    for each in (*_of_family(path), *_of_like_fields(path), *(Alternative(*further) for further in _further(path))):
        if each.value not in seen:
            seen.append(each.value)
            yield each


def _of_family(path: str) -> Iterator[Alternative]:
    for name, spec in FAMILY.items():
        try:
            value = value_in(spec, path)
        except KeyError:
            continue
        sentence, link = _said(spec, path, value)
        following = {own: value_in(spec, own) for own in FOLLOWING.get(path, ())}
        yield Alternative(value, expression(name, path), sentence, link, following)


def _of_like_fields(path: str) -> Iterator[Alternative]:
    """What the family divides other terms by, and how it guards other areas."""
    like = {"guard": ["matcher.guard"], "matcher.guard": ["guard"]}.get(path, [])
    if path.startswith("normaliser."):
        like = [f"normaliser.{term}" for term in widest_spec().normaliser if f"normaliser.{term}" != path]
    for other in like:
        yield from _of_family(other)


def _said(spec: LossSpec, path: str, value: Any) -> tuple[str, str]:  # noqa: ANN401  # a decision of any kind
    """A sentence and a link: of the value where it has its own words, else of the difference that it belongs to."""
    difference = next((each for own, each in spec.differences.items() if _overlap(own, path)), None)
    link = "" if difference is None else difference.link
    if isinstance(value, Guard):
        return said_of_guard(value), link
    if difference is not None and not path.startswith("normaliser."):
        return difference.sentence, link
    if isinstance(value, ClassTerm):
        return _said_of_term(value), link
    return SAID.get(path) or said(value), link


def class_losses() -> dict[str, LossSpec]:
    """Every classification loss, with a member of the family that has it."""
    return {name: spec for spec in reversed(FAMILY.values()) for name in spec.class_terms}


def _overlap(one: str, other: str) -> bool:
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _said_of_term(term: ClassTerm) -> str:
    weight = "1." if term.weight is None else said(term.weight)
    return f"Weight: {weight} Target: {said(term.target)}"
