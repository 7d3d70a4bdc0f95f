"""What a good call must return: the right structure, and the numbers of the reference wherever they are certain."""

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
from detr_conformance.properties.matching import certify, is_unambiguous
from detr_conformance.reference import magnitude, track
from detr_conformance.reference.detr_loss import MATCHER_COST_GAIN
from detr_conformance.reference.rounding import plain

from .assignment_problems import flaws
from .fuzz_calls import META, SURFACES, Call
from .fuzz_good import predictions_of

TERMS = ("loss_class", "loss_bbox", "loss_giou")
OF_OPTIMIZED = ("validate", "backend", "process_group")


def check(call: Call, result) -> bool:
    """Judge the result of a good call; True if the reference says the same.

    Raises:
        AssertionError: it is wrong.
    """
    __tracebackhide__ = True
    return CHECKS[call.surface](call, result)


# What the reference gets.


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


def _precision(tensors):
    """The dtype in which the arithmetic is at least: halves are read, and never computed with."""
    return "float64" if {tensor.dtype for tensor in tensors} == {torch.float64} else "float32"


def _of_reference(call, precision):
    """What the reference returns for the same call."""
    arithmetic = {"arithmetic": tolerance.arithmetic(precision)}
    names = ("RTDETRDetectionLoss", "DETRLoss")
    losses = {name: type(name, (getattr(reference, name),), arithmetic) for name in names}
    parts = ("FocalLoss", "VarifocalLoss", "HungarianMatcher", "bbox_iou")
    where = SimpleNamespace(**losses, **{name: getattr(reference, name) for name in parts})
    options = {name: value for name, value in call.options.items() if name not in OF_OPTIMIZED}
    with np.errstate(all="ignore"):
        return SURFACES[call.surface](where, for_reference(options), for_reference(call.arguments))


# Losses.


def _keys(call):
    if call.surface not in ("loss", "detr"):
        return [f"{term}_aux" for term in TERMS] if call.surface == "auxiliary" else list(TERMS)
    aux = [f"{term}_aux" for term in TERMS] if call.options["aux_loss"] else []
    postfixes = ["", "_dn"] if call.surface == "loss" else [call.arguments["postfix"]]
    return [key + postfix for postfix in postfixes for key in (*TERMS, *aux)]


def _losses(call, losses):
    __tracebackhide__ = True
    assert list(losses) == _keys(call), f"keys {list(losses)}, expected {_keys(call)}"
    return _scalars(call, losses)


def _scalars(call, losses):
    """Scalars in float32 or better, equal to the reference's."""
    __tracebackhide__ = True
    for key, loss in losses.items():
        assert loss.shape == (), f"{key} has shape {tuple(loss.shape)}"
        assert loss.dtype in (torch.float32, torch.float64), f"{key} has dtype {loss.dtype}"
    tensors = {name: call.arguments[name] for name in predictions_of(call)}
    precision = _precision(tensors.values())
    if not call.ordinary or not _is_certain(call, precision):
        return False
    expected = _expected(call, precision)
    assert list(expected) == list(losses), f"keys {list(losses)}, expected {list(expected)}"
    for key, loss in losses.items():
        hidden = loss.isfinite() and np.isnan(plain(expected[key].value))
        wanted = _limits(call, precision) if hidden else expected
        _compare(key, loss.item(), wanted[key].value, precision)
    differentiable = [name for name, tensor in tensors.items() if tensor.requires_grad]
    if call.finite and call.context == "none" and differentiable:
        _gradients(losses, expected, {name: tensors[name] for name in differentiable}, precision)
    return True


def _expected(call, precision):
    """The reference's losses under the names of ours."""
    losses = _of_reference(call, precision)
    return losses if isinstance(losses, dict) else {"loss": losses}


def _limits(call, precision):
    """The reference's losses where an infinite logit comes with a factor of 0, or a difference of infinities.

    There it says NaN, and we may say what the term tends to: 0 where the logit is right, infinity where it is wrong. At
    200 the former is 1e-87, and the latter nothing that a finite loss would agree with.
    """
    logits = {"pred_scores", "dn_scores", "pred", "pred_score"} & set(predictions_of(call))
    finite = {name: call.arguments[name].detach().nan_to_num(torch.nan, 200.0, -200.0) for name in logits}
    return _expected(replace(call, arguments=call.arguments | finite), precision)


def _compare(what, got, expected, dtype):
    """Within the budget; no number where there is none to expect."""
    __tracebackhide__ = True
    got, wanted = np.asarray(got, np.float64), np.asarray(plain(expected))
    assert got.shape == wanted.shape, f"{what} has shape {got.shape}, expected {wanted.shape}"
    hidden = np.isfinite(got) & ~np.isfinite(wanted)
    assert not hidden.any(), f"{what} is {got[hidden]}, expected {wanted[hidden]}"
    expected = track(expected)
    # An infinite divisor has an infinite error: without a bound, like with an infinite one, there is nothing to compare.
    bounded = np.isfinite(wanted) & ~np.isnan(expected.magnitude)
    shares = np.where(bounded, tolerance.budget_shares(got, expected, dtype), 0.0)
    worst = np.unravel_index(shares.argmax(), shares.shape) if shares.size else ()
    assert shares.max(initial=0.0) <= 1, (
        f"{what}: {got[worst]!r}, expected {wanted[worst]!r}, {shares.max():.3g} budgets"
    )


def _gradients(losses, expected, tensors, precision):
    """Of the sum of all losses, in the dtype of each prediction."""
    __tracebackhide__ = True
    total = sum(loss.double() for loss in losses.values())
    found = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
    for (name, tensor), gradient in zip(tensors.items(), found, strict=True):
        parts = [
            loss.gradients[_input(name, loss)] for loss in expected.values() if _input(name, loss) in loss.gradients
        ]
        wanted = sum(parts, start=track(np.zeros(tensor.shape)))
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype == "float16" and np.abs(plain(wanted)).max(initial=0.0) > 60000:
            continue
        got = torch.zeros_like(tensor) if gradient is None else gradient
        assert got.dtype == tensor.dtype, f"the gradient of {name} has dtype {got.dtype}, expected {dtype}"
        coarser = precision if dtype == "float64" else dtype
        _compare(f"gradient by {name}", got.detach().double().numpy(), wanted, coarser)


def _input(name, loss):
    """The reference calls predictions alike in all parts."""
    alone = {"pred": "pred_scores", "pred_score": "pred_scores"}
    return name if name in loss.gradients else alone.get(name, name)


# The matching, which the losses depend on.


def _costs(call, precision):
    """Costs and their allowed errors, for each layer and image, as the reference has them."""
    a = for_reference({name: value for name, value in call.flat().items() if name not in META})
    boxes, scores = (a[name] if a[name].ndim == 4 else a[name][None] for name in ("pred_bboxes", "pred_scores"))
    options = for_reference(call.options) if call.surface == "matcher" else {"cost_gain": MATCHER_COST_GAIN}
    matcher = reference.HungarianMatcher(**{name: value for name, value in options.items() if name not in OF_OPTIMIZED})
    ends, arithmetic = list(accumulate(a["gt_groups"])), tolerance.arithmetic(precision)
    eps = tolerance.PRECISIONS[precision].eps
    for layer_boxes, layer_scores in zip(boxes, scores, strict=True):
        for image, (end, count) in enumerate(zip(ends, a["gt_groups"], strict=True)):
            own = slice(end - count, end)
            tracked = track(layer_boxes[image], arithmetic), track(layer_scores[image], arithmetic)
            cost = matcher.cost(*tracked, a["bboxes"][own], a["cls"][own])
            largest = np.abs(plain(cost)).max(initial=0.0)
            yield plain(cost), tolerance.UNITS * eps * (np.nan_to_num(magnitude(cost), nan=np.inf) + largest), own.start


def _is_certain(call, precision):
    """Whether rounding cannot change who is matched with whom."""
    if call.surface not in ("loss", "detr", "layer", "auxiliary") or call.arguments.get("match_indices") is not None:
        return True
    return all(is_unambiguous(cost, allowed) for cost, allowed, _ in _costs(call, precision))


def _matcher(call, matching):
    """As many pairs as there can be, queries ascending, at a cost that rounding explains."""
    __tracebackhide__ = True
    images, queries = call.arguments["pred_bboxes"].shape[:2]
    assert len(matching) == images
    for rows, _ in matching:
        assert (rows.diff() > 0).all(), f"queries {rows.tolist()}, expected ascending ones"
    precision = _precision([call.arguments[name] for name in predictions_of(call)])
    if not call.ordinary:
        return False
    for (rows, targets), (cost, allowed, first) in zip(matching, _costs(call, precision), strict=True):
        defect = certify(cost, allowed, rows.numpy(), targets.numpy() - first).defect
        assert defect is None, defect
    return queries > 0


# The rest.


def _alike(call, result):
    """Exactly what the reference returns: indices, or boxes that were only moved."""
    __tracebackhide__ = True
    got, expected = for_reference(result), for_reference(_of_reference(call, "float64"))
    assert _is_same(got, expected), f"{got}, expected {expected}"
    return True


def _is_same(got, expected):
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(_is_same, got, expected))
    return np.array_equal(got, expected, equal_nan=np.issubdtype(expected.dtype, np.floating))


def _iou(call, result):
    __tracebackhide__ = True
    boxes = [call.arguments[name] for name in ("box1", "box2")]
    dtype = max(
        (str(each.dtype).removeprefix("torch.") for each in boxes), key=lambda name: tolerance.PRECISIONS[name].eps
    )
    largest = max(float(each.detach().nan_to_num().abs().max()) for each in boxes)
    if not call.ordinary or not call.finite or (largest > 100 and dtype == "float16"):
        return False
    tracked = {
        name: track(for_reference(call.arguments[name]), tolerance.arithmetic(dtype)) for name in ("box1", "box2")
    }
    with np.errstate(all="ignore"):
        expected = reference.bbox_iou(**(call.arguments | tracked))
    _compare("iou", result.detach().double().numpy(), expected, dtype)
    return True


def _assignment(call, answers):
    __tracebackhide__ = True
    costs, sizes = call.arguments["costs"].detach().resolve_neg(), call.arguments["sizes"]
    assert answers.shape == costs.shape[:2]
    if not call.ordinary or not len(costs):
        return False
    sizes = torch.tensor(costs.shape[1:]).expand(len(costs), 2) if sizes is None else sizes
    assert not flaws(costs, sizes, answers)
    return True


def _generator(call, group):
    """Four results of the promised shapes, or four Nones."""
    __tracebackhide__ = True
    a = call.flat()
    if not a["training"] or not a["num_dn"] or not any(a["gt_groups"]):
        assert group == (None,) * 4
        return False
    labels, boxes, mask, meta = group
    width = min(max(a["gt_groups"]), a["num_dn"])
    queries = 2 * width * (a["num_dn"] // width)
    assert labels.shape == (len(a["gt_groups"]), queries, a["class_embed"].shape[1])
    assert boxes.shape == (*labels.shape[:2], 4)
    assert mask.shape == (queries + a["num_queries"],) * 2
    assert boxes.isfinite().all()
    assert meta["dn_num_split"] == [queries, a["num_queries"]]
    return False


CHECKS = dict.fromkeys(("loss", "detr", "layer", "auxiliary"), _losses)
CHECKS |= {"matcher": _matcher, "iou": _iou, "assignment": _assignment, "generator": _generator}
CHECKS |= dict.fromkeys(("denoising indices", "index", "assigned"), _alike)
CHECKS |= dict.fromkeys(("class", "boxes"), _scalars)
CHECKS |= dict.fromkeys(("focal", "varifocal"), lambda call, loss: _scalars(call, {"loss": loss}))
