"""Traces: what the steps of a loss between its inputs and its losses come to, call by call.

A loss built on the reference is watched by classes laid over its own: every step that it has, replaced or not, is
recorded as it is called. The reference itself stays as it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.port import Matching
from detr_conformance.properties.profiles import Profile
from detr_conformance.reference import HungarianMatcher, Losses, RTDETRDetectionLoss, track
from detr_conformance.reference.matcher import CostTerms

STEPS = {
    "denoising layout": "how many denoising queries there are, for which targets, and what they may attend to",
    "denoising noise": "their labels and boxes",
    "layers": "which layers of which queries are computed, in which order",
    "cost terms": "the three terms of the matching cost of each query and target",
    "cost": "their weighted sum",
    "matching": "which query is matched with which target",
    "targets": "the class that each query is to answer with",
    "scores": "the IoU of each matched query with its target",
    "normaliser": "the number of pairs that losses are divided by",
    "class terms": "the classification loss of each query and class, before any weight",
    "class loss": "their sum, divided by the normaliser, times its gain",
    "box losses": "the L1 and the GIoU loss of all pairs, divided by the normaliser, times their gains",
    "totals": "the losses that are returned",
    "gradients": "their derivatives by the predictions",
}
"""Every step in the order in which one needs the other, with what it is."""

Arrays = dict[str, Any]
"""What one call of a step came to: arrays, or numbers, by name."""


@dataclass
class Trace:
    """What each step came to.

    A loss may do a step of a layer several times, to differentiate it for instance: the first time counts.

    Attributes:
        steps: for each step one entry a call, in the order of the calls.
        done: steps of the present layer that are recorded already.
        is_repeating: the present layer is being matched again.
    """

    steps: dict[str, list[Arrays]] = field(default_factory=lambda: {step: [] for step in STEPS})
    done: set[str] = field(default_factory=set)
    is_repeating: bool = False

    def add(self, step: str, **arrays: Any) -> None:
        """Record a call."""
        if not self.is_repeating:
            self.steps[step].append(arrays)

    def add_once(self, step: str, **arrays: Any) -> None:
        """Record the first call in a layer."""
        if step not in self.done:
            self.done.add(step)
            self.add(step, **arrays)

    def add_losses(self, losses: Losses) -> None:
        """Record what is returned in the end."""
        self.add("totals", **{key: loss.value for key, loss in losses.items()})
        slopes = {f"{key} by {name}": each for key, loss in losses.items() for name, each in loss.gradients.items()}
        self.add("gradients", **slopes)


def trace_of(case: LossCase, profile: Profile, kind: type[RTDETRDetectionLoss] | None = None) -> Trace:
    """The trace of the profile's loss on one case, or of another loss built on the reference.

    Those of the profile's own loss come with the bounds of their rounding errors.
    """
    trace = Trace()
    loss = oracle.build_loss(case, profile, _watched_loss(kind or profile.loss, trace))
    # Others may do to costs what has no rule of rounding.
    loss.matcher.__class__ = _watched_matcher(type(loss.matcher), trace, np.asarray if kind else track)
    for part in (loss.focal, loss.varifocal):
        part.__class__ = _watched_terms(type(part), trace)
    trace.add_losses(oracle.evaluate(loss, case))
    if case.matcher != MatcherConfig():
        _add_other_matcher(trace, loss.matcher, case)
    return trace


def _add_other_matcher(trace: Trace, matcher: HungarianMatcher, case: LossCase) -> None:
    """Record what the matcher does with the options that the case gives it."""
    matcher.cost_gain = dict(case.matcher.cost_gain)
    matcher.use_fl, matcher.alpha, matcher.gamma = case.matcher.use_fl, case.matcher.alpha, case.matcher.gamma
    for boxes, logits in zip(case.pred_bboxes, case.pred_scores, strict=True):
        _add_matching(trace, matcher(boxes, logits, case.gt_bboxes, case.gt_cls, case.gt_groups))


def _add_matching(trace: Trace, matching: Sequence[Matching]) -> None:
    """Record the pairs of all images of a layer, in the order of the queries."""
    ordered = {}
    for image, (queries, targets) in enumerate(matching):
        order = np.argsort(queries)
        ordered[f"pairs of image {image}"] = np.stack([np.asarray(queries)[order], np.asarray(targets)[order]], axis=1)
    trace.add("matching", **ordered)


def _watched_loss(kind: type[RTDETRDetectionLoss], trace: Trace) -> type[RTDETRDetectionLoss]:
    """The loss class, recording the steps of each layer."""

    class Watched(kind):  # type: ignore[valid-type,misc]  # whatever it is
        def _get_loss(self, pred_bboxes: np.ndarray, pred_scores: np.ndarray, *others: Any, **options: Any) -> Losses:
            trace.done.clear()
            trace.add("layers", pred_bboxes=pred_bboxes, pred_scores=pred_scores)
            losses: Losses = super()._get_loss(pred_bboxes, pred_scores, *others, **options)
            return losses

        def _match(self, *others: Any, **options: Any) -> Sequence[Matching]:
            trace.is_repeating = "matching" in trace.done
            matching: Sequence[Matching] = super()._match(*others, **options)
            _add_matching(trace, matching)
            trace.is_repeating = False
            trace.done.add("matching")
            return matching

        def _get_loss_class(
            self, pred_scores: np.ndarray, targets: np.ndarray, gt_scores: np.ndarray, num_gts: int, *others: Any
        ) -> Losses:
            trace.add_once("targets", classes=targets)
            trace.add_once("scores", scores=gt_scores)
            trace.add_once("normaliser", pairs=np.asarray(float(num_gts)))
            losses: Losses = super()._get_loss_class(pred_scores, targets, gt_scores, num_gts, *others)
            trace.add_once("class loss", **_values(losses))
            return losses

        def _get_loss_bbox(self, *others: Any) -> Losses:
            losses: Losses = super()._get_loss_bbox(*others)
            trace.add_once("box losses", **_values(losses))
            return losses

    return Watched


def _watched_matcher(kind: type, trace: Trace, prepared: Callable[[np.ndarray], np.ndarray]) -> type:
    """The matcher class, recording the costs of predictions prepared in some way."""

    class Watched(kind):  # type: ignore[misc]
        def cost_terms(self, boxes: np.ndarray, logits: np.ndarray, *targets: np.ndarray) -> CostTerms:
            terms: CostTerms = super().cost_terms(boxes, logits, *targets)
            trace.add("cost terms", **vars(terms))
            return terms

        def cost(self, boxes: np.ndarray, logits: np.ndarray, *targets: np.ndarray) -> np.ndarray:
            cost: np.ndarray = super().cost(prepared(boxes), prepared(logits), *targets)
            trace.add("cost", cost=cost)
            return cost

    return Watched


def _watched_terms(kind: type, trace: Trace) -> type:
    """The focal or varifocal loss, recording its terms."""

    class Watched(kind):  # type: ignore[misc]
        def terms(self, *arrays: np.ndarray) -> np.ndarray:
            terms: np.ndarray = super().terms(*arrays)
            trace.add_once("class terms", terms=terms)
            return terms

    return Watched


def _values(losses: Losses) -> Arrays:
    """The values without what tells main from denoising: keys end differently, calls come in one order."""
    return {"_".join(key.split("_")[:2]): loss.value for key, loss in losses.items()}
