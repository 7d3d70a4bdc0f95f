"""`torch.assignment.solve_stack`, all problems of a step in one launch and without leaving the device."""

from __future__ import annotations

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int64
from torch import Tensor

LARGEST_SIDE = 1 << 14
"""Rows or columns; with more, the holder of a task would leave int32."""

LARGEST_COST = 1e300
"""Beyond this magnitude, sums of costs could leave the range of float64, and the search might not end."""

# The shorter side of a problem are its agents, the longer one its tasks; every agent gets a task. What is known of a
# task is one number, its *holder*: (agent + 1) * SPAN + task, or just the task while it is free. Since SPAN is
# 2 * BLOCK, the numbers from BLOCK on name no task: there a path starts. Comparing holders breaks ties: free tasks
# come first, since they end the search, then the lowest index.
CLOSED = tl.constexpr(2**31 - 1)  # the holder, during a search, of a task that has been reached for good, or is none


@triton.jit
@no_type_check  # a checker would hide the function, and Triton reads its source
def _nearest(distance, holder, price, other_distance, other_holder, other_price):
    """The task of the least distance, of the least holder among equals."""
    first = (distance < other_distance) | ((distance == other_distance) & (holder < other_holder))
    least = tl.where(first, distance, other_distance)
    return least, tl.where(first, holder, other_holder), tl.where(first, price, other_price)


@triton.jit
@no_type_check
def _finite(cost, LARGEST: tl.constexpr, NON_FINITE: tl.constexpr):
    """Costs in float64."""
    return tl.where(tl.abs(cost) <= LARGEST, cost, NON_FINITE).to(tl.float64)


@triton.jit
@no_type_check
def _shortest_path(
    agent, line, costs, of_agent, of_task, tasks, holders, prices,
    LARGEST: tl.constexpr, NON_FINITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Dijkstra: from the agent to the nearest task, and from each task on to its holder, until one is free.

    A step costs c_ij - u_i - v_j, where v are the prices, and u_i = c_ij - v_j for the task j that agent i holds.
    """
    SPAN: tl.constexpr = 2 * BLOCK
    task = tl.arange(0, BLOCK)
    by_task = costs + tl.minimum(task, tasks - 1) * of_task
    distances = tl.full([BLOCK], float("inf"), tl.float64)
    parents = tl.zeros([BLOCK], tl.int32)  # the holder through which the task was reached
    unreached = tl.where(task < tasks, holders, CLOSED)
    holder = (agent + 1) * SPAN + BLOCK  # this agent holds no task
    length = tl.full([], 0.0, tl.float64)
    price = tl.full([], 0.0, tl.float64)
    held_cost = tl.full([], 0.0, costs.dtype.element_ty)
    while holder >= SPAN:
        is_open = unreached < CLOSED
        # In this order: the difference is small and not negative, whatever the costs' magnitude.
        its_cost = _finite(held_cost, LARGEST, NON_FINITE)
        through = length + ((_finite(line, LARGEST, NON_FINITE) - prices) - (its_cost - price))
        closer = is_open & (through < distances)
        distances = tl.where(closer, through, distances)
        parents = tl.where(closer, holder, parents)
        candidates = tl.where(is_open, distances, float("inf"))
        length, holder, price = tl.reduce((candidates, unreached, prices), 0, _nearest)
        reached = holder % SPAN
        unreached = tl.where(task == reached, CLOSED, unreached)
        # Without a mask, so that all loads are under way at once; what a free task makes of it is not used.
        its_agent = tl.maximum(holder // SPAN - 1, 0)
        line = tl.load(by_task + its_agent * of_agent)
        held_cost = tl.load(costs + its_agent * of_agent + reached * of_task)
    return distances, parents, length, holder


@triton.jit
@no_type_check
def _augmented(holders, parents, last, BLOCK: tl.constexpr):
    """Back along the path: each task goes to the agent that held the one before it."""
    SPAN: tl.constexpr = 2 * BLOCK
    task = tl.arange(0, BLOCK)
    while last < BLOCK:
        parent = tl.max(tl.where(task == last, parents, 0), axis=0)
        holders = tl.where(task == last, parent - parent % SPAN + last, holders)
        last = parent % SPAN
    return holders


@triton.jit(
    do_not_specialize=["total_rows", "most_rows"],  # they change from batch to batch
    do_not_specialize_on_alignment=["costs", "starts", "row_counts", "column_counts", "answers"],
)
@no_type_check
def _solve(
    costs, starts, row_counts, column_counts, answers, total_rows, most_rows, width,
    LARGEST: tl.constexpr, NON_FINITE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Successive shortest augmenting paths: an agent enters by the cheapest chain of reassignments to a free task."""
    problem = tl.program_id(0)
    # The host never saw these sizes: wrong ones may spoil the answers, and must not reach beyond the arrays.
    start = tl.minimum(tl.maximum(tl.load(starts + problem), 0), total_rows)
    rows = tl.minimum(tl.maximum(tl.load(row_counts + problem), 0), tl.minimum(most_rows, total_rows - start))
    columns = tl.minimum(tl.maximum(tl.load(column_counts + problem), 0), width)
    if (rows == 0) | (columns == 0):
        return
    tall = rows > columns
    agents = tl.minimum(rows, columns).to(tl.int32)
    tasks = tl.maximum(rows, columns).to(tl.int32)
    of_agent = tl.where(tall, 1, width)
    of_task = tl.where(tall, width, 1)
    costs += start * width

    task = tl.arange(0, BLOCK)
    by_task = costs + tl.minimum(task, tasks - 1) * of_task
    prices = tl.zeros([BLOCK], tl.float64)
    holders = task
    line = tl.load(by_task)
    agent = tl.full([], 0, tl.int32)
    while agent < agents:  # no `for`: Triton 3.6 cannot interpret a range of loaded length with NumPy 2.4
        # Loaded one agent ahead: the search waits for memory more than for anything else.
        upcoming = tl.load(by_task + tl.minimum(agent + 1, agents - 1) * of_agent)
        distances, parents, length, sink = _shortest_path(
            agent, line, costs, of_agent, of_task, tasks, holders, prices, LARGEST, NON_FINITE, BLOCK
        )
        prices -= tl.maximum(length - distances, 0.0)
        holders = _augmented(holders, parents, sink, BLOCK)
        line = upcoming
        agent += 1

    holding = holders // (2 * BLOCK) - 1
    row = tl.where(tall, task, holding)
    column = tl.where(tall, holding, task)
    tl.store(answers + start + row, column.to(tl.int64), mask=(row >= 0) & (task < tasks))


def solve_stack(
    costs: Float[Tensor, "total_rows width"],
    starts: Int64[Tensor, " problems"],
    rows: Int64[Tensor, " problems"],
    columns: Int64[Tensor, " problems"],
    *,
    most_rows: int,
    non_finite: float = 0.0,
) -> Int64[Tensor, " total_rows"]:
    """See `torch.assignment.solve_stack`; nothing is read back from the device.

    Raises:
        ValueError: a problem could have more than 16,384 rows or columns.
    """
    total_rows, width = costs.shape
    if max(most_rows, width) > LARGEST_SIDE:
        raise ValueError(f"problems have up to {most_rows} rows and {width} columns, expected at most {LARGEST_SIDE}")
    answers = torch.full((total_rows,), -1, dtype=torch.int64, device=costs.device)
    if not len(starts) or not costs.numel():
        return answers
    block = triton.next_power_of_2(max(most_rows, width))
    # A float32 cost is compared in float32, where 1e300 would be infinite.
    largest = min(LARGEST_COST, torch.finfo(costs.dtype).max)
    # Four tasks a thread: with fewer, the warps wait for each other, with more, the threads work one after the other.
    warps = min(max(block // 128, 1), 8)
    with torch.cuda.device(costs.get_device()):  # where Triton launches; on the CPU this is -1, which changes nothing
        _solve[(len(starts),)](
            costs.contiguous(), starts.contiguous(), rows.contiguous(), columns.contiguous(), answers,
            total_rows, most_rows, width, LARGEST=largest, NON_FINITE=non_finite, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return answers
