"""The losses of one layer and their derivatives worked out by hand, in NumPy and in the dtype of the arrays."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, softmax

EPS = 1e-7


def box_forms(a, b, eps=EPS):
    """IoU, GIoU, and the derivative of the GIoU with respect to the first box, pair by pair.

    d giou = dI / U - I dU / U^2 + dU / H - U dH / H^2, where U = A + B - I + eps, with respect to the edges of a.
    """
    low, high, b_low, b_high = (centre + sign * size / 2 for centre, size, sign in edges(a, b))
    overlap = np.maximum(np.minimum(high, b_high) - np.maximum(low, b_low), 0)
    inter, size = overlap.prod(axis=-1), a[:, 2:]
    union = size.prod(axis=-1) + b[:, 2:].prod(axis=-1) - inter + eps
    span = np.maximum(high, b_high) - np.minimum(low, b_low)
    hull = span.prod(axis=-1) + eps
    iou = inter / union
    d_inter = by_edges(low > b_low, high < b_high, (overlap > 0) * overlap[:, ::-1])
    d_hull = by_edges(low < b_low, high > b_high, span[:, ::-1])
    d_union = [size[:, ::-1] * sign - inward for sign, inward in zip((-1, 1), d_inter, strict=True)]
    slopes = [
        ((inward - iou[:, None] * outer) / union[:, None] + (outer - (union / hull)[:, None] * around) / hull[:, None])
        for inward, outer, around in zip(d_inter, d_union, d_hull, strict=True)
    ]
    return (
        iou,
        iou - (hull - union) / hull,
        np.concatenate([slopes[0] + slopes[1], (slopes[1] - slopes[0]) / 2], axis=1),
    )


def edges(a, b):
    for boxes in (a, b):
        for sign in (-1, 1):
            yield boxes[:, :2], boxes[:, 2:], sign


def by_edges(lower_counts, upper_counts, per_length):
    """Derivative of an area with respect to the lower and upper edges that bound it."""
    return -(lower_counts * per_length), upper_counts * per_length


def class_forms(x, y, q, kind, alpha, gamma):
    """Terms of a classification loss and their derivatives; y is 1 for the right class, q its score."""
    p, rest = expit(x), expit(-x)
    if kind == "bce":
        return cross_entropy(x, q), p - q
    if kind == "varifocal":
        fading = alpha * p**gamma * (1 - y)
        entropy = cross_entropy(x, q)
        return (fading + q) * entropy, (fading + q) * (p - q) + gamma * fading * rest * entropy
    wrong, right = np.where(y > 0, rest, p), np.where(y > 0, p, rest)
    entropy = np.logaddexp(np.zeros_like(x), np.where(y > 0, -x, x))
    weight = wrong**gamma * (np.where(y > 0, alpha, 1 - alpha).astype(x.dtype) if alpha > 0 else 1)
    return weight * entropy, np.where(y > 0, -1, 1) * weight * (wrong + gamma * right * entropy)


def cross_entropy(x, q):
    return q * np.logaddexp(np.zeros_like(x), -x) + (1 - q) * np.logaddexp(np.zeros_like(x), x)


@np.errstate(all="ignore")
def layer_forms(boxes, logits, targets, pairs, config):
    """Value of each of the three losses, and its derivatives with respect to boxes and logits; None for none."""
    gt_bboxes, gt_cls = targets
    image = np.repeat(np.arange(len(pairs)), [len(queries) for queries, _ in pairs])
    query, target = (np.concatenate(side).astype(np.int64) for side in zip(*pairs, strict=True))
    matched, wanted = boxes[image, query], gt_bboxes[target].astype(boxes.dtype)
    iou, giou, giou_slope = box_forms(matched, wanted)
    y, q = np.zeros_like(logits), np.zeros_like(logits)
    y[image, query, gt_cls[target]], q[image, query, gt_cls[target]] = 1, iou
    kind = "bce" if not config.use_fl else "varifocal" if config.use_vfl and len(query) else "focal"
    terms, slopes = class_forms(logits, y, q, kind, config.alpha, config.gamma)
    number, gain = max(len(query), 1), config.loss_gain
    factor = gain["class"] / (boxes.shape[1] if kind == "bce" else number)
    losses = {"class": (factor * terms.sum(), None, factor * slopes)}
    distances = {"bbox": (np.abs(matched - wanted), np.sign(matched - wanted)), "giou": (1 - giou, -giou_slope)}
    for name, (terms, slopes) in distances.items():
        by_boxes = np.zeros_like(boxes)
        by_boxes[image, query] = gain[name] / number * slopes
        losses[name] = (gain[name] * terms.sum() / number, by_boxes, None)
    return losses


@np.errstate(all="ignore")
def pair_costs(boxes, logits, gt_bboxes, gt_cls, gain, use_fl=True, alpha=0.25, gamma=2.0):
    """Matching costs of one image, of shape (queries, targets)."""
    count = len(gt_cls)
    every = np.repeat(boxes, count, axis=0), np.tile(gt_bboxes.astype(boxes.dtype), (len(boxes), 1))
    _, giou, _ = box_forms(*every)
    l1 = np.abs(every[0] - every[1]).sum(axis=1)
    p = expit(logits[:, gt_cls]) if use_fl else softmax(logits, axis=1)[:, gt_cls]
    of_class = -p
    if use_fl:
        of_class = (1 - alpha) * p**gamma * np.log(1 - p + 1e-8) - alpha * (1 - p) ** gamma * np.log(p + 1e-8)
    of_boxes = (gain["bbox"] * l1 + gain["giou"] * (1 - giou)).reshape(len(boxes), count)
    cost = gain["class"] * of_class + of_boxes
    return np.where(np.isfinite(cost), cost, 0)
