"""Calls of every function and class of `optimized`, as data that can be changed, and how they are made."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

Arguments = dict[str, Any]
"""Flat: entries of a batch and of dn_meta stand beside the other arguments, so that each can be changed alike."""

BATCH = ("cls", "bboxes", "gt_groups")
META = ("dn_pos_idx", "dn_num_group", "dn_gt_idx")


@dataclass
class Call:
    """One call.

    Attributes:
        surface: which of `SURFACES` is called.
        options: what its object is built with.
        arguments: what it is called with.
        refusals: for each change that makes it bad, what the error may name; none: the call is good.
        notes: what was changed, for messages.
        ordinary: no number is so large that the arithmetic might overflow.
        finite: all predictions are.
        context: name of the context in which it is called.
    """

    surface: str
    options: Arguments
    arguments: Arguments
    refusals: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    ordinary: bool = True
    finite: bool = True
    context: str = "none"

    def flat(self) -> Arguments:
        """The arguments, and whatever a change has put into mappings beside them."""
        mappings = [self.arguments[name] for name in ("batch", "dn_meta") if name in self.arguments]
        inside = {key: mapping[key] for mapping in mappings for key in BATCH + META if key in mapping}
        return self.arguments | inside


class Draw(random.Random):
    """Random choices, and tensors of random numbers."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.numbers = np.random.default_rng(seed)
        self.dtype = self.choice([torch.float32, torch.float32, torch.float32, torch.float64])

    def flip(self, chance=0.5):
        return self.random() < chance

    def boxes(self, *shape):
        centres, sizes = self.numbers.uniform(0.2, 0.8, (*shape, 2)), self.numbers.uniform(0.05, 0.4, (*shape, 2))
        return torch.from_numpy(np.concatenate([centres, sizes], axis=-1)).to(self.dtype)

    def logits(self, *shape):
        return torch.from_numpy(self.numbers.normal(0.0, 2.0, shape)).to(self.dtype)

    def integers(self, below, *shape):
        return torch.from_numpy(self.numbers.integers(0, below, shape))

    def without_repetition(self, below, count):
        return torch.tensor(self.sample(range(below), count), dtype=torch.int64)


# How arguments are put together. `where` is either implementation: names and signatures are the same.


def _whole(a, name, keys):
    """The mapping that a change has put there; else its entries, as far as they are left."""
    return a[name] if name in a else {key: a[key] for key in keys if key in a}


def _plain(a):
    """Predictions and targets in the order of the functions for a single layer."""
    return [a[name] for name in ("pred_bboxes", "pred_scores", "bboxes", "cls", "gt_groups")]


def _loss(where, options, a):
    preds = a["preds"] if "preds" in a else (a["pred_bboxes"], a["pred_scores"])
    denoising = [a.get("dn_bboxes"), a.get("dn_scores"), _whole(a, "dn_meta", META) if a["denoising"] else None]
    return where.RTDETRDetectionLoss(**options)(preds, _whole(a, "batch", BATCH), *denoising)


def _detr(where, options, a):
    predictions = a["pred_bboxes"], a["pred_scores"]
    return where.DETRLoss(**options)(*predictions, _whole(a, "batch", BATCH), a["postfix"], a["match_indices"])


def _generator(where, _, a):
    rest = {name: value for name, value in a.items() if name not in ("batch", *BATCH)}
    return where.get_cdn_group(_whole(a, "batch", BATCH), **rest)


SURFACES: Mapping[str, Callable[[Any, Arguments, Arguments], Any]] = {
    "loss": _loss,
    "detr": _detr,
    "layer": lambda where, options, a: where.DETRLoss(**options)._get_loss(
        *_plain(a), match_indices=a["match_indices"]
    ),
    "auxiliary": lambda where, options, a: where.DETRLoss(**options)._get_loss_aux(
        *_plain(a), match_indices=a["match_indices"]
    ),
    "matcher": lambda where, options, a: where.HungarianMatcher(**options)(*_plain(a)),
    "generator": _generator,
    "denoising indices": lambda where, _, a: where.RTDETRDetectionLoss.get_dn_match_indices(
        a["dn_pos_idx"], a["dn_num_group"], a["gt_groups"], a["dn_gt_idx"]
    ),
    "assignment": lambda where, _, a: where.linear_sum_assignment(**a),
    "focal": lambda where, options, a: where.FocalLoss(**options)(**a),
    "varifocal": lambda where, options, a: where.VarifocalLoss(**options)(**a),
    "iou": lambda where, _, a: where.bbox_iou(**a),
    "class": lambda where, options, a: where.DETRLoss(**options)._get_loss_class(**a),
    "boxes": lambda where, options, a: where.DETRLoss(**options)._get_loss_bbox(a["pred_bboxes"], a["gt_bboxes"]),
    "index": lambda where, _, a: where.DETRLoss._get_index(a["match_indices"]),
    "assigned": lambda where, _, a: where.DETRLoss._get_assigned_bboxes(
        a["pred_bboxes"], a["gt_of_images"], a["match_indices"]
    ),
}
