"""The training loss of the DETR family in NumPy float64, to be read like a paper.

Read `loss`, the story that all members share; `base_spec`, where Ultralytics' decisions stand, against which all others
are told; then `family`, what each member decides differently. `spec` says what there is to decide. There is a file for
each decision: `matcher`, `pairing`, `classification`, `boxes`, `normaliser`, `layers`, `denoising`, `keys`; `ranks` and
`merged_batch` for data-parallel training; `masks` and `mask_terms`, and D-FINE's `distributions` and
`distribution_terms`, for the extra losses. `detr_loss` and `rtdetr_loss` are the class API of Ultralytics.

Nobody needs the machinery to understand a loss: `tape` differentiates, `rounding` bounds the rounding error of any
correct port, and `loss_value` holds both beside the value. A *port* is an implementation under test. *quirk* marks what
looks like a mistake in Ultralytics' loss and is reproduced.
"""

from detr_conformance.reference.assignment import Assignment, linear_sum_assignment
from detr_conformance.reference.base_spec import ULTRALYTICS, differs
from detr_conformance.reference.boxes import Guard, bbox_iou
from detr_conformance.reference.classification import ClassTerm
from detr_conformance.reference.denoising import get_cdn_group
from detr_conformance.reference.detr_loss import DETRLoss, FocalLoss, HungarianMatcher, VarifocalLoss
from detr_conformance.reference.family import FAMILY, RTDETR
from detr_conformance.reference.inputs import Inputs
from detr_conformance.reference.loss import Criterion
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
