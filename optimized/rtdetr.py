"""The criterion and the matcher of the RT-DETR repositories: dictionaries of outputs, and a list of targets.

Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4; Lv et al., RT-DETRv2, arXiv 2407.17140; their form:
https://github.com/lyuwenyu/RT-DETR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Int64
from torch import Tensor, nn

from detr_conformance.optimized.backends.choice import check_backend
from detr_conformance.optimized.backends.torch.totals import LossesOfLayer
from detr_conformance.optimized.by_layer import (
    Queries,
    Recipe,
    cost_options,
    denoising_pairs,
    matched,
    number_of_targets,
)
from detr_conformance.optimized.denoising import Nothing
from detr_conformance.optimized.options import CostOptions, Weight
from detr_conformance.optimized.pairing import denoising_matching, matching_within_images, pairs_of_images
from detr_conformance.optimized.replaced import is_replaced, remember, replaced_methods
from detr_conformance.optimized.rtdetr_denoising import Group, Names, contrastive_denoising_group
from detr_conformance.optimized.targets import Pairs, Targets
from detr_conformance.optimized.targets_of_images import targets_of_queries
from detr_conformance.optimized.validation import (
    GAINS,
    check_count,
    check_number,
    check_predictions,
    check_rows,
    entry,
    is_one_number,
)

Outputs = Mapping[str, Any]
"""`pred_logits` (images, queries, classes) and `pred_boxes` (images, queries, 4) of a layer, beside other things."""

Indices = tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]
"""Queries of an image, and the target of each, counted within the image."""

COSTS = ("cost_class", "cost_bbox", "cost_giou")
CLASS_LOSSES = {"vfl": "varifocal", "focal": "focal", "bce": "bce", "mal": "mal"}
TERM_OF = {"cls": "class", "bbox": "bbox", "giou": "giou"}
LOSSES = (*CLASS_LOSSES, "boxes")
TARGETS = ("targets", "boxes", "labels")
"""The argument, and the keys of its dictionaries."""

PARTS_ELSEWHERE = (
    "get_loss", "get_loss_meta_info", "loss_boxes", "loss_cardinality", "loss_labels", "loss_labels_bce",
    "loss_labels_focal", "loss_labels_mal", "loss_labels_vfl", "loss_masks", "_get_src_permutation_idx",
    "_get_tgt_permutation_idx",
)  # fmt: skip
"""Methods of the repositories' criteria that this one does not have: who overrides one means it to be called."""


class HungarianMatcher(nn.Module):
    """One-to-one assignment of queries to targets, image by image; see `optimized.HungarianMatcher` for the cost.

    Nothing is added to the areas of boxes, and a query with a cost that is not finite is matched after all others.

    Args:
        weight_dict: `cost_class`, `cost_bbox` and `cost_giou`.
        use_focal_loss: focal class cost on sigmoids; otherwise the softmax probability.
        alpha: balance of the focal class cost.
        gamma: exponent of the focal class cost, >= 0.
        backend: see `DETRLoss`.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
    """

    def __init__(
        self,
        weight_dict: Mapping[str, Weight],
        use_focal_loss: bool = False,
        alpha: float = 0.25,
        gamma: float = 2.0,
        *,
        backend: str | None = None,
    ) -> None:
        """Keep the options."""
        super().__init__()
        self.cost_class, self.cost_bbox, self.cost_giou = (entry(weight_dict, "weight_dict", key) for key in COSTS)
        self.use_focal_loss = use_focal_loss
        self.alpha, self.gamma = alpha, gamma
        self.backend = backend
        self._options()

    def forward(self, outputs: Outputs, targets: Sequence[Mapping[str, Tensor]]) -> dict[str, list[Indices]]:
        """Match one layer.

        Args:
            outputs: predictions of the layer.
            targets: for each image `labels` (targets,) and `boxes` (targets, 4) in centre form.

        Returns:
            Under `indices`, for each image min(queries, its targets) pairs: queries, ascending, and targets, counted
            within the image.
        """
        queries = _queries([outputs], ["outputs"])
        of_images = targets_of_queries(targets, TARGETS, *queries)
        pairs = self.match(queries, of_images)
        return {"indices": matching_within_images(pairs, of_images, queries.pred_scores.shape[2])}

    def match(self, queries: Queries, targets: Targets) -> Pairs:
        """Match every layer on its own, all of them at once."""
        return matched(queries, targets, self._options(), self.backend)

    def _options(self) -> CostOptions:
        """The cost, and whether its options fit."""
        check_backend(self.backend)
        gains = {term: check_number(key, getattr(self, key)) for term, key in zip(GAINS, COSTS, strict=True)}
        alpha, gamma = check_number("alpha", self.alpha), check_number("gamma", self.gamma, least=0.0)
        return cost_options(gains, bool(self.use_focal_loss), alpha, gamma)


remember(HungarianMatcher, "forward", "match")


class RTDETRCriterion(nn.Module):
    """The losses of RT-DETR and RT-DETRv2, in a fraction of the time of the repositories' criteria.

    With N the number of targets, averaged over the processes of `torch.distributed` where it is initialised, and at
    least 1, every layer has, over its own matching,

        loss_vfl   = sum of BCE(x, q) (alpha p^gamma (1 - y) + q) / N    the weight is a constant
        loss_focal = sum of BCE(x, y) (1 - p_t)^gamma a_t / N
        loss_bce   = sum of BCE(x, y) / N
        loss_mal   = sum of BCE(x, q^gamma y) (p^gamma (1 - y) + y) / N  the weight is a constant
        loss_bbox  = sum_{matched} |b - b'| / N
        loss_giou  = sum_{matched} (1 - GIoU(b, b')) / N

    each times its entry of `weight_dict`, without which it is left out; those of denoising queries are divided by N
    times the groups. Takes float16 and bfloat16 too, computes in float32 or better. The losses can be differentiated
    once. Attributes that are set, and entries of the dictionary that was given, take effect at the next call.

    Args:
        matcher: `HungarianMatcher`, or whatever maps outputs and targets to pairs as it does: that one is called for
            each layer.
        weight_dict: weight of each loss by its key; a tensor may be learnt.
        losses: which are wanted: "boxes", and one or more of "vfl", "focal", "bce", "mal".
        alpha: balance of the varifocal and of the focal loss; below 0 the latter has none. quirk: recipes set 0.75.
        gamma: exponent of the classification losses, >= 0.
        num_classes: number of columns of logits.
        boxes_weight_format: None; the repositories' other ways are not computed here.
        share_matched_indices: the auxiliary layers of the decoder use the matching of the last.
        eos_coef: not read, as in the repositories without the loss "labels", which is not computed here.
        backend: see `DETRLoss`.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
    """

    def __init__(
        self,
        matcher: nn.Module,
        weight_dict: Mapping[str, Weight],
        losses: Sequence[str],
        alpha: float = 0.2,
        gamma: float = 2.0,
        num_classes: int = 80,
        boxes_weight_format: None = None,
        share_matched_indices: bool = False,
        *,
        eos_coef: float = 1e-4,  # noqa: ARG002  # of a loss that is not computed here
        backend: str | None = None,
    ) -> None:
        """Keep the options."""
        super().__init__()
        if not callable(matcher):
            raise TypeError(f"matcher is a {type(matcher).__name__}, expected a module that returns pairs")
        if boxes_weight_format is not None:
            raise ValueError(f"boxes_weight_format is {boxes_weight_format!r}, expected None: no box is weighted here")
        self.matcher: Any = matcher
        self.weight_dict, self.losses = weight_dict, losses
        self.alpha, self.gamma = alpha, gamma
        self.num_classes = num_classes
        self.share_matched_indices = share_matched_indices
        self.backend = backend
        self._recipes()
        check_count("num_classes", num_classes, least=1)

    def forward(
        self,
        outputs: Outputs,
        targets: Sequence[Mapping[str, Tensor]],
        **kwargs: object,  # noqa: ARG002  # as in the repositories
    ) -> dict[str, Tensor]:
        """All losses of a training step.

        Args:
            outputs: predictions of the last layer, and lists of such dictionaries: `aux_outputs` of the other layers,
                `enc_aux_outputs` of the encoder's, `dn_aux_outputs` of denoising queries in all layers, which need
                `dn_meta` with `dn_positive_idx` and `dn_num_group`. With `enc_meta["class_agnostic"]` the encoder has
                one class.
            targets: for each image `labels` (targets,) and `boxes` (targets, 4) in centre form.
            kwargs: not read.

        Returns:
            Each loss under its key: `loss_vfl`, those of auxiliary layer i with `_aux_i`, `_dn_i` and `_enc_i`.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
            RuntimeError: the backend cannot run here.
        """
        self._check_parts()
        layers, recipes = _layers(outputs), self._recipes()
        main = _queries([outputs], ["outputs"], self.num_classes)
        given = targets_of_queries(targets, TARGETS, *main)
        everyone = dist.group.WORLD if dist.is_available() and dist.is_initialized() else None
        count = number_of_targets(given, everyone)
        pairs = self._pairs(main, [outputs], given, targets)
        losses = self._named(recipes, main, given, pairs, count, [""])
        if auxiliary := layers["aux_outputs"]:
            queries = _queries(auxiliary, _names("aux_outputs", auxiliary), self.num_classes, main)
            if not self.share_matched_indices:
                pairs = self._pairs(queries, auxiliary, given, targets)
            losses |= self._named(recipes, queries, given, pairs, count, _suffixes("aux", auxiliary))
        if denoising := layers["dn_aux_outputs"]:
            queries = _queries(denoising, _names("dn_aux_outputs", denoising), self.num_classes, main)
            meta = entry(outputs, "outputs", "dn_meta")
            own, groups = denoising_pairs(queries, given, meta, "outputs['dn_meta']")
            if replaced_methods(self, RTDETRCriterion):
                made = self.get_cdn_matched_indices(meta, targets)
                own = _pairs_of(made, "what get_cdn_matched_indices returns", queries, given)
            losses |= self._named(recipes, queries, given, [own], count * groups, _suffixes("dn", denoising))
        if encoder := layers["enc_aux_outputs"]:
            classes = self.num_classes
            if "enc_meta" in outputs and entry(outputs["enc_meta"], "outputs['enc_meta']", "class_agnostic"):
                classes, targets = 1, [{**each, "labels": torch.zeros_like(each["labels"])} for each in targets]
                given = replace(given, classes=torch.zeros_like(given.classes))
            queries = _queries(encoder, _names("enc_aux_outputs", encoder), classes, main)
            pairs = self._pairs(queries, encoder, given, targets)
            losses |= self._named(recipes, queries, given, pairs, count, _suffixes("enc", encoder))
        return losses

    def _check_parts(self) -> None:
        """Nobody means a method to be called that is not.

        Raises:
            TypeError: there is a method of a name in `PARTS_ELSEWHERE`.
        """
        own = [name for name in PARTS_ELSEWHERE if hasattr(type(self), name) or name in vars(self)]
        if own:
            raise TypeError(
                f"{type(self).__name__} defines {own[0]}, which RTDETRCriterion does not call: all layers are computed "
                "at once; override forward, or train with the repository's criterion"
            )

    def _pairs(
        self,
        queries: Queries,
        layers: Sequence[Outputs],
        targets: Targets,
        given: Sequence[Mapping[str, Tensor]],
    ) -> list[Pairs]:
        """The pairs of all layers together; by somebody else's matcher, which may pair differently many, one by one."""
        if not is_replaced(self.matcher, HungarianMatcher):
            return [self.matcher.match(queries, targets)]
        found = [self.matcher(layer, given) for layer in layers]
        return [_pairs_of(each, "what the matcher returns", queries, targets) for each in found]

    def _named(
        self,
        recipes: Sequence[tuple[dict[str, str], Recipe]],
        queries: Queries,
        targets: Targets,
        pairs: Sequence[Pairs],
        count: Weight,
        suffixes: Sequence[str],
    ) -> dict[str, Tensor]:
        """The losses of layers, with pairs for all of them or for each, under their keys."""
        apart = [Queries(boxes[None], scores[None]) for boxes, scores in zip(*queries, strict=True)]
        sets = list(zip([queries] if len(pairs) == 1 else apart, pairs, strict=True))
        found = [
            (keys, [each for one, own in sets for each in recipe.losses(one, targets, own, count)])
            for keys, recipe in recipes
        ]
        return {
            f"{key}{suffix}": self._weighted(key, getattr(of_layers[layer], term))
            for layer, suffix in enumerate(suffixes)
            for keys, of_layers in found
            for term, key in keys.items()
        }

    def _weighted(self, key: str, loss: Tensor) -> Tensor:
        """The loss times a weight that is a tensor, which may be learnt; other weights are in it."""
        weight = self.weight_dict[key]
        return loss * weight if is_one_number(weight) else loss

    def _weight(self, key: str | None) -> float:
        """The weight of a loss inside of what has its gradient in closed form; of a tensor see `_weighted`."""
        if key is None:
            return 0.0
        weight = self.weight_dict[key]
        return 1.0 if is_one_number(weight) else check_number(f"weight_dict[{key!r}]", weight)

    def _recipes(self) -> list[tuple[dict[str, str], Recipe]]:
        """For each classification loss, how it is computed, and which terms are wanted under which keys.

        Those of boxes come with the first.

        Raises:
            TypeError, ValueError: an option does not fit; it is named with its value.
        """
        check_backend(self.backend)
        if not isinstance(self.weight_dict, Mapping):
            raise TypeError(
                f"weight_dict is a {type(self.weight_dict).__name__}, expected a mapping from keys of losses"
            )
        exponents = check_number("alpha", self.alpha), check_number("gamma", self.gamma, least=0.0)
        losses = [_known(name) for name in check_rows("losses", self.losses, "some of them")]
        wanted: list[str | None] = [name for name in losses if name in CLASS_LOSSES] or [None]
        recipes = []
        for place, name in enumerate(wanted):
            keys = {} if name is None else {"cls": f"loss_{name}"}
            if not place and "boxes" in losses:
                keys |= {"bbox": "loss_bbox", "giou": "loss_giou"}
            keys = {term: key for term, key in keys.items() if key in self.weight_dict}
            gains = {TERM_OF[term]: self._weight(keys.get(term)) for term in LossesOfLayer._fields}
            recipes.append((keys, Recipe(CLASS_LOSSES[name or "vfl"], *exponents, gains, self.backend)))
        return recipes

    @staticmethod
    def get_cdn_matched_indices(dn_meta: Mapping[str, Any], targets: Sequence[Mapping[str, Tensor]]) -> list[Indices]:
        """Pair every positive denoising query with the target that it was made from.

        Args:
            dn_meta: `dn_positive_idx`, for each image its positive slots, group after group, and `dn_num_group`.
            targets: for each image `labels`.

        Returns:
            For each image its slots, and the target of each, counted within the image.
        """
        rows = enumerate(check_rows("targets", targets))
        counts = [len(entry(each, f"targets[{image}]", "labels")) for image, each in rows]
        slots, groups = (entry(dn_meta, "dn_meta", key) for key in ("dn_positive_idx", "dn_num_group"))
        device = next((row.device for row in slots if isinstance(row, Tensor)), torch.device("cpu"))
        positive, chosen = denoising_matching(slots, groups, counts, None, device, name="dn_positive_idx")
        starts = [0, *accumulate(counts)][:-1]
        found = zip(positive.not_negative().split(positive.sizes), chosen.split(positive.sizes), starts, strict=True)  # type: ignore[no-untyped-call]
        return [(own, each - start) for own, each, start in found]


def get_contrastive_denoising_training_group(
    targets: Sequence[Mapping[str, Tensor]],
    num_classes: int,
    num_queries: int,
    class_embed: nn.Embedding,
    num_denoising: int = 100,
    label_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Group | Nothing:
    """The denoising queries of a batch; see `rtdetr_denoising.contrastive_denoising_group`.

    `targets` has for each image `labels` (targets,) and `boxes` (targets, 4) in centre form.
    """
    options = num_classes, num_queries, class_embed, num_denoising, label_noise_ratio, box_noise_scale
    return contrastive_denoising_group(targets, Names(TARGETS, "num_denoising"), *options, generator)


def _known(name: object) -> str:
    """A loss that there is."""
    if name not in LOSSES:
        raise ValueError(f"losses has {name!r}, expected some of {LOSSES}")
    return str(name)


def _layers(outputs: Outputs) -> dict[str, Sequence[Outputs]]:
    """The lists of layers; empty where there is none."""
    if not isinstance(outputs, Mapping):
        raise TypeError(f"outputs is a {type(outputs).__name__}, expected a mapping with the key 'pred_logits'")
    given = {key: outputs.get(key) for key in ("aux_outputs", "dn_aux_outputs", "enc_aux_outputs")}
    return {
        key: () if each is None else check_rows(f"outputs[{key!r}]", each, "an entry for each layer")
        for key, each in given.items()
    }


def _names(key: str, layers: Sequence[Outputs]) -> list[str]:
    return [f"outputs[{key!r}][{layer}]" for layer in range(len(layers))]


def _suffixes(kind: str, layers: Sequence[Outputs]) -> list[str]:
    return [f"_{kind}_{layer}" for layer in range(len(layers))]


def _queries(
    layers: Sequence[Outputs], names: Sequence[str], classes: int | None = None, main: Queries | None = None
) -> Queries:
    """The predictions of layers, in one tensor each.

    Args:
        layers: a dictionary for each.
        names: what they are called.
        classes: how many there must be; None for any number.
        main: the last layer, which has as many images.
    """
    found: list[tuple[Tensor, Tensor]] = []
    for layer, name in zip(layers, names, strict=True):
        boxes, scores = (entry(layer, name, key) for key in ("pred_boxes", "pred_logits"))
        called = f"{name}['pred_boxes']", f"{name}['pred_logits']"
        check_predictions(boxes, scores, ("images", "queries"), classes, called, "num_classes")
        of_first = found[0][1] if found else scores
        images = scores if main is None else main.pred_scores[0]
        if scores.shape != of_first.shape or len(scores) != len(images):
            expected = f"{len(images)} images, and {tuple(of_first.shape[1:])} as in the layers before"
            raise ValueError(f"{called[1]} has shape {tuple(scores.shape)}, expected {expected}")
        found.append((boxes, scores))
    return Queries(*(each[0][None] if len(found) == 1 else torch.stack(each) for each in zip(*found, strict=True)))


def _pairs_of(found: object, name: str, queries: Queries, targets: Targets) -> Pairs:
    """The pairs that somebody else's function returns for one layer, or for all."""
    rows = entry(found, name, "indices") if isinstance(found, Mapping) else found
    return pairs_of_images(rows, name, queries.pred_scores.shape[2], targets.counts, targets.boxes.device)


remember(RTDETRCriterion, "get_cdn_matched_indices")
