"""Traces: what every decision of a spec came to, call by call, while a loss was computed.

The fields of the record are wrapped; the story and the formulas stay as they read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields, is_dataclass
from itertools import dropwhile
from typing import Any

import numpy as np

from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.tolerance import arithmetic
from detr_conformance.reference import ClassTerm, Criterion, LossSpec, Tracked, differing, replace_in
from detr_conformance.reference.loss import matcher_for
from detr_conformance.reference.matcher import Matcher
from detr_conformance.reference.spec import paths, value_in
from detr_conformance.reference.tape import Variable, gradients, stop_gradient, variable

Numbers = dict[str, Any]
"""Arrays, numbers and words by what they are."""

NOT_TRACED = ("matched", "background", "probe", "side_effects")
"""Ends of paths to functions that compute no part of a loss."""

NO_NUMBERS = (LossSpec, ClassTerm, Matcher, np.random.Generator)
"""Arguments that are decisions themselves, and what draws: the draws are compared, not how it gets at them."""


@dataclass(frozen=True)
class Call:
    """A field is called.

    Attributes:
        path: of the field.
        around: path of the field that is being called around it; empty for none.
        inputs: what it is given.
        on_tape: whether there are variables among them.
    """

    path: str
    around: str
    inputs: Numbers
    on_tape: bool = False


@dataclass(frozen=True)
class Return:
    """A field returns.

    Attributes:
        path: of the field.
        result: what it returns.
        slopes: derivative of a weighted sum of the result with respect to each input that is a variable.
    """

    path: str
    result: Numbers
    slopes: Numbers = field(default_factory=dict)


Event = Call | Return


class Trace:
    """Records the calls of a spec's fields.

    Args:
        spec: whose fields they are.
        differentiate: also record the derivative of each call by itself.
    """

    def __init__(self, spec: LossSpec, differentiate: bool = False) -> None:
        """Wrap every function of the spec."""
        self.events: list[Event] = []
        self.differentiate = differentiate
        self._around: list[str] = []
        self._is_paused = False
        self.spec = spec
        for path in paths(spec):
            function = value_in(spec, path)
            if callable(function) and not path.endswith(NOT_TRACED):
                self.spec = replace_in(self.spec, path, self._watched(path, function))

    def _watched(self, path: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any) -> Any:
            if self._is_paused:
                return function(*arguments)
            # Before the call, which may write into them.
            inputs = _flat([each for each in arguments if not isinstance(each, NO_NUMBERS)])
            around = self._around[-1] if self._around else ""
            self.events.append(Call(path, around, inputs, bool(_variables(arguments))))
            self._around.append(path)
            try:
                result = function(*arguments)
            finally:
                self._around.pop()
            slopes = self._slopes(function, arguments, result) if self.differentiate else {}
            # Of a matcher that is exchanged for another one, what that one does otherwise.
            compared = differing(arguments[0], result) if isinstance(result, Matcher) else result
            self.events.append(Return(path, _flat(compared), slopes))
            return result

        vars(watched).update({each: getattr(function, each) for each in getattr(function, "__dataclass_fields__", ())})
        return watched

    def _slopes(self, function: Callable[..., Any], arguments: Sequence[Any], result: Any) -> Numbers:
        """Derivatives of this call alone, with respect to variables that stand for its inputs."""
        if not _variables(result):
            return {}
        leaves: list[Variable] = []
        own = [_with_leaves(each, leaves) for each in arguments]
        self._is_paused = True
        try:
            outputs = _variables(function(*own))
        finally:
            self._is_paused = False
        total = sum((np.sum(each * _weights(each.shape)) for each in outputs), start=variable(np.zeros(())))
        return {str(place): grad for place, grad in enumerate(gradients(total, leaves)) if grad is not None}


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    """Of which no two are alike."""
    return 1.0 + np.arange(math.prod(shape)).reshape(shape) / 7.0


def _variables(value: Any) -> list[Variable]:
    """All variables in a value."""
    if isinstance(value, Variable):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return [found for each in inner for found in _variables(each)]


def _with_leaves(value: Any, leaves: list[Variable]) -> Any:
    """The value with a new leaf, kept in a list, for each variable."""
    if isinstance(value, Variable):
        leaves.append(variable(stop_gradient(value)))
        return leaves[-1]
    if isinstance(value, Mapping):
        return {name: _with_leaves(each, leaves) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        inner = [_with_leaves(each, leaves) for each in value]
        return type(value)(*inner) if hasattr(value, "_fields") else type(value)(inner)
    return value


def trace_of(case: LossCase, spec: LossSpec, differentiate: bool = False) -> list[Event]:
    """The calls that compute the losses of a case; those of its own matcher; and what comes back.

    Args:
        case: the case.
        spec: the conventions, or what a mutant has made of them.
        differentiate: also record the derivative of each call by itself.
    """
    trace = Trace(spec, differentiate)
    losses = Criterion(trace.spec, case.config)(deepcopy(oracle.inputs_of(case)), named=True)
    by_input = {gradient_name(key, name): grad for key, loss in losses.items() for name, grad in loss.gradients.items()}
    taped = list(dropwhile(lambda event: not (isinstance(event, Call) and event.on_tape), trace.events))
    del trace.events[len(trace.events) - len(taped) :]
    if case.changes_matcher:
        matcher, targets = matcher_for(trace.spec, arithmetic(case.dtype)), oracle.targets_of(case)
        layers = zip(case.pred_bboxes, case.pred_scores, oracle.masks_of_layers(case), strict=True)
        for boxes, logits, masks in layers:
            matcher.match(case.matcher, boxes, logits, targets, masks)
    forms = {key: _flat(spec.returned(key, loss.value.values, case.dtype)) for key, loss in losses.items()}
    return [
        *(taped if differentiate else trace.events),
        Return("keys", {key: loss.value for key, loss in losses.items()}),
        Return("returned", {f"{key}{what}": each for key, form in forms.items() for what, each in form.items()}),
        Return("gradients", by_input),
    ]


def generator_trace_of(case: LossCase, spec: LossSpec) -> list[Event]:
    """The calls that make the denoising queries of a case's targets."""
    trace, classes = Trace(spec), case.config.nc
    rng = np.random.default_rng(case.generator.seed)
    generator = trace.spec.denoising.generator
    made = generator.generate(oracle.targets_of(case), classes, case.queries, np.eye(classes), case.generator, rng)
    return [*trace.events, Return("denoising.generator", _flat(made))]


def _flat(values: Any, name: str = "") -> Numbers:
    """Everything in a value that can be compared, by a name that says where it is."""
    return dict(_leaves(values, name))


def _leaves(values: Any, name: str) -> Iterator[tuple[str, Any]]:
    values = stop_gradient(values)
    if isinstance(values, Tracked):
        yield name, Tracked(values.values.copy(), values.magnitude.copy(), values.arithmetic)
    elif isinstance(values, np.ndarray):
        yield name, values.copy()
    elif isinstance(values, np.random.Generator):
        yield name, str(values.bit_generator.state)
    elif isinstance(values, (str, bool, int, float, np.number)) or values is None:
        yield name, values
    else:
        for key, each in _parts(values):
            yield from _leaves(each, f"{name}.{key}" if name else key)


def _parts(values: Any) -> Iterator[tuple[str, Any]]:
    """What a mapping, a row or a record holds; nothing of what is called."""
    if isinstance(values, Mapping):
        yield from ((str(key), each) for key, each in values.items())
    elif isinstance(values, (list, tuple)):
        yield from ((str(place), each) for place, each in enumerate(values))
    elif is_dataclass(values) and not isinstance(values, type) and not callable(values):
        yield from ((each.name, getattr(values, each.name)) for each in fields(values))
