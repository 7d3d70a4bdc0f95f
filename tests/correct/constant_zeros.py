"""The plain loss with constants, connected to no prediction, where there is nothing to compute."""

from __future__ import annotations

import torch

from .plain_loss import PlainLoss


class ConstantZeros(PlainLoss):
    """As older releases of Ultralytics: fresh zeros for box losses without a pair, for missing layers and denoising."""

    def nothing(self, boxes):
        return torch.tensor(0.0, dtype=torch.promote_types(boxes.dtype, torch.float32))

    def box_losses(self, matched, wanted):
        if len(matched):
            return super().box_losses(matched, wanted)
        return {"bbox": self.nothing(matched), "giou": self.nothing(matched)}

    def __call__(self, preds, batch, dn_bboxes=None, dn_scores=None, dn_meta=None):
        if dn_meta is not None:
            dn_meta = dn_meta | {"dn_gt_idx": batch["gt_groups"]}
        return super().__call__(preds, batch, dn_bboxes, dn_scores, dn_meta)

    @staticmethod
    def get_dn_match_indices(dn_pos_idx, dn_num_group, gt_groups):
        """Every group reconstructs all targets of an image, so their numbers say which."""
        firsts = [sum(gt_groups[:image]) for image in range(len(gt_groups))]
        own = [torch.arange(first, first + count) for first, count in zip(firsts, gt_groups, strict=True)]
        return PlainLoss.get_dn_match_indices(dn_pos_idx, dn_num_group, own)
