"""The family: what its members decide. Every spec but the base says only its differences, each with a link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.reference.boxes import Guard, giou, iou, l1_distance
from detr_conformance.reference.classification import (
    FOCAL,
    LABEL_ENTROPY,
    SCORE_ENTROPY,
    VARIFOCAL,
    detached_varifocal_weight,
)
from detr_conformance.reference.denoising import DenoisingPlan, every_target
from detr_conformance.reference.keys import LayerKeys, SummedKeys
from detr_conformance.reference.layers import LayerPlan
from detr_conformance.reference.loss import flat, layer_losses
from detr_conformance.reference.matcher import Matcher, Matching, Targets
from detr_conformance.reference.normaliser import matched_pairs, queries, targets
from detr_conformance.reference.options import LossConfig
from detr_conformance.reference.pairing import shared_if_asked
from detr_conformance.reference.spec import Difference, LossSpec, replace_in
from detr_conformance.reference.tape import Array, stop_gradient

NON_FINITE = "non-finite predictions"
NO_AREA = "boxes without area"


def all_heeded(config: LossConfig) -> LossConfig:
    """Every option means what it says."""
    return config


def focal_without_pairs(config: LossConfig, pairs: int) -> str:
    """The loss that is asked for; without a single pair focal takes the place of varifocal (quirk)."""
    return "focal" if config.classification == "varifocal" and not pairs else config.classification


def as_asked(config: LossConfig, pairs: int) -> str:
    """The loss that is asked for."""
    return config.classification


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


ULTRALYTICS = LossSpec(
    name="ultralytics",
    options=all_heeded,
    choose_class_term=focal_without_pairs,
    class_terms={"focal": FOCAL, "varifocal": VARIFOCAL, "bce": SCORE_ENTROPY},
    labels=class_of_target,
    score=detached_iou,
    class_total=every_query,
    matched_boxes=by_index,
    box_terms={"bbox": l1_term, "giou": giou_term},
    guard=Guard(1e-7),
    normaliser={
        "focal": matched_pairs,
        "varifocal": matched_pairs,
        "bce": queries,
        "bbox": matched_pairs,
        "giou": matched_pairs,
    },
    gain=times_gain,
    layer=layer_losses,
    matcher=Matcher(),
    pairing=shared_if_asked,
    layers=LayerPlan(),
    denoising=DenoisingPlan(),
    keys=SummedKeys(),
)
"""The base: Ultralytics' RTDETRDetectionLoss.

Reference: Carion et al., DETR, arXiv 2005.12872, equation 2 and section 3.1; IoU-aware classification: Zhao et al.,
RT-DETR, arXiv 2304.08069, section 4.3; denoising: Zhang et al., DINO, arXiv 2203.03605, section 3.3.
"""


def differs(base: LossSpec, name: str, **differences: tuple[Any, str, str]) -> LossSpec:
    """A spec that differs from another one in some fields.

    Args:
        base: the other spec.
        name: of the new one.
        differences: by path, with `__` for a dot: the value, a sentence that says what is decided, and a link.
    """
    said: Mapping[str, Difference] = base.differences
    spec = base
    for field, (value, sentence, link) in differences.items():
        path = field.replace("__", ".")
        spec, said = replace_in(spec, path, value), {**said, path: Difference(sentence, link)}
    return replace(spec, name=name, differences=said)


_CRITERION = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/rtdetr_criterion.py"
_DENOISING = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/denoising.py"
_BOXES = "https://github.com/lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/box_ops.py"

RTDETR = differs(
    ULTRALYTICS,
    "rtdetr",
    choose_class_term=(
        as_asked,
        "A batch without targets keeps the classification loss that is asked for.",
        _CRITERION,
    ),
    class_terms__varifocal__weight=(
        detached_varifocal_weight,
        "The weight of the varifocal loss is a constant: no gradient flows through it.",
        _CRITERION,
    ),
    class_terms__bce=(LABEL_ENTROPY, "Cross-entropy is taken against the label, not against the IoU.", _CRITERION),
    normaliser=(
        dict.fromkeys(ULTRALYTICS.normaliser, targets),
        (
            "Every loss is divided by the number of targets, cross-entropy too, also where an image has more targets "
            "than queries; a denoising loss by its pairs, which are the targets times the groups."
        ),
        _CRITERION,
    ),
    guard=(Guard(0.0), "Nothing is added to the union or to the enclosing area.", _BOXES),
    matcher__guard=(Guard(0.0), "Nothing is added to them in the matching cost either.", _BOXES),
    layers=(
        LayerPlan(least=2, denoising=lambda layers: layers - 1),
        "The first layer is the encoder's, which has no denoising queries.",
        _CRITERION,
    ),
    keys=(
        LayerKeys({"varifocal": ("vfl",), "focal": ("focal", "vfl"), "bce": ("bce",)}),
        (
            "One key for each layer; no denoising keys without denoising queries. The encoder's is the last of the "
            "auxiliary ones, or _enc_0."
        ),
        _CRITERION,
    ),
    denoising__generator__logit_eps=(
        1e-5,
        "Boxes are clipped to [1e-5, 1 - 1e-5] before the inverse sigmoid.",
        _DENOISING,
    ),
    denoising__generator__padding_is_zero=(False, "Padding boxes are the logits of an empty box.", _DENOISING),
    denoising__generator__contributed=(every_target, "Every target is denoised, however many there are.", _DENOISING),
    denoising__generator__without_targets=(
        frozenset({"nothing", "dummy"}),
        (
            "A batch without targets gets no denoising queries, or one dummy query for each image, which keeps the "
            "ranks of a data-parallel run from waiting for each other."
        ),
        "https://github.com/lyuwenyu/RT-DETR/pull/684",
    ),
    undefined=(
        {
            NON_FINITE: "Implementations raise, or replace the cost by a large number.",
            NO_AREA: "IoU is 0 / 0 there, and implementations refuse boxes turned inside out.",
        },
        "What implementations do there differs.",
        _CRITERION,
    ),
)
"""RT-DETR as lyuwenyu's repositories and `transformers` compute it. Gamma, alpha and the gains are the caller's, as
they are in every spec; its recipes train with gamma 2 and alpha 0.75.

Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4.
"""

FAMILY = {spec.name: spec for spec in (ULTRALYTICS, RTDETR)}
"""Every spec by its name."""
