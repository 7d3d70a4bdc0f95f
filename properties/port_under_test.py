"""A port under judgement: calls it, distrusts what comes back, and compares it with the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from detr_conformance.properties import answers, oracle
from detr_conformance.properties.case import CLASSIFICATION, LossCase, LossConfig
from detr_conformance.properties.own_options import changed_options, with_own_options
from detr_conformance.properties.place import Raised, raised_by
from detr_conformance.properties.port import (
    DenoisingGroup,
    LossResult,
    Matching,
    Port,
    capabilities_of,
    keys_of,
    options_of,
)
from detr_conformance.properties.tolerance import allowed_error, budget_shares
from detr_conformance.reference import FAMILY, ClassTerm, Loss, Losses, LossSpec, Tracked, track
from detr_conformance.reference.keys import TERMS, Call, KeyTable, LayersOfTerm
from detr_conformance.reference.layers import Stack, Weights
from detr_conformance.reference.terms import Term

Answer = TypeVar("Answer")


class PortError(Exception):
    """The port raised, or returned something that cannot be compared: not a verdict on its numbers.

    Attributes:
        raised: what the port raised; None if it returned something.
    """

    raised: Raised | None = None


class PortTimeout(BaseException):  # no Error: Hypothesis and ports must not take it for one of theirs
    """A port took too long. Whoever watches the clock raises it, in the middle of whatever is running."""

    def in_call(self, method: str) -> PortTimeout:
        """The same, of a call of this method."""
        return PortTimeout(f"{method}(case): {self}")


class OutOfScope(Exception):  # noqa: N818  # no error: the case is left to other rules
    """The rule cannot judge this case: rounding decides who is matched with whom, so the loss has no single value."""


def _failure(method: str, raised: Raised) -> PortError:
    where = "" if raised.place is None else f", at {raised.place}"
    failure = PortError(f"{method}(case) raised {raised.type}: {raised.message}{where}")
    failure.raised = raised
    return failure


def spec_of(port: Port) -> LossSpec:
    """The conventions that a port follows.

    Raises:
        ValueError: it names a spec that nobody knows.
    """
    if isinstance(port.profile, LossSpec):
        return port.profile
    if port.profile not in FAMILY:
        raise ValueError(f"port {port.name!r} names the profile {port.profile!r}, known are: {', '.join(FAMILY)}")
    return FAMILY[port.profile]


def call_of(case: LossCase, spec: LossSpec) -> Call:
    """What decides which keys a call with this case returns."""
    dn = 0 if case.denoising is None else len(case.denoising.bboxes)
    ordinary, denoising = Stack(case.layers, has_denoising=dn > 0), Stack(dn, is_denoising=True, has_denoising=True)
    further = {name.partition("_")[2] for name in case.predictions()}
    extra, optional = dict[str, LayersOfTerm](), dict[str, LayersOfTerm]()
    for name, term in spec.terms_of(further).items():
        extra[name] = LayersOfTerm(*(layers_that_need(term, stack) for stack in (ordinary, denoising)))
        optional[name] = LayersOfTerm(*(_optional(term, stack) for stack in (ordinary, denoising)))
    return Call(case.layers, case.config.aux_loss, dn, case.config.classification, extra, optional)


def layers_that_need(term: Term, stack: Stack) -> frozenset[int]:
    """The layers of a stack that must return an extra term."""
    return _having(term.layers, stack) - _having(term.optional, stack)


def _optional(term: Term, stack: Stack) -> frozenset[int]:
    """Those that may return it."""
    return _having(term.layers, stack) & _having(term.optional, stack)


def _having(weights: Callable[[Stack], Weights], stack: Stack) -> frozenset[int]:
    return frozenset(place for place, has in enumerate(weights(stack)) if has)


class PortUnderTest:
    """One port and its spec, and the largest share of any budget that it has used; None before any comparison.

    Args:
        port: the port.
        spec: the conventions to hold it to; by default those that it names.
    """

    def __init__(self, port: Port, spec: LossSpec | None = None) -> None:
        """Look up the spec that the port names."""
        self.port = port
        self.spec = spec_of(port) if spec is None else spec
        self.capabilities = capabilities_of(port)
        own_keys = keys_of(port)
        self.keys: KeyTable = self.spec.keys if own_keys is None else own_keys
        self.largest_share: float | None = None

    def can(self, *capabilities: str) -> bool:
        """Whether the port has declared all of these, and its spec knows them."""
        return set(capabilities) <= self.capabilities - self.spec.undefined.keys()

    def may_be_asked(self, **options: Any) -> bool:
        """Whether the port takes these values of its options; of gains those count that a loss reads."""
        restricted = options_of(self.port)
        return all(_read_of(value) in map(_read_of, restricted.get(name, (value,))) for name, value in options.items())

    def config(self, case: LossCase) -> LossConfig:
        """The options of the case, as far as the spec heeds them."""
        return self.spec.options(case.config)

    def gain(self, case: LossCase, term: str) -> float:
        """The gain of a term; that of the spec, where the options of the case name none for an extra one."""
        gains = self.config(case).loss_gain
        return gains[term] if term in gains else self.spec.extra_terms[term].gain

    def class_term(self, case: LossCase) -> ClassTerm:
        """The classification loss that the case asks for, as the spec has it for a batch with targets."""
        return self.spec.class_term(case.config)

    def each_classification(self, case: LossCase) -> Iterator[LossCase]:
        """The case once for each classification loss that the port and its spec have, and that takes its gamma."""
        for name in sorted(self.spec.class_terms.keys() & CLASSIFICATION.keys() & self.port.capabilities):
            if case.config.gamma > 0.0 or self.spec.class_terms[name].any_gamma:
                yield case.change(**CLASSIFICATION[name])

    def loss(self, case: LossCase) -> ReturnedLosses:
        """Call the loss.

        Raises:
            PortError: the port raised, or what it returned is no set of losses.
        """
        own = with_own_options(case)
        return self._returned(self._ask("loss", own, answers.loss_result), own, case)

    def losses_in_turn(self, cases: Sequence[LossCase]) -> list[ReturnedLosses]:
        """Call one and the same loss object on several cases, one after the other."""
        return self._several("losses_in_turn", cases)

    def losses_of_ranks(self, cases: Sequence[LossCase]) -> list[ReturnedLosses]:
        """Ask for the losses of every rank of a data-parallel run."""
        return self._several("losses_of_ranks", cases)

    def losses_of_steps(self, cases: Sequence[LossCase]) -> list[ReturnedLosses]:
        """Ask for the losses of every micro-batch of an optimiser step, with the normaliser of all of them."""
        return self._several("losses_of_steps", cases)

    def _several(self, method: str, cases: Sequence[LossCase]) -> list[ReturnedLosses]:
        copies = {id(case): with_own_options(case) for case in cases}
        own = [copies[id(case)] for case in cases]
        results = self._ask(method, own, answers.loss_results)
        if len(results) != len(cases):
            raise PortError(f"{method}(cases) returned {len(results)} results for {len(cases)} cases")
        return [self._returned(*each) for each in zip(results, own, cases, strict=True)]

    def _returned(self, result: LossResult, given: LossCase, case: LossCase) -> ReturnedLosses:
        """The result, which also names the options that a call has changed."""
        return ReturnedLosses(replace(result, mutated=[*result.mutated, *changed_options(given, case)]), case, self)

    def defaults(self, case: LossCase) -> dict[str, Any]:
        """Ask for the defaults of the constructor."""
        return self._ask("defaults", with_own_options(case), answers.options)

    def point_counts(self, case: LossCase) -> dict[str, int]:
        """Ask how many points are drawn; by `losses` and `matcher`."""
        return self._ask("point_counts", with_own_options(case), answers.point_counts)

    def loss_in_mode(self, case: LossCase, mode: str) -> ReturnedLosses:
        """Call the loss in one of `port.MODES`."""
        own = with_own_options(case)
        return self._returned(self._ask("loss_in_mode", own, answers.loss_result, mode), own, case)

    def loss_in_situation(self, case: LossCase, situation: str) -> ReturnedLosses:
        """Call the loss in one of `port.SITUATIONS`."""
        own = with_own_options(case)
        return self._returned(self._ask("loss_in_situation", own, answers.loss_result, situation), own, case)

    def loss_built(self, case: LossCase, passing: str) -> ReturnedLosses:
        """Call a loss whose options are passed in one of the ways of `port.PASSING`."""
        own = with_own_options(case)
        return self._returned(self._ask("loss_built", own, answers.loss_result, passing), own, case)

    def match_built(self, case: LossCase, passing: str) -> list[list[Matching]]:
        """Call a matcher with the options of the case, passed likewise."""
        return self._ask("match_built", with_own_options(case), answers.matchings, passing)

    def denoising_group_called(self, case: LossCase, passing: str) -> DenoisingGroup | None:
        """Ask for denoising queries, with options passed likewise."""
        return self._ask("denoising_group_called", with_own_options(case), answers.denoising_group, passing)

    def accumulated_gradients(
        self, case: LossCase, passes: Sequence[Mapping[str, float]]
    ) -> list[dict[str, np.ndarray]]:
        """Ask for what several backward passes leave in the gradient of each input; weights by canonical keys."""
        returned = self.loss(case)
        names = {key: str(returned.canonical(key)) for key in returned.result.losses}
        own = [{key: weights[name] for key, name in names.items() if name in weights} for weights in passes]
        shapes = {name: array.shape for name, array in returned.inputs().items()}
        return self._ask(
            "accumulated_gradients",
            with_own_options(case),
            lambda answer: answers.accumulated_gradients(answer, len(passes), shapes),
            own,
        )

    def match(self, case: LossCase) -> list[list[Matching]]:
        """Call the matcher; for each layer, and in it for each image, queries and targets."""
        return self._ask("match", with_own_options(case), answers.matchings)

    def denoising_indices(self, case: LossCase) -> list[Matching]:
        """Ask for the pairing of denoising queries; for each image slots and targets."""
        return self._ask("denoising_indices", with_own_options(case), answers.pairs)

    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Ask for denoising queries."""
        return self._ask("denoising_group", with_own_options(case), answers.denoising_group)

    def expected(self, case: LossCase) -> Losses:
        """What the port must return, under canonical keys.

        Raises:
            OutOfScope: rounding decides who is matched with whom. The loss has several legal values then, and the
                rules on matching are the ones to judge the case.
        """
        self.require_certain_matching(case)
        return oracle.expected_losses(case, self.spec)

    def expected_of_ranks(self, cases: Sequence[LossCase]) -> list[Losses]:
        """What every rank must return; raises as `expected`."""
        for case in cases:
            self.require_certain_matching(case)
        return oracle.expected_losses_of_ranks(tuple(cases), self.spec)

    def expected_of_steps(self, cases: Sequence[LossCase]) -> list[Losses]:
        """What every micro-batch must return; raises as `expected`."""
        for case in cases:
            self.require_certain_matching(case)
        return oracle.expected_losses_of_steps(tuple(cases), self.spec)

    def require_certain_matching(self, case: LossCase) -> None:
        """Raise OutOfScope where rounding decides who is matched with whom."""
        if not oracle.matching_is_certain(case, self.spec):
            raise OutOfScope("rounding decides who is matched with whom")

    def _ask(
        self, method: str, argument: LossCase | Sequence[LossCase], read: Callable[[Any], Answer], *more: Any
    ) -> Answer:
        failure: PortError | None = None
        try:
            answer = getattr(self.port, method)(argument, *more)
        except PortTimeout as timeout:
            raise timeout.in_call(method) from None
        except (Exception, SystemExit) as error:  # noqa: BLE001  # raised below
            failure = _failure(method, raised_by(error))
        if failure is not None:  # not while the exception is handled: nobody has to look at one of somebody else's
            raise failure
        try:
            return read(answer)
        except (TypeError, ValueError) as error:
            raise PortError(f"{method}(case) returned {error}") from error

    def budget(self, expected: Loss, dtype: str) -> float:
        """The allowed error of one loss."""
        return float(allowed_error(expected.value, dtype))

    def use(self, share: float) -> None:
        """Remember how much of a budget was used."""
        self.largest_share = max(self.largest_share or 0.0, share)

    def compare(self, what: str, got: np.ndarray, expected: Tracked, dtype: str, by: str = "") -> None:
        """Fail where any entry is further off than its budget.

        Args:
            what: is compared.
            got: what the port returned.
            expected: what it must be.
            dtype: of the predictions.
            by: what of the port's own the expectation was made of; empty where it is the reference's.

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
                f"{what}{where}: expected {wanted:.9g}{f' by its own {by}' if by else ''}, "
                f"the port returned {came:.9g}; "
                f"off by {abs(came - wanted):.3g}, {share:.3g} times what rounding in {dtype} explains"
            )
        self.use(share)


OTHER_CALL = "answer to another call"
"""What the expectation is made of where two calls are compared; either of them may be wrong."""


class ReturnedLosses:
    """What one call of the loss returned, under canonical keys.

    Args:
        result: what came from the port.
        case: what it was called with.
        judged: the port.
    """

    def __init__(self, result: LossResult, case: LossCase, judged: PortUnderTest) -> None:
        """Sum up the port's keys under the canonical ones."""
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

    def assert_number(self, key: str, number: float, expected: Loss) -> None:
        """One loss equal to a number worked out without the reference, within the budget of what the reference expects.

        The budget counts twice: a formula for a special case rounds otherwise than the general one.
        """
        __tracebackhide__ = True
        self.judged.compare(key, self.value(key), _around(np.float64(number), expected, 2.0), self.case.dtype)

    def assert_gradients(self, expected: Losses, keys: Iterable[str] | None = None) -> None:
        """The gradient of every loss with respect to every input within its budget, entry by entry."""
        __tracebackhide__ = True
        for key in expected if keys is None else keys:
            for name in self.inputs():
                self.assert_gradient(key, name, expected[key])

    def assert_gradient(self, key: str, name: str, expected: Loss) -> None:
        """The gradient of one loss with respect to one input within its budget, entry by entry."""
        __tracebackhide__ = True
        wanted = expected.gradients.get(name, track(np.zeros(self.inputs()[name].shape)))
        what = f"gradient of {key} with respect to {name}"
        self.judged.compare(what, self.gradient(key, name), wanted, self.case.dtype)

    def assert_alike(
        self, other: ReturnedLosses, key: str, expected: Loss, factor: float = 1.0, more: float = 0.0
    ) -> None:
        """One loss equal to that of another call, times a factor, plus a number, within both budgets together."""
        __tracebackhide__ = True
        wanted = _around(factor * other.value(key) + more, expected, 2.0 * max(abs(factor), 1.0 if more else 0.0))
        self.judged.compare(key, self.value(key), wanted, self.case.dtype, OTHER_CALL)

    def assert_gradient_alike(self, other: ReturnedLosses, key: str, name: str, expected: Loss, factor: float) -> None:
        """The gradient of one loss equal to that of another call, times a factor, within both budgets together."""
        __tracebackhide__ = True
        wanted = factor * other.gradient(key, name)
        allowed = expected.gradients.get(name, track(np.zeros(wanted.shape))).magnitude
        # Where the derivative is left open the budget is infinite, also times a factor of 0.
        is_open = np.isinf(allowed)
        budgets = np.where(is_open, np.inf, 2.0 * abs(factor) * np.where(is_open, 0.0, allowed))
        self.judged.compare(
            f"gradient of {key} with respect to {name}",
            self.gradient(key, name),
            Tracked(wanted, budgets),
            self.case.dtype,
            OTHER_CALL,
        )

    def assert_multiple(self, key: str, base: str, factor: float, expected: Loss) -> None:
        """One loss equal to another of the same call, times a factor; `expected` is the other's expectation."""
        __tracebackhide__ = True
        wanted = _around(factor * self.value(base), expected, 2.0 * abs(factor) * (1.0 + abs(factor)))
        self.judged.compare(key, self.value(key), wanted, self.case.dtype, base)

    def value(self, key: str) -> np.ndarray:
        """A loss under its canonical key; 0 where a call like this one has no part of it.

        Raises:
            AssertionError: the port has left it out, or a part of it.
        """
        __tracebackhide__ = True
        self._refuse_absent(key)
        return self.values.get(key, np.zeros(()))

    def gradient(self, key: str, name: str) -> np.ndarray:
        """Gradient of a loss with respect to an input; zeros where the port reports no connection.

        Raises:
            AssertionError: as for `value`.
        """
        __tracebackhide__ = True
        self._refuse_absent(key)
        return self.gradient_of_parts(key, name)

    def gradient_of_parts(self, key: str, name: str) -> np.ndarray:
        """The same, of as much of the loss as the port has returned."""
        shape = self.inputs()[name].shape
        by_key = self.result.gradients
        try:
            parts = [answers.gradient(by_key, own, name, shape) for own in self._own_keys.get(key, ())]
        except (TypeError, ValueError) as error:
            raise PortError(f"loss(case) returned {error}") from error
        return sum(parts, start=np.zeros(shape))

    def inputs(self) -> dict[str, np.ndarray]:
        """The predictions that losses are differentiated by."""
        return self.case.predictions()

    def canonical(self, key: str) -> str | None:
        """The canonical key that one of the port's keys is part of; None for a key without a meaning."""
        return self.judged.keys.canonical(key, self.call)

    @cached_property
    def _own_keys(self) -> dict[str | None, list[str]]:
        """The keys that the port has returned, by canonical key."""
        own: dict[str | None, list[str]] = {}
        for key in self.result.losses:
            own.setdefault(self.canonical(key), []).append(key)
        return own

    @cached_property
    def call(self) -> Call:
        """What decides which keys there are."""
        return call_of(self.case, self.judged.spec)

    @cached_property
    def absent(self) -> list[str]:
        """Keys that the port ought to have returned, by the names that it is nearest to."""
        came = set(self.result.losses)
        return sorted(min(self.judged.keys.expected(self.call), key=lambda keys: len(keys ^ came)) - came)

    def _refuse_absent(self, key: str) -> None:
        """Fail if the port ought to have returned a part of this loss, and has not."""
        __tracebackhide__ = True
        absent = [own for own in self.absent if self.canonical(own) == key]
        if absent and (self.judged.can("denoising") or not key.endswith("_dn")):
            unknown = sorted(self._own_keys.get(None, ()))
            more = f"; unknown here: {', '.join(unknown)}" if unknown else ""
            raise AssertionError(f"the port returned no {', '.join(absent)}{more}")

    def _summed(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add up layers that the port reports one by one. Keys without a meaning are for the rules on keys."""
        totals: dict[str, np.ndarray] = {}
        for key, value in values.items():
            canonical = self.canonical(key)
            if canonical is not None:
                totals[canonical] = np.asarray(totals.get(canonical, 0.0) + value)
        return totals

    def _scalar(self, key: str, value: np.ndarray) -> np.ndarray:
        """The number in an array of one entry; shapes other than () are for the rules on shapes."""
        if value.size != 1:
            raise PortError(f"loss {key!r} has shape {value.shape}, expected a scalar")
        return value.reshape(())


def _read_of(value: Any) -> Any:  # of any option
    """The value of an option, of gains those of class, bbox and giou: Ultralytics' mappings hold others as well."""
    return {term: value.get(term) for term in TERMS} if isinstance(value, Mapping) else value


def _around(value: np.ndarray | np.float64, expected: Loss, budgets: float) -> Tracked:
    """A value that came from the port itself, to compare another with: its budget is several expectations' together."""
    return Tracked(value, np.asarray(budgets * expected.magnitude))
