"""The DETR / RT-DETR training loss in NumPy float64, to be read like a paper.

Start with `detr_loss.DETRLoss`; it uses `matcher` (who answers for which target), `classification` and `boxes` (the
terms); `rtdetr_loss` adds the denoising queries that `denoising` makes. Every loss is a `Loss`: value, closed-form
gradient, and the rounding error that anyone may make who computes it (`rounding`).
"""

from detr_conformance.reference.assignment import Assignment, linear_sum_assignment
from detr_conformance.reference.boxes import bbox_iou, giou_gradient
from detr_conformance.reference.classification import FocalLoss, VarifocalLoss
from detr_conformance.reference.denoising import get_cdn_group
from detr_conformance.reference.detr_loss import DETRLoss
from detr_conformance.reference.loss_value import Loss, Losses
from detr_conformance.reference.matcher import HungarianMatcher, Matching
from detr_conformance.reference.rounding import Arithmetic, Tracked, magnitude, track
from detr_conformance.reference.rtdetr_loss import RTDETRDetectionLoss

__all__ = [
    "Arithmetic",
    "Assignment",
    "DETRLoss",
    "FocalLoss",
    "HungarianMatcher",
    "Loss",
    "Losses",
    "Matching",
    "RTDETRDetectionLoss",
    "Tracked",
    "VarifocalLoss",
    "bbox_iou",
    "get_cdn_group",
    "giou_gradient",
    "linear_sum_assignment",
    "magnitude",
    "track",
]
