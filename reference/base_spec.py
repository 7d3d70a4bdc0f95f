"""The base spec, Ultralytics', and how another one says what it decides differently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.reference.boxes import Guard, giou, iou, l1_distance
from detr_conformance.reference.classification import FOCAL, SCORE_ENTROPY, VARIFOCAL
from detr_conformance.reference.denoising import DenoisingPlan
from detr_conformance.reference.keys import SummedKeys
from detr_conformance.reference.layers import LayerPlan
from detr_conformance.reference.loss import layer_losses
from detr_conformance.reference.matcher import Matcher, Matching, Targets, flat
from detr_conformance.reference.normaliser import per_matched_pair, per_query
from detr_conformance.reference.options import LossConfig
from detr_conformance.reference.pairing import always_clear, shared_if_asked
from detr_conformance.reference.recipe import gains, published
from detr_conformance.reference.spec import Difference, LossSpec, replace_in, value_in
from detr_conformance.reference.tape import Array, stop_gradient

NON_FINITE = "non-finite predictions"
NO_AREA = "boxes without area"
NO_ALPHA = "an alpha of 0"
"""What a spec may leave undefined, beside the capabilities of a port."""


def all_heeded(config: LossConfig) -> LossConfig:
    """Every option means what it says."""
    return config


def focal_without_pairs(config: LossConfig, pairs: int) -> str:
    """The loss that is asked for; without a single pair focal takes the place of varifocal (quirk)."""
    return "focal" if config.classification == "varifocal" and not pairs else config.classification


def one_for_each_class(nc: int) -> int:
    """C columns: background is what no class claims."""
    return nc


def one_group(config: LossConfig) -> int:
    """All queries together."""
    return 1


def as_they_come(boxes: Array) -> Array:
    """Target boxes are taken as they are given."""
    return boxes


def class_of_target(pairs: Sequence[Matching], of: Targets, images: int, queries: int, classes: int) -> np.ndarray:
    """The class of each query's target; `classes` for background."""
    labels = np.full((images, queries), classes)
    places, chosen = flat(pairs)
    labels[places] = of.classes[chosen]
    return labels


def detached_iou(boxes: Array, wanted: np.ndarray, guard: Guard) -> np.ndarray:
    """IoU of each matched prediction with its target. A constant: no gradient flows into the box."""
    return iou(stop_gradient(boxes), wanted, guard)  # type: ignore[return-value]  # a constant


def every_query(terms: Array, is_matched: np.ndarray, config: LossConfig) -> Array:
    """All queries count alike, those without a target as background."""
    return np.sum(terms)


def by_index(boxes: Array, images: np.ndarray, queries: np.ndarray) -> Array:
    """The boxes of these queries."""
    return boxes[images, queries]


def l1_term(boxes: Array, wanted: np.ndarray, guard: Guard) -> Array:
    """|b - b'|, in centre form."""
    return l1_distance(boxes, wanted)


def giou_term(boxes: Array, wanted: np.ndarray, guard: Guard) -> Array:
    """1 - GIoU(b, b')."""
    return 1.0 - giou(boxes, wanted, guard)


def times_gain(loss: Array, term: str, config: LossConfig) -> Array:
    """Once, by the gain of the term."""
    return loss * config.loss_gain[term]


_TASKS = "https://github.com/ultralytics/ultralytics, ultralytics/nn/tasks.py before release 8.3.116"
_UTILS = "https://github.com/ultralytics/ultralytics, ultralytics/models/utils/loss.py"
_GAINS = published(_UTILS, loss_gain=gains(1.0), cost_gain=gains(2.0), cost_alpha=0.25, cost_gamma=2.0)

ULTRALYTICS = LossSpec(
    name="ultralytics",
    options=all_heeded,
    choose_class_term=focal_without_pairs,
    class_terms={"focal": FOCAL, "varifocal": VARIFOCAL, "bce": SCORE_ENTROPY},
    columns=one_for_each_class,
    target_boxes=as_they_come,
    labels=class_of_target,
    score=detached_iou,
    class_total=every_query,
    matched_boxes=by_index,
    box_terms={"bbox": l1_term, "giou": giou_term},
    guard=Guard(1e-7),
    normaliser={
        "focal": per_matched_pair,
        "varifocal": per_matched_pair,
        "bce": per_query,
        "bbox": per_matched_pair,
        "giou": per_matched_pair,
    },
    gain=times_gain,
    layer=layer_losses,
    matcher=Matcher(),
    query_groups=one_group,
    pairing=shared_if_asked,
    clear=always_clear,
    layers=LayerPlan(),
    denoising=DenoisingPlan(),
    keys=SummedKeys(),
    recipe={
        "varifocal": {**published(_TASKS, gamma=2.0, alpha=0.75), **_GAINS},
        "focal": {**published(_UTILS, gamma=1.5, alpha=0.25), **_GAINS},
    },
)
"""The base: Ultralytics' RTDETRDetectionLoss.

Reference: Carion et al., DETR, arXiv 2005.12872, equation 2 and section 3.1; IoU-aware classification: Zhao et al.,
RT-DETR, arXiv 2304.08069, section 4.3; denoising: Zhang et al., DINO, arXiv 2203.03605, section 3.3.
"""


def differs(parent: LossSpec, name: str, **differences: tuple[Any, str, str]) -> LossSpec:
    """A spec that differs from another one in some fields.

    Args:
        parent: the other spec.
        name: of the new one.
        differences: by path, with `__` for a dot: the value, a sentence that says what is decided, and a link.
    """
    spec, said = parent, dict(parent.differences)
    for field, (value, sentence, link) in differences.items():
        path = field.replace("__", ".")
        spec = replace_in(spec, path, value)
        said = {other: each for other, each in said.items() if not other.startswith(f"{path}.")}
        said[path] = Difference(sentence, link)
    return replace(spec, name=name, differences=said)


def as_in_base(spec: LossSpec, field: str) -> LossSpec:
    """The spec with a field as the base has it again, of which it then says nothing."""
    said = {path: each for path, each in spec.differences.items() if path != field}
    return replace(replace_in(spec, field, value_in(ULTRALYTICS, field)), differences=said)
