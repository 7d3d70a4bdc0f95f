"""The class API of Ultralytics' DETR loss.

Its methods may be called and overridden one by one, so it tells the choice of the class loss, the sharing of a matching
and the losses of masks once more. The definition is `loss.Criterion` with the base spec: skip this file unless you need
the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from jaxtyping import Float, Int, Int64, Integer, Shaped

from detr_conformance.reference.base_spec import ULTRALYTICS
from detr_conformance.reference.classification import FOCAL, SCORE_ENTROPY, VARIFOCAL, ClassTerm
from detr_conformance.reference.keys import TERMS
from detr_conformance.reference.layers import Layer
from detr_conformance.reference.loss import box_losses_of, classes_and_scores
from detr_conformance.reference.loss_value import Leaves, Loss, Losses, losses_of, sum_over_layers
from detr_conformance.reference.masks import dice_loss, draw_points, mask_costs, mask_loss, resized
from detr_conformance.reference.matcher import Matching, Targets, cheapest, flat
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.options import LossConfig, MatcherConfig
from detr_conformance.reference.pairing import check_shared_layer
from detr_conformance.reference.rounding import FLOAT32, Arithmetic, Tracked, track
from detr_conformance.reference.validation import (
    check_count,
    check_gains,
    check_mask_gains,
    check_masks,
    check_matching,
    check_predictions,
    check_targets,
    entry,
)

Numbers = Float[np.ndarray, "*batch queries classes"]

DEFAULT_LOSS_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0, "no_object": 0.1, "mask": 1.0, "dice": 1.0}
DEFAULT_COST_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
DEFAULT_MASK_COST_GAIN = {"mask": 1.0, "dice": 1.0}

Map = Shaped[np.ndarray, "_masks _height _width"]
"""Masks of targets, or of matched queries."""


class HungarianMatcher:
    """One-to-one assignment of queries to targets at the least total cost, image by image; see `matcher.Matcher`.

    Args:
        cost_gain: weights of the terms, by default class 1, bbox 5, giou 2, and with masks mask 1 and dice 1.
        use_fl: focal class cost on sigmoids; otherwise the softmax probability.
        with_mask: add the two costs of masks, see `masks.mask_costs`.
        num_sample_points: number of points in each image, on which masks are compared; read with `with_mask` only.
        alpha: balance of the focal class cost.
        gamma: exponent of the focal class cost, >= 0.
        generator: where the points come from; None: new ones at every call.
    """

    def __init__(
        self,
        cost_gain: Mapping[str, float] | None = None,
        use_fl: bool = True,
        with_mask: bool = False,
        num_sample_points: int = 12544,
        alpha: float = 0.25,
        gamma: float = 2.0,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        """Keep the options; KeyError, TypeError or ValueError where a gain is missing or no finite number."""
        default = DEFAULT_COST_GAIN | (DEFAULT_MASK_COST_GAIN if with_mask else {})
        self.cost_gain = dict(default if cost_gain is None else cost_gain)
        check_gains("cost_gain", self.cost_gain)
        if with_mask:
            check_mask_gains("cost_gain", self.cost_gain, "with_mask")
            check_count("num_sample_points", num_sample_points, least=1)
        if generator is not None and not isinstance(generator, np.random.Generator):
            raise TypeError(f"generator is a {type(generator).__name__}, expected a numpy.random.Generator or None")
        self.with_mask = with_mask
        self.generator = generator
        self.use_fl = use_fl
        self.num_sample_points = num_sample_points
        self.alpha = alpha
        self.gamma = gamma

    def __call__(
        self,
        pred_bboxes: Float[np.ndarray, "images queries 4"],
        pred_scores: Float[np.ndarray, "images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        masks: Float[np.ndarray, "images queries height width"] | None = None,
        gt_mask: Map | None = None,
    ) -> list[Matching]:
        """Match one layer's predictions.

        Args:
            pred_bboxes: predicted boxes in centre form.
            pred_scores: logits.
            gt_bboxes: target boxes of all images in centre form, image 0's first.
            gt_cls: class of each target, 0 to classes - 1.
            gt_groups: number of targets of each image.
            masks: logits of the predicted masks. They and `gt_mask` are read with `with_mask` only.
            gt_mask: for each target 1 on the object and 0 beside it, in a size of its own.

        Returns:
            For each image min(queries, its targets) pairs; targets count through the whole batch.

        Raises:
            TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        check_predictions(pred_bboxes, pred_scores, "images queries")
        images, _, classes = pred_scores.shape
        check_targets(gt_bboxes, gt_cls, gt_groups, images, classes)
        boxes, logits, wanted = (each.astype(np.float64) for each in (pred_bboxes, pred_scores, gt_bboxes))
        config = MatcherConfig(self.cost_gain, self.use_fl, self.alpha, self.gamma)
        targets = Targets(wanted, gt_cls.astype(np.int64), gt_groups)
        if not self.with_mask:
            return ULTRALYTICS.matcher.match(config, boxes, logits, targets)
        if masks is None and gt_mask is None:
            raise ValueError("masks is None, expected logits for each query, as with_mask is set")
        check_masks(masks, gt_mask, pred_scores.shape[:2], "images queries", len(gt_cls))
        return self._match_with_masks(config, boxes, logits, targets, masks, gt_mask)

    def _match_with_masks(
        self, config: MatcherConfig, boxes: Any, logits: Any, targets: Targets, masks: Any, gt_mask: Any
    ) -> list[Matching]:
        """Each image's queries with its own targets, on points of its own."""
        matchings, generator = [], self.generator or np.random.default_rng()
        for image in range(len(boxes)):
            own, points = targets.of_image(image), draw_points(self.num_sample_points, generator)
            of_image = boxes[image], logits[image], targets.boxes[own], targets.classes[own]
            with np.errstate(all="ignore"):
                of_masks = mask_costs(masks[image].astype(np.float64), gt_mask[own].astype(np.float64), points)
                further = self.cost_gain["mask"] * of_masks.mask + self.cost_gain["dice"] * of_masks.dice
            queries, chosen = cheapest(ULTRALYTICS.matcher.cost(config, *of_image, further=further))
            matchings.append((queries, own.start + chosen))
        return matchings


class FocalLoss:
    """Focal loss of all logits; see `classification.FOCAL`.

    Args:
        gamma: how fast a right answer fades, >= 0.
        alpha: share of the foreground, <= 1; at or below 0 there is no balancing.
    """

    def __init__(self, gamma: float = 1.5, alpha: float = 0.25) -> None:
        """Ultralytics' defaults."""
        self.gamma = gamma
        self.alpha = alpha

    def __call__(self, pred: Numbers, label: Numbers) -> Loss:
        """Mean over the queries, summed over everything else.  # quirk: the caller multiplies by Q again.

        Args:
            pred: logits.
            label: 1 for the target's class, else 0.

        Returns:
            The loss and its gradient with respect to `pred_scores`.
        """
        return _mean_over_queries(FOCAL, pred, label, label, LossConfig(gamma=self.gamma, alpha=self.alpha))


class VarifocalLoss:
    """Varifocal loss of all logits; see `classification.VARIFOCAL`.

    Args:
        gamma: how fast a right background fades, >= 0.
        alpha: weight of the background, >= 0.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.75) -> None:
        """Ultralytics' defaults."""
        self.gamma = gamma
        self.alpha = alpha

    def __call__(self, pred_score: Numbers, gt_score: Numbers, label: Numbers) -> Loss:
        """Mean over the queries, summed over everything else.  # quirk: the caller multiplies by Q again.

        Args:
            pred_score: logits.
            gt_score: IoU where `label` is 1, else 0.
            label: 1 for the target's class, else 0.

        Returns:
            The loss and its gradient with respect to `pred_scores`.
        """
        return _mean_over_queries(
            VARIFOCAL, pred_score, label, gt_score, LossConfig(gamma=self.gamma, alpha=self.alpha)
        )


def _mean_over_queries(term: ClassTerm, logits: Numbers, label: Numbers, score: Numbers, config: LossConfig) -> Loss:
    def formula(leaves: Leaves) -> dict[str, Any]:
        [x] = leaves["pred_scores"]
        return {"loss": np.sum(term.terms(term, x, label, score, config)) / x.shape[-2]}

    return losses_of(formula, {"pred_scores": logits[None]}, FLOAT32)["loss"].map_gradients(_of_only_layer)


def _of_only_layer(gradient: Tracked) -> Tracked:
    return gradient[0]


MAIN_KEYS = tuple(f"loss_{term}" for term in TERMS)
MASK_KEYS = ("loss_mask", "loss_dice")


def _of_last_layer(layers: int) -> Callable[[Tracked], Tracked]:
    """Extend the gradient with respect to the last layer by zeros for the others."""

    def by_all(gradient: Tracked) -> Tracked:
        whole = track(np.zeros((layers, *gradient.shape)), gradient.arithmetic)
        whole[-1] = gradient
        return whole

    return by_all


def _of_other_layers(gradient: Tracked) -> Tracked:
    """Extend the gradient with respect to all layers but the last by zeros for that one."""
    whole = track(np.zeros((len(gradient) + 1, *gradient.shape[1:])), gradient.arithmetic)
    whole[:-1] = gradient
    return whole


def _of_all_queries(
    shape: tuple[int, ...], image: Int64[np.ndarray, " pairs"], query: Int64[np.ndarray, " pairs"]
) -> Callable[[Tracked], Tracked]:
    """Extend the gradient with respect to matched predictions by zeros for those of other queries, to this shape."""

    def by_all(gradient: Tracked) -> Tracked:
        whole = track(np.zeros(shape), gradient.arithmetic)
        whole[image, query] = gradient
        return whole

    return by_all


class DETRLoss:
    """Classification, L1 and GIoU loss of all decoder layers, as Ultralytics computes them, and losses of masks.

    Args:
        nc: number of classes; background is none of them.
        loss_gain: weights, by default class 1, bbox 5, giou 2, mask 1, dice 1, the last two needed for masks alone.
            quirk: no_object is never read.
        aux_loss: also compute the layers before the last.
        use_fl: focal or varifocal classification; otherwise cross-entropy against the IoU.
        use_vfl: varifocal instead of focal. quirk: ignored without `use_fl`.
        use_uni_match: all auxiliary layers share one of their matchings.
        uni_match_ind: the auxiliary layer whose matching they share.
        gamma: exponent of the focal or varifocal loss, >= 0.
        alpha: balance of the focal or varifocal loss. quirk: neither it nor gamma nor use_fl reaches the matcher.

    Attributes:
        matcher: what every layer is matched by; `fl` and `vfl` the loss objects, None where they are off.
        device: None, as everything here is in NumPy.

    Any of these may be replaced, and any method overridden: the next call shows it.
    """

    arithmetic: Arithmetic = FLOAT32

    def __init__(
        self,
        nc: int = 80,
        loss_gain: Mapping[str, float] | None = None,
        aux_loss: bool = True,
        use_fl: bool = True,
        use_vfl: bool = False,
        use_uni_match: bool = False,
        uni_match_ind: int = 0,
        gamma: float = 1.5,
        alpha: float = 0.25,
    ) -> None:
        """Build matcher and losses; KeyError, TypeError or ValueError where a gain is missing or not finite."""
        self.nc = nc
        self.loss_gain = dict(DEFAULT_LOSS_GAIN if loss_gain is None else loss_gain)
        check_gains("loss_gain", self.loss_gain)
        self.aux_loss = aux_loss
        self.fl = FocalLoss(gamma, alpha) if use_fl else None
        self.vfl = VarifocalLoss(gamma, alpha) if use_vfl else None
        self.use_uni_match = use_uni_match
        self.uni_match_ind = uni_match_ind
        self.matcher = HungarianMatcher(MatcherConfig().cost_gain)
        self.device = None

    def __call__(self, *args: Any, **options: Any) -> Losses:
        """The same as `forward`."""
        return self.forward(*args, **options)

    def forward(
        self,
        pred_bboxes: Float[np.ndarray, "layers images queries 4"],
        pred_scores: Float[np.ndarray, "layers images queries classes"],
        batch: Mapping[str, Any],
        postfix: str = "",
        match_indices: Sequence[Matching] | None = None,
        *,
        masks: Float[np.ndarray, "layers images queries height width"] | None = None,
        gt_mask: Map | None = None,
    ) -> Losses:
        """The losses of the last layer, and their sums over the auxiliary layers.

        Args:
            pred_bboxes: predicted boxes in centre form, the main layer last.
            pred_scores: logits.
            batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, the number of targets of
                each image.
            postfix: goes last in every key.
            match_indices: one matching to use in every layer, instead of matching each. A query has one target.
            masks: logits of the predicted masks; with `gt_mask` only.
            gt_mask: for each target 1 on the object and 0 beside it, in a size of its own; with `masks` only.

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou`, for masks `loss_mask` and `loss_dice`, and with `aux_loss` each of
            them with `_aux`; gradients with respect to `pred_bboxes`, `pred_scores` and `masks`.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        check_predictions(pred_bboxes, pred_scores, "layers images queries", self.nc)
        targets = self._targets(batch, images=pred_bboxes.shape[1])
        if match_indices is not None:
            _, images, queries, _ = pred_bboxes.shape
            check_matching(match_indices, images, queries, len(targets.classes))
        self._check_masks(masks, gt_mask, pred_scores.shape[:3], "layers images queries", len(targets.classes))
        given: dict[str, Any] = {"match_indices": match_indices, "postfix": postfix, "gt_mask": gt_mask}
        last, others = (None, None) if masks is None else (masks[-1], masks[:-1])
        of_main = self._get_loss(pred_bboxes[-1], pred_scores[-1], *targets, masks=last, **given)
        losses = {key: loss.map_gradients(_of_last_layer(len(pred_bboxes))) for key, loss in of_main.items()}
        if self.aux_loss:
            of_others = self._get_loss_aux(pred_bboxes[:-1], pred_scores[:-1], *targets, masks=others, **given)
            losses |= {key: loss.map_gradients(_of_other_layers) for key, loss in of_others.items()}
        return losses

    def _check_masks(self, masks: Any, gt_mask: Any, leading: Sequence[int], axes: str, targets: int) -> None:
        """Masks that fit each other and the rest, if there are any, and gains for them."""
        check_masks(masks, gt_mask, leading, axes, targets)
        if masks is not None:
            check_mask_gains("loss_gain", self.loss_gain, "masks")

    def _targets(self, batch: Mapping[str, Any], images: int) -> Targets:
        """Boxes, classes and counts out of the batch, all checked."""
        gt_bboxes, gt_cls, gt_groups = (entry(batch, "batch", key) for key in ("bboxes", "cls", "gt_groups"))
        check_targets(gt_bboxes, gt_cls, gt_groups, images, self.nc)
        return Targets(gt_bboxes, gt_cls.astype(np.int64), gt_groups)

    def _get_loss(
        self,
        pred_bboxes: Float[np.ndarray, "images queries 4"],
        pred_scores: Float[np.ndarray, "images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        masks: Float[np.ndarray, "images queries height width"] | None = None,
        gt_mask: Map | None = None,
        postfix: str = "",
        match_indices: Sequence[Matching] | None = None,
    ) -> Losses:
        """The losses of one layer; arguments as in `forward`, without the axis of layers."""
        images, queries, _ = pred_bboxes.shape
        self._check_masks(masks, gt_mask, (images, queries), "images queries", len(gt_cls))
        if match_indices is None:
            match_indices = self._matched(pred_bboxes, pred_scores, gt_bboxes, gt_cls, gt_groups, masks, gt_mask)
        else:
            check_matching(match_indices, images, queries, len(gt_cls))
        (image, query), target = self._get_index(match_indices)
        boxes, wanted = track(pred_bboxes, self.arithmetic), track(gt_bboxes, self.arithmetic)
        layer, targets = Layer(boxes, pred_scores), Targets(wanted, gt_cls, gt_groups)
        classes, scores = classes_and_scores(ULTRALYTICS, layer, match_indices, targets, self.nc)
        of_class = self._get_loss_class(pred_scores, classes, cast("Tracked", scores), len(target), postfix)
        of_boxes = self._get_loss_bbox(pred_bboxes[image, query], gt_bboxes[target], postfix)

        of_all_boxes = _of_all_queries(pred_bboxes.shape, image, query)
        losses = of_class | {key: loss.map_gradients(of_all_boxes) for key, loss in of_boxes.items()}
        if masks is None or gt_mask is None:
            return losses
        of_masks = self._get_loss_mask(masks[image, query], gt_mask[target], postfix)
        of_all_masks = _of_all_queries(masks.shape, image, query)
        return losses | {key: loss.map_gradients(of_all_masks) for key, loss in of_masks.items()}

    def _matched(self, *layer: Any) -> Sequence[Matching]:
        """The matching of a layer; without masks the matcher is not given any, for not every one takes them."""
        *inputs, masks, gt_mask = layer
        given = {} if masks is None else {"masks": masks, "gt_mask": gt_mask}
        return self.matcher(*inputs, **given)

    def _get_loss_class(
        self,
        pred_scores: Float[np.ndarray, "images queries classes"],
        targets: Int[np.ndarray, "images queries"],
        gt_scores: Float[np.ndarray, "images queries"],
        num_gts: int,
        postfix: str = "",
    ) -> Losses:
        """The classification loss of one layer.

        With y one-hot over the classes (background all zero) and q = y score:

            use_fl, use_vfl and N > 0    sum of VFL(x, q, y) / max(N, 1)
            use_fl otherwise             sum of FL(x, y) / max(N, 1)
            not use_fl                   sum of BCE(x, q) / Q    (quirk: not by the number of pairs)

        Args:
            pred_scores: logits x.
            targets: class of each query's target, nc for background.
            gt_scores: IoU of each query with its target, 0 for background.
            num_gts: N.
            postfix: goes last in the key.

        Returns:
            `loss_class` with its gradient with respect to `pred_scores`.
        """
        label = (targets[..., None] == np.arange(self.nc)).astype(np.float64)
        score, queries = gt_scores[..., None] * label, pred_scores.shape[1]
        if self.fl is None:
            loss = _mean_over_queries(SCORE_ENTROPY, pred_scores, label, score, LossConfig(self.nc))
        else:
            with_scores = self.vfl if num_gts > 0 else None
            mean = with_scores(pred_scores, score, label) if with_scores else self.fl(pred_scores, label)
            loss = mean * (queries / max(num_gts, 1))
        return {f"loss_class{postfix}": loss * self.loss_gain["class"]}

    def _get_loss_bbox(
        self,
        pred_bboxes: Float[np.ndarray, "pairs 4"],
        gt_bboxes: Float[np.ndarray, "pairs 4"],
        postfix: str = "",
    ) -> Losses:
        """The two box losses of one layer over its matched pairs; both 0 without a pair.

            loss_bbox = gain_bbox sum |b - b'| / N,    loss_giou = gain_giou sum (1 - GIoU(b, b')) / N

        Args:
            pred_bboxes: matched predictions, one for each pair.
            gt_bboxes: their targets.
            postfix: goes last in the keys.

        Returns:
            `loss_bbox` and `loss_giou` with their gradients with respect to `pred_bboxes`.
        """
        tally, wanted = Tally((len(gt_bboxes),), (), 0, self.nc), track(gt_bboxes, self.arithmetic)
        config = LossConfig(self.nc, dict(self.loss_gain))

        def formula(leaves: Leaves) -> dict[str, Any]:
            [boxes] = leaves["pred_bboxes"]
            return box_losses_of(ULTRALYTICS, config, boxes, wanted, tally)

        losses = losses_of(formula, {"pred_bboxes": pred_bboxes[None]}, self.arithmetic)
        return {f"loss_{term}{postfix}": loss.map_gradients(_of_only_layer) for term, loss in losses.items()}

    def _get_loss_mask(self, masks: Float[np.ndarray, "pairs height width"], gt_mask: Map, postfix: str = "") -> Losses:
        """The two losses of masks of one layer over its matched pairs; both 0 without a pair.

            loss_mask = gain_mask sum focal(x, t) / N,    loss_dice = gain_dice sum dice(x, t) / N

        with x the predicted mask in the size of its target t; see `masks.mask_loss` and `masks.dice_loss`.

        Args:
            masks: logits of matched predictions, one mask for each pair.
            gt_mask: the masks of their targets.
            postfix: goes last in the keys.

        Returns:
            `loss_mask` and `loss_dice` with their gradients with respect to `masks`.
        """
        pairs, wanted = max(len(masks), 1), gt_mask.astype(np.float64)

        def formula(leaves: Leaves) -> dict[str, Any]:
            with np.errstate(all="ignore"):
                x = resized(leaves["masks"][0], *wanted.shape[1:])
                terms = {"mask": mask_loss(x, wanted), "dice": dice_loss(x, wanted)}
                return {term: np.sum(each) / pairs * self.loss_gain[term] for term, each in terms.items()}

        losses = losses_of(formula, {"masks": masks[None]}, self.arithmetic)
        return {f"loss_{term}{postfix}": loss.map_gradients(_of_only_layer) for term, loss in losses.items()}

    def _get_loss_aux(
        self,
        pred_bboxes: Float[np.ndarray, "auxiliary images queries 4"],
        pred_scores: Float[np.ndarray, "auxiliary images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        match_indices: Sequence[Matching] | None = None,
        postfix: str = "",
        masks: Float[np.ndarray, "auxiliary images queries height width"] | None = None,
        gt_mask: Map | None = None,
    ) -> Losses:
        """The losses summed over the auxiliary layers, all zero where there is none.

        Each layer is matched on its own, unless a matching is given or `use_uni_match` lets all of them share that
        of layer `uni_match_ind`. Arguments as in `forward`, without the main layer.
        """
        self._check_masks(masks, gt_mask, pred_scores.shape[:3], "layers images queries", len(gt_cls))
        of_layers, targets = [None] * len(pred_bboxes) if masks is None else masks, (gt_bboxes, gt_cls, gt_groups)
        shared = match_indices
        if shared is None and self.use_uni_match and len(pred_bboxes):
            chosen = self.uni_match_ind
            check_shared_layer(chosen, len(pred_bboxes))
            shared = self._matched(pred_bboxes[chosen], pred_scores[chosen], *targets, of_layers[chosen], gt_mask)
        layers = [
            self._get_loss(boxes, logits, *targets, own, gt_mask, match_indices=shared)
            for boxes, logits, own in zip(pred_bboxes, pred_scores, of_layers, strict=True)
        ]
        keys = MAIN_KEYS if masks is None else MAIN_KEYS + MASK_KEYS
        sums = {key: sum_over_layers([each[key] for each in layers], self.arithmetic) for key in keys}
        return {f"{key}_aux{postfix}": loss for key, loss in sums.items()}

    @staticmethod
    def _get_index(
        match_indices: Sequence[Matching],
    ) -> tuple[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]], Int64[np.ndarray, " pairs"]]:
        """All pairs of a batch as flat indices: ((image, query), target)."""
        return flat(match_indices)

    @staticmethod
    def _get_assigned_bboxes(
        pred_bboxes: Float[np.ndarray, "images queries 4"],
        gt_bboxes: Sequence[Float[np.ndarray, "_ 4"]],
        match_indices: Sequence[Matching],
    ) -> tuple[Float[np.ndarray, "pairs 4"], Float[np.ndarray, "pairs 4"]]:
        """Matched predictions and their targets, row by row; here target indices count within each image."""
        pairs = list(enumerate(match_indices))
        assigned = [pred_bboxes[image][queries] for image, (queries, _) in pairs]
        wanted = [gt_bboxes[image][targets] for image, (_, targets) in pairs]
        return np.concatenate(assigned).reshape(-1, 4), np.concatenate(wanted).reshape(-1, 4)
