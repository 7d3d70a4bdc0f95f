"""The Triton kernel: interpreted on the CPU, compiled on CUDA."""

from __future__ import annotations

from functools import partial
from itertools import product

import pytest
import torch

from detr_conformance.optimized.assignment import linear_sum_assignment

from ..thorough import thorough_but
from .assignment_problems import FAMILIES, flaws, least_costs, padded, problems, total_costs

where = pytest.importorskip(
    "detr_conformance.optimized.backends.triton.device", reason="triton is not installed", exc_type=ImportError
)
solved = partial(linear_sum_assignment, backend="triton")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request):
    """Where the kernel runs."""
    if request.param == "cpu" and not where.INTERPRETED:
        pytest.skip("Triton compiles in this process; TRITON_INTERPRET=1 makes it interpret")
    return torch.device(request.param)


FEW, MANY = 6, 36


@pytest.mark.parametrize(
    ("family", "count"), thorough_but([(family, FEW) for family in FAMILIES], product(FAMILIES, (FEW, MANY)))
)
def test_every_answer_is_a_matching_of_the_least_cost(family, count, device):
    costs, sizes = (tensor.to(device) for tensor in padded(problems(family, count, most=(5, 6))))
    assert flaws(costs, sizes, solved(costs, sizes)) == set()


SHAPES = [(13, 14), (8, 40), (40, 8)]
QUICK = [*product(["normal"], SHAPES), ("all equal", (8, 40)), ("near ties", (13, 14)), ("not finite", (40, 8))]


@pytest.mark.parametrize(("family", "shape"), thorough_but(QUICK, product(FAMILIES, SHAPES)))
def test_answers_of_larger_problems_have_the_least_cost(family, shape, device):
    costs, sizes = (tensor.to(device) for tensor in padded(problems(family, count=2, most=shape, least=shape)))
    assert flaws(costs, sizes, solved(costs, sizes)) == set()


EVERY_NTH = {(1, 1): 1, (1, 3): 2, (3, 1): 2, (2, 2): 2, (2, 3): 40, (3, 2): 40}
"""Of all matrices of these shapes; the interpreter would be long over all of them."""


@pytest.mark.parametrize(("shape", "step"), EVERY_NTH.items())
def test_no_matching_of_a_small_problem_is_cheaper(shape, step, device):
    every = torch.tensor(list(product([0.0, 1.0, 2.0], repeat=shape[0] * shape[1]))).view(-1, *shape)
    some = every[::step].to(device)
    assert torch.equal(total_costs(some, solved(some)), least_costs(some))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_costs_of_every_dtype_are_solved_in_float64(dtype, device):
    costs, sizes = padded(problems("not finite", count=10, most=(4, 7)), dtype)
    assert flaws(costs, sizes, solved(costs.to(device), sizes.to(device))) == set()


def test_equal_costs_go_to_the_lowest_free_column(device):
    costs = torch.zeros(2, 4, 6, device=device)
    assert solved(costs).tolist() == [[0, 1, 2, 3]] * 2
    assert solved(costs.mT).tolist() == [[0, 1, 2, 3, -1, -1]] * 2


def test_nothing_is_matched_where_there_is_nothing(device):
    for shape in [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)]:
        assert torch.equal(solved(torch.ones(shape, device=device)).cpu(), torch.full(shape[:2], -1))


def test_float64_beyond_the_range_of_costs_still_ends(device):
    costs = torch.tensor([[[1.7e308, -1.7e308, 1.0], [-1.7e308, 1.7e308, 2.0]]], dtype=torch.float64, device=device)
    assert sorted(solved(costs)[0].tolist()) in ([0, 1], [0, 2], [1, 2])


def test_a_second_run_gives_the_same_answers(device):
    costs, sizes = (tensor.to(device) for tensor in padded(problems("zeros and ones", count=20, most=(5, 6))))
    assert torch.equal(solved(costs, sizes), solved(costs, sizes))


WRONG = [-(2**40), -1, 2**33 + 3, 2**62]
"""Sizes that no problem has; cut to 32 bits, some of them look like others."""


@pytest.mark.parametrize("argument", ["starts", "rows", "columns"])
def test_wrong_sizes_are_taken_for_the_nearest_that_are_possible(argument, device):
    from detr_conformance.optimized.backends.triton.assignment import solve_stack

    costs = torch.rand(6, 4, device=device)
    for wrong in WRONG:
        right = {"starts": 2, "rows": 3, "columns": 4} | {argument: wrong}
        clamped = {"starts": min(max(right["starts"], 0), 6), "columns": min(max(right["columns"], 0), 4)}
        clamped["rows"] = min(max(right["rows"], 0), 3, 6 - clamped["starts"])
        answers = [solve_stack(costs, most_rows=3, **tensors(sizes, device)) for sizes in (right, clamped)]
        assert torch.equal(*answers)


def tensors(sizes: dict[str, int], device: torch.device) -> dict[str, torch.Tensor]:
    """One problem's place in the stack."""
    return {name: torch.tensor([size], device=device) for name, size in sizes.items()}


def test_the_largest_problem_is_named_where_one_is_too_large(device):
    with pytest.raises(ValueError, match="up to 1 rows and 16385 columns, expected at most 16384"):
        solved(torch.zeros(1, 1, 16385, device=device))


def test_costs_on_the_cpu_need_the_interpreter(monkeypatch):
    monkeypatch.setattr(where, "INTERPRETED", False)
    with pytest.raises(RuntimeError, match=r"costs are on the CPU.*TRITON_INTERPRET=1.*expected costs on CUDA"):
        solved(torch.ones(1, 2, 2))


@pytest.mark.cuda
@pytest.mark.parametrize("most", [(7, 300), (100, 300), (300, 100), (300, 300), (40, 1000)])
def test_problems_of_a_real_size_have_the_least_cost(most):
    costs, sizes = (tensor.cuda() for tensor in padded(problems("normal", count=20, most=most), torch.float32))
    assert flaws(costs, sizes, solved(costs, sizes)) == set()


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")
def test_the_host_never_waits_and_a_graph_gives_the_same_answers():
    costs, sizes = (tensor.cuda() for tensor in padded(problems("normal", count=20, most=(20, 60)), torch.float32))
    expected, graph = solved(costs, sizes), torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    try:
        solved(costs, sizes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    with torch.cuda.graph(graph):
        answers = solved(costs, sizes)
    graph.replay()
    assert torch.equal(answers, expected)
