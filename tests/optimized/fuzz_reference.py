"""What the reference says of the same call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from numbers import Real
from types import SimpleNamespace

import numpy as np
import torch

from detr_conformance import reference
from detr_conformance.properties import tolerance
from detr_conformance.properties.matching import is_unambiguous
from detr_conformance.reference import ULTRALYTICS, MatcherConfig, magnitude, track
from detr_conformance.reference.rounding import plain

from .fuzz_calls import META, SURFACES
from .fuzz_forms import predictions_of

OF_OPTIMIZED = ("validate", "backend", "process_group")
"""Options that the reference does not have."""


def for_reference(value):
    """Tensors as arrays, numbers as Python's own."""
    if isinstance(value, torch.Tensor):
        array = value.detach().resolve_neg()
        return (array.double() if array.is_floating_point() else array.long()).numpy()
    if isinstance(value, np.ndarray):
        return value.astype(np.int64) if np.issubdtype(value.dtype, np.integer) else value
    if isinstance(value, Mapping):
        converted = {key: for_reference(each) for key, each in value.items()}
        # Without a target the dtype of the labels says nothing.
        return converted | ({} if converted.get("cls") is None else {"cls": converted["cls"].astype(np.int64)})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [for_reference(each) for each in value]
    if isinstance(value, Real) and not isinstance(value, bool):
        return int(value) if isinstance(value, (int, np.integer)) else float(value)
    return value


def precision_of(call):
    """The dtype in which the arithmetic is at least: halves are read, and never computed with."""
    dtypes = {call.arguments[name].dtype for name in predictions_of(call)}
    return "float64" if dtypes == {torch.float64} else "float32"


def result_of_reference(call, precision):
    """What it returns, with error bounds for arithmetic of this precision."""
    arithmetic = {"arithmetic": tolerance.arithmetic(precision)}
    names = ("RTDETRDetectionLoss", "DETRLoss")
    losses = {name: type(name, (getattr(reference, name),), arithmetic) for name in names}
    parts = ("FocalLoss", "VarifocalLoss", "HungarianMatcher", "bbox_iou")
    where = SimpleNamespace(**losses, **{name: getattr(reference, name) for name in parts})
    options = {name: value for name, value in call.options.items() if name not in OF_OPTIMIZED}
    with np.errstate(all="ignore"):
        return SURFACES[call.surface](where, for_reference(options), for_reference(call.arguments))


def losses_of_reference(call, precision):
    """The same by name; a single loss is called `loss`."""
    losses = result_of_reference(call, precision)
    return losses if isinstance(losses, dict) else {"loss": losses}


def limits_of_reference(call, precision):
    """The losses where the reference says NaN, since an infinite logit comes with a factor of 0, or less infinity.

    There we may say what the term tends to: 0 where the logit is right, infinity where it is wrong. At a logit of 750,
    of which exp(-x) is 0 in float64, the former is reached, and the latter nothing that a finite loss would agree with.
    """
    logits = {"pred_scores", "dn_scores", "pred", "pred_score"} & set(predictions_of(call))
    finite = {name: call.arguments[name].detach().nan_to_num(torch.nan, 750.0, -750.0) for name in logits}
    return losses_of_reference(replace(call, arguments=call.arguments | finite), precision)


def costs_of_reference(call, precision):
    """Costs, their allowed errors, and the first target of each layer and image."""
    a = for_reference({name: value for name, value in call.flat().items() if name not in META})
    boxes, scores = (a[name] if a[name].ndim == 4 else a[name][None] for name in ("pred_bboxes", "pred_scores"))
    options = for_reference(call.options) if call.surface == "matcher" else {}
    matcher = reference.HungarianMatcher(**{name: value for name, value in options.items() if name not in OF_OPTIMIZED})
    config = MatcherConfig(matcher.cost_gain, matcher.use_fl, matcher.alpha, matcher.gamma)
    ends, arithmetic = list(accumulate(a["gt_groups"])), tolerance.arithmetic(precision)
    eps = tolerance.PRECISIONS[precision].eps
    for layer_boxes, layer_scores in zip(boxes, scores, strict=True):
        for image, (end, count) in enumerate(zip(ends, a["gt_groups"], strict=True)):
            own = slice(end - count, end)
            tracked = track(layer_boxes[image], arithmetic), track(layer_scores[image], arithmetic)
            cost = ULTRALYTICS.matcher.cost(config, *tracked, a["bboxes"][own], a["cls"][own])
            largest = np.abs(plain(cost)).max(initial=0.0)
            allowed = tolerance.UNITS * eps * (np.nan_to_num(magnitude(cost), nan=np.inf) + largest)
            yield plain(cost), allowed, own.start


def is_matching_certain(call, precision):
    """Whether rounding cannot change who is matched with whom."""
    if call.surface not in ("loss", "detr", "layer", "auxiliary") or call.arguments.get("match_indices") is not None:
        return True
    return all(is_unambiguous(cost, allowed) for cost, allowed, _ in costs_of_reference(call, precision))
