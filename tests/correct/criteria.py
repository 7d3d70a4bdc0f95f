"""DETR's criterion, and what the others of the family change in it: one method or two each.

A layer is a dict of `logits` (images, queries, columns) and `boxes` (images, queries, 4); targets are a list of dicts,
one for each image.
"""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import torch
import torch.distributed as dist

from . import criterion_classes as classes
from . import criterion_distributions as distributions
from .criterion_boxes import and_1e_9, and_1e_10, as_it_is, at_least_1e_7, pairwise_overlap, to_corners
from .criterion_matcher import HungarianMatcher, PixelMatcher, exact_focal_cost, focal_cost, softmax_cost

RECIPE = {"class": 2.0, "bbox": 5.0, "giou": 2.0}


class SetCriterion:
    """DETR, arXiv 2005.12872: match every layer, classify all of its queries, regress the matched boxes."""

    class_losses: ClassVar = {"softmax": classes.softmax}
    class_key, giou_key = "ce", "giou"
    guard = score_guard = staticmethod(as_it_is)

    def __init__(self, config):
        self.config = config
        self.matcher = self.build_matcher()
        self.class_loss = self.class_losses[config.classification]

    def build_matcher(self):
        return HungarianMatcher(softmax_cost, {"class": 1.0, "bbox": 5.0, "giou": 2.0}, self.guard)

    def __call__(self, layers, targets, dn_layers=(), dn_indices=(), dn_groups=1):
        """The losses by their keys; those of several layers under one key are added up."""
        losses, own = {}, [self.matcher(layer, targets) for layer in layers]
        parts = zip(self.suffixes(len(layers)), layers, self.paired(own), strict=True)
        for suffix, layer, (of_class, of_box) in parts:
            numbers = self.number_of_targets(targets, of_class), self.number_of_boxes(targets, of_box)
            self.add(losses, suffix, layer, targets, (of_class, of_box), numbers)
        pairs = self.number_of_dn_pairs(dn_indices, dn_groups)
        for suffix, layer in zip(self.dn_suffixes(len(dn_layers)), dn_layers, strict=True):
            self.add(losses, suffix, layer, targets, (dn_indices, dn_indices), (pairs, pairs))
        return losses

    def paired(self, own):
        """For each layer the pairs of its class loss, and those of its box losses."""
        return [(each, each) for each in own]

    def number_of_targets(self, targets, _indices):
        return max(over_ranks(sum(len(each["labels"]) for each in targets)), 1)

    def number_of_dn_pairs(self, indices, groups):
        """Asked on a rank without denoising queries too, or those that have some would wait for it."""
        return max(over_ranks(sum(len(slots) for slots, _ in indices) / groups), 1) * groups

    def number_of_boxes(self, targets, indices):
        return self.number_of_targets(targets, indices)

    def suffixes(self, count):
        return [*(f"_{layer}" for layer in range(count - 1)), ""]

    def dn_suffixes(self, count):
        assert not count, "there are no denoising queries"
        return []

    def key(self, name, suffix):
        return f"loss_{name}{suffix}"

    def add(self, losses, suffix, layer, targets, pairs, numbers):
        """The three losses of a layer, unless it is an auxiliary one and those are not asked for."""
        if suffix not in self.main and not self.config.aux_loss:
            return
        of_class, of_box = pairs
        named = {self.class_key: ("class", self.loss_labels(layer, targets, of_class, numbers[0]))}
        l1, giou = self.loss_boxes(layer, targets, of_box)
        named |= {"bbox": ("bbox", l1 / numbers[1]), self.giou_key: ("giou", giou / numbers[1])}
        for name, (term, loss) in named.items():
            key = self.key(name, suffix)
            losses[key] = losses.get(key, 0) + self.config.loss_gain[term] * loss

    main = frozenset({""})
    """Suffixes of the losses that are there without auxiliary ones."""

    def loss_labels(self, layer, targets, indices, _number):
        """A mean over all queries: nothing is left to divide."""
        return self.sum_of_labels(layer, targets, indices)

    def sum_of_labels(self, layer, targets, indices):
        logits, where = layer["logits"], places(indices)
        labels = torch.full(logits.shape[:2], self.config.nc)
        labels[where] = joined(targets, "labels", indices)
        y = torch.nn.functional.one_hot(labels, self.config.nc + 1)[..., : logits.shape[-1]].to(logits.dtype)
        iou = torch.zeros_like(logits[..., 0])
        iou[where] = self.overlaps(layer, targets, indices, self.score_guard)[0].detach()
        return self.class_loss(logits, y, iou[..., None] * y, self.config)

    def loss_boxes(self, layer, targets, indices):
        """Sums over all pairs."""
        matched, wanted = layer["boxes"][places(indices)], joined(targets, "boxes", indices)
        giou = self.overlaps(layer, targets, indices, self.guard)[1]
        return torch.nn.functional.l1_loss(matched, wanted, reduction="sum"), (1 - giou).sum()

    def overlaps(self, layer, targets, indices, guard):
        """IoU and GIoU of every pair, which lie on the diagonal of those of every two boxes."""
        matched, wanted = layer["boxes"][places(indices)], joined(targets, "boxes", indices)
        return [each.diag() for each in pairwise_overlap(to_corners(matched), to_corners(wanted), guard)]


class DeformableCriterion(SetCriterion):
    """Deformable DETR, arXiv 2010.04159, and DINO's denoising queries, arXiv 2203.03605."""

    class_losses: ClassVar = {"focal": classes.focal}
    main = frozenset({"", "_dn"})

    def __init__(self, config):
        super().__init__(config)
        self.config = with_options(config, gamma=2.0)

    def build_matcher(self):
        return HungarianMatcher(focal_cost(), RECIPE, self.guard)

    def loss_labels(self, layer, targets, indices, number):
        return self.sum_of_labels(layer, targets, indices) / number

    def dn_suffixes(self, count):
        return [*(f"_dn_{layer}" for layer in range(count - 1)), "_dn"] if count else []


class DINOHead(DeformableCriterion):
    """mmdetection's: targets are corners in pixels, and every loss is divided by the pairs."""

    class_key, giou_key = "cls", "iou"

    def __init__(self, config):
        super().__init__(config)
        self.config = config  # gamma and all

    def build_matcher(self):
        return PixelMatcher(focal_cost(eps=1e-12), RECIPE, self.guard)

    def number_of_targets(self, _targets, indices):
        return max(over_ranks(sum(len(queries) for queries, _ in indices)), 1)

    def number_of_dn_pairs(self, indices, _groups):
        return self.number_of_targets((), indices)

    def key(self, name, suffix):
        *dn, layer = suffix.lstrip("_").split("_")
        if layer == "dn":
            dn, layer = ["dn"], ""
        return f"{f'd{layer}.' if layer else ''}{'dn_' if dn else ''}loss_{name}"

    def overlaps(self, layer, targets, indices, guard):
        matched = to_corners(layer["boxes"][places(indices)] * targets[0]["size"])
        return [each.diag() for each in pairwise_overlap(matched, joined(targets, "corners", indices), guard)]


class DFineCriterion(DeformableCriterion):
    """D-FINE, arXiv 2410.13842: boxes of every layer answer to the union of all matchings; the encoder comes first."""

    class_losses: ClassVar = {"varifocal": classes.varifocal_of_constant_weight}
    class_key = "vfl"

    def __init__(self, config):
        SetCriterion.__init__(self, config)

    def __call__(self, layers, targets, dn_layers=(), dn_indices=(), dn_groups=1):
        losses = super().__call__(layers, targets, dn_layers, dn_indices, dn_groups)
        if "corners" in layers[-1]:
            pairs = self.number_of_dn_pairs(dn_indices, dn_groups)
            self.add_distributions(losses, layers, targets, dn_layers, dn_indices, pairs)
        return losses

    def add_distributions(self, losses, layers, targets, dn_layers, dn_indices, dn_pairs):
        """Two losses of each layer of the decoder but the last, which has nobody to learn from."""
        [(_, union), *_] = self.paired([self.matcher(layer, targets) for layer in layers])
        matched = sum(len(queries) for queries, _ in union)
        counts = matched, layers[-1]["logits"][..., 0].numel() - matched
        number = self.number_of_boxes(targets, union)
        ordinary = zip(self.suffixes(len(layers))[1:], layers[1:], strict=True)
        denoising = zip(self.dn_suffixes(len(dn_layers)), dn_layers, strict=True)
        parts = [(suffix, layer, layers[-1], union, number) for suffix, layer in ordinary]
        parts += [(suffix, layer, dn_layers[-1], dn_indices, dn_pairs) for suffix, layer in denoising]
        for suffix, layer, last, indices, own_number in parts:
            losses[self.key("fgl", suffix)] = self.localisation(layer, targets, indices) / own_number
            if layer is not last:
                losses[self.key("ddf", suffix)] = self.distillation(layer, last, targets, indices, counts)

    def localisation(self, layer, targets, indices):
        where, wanted = places(indices), joined(targets, "boxes", indices)
        iou = self.overlaps(layer, targets, indices, self.guard)[0]
        loss = distributions.fgl(layer["corners"][where], wanted, layer["references"][where], iou)
        return self.config.loss_gain["fgl"] * loss

    def distillation(self, layer, last, targets, indices, counts):
        where = places(indices)
        weights = last["logits"].detach().sigmoid().amax(-1)
        is_matched = torch.zeros_like(weights, dtype=torch.bool)
        is_matched[where] = True
        weights[where] = self.overlaps(layer, targets, indices, self.guard)[0].detach()
        loss = distributions.ddf(layer["corners"], last["corners"], weights, is_matched, counts)
        return self.config.loss_gain["ddf"] * loss

    def paired(self, own):
        union = [most_voted(of_image) for of_image in zip(*own, strict=True)]
        return [(each, union) for each in own]

    def number_of_boxes(self, _targets, indices):
        return max(over_ranks(sum(len(queries) for queries, _ in indices)), 1)

    def suffixes(self, count):
        return ["_enc_0", *(f"_aux_{layer}" for layer in range(count - 2)), ""]

    def dn_suffixes(self, count):
        return [f"_dn_{layer}" for layer in range(count)]


class DEIMCriterion(DFineCriterion):
    """DEIM, arXiv 2412.04234."""

    class_losses: ClassVar = {**DFineCriterion.class_losses, "mal": classes.matchability_aware}

    def __init__(self, config):
        super().__init__(config)
        self.class_key = {"mal": "mal", "varifocal": "vfl"}[config.classification]


class LWDETRCriterion(DeformableCriterion):
    """LW-DETR, arXiv 2406.03459: groups of queries, and the IoU in the target of the class loss."""

    class_losses: ClassVar = {"ia_bce": classes.iou_aware, "focal": classes.focal}
    class_cost = staticmethod(focal_cost())

    def build_matcher(self):
        return HungarianMatcher(self.class_cost, RECIPE, self.guard, self.config.query_groups)

    def number_of_targets(self, targets, _indices):
        return max(over_ranks(sum(len(each["labels"]) for each in targets) * self.config.query_groups), 1)

    def suffixes(self, count):
        return ["_enc", *(f"_{layer}" for layer in range(count - 2)), ""][-count:]


class RFDETRCriterion(LWDETRCriterion):
    """RF-DETR."""

    guard = score_guard = staticmethod(at_least_1e_7)
    class_cost = staticmethod(exact_focal_cost())


class PaddleCriterion(DeformableCriterion):
    """PaddleDetection's: auxiliary layers are added up, and may share a matching."""

    class_losses: ClassVar = {"focal": classes.focal, "varifocal": classes.varifocal}
    class_key = "class"
    guard, score_guard = staticmethod(and_1e_10), staticmethod(and_1e_9)

    def __init__(self, config):
        super().__init__(config)
        self.config = with_options(self.config, alpha=0.75 if config.classification == "varifocal" else 0.25)

    def __call__(self, layers, targets, dn_layers=(), dn_indices=(), dn_groups=1):
        losses = super().__call__(layers, targets, dn_layers, dn_indices, dn_groups)
        zero = layers[0]["boxes"][..., :0].sum()
        return losses if dn_layers else losses | {f"{key}_dn": zero.clone() for key in losses}

    def paired(self, own):
        if self.config.use_uni_match:
            own = [own[self.config.uni_match_ind]] * (len(own) - 1) + own[-1:]
        return super().paired(own)

    def suffixes(self, count):
        return ["_aux"] * (count - 1) + [""]

    def dn_suffixes(self, count):
        return ["_aux_dn"] * (count - 1) + ["_dn"] * (count > 0)


def over_ranks(count):
    """The mean of a count over the ranks of a data-parallel run; the count itself in any other."""
    if not dist.is_available() or not dist.is_initialized():
        return count
    total = torch.tensor(float(count), dtype=torch.float64)
    dist.all_reduce(total)
    return total.item() / dist.get_world_size()


def most_voted(matchings):
    """Of one image every query that a layer matches, with its most frequent target."""
    votes = Counter(pair for queries, own in matchings for pair in zip(queries.tolist(), own.tolist(), strict=True))
    favourite = {}
    for (query, target), _ in sorted(votes.items(), key=lambda vote: vote[1]):
        favourite[query] = target
    return torch.tensor(list(favourite), dtype=torch.long), torch.tensor(list(favourite.values()), dtype=torch.long)


def places(indices):
    """Image and query of every pair."""
    images = [torch.full_like(queries, image) for image, (queries, _) in enumerate(indices)]
    return torch.cat(images), torch.cat([queries for queries, _ in indices])


def joined(targets, name, indices):
    """What the targets of all pairs have under a name."""
    return torch.cat([each[name][own] for each, (_, own) in zip(targets, indices, strict=True)])


def with_options(config, **options):
    return type(config)(**vars(config) | options)
