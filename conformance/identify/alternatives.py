"""What implementations decide that no spec of the family does: further values of some fields, each with a link."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from detr_conformance.reference import Guard, LossConfig, MatcherConfig
from detr_conformance.reference.classification import (
    IOU_AWARE,
    MATCHABILITY_AWARE,
    detached_unmatched_fade,
    unmatched_fade,
)
from detr_conformance.reference.matcher import Cost
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.pairing import shared_from_the_last

LARGEST = float(np.finfo(np.float32).max)


class Further(NamedTuple):
    """A value that a field may have.

    Attributes:
        value: the value.
        source: the Python expression that makes it, with `alternatives` for this module.
        sentence: what is decided.
        link: code that does it.
    """

    value: Any
    source: str
    sentence: str
    link: str


def largest_float(cost: Cost) -> Cost:
    """NaN and infinity become the largest float32: a broken prediction is matched last."""
    return np.where(np.isfinite(cost), cost, LARGEST)


def one_for_nan(cost: Cost) -> Cost:
    """NaN becomes 1, and infinity the largest float32 of its sign."""
    return np.where(np.isnan(cost), 1.0, np.where(np.isfinite(cost), cost, np.where(cost > 0, LARGEST, -LARGEST)))


def softmax_costs(config: LossConfig) -> MatcherConfig:
    """Gains class 2, bbox 5, giou 2, and minus the softmax probability as class cost."""
    return MatcherConfig(use_fl=False)


def class_gain_of_one(config: LossConfig) -> MatcherConfig:
    """Gains class 1, bbox 5, giou 2, alpha 0.25, gamma 2."""
    return MatcherConfig({"class": 1.0, "bbox": 5.0, "giou": 2.0})


def gains_of_the_loss(config: LossConfig) -> MatcherConfig:
    """The gains of the loss, alpha 0.25, gamma 2."""
    return MatcherConfig(config.loss_gain)


def alpha_and_gamma_of_the_loss(config: LossConfig) -> MatcherConfig:
    """Gains class 2, bbox 5, giou 2, with alpha and gamma of the loss."""
    return MatcherConfig(alpha=config.alpha, gamma=config.gamma)


def unweighted(loss: Any, term: str, config: LossConfig) -> Any:  # noqa: ANN401  # an array or a variable
    """Losses come without their gains, which are left to the caller."""
    return loss


def queries_of_all_images(tally: Tally) -> int:
    """The queries of all images."""
    return tally.queries * len(tally.targets)


LIVE_MATCHABILITY_AWARE = replace(MATCHABILITY_AWARE, weight=unmatched_fade)
DETACHED_IOU_AWARE = replace(IOU_AWARE, weight=detached_unmatched_fade)

_TRANSFORMERS = "https://github.com/huggingface/transformers, src/transformers/loss/loss_rt_detr.py"
_DEFORMABLE = "https://github.com/huggingface/transformers, src/transformers/loss/loss_deformable_detr.py"
_DETR = "https://github.com/facebookresearch/detr, models/detr.py"
_DFINE = "https://github.com/Peterande/D-FINE, src/zoo/dfine/matcher.py"
_DEIM = "https://github.com/ShihuaHuang95/DEIM, engine/deim/deim_criterion.py"
_V2 = "https://github.com/lyuwenyu/RT-DETR, rtdetrv2_pytorch/src/zoo/rtdetr/rtdetrv2_criterion.py"
_RFDETR = "https://github.com/roboflow/rf-detr, rfdetr/models/matcher.py"
_PADDLE = "https://github.com/PaddlePaddle/PaddleDetection, ppdet/modeling/losses/iou_loss.py"
_SCENIC = "https://github.com/google-research/scenic, scenic/projects/baselines/detr"
_MMDET = "https://github.com/open-mmlab/mmdetection, mmdet/structures/bbox/bbox_overlaps.py"
_V3 = "https://github.com/yyq19990828/RT-DETRv3-PyTorch, src/zoo/rtdetr/rtdetrv3_criterion.py"


def _further(function: Any, link: str) -> Further:  # noqa: ANN401  # a function of this module, of any kind
    return Further(function, f"alternatives.{function.__name__}", function.__doc__ or "", link)


def _guard(guard: Guard, link: str) -> Further:
    floor = ", as_floor=True" if guard.as_floor else ""
    return Further(guard, f"Guard({guard.eps!r}{floor})", said_of_guard(guard), link)


def said_of_guard(guard: Guard) -> str:
    """What a guard does, in a sentence."""
    if guard.as_floor:
        return f"Union and enclosing area are at least {guard.eps:g}."
    return f"{guard.eps:g} is added to union and enclosing area." if guard.eps else "Nothing is added to areas."


_GUARDS = (
    _guard(Guard(1e-6), _SCENIC),
    _guard(Guard(1e-9), _PADDLE),
    _guard(Guard(1e-10), _PADDLE),
    _guard(Guard(1e-7, as_floor=True), _RFDETR),
    _guard(Guard(1e-6, as_floor=True), _MMDET),
)

FURTHER: dict[str, tuple[Further, ...]] = {
    "guard": _GUARDS,
    "matcher.guard": _GUARDS,
    "matcher.configured": (
        _further(softmax_costs, _DETR),
        _further(class_gain_of_one, _DEFORMABLE),
        _further(gains_of_the_loss, _DETR),
        _further(alpha_and_gamma_of_the_loss, _TRANSFORMERS),
    ),
    "matcher.non_finite": (_further(largest_float, _TRANSFORMERS), _further(one_for_nan, _DFINE)),
    "class_terms.mal": (
        Further(
            LIVE_MATCHABILITY_AWARE,
            "alternatives.LIVE_MATCHABILITY_AWARE",
            "The weight of the matchability-aware loss is differentiated through p.",
            _DEIM,
        ),
    ),
    "class_terms.ia_bce": (
        Further(
            DETACHED_IOU_AWARE,
            "alternatives.DETACHED_IOU_AWARE",
            "The weight of the background in IA-BCE is a constant.",
            _RFDETR,
        ),
    ),
    "gain": (_further(unweighted, _DETR),),
    "pairing": (_further(shared_from_the_last, _V2),),
    "normaliser": (_further(queries_of_all_images, _V3),),
}
"""By path; those of `normaliser` go for each of its terms."""
