"""The criteria as ports: for every spec one that is written as its paper and its repository are."""

from __future__ import annotations

import math

import torch

from detr_conformance.ports.torch_port import TorchPort, arrays_of, tensors_of

from . import criteria
from .criterion_boxes import and_1e_10, as_it_is, at_least_1e_7, to_centre, to_corners
from .criterion_masks import SegmentationCriterion
from .criterion_matcher import HungarianMatcher, PixelMatcher, exact_focal_cost, focal_cost, softmax_cost
from .criterion_points import PointCriterion, PointMatcher
from .denoising_one_by_one import denoising_group

EVERYWHERE = frozenset({"gradients", "one_object", "concurrent", "match", "matcher_options", "no_aux", "ranks"})
DENOISING = frozenset({"denoising", "denoising_indices", "denoising_subset", "denoising_group"})
DISTRIBUTIONS = {"distributions"}
EPS = 1e-5
"""Of the inverse sigmoid."""
IMAGE = (1333.0, 800.0)
"""Width and height in pixels."""


class CriterionPort(TorchPort):
    """A criterion behind the protocol of ports."""

    dtypes = frozenset({"float16", "bfloat16", "float32", "float64"})

    def __init__(self, profile, criterion, matcher, *has):
        self.name, self.profile = f"{profile}-criterion", profile
        self.criterion, self.matcher = criterion, matcher
        self.capabilities = EVERYWHERE.union(criterion.class_losses, *has)

    def build(self, case):
        return self.criterion(case.config)

    def call(self, loss, case, tensors):
        predictions, targets = tensors.predictions, self.targets(case, tensors)
        layers = layers_of(predictions["pred_bboxes"], predictions["pred_scores"])
        add_masks(layers, predictions.get("pred_masks"))
        if case.distributions is not None:
            add_distributions(layers, predictions["pred_corners"], tensors.constants["references"])
        if case.denoising is None:
            return loss(layers, targets)
        dn_layers = layers_of(predictions["dn_bboxes"], predictions["dn_scores"])
        add_masks(dn_layers, predictions.get("dn_masks"))
        if case.distributions is not None:
            add_distributions(dn_layers, predictions["dn_corners"], tensors.constants["denoising_references"])
        return loss(layers, targets, dn_layers, self.dn_indices(case), case.denoising.num_group)

    def targets(self, case, tensors):
        own = [case.of_image(image) for image in range(case.images)]
        return [{"labels": tensors.gt_cls[part], "boxes": tensors.gt_bboxes[part]} for part in own]

    def match(self, case):
        tensors = tensors_of(case)
        matcher = self.build(case).matcher
        if case.changes_matcher:
            matcher = self.matcher(case.matcher, case.config.query_groups)
        layers = layers_of(tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"])
        add_masks(layers, tensors.predictions.get("pred_masks"))
        return [through_the_batch(case, matcher(layer, self.targets(case, tensors))) for layer in layers]

    def dn_indices(self, case):
        """Slots and targets of every image, from the lists of positive slots."""
        made, firsts = case.denoising, [case.of_image(image).start for image in range(case.images)]
        rows = zip(made.pos_idx, made.gt_idx, firsts, strict=True)
        return [(torch.tensor(slots), torch.tensor(own - first).repeat(made.num_group)) for slots, own, first in rows]

    def denoising_indices(self, case):
        return through_the_batch(case, self.dn_indices(case))

    def denoising_group(self, case):
        return denoising_group(case, EPS, capped=False, padding=math.log(EPS / (1 - EPS)))


class RegularCriterionPort(CriterionPort):
    """DINO's layout of denoising queries: nothing is said but how many slots and groups there are."""

    def dn_indices(self, case):
        groups, slots = case.denoising.num_group, case.denoising.bboxes.shape[2]
        starts = torch.arange(0, slots, slots // groups)[:, None]
        own = [torch.arange(count) for count in case.gt_groups]
        return [((starts + each).flatten(), each.repeat(groups)) for each in own]


class PixelPort(RegularCriterionPort):
    """Annotations are corners in pixels; the head makes shares of the image of them."""

    def targets(self, case, tensors):
        size = tensors.gt_bboxes.new_tensor(IMAGE).repeat(2)
        corners = to_corners(tensors.gt_bboxes) * size
        named = {"labels": tensors.gt_cls, "corners": corners, "boxes": to_centre(corners / size)}
        own = [case.of_image(image) for image in range(case.images)]
        return [{name: each[part] for name, each in named.items()} | {"size": size} for part in own]


class SegmentationPort(CriterionPort):
    """Masks of targets come image by image, each in the size of its image."""

    def targets(self, case, tensors):
        targets = super().targets(case, tensors)
        for image, each in enumerate(targets if case.masks is not None else ()):
            height, width = case.masks.sizes[image]
            each["masks"] = tensors.constants["gt_masks"][case.of_image(image), :height, :width].bool()
        return targets


class PointPort(RegularCriterionPort):
    """Masks of targets come padded to the size of the batch; points come with them."""

    def targets(self, case, tensors):
        targets = super().targets(case, tensors)
        for image, each in enumerate(targets if case.masks is not None else ()):
            own, constants = case.of_image(image), tensors.constants
            each |= {"masks": constants["gt_masks"][own].bool(), "loss_points": constants["loss_points"][own]}
            each["cost_points"] = constants["cost_points"][image]
        return targets


class OutwardPort(CriterionPort):
    """D-FINE's generator turns boxes right side out."""

    def denoising_group(self, case):
        return denoising_group(case, EPS, capped=False, padding=math.log(EPS / (1 - EPS)), outward=True)


def layers_of(boxes, logits):
    return [{"boxes": precise(own), "logits": precise(each)} for own, each in zip(boxes, logits, strict=True)]


def add_masks(layers, masks):
    """Masks for each layer, if there are any."""
    for layer, own in zip(layers, () if masks is None else masks, strict=masks is not None):
        layer["masks"] = precise(own)


def add_distributions(layers, corners, references):
    """Logits of bins for each layer, and the boxes from which all layers start."""
    for layer, own in zip(layers, corners, strict=True):
        layer |= {"corners": precise(own), "references": references.to(precise(own).dtype)}


def through_the_batch(case, pairs):
    """Targets counted through the batch instead of within their images."""
    return [arrays_of((queries, own + case.of_image(image).start)) for image, (queries, own) in enumerate(pairs)]


def precise(tensor):
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def softmax_matcher(options, _groups):
    return HungarianMatcher(softmax_cost, options.cost_gain, as_it_is)


def recipe_matcher(options, groups):
    return HungarianMatcher(focal_cost(), options.cost_gain, as_it_is, groups)


def mask_matcher(options, _groups):
    return PointMatcher(focal_cost(), options.cost_gain, as_it_is)


def exact_matcher(options, groups):
    return HungarianMatcher(exact_focal_cost(options.alpha), options.cost_gain, at_least_1e_7, groups)


def pixel_matcher(options, _groups):
    return PixelMatcher(focal_cost(options.alpha, options.gamma, eps=1e-12), options.cost_gain, as_it_is)


def matcher_of_either_cost(guard):
    """With the focal or the softmax cost, as the options say."""

    def matcher(options, _groups):
        cost = focal_cost(options.alpha, options.gamma) if options.use_fl else softmax_cost
        return HungarianMatcher(cost, options.cost_gain, guard)

    return matcher


REGULAR = {"denoising", "denoising_indices"}
CRITERIA = (
    CriterionPort("detr", criteria.SetCriterion, softmax_matcher),
    SegmentationPort("detr-masks", SegmentationCriterion, softmax_matcher, {"masks"}),
    RegularCriterionPort("deformable", criteria.DeformableCriterion, recipe_matcher, REGULAR),
    PointPort("maskdino", PointCriterion, mask_matcher, REGULAR, {"mask_points"}),
    OutwardPort("dfine", criteria.DFineCriterion, matcher_of_either_cost(as_it_is), DENOISING, DISTRIBUTIONS),
    OutwardPort("deim", criteria.DEIMCriterion, matcher_of_either_cost(as_it_is), DENOISING, DISTRIBUTIONS),
    CriterionPort("lwdetr", criteria.LWDETRCriterion, recipe_matcher, {"query_groups"}),
    CriterionPort("rfdetr", criteria.RFDETRCriterion, exact_matcher, {"query_groups"}),
    CriterionPort("paddle", criteria.PaddleCriterion, matcher_of_either_cost(and_1e_10), DENOISING, {"uni_match"}),
    PixelPort("mmdet", criteria.DINOHead, pixel_matcher, REGULAR),
)
