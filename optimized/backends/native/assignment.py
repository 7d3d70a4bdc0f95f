"""The assignment solver for the CPU: shortest augmenting paths from the cheapest column of each row.

Reference: D. F. Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on Aerospace and
Electronic Systems 52(4), 2016, doi 10.1109/TAES.2016.140952; the start is the row reduction of R. Jonker and
A. Volgenant, Computing 38, 1987, doi 10.1007/BF02278710.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.backends.native.jit import as_array, compiled, in_threads, inlined


def solve_stack(
    costs: Float[Tensor, "total_rows width"],
    starts: Int64[Tensor, " problems"],
    rows: Int64[Tensor, " problems"],
    columns: Int64[Tensor, " problems"],
    *,
    most_rows: int,  # noqa: ARG001  # the kernels need it
    non_finite: float = 0.0,
) -> Int64[Tensor, " total_rows"]:
    """See `torch.assignment.solve_stack`."""
    answers = torch.full((len(costs),), -1, dtype=torch.int64)
    stack = costs.to(torch.promote_types(costs.dtype, torch.float32))
    arrays = [as_array(each) for each in (stack, starts, rows, columns, answers)]

    def work(start: int, stop: int) -> None:
        _problems(start, stop, *arrays, float(non_finite))

    in_threads(work, len(starts), PER_COST * stack.numel())
    return answers


ALL_BUT_THE_SIGN = np.int64(2**63 - 1)

PER_COST = 3
"""Nanoseconds."""

ROUNDS = 2
"""Of bids before the search."""

MOST_BIDS = 2
"""In a round, for each agent."""


@compiled
@no_type_check
def _problems(start, stop, stack, starts, rows, columns, answers, non_finite):
    """The problems from `start` to before `stop`."""
    for problem in range(start, stop):
        own = slice(starts[problem], starts[problem] + rows[problem])
        solve_rows(stack[own, : columns[problem]], answers[own], non_finite)


@compiled
@no_type_check
def solve_rows(rows, out, non_finite):
    """One problem: the column of each row, or -1; a cost that is not finite counts as `non_finite`."""
    agents, tasks = min(rows.shape), max(rows.shape)
    out[:] = -1
    if not agents:
        return
    tall = len(rows) > agents
    costs = np.empty((agents, tasks))
    _copy_finite(rows, costs.T if tall else costs, non_finite)
    for agent, task in enumerate(solve(costs)):
        if tall:
            out[task] = agent
        else:
            out[agent] = task


@compiled
@no_type_check
def _copy_finite(rows, costs, non_finite):
    """The costs in float64, as they are read."""
    for row in range(len(rows)):
        given, out = rows[row], costs[row]
        for column in range(len(out)):
            cost = np.float64(given[column])
            out[column] = cost if abs(cost) < np.inf else non_finite


@compiled
@no_type_check
def solve(costs):
    """The task of each agent, of which there are at most as many as tasks, at the least total cost.

    With a price u for each agent and v for each task, cost - u - v is nowhere negative and 0 for every pair so far, and
    v is 0 for every task that is free.
    """
    agents, tasks = costs.shape
    task_of_agent, agent_of_task = np.full(agents, -1), np.full(tasks, -1)
    prices = np.zeros(tasks)
    waiting = np.arange(agents)
    for _ in range(ROUNDS):
        waiting = _bid(waiting, costs, task_of_agent, agent_of_task, prices)
    for agent in waiting:
        _augment(agent, costs, task_of_agent, agent_of_task, prices)
    return task_of_agent


@compiled
@no_type_check
def _bid(waiting, costs, task_of_agent, agent_of_task, prices):
    """Each agent takes its cheapest task, whose price falls until the second cheapest costs as much; who is left.

    Who loses a task to a better bid bids again at once, but so often in all that a long contest is left to the search.
    """
    left, still, place, bids = np.empty(len(waiting), np.int64), 0, 0, MOST_BIDS * len(waiting)
    loser = -1
    while loser >= 0 or place < len(waiting):
        agent = loser
        if loser < 0:
            agent = waiting[place]
            place += 1
        row = costs[agent]
        lowest = _lowest(row, prices)
        task = _where_reduced(row, prices, lowest, agent_of_task)
        second = min(_lowest(row[:task], prices[:task]), _lowest(row[task + 1 :], prices[task + 1 :]))
        loser = agent_of_task[task]
        bids -= 1
        if loser >= 0 and (second <= lowest or bids < 0):
            left[still] = agent
            still += 1
            loser = -1
            continue
        if second < np.inf:
            prices[task] -= second - lowest
        task_of_agent[agent], agent_of_task[task] = task, agent
        if loser >= 0:
            task_of_agent[loser] = -1
    return left[:still]


@compiled
@no_type_check
def _augment(agent, costs, task_of_agent, agent_of_task, prices):
    """Let an agent in by the cheapest chain of reassignments to a free task.

    A task whose distance is final has a price of minus infinity in a copy: it is never reached again.
    """
    open_prices, distances = prices.copy(), np.full(len(prices), np.inf)
    reachers, bases = np.empty(len(costs), np.int64), np.empty(len(costs))
    closed, finals, steps = np.empty(len(costs), np.int64), np.empty(len(costs)), 0
    reachers[0], bases[0] = agent, 0.0
    while True:
        length = _reach(costs[reachers[steps]], open_prices, bases[steps], distances)
        task = _where(distances, length, agent_of_task)
        holder = agent_of_task[task]
        if holder < 0:
            break
        closed[steps], finals[steps] = task, length
        distances[task], open_prices[task] = np.inf, -np.inf
        steps += 1
        reachers[steps], bases[steps] = holder, length - (costs[holder, task] - prices[task])
    distance = length
    while True:
        step = _reached_at(task, distance, costs, prices, reachers, bases)
        holder = reachers[step]
        agent_of_task[task], task_of_agent[holder] = holder, task
        if step == 0:
            break
        task, distance = closed[step - 1], finals[step - 1]
    for step in range(steps):
        prices[closed[step]] -= length - finals[step]


@compiled
@no_type_check
def _reached_at(task, distance, costs, prices, reachers, bases):
    """The step at which a task was reached: the first by which it is as far, bit for bit.

    To write it down whenever a task comes nearer would take longer.
    """
    step = 0
    while bases[step] + (costs[reachers[step], task] - prices[task]) != distance:
        step += 1
    return step


@inlined
@no_type_check
def _ordered(bits):
    """Bits of float64 as integers of the same order, and back: the least of integers is found in vectors."""
    return bits ^ ((bits >> 63) & ALL_BUT_THE_SIGN)


@compiled
@no_type_check
def _lowest(costs, prices):
    """The lowest reduced cost; infinite where there is none."""
    lowest = _ordered(np.float64(np.inf).view(np.int64))
    for task in range(len(costs)):
        lowest = min(lowest, _ordered(np.float64(costs[task] - prices[task]).view(np.int64)))
    return np.int64(_ordered(lowest)).view(np.float64)


@compiled
@no_type_check
def _reach(costs, prices, base, distances):
    """Reach the tasks from an agent, where that is shorter; the least of all distances."""
    lowest = _ordered(np.float64(np.inf).view(np.int64))
    for task in range(len(costs)):
        through = base + (costs[task] - prices[task])
        distance = min(distances[task], through)
        distances[task] = distance
        lowest = min(lowest, _ordered(np.float64(distance).view(np.int64)))
    return np.int64(_ordered(lowest)).view(np.float64)


@compiled
@no_type_check
def _where_reduced(costs, prices, value, agent_of_task):
    """The first task with this reduced cost, a free one if there is any: where many tie, that ends the search."""
    first = -1
    for task in range(len(costs)):
        if costs[task] - prices[task] == value:
            if agent_of_task[task] < 0:
                return task
            first = task if first < 0 else first
    return first


@compiled
@no_type_check
def _where(distances, value, agent_of_task):
    """The first task at this distance, likewise."""
    first = -1
    for task in range(len(distances)):
        if distances[task] == value:
            if agent_of_task[task] < 0:
                return task
            first = task if first < 0 else first
    return first
