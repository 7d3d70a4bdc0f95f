"""DN: the inverse sigmoid that turns the boxes of denoising queries into logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.dn_generator import NEEDS, REQUEST
from detr_conformance.properties.rules.generated import generate
from detr_conformance.properties.tolerance import arithmetic
from detr_conformance.reference import Tracked, track
from detr_conformance.reference.denoising import NEGATIVE, POSITIVE

HARDLY_ANY = 2.0**-30
"""Of noise: edges move by a sixty-fourth of a rounding in float32 of their box's size, at most. At 0 there are no
logits."""
BOXES = np.array(
    [
        # Below a clip at 1e-6, between those at 1e-6 and at 1e-5, and above them.
        *(np.full(4, 2.0**-power) for power in (21, 18, 14, 10, 7, 4)),
        [2.0**-11, 2.0**-3, 2.0**-10, 2.0**-13],
        [0.5, 0.25, 0.25, 0.5],
        [0.5, 0.5, 1.0, 1.0],
        [1.0 - 2.0**-7, 1.0 - 2.0**-5, 2.0**-7, 2.0**-5],
    ]
)
"""Boxes whose small numbers come close to 0: there float32 tells one eps from another."""


@rule(
    "DN-26",
    source="Zhang et al., DINO, arXiv 2203.03605: boxes are refined as logits; Ultralytics get_cdn_group: eps = 1e-6",
    request=replace(REQUEST, targets=(1, 4), special=(), real=False),
    needs=NEEDS,
)
def inverse_sigmoid(port: PortUnderTest, case: LossCase) -> None:
    """With next to no noise the boxes of positives and negatives are log(p / (1 - p)) of their target's numbers p in
    centre form, each clipped to [eps, 1 - eps] with the profile's eps, and eps enters nowhere else."""
    chosen = (case.generator.seed + np.arange(case.targets)) % len(BOXES)
    quiet = case.change(
        gt_bboxes=BOXES[chosen], generator=replace(case.generator, box_noise_scale=HARDLY_ANY, num_dn=12)
    )
    made = generate(port, quiet)
    for image in range(case.images):
        boxes = made.sources(image, quiet.gt_bboxes)
        wanted = _logits(boxes, port.spec.denoising.generator.logit_eps, quiet.target_dtype)
        for half, kind in ((POSITIVE, "positives"), (NEGATIVE, "negatives")):
            port.compare(f"logits of the {kind} of image {image}", made.boxes(image, half), wanted, quiet.target_dtype)


def _logits(boxes: np.ndarray, eps: float, dtype: str) -> Tracked:
    """Logits of boxes, by way of their edges, with the rounding errors of that way.

    Some clip p alone and some p and 1 - p each: the difference of eps is below a rounding of the logit of eps.
    """
    tracked = track(boxes, arithmetic(dtype))
    low, high = (np.maximum(tracked[:, :2] + sign * tracked[:, 2:] / 2.0, 0.0) for sign in (-1.0, 1.0))
    low, high = np.minimum(low, 1.0), np.minimum(high, 1.0)
    p = np.concatenate([(low + high) / 2.0, high - low], axis=1)
    inside = np.minimum(np.maximum(p, eps), 1.0 - eps)
    # Not of the quotient: where 1 - p is lost in rounding its logarithm still is finite.
    return np.log(inside) - np.log(1.0 - inside)
