"""The tape: every operation against central differences, and bounds that hold for derivatives in float32."""

from __future__ import annotations

import numpy as np
import pytest

from detr_conformance.reference import Guard
from detr_conformance.reference.boxes import giou
from detr_conformance.reference.classification import binary_cross_entropy, sigmoid, softplus
from detr_conformance.reference.rounding import Arithmetic, plain
from detr_conformance.reference.tape import (
    _BACKWARD,
    _REARRANGEMENTS,
    gradients,
    stop_gradient,
    variable,
    with_gradient_of,
)

from .differentiating import DIFFERENCE, central_difference, gradient
from .in_float32 import assert_within

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # what an operation returns, NumPy decides

OPERATIONS = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": lambda a, b: a / (b * b + 0.5),
    "divide by": lambda a, b: b / (a * a + 0.5),
    "negative": lambda a, _: -a,
    "absolute": lambda a, _: abs(a),
    "minimum": np.minimum,
    "maximum": np.maximum,
    "square": lambda a, _: a**2,
    "power 0": lambda a, b: b * (abs(a) + 0.1) ** 0,
    "power 1/2": lambda a, _: (abs(a) + 0.1) ** 0.5,
    "power 1": lambda a, b: b * a**1,
    "power 3/2": lambda a, b: b * (abs(a) + 0.1) ** 1.5,
    "power 3": lambda a, b: b * (abs(a) + 0.1) ** 3,
    "sqrt": lambda a, _: np.sqrt(abs(a) + 0.1),
    "exp": lambda a, b: b * np.exp(a),
    "log": lambda a, b: b * np.log(abs(a) + 0.5),
    "log1p": lambda a, b: b * np.log1p(abs(a)),
    "arctan": lambda a, b: b * np.arctan(a),
    "sigmoid": lambda a, b: b * sigmoid(a),
    "softplus": lambda a, b: b * softplus(a),
    "binary_cross_entropy": lambda a, b: b * binary_cross_entropy(a, sigmoid(b)),
    "its target": lambda a, b: binary_cross_entropy(b, a),
    "where": lambda a, b: np.where(plain(b) > 0, a, b) * a,
    "otherwise": lambda a, b: np.where(plain(b) > 0, b, a) * b,
    "sum over an axis": lambda a, b: np.sum(a, axis=-1) * np.sum(b, axis=1),
    "sum over two axes": lambda a, b: np.sum(a * b, axis=(0, 1)) ** 2,
    "stack": lambda a, b: np.stack([a, b, a], axis=-1) * np.stack([b, b, a], axis=-1),
    "concatenate": lambda a, b: np.concatenate([a, b, a], axis=1) * np.concatenate([b, a, a], axis=1),
    "zeros_like": lambda a, b: b * (np.zeros_like(a) + a),
    "ones_like": lambda a, b: a * (np.ones_like(a) + b),
    "shape": lambda a, b: a * (np.size(b) + np.ndim(b) + np.shape(b)[0] + len(b)),
    "a slice": lambda a, b: a[:, 1:] * b[:, :-1],
    "entries that are taken twice": lambda a, b: a[[0, 1, 0, 0]] * b[[1, 0, 1, 2]],
    "pairs of indices": lambda a, b: a[[2, 2, 0], [1, 1, 3]] * b[0, :3],
    "a new axis": lambda a, b: a[:, None] * b[None],
    "reshape": lambda a, b: a.reshape(-1, 2) * b.reshape(-1, 2),
    "used many times": lambda a, b: (a * a + b) * a - a / (a * a + 1.0),
}


def numbers(*shape, seed=0) -> np.ndarray:
    """Random numbers that float32 holds."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_derivatives_are_central_differences(operation):
    a, b = numbers(3, 4, seed=1), numbers(3, 4, seed=2)
    for arguments, formula in (((a, b), operation), ((b, a), lambda second, first: operation(first, second))):
        difference = central_difference(formula, *arguments)
        if difference.any():  # otherwise the result is a constant
            assert np.abs(gradient(formula, *arguments).values - difference).max() < DIFFERENCE


def test_every_operation_of_the_tape_is_among_these():
    tables = {each.__name__ for each in (*_BACKWARD, *_REARRANGEMENTS)}
    assert {"ndim", "size", "power", "sum"} | OPERATIONS.keys() >= tables


@pytest.mark.parametrize("shape", [(4,), (1, 4), (3, 1), (1, 1), ()])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "divide by", "minimum", "maximum"])
def test_an_operand_that_was_broadcast_gets_the_sum_of_its_derivatives(name, shape):
    a, b = numbers(*shape, seed=1), numbers(3, 4, seed=2)
    slope = gradient(OPERATIONS[name], a, b)
    assert slope.shape == shape
    assert slope.values == pytest.approx(central_difference(OPERATIONS[name], a, b), abs=10 * DIFFERENCE)


def test_an_entry_that_is_selected_twice_gets_both_derivatives_both_bounds_and_the_rounding_of_their_sum():
    slope = gradient(lambda a: a[[0, 0, 2]] * np.array([1.5, 2.5, 3.5]), numbers(4))
    assert slope.values.tolist() == [4.0, 0.0, 3.5, 0.0]
    assert slope.magnitude.tolist() == [4.0 + 4.0, 0.0, 3.5, 0.0]


def test_an_infinite_derivative_of_a_selected_entry_is_no_reason_for_a_warning():
    slope = gradient(lambda a: a[[0, 1]] * np.array([np.inf, 1.0]), numbers(2))
    assert slope.values.tolist() == [np.inf, 1.0]


def test_where_passes_nothing_of_the_branch_that_was_not_taken():
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = gradient(lambda a: np.where(plain(a) > 0, np.sqrt(a), 0.0), np.array([4.0, 9.0]))
    assert slope.values.tolist() == [1 / 4, 1 / 6]


def test_a_stopped_gradient_leaves_the_value_and_takes_the_derivative():
    a = variable([2.0, 3.0])
    assert (stop_gradient(a).values == [2.0, 3.0]).all()
    assert gradient(lambda x: stop_gradient(x * x) * x, np.array([2.0, 3.0])).values.tolist() == [4.0, 9.0]
    assert stop_gradient(1.5) == 1.5


def test_a_value_may_have_the_gradient_of_another():
    x = variable([2.0, 3.0])
    odd = with_gradient_of(x * x, 5.0 * x)
    assert stop_gradient(odd).values.tolist() == [4.0, 9.0]
    assert gradients(np.sum(odd), [x])[0].values.tolist() == [5.0, 5.0]
    assert stop_gradient(with_gradient_of(x * x, 5.0)).values.tolist() == [4.0, 9.0]


def test_a_leaf_that_nothing_depends_on_has_no_gradient():
    x, idle = variable([1.0]), variable([2.0])
    used, unused = gradients(np.sum(x * 3.0), [x, idle])
    assert used.values.tolist() == [3.0]
    assert unused is None


def test_a_row_of_two_thousand_operations_needs_no_deep_stack():
    def many(x):
        for _ in range(2_000):
            x = x + 1.0
        return x

    assert gradient(many, np.zeros(2)).values.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("formula", "name"), [(np.sin, "sin"), (np.cumsum, "cumsum"), (np.add.accumulate, "add")])
def test_an_operation_without_a_derivative_is_refused_by_name(formula, name):
    with pytest.raises(TypeError, match=f"no derivative for numpy.{name}"):
        formula(variable([1.0, 2.0]))
    with pytest.raises(TypeError, match=r"no plain array, use rounding\.plain"):
        np.asarray(variable([1.0]))


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 1.5, 2.0])
def test_a_power_of_zero_has_a_finite_derivative(exponent):
    slope = gradient(lambda a: a**exponent, np.zeros(2))
    assert slope.values.tolist() == [1.0 if exponent == 1 else 0.0] * 2


@pytest.mark.parametrize("formula", [abs, lambda a: np.maximum(a, 0.0), lambda a: np.minimum(a, 0.0)])
def test_at_a_kink_the_derivative_is_the_mean_of_both_sides_and_open(formula):
    slope = gradient(formula, np.array([-1.0, 0.0, 1.0]))
    assert slope.values[1] == (slope.values[0] + slope.values[2]) / 2
    assert np.isinf(slope.magnitude).tolist() == [False, True, False]


def test_derivatives_are_judged_in_the_arithmetic_of_the_leaf():
    half = Arithmetic(eps=2.0**-10)
    leaf = variable([0.5, 1.5], half)
    [slope] = gradients(np.sum(abs((leaf + 8.0) - 8.501)), [leaf])
    assert slope.arithmetic is half
    assert np.isinf(slope.magnitude).tolist() == [True, False]


FORMULAS = {
    "softplus": lambda a, b: b * softplus(a),
    "a quotient": lambda a, b: a / (b * b + 0.5),
    "a product of powers": lambda a, b: (abs(a) + 0.1) ** 1.5 * b**2,
    "logarithms": lambda a, b: np.log(abs(a) + 0.1) * np.log1p(abs(b)) * a,
    "an arc tangent": lambda a, b: np.arctan(a * b) / np.sqrt(abs(b) + 1.0),
}


def in_torch(operation, *arrays) -> np.ndarray:
    """The derivative of a formula by autograd in float32."""
    torch = pytest.importorskip("torch")
    names = {np.exp: torch.exp, np.log: torch.log, np.log1p: torch.log1p, np.arctan: torch.atan, np.sqrt: torch.sqrt}

    class Float32:
        """A tensor that takes NumPy's functions for torch's."""

        __array_priority__ = 1000

        def __init__(self, tensor):
            self.tensor = tensor

        def __array_ufunc__(self, ufunc, _method, *inputs):
            tensors = [torch.as_tensor(getattr(each, "tensor", each), dtype=torch.float32) for each in inputs]
            return Float32(names.get(ufunc, getattr(torch, ufunc.__name__, None))(*tensors))

    for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "neg", "abs"):

        def method(self, *others, name=name):
            return Float32(getattr(self.tensor, f"__{name}__")(*(getattr(each, "tensor", each) for each in others)))

        setattr(Float32, f"__{name}__", method)
    leaf, *others = (torch.tensor(each, dtype=torch.float32, requires_grad=True) for each in arrays)
    operation(Float32(leaf), *map(Float32, others)).tensor.sum().backward()
    return leaf.grad.numpy()


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_derivatives_by_autograd_in_float32_stay_within_their_bounds(formula):
    a, b = numbers(4000, seed=3), numbers(4000, seed=4)
    assert_within(in_torch(formula, a, b), gradient(formula, a, b))


def test_the_bound_of_a_derivative_grows_where_boxes_are_small():
    boxes = np.array([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 4e-4, 4e-4]])
    slope = gradient(giou, boxes + boxes[:, 2:].repeat(2, axis=1) * 0.1, boxes, Guard())
    relative = slope.magnitude / np.abs(slope.values)
    assert (relative[1] > 20 * relative[0]).all()
