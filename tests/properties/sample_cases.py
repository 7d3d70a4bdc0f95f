"""Cases written out by hand, and cases drawn in one go."""

from __future__ import annotations

import random

import jaxtyping
import numpy as np
from hypothesis import given, settings
from hypothesis.strategies import SearchStrategy

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.case import Denoising, LossCase, LossConfig
from detr_conformance.properties.drawing import BYTES
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.strategies import Domain
from detr_conformance.reference import FAMILY, LossSpec


def grid_of_boxes(*shape: int) -> np.ndarray:
    """Boxes in sixteenths that all differ, as long as there are few."""
    count = int(np.prod(shape))
    steps = np.arange(count)
    boxes = np.stack([4 + steps % 8, 5 + steps % 7, 2 + steps % 3, 3 + steps % 5], axis=-1) / 16
    return boxes.reshape(*shape, 4)


def grid_of_logits(*shape: int) -> np.ndarray:
    """Logits in quarters, from -3 to 3."""
    return ((7 * np.arange(int(np.prod(shape))) % 25 - 12) / 4).reshape(shape)


def indices(*rows: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """A row of indices for each image."""
    return tuple(np.array(row, dtype=np.int64) for row in rows)


def denoising(**changes: object) -> Denoising:
    """Two groups for one target of the first image and two of the last; slot 8 is left over."""
    parts = {
        "bboxes": grid_of_boxes(1, 3, 9),
        "scores": grid_of_logits(1, 3, 9, 2),
        "pos_idx": indices((0, 4), (), (0, 1, 4, 5)),
        "gt_idx": indices((0,), (), (1, 2)),
        "num_group": 2,
    }
    return Denoising(**parts | changes)


def small_case(**changes: object) -> LossCase:
    """Two layers, three images of which the middle one is empty, four queries, two classes, focal loss."""
    parts = {
        "config": LossConfig(nc=2),
        "pred_bboxes": grid_of_boxes(2, 3, 4),
        "pred_scores": grid_of_logits(2, 3, 4, 2),
        "gt_cls": np.array([1, 0, 1]),
        "gt_bboxes": grid_of_boxes(3) + 1 / 64,
        "gt_groups": (1, 0, 2),
        "denoising": denoising(),
    }
    return LossCase(**parts | changes)


def drawn_cases(strategy: SearchStrategy[LossCase], count: int) -> list[LossCase]:
    """So many cases of a strategy, always the same, read from bytes; shapes are not checked meanwhile."""
    cases: list[LossCase] = []
    rng = random.Random(0)  # noqa: S311  # no secret

    @settings(database=None)
    @given(strategy)
    def collect(case: LossCase) -> None:
        cases.append(case)

    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    while len(cases) < count:
        collect.hypothesis.fuzz_one_input(rng.randbytes(BYTES))
    jaxtyping.config.update("jaxtyping_disable", before)
    return cases


def home_of(rule: Rule) -> PortUnderTest:
    """The reference by the first spec of the family that the rule is about."""
    ports = (PortUnderTest(ReferencePort(spec)) for spec in FAMILY.values())
    return next(port for port in ports if rule.applies(port))


def fitting(spec: LossSpec, case: LossCase) -> LossCase:
    """The case with what the spec knows of it: its columns of logits, and denoising queries where it has any."""
    judged = PortUnderTest(ReferencePort(spec))
    known = case if judged.can("denoising") else case.change(denoising=None)
    return Domain.of(judged).allowed(known)


BASE_RULES = tuple(rule for rule in RULES if rule.applies(PortUnderTest(ReferencePort())))
"""The rules that are about the base spec."""
