"""The denoising generator on CUDA: the host never waits, and a step can be captured in a graph."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import get_cdn_group, upload

from .denoising_batches import CLASSES, CROWDED, QUERIES, WHOLE, make_batch, seeded
from .waiting import no_waiting

pytestmark = pytest.mark.cuda

layouts = pytest.mark.parametrize(("gt_groups", "num_dn"), WHOLE + CROWDED)


def on_cuda(gt_groups, **change):
    batch = make_batch(gt_groups) | change
    return batch | {key: batch[key].cuda() for key in ("cls", "bboxes")}


def generate(batch, num_dn, embedding=None, **options):
    embedding = torch.eye(CLASSES, device="cuda") if embedding is None else embedding
    return get_cdn_group(batch, CLASSES, QUERIES, embedding, num_dn, training=True, **options)


@layouts
@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_the_host_never_waits_neither_forward_nor_backward(gt_groups, num_dn, scale):
    batch, embedding = on_cuda(gt_groups), torch.nn.Parameter(torch.eye(CLASSES, device="cuda"))
    generator = seeded(0, "cuda")
    with no_waiting():
        labels, *_ = generate(batch, num_dn, embedding, box_noise_scale=scale, generator=generator)
        labels.sum().backward()
    assert embedding.grad.isfinite().all()


@pytest.mark.parametrize(("gt_groups", "num_dn"), WHOLE)
def test_without_noise_everything_is_as_on_the_cpu(gt_groups, num_dn):
    options = {"cls_noise_ratio": 0.0, "box_noise_scale": 0.0}
    *came, meta = generate(on_cuda(gt_groups), num_dn, **options)
    *wanted, expected = generate(make_batch(gt_groups), num_dn, torch.eye(CLASSES), **options)
    assert all(torch.equal(ours.cpu(), theirs) for ours, theirs in zip(came, wanted, strict=True))
    for key in ("dn_pos_idx", "dn_gt_idx"):
        assert [row.tolist() for row in meta[key]] == [row.tolist() for row in expected[key]]
        assert {row.device.type for row in meta[key]} == {"cuda"}


@layouts
def test_a_seed_repeats_bit_for_bit(gt_groups, num_dn):
    batch = on_cuda(gt_groups)
    first, second = (generate(batch, num_dn, generator=seeded(4, "cuda")) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert all(map(torch.equal, first[3]["dn_gt_idx"], second[3]["dn_gt_idx"]))


def test_a_class_that_does_not_exist_counts_as_the_nearest():
    batch = on_cuda((2,), cls=torch.tensor([-7, CLASSES + 7]))
    labels, *_ = generate(batch, 2, cls_noise_ratio=0.0)
    assert labels[0].argmax(dim=-1).tolist() == [0, CLASSES - 1] * 2


def test_a_generator_on_the_cpu_is_refused():
    with pytest.raises(ValueError, match="generator is on cpu, expected cuda:0, where class_embed is"):
        generate(on_cuda((2,)), 2, generator=torch.Generator())


@pytest.mark.parametrize(("gt_groups", "num_dn"), [((3, 0, 1), 6), ((2, 7), 3)])
def test_a_captured_graph_draws_anew_at_each_replay(gt_groups, num_dn):
    batch, graph = on_cuda(gt_groups), torch.cuda.CUDAGraph()
    generate(batch, num_dn)  # sends the counts
    with torch.cuda.graph(graph):
        _, boxes, _, meta = generate(batch, num_dn)
    replays = []
    for other in range(upload.REMEMBERED + 1):
        generate(on_cuda((1, other + 1)), 2)  # other counts take the place of those that the graph reads
        if other % upload.REMEMBERED == 0:
            graph.replay()
            replays.append(boxes.clone())
            assert (torch.cat(meta["dn_gt_idx"]).diff() > 0).all()
    assert not torch.equal(*replays)


def test_counts_that_were_not_sent_before_a_capture_are_refused_by_name():
    batch, graph = on_cuda((5, 4, 3, 11)), torch.cuda.CUDAGraph()  # nowhere else in the tests
    with pytest.raises(RuntimeError, match=r"row of \(\(5, 4, 3, 9\), .* is not on cuda:0 yet.*before the capture"):  # noqa: SIM117
        with torch.cuda.graph(graph):
            generate(batch, 9)
