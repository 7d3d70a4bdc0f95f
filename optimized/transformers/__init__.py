"""Losses for models of the `transformers` package: `model.loss_function = rt_detr_loss`, or `d_fine_loss`."""

from detr_conformance.optimized.transformers.d_fine import d_fine_loss
from detr_conformance.optimized.transformers.rt_detr import (
    RTDetrHungarianMatcher,
    get_contrastive_denoising_training_group,
    rt_detr_loss,
)

__all__ = ["RTDetrHungarianMatcher", "d_fine_loss", "get_contrastive_denoising_training_group", "rt_detr_loss"]
