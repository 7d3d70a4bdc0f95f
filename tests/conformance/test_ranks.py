"""Ranks in one process: collectives answer as those of a real run, and ranks that would wait for ever are told."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import numpy as np
import pytest

pytest.importorskip("torch", reason="ranks of torch.distributed")
import torch
import torch.distributed as dist

from detr_conformance.ports.ranks import in_ranks
from detr_conformance.ports.torch_port import TorchPort
from detr_conformance.properties.port_under_test import PortError, PortUnderTest

from ..properties.sample_cases import grid_of_boxes, grid_of_logits, small_case

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


def test_the_hook_for_exceptions_stays_as_it_is():
    before = sys.excepthook
    run(reduced, [1, 2])
    assert sys.excepthook is before


class MeanPort(TorchPort):
    """Divides the sum of its logits by the mean number of targets; the total of a step by that of all micro-batches."""

    name, profile = "mean", "deformable"
    capabilities = frozenset({"focal", "ranks", "normaliser"})
    dtypes = frozenset({"float32"})

    def build(self, _case):
        return self.over_ranks

    def over_ranks(self, count):
        count = torch.tensor(float(count))
        if dist.is_initialized():
            dist.all_reduce(count)
            count /= dist.get_world_size()
        return count.clamp(min=1)

    def call(self, loss, case, tensors):
        return {"loss_ce": tensors.predictions["pred_scores"].sum() / loss(case.targets)}

    def call_in_step(self, _loss, _case, tensors, step):
        return {"loss_ce": tensors.predictions["pred_scores"].sum() / sum(each.targets for each in step)}


class LeavingPort(MeanPort):
    """Has nothing to say on a rank without targets."""

    def call(self, loss, case, tensors):
        return super().call(loss, case, tensors) if case.targets else {}


def batches(*counts):
    return [
        small_case(
            pred_bboxes=grid_of_boxes(1, 1, 4),
            pred_scores=grid_of_logits(1, 1, 4, 2) + rank,
            denoising=None,
            gt_cls=np.zeros(count, dtype=np.int64),
            gt_bboxes=grid_of_boxes(count),
            gt_groups=(count,),
        )
        for rank, count in enumerate(counts)
    ]


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_port_in_torch_runs_as_ranks_with_gradients():
    cases = batches(3, 0)
    results = MeanPort().losses_of_ranks(cases)
    for case, result in zip(cases, results, strict=True):
        assert float(result.losses["loss_ce"]) == pytest.approx(case.pred_scores.sum() / 1.5)
        assert result.gradients["loss_ce"]["pred_scores"] == pytest.approx(np.full(case.pred_scores.shape, 1 / 1.5))


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_port_in_torch_is_told_all_micro_batches():
    cases = batches(3, 0, 1)
    results = MeanPort().losses_of_steps(cases)
    assert [float(each.losses["loss_ce"]) for each in results] == [float(case.pred_scores.sum() / 4) for case in cases]


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_port_that_leaves_early_is_told_what_would_happen():
    with pytest.raises(PortError, match="a real run would wait for ever: rank 0 calls the collectives all_reduce"):
        PortUnderTest(LeavingPort()).losses_of_ranks(batches(3, 0))


@pytest.mark.usefixtures("shapes_unchecked")
def test_a_port_that_cannot_be_told_says_what_it_lacks():
    class Lacking(MeanPort):
        call_in_step = TorchPort.call_in_step

    with pytest.raises(NotImplementedError, match="declares 'normaliser' and has no call_in_step"):
        Lacking().losses_of_steps(batches(1, 2))
