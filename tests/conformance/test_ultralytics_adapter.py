"""What the adapter for Ultralytics' signature does around a call."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from detr_conformance.optimized import RTDETRDetectionLoss
from detr_conformance.ports.ultralytics import UltralyticsPort
from detr_conformance.properties.case import LossCase, LossConfig
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES


def case_of(seed: int) -> LossCase:
    case = LossCase(
        config=LossConfig(nc=1),
        pred_bboxes=np.full((1, 1, 1, 4), 0.25),
        pred_scores=np.zeros((1, 1, 1, 1)),
        gt_cls=np.zeros(1, dtype=np.int64),
        gt_bboxes=np.full((1, 4), 0.25),
        gt_groups=(1,),
    )
    return case.change(generator=replace(case.generator, seed=seed))


def test_a_generator_may_draw_from_any_global_source_and_is_seeded():
    drawn = []

    def draw(*_arguments, **_options):
        drawn.append((torch.rand(1).item(), np.random.random(), random.random()))  # noqa: NPY002, S311  # seeded or not
        return None, None, None, None

    port = UltralyticsPort(RTDETRDetectionLoss, draw)
    for seed in (3, 4, 3):
        assert port.denoising_group(case_of(seed)) is None
    first, other, again = drawn
    assert first == again
    assert not set(first) & set(other)


class TakesBoth(RTDETRDetectionLoss):
    """As the class API has it: numbers of targets, and beside them what a group reconstructs."""

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups, dn_gt_idx=None):
        assert all(isinstance(count, int) for count in gt_groups)
        return RTDETRDetectionLoss.get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups, dn_gt_idx)


class TakesNumbers(RTDETRDetectionLoss):
    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups):
        assert all(isinstance(count, int) for count in gt_groups)
        return RTDETRDetectionLoss.get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups)


class TakesTargets(RTDETRDetectionLoss):
    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx):
        assert all(isinstance(own, torch.Tensor) for own in dn_gt_idx)
        return RTDETRDetectionLoss.get_dn_match_indices(dn_pos_idx, dn_num_group, dn_gt_idx)


@pytest.mark.parametrize("loss_class", [TakesBoth, TakesNumbers, TakesTargets])
def test_a_pairing_of_denoising_queries_gets_what_its_signature_asks_for(loss_class):
    port = UltralyticsPort(loss_class)
    assert ("denoising_subset" in port.capabilities) == (loss_class is not TakesNumbers)
    for rule in RULES:
        if rule.id in ("DN-03", "DN-07"):
            outcome = judge(rule, port, level="smoke")
            assert (outcome.verdict, outcome.message) == ("pass", "")
