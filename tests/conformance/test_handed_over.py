"""What a call leaves behind in what it was given is a changed input; what it adds for itself is none."""

from __future__ import annotations

import pytest
import torch

from detr_conformance.optimized import RTDETRDetectionLoss, get_cdn_group
from detr_conformance.ports.handed_over import HandedOver
from detr_conformance.ports.torch_port import TorchPort
from detr_conformance.ports.ultralytics import UltralyticsPort
from detr_conformance.power import RULE
from detr_conformance.properties.judging import judge, judge_on
from detr_conformance.reference import ULTRALYTICS


def given():
    return {"gt_groups": [2, 1], "img": torch.zeros(3), "meta": {"num_group": 2, "split": (4, 8)}}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda batch: batch["gt_groups"].sort(), ["batch['gt_groups'][0]", "batch['gt_groups'][1]"]),
        (lambda batch: batch["gt_groups"].clear(), ["batch['gt_groups']"]),
        (lambda batch: batch["meta"].update(num_group=1), ["batch['meta']['num_group']"]),
        (lambda batch: batch.pop("img"), ["batch['img']"]),
        (lambda batch: batch.update(img=torch.zeros(3)), ["batch['img']"]),
        (lambda batch: batch.update(cached=1), []),
        (lambda batch: batch["meta"].setdefault("num_group", 7), []),
    ],
)
def test_an_entry_that_is_another_one_is_named(change, named):
    handed_over = HandedOver()
    batch = handed_over.watch("batch", given())
    change(batch)
    assert handed_over.changed() == named


class Leaving(TorchPort):
    """Does something to what it is called with."""

    name, profile = "leaving", "ultralytics"
    capabilities, dtypes = frozenset({"focal"}), frozenset({"float32"})

    def __init__(self, leave):
        self.leave = leave

    def build(self, _case):
        return None

    def call(self, _loss, case, tensors):
        batch = tensors.handed_over.watch("batch", {"gt_groups": list(case.gt_groups)})
        self.leave(tensors.predictions, batch, case)
        return {"loss_class": tensors.predictions["pred_scores"].sum()}


@pytest.mark.parametrize(
    ("leave", "named"),
    [
        (lambda predictions, _batch, _case: predictions["pred_scores"].sum().backward(), "pred_scores.grad"),
        (lambda predictions, *_: predictions["pred_bboxes"].requires_grad_(False), "pred_bboxes.requires_grad"),
        (lambda _predictions, batch, _case: batch["gt_groups"].append(0), "batch['gt_groups']"),
        (lambda _predictions, _batch, case: case.config.loss_gain.update(bbox=4.0), "config.loss_gain['bbox']"),
    ],
)
def test_a_port_is_told_what_it_has_left_behind(leave, named, small_case):
    outcome = judge_on(small_case, RULE["API-04"], Leaving(leave), ULTRALYTICS)
    assert (outcome.verdict, outcome.message) == ("fail", f"the call changed its input {named}")


def test_gains_may_be_filled_up(small_case):
    def fill_up(_predictions, _batch, case):
        case.config.loss_gain.update({f"aux_{term}": gain for term, gain in case.config.loss_gain.items()})

    before = dict(small_case.config.loss_gain)
    assert judge_on(small_case, RULE["API-04"], Leaving(fill_up), ULTRALYTICS).verdict == "pass"
    assert small_case.config.loss_gain == before


def test_a_generator_that_caps_the_counts_of_its_batch_has_changed_its_input():
    def capping(batch, classes, queries, embedding, num_dn, *options, **others):
        made = get_cdn_group(batch, classes, queries, embedding, num_dn, *options, **others)
        batch["gt_groups"][:] = [min(count, num_dn) for count in batch["gt_groups"]]
        return made

    outcome = judge(RULE["API-04"], UltralyticsPort(RTDETRDetectionLoss, capping), level="smoke", shrink=False)
    assert outcome.verdict == "fail"
    assert outcome.message.startswith("the call changed its input batch['gt_groups']")
