"""Mutants in the matcher as the loss uses it: one that is called alone is right."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from detr_conformance.mutants.box_costs import corner_distance, in_float16
from detr_conformance.mutants.half_costs import half_logits
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.properties.tolerance import rounded
from detr_conformance.reference import Guard, replace_in, wrap_in
from detr_conformance.reference.boxes import iou
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.family import DETR, DFINE, RTDETR
from detr_conformance.reference.matcher import Cost, Matcher, Matching
from detr_conformance.reference.options import LossConfig, MatcherConfig

SOURCE = "loss specification, HungarianMatcher: one matcher, inside the loss as alone"
FLOAT32 = "Ultralytics HungarianMatcher since 8.4.172: costs in float32 whatever the predictions are"

HALF = ("bfloat16", "float16")

Batch = Callable[..., list[Matching]]

inside_mutant = partial(Mutant, family="MATCH", link=SOURCE)


def inside(path: str, value: Any) -> Change:  # a field of the matcher
    """The loss's own matcher has another value at a path."""
    return lambda spec: replace_in(spec, "matcher.inside_loss", lambda right: replace_in(right, path, value))


def wrapped_inside(path: str, wrong: Callable[..., Any]) -> Change:
    """One function of the loss's own matcher made wrong; `wrong` is given the right one before all else."""
    return lambda spec: replace_in(
        spec, "matcher.inside_loss", lambda right: wrap_in(right, path, lambda function: partial(wrong, function))
    )


def with_class_cost(wrong: Callable[..., Cost]) -> Change:
    """The class cost of the loss's own matcher made wrong, whichever there is."""

    def changed(right: Matcher) -> Matcher:
        costs = {name: partial(wrong, cost) for name, cost in right.class_costs.items()}
        return replace_in(right, "class_costs", costs)

    return lambda spec: replace_in(spec, "matcher.inside_loss", changed)


def of_rounded(dtype: str, targets_alone: bool = False) -> Change:
    """The costs are computed of numbers that have been rounded to a dtype."""

    def batch(
        right: Batch, matcher: Matcher, config: MatcherConfig, boxes: np.ndarray, logits: np.ndarray, *others: Any
    ) -> list[Matching]:
        targets, *masks = others
        if not targets_alone:
            boxes, logits = rounded(boxes, dtype), rounded(logits, dtype)
        return right(matcher, config, boxes, logits, targets._replace(boxes=rounded(targets.boxes, dtype)), *masks)

    return wrapped_inside("batch", batch)


def of_targets_cast_to(dtype: str) -> Change:
    """The matcher casts targets to the dtype of the predictions, if it is this one."""

    def batch(
        right: Batch, matcher: Matcher, config: MatcherConfig, boxes: np.ndarray, logits: np.ndarray, *others: Any
    ) -> list[Matching]:
        if narrowest_dtype(boxes, logits) == dtype:
            targets, *masks = others
            others = (targets._replace(boxes=rounded(targets.boxes, dtype)), *masks)
        return right(matcher, config, boxes, logits, *others)

    return wrapped_inside("batch", batch)


def half_if_predictions_are(right: Callable[..., Cost], logits: np.ndarray, *others: Any) -> Cost:
    """The class cost of float16 predictions in float16."""
    if narrowest_dtype(logits) == "float16":
        return half_logits(right, logits, *others)
    return right(logits, *others)


def narrowest_dtype(*predictions: np.ndarray) -> str:
    """The dtype that predictions came in: a matcher of the reference is given all of them in float64."""
    fitting = (dtype for dtype in HALF if all(np.array_equal(rounded(each, dtype), each) for each in predictions))
    return next(fitting, "float32")


def cut_off_logits(right: Callable[..., Cost], logits: np.ndarray, *others: Any) -> Cost:
    """Logits between -10 and 10."""
    return right(np.clip(logits, -10.0, 10.0), *others)


def cut_off_probability(
    _right: Callable[..., Cost], logits: np.ndarray, classes: np.ndarray, config: MatcherConfig
) -> Cost:
    """Probabilities between 1e-5 and 1 - 1e-5, and nothing inside the logarithms."""
    p = np.clip(sigmoid(logits[:, classes]), 1e-5, 1.0 - 1e-5)
    positive = config.alpha * (1.0 - p) ** config.gamma * -np.log(p)
    return positive - (1.0 - config.alpha) * p**config.gamma * -np.log(1.0 - p)


def gains_of_losses(right: Callable[[LossConfig], MatcherConfig], config: LossConfig) -> MatcherConfig:
    """The costs have the gains of the losses."""
    made = right(config)
    gain = {**made.cost_gain, **{term: config.loss_gain[term] for term in ("class", "bbox", "giou")}}
    return replace_in(made, "cost_gain", gain)


def non_finite_is_dear(cost: Cost) -> Cost:
    """NaN and infinity become a million."""
    return np.where(np.isfinite(cost), cost, 1e6)


def at_most_a_cost_of_ten(right: Callable[..., Cost], *terms: Any) -> Cost:
    """No cost is above 10."""
    return np.minimum(right(*terms), 10.0)


MATCHING_INSIDE_MUTANTS: tuple[Mutant, ...] = (
    inside_mutant(
        "plausible-inner-matcher-eps-1e-6",
        story="The matcher inside the loss adds 1e-6 to areas; one that is called alone adds 1e-7. Right: 1e-7 in "
        "both. Shows on boxes with sides of a thousandth.",
        change=inside("guard", Guard(1e-6)),
    ),
    inside_mutant(
        "plausible-inner-matcher-eps-1e-3",
        story="The matcher inside the loss adds 1e-3 to areas. Right: 1e-7. Shows on boxes with sides of 1/32.",
        change=inside("guard", Guard(1e-3)),
    ),
    inside_mutant(
        "plausible-inner-matcher-eps-missing",
        story="The matcher inside the loss adds nothing to areas. Right: 1e-7. Shows on boxes with sides of 1/3000.",
        change=inside("guard", Guard(0.0)),
    ),
    inside_mutant(
        "plausible-inner-matcher-eps-of-ultralytics",
        story="The matcher inside the loss adds 1e-7 to areas. Right: RT-DETR's adds nothing. Shows on boxes with "
        "sides of 1/3000.",
        change=inside("guard", Guard(1e-7)),
        home=RTDETR,
    ),
    inside_mutant(
        "plausible-inner-matcher-iou",
        story="The matcher inside the loss costs 1 - IoU. Right: 1 - GIoU. Shows where boxes do not meet.",
        change=inside("overlap", iou),
    ),
    inside_mutant(
        "plausible-inner-matcher-distance-of-corners",
        story="The matcher inside the loss measures the L1 distance of corners. Right: of centres and sizes. Shows "
        "where a query is moved and another is larger.",
        change=inside("distance", corner_distance),
    ),
    inside_mutant(
        "plausible-inner-matcher-in-float16",
        story="The matcher inside the loss is given predictions and targets in float16, whatever their dtype. Right: "
        "as they are. Shows where little decides.",
        link=FLOAT32,
        change=of_rounded("float16"),
    ),
    inside_mutant(
        "plausible-inner-matcher-in-bfloat16",
        story="The matcher inside the loss is given predictions and targets in bfloat16, as under autocast. Right: in "
        "float32. Shows where little decides.",
        link=FLOAT32,
        change=of_rounded("bfloat16"),
        home=DFINE,
    ),
    inside_mutant(
        "plausible-inner-matcher-targets-in-float16",
        story="The matcher inside the loss rounds targets to float16. Right: they stay as they are. Shows on small "
        "boxes between which little decides.",
        link=FLOAT32,
        change=of_rounded("float16", targets_alone=True),
    ),
    inside_mutant(
        "plausible-inner-matcher-class-cost-in-float16",
        story="The class cost inside the loss is computed in float16, where 1e-8 is 0. Right: in float32. Shows where "
        "little decides, and on logits from 8 on.",
        link=FLOAT32,
        change=with_class_cost(half_logits),
    ),
    inside_mutant(
        "plausible-inner-matcher-class-cost-in-float16-of-float16",
        story="The class cost inside the loss is computed in float16 where predictions are. Right: in float32 whatever "
        "they are. Shows where little decides, and on logits from 8 on.",
        link=FLOAT32,
        change=with_class_cost(half_if_predictions_are),
    ),
    inside_mutant(
        "plausible-inner-matcher-targets-cast-to-float16",
        story="The matcher inside the loss casts targets to the dtype of float16 predictions. Right: they stay in "
        "float32. Shows on small boxes between which little decides.",
        link=FLOAT32,
        change=of_targets_cast_to("float16"),
    ),
    inside_mutant(
        "plausible-inner-matcher-targets-cast-to-bfloat16",
        story="The matcher inside the loss casts targets to the dtype of bfloat16 predictions. Right: they stay in "
        "float32. Shows wherever little decides.",
        link=FLOAT32,
        change=of_targets_cast_to("bfloat16"),
        home=RTDETR,
    ),
    inside_mutant(
        "plausible-inner-matcher-cost-in-float16",
        story="The cost matrix inside the loss is stored in float16. Right: in float32. Shows where two matchings of "
        "several targets cost nearly the same.",
        link=FLOAT32,
        change=wrapped_inside("total", in_float16),
    ),
    inside_mutant(
        "plausible-inner-matcher-logits-cut-off",
        story="The matcher inside the loss cuts logits off at 10. Right: they are as large as they are. Shows on "
        "saturated logits.",
        change=with_class_cost(cut_off_logits),
    ),
    inside_mutant(
        "plausible-inner-matcher-probabilities-cut-off",
        story="The matcher inside the loss keeps probabilities between 1e-5 and 1 - 1e-5. Right: 1e-8 is added inside "
        "the logarithms. Shows on saturated logits.",
        change=with_class_cost(cut_off_probability),
    ),
    inside_mutant(
        "plausible-inner-matcher-costs-cut-off",
        story="No cost inside the loss is above 10. Right: costs are as large as they are. Shows where several targets "
        "are far from all queries.",
        change=wrapped_inside("total", at_most_a_cost_of_ten),
    ),
    inside_mutant(
        "plausible-inner-matcher-non-finite-is-dear",
        story="A cost inside the loss that is not finite becomes a million; one of the matcher that is called alone 0. "
        "Right: 0 in both. Shows where a logit is NaN and its query would be matched.",
        change=inside("non_finite", non_finite_is_dear),
    ),
    inside_mutant(
        "plausible-inner-matcher-gains-of-losses",
        story="The matcher inside the loss has the gains of the losses. Right: DETR's gains of costs, 1, 5 and 2. "
        "Shows with other gains of losses.",
        change=wrapped_inside("configured", gains_of_losses),
        home=DETR,
    ),
)
