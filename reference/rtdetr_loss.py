"""The class API of Ultralytics' RT-DETR loss: the DETR loss, and the same once more for the denoising queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from detr_conformance.reference.denoising import denoising_pairs
from detr_conformance.reference.detr_loss import MASK_KEYS, DETRLoss, Map
from detr_conformance.reference.loss_value import Loss, Losses
from detr_conformance.reference.matcher import Matching
from detr_conformance.reference.rounding import track
from detr_conformance.reference.validation import check_dn_indices, check_predictions, entry

DENOISING_NAMES = {"pred_bboxes": "dn_bboxes", "pred_scores": "dn_scores"}


class RTDETRDetectionLoss(DETRLoss):
    """`DETRLoss` of the ordinary queries, plus `DETRLoss` of the denoising queries under keys that end in `_dn`.

    A denoising query is not matched: it was made from a target, and answers for that one in every layer.

    Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4; denoising: Zhang et al., DINO, arXiv
    2203.03605, section 3.3.
    """

    def forward(  # type: ignore[override]  # the signature is that of Ultralytics' class
        self,
        preds: tuple[Float[np.ndarray, "layers images queries 4"], Float[np.ndarray, "layers images queries classes"]],
        batch: Mapping[str, Any],
        dn_bboxes: Float[np.ndarray, "dn_layers images denoising 4"] | None = None,
        dn_scores: Float[np.ndarray, "dn_layers images denoising classes"] | None = None,
        dn_meta: Mapping[str, Any] | None = None,
        *,
        masks: Float[np.ndarray, "layers images queries height width"] | None = None,
        gt_mask: Map | None = None,
    ) -> Losses:
        """All losses of a training step.

        Args:
            preds: predicted boxes in centre form and logits, the main layer last.
            batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, the number of targets of
                each image.
            dn_bboxes: boxes predicted by the denoising queries, in any number of layers; with `dn_meta` only.
            dn_scores: their logits; with `dn_meta` only.
            dn_meta: `dn_pos_idx` and `dn_num_group`, and where the generator gives it `dn_gt_idx`; see
                `get_dn_match_indices`. None: there are no denoising queries.
            masks: see `DETRLoss.forward`; denoising queries have none.
            gt_mask: likewise.

        Returns:
            The losses of `DETRLoss`, and those of classes and boxes once more with `_dn` at the end, all of those 0
            without `dn_meta`. Gradients with respect to `pred_bboxes`, `pred_scores`, `masks`, `dn_bboxes` and
            `dn_scores`.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
        """
        try:
            pred_bboxes, pred_scores = preds
        except (TypeError, ValueError) as error:
            raise TypeError(f"preds is {preds!r}, expected the pair (pred_bboxes, pred_scores)") from error
        check_predictions(pred_bboxes, pred_scores, "layers images queries", self.nc)
        losses = super().forward(pred_bboxes, pred_scores, batch, masks=masks, gt_mask=gt_mask)
        if dn_meta is None:
            denoised = [f"{key}_dn" for key in losses if not key.startswith(MASK_KEYS)]
            return losses | {key: Loss(track(np.zeros(()), self.arithmetic)) for key in denoised}
        if dn_bboxes is None or dn_scores is None:
            absent = "dn_bboxes" if dn_bboxes is None else "dn_scores"
            raise ValueError(f"{absent} is None, expected the denoising queries' predictions beside dn_meta")
        names = ("dn_bboxes", "dn_scores")
        check_predictions(dn_bboxes, dn_scores, "layers images denoising", self.nc, names)
        pos_idx, groups = (entry(dn_meta, "dn_meta", key) for key in ("dn_pos_idx", "dn_num_group"))
        matching = self.get_dn_match_indices(pos_idx, groups, batch["gt_groups"], dn_meta.get("dn_gt_idx"))
        of_denoising = super().forward(dn_bboxes, dn_scores, batch, postfix="_dn", match_indices=matching)
        return losses | {key: loss.renamed(DENOISING_NAMES) for key, loss in of_denoising.items()}

    @staticmethod
    def get_dn_match_indices(
        dn_pos_idx: Sequence[Int[np.ndarray, " _slots"]],
        dn_num_group: int,
        gt_groups: Sequence[int],
        dn_gt_idx: Sequence[Int[np.ndarray, " _targets"]] | None = None,
    ) -> list[Matching]:
        """Pair every positive denoising query with the target that it was made from.

        Args:
            dn_pos_idx: for each image its positive slots, group after group.
            dn_num_group: number of groups, at least 1.
            gt_groups: number of targets of each image.
            dn_gt_idx: for each image the targets, counted through the whole batch, that one group reconstructs;
                by default all of them in order.

        Returns:
            For each image its slots, and the target of each, counted through the whole batch.

        Raises:
            ValueError: an image has not as many slots as targets times groups, and both numbers are named; or an
                index is out of range.
            TypeError: an index or a number is no integer.

        Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (contrastive denoising groups).
        """
        check_dn_indices(dn_pos_idx, dn_num_group, gt_groups, dn_gt_idx)
        return denoising_pairs(dn_pos_idx, dn_num_group, gt_groups, dn_gt_idx)
