"""What the adapter for Ultralytics' signature does around a call."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import torch

from detr_conformance.optimized import RTDETRDetectionLoss
from detr_conformance.ports.ultralytics import UltralyticsPort
from detr_conformance.properties.case import LossCase, LossConfig


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
