"""The public solver: its answers proved optimal, its threads, its arguments."""

from __future__ import annotations

import importlib.util
import multiprocessing
import subprocess
import sys
from functools import partial
from itertools import product

import pytest
import torch

from detr_conformance.optimized.assignment import linear_sum_assignment
from detr_conformance.optimized.backends.torch import assignment as scipy_solver

from .assignment_problems import FAMILIES, flaws, least_costs, padded, problems, total_costs

SMALL_SHAPES = [(1, 1), (1, 3), (3, 1), (2, 2), (2, 3), (3, 2), (3, 3)]


@pytest.fixture(params=["scipy", "native"])
def solved(request):
    """The solver of each backend of the CPU."""
    if request.param == "native":
        pytest.importorskip("numba")
    return partial(linear_sum_assignment, backend=request.param)


@pytest.fixture
def threads(monkeypatch):
    """Sets how many threads torch, and so the solver, may use; any work is worth one."""
    before = torch.get_num_threads()
    monkeypatch.setattr(scipy_solver, "COSTS_PER_THREAD", 1)
    if importlib.util.find_spec("numba"):
        from detr_conformance.optimized.backends.native import jit

        monkeypatch.setattr(jit, "PER_THREAD", 1)
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_answer_is_a_matching_of_the_least_cost(family, solved):
    costs, sizes = padded(problems(family, count=200, most=(12, 12)))
    assert flaws(costs, sizes, solved(costs, sizes)) == set()


@pytest.mark.parametrize("most", [(40, 300), (300, 40)])
def test_answers_of_a_real_size_have_the_least_cost(most, solved):
    costs, sizes = padded(problems("normal", count=20, most=most), torch.float32)
    assert flaws(costs, sizes, solved(costs, sizes)) == set()


@pytest.mark.parametrize("shape", SMALL_SHAPES)
def test_no_matching_of_a_small_problem_is_cheaper(shape, solved):
    every = torch.tensor(list(product([0.0, 1.0, 2.0], repeat=shape[0] * shape[1]))).view(-1, *shape)
    assert torch.equal(total_costs(every, solved(every)), least_costs(every))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_costs_of_every_dtype_are_solved_in_float64(dtype, solved):
    costs, sizes = padded(problems("tied decimals", count=100, most=(6, 9)), dtype)
    assert flaws(costs, sizes, solved(costs, sizes)) == set()


def test_what_is_not_finite_counts_as_zero(solved):
    costs = torch.tensor([[[float("nan"), -1.0], [1.0, 2.0]], [[float("inf"), 1.0], [2.0, -1.0]]])
    assert solved(costs).tolist() == [[1, 0], [0, 1]]
    assert solved(-costs).tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (2, 0, 0), (0, 0, 0)])
def test_nothing_is_matched_where_there_is_nothing(shape, solved):
    assert torch.equal(solved(torch.ones(shape)), torch.full(shape[:2], -1))


def test_costs_may_be_laid_out_in_any_order_and_are_left_as_they_are(solved):
    costs, sizes = padded(problems("not finite", count=50, most=(8, 8)))
    before, other_order = costs.clone(), costs.mT.contiguous().mT
    assert torch.equal(solved(other_order, sizes), solved(costs, sizes))
    assert torch.equal(costs.nan_to_num(), before.nan_to_num())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_sizes_are_integers_of_any_width(dtype, solved):
    costs, sizes = padded(problems("normal", count=20, most=(5, 5)))
    assert torch.equal(solved(costs, sizes.to(dtype)), solved(costs, sizes))


def test_costs_that_need_a_gradient_are_matched_without_one(solved):
    assert not solved(torch.ones(1, 2, 2, requires_grad=True)).requires_grad


def test_a_stack_has_problems_of_any_height_in_any_order():
    costs = torch.tensor([[0.0, 5.0, 1.0], [0.0, 2.0, 9.0], [9.0, 9.0, 9.0], [3.0, 1.0, 0.0]])
    starts, rows, columns = torch.tensor([3, 0, 2]), torch.tensor([1, 2, 0]), torch.tensor([2, 3, 3])
    assert scipy_solver.solve_stack(costs, starts, rows, columns, most_rows=2).tolist() == [2, 0, -1, 1]


@pytest.mark.parametrize("family", ["normal", "all equal", "not finite"])
def test_the_number_of_threads_changes_no_answer(family, threads, solved):
    costs, sizes = padded(problems(family, count=100, most=(12, 12)))
    answers = []
    for count in (1, 2, 5, 5):
        threads(count)
        answers.append(solved(costs, sizes))
    assert all(torch.equal(answer, answers[0]) for answer in answers)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_solves_with_threads_of_its_own(threads, solved):
    threads(3)
    costs = torch.rand(20, 5, 9)
    solved(costs)
    child = multiprocessing.get_context("fork").Process(target=linear_sum_assignment, args=(costs,), daemon=True)
    child.start()
    child.join(60)
    assert child.exitcode == 0


COSTS = torch.ones(2, 3, 4)
SIZES = torch.tensor([[3, 4], [0, 0]])
BAD_ARGUMENTS = {
    "costs no tensor": ((COSTS.tolist(),), TypeError, "costs is a list, expected a tensor"),
    "costs of integers": ((COSTS.long(),), TypeError, "costs has dtype torch.int64, expected float16"),
    "costs of one problem": (
        (COSTS[0],),
        ValueError,
        r"costs has shape \(3, 4\), expected \(problems,",
    ),
    "sizes no tensor": ((COSTS, SIZES.tolist()), TypeError, "sizes is a list, expected a tensor"),
    "sizes not whole": ((COSTS, SIZES.float()), TypeError, "sizes has dtype torch.float32, expected integers"),
    "sizes of a problem too many": ((COSTS, SIZES[:1]), ValueError, r"\(1, 2\), expected \(problems, 2\) = \(2, 2\)"),
    "a negative size": ((COSTS, -SIZES), ValueError, r"sizes\[0\] is \(-3, -4\), expected from \(0, 0\) to \(3, 4\)"),
    "too many rows": ((COSTS, SIZES + torch.tensor([1, 0])), ValueError, r"sizes\[0\] is \(4, 4\)"),
    "too many columns": ((COSTS, SIZES.flip(0) + torch.tensor([0, 1])), ValueError, r"sizes\[1\] is \(3, 5\)"),
    "sizes elsewhere": ((COSTS, SIZES.to("meta")), ValueError, "sizes is on meta, expected the device of costs, cpu"),
}


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("bad", BAD_ARGUMENTS)
def test_a_bad_argument_is_named_with_its_value(bad, solved):
    arguments, error, message = BAD_ARGUMENTS[bad]
    with pytest.raises(error, match=message):
        solved(*arguments)


def test_an_unknown_backend_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"backend is 'cuda', expected one of \('scipy', 'native', 'triton'\) or None"):
        linear_sum_assignment(COSTS, backend="cuda")


def test_triton_is_not_needed_before_it_is_asked_for():
    program = """
import sys
sys.modules["triton"] = None
import torch
from detr_conformance.optimized.assignment import linear_sum_assignment
linear_sum_assignment(torch.ones(1, 2, 2))
try:
    linear_sum_assignment(torch.ones(1, 2, 2), backend="triton")
except RuntimeError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("backend is 'triton', and Triton does not import (")


@pytest.mark.cuda
@pytest.mark.parametrize("backend", ["scipy", "triton", None])
def test_every_backend_solves_costs_on_cuda(backend):
    costs, sizes = (tensor.cuda() for tensor in padded(problems("normal", count=50, most=(12, 12))))
    answers = linear_sum_assignment(costs, sizes, backend=backend)
    assert answers.is_cuda
    assert flaws(costs, sizes, answers) == set()
