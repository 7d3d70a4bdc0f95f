"""Data-parallel training: with a process group, the mean over the processes is the loss of the merged batch.

Real processes, each with its share of the images; torch's own `DistributedDataParallel` averages the gradients.
"""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from detr_conformance.optimized import RTDETRDetectionLoss

from .rank import PROCESSES, Heads, computed
from .steps import KINDS, Step, step

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="this build of torch has no gloo"
)
LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"

# For each process the targets of its images; there are six queries, so 8 are more than can be matched.
COUNTS = {
    "two": [(3, 0), (1, 1)],
    "three, one without targets": [(3, 0), (0, 0), (2, 8)],
    "three, of which one has the only target": [(0,), (1,), (0,)],
    "two without targets": [(0, 0), (0,)],
}
DTYPES = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7}


def shares_of(merged: Step, counts, options, is_grouped=True):
    """The images of a batch, divided among the processes."""
    images, targets = [len(own) for own in counts], [sum(own) for own in counts]
    predictions = zip(*(each.detach().split(images, dim=1) for each in merged.predictions), strict=True)
    labels, boxes = (merged.batch[key].split(targets) for key in ("cls", "bboxes"))
    slots = iter(merged.dn_meta["dn_pos_idx"]) if merged.dn_meta else None
    return [
        {
            "predictions": [each.clone() for each in of_rank],
            "batch": {"cls": labels[rank], "bboxes": boxes[rank], "gt_groups": list(counts[rank])},
            "dn_meta": slots and merged.dn_meta | {"dn_pos_idx": [next(slots) for _ in counts[rank]]},
            "options": options,
            "is_grouped": is_grouped,
        }
        for rank, of_rank in enumerate(predictions)
    ]


def divided(counts, kind="focal", *, is_grouped=True, **shape):
    """The shares of the processes, and after them the merged batch."""
    every = [count for own in counts for count in own]
    merged = step(every, **{"dtype": torch.float64, "groups": 2 if any(every) else 0} | shape)
    whole = shares_of(merged, [every], KINDS[kind])
    return shares_of(merged, counts, KINDS[kind], is_grouped) + whole


def without_denoising(share):
    """What a process has whose generator found no target to make denoising queries from."""
    return share | {"predictions": share["predictions"][:2], "dn_meta": None}


CASES = {f"{kind}, {name}": divided(counts, kind) for kind in KINDS for name, counts in COUNTS.items()}
CASES |= {str(dtype): divided(COUNTS["two"], "varifocal", dtype=dtype) for dtype in DTYPES}
CASES["no group"] = divided(COUNTS["two"], is_grouped=False)
SOME = divided([(3, 1), (0, 0)], groups=1)
CASES["no denoising on one"] = [SOME[0], without_denoising(SOME[1]), SOME[2]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """For each case what each process came to."""
    folder = tmp_path_factory.mktemp("processes")
    torch.save({name: shares for name, (*shares, _) in CASES.items()}, folder / "shares.pt")
    program = [sys.executable, str(Path(__file__).with_name("rank.py")), str(folder)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": LOOPBACK, "OMP_NUM_THREADS": "1"}
    running = [subprocess.Popen([*program, str(rank)], env=environment) for rank in range(PROCESSES)]
    try:
        assert [process.wait(timeout=120) for process in running] == [0] * PROCESSES
    finally:
        for process in running:
            process.kill()
            process.wait()
    of_ranks = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    return {name: [answer[name] for answer in of_ranks if name in answer] for name in CASES}


def assert_near(got, expected, name, eps=2.0**-52):
    __tracebackhide__ = True
    apart, scale = (got.double() - expected.double()).abs().max(), expected.double().abs().max()
    assert apart <= 32 * eps * scale, f"{name}: {got}, expected {expected}"


def assert_mean_is_merged(name, of_ranks, eps=2.0**-52):
    """Mean losses, gradients with respect to each process's own predictions, averaged ones to the parameters."""
    __tracebackhide__ = True
    merged = CASES[name][-1]
    expected = computed(merged, Heads(merged["predictions"]))
    for key, loss in expected["losses"].items():
        assert_near(sum(each["losses"][key] for each in of_ranks) / len(of_ranks), loss, key, eps)
    for place, whole in enumerate(expected["by predictions"]):
        own = torch.cat([each["by predictions"][place] for each in of_ranks], dim=1)
        assert_near(own / len(of_ranks), whole, "the gradient with respect to predictions", eps)
    for each in of_ranks:
        for own, whole in zip(each["by parameters"], expected["by parameters"], strict=True):
            assert_near(own, whole, "the gradient with respect to parameters", eps)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_over_the_processes_is_the_loss_of_the_merged_batch(answers, kind, counts):
    name = f"{kind}, {counts}"
    assert len(answers[name]) == len(COUNTS[counts])
    assert_mean_is_merged(name, answers[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_in_other_precisions(answers, dtype):
    of_ranks = answers[str(dtype)]
    assert all(loss.dtype == torch.float32 for each in of_ranks for loss in each["losses"].values())
    assert_mean_is_merged(str(dtype), of_ranks, DTYPES[dtype])


def test_the_processes_talk_once_a_step(answers):
    assert {each["talked"] for name in CASES if name != "no group" for each in answers[name]} == {1}


def test_without_a_group_each_process_computes_its_own_loss(answers):
    assert [each["talked"] for each in answers["no group"]] == [0, 0]
    for share, answer in zip(CASES["no group"], answers["no group"], strict=False):
        alone = computed(share, Heads(share["predictions"]))["losses"]
        assert all(torch.equal(answer["losses"][key], alone[key]) for key in alone)


def test_without_a_group_the_mean_is_not_the_loss_of_the_merged_batch(answers):
    with pytest.raises(AssertionError, match="loss_class"):
        assert_mean_is_merged("no group", answers["no group"])


def test_a_process_without_denoising_queries_counts_with_the_others(answers):
    name = "no denoising on one"
    only = CASES[name][0]  # the images that have denoising queries
    expected = computed(only, Heads(only["predictions"]))["losses"]
    for key in expected:
        if key.endswith("_dn"):
            assert_near(sum(each["losses"][key] for each in answers[name]) / 2, expected[key], key)


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A group of this process alone."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", LOOPBACK)
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store")), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


def test_a_copy_of_the_loss_talks_to_the_same_processes(group):
    # Trainers keep an averaged copy of the model, and the model keeps its criterion.
    loss = RTDETRDetectionLoss(4, process_group=group)
    for copied in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301  # our own
        before = group._get_sequence_number_for_group()
        step()(copied)
        assert group._get_sequence_number_for_group() == before + 1


def test_a_loss_from_another_process_says_that_its_group_is_missing(group):
    loss = RTDETRDetectionLoss(4, process_group=group)
    loss.name_of_group = "theirs"
    with pytest.raises(RuntimeError, match="process_group 'theirs' is not known in this process"):
        step()(loss)


@pytest.mark.usefixtures("shapes_unchecked")  # the tracer cannot look into the checks
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own
def test_a_traced_loss_talks_without_a_graph_break(group):
    loss = RTDETRDetectionLoss(4, process_group=group)
    before = group._get_sequence_number_for_group()
    losses = step()(torch.compile(loss, backend="aot_eager", fullgraph=True))
    expected = step()(RTDETRDetectionLoss(4))
    assert group._get_sequence_number_for_group() == before + 1
    assert all(torch.allclose(losses[key], expected[key], rtol=1e-6) for key in expected)
