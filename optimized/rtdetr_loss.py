"""The RT-DETR loss: the DETR loss, and the same once more for the denoising queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from detr_conformance.optimized.detr_loss import LAYER_AXES, DETRLoss, Losses
from detr_conformance.optimized.layer_losses import LayerInputs
from detr_conformance.optimized.normaliser import normalisers
from detr_conformance.optimized.pairing import Matching, denoising_matching
from detr_conformance.optimized.targets import Pairs, Targets
from detr_conformance.optimized.validation import check_counts, check_device, check_predictions, entry


class RTDETRDetectionLoss(DETRLoss):
    """`DETRLoss` of the ordinary queries, plus `DETRLoss` of the denoising queries under keys that end in `_dn`.

    A denoising query is not matched: it was made from a target, and answers for that one in every layer.

    Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4; denoising: Zhang et al., DINO, arXiv 2203.03605,
    section 3.3.
    """

    def forward(  # type: ignore[override]  # the signature is that of Ultralytics' class
        self,
        preds: tuple[Float[Tensor, "layers images queries 4"], Float[Tensor, "layers images queries classes"]],
        batch: Mapping[str, Any],
        dn_bboxes: Float[Tensor, "dn_layers images denoising 4"] | None = None,
        dn_scores: Float[Tensor, "dn_layers images denoising classes"] | None = None,
        dn_meta: Mapping[str, Any] | None = None,
    ) -> Losses:
        """All losses of a training step.

        Args:
            preds: predicted boxes in centre form and logits, the main layer last.
            batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, a list with the number of
                targets of each image.
            dn_bboxes: boxes predicted by the denoising queries, in any number of layers; with `dn_meta` only.
            dn_scores: their logits; with `dn_meta` only.
            dn_meta: `dn_pos_idx` and `dn_num_group`, and where the generator gives it `dn_gt_idx`; see
                `get_dn_match_indices`. None: there are no denoising queries.

        Returns:
            The losses of `DETRLoss`, and each key once more with `_dn` at its end, all of those 0 without `dn_meta`.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
            RuntimeError: the backend cannot run here.
        """
        try:
            pred_bboxes, pred_scores = preds
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"preds is a {type(preds).__name__}, expected the pair (pred_bboxes, pred_scores)"
            ) from error
        check_predictions(pred_bboxes, pred_scores, LAYER_AXES, self.nc)
        targets = self._targets(pred_bboxes, pred_scores, batch)
        denoising = None if dn_meta is None else self._denoising(dn_bboxes, dn_scores, targets, dn_meta)
        ordinary = self._paired(pred_bboxes, pred_scores, targets)
        counts = [ordinary.pairs.count, 0 if denoising is None else denoising.pairs.count]
        of_ordinary, of_denoising = normalisers(counts, pred_scores.device, self.process_group)
        losses = self._losses(ordinary, of_ordinary)
        if denoising is not None:
            return losses | self._losses(denoising, of_denoising, "_dn")
        nothing = pred_bboxes[..., :0].sum(dtype=losses["loss_bbox"].dtype)
        return losses | {f"{key}_dn": nothing.clone() for key in losses}

    def _denoising(
        self,
        dn_bboxes: Tensor | None,
        dn_scores: Tensor | None,
        targets: Targets,
        dn_meta: Mapping[str, Any],
    ) -> LayerInputs:
        """The denoising queries, each paired with the target that it was made from."""
        if dn_bboxes is None or dn_scores is None:
            absent = "dn_bboxes" if dn_bboxes is None else "dn_scores"
            raise ValueError(f"{absent} is None, expected the denoising queries' predictions beside dn_meta")
        axes = ("layers", "images", "denoising")
        check_predictions(dn_bboxes, dn_scores, axes, self.nc, ("dn_bboxes", "dn_scores"))
        check_device("dn_scores", dn_scores, "pred_bboxes", targets.boxes.device)
        if dn_scores.shape[1] != len(targets.counts):
            raise ValueError(f"dn_scores has shape {tuple(dn_scores.shape)}, expected {len(targets.counts)} images")
        images, slots = dn_scores.shape[1:3]
        positions, groups = (entry(dn_meta, "dn_meta", key) for key in ("dn_pos_idx", "dn_num_group"))
        positive, chosen = denoising_matching(
            positions, groups, targets.counts, dn_meta.get("dn_gt_idx"), dn_scores.device
        )
        rows = positive.images * slots + positive.within([0] * images, [slots] * images)
        return self._used_layers(dn_bboxes, dn_scores, targets, Pairs(rows[None], chosen[None]))

    @staticmethod
    def get_dn_match_indices(
        dn_pos_idx: Sequence[Integer[Tensor, " _slots"]],
        dn_num_group: int,
        gt_groups: Sequence[int] | Sequence[Integer[Tensor, " _targets"]],
        dn_gt_idx: Sequence[Integer[Tensor, " _targets"]] | None = None,
    ) -> list[Matching]:
        """Pair every positive denoising query with the target that it was made from.

        Args:
            dn_pos_idx: for each image its positive slots, group after group.
            dn_num_group: number of groups, at least 1.
            gt_groups: number of targets of each image; or, as newer releases of Ultralytics have it in this place, what
                `dn_gt_idx` means.
            dn_gt_idx: for each image the targets, counted through the whole batch, that one group reconstructs; by
                default all of them in order.

        Returns:
            For each image its slots, and the target of each, counted through the whole batch.

        Raises:
            ValueError: an image has not as many slots as targets times groups, and both numbers are named; or an index is
                out of range.
            TypeError: an index or a number is no integer.

        Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (contrastive denoising groups).
        """
        by_image = bool(gt_groups) and not isinstance(gt_groups[0], Integral)
        if by_image:
            counts, dn_gt_idx = None, gt_groups
        else:
            counts = check_counts(gt_groups, len(dn_pos_idx))
        device = torch.as_tensor(dn_pos_idx[0]).device if len(dn_pos_idx) else torch.device("cpu")
        positive, chosen = denoising_matching(dn_pos_idx, dn_num_group, counts, dn_gt_idx, device)
        return list(zip(positive.values.split(positive.sizes), chosen.split(positive.sizes), strict=True))
