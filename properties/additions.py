"""Changes of a case that add something to it, or take targets away, with a known effect on a correct loss.

All of them are about ordinary queries: the denoising queries are left out.
"""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from detr_conformance.properties.case import LossCase

HOPELESS_BOX = np.array([0.96875, 0.96875, 0.0625, 0.0625])
HOPELESS_LOGIT = -60.0
"""A background term of any classification loss is next to nothing there."""


def empty_images(case: LossCase, images: Set[int]) -> LossCase:
    """These images without their targets."""
    kept = np.isin(case.batch_idx, sorted(images), invert=True)
    return case.change(
        gt_cls=case.gt_cls[kept],
        gt_bboxes=case.gt_bboxes[kept],
        gt_groups=tuple(0 if image in images else count for image, count in enumerate(case.gt_groups)),
        denoising=None,
        **case.taken(targets=np.flatnonzero(kept)),
    )


def append_empty_image(case: LossCase) -> LossCase:
    """One more image at the end, with the predictions of the first one and without targets."""
    return case.change(**case.taken(images=[*range(case.images), 0]), gt_groups=(*case.gt_groups, 0), denoising=None)


def repeat_queries(case: LossCase) -> LossCase:
    """Every query twice, the copies after the originals."""
    return case.change(**case.taken(queries=[*range(case.queries)] * 2), denoising=None)


def repeat_first_layer(case: LossCase) -> LossCase:
    """The first layer twice."""
    return case.change(**case.taken(layers=[0, *range(case.layers)]), denoising=None)


def keep_first_and_main_layer(case: LossCase) -> LossCase:
    """Only the first layer and the last."""
    return case.change(**case.taken(layers=[0, case.layers - 1]), denoising=None)


def add_hopeless_queries(case: LossCase, count: int = 2) -> LossCase:
    """More queries, in a corner of the image and sure of being background, in front of all others."""
    shape = (case.layers, case.images, count)
    boxes, logits = np.tile(HOPELESS_BOX, (*shape, 1)), np.full((*shape, case.columns), HOPELESS_LOGIT)
    logits[..., case.config.nc :] = -HOPELESS_LOGIT  # no object, where there is a column for it
    widened = case.taken(queries=[0] * count + [*range(case.queries)])
    widened |= {
        "pred_bboxes": np.concatenate([boxes, case.pred_bboxes], axis=2),
        "pred_scores": np.concatenate([logits, case.pred_scores], axis=2),
    }
    return case.change(**widened, denoising=None)
