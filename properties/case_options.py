"""The options of a case: how loss, matcher and denoising generator are built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detr_conformance.reference.options import (
    FURTHER_CLASS_LOSSES,
    LOSS_GAIN,
    GeneratorConfig,
    LossConfig,
    MatcherConfig,
)
from detr_conformance.reference.validation import check_count, check_gains, check_number

__all__ = [
    "CLASSIFICATION",
    "LOSS_GAIN",
    "GeneratorConfig",
    "LossConfig",
    "MatcherConfig",
    "check_options",
]

CLASSIFICATION: dict[str, dict[str, Any]] = {
    "varifocal": {"use_fl": True, "use_vfl": True, "class_loss": ""},
    "focal": {"use_fl": True, "use_vfl": False, "class_loss": ""},
    "bce": {"use_fl": False, "use_vfl": False, "class_loss": ""},
    **{name: {"use_fl": True, "use_vfl": False, "class_loss": name} for name in FURTHER_CLASS_LOSSES},
}
"""The arguments that select each classification loss."""

GAINS = frozenset({"class", "bbox", "giou", "no_object", "mask", "dice", "fgl", "ddf"})
"""Every gain that a loss or matcher may know; the last five are optional, and nothing here reads `no_object`."""


def check_options(loss: LossConfig, matcher: MatcherConfig, generator: GeneratorConfig) -> None:
    """Options that define one loss, one matcher and one generator.

    Raises:
        KeyError, TypeError, ValueError: one of them does not; it is named with its value.
    """
    check_count("config.nc", loss.nc, least=1)
    check_count("config.uni_match_ind", loss.uni_match_ind)
    check_count("config.query_groups", loss.query_groups, least=1)
    if loss.class_loss not in ("", *FURTHER_CLASS_LOSSES):
        known = ", ".join(map(repr, FURTHER_CLASS_LOSSES))
        raise ValueError(f"config.class_loss is {loss.class_loss!r}, expected '' or one of {known}")
    check_count("generator.num_dn", generator.num_dn)
    check_count("generator.seed", generator.seed)
    _check_gains("config.loss_gain", loss.loss_gain)
    _check_gains("matcher.cost_gain", matcher.cost_gain)
    check_number("config.alpha", loss.alpha)
    check_number("matcher.alpha", matcher.alpha)
    _check_range("config.gamma", loss.gamma)
    _check_range("matcher.gamma", matcher.gamma)
    _check_range("generator.cls_noise_ratio", generator.cls_noise_ratio, most=2.0)
    _check_range("generator.box_noise_scale", generator.box_noise_scale)


def _check_gains(name: str, gains: Mapping[str, float]) -> None:
    """The gains that must be there, and no others than those that may be."""
    check_gains(name, gains)
    for term in sorted(set(gains) - GAINS):
        raise ValueError(f"{name} has the unknown gain {term!r}, expected only {', '.join(sorted(GAINS))}")
    for term, gain in gains.items():
        check_number(f"{name}[{term!r}]", gain)


def _check_range(name: str, number: float, most: float | None = None) -> None:
    """A finite number from 0 to `most`."""
    check_number(name, number)
    if number < 0 or (most is not None and number > most):
        limit = "at least 0" if most is None else f"0 to {most:g}"
        raise ValueError(f"{name} is {number}, expected {limit}")
