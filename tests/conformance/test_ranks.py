"""Ranks in one process: collectives answer as those of a real run, and ranks that would wait for ever are told."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

pytest.importorskip("torch", reason="ranks of torch.distributed")
import torch
import torch.distributed as dist

from detr_conformance.ports.ranks import in_ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="this build of torch has no torch.distributed")


def run(compute, batches):
    return in_ranks(compute, batches, lambda _rank, _ranks: nullcontext())


def reduced(number, op=dist.ReduceOp.SUM):
    tensor = torch.tensor([float(number)])
    dist.all_reduce(tensor, op)
    return float(tensor)


def gathered(number):
    tensors = [torch.zeros(1) for _ in range(dist.get_world_size())]
    dist.all_gather(tensors, torch.tensor([float(number)]))
    return [float(each) for each in tensors]


def broadcast(number):
    tensor = torch.tensor([float(number)])
    dist.broadcast(tensor, src=1)
    return float(tensor)


@pytest.mark.parametrize(
    ("compute", "answers"),
    [
        (reduced, [6.0, 6.0, 6.0]),
        (lambda number: reduced(number, dist.ReduceOp.AVG), [2.0, 2.0, 2.0]),
        (lambda number: reduced(number, dist.ReduceOp.MAX), [5.0, 5.0, 5.0]),
        (gathered, [[5.0, 1.0, 0.0]] * 3),
        (broadcast, [1.0, 1.0, 1.0]),
        (lambda number: (dist.barrier(), number)[1], [5, 1, 0]),
        (
            lambda _: (dist.get_rank(), dist.get_world_size(), dist.is_initialized()),
            [(each, 3, True) for each in range(3)],
        ),
    ],
    ids=["sum", "mean", "maximum", "gathered", "broadcast", "barrier", "told who they are"],
)
def test_collectives_answer_as_between_processes(compute, answers):
    assert run(compute, [5, 1, 0]) == answers
    assert not dist.is_initialized()


def test_what_is_handed_in_may_depend_on_an_earlier_answer():
    assert run(lambda number: reduced(number * reduced(number)), [2.0, 3.0]) == [25.0, 25.0]


def test_a_rank_that_leaves_early_would_keep_the_others_waiting():
    with pytest.raises(
        RuntimeError, match="would wait for ever: rank 0 calls the collectives all_reduce, and rank 1 none"
    ):
        run(lambda number: reduced(number) if number else 0.0, [1, 0])


def test_answers_that_never_settle_are_told():
    drawn = iter(range(1000))
    with pytest.raises(RuntimeError, match="not settled after 4 rounds"):
        run(lambda _: reduced(next(drawn)), [0, 0])


def test_a_process_of_a_real_run_is_refused():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with pytest.raises(RuntimeError, match="in use already"):
            run(reduced, [1])
    finally:
        dist.destroy_process_group()


def test_the_group_is_gone_after_an_error():
    with pytest.raises(ZeroDivisionError):
        run(lambda number: reduced(number) / 0, [1, 2])
    assert not dist.is_initialized()
