"""Loops over Python's own numbers, without an array: what somebody writes who wants to understand every step."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np

from detr_conformance.properties.port import LossResult

from .dual_numbers import Dual, larger, smaller, variables
from .solvers import augmenting_paths

FEW = 4
MAIN_GAIN = {"class": 2.0, "bbox": 5.0, "giou": 2.0}


class PurePythonPort:
    """Has no denoising generator, and no options of its matcher."""

    name = "pure-python"
    profile = "ultralytics"
    capabilities = frozenset(
        {"varifocal", "focal", "bce", "uni_match", "no_aux", "denoising", "denoising_subset", "gradients"}
        | {"one_object", "concurrent", "match", "denoising_indices"}
    )
    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def loss(self, case):
        sums = Sums(case)
        pairs = self.match(case)
        if case.config.use_uni_match:
            pairs[:-1] = [pairs[case.config.uni_match_ind]] * (case.layers - 1)
        sums.add_part("pred", "", case.pred_bboxes.tolist(), case.pred_scores.tolist(), pairs)
        if case.denoising is not None:
            made = case.denoising
            pairs = [self.denoising_indices(case)] * len(made.bboxes)
            sums.add_part("dn", "_dn", made.bboxes.tolist(), made.scores.tolist(), pairs)
        return LossResult(sums.losses, sums.gradients)

    def losses_in_turn(self, cases):
        return [self.loss(case.change(config=cases[0].config)) for case in cases]

    def match(self, case):
        layers = zip(case.pred_bboxes.tolist(), case.pred_scores.tolist(), strict=True)
        return [[matching(case, image, *own) for image, own in enumerate(zip(*layer, strict=True))] for layer in layers]

    def denoising_indices(self, case):
        made = case.denoising
        repeated = [own.tolist() * made.num_group for own in made.gt_idx]
        return list(zip([slots.tolist() for slots in made.pos_idx], repeated, strict=True))


class Sums:
    """The losses and gradients of a case as they add up, term by term."""

    def __init__(self, case):
        self.case, self.gain = case, case.config.loss_gain
        parts = ("", "_aux") if case.config.aux_loss else ("",)
        self.losses = {f"loss_{term}{part}{dn}": 0.0 for term in MAIN_GAIN for part in parts for dn in ("", "_dn")}
        inputs = {name: each for name, each in case.float_arrays().items() if name != "gt_bboxes"}
        self.gradients = {key: {name: np.zeros(each.shape) for name, each in inputs.items()} for key in self.losses}

    def add_part(self, name, suffix, boxes, logits, pairs):
        for layer, own in enumerate(pairs):
            part = suffix if layer == len(pairs) - 1 else f"_aux{suffix}"
            if f"loss_class{part}" in self.losses:
                self.add_layer((name, part, layer), boxes[layer], logits[layer], own)

    def add_layer(self, where, boxes, logits, pairs):
        number = sum(len(queries) for queries, _ in pairs)
        config = self.case.config
        kind = "bce" if not config.use_fl else "varifocal" if config.use_vfl and number else "focal"
        for image, (queries, targets) in enumerate(pairs):
            scores = {}
            for query, target in zip(queries, targets, strict=True):
                box = variables(boxes[image][query])
                wanted = self.case.gt_bboxes[target].tolist()
                iou, giou = iou_and_giou(box, wanted)
                self.add_box(where, "bbox", (image, query), l1(box, wanted), number)
                self.add_box(where, "giou", (image, query), 1.0 - giou, number)
                scores[query] = int(self.case.gt_cls[target]), iou.value
            for query, row in enumerate(logits[image]):
                label, score = scores.get(query, (None, 0.0))
                divisor = len(logits[image]) if kind == "bce" else max(number, 1)
                for index, x in enumerate(row):
                    y, q = (1, score) if index == label else (0, 0.0)
                    term, slope = CLASS_TERMS[kind](x, y, q, config)
                    self.add(where, "class", (image, query, index), "scores", term / divisor, slope / divisor)

    def add_box(self, where, term, which, distance, number):
        self.add(where, term, which, "bboxes", distance.value / number, np.array(distance.slope) / number)

    def add(self, where, term, which, kind, value, slope):
        name, part, layer = where
        key = f"loss_{term}{part}"
        self.losses[key] += self.gain[term] * value
        self.gradients[key][f"{name}_{kind}"][(layer, *which)] += self.gain[term] * slope


def matching(case, image, boxes, logits):
    """Queries and targets of one image: the cheapest of all matchings, where there are few."""
    own = range(case.targets)[case.of_image(image)]
    targets = [(case.gt_bboxes[target].tolist(), int(case.gt_cls[target])) for target in own]
    cost = [
        [cost_of_pair(box, row[label], wanted) for wanted, label in targets]
        for box, row in zip(boxes, logits, strict=True)
    ]
    if not len(own) <= len(boxes) <= FEW:
        queries, columns = augmenting_paths(np.array(cost).reshape(len(boxes), len(own)))
        return queries.tolist(), [own[column] for column in columns.tolist()]
    every = permutations(range(len(boxes)), len(own))
    best = min(every, key=lambda queries: math.fsum(cost[query][column] for column, query in enumerate(queries)))
    pairs = sorted(zip(best, own, strict=True))
    return [query for query, _ in pairs], [target for _, target in pairs]


def cost_of_pair(box, x, wanted):
    p, rest = sigmoid(x), sigmoid(-x)
    of_class = 0.25 * rest**2 * -math.log(p + 1e-8) - 0.75 * p**2 * -math.log(rest + 1e-8)
    constants = [Dual(each) for each in box]
    distance = sum(abs(a - b) for a, b in zip(box, wanted, strict=True))
    cost = 2.0 * of_class + 5.0 * distance + 2.0 * (1.0 - iou_and_giou(constants, wanted)[1].value)
    return cost if math.isfinite(cost) else 0.0


def iou_and_giou(box, wanted):
    eps, inter, hull = 1e-7, 1.0, 1.0
    for axis in (0, 1):
        low, high = (box[axis] + sign * box[axis + 2] * 0.5 for sign in (-1.0, 1.0))
        target_low, target_high = (wanted[axis] + sign * wanted[axis + 2] / 2 for sign in (-1.0, 1.0))
        inter = larger(smaller(high, target_high) - larger(low, target_low), 0.0) * inter
        hull = (larger(high, target_high) - smaller(low, target_low)) * hull
    union = box[2] * box[3] + wanted[2] * wanted[3] - inter + eps
    hull = hull + eps
    return inter / union, inter / union - (hull - union) / hull


def l1(box, wanted):
    return sum((abs(a - b) for a, b in zip(box, wanted, strict=True)), start=Dual(0.0))


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def focal(x, y, _q, config):
    towards = x if y else -x
    right, wrong, entropy = sigmoid(towards), sigmoid(-towards), softplus(-towards)
    share = 1.0 if config.alpha <= 0 else config.alpha if y else 1.0 - config.alpha
    slope = share * wrong**config.gamma * (wrong + config.gamma * right * entropy)
    return share * wrong**config.gamma * entropy, -slope if y else slope


def varifocal(x, y, q, config):
    entropy, slope = bce(x, y, q, config)
    if y:
        return q * entropy, q * slope
    weight = config.alpha * sigmoid(x) ** config.gamma
    return weight * entropy, weight * (slope + config.gamma * sigmoid(-x) * entropy)


def bce(x, _y, q, _config):
    return q * softplus(-x) + (1.0 - q) * softplus(x), sigmoid(x) - q


CLASS_TERMS = {"focal": focal, "varifocal": varifocal, "bce": bce}
