"""What a good call of each surface must return."""

from __future__ import annotations

import numpy as np
import torch

from detr_conformance import reference
from detr_conformance.properties import tolerance
from detr_conformance.properties.matching import certify
from detr_conformance.reference import track

from .assignment_problems import flaws
from .fuzz_calls import Call
from .fuzz_losses import assert_near, check_losses, check_scalars
from .fuzz_reference import costs_of_reference, for_reference, precision_of, result_of_reference


def check(call: Call, result) -> bool:
    """Judge the result of a good call; True if the reference says the same, False if its numbers are not certain.

    Raises:
        AssertionError: it is wrong.
    """
    __tracebackhide__ = True
    return CHECKS[call.surface](call, result)


def _matcher(call, matching):
    """As many pairs as there can be, queries ascending, at a cost that rounding explains."""
    __tracebackhide__ = True
    assert len(matching) == len(call.arguments["pred_bboxes"])
    for rows, _ in matching:
        assert (rows.diff() > 0).all(), f"queries {rows.tolist()}, expected ascending ones"
    if not call.ordinary:
        return False
    costs = costs_of_reference(call, precision_of(call))
    for (rows, targets), (cost, allowed, first) in zip(matching, costs, strict=True):
        defect = certify(cost, allowed, rows.numpy(), targets.numpy() - first).defect
        assert defect is None, defect
    return True


def _alike(call, result):
    """Exactly what the reference returns: indices, or boxes that were only moved."""
    __tracebackhide__ = True
    got, expected = for_reference(result), for_reference(result_of_reference(call, "float64"))
    assert _is_same(got, expected), f"{got}, expected {expected}"
    return True


def _is_same(got, expected):
    if isinstance(expected, list):
        return len(got) == len(expected) and all(map(_is_same, got, expected))
    return np.array_equal(got, expected, equal_nan=np.issubdtype(expected.dtype, np.floating))


def _iou(call, result):
    __tracebackhide__ = True
    boxes = {name: call.arguments[name] for name in ("box1", "box2")}
    dtypes = [str(each.dtype).removeprefix("torch.") for each in boxes.values()]
    dtype = max(dtypes, key=lambda name: tolerance.PRECISIONS[name].eps)
    largest = max(float(each.detach().nan_to_num().abs().max()) for each in boxes.values())
    # float16 has no number for larger areas.
    if not call.ordinary or not call.finite or (dtype == "float16" and largest > 100):
        return False
    tracked = {name: track(for_reference(each), tolerance.arithmetic(dtype)) for name, each in boxes.items()}
    with np.errstate(all="ignore"):
        expected = reference.bbox_iou(**(call.arguments | tracked))
    assert_near("iou", result.detach().double().numpy(), expected, dtype)
    return True


def _assignment(call, answers):
    """A matching of least cost."""
    __tracebackhide__ = True
    costs, sizes = call.arguments["costs"].detach().resolve_neg(), call.arguments["sizes"]
    assert answers.shape == costs.shape[:2]
    if not call.ordinary or not len(costs):
        return False
    sizes = torch.tensor(costs.shape[1:]).expand(len(costs), 2) if sizes is None else sizes
    assert not flaws(costs, sizes, answers)
    return True


def _generator(call, group):
    """Four results of the promised shapes, or four Nones. Its numbers are random."""
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


CHECKS = {"matcher": _matcher, "iou": _iou, "assignment": _assignment, "generator": _generator}
CHECKS |= dict.fromkeys(("loss", "detr", "layer", "auxiliary"), check_losses)
CHECKS |= dict.fromkeys(("class", "boxes"), check_scalars)
CHECKS |= dict.fromkeys(("focal", "varifocal"), lambda call, loss: check_scalars(call, {"loss": loss}))
CHECKS |= dict.fromkeys(("denoising indices", "index", "assigned"), _alike)
