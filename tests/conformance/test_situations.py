"""Losses that are right by themselves, and wrong in a situation of a training run."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from detr_conformance.optimized import RTDETRDetectionLoss
from detr_conformance.ports.handed_over import HandedOver
from detr_conformance.ports.ultralytics import UltralyticsPort
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES

BY_ID = {rule.id: rule for rule in RULES}


class KeptInTheBatch(RTDETRDetectionLoss):
    def forward(self, preds, batch, *arguments, **options):
        if "losses" not in batch:
            batch["losses"] = super().forward(preds, batch, *arguments, **options)
        return batch["losses"]


class ConstantsOfTheFirstCall(RTDETRDetectionLoss):
    one = None

    def forward(self, *arguments, **options):
        self.one = torch.ones(()) if self.one is None else self.one
        return {key: loss * self.one for key, loss in super().forward(*arguments, **options).items()}


class NoGraphWithFrozenLogits(RTDETRDetectionLoss):
    def forward(self, preds, *arguments, **options):
        losses = super().forward(preds, *arguments, **options)
        return losses if preds[1].requires_grad else {key: loss.detach() for key, loss in losses.items()}


class WithALock(RTDETRDetectionLoss):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.lock = threading.Lock()


class GainsOfTheFirstCall(RTDETRDetectionLoss):
    gains = None

    def forward(self, *arguments, **options):
        self.gains = dict(self.loss_gain) if self.gains is None else self.gains
        self.loss_gain = dict(self.gains)
        return super().forward(*arguments, **options)


class ClassesInTheDtypeOfLogits(RTDETRDetectionLoss):
    def forward(self, preds, batch, *arguments, **options):
        classes = batch["cls"].to(preds[1].dtype).long().clamp(max=self.nc - 1)
        return super().forward(preds, {**batch, "cls": classes}, *arguments, **options)


WRONG = {
    "API-20": (GainsOfTheFirstCall, "fail", "otherwise and changed by its attributes"),
    "API-21": (KeptInTheBatch, "fail", "in the situation same_targets"),
    "API-22": (ConstantsOfTheFirstCall, "error", "Inference tensors cannot be saved for backward"),
    "API-23": (NoGraphWithFrozenLogits, "fail", "in the situation frozen_logits, gradient of loss_bbox"),
    "API-24": (WithALock, "error", "cannot pickle '_thread.lock' object"),
    "NUM-03": (ClassesInTheDtypeOfLogits, "fail", "loss_class"),
}


@pytest.mark.parametrize("rule", WRONG)
def test_it_is_failed_there(rule):
    loss_class, verdict, said = WRONG[rule]
    outcome = judge(BY_ID[rule], UltralyticsPort(loss_class), level="smoke")
    assert outcome.verdict == verdict
    assert said in outcome.message


@pytest.mark.thorough
@pytest.mark.parametrize("rule", WRONG)
def test_the_loss_that_they_are_made_of_passes(rule):
    assert judge(BY_ID[rule], UltralyticsPort(RTDETRDetectionLoss), level="smoke").verdict == "pass"


def test_who_hands_over_the_same_again_keeps_what_was_added():
    handed_over, boxes = HandedOver(), torch.zeros(3, 4)
    first = handed_over.watch("targets", [{"boxes": boxes[:2]}, {"boxes": boxes[2:]}])
    first[0]["kept"] = 1
    assert handed_over.watch("targets", [{"boxes": boxes[:2]}, {"boxes": boxes[2:]}]) is first
    assert handed_over.watch("targets", [{"boxes": boxes[:1]}, {"boxes": boxes[1:]}]) is not first
    assert handed_over.watch("outputs", first) is first
    assert handed_over.changed() == []


def test_what_is_frozen_has_no_gradient_and_the_rest_has(small_case):
    returned = UltralyticsPort(RTDETRDetectionLoss).loss_in_situation(small_case, "frozen_boxes")
    assert "pred_bboxes" not in returned.gradients["loss_giou"]
    assert np.abs(returned.gradients["loss_class"]["pred_scores"]).max() > 0
