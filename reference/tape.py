"""Reverse-mode differentiation of tracked arrays: a formula is written once, as its value.

A `Variable` is a `Tracked` array that remembers how it was computed. The formulas of the reference are written for
plain NumPy arrays; given variables they build a graph as they go, and `gradients` walks it backwards by the chain
rule. The backward pass is made of tracked arrays too, so every derivative comes with a bound on its rounding error.

`stop_gradient` turns a variable into a constant, where a convention detaches.

Reference: A. Griewank and A. Walther, Evaluating Derivatives, 2nd ed., chapter 3 (reverse mode), SIAM 2008,
doi 10.1137/1.9780898717761.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from detr_conformance.reference.rounding import FLOAT32, Arithmetic, Tracked, plain, track
from detr_conformance.reference.rounding_rules import EXACT_QUESTIONS, scaled

__all__ = ["Array", "Variable", "gradients", "placed", "primitive", "stop_gradient", "variable", "with_gradient_of"]

Backward = Callable[[Any], Any]
"""From the derivative with respect to a result to the derivative with respect to one operand."""

_NUMBERS = count()


class Variable(NDArrayOperatorsMixin):
    """A tracked array and the operation that it came from.

    Attributes:
        tracked: the values with their error bounds.
        parents: the variables among the operands, each with its backward function.
    """

    __slots__ = ("number", "parents", "tracked")

    def __init__(self, tracked: Tracked, parents: Sequence[tuple[Variable, Backward]] = ()) -> None:
        """A leaf has no parents."""
        self.tracked = tracked
        self.parents = parents
        self.number = next(_NUMBERS)  # operands are made before results

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.tracked.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Float64, as everything here."""
        return self.tracked.dtype

    def __len__(self) -> int:
        """Of the first axis."""
        return len(self.tracked)

    def __float__(self) -> float:
        """The only value."""
        return float(self.tracked)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        """Refuse: whoever asks would lose gradient and bound in silence."""
        raise TypeError("a Variable has no plain array, use rounding.plain")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Compute with the tracked arrays, and remember how."""
        operands = [stop_gradient(each) for each in inputs]
        if ufunc is np.add and method == "reduce":
            return np.sum(self, **options)
        if ufunc in EXACT_QUESTIONS:
            return getattr(ufunc, method)(*map(plain, operands), **options)
        if ufunc not in _BACKWARD or method != "__call__" or options:
            raise TypeError(f"no derivative for numpy.{ufunc.__name__} ({method} with options {sorted(options)})")
        result = ufunc(*operands)
        backward = _BACKWARD[ufunc](result, *operands)
        pairs = [(each, of, back) for each, of, back in zip(inputs, operands, backward, strict=True) if back]
        return Variable(result, [(each, _fitting(back, of)) for each, of, back in pairs if isinstance(each, Variable)])

    def __pow__(self, exponent: float) -> Any:
        """The square or the power."""
        return np.square(self) if exponent == 2 else np.power(self, exponent)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Move entries around, and remember where they went."""
        if func not in _REARRANGEMENTS:
            raise TypeError(f"no derivative for numpy.{func.__name__}")
        return _REARRANGEMENTS[func](*args, **kwargs)

    def __getitem__(self, key: Any) -> Variable:
        """Select entries; an entry that is selected twice gets both derivatives."""
        shape = self.shape

        @np.errstate(invalid="ignore")  # 0 times infinity: see `scaled`
        def scatter(grad: Tracked) -> Tracked:
            whole, bounds, times = np.zeros(shape), np.zeros(shape), np.zeros(shape)
            np.add.at(whole, key, grad.values)
            np.add.at(bounds, key, grad.magnitude)
            np.add.at(times, key, 1.0)
            roundings = np.maximum(times - 1.0, 0.0)  # of an entry that is selected several times
            return Tracked(whole, bounds + scaled(roundings, np.abs(whole)), grad.arithmetic)

        return Variable(self.tracked[key], [(self, scatter)])

    def reshape(self, *shape: Any) -> Variable:
        """The same entries in another shape."""
        before = self.shape
        return Variable(self.tracked.reshape(*shape), [(self, lambda grad: grad.reshape(before))])


Array = np.ndarray | Variable
"""What the formulas of the reference are written for."""
if not TYPE_CHECKING:  # NumPy makes plain numbers of arrays without axes; checks at run time meet them
    Array |= np.float64


def variable(values: Any, arithmetic: Arithmetic = FLOAT32) -> Variable:
    """A leaf of the graph: an input by which derivatives are wanted. A variable stays as it is."""
    return values if isinstance(values, Variable) else Variable(track(values, arithmetic))


def stop_gradient(array: Any) -> Any:
    """The same numbers as a constant."""
    return array.tracked if isinstance(array, Variable) else array


def placed(values: Any, places: tuple[np.ndarray, ...], others: Any) -> Any:
    """These values in their places, and others around them."""
    row = np.arange(math.prod(others.shape)).reshape(others.shape) + len(values)
    row[places] = np.arange(len(values))
    return np.concatenate([values, others.reshape(-1)])[row]


def with_gradient_of(values: Any, other: Any) -> Any:
    """These numbers, with the derivative of others: a wrong backward pass beside a right value."""
    constant = track(stop_gradient(values))
    return Variable(constant, [(other, lambda grad: grad)]) if isinstance(other, Variable) else constant


def gradients(output: Variable, leaves: Iterable[Variable]) -> list[Tracked | None]:
    """Derivative of one number with respect to each leaf; None for a leaf that it does not depend on."""
    pending: dict[int, Variable] = {output.number: output}
    grads: dict[int, Tracked] = {output.number: track(np.ones(output.shape), output.tracked.arithmetic)}
    found: dict[int, Tracked] = {}
    wanted = list(leaves)
    while pending:
        node = pending.pop(max(pending))  # everything that depends on it has a larger number
        grad = grads.pop(node.number)
        if not node.parents:
            found[node.number] = grad
        for parent, backward in node.parents:
            part = backward(grad)
            known = parent.number in grads
            grads[parent.number] = grads[parent.number] + part if known else part
            pending[parent.number] = parent
    return [found.get(leaf.number) for leaf in wanted]


def primitive(*derivatives: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A function whose derivatives are better written down than derived step by step.

    Args:
        derivatives: for each argument, from all arguments to the derivative of each entry of the result with respect to
            it.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def differentiable(*arguments: Any) -> Any:
            if not any(isinstance(each, Variable) for each in arguments):
                return function(*arguments)
            constants = [stop_gradient(each) for each in arguments]

            def backward(derivative: Callable[..., Any]) -> Backward:
                return lambda grad: grad * derivative(*constants)

            parents = [
                (each, _fitting(backward(derivative), constant))
                for each, constant, derivative in zip(arguments, constants, derivatives, strict=True)
                if isinstance(each, Variable)
            ]
            return Variable(function(*constants), parents)

        return differentiable

    return decorate


def _fitting(backward: Backward, operand: Any) -> Backward:
    """The backward function, summed over the axes along which the operand was broadcast."""
    shape = np.shape(plain(operand))

    def summed(grad: Tracked) -> Tracked:
        part = backward(grad)
        if part.shape == shape:
            return part
        extra = part.ndim - len(shape)
        stretched = (axis for axis, size in enumerate(shape, extra) if size == 1 and part.shape[axis] != 1)
        return np.sum(part, axis=(*range(extra), *stretched)).reshape(shape)

    return summed


def _step(difference: Any) -> Any:
    """1 above 0, 0 below, 1/2 at 0: which of two operands a minimum or maximum has taken."""
    return np.heaviside(difference, 0.5)


@np.errstate(invalid="ignore")  # 0 times infinity: see `scaled`
def _switched(grad: Any, switch: Any) -> Any:
    """The derivative times -1, 0, 1/2 or 1, which is not rounded; open where the switch is."""
    constant = track(switch, grad.arithmetic)
    bound = scaled(constant.values, grad.magnitude) + scaled(grad.values, constant.magnitude)
    bound += scaled(grad.arithmetic.reach(grad.magnitude), constant.magnitude)
    return Tracked(grad.values * constant.values, bound, grad.arithmetic)


def _power(result: Any, base: Any, exponent: float) -> tuple[Backward, None]:
    """Exponent times the power below; from an exponent below 1 it is infinite at 0, and taken as 0 there."""
    if exponent == 0:
        return lambda grad: track(np.zeros(grad.shape), grad.arithmetic), None
    if exponent == 1:
        return lambda grad: grad, None
    if exponent > 1:
        return lambda grad: grad * (exponent * base ** (exponent - 1)), None
    above = np.where(plain(base) == 0, 1.0, base)
    return lambda grad: grad * (exponent * result / above), None


_BACKWARD: dict[np.ufunc, Callable[..., tuple[Backward | None, ...]]] = {
    np.add: lambda _result, _a, _b: (lambda grad: grad, lambda grad: grad),
    np.subtract: lambda _result, _a, _b: (lambda grad: grad, lambda grad: -grad),
    np.multiply: lambda _result, a, b: (lambda grad: grad * b, lambda grad: grad * a),
    np.divide: lambda result, _a, b: (lambda grad: grad / b, lambda grad: -(grad * result / b)),
    np.negative: lambda _result, _a: (lambda grad: -grad,),
    np.absolute: lambda _result, a: (lambda grad: _switched(grad, np.sign(a)),),
    np.minimum: lambda _result, a, b: (
        lambda grad: _switched(grad, _step(b - a)),
        lambda grad: _switched(grad, _step(a - b)),
    ),
    np.maximum: lambda _result, a, b: (
        lambda grad: _switched(grad, _step(a - b)),
        lambda grad: _switched(grad, _step(b - a)),
    ),
    np.square: lambda _result, a: (lambda grad: grad * (2.0 * a),),
    np.power: _power,
    np.sqrt: lambda result, _a: (lambda grad: grad / (2.0 * result),),
    np.exp: lambda result, _a: (lambda grad: grad * result,),
    np.log: lambda _result, a: (lambda grad: grad / a,),
    np.log1p: lambda _result, a: (lambda grad: grad / (1.0 + a),),
    np.arctan: lambda _result, a: (lambda grad: grad / (1.0 + a * a),),
}
"""For each operation, from its result and operands to a backward function for each operand."""


def _sum(array: Variable, axis: Any = None, **_: Any) -> Variable:
    axes = range(len(array.shape)) if axis is None else np.atleast_1d(axis) % len(array.shape)
    kept = [1 if place in axes else size for place, size in enumerate(array.shape)]

    def spread(grad: Tracked) -> Tracked:
        values, bounds = (np.broadcast_to(each.reshape(kept), array.shape) for each in (grad.values, grad.magnitude))
        return Tracked(values, bounds, grad.arithmetic)

    return Variable(np.sum(array.tracked, axis=axis), [(array, spread)])


def _where(condition: np.ndarray, chosen: Any, otherwise: Any) -> Variable:
    result = np.where(condition, stop_gradient(chosen), stop_gradient(otherwise))
    backward = (lambda grad: np.where(condition, grad, 0.0), lambda grad: np.where(condition, 0.0, grad))
    parents = [
        (each, _fitting(back, each.tracked))
        for each, back in zip((chosen, otherwise), backward, strict=True)
        if isinstance(each, Variable)
    ]
    return Variable(result, parents)


def _concatenate(arrays: Sequence[Any], axis: int = 0) -> Variable:
    starts = np.cumsum([0, *(each.shape[axis] for each in arrays)])
    parents = []
    for each, start, stop in zip(arrays, starts, starts[1:], strict=False):
        if isinstance(each, Variable):
            own = (*[slice(None)] * (axis % len(each.shape)), slice(start, stop))
            parents.append((each, lambda grad, own=own: grad[own]))
    joined: Any = np.concatenate([stop_gradient(each) for each in arrays], axis=axis)
    return Variable(joined, parents)


def _stack(arrays: Sequence[Any], axis: int = 0) -> Variable:
    axis = axis % (len(arrays[0].shape) + 1)
    widened = [each.reshape((*each.shape[:axis], 1, *each.shape[axis:])) for each in arrays]
    return _concatenate(widened, axis)


def _constant(value: float) -> Callable[[Variable], Tracked]:
    return lambda array, *_: track(np.full(array.shape, value), array.tracked.arithmetic)


_REARRANGEMENTS: dict[Any, Callable[..., Any]] = {
    np.sum: _sum,
    np.where: _where,
    np.concatenate: _concatenate,
    np.stack: _stack,
    np.shape: lambda array: array.shape,
    np.ndim: lambda array: len(array.shape),
    np.size: lambda array: math.prod(array.shape),
    np.zeros_like: _constant(0.0),
    np.ones_like: _constant(1.0),
}
