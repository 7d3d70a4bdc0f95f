"""Losses for models of the `transformers` package: `model.loss_function = rt_detr_loss`."""

from detr_conformance.optimized.transformers.rt_detr import (
    RTDetrHungarianMatcher,
    get_contrastive_denoising_training_group,
    rt_detr_loss,
)

__all__ = ["RTDetrHungarianMatcher", "get_contrastive_denoising_training_group", "rt_detr_loss"]
