"""A port under judgement: calls it, distrusts what comes back, and compares it with the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import CLASSIFICATION, LossCase
from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching, Port
from detr_conformance.properties.profiles import PROFILES, Profile
from detr_conformance.properties.tolerance import allowed_error, budget_shares
from detr_conformance.reference import Loss, Losses, Tracked, track

INPUTS = ("pred_bboxes", "pred_scores", "dn_bboxes", "dn_scores")


class PortError(Exception):
    """The port raised, or returned something that cannot be compared: not a verdict on its numbers."""


class PortTimeout(BaseException):  # no Error: Hypothesis and ports must not take it for one of theirs
    """A port took too long. Whoever watches the clock raises it, in the middle of whatever is running."""


class OutOfScope(Exception):  # noqa: N818  # no error: the case is left to other rules
    """The rule cannot judge this case: rounding decides who is matched with whom, so the loss has no single value."""


class Judged:
    """One port and its profile, and the largest share of any budget that it has used; None before any comparison.

    Args:
        port: the port.
        profile: the conventions to hold it to; by default those that it names.
    """

    def __init__(self, port: Port, profile: Profile | None = None) -> None:
        """Look up the profile that the port names."""
        if profile is None and port.profile not in PROFILES:
            raise ValueError(f"port {port.name!r} names the profile {port.profile!r}, known are: {', '.join(PROFILES)}")
        self.port = port
        self.profile = profile if profile is not None else PROFILES[port.profile]
        self.largest_share: float | None = None

    def can(self, *capabilities: str) -> bool:
        """Whether the port has declared all of these."""
        return set(capabilities) <= self.port.capabilities

    def each_classification(self, case: LossCase) -> Iterator[LossCase]:
        """The case once for each classification loss that the port has."""
        for name in sorted(set(CLASSIFICATION) & self.port.capabilities):
            yield case.change(**CLASSIFICATION[name])

    def loss(self, case: LossCase) -> Returned:
        """Call the loss.

        Raises:
            PortError: the port raised, or what it returned is no set of losses.
        """
        result = self._call("loss", case)
        if not isinstance(result, LossResult):
            raise PortError(f"loss(case) returned {type(result).__name__}, expected a LossResult")
        return Returned(result, case, self)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> list[Returned]:
        """Call one and the same loss object on several cases, one after the other."""
        results = self._call("losses_in_turn", cases)
        return [Returned(result, case, self) for result, case in zip(results, cases, strict=True)]

    def match(self, case: LossCase) -> list[list[Matching]]:
        """Call the matcher; for each layer, and in it for each image, queries and targets."""
        layers = self._call("match", case)
        try:
            return [[_pair(*image) for image in layer] for layer in layers]
        except (TypeError, ValueError) as error:
            raise PortError(f"match(case) returned {_short(layers)}, expected layers of (queries, targets)") from error

    def denoising_indices(self, case: LossCase) -> list[Matching]:
        """Ask for the pairing of denoising queries; for each image slots and targets."""
        images = self._call("denoising_indices", case)
        try:
            return [_pair(*image) for image in images]
        except (TypeError, ValueError) as error:
            raise PortError(f"denoising_indices(case) returned {_short(images)}, expected (slots, targets)") from error

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Ask for denoising queries."""
        group = self._call("denoising_group", case)
        if group is not None and not isinstance(group, DenoisingGroup):
            raise PortError(f"denoising_group(case) returned {type(group).__name__}, expected a DenoisingGroup or None")
        return group

    def expected(self, case: LossCase) -> Losses:
        """What the port must return, under the base profile's keys.

        Raises:
            OutOfScope: rounding decides who is matched with whom. The loss has several legal values then, and the
                rules on matching are the ones to judge the case.
        """
        if not oracle.matching_is_certain(case, self.profile):
            raise OutOfScope("rounding decides who is matched with whom")
        return oracle.expected_losses(case, self.profile)

    def _call(self, method: str, argument: LossCase | Sequence[LossCase]) -> Any:
        try:
            return getattr(self.port, method)(argument)
        except (Exception, SystemExit) as error:
            raise PortError(f"{method}(case) raised {type(error).__name__}: {_short(error)}") from error

    def budget(self, expected: Loss, dtype: str) -> float:
        """The allowed error of one loss."""
        return float(allowed_error(expected.value, dtype))

    def use(self, share: float) -> None:
        """Remember how much of a budget was used."""
        self.largest_share = max(self.largest_share or 0.0, share)

    def compare(self, what: str, got: np.ndarray, expected: Tracked, dtype: str) -> None:
        """Fail where any entry is further off than its budget.

        Raises:
            AssertionError: names the worst entry, both values, and the share of the budget.
        """
        __tracebackhide__ = True
        if np.shape(got) != expected.shape:
            raise AssertionError(f"{what} has shape {np.shape(got)}, expected {expected.shape}")
        shares = np.atleast_1d(budget_shares(got, expected, dtype))
        worst = np.unravel_index(int(shares.argmax()), shares.shape) if shares.size else ()
        share = float(shares[worst]) if shares.size else 0.0
        if share > 1.0:
            where = f"[{', '.join(str(int(axis)) for axis in worst)}]" if expected.ndim else ""
            came, wanted = np.atleast_1d(got)[worst], np.atleast_1d(expected.values)[worst]
            raise AssertionError(
                f"{what}{where}: expected {wanted:.9g}, the port returned {came:.9g}; "
                f"off by {abs(came - wanted):.3g}, {share:.3g} times what rounding in {dtype} explains"
            )
        self.use(share)


class Returned:
    """What one call of the loss returned, under the base profile's keys.

    Args:
        result: what came from the port.
        case: what it was called with.
        judged: the port.
    """

    def __init__(self, result: LossResult, case: LossCase, judged: Judged) -> None:
        """Sum up the port's keys under those of the base profile."""
        self.result = result
        self.case = case
        self.judged = judged
        self.values = self._summed({key: self._scalar(key, value) for key, value in result.losses.items()})

    def assert_values(self, expected: Losses, keys: Iterable[str] | None = None) -> None:
        """Every loss within its budget; `keys` restricts which are looked at."""
        __tracebackhide__ = True
        for key in expected if keys is None else keys:
            self.assert_value(key, expected[key].value)

    def assert_value(self, key: str, expected: Tracked) -> None:
        """One loss within the budget of its expectation."""
        __tracebackhide__ = True
        self.judged.compare(key, self.value(key), expected, self.case.dtype)

    def assert_gradients(self, expected: Losses, keys: Iterable[str] | None = None) -> None:
        """The gradient of every loss by every input within its budget, entry by entry."""
        __tracebackhide__ = True
        for key in expected if keys is None else keys:
            for name in self.inputs():
                self.assert_gradient(key, name, expected[key])

    def assert_gradient(self, key: str, name: str, expected: Loss) -> None:
        """The gradient of one loss by one input within its budget, entry by entry."""
        __tracebackhide__ = True
        wanted = expected.gradients.get(name, track(np.zeros(self.inputs()[name].shape)))
        self.judged.compare(f"gradient of {key} by {name}", self.gradient(key, name), wanted, self.case.dtype)

    def assert_alike(self, other: Returned, key: str, expected: Loss, factor: float = 1.0) -> None:
        """One loss equal to that of another call, times a factor, within both budgets together."""
        __tracebackhide__ = True
        wanted = _around(factor * other.value(key), expected, 1.0 + abs(factor))
        self.judged.compare(key, self.value(key), wanted, self.case.dtype)

    def assert_multiple(self, key: str, base: str, factor: float, expected: Loss) -> None:
        """One loss equal to another of the same call, times a factor; `expected` is the other's expectation."""
        __tracebackhide__ = True
        wanted = _around(factor * self.value(base), expected, 2.0 * abs(factor) * (1.0 + abs(factor)))
        self.judged.compare(key, self.value(key), wanted, self.case.dtype)

    def value(self, key: str) -> np.ndarray:
        """A loss under the base profile's key; 0 if the port has none of its parts."""
        return self.values.get(key, np.zeros(()))

    def gradient(self, key: str, name: str) -> np.ndarray:
        """Gradient of a loss by an input; zeros where the port reports no connection."""
        parts = [
            self._gradient(own, name)
            for own in self.result.losses
            if self._canonical(own) == key and name in self.result.gradients.get(own, {})
        ]
        return sum(parts, start=np.zeros(self.inputs()[name].shape))

    def inputs(self) -> dict[str, np.ndarray]:
        """The predictions that losses are differentiated by."""
        return {name: array for name, array in self.case.float_arrays().items() if name in INPUTS}

    def _canonical(self, key: str) -> str | None:
        layers = 0 if self.case.denoising is None else len(self.case.denoising.bboxes)
        return self.judged.profile.keys.canonical(key, layers)

    def _summed(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add up layers that the port reports one by one. Keys without a meaning are for the rules on keys."""
        totals: dict[str, np.ndarray] = {}
        for key, value in values.items():
            canonical = self._canonical(key)
            if canonical is not None:
                totals[canonical] = totals.get(canonical, np.zeros(())) + value
        return totals

    def _scalar(self, key: str, value: Any) -> np.ndarray:
        """The number in an array of one entry; shapes other than () are for the rules on shapes."""
        number = _array(value, f"loss {key!r}")
        if number.size != 1:
            raise PortError(f"loss {key!r} has shape {number.shape}, expected a scalar")
        return number.reshape(())

    def _gradient(self, key: str, name: str) -> np.ndarray:
        gradient = _array(self.result.gradients[key][name], f"gradient of {key!r} by {name}")
        if gradient.shape != self.inputs()[name].shape:
            raise PortError(
                f"gradient of {key!r} by {name} has shape {gradient.shape}, expected {self.inputs()[name].shape}"
            )
        return gradient


def _around(value: np.ndarray, expected: Loss, budgets: float) -> Tracked:
    """A value that came from the port itself, to compare another with: its budget is several expectations' together."""
    return Tracked(value, np.asarray(budgets * expected.magnitude))


def _array(value: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PortError(f"{what} is {_short(value)}, expected numbers") from error


def _pair(queries: Any, targets: Any) -> Matching:
    """Two arrays of indices; an empty one may come as floats."""
    pair = []
    for indices in (queries, targets):
        array = np.asarray(indices).reshape(-1)
        if array.size and not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"indices have dtype {array.dtype}")
        pair.append(array.astype(np.int64))
    return pair[0], pair[1]


def _short(value: Any, limit: int = 200) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= limit else f"{text[:limit]}…"
