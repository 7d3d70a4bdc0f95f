"""What random calls have found in `optimized`, one test for each defect, so that no seed has to be remembered."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from detr_conformance.optimized import DETRLoss, FocalLoss, HungarianMatcher, RTDETRDetectionLoss, get_cdn_group
from detr_conformance.optimized.normaliser import Normaliser

# Arrays are accepted without being announced in the annotations.
pytestmark = pytest.mark.usefixtures("shapes_unchecked")
BOX = torch.tensor([[0.5, 0.5, 0.2, 0.2]])


def test_alpha_keeps_its_digits_in_float64():
    logit = torch.zeros(1, 1, 1, dtype=torch.float64)
    # At p = 1/2 the background has (1 - alpha) p^0 log 2.
    assert FocalLoss(gamma=0.0, alpha=0.1)(logit, logit).item() == pytest.approx(0.9 * math.log(2), rel=1e-15)


@pytest.mark.parametrize("pairs", [0.0, 1.0])
def test_alpha_keeps_its_digits_where_processes_average(pairs):
    chosen = Normaliser(torch.tensor(pairs, dtype=torch.float64), 2).if_any(0.1, 0.7)
    assert chosen.item() == (0.1 if pairs else 0.7)


@pytest.mark.parametrize("row", [np.array([0])[::-1], np.array([0], ">i8")], ids=["reversed", "foreign byte order"])
def test_a_row_may_be_any_array_of_integers(row):
    [(queries, targets)] = RTDETRDetectionLoss.get_dn_match_indices([row], 1, [1])
    assert (queries.tolist(), targets.tolist()) == ([0], [0])


@pytest.mark.parametrize("side", [0, 1])
def test_an_index_is_not_negative(side):
    pair = [torch.tensor([0, -1 if each == side else 1]) for each in (0, 1)]
    with pytest.raises(ValueError, match=rf"match_indices\[0\]\[{side}\] is \[0, -1\]"):
        DETRLoss._get_index([tuple(pair)])


def test_a_label_beyond_int64_is_named():
    batch = {"cls": torch.tensor([2**64 - 1], dtype=torch.uint64), "bboxes": BOX, "gt_groups": [1]}
    with pytest.raises(ValueError, match=r"gt_cls .* has 18446744073709551615 at"):
        DETRLoss(nc=1)(BOX[None, None], torch.zeros(1, 1, 1, 1), batch)


@pytest.mark.parametrize("backend", ["torch", "triton"])
def test_softmax_with_an_infinite_logit_is_nan_in_every_class_so_the_cost_is_0(backend):
    if backend == "triton":
        pytest.importorskip("triton")
    logits = torch.tensor([[[math.inf, 0.0], [-9.0, 9.0]]])
    far = (BOX + torch.tensor([0.3, 0.0, 0.0, 0.0])).expand(1, 2, 4)
    matcher = HungarianMatcher(use_fl=False, backend=backend)
    [(queries, _)] = matcher(far, logits, BOX, torch.tensor([1]), [1])
    # The second query is the better one of the two, but its box is too far away for a cost below 0.
    assert queries.tolist() == [0]


@pytest.mark.parametrize(("halves", "autocast"), [(torch.float16, torch.bfloat16), (torch.bfloat16, torch.float16)])
def test_autocast_to_one_type_of_halves_takes_the_other(halves, autocast):
    batch = {"cls": torch.tensor([0]), "bboxes": BOX, "gt_groups": [1]}
    own, first = [BOX.to(halves)], [(torch.tensor([0]), torch.tensor([0]))]
    with torch.autocast("cpu", dtype=autocast):
        labels, *_ = get_cdn_group(batch, 1, 1, torch.ones(1, 2, dtype=halves), training=True)
        _, targets = DETRLoss._get_assigned_bboxes(BOX[None], own, first)
        pair = BOX[None, None].expand(3, -1, -1, -1).to(halves), torch.zeros(3, 1, 1, 1, dtype=halves)
        losses = RTDETRDetectionLoss(nc=1, use_uni_match=True, uni_match_ind=1)(pair, batch)
    assert labels.dtype == targets.dtype == halves
    assert all(loss.isfinite() for loss in losses.values())
