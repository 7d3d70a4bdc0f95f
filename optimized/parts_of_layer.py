"""The losses of one layer of which the pairs are known: what users of Ultralytics' loss call and override."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor, nn

from detr_conformance.optimized.backends.choice import backend_for
from detr_conformance.optimized.backends.torch.pairs import pair_terms
from detr_conformance.optimized.by_parts import Losses, class_loss_by_modules, replaced_class_losses
from detr_conformance.optimized.known_gradient import known_gradient
from detr_conformance.optimized.loss_weights import box_weights, class_options, gained
from detr_conformance.optimized.normaliser import Normaliser
from detr_conformance.optimized.options import UNSCALED
from detr_conformance.optimized.pairing import Matching, rows_of_matching
from detr_conformance.optimized.part_checks import check_boxes_of_images, check_class_arguments, check_pairs
from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.validation import check_number, check_rows


class PartsOfLayer(nn.Module):
    """The parts of `DETRLoss` that compute one layer, given who answers for which target.

    Attributes:
        nc: number of classes.
        loss_gain: weights of the terms.
        fl: the focal loss, None where it is off.
        vfl: the varifocal loss, None where it is off.
        backend: see `DETRLoss`.
    """

    nc: int
    loss_gain: dict[str, Any]
    fl: Any
    vfl: Any
    backend: str | None

    def _get_loss_class(
        self,
        pred_scores: Float[Tensor, "images queries classes"],
        targets: Integer[Tensor, "images queries"],
        gt_scores: Float[Tensor, "images queries"],
        num_gts: int,
        postfix: str = "",
    ) -> Losses:
        """The classification loss of one layer.

        With y one-hot over the classes (background all zero) and q = y score:

            use_fl, use_vfl and N > 0    sum of BCE(x, q) (alpha p^gamma (1 - y) + q) / max(N, 1)
            use_fl otherwise             sum of BCE(x, y) (1 - p_t)^gamma a_t / max(N, 1)
            not use_fl                   sum of BCE(x, q) / Q    (quirk: not by the number of pairs)

        Args:
            pred_scores: logits x.
            targets: class of each query's target, nc for background.
            gt_scores: IoU of each query with its target, 0 for background.
            num_gts: N.
            postfix: goes last in the key.
        """
        check_class_arguments(pred_scores, targets, gt_scores, self.nc)
        pairs = check_number("num_gts", num_gts, least=0.0)
        if self.fl is not None and replaced_class_losses(self):
            total = class_loss_by_modules(self, pred_scores, targets.long(), gt_scores, pairs)
            return {f"loss_class{postfix}": total * self.loss_gain["class"]}
        options = class_options(self.fl, self.vfl, self.loss_gain, Normaliser(pairs), pred_scores.shape[1])
        backend = backend_for(pred_scores.device, self.backend)
        x = pred_scores.to(arithmetic_dtype(pred_scores))  # or a derivative in float16 would be rounded before its use
        one_layer = (x.detach()[None], targets.long()[None], gt_scores[None])
        sums, grads = backend.class_terms(*one_layer, options, UNSCALED)
        assert grads is not None  # noqa: S101  # for the type checker: factors were given
        return {f"loss_class{postfix}": gained(self.loss_gain, "class", known_gradient(x, sums.sum(), grads[0]))}

    def _get_loss_bbox(
        self, pred_bboxes: Float[Tensor, "pairs 4"], gt_bboxes: Float[Tensor, "pairs 4"], postfix: str = ""
    ) -> Losses:
        """The two box losses of one layer over its matched pairs; both 0 without a pair.

            loss_bbox = gain_bbox sum |b - b'| / N,    loss_giou = gain_giou sum (1 - GIoU(b, b')) / N

        Args:
            pred_bboxes: matched predictions b, one for each pair.
            gt_bboxes: their targets b'.
            postfix: goes last in the keys.
        """
        check_pairs(pred_bboxes, gt_bboxes)
        dtype = arithmetic_dtype(pred_bboxes)
        terms = pair_terms(pred_bboxes.detach().to(dtype)[None], gt_bboxes.to(dtype)[None])
        bbox_weight, giou_weight = box_weights(self.loss_gain, Normaliser(float(len(pred_bboxes))))
        bbox = terms.distance.sum() * bbox_weight, terms.grad_distance[0] * bbox_weight
        giou = terms.apart.sum() * giou_weight, terms.grad_apart[0] * giou_weight
        return {
            f"loss_bbox{postfix}": gained(self.loss_gain, "bbox", known_gradient(pred_bboxes, *bbox)),
            f"loss_giou{postfix}": gained(self.loss_gain, "giou", known_gradient(pred_bboxes, *giou)),
        }

    @staticmethod
    def _get_index(
        match_indices: Sequence[Matching],
    ) -> tuple[tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]], Int64[Tensor, " pairs"]]:
        """All pairs of a batch as flat indices: ((image, query), target)."""
        rows = (row for pair in check_rows("match_indices", match_indices) for row in check_rows("match_indices", pair))
        device = next((row.device for row in rows if isinstance(row, Tensor)), torch.device("cpu"))
        queries, targets = rows_of_matching(match_indices, None, device)
        images = queries.images.clone()  # what is on the device is shared, and a caller may write into what it gets
        return (images, queries.not_negative()), targets.not_negative()

    @staticmethod
    def _get_assigned_bboxes(
        pred_bboxes: Float[Tensor, "images queries 4"],
        gt_bboxes: Sequence[Float[Tensor, "_ 4"]],
        match_indices: Sequence[Matching],
    ) -> tuple[Float[Tensor, "pairs 4"], Float[Tensor, "pairs 4"]]:
        """Matched predictions and their targets, row by row; here target indices count within each image."""
        boxes, of_images = check_boxes_of_images(pred_bboxes, gt_bboxes)
        queries, targets = rows_of_matching(match_indices, len(boxes), boxes.device)
        inside = queries.within([0] * len(boxes), [boxes.shape[1]] * len(boxes))
        counts = [len(own) for own in of_images]
        own = targets.within([0] * len(boxes), counts) + targets.spread([0, *accumulate(counts)][:-1])
        with torch.autocast(boxes.device.type, enabled=False):  # for one type of halves it does not join the other
            every = torch.cat(of_images)
        return boxes[queries.images, inside], every[own]
