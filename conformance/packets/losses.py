"""Lines about what a loss returned: losses, gradients, keys, shapes, dtypes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from detr_conformance.packets.lines import Line, Step, entries, number, text
from detr_conformance.properties import answers, oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortError, PortUnderTest, ReturnedLosses
from detr_conformance.properties.rules.api import legal_dtypes, legal_keys
from detr_conformance.properties.tolerance import allowed_error
from detr_conformance.reference import Losses, Tracked, track
from detr_conformance.reference.rounding import plain


class Result:
    """One result of the loss.

    Args:
        answer: what the port returned.
        case: what it was asked.
        judged: the port.
        way: the path to this result from what the call returned.
        expected: what the reference says of it; None where it has no single answer.

    Raises:
        PortError, TypeError, ValueError: it is no set of losses.
    """

    def __init__(
        self, answer: object, case: LossCase, judged: PortUnderTest, way: list[Step], expected: Losses | None
    ) -> None:
        """Read the answer."""
        self.returned = ReturnedLosses(answers.loss_result(answer), case, judged)
        self.case = case
        self.judged = judged
        self.way = way
        self.name = f"result {way[0]}, " if way else ""
        self.expected = expected

    def as_the_rule(self, key: str, expected: Tracked) -> list[Line]:
        """A line about one loss beside what a rule expected of it; none if the loss is within that budget."""
        ways, allowed = self._ways(key), float(allowed_error(expected, self.case.dtype))
        line = number(self.name + key, ways, float(self.returned.values.get(key, 0.0)), float(expected.values), allowed)
        return [line] if ways and line.off else []

    def lines(self, asked: set[str]) -> Iterator[Line]:
        """Every loss, and whatever else is wrong; of the gradients those that were asked for."""
        yield from self._values()
        yield from self._gradients({self.returned.canonical(key) for key in asked})
        yield from self._keys()
        yield from self._forms()

    def _ways(self, key: str, *part: Step) -> list[list[Step]]:
        """Paths to the port's own losses that make up one under a canonical key."""
        own = [each for each in self.returned.result.losses if self.returned.canonical(each) == key]
        return [[*self.way, "gradients" if part else "losses", each, *part] for each in own]

    def _values(self) -> Iterator[Line]:
        for key in self.returned.values if self.expected is None else self.expected:
            ways = self._ways(key)
            if not ways:
                continue  # what is missing is told by the keys
            got = float(self.returned.values[key])
            if self.expected is None:
                yield number(self.name + key, ways, got, np.nan, np.nan).recorded()
                continue
            value = self.expected[key].value
            allowed = float(allowed_error(value, self.case.dtype))
            if np.isfinite(allowed):
                yield number(self.name + key, ways, got, float(value.values), allowed)

    def _gradients(self, keys: set[str | None]) -> Iterator[Line]:
        for key in sorted(each for each in keys if each is not None):
            for name in self.returned.inputs():
                with suppress(AssertionError):  # what is missing is told by the keys
                    values, allowed = self._expected_gradient(key, name)
                    what = f"{self.name}gradient of {key} with respect to {name}"
                    got = self.returned.gradient(key, name)
                    yield from entries(what, self._ways(key, name), got, values, allowed, "gradient")

    def _expected_gradient(self, key: str, name: str) -> tuple[np.ndarray, np.ndarray]:
        """What it has to be, and how far off it may be: any number where the loss has several values."""
        inputs = self.returned.inputs()
        zeros = np.zeros(inputs[name].shape)
        if self.expected is None:
            finite = all(np.isfinite(array).all() for array in inputs.values())
            return zeros if finite else self.returned.gradient(key, name), zeros + np.inf
        if key not in self.expected or name not in self.expected[key].gradients:
            return zeros, zeros
        wanted = self.expected[key].gradients[name]
        return wanted.values, allowed_error(wanted, self.case.dtype)

    def _keys(self) -> Iterator[Line]:
        came = set(self.returned.result.losses)
        wanted, known = legal_keys(self.returned)
        if not wanted <= came <= known:
            yield text("keys", f"{self.name}keys", [*self.way, "losses"], sorted(came), sorted(came & known | wanted))

    def _forms(self) -> Iterator[Line]:
        """Shapes, dtypes and changed inputs that are not as they have to be."""
        result = self.returned.result
        for key, loss in result.losses.items():
            if np.shape(loss):
                yield text("shape", f"{self.name}shape of {key}", [*self.way, "losses", key], np.shape(loss), ())
        for key, dtype in result.dtypes.items():
            legal = legal_dtypes(result.losses.get(key), self.case.dtype)
            if dtype not in legal:
                yield text("list", f"{self.name}dtype of {key}", [*self.way, "dtypes", key], dtype, *legal)
        if result.mutated:
            what = f"{self.name}inputs that the call changed"
            yield text("list", what, [*self.way, "mutated"], list(result.mutated), [])


def loss_lines(
    method: str, answer: object, cases: tuple[LossCase, ...], judged: PortUnderTest, asked: list[set[str]]
) -> list[Line]:
    """Lines about a result of `loss`, or about those of a method that returns several."""
    results = answer if isinstance(answer, list) else [answer]
    expected = _expected_of(method, cases, judged)
    lines: list[Line] = []
    for place, (result, case, wanted) in enumerate(zip(results, cases, expected, strict=False)):
        way: list[Step] = [place] if isinstance(answer, list) else []
        try:
            lines += Result(result, case, judged, way, wanted).lines(asked[place] if place < len(asked) else set())
        except (TypeError, ValueError, PortError):
            return [text("type", "type of the answer", [], type(answer).__name__, "LossResult")]
    return lines


def accumulated_lines(
    answer: object, case: LossCase, judged: PortUnderTest, passes: Sequence[Mapping[str, float]]
) -> list[Line]:
    """Lines about what backward passes have left in the gradients of predictions; none of what has several values."""
    returned, expected = judged.loss(case), expected_losses(case, judged)
    shapes = {name: array.shape for name, array in returned.inputs().items()}
    try:
        found = answers.accumulated_gradients(answer, len(passes), shapes)
    except (TypeError, ValueError):
        return [text("type", "type of the answer", [], type(answer).__name__, "list")]
    if expected is None:
        return []
    weights = [
        {key: weight for own, weight in each.items() if (key := returned.canonical(own)) is not None} for each in passes
    ]
    wanted = judged.spec.accumulated({key: loss.gradients for key, loss in expected.items()}, weights)
    lines: list[Line] = []
    for place, (came, right) in enumerate(zip(found, wanted, strict=True)):
        for name, grad in came.items():
            what = f"gradient with respect to {name} after backward pass {place + 1}"
            values = track(right.get(name, np.zeros(grad.shape)))
            allowed = allowed_error(values, case.dtype)
            lines += entries(what, [[place, name]], grad, plain(values), allowed, "accumulated")
    return lines


def default_lines(answer: object, case: LossCase, judged: PortUnderTest) -> list[Line]:
    """Lines about the defaults of a constructor that are in the recipe, each as its text."""
    try:
        found = answers.options(answer)
    except (TypeError, ValueError):
        return [text("type", "type of the answer", [], type(answer).__name__, "dict")]
    recipe = judged.spec.recipe.get(case.config.classification, {})
    return [
        text("list", name, [name], found[name], {**found[name], **_own(value, found[name])})
        if isinstance(value, Mapping)
        else text("list", name, [name], found[name], value)
        for name, (value, _) in recipe.items()
        if name in found
    ]


def point_count_lines(answer: object, case: LossCase, judged: PortUnderTest) -> list[Line]:
    """Lines about the numbers of points, each as its text."""
    counts = judged.spec.mask_points
    try:
        found = answers.point_counts(answer)
    except (TypeError, ValueError):
        return [text("type", "type of the answer", [], type(answer).__name__, "dict")]
    if counts is None or case.masks is None:
        return []
    size = case.masks.pred_masks.shape[-2:]
    right = {"losses": counts.losses(*size), "matcher": counts.matcher(*size)}
    return [text("list", f"points of {who}", [who], found[who], wanted) for who, wanted in right.items()]


def _own(published: Mapping[str, float], found: Mapping[str, float]) -> dict[str, float]:
    """The published gains of the terms that a port has."""
    return {term: gain for term, gain in published.items() if term in found}


def _expected_of(method: str, cases: tuple[LossCase, ...], judged: PortUnderTest) -> Sequence[Losses | None]:
    """What the reference says of each case; None where it has no single answer."""
    together = {
        "losses_of_ranks": oracle.expected_losses_of_ranks,
        "losses_of_steps": oracle.expected_losses_of_steps,
    }
    if method not in together:
        return [expected_losses(case, judged) for case in cases]
    if not all(oracle.matching_is_certain(case, judged.spec) for case in cases):
        return [None] * len(cases)
    return together[method](cases, judged.spec)


def expected_losses(case: LossCase, judged: PortUnderTest) -> Losses | None:
    """What the reference says; None where it has no single answer."""
    try:
        if oracle.matching_is_certain(case, judged.spec):
            return oracle.expected_losses(case, judged.spec)
    except (ValueError, OverflowError):
        return None
    return None
