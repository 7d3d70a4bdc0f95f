"""Why no rule fails these mutants, though they answer some probe otherwise than the original."""

from __future__ import annotations

REASONS: dict[str, tuple[str, ...]] = {
    "a loss that is exactly 0 may have any dtype": ("RTDETRDetectionLoss.losses_of_layers/dropped_keyword/1",),
    "boxes of denoising queries have the dtype of the targets, and no rule gives targets in half precision to a "
    "generator": ("get_cdn_group/dropped_call/19",),
    "noise of the same distribution is drawn otherwise, and no rule says how": (
        "chosen_targets/comparison/1",
        "noisy_boxes/arithmetic/7",
    ),
}
"""For each reason the mutants that it is about."""


def why(name: str) -> str:
    """The reason of a survivor; empty while nobody has looked at it."""
    return next((reason for reason, names in REASONS.items() if name in names), "")
