"""DN: the pairing of denoising queries for every small batch there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, product

import numpy as np

from detr_conformance.properties.case import CLASSIFICATION, Denoising, LossCase, LossConfig
from detr_conformance.properties.case_options import LOSS_GAIN
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.dn import assert_paired

MOST = 3
"""Most images, targets of an image, and groups."""
LISTED = Request(
    layers=(2, 2),
    images=(1, MOST),
    queries=(1, 1),
    classes=(1, 1),
    targets=(0, MOST),
    denoising="always",
    special=(),
    real=False,
)
BOX = np.array([0.5, 0.5, 0.25, 0.25])
DINO = "Zhang et al., DINO, arXiv 2203.03605, section 3.3"


def every_batch(_level: str, classification: str) -> Iterator[LossCase]:
    """All numbers of targets of up to three images, with one to three groups."""
    for gt_groups in _all_gt_groups(MOST):
        for groups in range(1, MOST + 1):
            yield _case(gt_groups, [np.arange(count) for count in gt_groups], groups, classification)


def every_subset(level: str, classification: str) -> Iterator[LossCase]:
    """All choices of one target, or of two, out of those of each image that has more; one group, as there is no room
    for a second. At level smoke of up to two images."""
    for gt_groups in _all_gt_groups(2 if level == "smoke" else MOST):
        for most in range(1, max(gt_groups)):
            options = [list(combinations(range(count), min(count, most))) for count in gt_groups]
            for chosen in product(*options):
                yield _case(gt_groups, [np.array(own, dtype=np.int64) for own in chosen], 1, classification)


@rule("DN-07", source=DINO, request=LISTED, needs={"denoising_indices"}, listing=every_batch)
def every_small_pairing(port: PortUnderTest, case: LossCase) -> None:
    """For all numbers of targets of up to three images with up to three targets, and one to three groups, slot j of the
    positive half of every group is paired with target j of its image, counted through the whole batch."""
    assert_paired(port, case)


@rule(
    "DN-08",
    source="Ultralytics get_dn_match_indices with dn_gt_idx: the targets of one group",
    request=LISTED,
    needs={"denoising_indices", "denoising_subset"},
    listing=every_subset,
)
def every_small_subset(port: PortUnderTest, case: LossCase) -> None:
    """For all subsets of one or two targets of up to three images the slots are paired with the targets that dn_gt_idx
    names, and with no others."""
    assert_paired(port, case)


def _all_gt_groups(images: int) -> Iterator[tuple[int, ...]]:
    """Numbers of targets of one image, of two, and so on; no batch without targets."""
    for count in range(1, images + 1):
        yield from (each for each in product(range(MOST + 1), repeat=count) if any(each))


def _case(gt_groups: Sequence[int], chosen: Sequence[np.ndarray], groups: int, classification: str) -> LossCase:
    """A case with denoising queries for the chosen targets, counted within each image."""
    images, width = len(gt_groups), max(map(len, chosen))
    starts = 2 * width * np.arange(groups)
    shape = (1, images, 2 * width * groups)
    denoising = Denoising(
        bboxes=np.tile(BOX, (*shape, 1)),
        scores=np.zeros((*shape, 1)),
        pos_idx=tuple((starts[:, None] + np.arange(len(own))).reshape(-1) for own in chosen),
        gt_idx=tuple(own + sum(gt_groups[:image]) for image, own in enumerate(chosen)),
        num_group=groups,
    )
    return LossCase(
        config=LossConfig(nc=1, loss_gain=LOSS_GAIN, **CLASSIFICATION[classification]),
        pred_bboxes=np.tile(BOX, (2, images, 1, 1)),
        pred_scores=np.zeros((2, images, 1, 1)),
        gt_cls=np.zeros(sum(gt_groups), dtype=np.int64),
        gt_bboxes=np.tile(BOX, (sum(gt_groups), 1)),
        gt_groups=tuple(gt_groups),
        denoising=denoising,
    )
