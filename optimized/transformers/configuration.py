"""What a model's configuration asks for. It is read and never imported."""

from __future__ import annotations

import math
from typing import Any

from detr_conformance.optimized.by_layer import Recipe, cost_options
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.validation import GAINS, check_number

KEYS = ("loss_vfl", "loss_bbox", "loss_giou")


def recipe_of(config: Any) -> Recipe:
    """The losses that every layer has."""
    gains = {term: number(config, f"weight_{key}") for term, key in zip(GAINS, KEYS, strict=True)}
    alpha, gamma = number(config, "focal_loss_alpha"), number(config, "focal_loss_gamma", least=0.0)
    return Recipe("varifocal", alpha, gamma, gains)


def costs_of(config: Any) -> CostOptions:
    """The matching cost."""
    gains = {term: number(config, f"matcher_{term}_cost") for term in GAINS}
    alpha, gamma = number(config, "matcher_alpha"), number(config, "matcher_gamma", least=0.0)
    return cost_options(gains, bool(config.use_focal_loss), alpha, gamma)


def number(config: Any, name: str, least: float = -math.inf) -> float:
    """A number of the configuration."""
    return check_number(f"config.{name}", getattr(config, name), least)
