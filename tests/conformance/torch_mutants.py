"""Wrong ports in float32 torch: each makes the mistake of one mutant of the museum, as a porter would write it."""

from __future__ import annotations

from detr_conformance.ports.ultralytics import UltralyticsPort

from ..correct.adapter import CorrectPort
from ..correct.plain_loss import PlainLoss
from .wrong_boxes import WRONG_BOXES
from .wrong_classes import WRONG_CLASSES
from .wrong_generators import WRONG_GENERATORS
from .wrong_gradients import WRONG_GRADIENTS
from .wrong_layers import WRONG_LAYERS
from .wrong_matchers import WRONG_MATCHERS

IN_DOUBLE = ("plausible-sums-in-float32", "plausible-losses-in-single")
"""Mistakes that show with float64 predictions, which Ultralytics' class does not take."""
WRONG_LOSSES = WRONG_BOXES | WRONG_CLASSES | WRONG_GRADIENTS | WRONG_LAYERS | WRONG_MATCHERS


def wrong_loss(name):
    """A port of a wrong loss, without a generator."""
    if name in IN_DOUBLE:
        return CorrectPort(name, WRONG_LOSSES[name], denoising=None)
    return UltralyticsPort(WRONG_LOSSES[name], name=name)


TORCH_MUTANTS = {name: wrong_loss(name) for name in WRONG_LOSSES} | {
    name: UltralyticsPort(PlainLoss, generator, name=name) for name, generator in WRONG_GENERATORS.items()
}
"""Wrong ports by the id of the mutant whose mistake they make."""

NOT_NAMED = {
    **dict.fromkeys(
        ("plausible-probability-clamped", "plausible-sums-in-float32", "plausible-losses-in-single"),
        "the mistake is one of rounding, and the mutant rounds elsewhere",
    ),
    **dict.fromkeys(
        ("plausible-label-noise-missing", "plausible-noise-scale-ignored"),
        "torch draws otherwise than NumPy, so what is drawn is not compared",
    ),
}
"""Why some are not named."""
