"""The DETR loss: match, then classify every query and regress the matched boxes, in every decoder layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Int64, Integer

from detr_conformance.reference.boxes import IOU_EPS, bbox_iou, giou_gradient, l1_distance, l1_gradient
from detr_conformance.reference.classification import (
    FocalLoss,
    VarifocalLoss,
    binary_cross_entropy,
    cross_entropy_slope,
    mean_over_queries,
)
from detr_conformance.reference.loss_value import Losses, loss_of, zero_loss
from detr_conformance.reference.matcher import HungarianMatcher, Matching
from detr_conformance.reference.rounding import FLOAT32, Arithmetic, Tracked, track
from detr_conformance.reference.validation import (
    check_gains,
    check_matching,
    check_predictions,
    check_targets,
    entry,
)

DEFAULT_LOSS_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0, "no_object": 0.1, "mask": 1.0, "dice": 1.0}
MATCHER_COST_GAIN = {"class": 2.0, "bbox": 5.0, "giou": 2.0}


class DETRLoss:
    """Classification, L1 and GIoU loss of all decoder layers.

    In each layer, with N the number of matched pairs and m(b) the target of query b:

        loss_class = gain_class sum_{images, queries, classes} term(x) / max(N, 1)    see `_get_loss_class`
        loss_bbox  = gain_bbox sum_{matched} |b - m(b)| / N                           0 where N is 0
        loss_giou  = gain_giou sum_{matched} (1 - GIoU(b, m(b))) / N                  0 where N is 0

    N counts pairs, not targets (quirk): with fewer queries than targets it is the smaller number, with denoising
    it is the denoised targets times the number of groups.

    Args:
        nc: number of classes; background is none of them.
        loss_gain: weights, by default class 1, bbox 5, giou 2. quirk: no_object is never read.
        aux_loss: also compute the layers before the last.
        use_fl: focal or varifocal classification; otherwise cross-entropy against the IoU.
        use_vfl: varifocal instead of focal. quirk: ignored without `use_fl`.
        use_uni_match: all auxiliary layers share one of their matchings.
        uni_match_ind: the auxiliary layer whose matching they share.
        gamma: exponent of the focal or varifocal loss, >= 0.
        alpha: balance of the focal or varifocal loss. quirk: neither it nor gamma nor use_fl reaches the matcher.

    Reference: Carion et al., DETR, arXiv 2005.12872, equation 2 and section 3.1; auxiliary losses: its section
    3.2; IoU-aware classification: Zhao et al., RT-DETR, arXiv 2304.08069, section 4.3.
    """

    arithmetic: Arithmetic = FLOAT32
    iou_eps: float = IOU_EPS

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
        self.use_fl = use_fl
        self.use_vfl = use_vfl
        self.use_uni_match = use_uni_match
        self.uni_match_ind = uni_match_ind
        self.matcher = HungarianMatcher(cost_gain=MATCHER_COST_GAIN)
        self.focal = FocalLoss(gamma, alpha)
        self.varifocal = VarifocalLoss(gamma, alpha)

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
    ) -> Losses:
        """The three losses of the last layer, and their sums over the auxiliary layers.

        Args:
            pred_bboxes: predicted boxes in centre form, the main layer last.
            pred_scores: logits.
            batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, the number of targets of
                each image.
            postfix: goes last in every key.
            match_indices: one matching to use in every layer, instead of matching each. A query has one target.

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou`, and with `aux_loss` each of them with `_aux`; gradients by
            `pred_bboxes` and `pred_scores`.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        check_predictions(pred_bboxes, pred_scores, "layers images queries", self.nc)
        targets = self._targets(batch, images=pred_bboxes.shape[1])
        main = self._get_loss(pred_bboxes[-1], pred_scores[-1], *targets, postfix=postfix, match_indices=match_indices)
        layers = len(pred_bboxes)
        in_last = partial(_in_layers, where=layers - 1, layers=layers)
        losses = {key: loss.map_gradients(in_last) for key, loss in main.items()}
        if self.aux_loss:
            auxiliary = self._get_loss_aux(
                pred_bboxes[:-1], pred_scores[:-1], *targets, match_indices=match_indices, postfix=postfix
            )
            in_others = partial(_in_layers, where=slice(layers - 1), layers=layers)
            losses |= {key: loss.map_gradients(in_others) for key, loss in auxiliary.items()}
        return losses

    def _targets(
        self, batch: Mapping[str, Any], images: int
    ) -> tuple[Float[np.ndarray, "targets 4"], Int64[np.ndarray, " targets"], Sequence[int]]:
        """Boxes, classes and counts out of the batch, all checked."""
        gt_bboxes, gt_cls, gt_groups = (entry(batch, "batch", key) for key in ("bboxes", "cls", "gt_groups"))
        check_targets(gt_bboxes, gt_cls, gt_groups, images, self.nc)
        return gt_bboxes, gt_cls.astype(np.int64), gt_groups

    def _get_loss(
        self,
        pred_bboxes: Float[np.ndarray, "images queries 4"],
        pred_scores: Float[np.ndarray, "images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        masks: object = None,
        gt_mask: object = None,
        postfix: str = "",
        match_indices: Sequence[Matching] | None = None,
    ) -> Losses:
        """The three losses of one layer; arguments as in `forward`, without the axis of layers.

        `masks` and `gt_mask` are accepted and not read.
        """
        matching = self._match(pred_bboxes, pred_scores, gt_bboxes, gt_cls, gt_groups, match_indices)
        (images, queries), targets = self._get_index(matching)
        matched_bboxes, matched_targets = pred_bboxes[images, queries], gt_bboxes[targets]

        classes = np.full(pred_scores.shape[:2], self.nc)
        classes[images, queries] = gt_cls[targets]
        scores = track(np.zeros(classes.shape), self.arithmetic)
        scores[images, queries] = self._target_scores(matched_bboxes, matched_targets)

        losses = self._get_loss_class(pred_scores, classes, scores, len(targets), postfix)
        in_queries = partial(_in_queries, images=images, queries=queries, shape=pred_bboxes.shape)
        for key, loss in self._get_loss_bbox(matched_bboxes, matched_targets, postfix).items():
            losses[key] = loss.map_gradients(in_queries)
        return losses

    def _match(
        self,
        pred_bboxes: Float[np.ndarray, "images queries 4"],
        pred_scores: Float[np.ndarray, "images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        match_indices: Sequence[Matching] | None,
    ) -> Sequence[Matching]:
        """The given matching, checked, or that of the matcher."""
        if match_indices is None:
            return self.matcher(pred_bboxes, pred_scores, gt_bboxes, gt_cls, gt_groups)
        images, queries, _ = pred_bboxes.shape
        check_matching(match_indices, images, queries, len(gt_cls))
        return match_indices

    def _target_scores(
        self, pred_bboxes: Float[np.ndarray, "pairs 4"], gt_bboxes: Float[np.ndarray, "pairs 4"]
    ) -> Float[np.ndarray, " pairs"]:
        """IoU of each matched prediction with its target. A constant: no gradient flows into the box."""
        pred_bboxes, gt_bboxes = track(pred_bboxes, self.arithmetic), track(gt_bboxes, self.arithmetic)
        return bbox_iou(pred_bboxes, gt_bboxes, xywh=True, eps=self.iou_eps)[..., 0]

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
            `loss_class` with its gradient by `pred_scores`.
        """
        logits = track(pred_scores, self.arithmetic)
        label = (targets[..., None] == np.arange(self.nc)).astype(np.float64)
        score = gt_scores[..., None] * label
        per_pair = pred_scores.shape[1] / max(num_gts, 1)
        if not self.use_fl:
            loss = mean_over_queries(binary_cross_entropy(logits, score), cross_entropy_slope(logits, score))
        elif self._uses_varifocal(num_gts):
            loss = self.varifocal(logits, score, label) * per_pair
        else:
            loss = self.focal(logits, label) * per_pair
        return {f"loss_class{postfix}": loss * self.loss_gain["class"]}

    def _uses_varifocal(self, num_gts: int) -> bool:
        """quirk: without a single pair the varifocal loss gives way to the focal one."""
        return self.use_vfl and num_gts > 0

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
            `loss_bbox` and `loss_giou` with their gradients by `pred_bboxes`.
        """
        pred, target = track(pred_bboxes, self.arithmetic), track(gt_bboxes, self.arithmetic)
        giou = bbox_iou(pred, target, xywh=True, GIoU=True, eps=self.iou_eps)
        distance = loss_of(np.sum(l1_distance(pred, target)), {"pred_bboxes": l1_gradient(pred, target)})
        apart = loss_of(np.sum(1.0 - giou), {"pred_bboxes": -giou_gradient(pred, target, self.iou_eps)})
        pairs = max(len(gt_bboxes), 1)
        return {
            f"loss_bbox{postfix}": distance * self.loss_gain["bbox"] / pairs,
            f"loss_giou{postfix}": apart * self.loss_gain["giou"] / pairs,
        }

    def _get_loss_aux(
        self,
        pred_bboxes: Float[np.ndarray, "auxiliary images queries 4"],
        pred_scores: Float[np.ndarray, "auxiliary images queries classes"],
        gt_bboxes: Float[np.ndarray, "targets 4"],
        gt_cls: Integer[np.ndarray, " targets"],
        gt_groups: Sequence[int],
        match_indices: Sequence[Matching] | None = None,
        postfix: str = "",
        masks: object = None,
        gt_mask: object = None,
    ) -> Losses:
        """The three losses summed over the auxiliary layers, all zero where there is none.

        Each layer is matched on its own, unless a matching is given or `use_uni_match` lets all of them share that
        of layer `uni_match_ind`. Arguments as in `forward`, without the main layer.
        """
        targets = (gt_bboxes, gt_cls, gt_groups)
        layers = len(pred_bboxes)
        if match_indices is None and self.use_uni_match and layers:
            shared = self._shared_layer(layers)
            match_indices = self.matcher(pred_bboxes[shared], pred_scores[shared], *targets)
        totals = {f"loss_{term}_aux{postfix}": zero_loss() for term in ("class", "bbox", "giou")}
        for layer in range(layers):
            one = self._get_loss(pred_bboxes[layer], pred_scores[layer], *targets, match_indices=match_indices)
            for total, loss in zip(list(totals), one.values(), strict=True):
                totals[total] += loss.map_gradients(partial(_in_layers, where=layer, layers=layers))
        return totals

    def _shared_layer(self, layers: int) -> int:
        """The auxiliary layer whose matching all of them use."""
        if not 0 <= self.uni_match_ind < layers:
            raise ValueError(f"uni_match_ind is {self.uni_match_ind}, expected a layer from 0 to {layers - 1}")
        return self.uni_match_ind

    @staticmethod
    def _get_index(
        match_indices: Sequence[Matching],
    ) -> tuple[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]], Int64[np.ndarray, " pairs"]]:
        """All pairs of a batch as flat indices: ((image, query), target)."""
        images = [np.full(len(queries), image) for image, (queries, _) in enumerate(match_indices)]
        queries, targets = ([pair[side] for pair in match_indices] for side in (0, 1))
        return (_flat(images), _flat(queries)), _flat(targets)

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


def _flat(parts: Sequence[np.ndarray]) -> Int64[np.ndarray, " pairs"]:
    """Indices of all images in one array, also where there is none."""
    return np.concatenate([np.zeros(0), *parts]).astype(np.int64)


def _in_layers(gradient: Tracked, where: int | slice, layers: int) -> Tracked:
    """The gradient by all layers, of which `gradient` is that by one or by a run of them."""
    whole = track(np.zeros((layers, *gradient.shape[-3:])), gradient.arithmetic)
    whole[where] = gradient
    return whole


def _in_queries(gradient: Tracked, images: np.ndarray, queries: np.ndarray, shape: tuple[int, ...]) -> Tracked:
    """The gradient by all predictions of a layer, of which `gradient` is that by the matched ones."""
    whole = track(np.zeros(shape), gradient.arithmetic)
    whole[images, queries] = gradient
    return whole
