"""All layers of a step in one computation: every query of every layer and image is a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from .rows_boxes import BoxLosses, Eps, iou
from .rows_classes import RowLosses
from .rows_masks import mask_sums
from .rows_matching import costs, elected, focal_cost, solved


class Targets(NamedTuple):
    """Of the whole batch, and how many each image has; with masks and points what they are compared with."""

    boxes: torch.Tensor
    classes: torch.Tensor
    counts: tuple[int, ...]
    masks: NamedTuple | None = None


class Counts(NamedTuple):
    """Of one layer: pairs, targets, groups of queries, and queries of all images."""

    pairs: int
    targets: int
    groups: int
    rows: int


def number_of_pairs(counts):
    return max(counts.pairs, 1)


def number_of_targets(counts):
    return max(counts.targets, 1)


def number_of_targets_in_groups(counts):
    return max(counts.targets * counts.groups, 1)


def weighted_number_of_queries(counts):
    return 0.9 * counts.pairs + 0.1 * counts.rows


NOTHING = Eps()


@dataclass(frozen=True)
class Convention:
    """What a member of the family decides."""

    class_losses: Mapping[str, Callable]
    names: Callable
    dn_names: Callable = lambda _count: []
    class_names: Mapping[str, str] | None = None
    giou_name: str = "giou"
    class_number: Callable = number_of_targets
    box_number: Callable = number_of_targets
    class_cost: Callable = focal_cost
    gain: Mapping[str, float] | None = None
    eps: Eps = NOTHING
    score_eps: Eps = NOTHING
    gamma: float | None = 2.0
    alphas: Mapping[str, float] | None = None
    by_vote: bool = False
    has_dn_always: bool = False

    def options(self, config):
        """Those of the caller, but for the ones that are fixed."""
        gamma = config.gamma if self.gamma is None else self.gamma
        alpha = config.alpha if self.alphas is None else self.alphas[config.classification]
        return replace(config, gamma=gamma, alpha=alpha)


class RowCriterion:
    """A convention with its options."""

    def __init__(self, convention, config):
        self.own, self.config = convention, convention.options(config)
        self.counted, self.shared = {}, {}
        """The counts of each part, and those that stand in for them where ranks share."""
        self.loss = convention.class_losses[config.classification]

    def __call__(self, boxes, logits, targets, denoising=None, masks=None):
        """The losses by their keys; masks are those of predictions and of targets."""
        boxes, logits = precise(boxes), precise(logits)
        by_class, by_box = self.pairs(boxes, logits, targets)
        numbers = self.own.class_number, self.own.box_number
        losses = self.of_part("", boxes, logits, targets, by_class, by_box, numbers, self.own.names(len(boxes)))
        losses |= {} if masks is None else self.of_masks(*masks, by_box[-1])
        if denoising is None:
            zero = boxes.new_zeros(())
            return losses | ({f"{key}_dn": zero for key in losses} if self.own.has_dn_always else {})
        dn_boxes, dn_logits, pairs = denoising
        pairs, numbers = [pairs] * len(dn_boxes), (number_of_pairs, number_of_pairs)
        names = self.own.dn_names(len(dn_boxes))
        dn = precise(dn_boxes), precise(dn_logits)
        return losses | self.of_part("dn", *dn, targets, pairs, pairs, numbers, names)

    def matchings(self, boxes, logits, targets):
        own = self.own
        gain = own.gain or {"class": 2.0, "bbox": 5.0, "giou": 2.0}
        cost = costs(boxes, logits, targets, own.class_cost, gain, own.eps)
        return solved(cost, targets.counts, self.config.query_groups)

    def pairs(self, boxes, logits, targets):
        """For each layer those of the class loss, and those of the box losses."""
        matchings = self.matchings(boxes, logits, targets)
        if self.config.use_uni_match:
            matchings[:-1] = [matchings[self.config.uni_match_ind]] * (len(matchings) - 1)
        if not self.own.by_vote:
            return matchings, matchings
        return matchings, elected(matchings, boxes.shape[2], len(targets.classes))

    def of_part(self, part, boxes, logits, targets, by_class, by_box, numbers, names):
        """The losses of all layers of one part, those of one name added up."""
        classes = self.class_sums(boxes, logits, targets, by_class)
        l1, giou = self.box_sums(boxes, targets, by_box)
        counts = Counts(0, len(targets.classes), self.config.query_groups, boxes.shape[1] * boxes.shape[2])
        self.counted[part] = [counts._replace(pairs=pairs_of(own[0])) for own in (by_class, by_box)]
        parts = zip(numbers, self.shared.get(part, self.counted[part]), strict=True)
        of_class, of_box = (number(each) for number, each in parts)
        class_name = (self.own.class_names or {}).get(self.config.classification, "ce")
        terms = (class_name, "class", classes / of_class), ("bbox", "bbox", l1 / of_box)
        terms += ((self.own.giou_name, "giou", giou / of_box),)
        losses = {}
        for layer in range(len(boxes)) if self.config.aux_loss else [-1]:
            for name, term, of_layers in terms:
                key, loss = names[layer].format(name), of_layers[layer] * self.config.loss_gain[term]
                losses[key] = losses[key] + loss if key in losses else loss
        return losses

    def of_masks(self, masks, gt_masks, pairs):
        """The losses of masks of the last layer."""
        rows, chosen = flat([pairs], masks.shape[2])
        _, counts = self.shared.get("", self.counted[""])
        gains, number = self.config.loss_gain, number_of_targets(counts)
        sums = mask_sums(precise(masks[-1]).flatten(0, 1)[rows], gt_masks[chosen])
        return {
            f"loss_{term}": gains.get(term, 1.0) * each / number
            for term, each in zip(("mask", "dice"), sums, strict=True)
        }

    def class_sums(self, boxes, logits, targets, pairs):
        rows, chosen = flat(pairs, boxes.shape[2])
        matched = boxes.detach().flatten(0, 2)[rows]
        score = iou(matched, targets.boxes[chosen], self.own.score_eps)
        place = rows, targets.classes[chosen]
        values = RowLosses.apply(logits.flatten(0, 2), self.loss, place, score, self.config)
        return values.unflatten(0, (len(boxes), -1)).sum(dim=1)

    def box_sums(self, boxes, targets, pairs):
        rows, chosen = flat(pairs, boxes.shape[2])
        layer = rows // (boxes.shape[1] * boxes.shape[2])
        values = BoxLosses.apply(boxes.flatten(0, 2)[rows], targets.boxes[chosen], self.own.eps)
        return [boxes.new_zeros(len(boxes)).index_add(0, layer, each) for each in values]


def flat(pairs, queries):
    """Row and target of all pairs of all layers."""
    images = [each for layer in pairs for each in layer]
    rows = np.concatenate([own + place * queries for place, (own, _) in enumerate(images)])
    return torch.as_tensor(rows), torch.as_tensor(np.concatenate([own for _, own in images]))


def pairs_of(layer):
    return sum(len(queries) for queries, _ in layer)


def precise(tensor):
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
