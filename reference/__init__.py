"""The training loss of the DETR family in NumPy float64, to be read like a paper.

Start with `loss`, the story that all members share, and `family`, what each of them decides differently; `spec` says
what there is to decide. `matcher`, `classification`, `boxes` and `denoising` hold the formulas, `detr_loss` and
`rtdetr_loss` the class API of Ultralytics. Every loss is a `Loss`: value, gradient (`tape`), and the rounding error
that anyone may make who computes it (`rounding`).
"""

from detr_conformance.reference.assignment import Assignment, linear_sum_assignment
from detr_conformance.reference.base_spec import ULTRALYTICS, differs
from detr_conformance.reference.boxes import Guard, bbox_iou
from detr_conformance.reference.classification import ClassTerm
from detr_conformance.reference.denoising import get_cdn_group
from detr_conformance.reference.detr_loss import DETRLoss, FocalLoss, HungarianMatcher, VarifocalLoss
from detr_conformance.reference.family import FAMILY, RTDETR
from detr_conformance.reference.loss import Criterion, Inputs
from detr_conformance.reference.loss_value import Loss, Losses
from detr_conformance.reference.matcher import Matching
from detr_conformance.reference.options import LossConfig, MatcherConfig
from detr_conformance.reference.rounding import Arithmetic, Tracked, magnitude, track
from detr_conformance.reference.rtdetr_loss import RTDETRDetectionLoss
from detr_conformance.reference.spec import LossSpec, differing, replace_in, wrap_in

__all__ = [
    "FAMILY",
    "RTDETR",
    "ULTRALYTICS",
    "Arithmetic",
    "Assignment",
    "ClassTerm",
    "Criterion",
    "DETRLoss",
    "FocalLoss",
    "Guard",
    "HungarianMatcher",
    "Inputs",
    "Loss",
    "LossConfig",
    "LossSpec",
    "Losses",
    "MatcherConfig",
    "Matching",
    "RTDETRDetectionLoss",
    "Tracked",
    "VarifocalLoss",
    "bbox_iou",
    "differing",
    "differs",
    "get_cdn_group",
    "linear_sum_assignment",
    "magnitude",
    "replace_in",
    "track",
    "wrap_in",
]
