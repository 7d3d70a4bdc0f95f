"""Mutants in the matching of float16 predictions, whose costs belong in float32."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import Guard, replace_in
from detr_conformance.reference.matcher import Cost, MaskInputs, Matcher, Matching, Targets
from detr_conformance.reference.options import MatcherConfig
from detr_conformance.reference.spec import value_in

Costs = Callable[..., Cost]


def in_half(**wrong: Callable[..., Any]) -> Change:
    """The matcher that predictions in float16 get has wrong steps, by their names in it, with `__` for a dot."""

    def changed(right: Callable[[Matcher], Matcher], matcher: Matcher) -> Matcher:
        made = right(matcher)
        for name, step in wrong.items():
            path = name.replace("__", ".")
            made = replace_in(made, path, partial(step, value_in(made, path)))
        return made

    return wrapped("matcher.in_half", changed)


def half(array: np.ndarray) -> np.ndarray:
    """The array in float16."""
    return array.astype(np.float16)


def half_batch(
    right: Callable[..., list[Matching]],
    matcher: Matcher,
    config: MatcherConfig,
    boxes: np.ndarray,
    logits: np.ndarray,
    targets: Targets,
    masks: MaskInputs | None,
) -> list[Matching]:
    """All but the classes, and masks, is in float16, where a sigmoid soon is 1 and 1e-8 is 0."""
    return right(matcher, config, half(boxes), half(logits), targets._replace(boxes=half(targets.boxes)), masks)


def half_logits(right: Costs, logits: np.ndarray, *others: Any) -> Cost:
    """Logarithms are taken in float16, where 1e-8 is 0."""
    return right(half(logits), *others).astype(np.float64)


def half_boxes(right: Costs, pred: np.ndarray, target: np.ndarray, *guard: Guard) -> Cost:
    """Boxes are in float16."""
    return right(half(pred), half(target), *guard)


def half_pixels(right: Costs, pred: np.ndarray, target: np.ndarray, guard: Guard) -> Cost:
    """Boxes are in pixels of an image of 640, whose areas float16 cannot hold: infinite, and NaN."""
    return half_boxes(right, 640.0 * pred, 640.0 * target, guard).astype(np.float64)


HALF_COST_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ul-matcher-half-precision",
        "MATCH",
        "Costs were computed in the precision of the predictions: in float16 a sigmoid soon is 1, its logarithm "
        "infinite, and such a cost counts as 0. Right: in float32. Shows in who is matched from logits of 8 on.",
        "ultralytics/ultralytics up to 8.4.171, models/utils/ops.py",
        in_half(batch=half_batch, assign=lambda right, cost: right(cost.astype(np.float64))),
    ),
    Mutant(
        "detrex-fp16-eps-underflow",
        "MATCH",
        "The 1e-8 in the logarithms of the class cost is 0 in float16. Right: float32. Shows in who is matched from "
        "logits of 8 on.",
        "IDEA-Research/detrex, commit b978bf2, pull request 250",
        in_half(class_costs__focal=half_logits),
    ),
    Mutant(
        "mmdet-force-fp32-wrong-names",
        "MATCH",
        "The cast of the matcher's input to float32 named arguments that did not exist, and distances and IoU were "
        "computed in float16. Right: float32. Shows where two matchings cost nearly the same.",
        "open-mmlab/mmdetection, pull request 9607",
        in_half(distance=half_boxes, overlap=half_boxes),
    ),
    Mutant(
        "mmdet-amp-targets-and-iou-overflow",
        "MATCH",
        "IoU was computed in float16 on pixels, where areas beyond 256 by 256 are infinite. Right: in float32. Shows "
        "on large boxes.",
        "open-mmlab/mmdetection, pull request 10335",
        in_half(overlap=half_pixels),
    ),
)
