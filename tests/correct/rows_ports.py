"""Conventions of the family, each as a port that computes all layers at once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch

from detr_conformance.ports.torch_port import TorchPort, tensors_of

from . import rows_classes as classes
from .denoising_at_once import denoising_group
from .rows_boxes import Eps
from .rows_local import LocalRowCriterion
from .rows_losses import (
    Convention,
    Counts,
    RowCriterion,
    Targets,
    number_of_pairs,
    number_of_targets_in_groups,
    precise,
    weighted_number_of_queries,
)
from .rows_matching import costs, exact_focal_cost, focal_cost, softmax_cost, solved
from .rows_points import MaskRows, PointRowCriterion, costs_of_masks
from .rtdetr_v2 import dummy_queries

EVERYWHERE = frozenset({"gradients", "one_object", "concurrent", "match", "matcher_options", "ranks", "normaliser"})
DENOISING = frozenset({"denoising", "denoising_indices", "denoising_subset", "denoising_group"})


def named(main, auxiliary, encoder_first=False):
    """Names of the layers: `#` stands for a number, and an encoder that comes first has the last one."""

    def names(count):
        numbers = list(range(count - 1))
        if encoder_first:
            numbers = numbers[-1:] + numbers[:-1]
        return [*(auxiliary.replace("#", str(number)) for number in numbers), main]

    return names


def all_numbered(form):
    return lambda count: [form.replace("#", str(layer)) for layer in range(count)]


BY_NUMBER = named("loss_{}", "loss_{}_#")
DETR = Convention(
    {"softmax": classes.softmax},
    BY_NUMBER,
    class_number=weighted_number_of_queries,
    class_cost=softmax_cost,
    gain={"class": 1.0, "bbox": 5.0, "giou": 2.0},
)
DEFORMABLE = Convention({"focal": classes.focal}, BY_NUMBER, named("loss_{}_dn", "loss_{}_dn_#"))
MASKDINO = replace(DEFORMABLE, gain={"class": 4.0, "bbox": 5.0, "giou": 2.0, "mask": 5.0, "dice": 5.0})
DFINE = Convention(
    {"varifocal": classes.constant_varifocal},
    named("loss_{}", "loss_{}_aux_#", encoder_first=True),
    all_numbered("loss_{}_dn_#"),
    class_names={"varifocal": "vfl", "mal": "mal"},
    box_number=number_of_pairs,
    gamma=None,
    by_vote=True,
)
DEIM = replace(DFINE, class_losses={**DFINE.class_losses, "mal": classes.matchability_aware})
LWDETR = Convention(
    {"ia_bce": classes.iou_aware, "focal": classes.focal},
    named("loss_{}", "loss_{}_#", encoder_first=True),
    class_number=number_of_targets_in_groups,
    box_number=number_of_targets_in_groups,
)
RFDETR = replace(LWDETR, class_cost=exact_focal_cost, eps=Eps(least=1e-7), score_eps=Eps(least=1e-7))
PADDLE = Convention(
    {"focal": classes.focal, "varifocal": classes.varifocal},
    named("loss_{}", "loss_{}_aux"),
    named("loss_{}_dn", "loss_{}_aux_dn"),
    has_dn_always=True,
    class_names={"focal": "class", "varifocal": "class"},
    eps=Eps(1e-10),
    score_eps=Eps(1e-9),
    alphas={"focal": 0.25, "varifocal": 0.75},
)
MMDET = Convention(
    {"focal": classes.focal},
    named("loss_{}", "d#.loss_{}"),
    named("dn_loss_{}", "d#.dn_loss_{}"),
    class_names={"focal": "cls"},
    giou_name="iou",
    class_number=number_of_pairs,
    box_number=number_of_pairs,
    class_cost=partial(focal_cost, eps=1e-12),
    gamma=None,
)


class RowPort(TorchPort):
    """A convention behind the protocol of ports; `class_cost` makes a matcher's cost of its options."""

    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def __init__(self, profile, convention, class_cost, *has):
        self.name, self.profile = f"{profile}-rows", profile
        self.convention, self.class_cost = convention, class_cost
        self.capabilities = EVERYWHERE.union(convention.class_losses, *has)

    def build(self, case):
        return RowCriterion(self.convention, case.config)

    def call(self, loss, case, tensors):
        each = tensors.predictions
        denoising = None
        if case.denoising is not None:
            denoising = each["dn_bboxes"], each["dn_scores"], self.denoising_indices(case)
        masks = None if case.masks is None else (each["pred_masks"], tensors.constants["gt_masks"])
        return loss(each["pred_bboxes"], each["pred_scores"], targets_of(case, tensors), denoising, masks)

    def losses_of_ranks(self, cases):
        """Nobody talks to anybody: all ranks are counted first, and then told the mean."""
        return self.told(cases, lambda counts: counts / len(cases), self.own_counts)

    def losses_of_steps(self, cases):
        return self.told(cases, lambda counts: counts, frozenset())

    def told(self, cases, shared, own_counts):
        """The losses of every batch, which are told what all of them have."""
        losses = [self.build(case) for case in cases]
        for loss, case in zip(losses, cases, strict=True):
            self.call(loss, case, tensors_of(case))
        for part in ("", "dn"):
            having = [loss.counted[part] for loss in losses if part in loss.counted]
            for loss, case in zip(losses, cases, strict=True):
                if part in loss.counted:
                    least = case.denoising.num_group if part and self.profile != "mmdet" else 0
                    means = [totals(of_kind, shared, least) for of_kind in zip(*having, strict=True)]
                    loss.shared[part] = [
                        loss.counted[part][kind] if kind in own_counts else each for kind, each in enumerate(means)
                    ]
        return [self._result(loss, case) for loss, case in zip(losses, cases, strict=True)]

    @property
    def own_counts(self):
        """Kinds of counts that ranks do not share: a weighted mean is that of the rank."""
        return {0} if self.profile in ("detr", "detr-masks") else set()

    def match(self, case):
        tensors, own, options = tensors_of(case), self.convention, case.matcher
        boxes, logits = (precise(tensors.predictions[name]) for name in ("pred_bboxes", "pred_scores"))
        targets = targets_of(case, tensors)
        if not case.changes_matcher:
            return self.build(case).matchings(boxes, logits, targets)
        cost = costs(boxes, logits, targets, self.class_cost(options), options.cost_gain, own.eps)
        return solved(cost, case.gt_groups, case.config.query_groups)

    def denoising_indices(self, case):
        made = case.denoising
        own = (np.tile(each, made.num_group) for each in made.gt_idx)
        return list(zip(made.pos_idx, own, strict=True))

    def denoising_group(self, case):
        return denoising_group(case)


class PointRowPort(RowPort):
    """Masks at points, in the matcher too."""

    def build(self, case):
        return PointRowCriterion(self.convention, case.config)

    def call(self, loss, case, tensors):
        each, denoising = tensors.predictions, None
        if case.denoising is not None:
            denoising = each["dn_bboxes"], each["dn_scores"], self.denoising_indices(case)
        return loss(each["pred_bboxes"], each["pred_scores"], with_masks(case, tensors), denoising)

    def match(self, case):
        tensors, options = tensors_of(case), case.matcher
        boxes, logits = (precise(tensors.predictions[name]) for name in ("pred_bboxes", "pred_scores"))
        targets = with_masks(case, tensors)
        if not case.changes_matcher:
            return self.build(case).matchings(boxes, logits, targets)
        cost = costs(boxes, logits, targets, self.class_cost(options), options.cost_gain, self.convention.eps)
        return solved(cost + costs_of_masks(targets, options.cost_gain), case.gt_groups)


class DFineRowPort(RowPort):
    """Distributions; negatives right side out, and a dummy query for each image where there is no target."""

    def build(self, case):
        return LocalRowCriterion(self.convention, case.config)

    def call(self, loss, case, tensors):
        each, others, denoising = tensors.predictions, tensors.constants, None
        distributions = [] if case.distributions is None else [(each["pred_corners"], others["references"])]
        if case.denoising is not None:
            denoising = each["dn_bboxes"], each["dn_scores"], self.denoising_indices(case)
            if case.distributions is not None:
                distributions.append((each["dn_corners"], others["denoising_references"]))
        targets = targets_of(case, tensors)
        return loss(each["pred_bboxes"], each["pred_scores"], targets, denoising, distributions)

    def denoising_group(self, case):
        if case.targets or not case.generator.training or not case.generator.num_dn:
            return denoising_group(case, right_side_out=True)
        return dummy_queries(case, float(torch.logit(torch.tensor(1e-5, dtype=torch.float64))))


def totals(counts, shared, least):
    """The sums of all batches, shared among them; pairs at least so many."""
    pairs, targets, _, rows = (shared(sum(each)) for each in zip(*counts, strict=True))
    return Counts(max(pairs, least), targets, counts[0].groups, rows)


def targets_of(case, tensors):
    return Targets(tensors.gt_bboxes, tensors.gt_cls, case.gt_groups)


def with_masks(case, tensors):
    targets, given, wanted = targets_of(case, tensors), tensors.predictions, tensors.constants
    if case.masks is None:
        return targets
    constants = (wanted[name] for name in ("gt_masks", "loss_points", "cost_points"))
    return targets._replace(masks=MaskRows(given["pred_masks"], given.get("dn_masks"), *constants))


def recipe(_options):
    return focal_cost


def exact(options):
    return partial(exact_focal_cost, alpha=options.alpha)


def barely_guarded(options):
    return partial(focal_cost, alpha=options.alpha, gamma=options.gamma, eps=1e-12)


def either(options):
    return partial(focal_cost, alpha=options.alpha, gamma=options.gamma) if options.use_fl else softmax_cost


def always_softmax(_options):
    return softmax_cost


NO_AUX, REGULAR = {"no_aux"}, {"denoising", "denoising_indices"}
ROWS = (
    RowPort("detr", DETR, always_softmax, NO_AUX),
    RowPort("detr-masks", DETR, always_softmax, NO_AUX, {"masks"}),
    RowPort("deformable", DEFORMABLE, recipe, NO_AUX, REGULAR),
    PointRowPort("maskdino", MASKDINO, recipe, NO_AUX, REGULAR, {"mask_points"}),
    DFineRowPort("dfine", DFINE, either, DENOISING, {"distributions"}),
    DFineRowPort("deim", DEIM, either, DENOISING, {"distributions"}),
    RowPort("lwdetr", LWDETR, recipe, NO_AUX, {"query_groups"}),
    RowPort("rfdetr", RFDETR, exact, NO_AUX, {"query_groups"}),
    RowPort("paddle", PADDLE, either, NO_AUX, DENOISING, {"uni_match"}),
    RowPort("mmdet", MMDET, barely_guarded, NO_AUX, REGULAR),
)
