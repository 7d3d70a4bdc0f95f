"""Mutants in the noise on the boxes of denoising queries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detr_conformance.mutants.generator import generating, repeated
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.denoising import centre_form

Draws = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]
"""How far coordinates move, in units of their own: of boxes, 0 for positives or 1 for negatives, and randomness."""


def shifts(boxes: np.ndarray, half: int, rng: np.random.Generator) -> np.ndarray:
    """How far the four edges move to the right or down, in half sizes, for scale 1: the right ones."""
    distance = rng.random(boxes.shape) + half
    return rng.choice([-1.0, 1.0], size=boxes.shape) * distance


def drawn(draws: Draws, lowest: float = 0.0, highest: float = 1.0) -> Change:
    """Edges that move by other shifts, or between other limits."""

    def moved(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
        steps = np.repeat([-1.0, 1.0], 2) + scale * draws(boxes, half, rng)
        edges = np.tile(boxes[:, :2], 2) + steps * np.tile(boxes[:, 2:] / 2, 2)
        return centre_form(np.clip(edges, lowest, highest))

    return lambda spec: replace_in(spec, "denoising.generator.moved", moved)


def together(boxes: np.ndarray, half: int, rng: np.random.Generator) -> np.ndarray:
    """Opposite edges by the same, so that no size changes."""
    return np.tile(shifts(boxes[:, :2], half, rng), 2)


def halfway(boxes: np.ndarray, half: int, rng: np.random.Generator) -> np.ndarray:
    """Opposite edges of a positive both by the mean of what each should move by; negatives as they should be."""
    each = shifts(boxes, half, rng)
    return each if half else (each + np.roll(each, 2, axis=1)) / 2


def in_centre_form(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Centres by up to half the size, sizes by up to the whole."""
    unit = np.concatenate([boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    return boxes + scale * unit * shifts(boxes, half, rng)


def eps_added_twice(boxes: np.ndarray, eps: float) -> np.ndarray:
    """log(p / (1 - p + eps) + eps)."""
    p = np.clip(boxes, 0.0, 1.0)
    return np.log(p / (1.0 - p + eps) + eps)


def clipped_from_below(boxes: np.ndarray, eps: float) -> np.ndarray:
    """log(max(p, eps) / max(1 - p, eps))."""
    return np.log(np.maximum(boxes, eps) / np.maximum(1.0 - boxes, eps))


def always_logits(spec: LossSpec) -> LossSpec:
    """Logits without noise, too."""
    right = spec.denoising.generator
    return replace_in(
        spec, "denoising.generator.without_noise", lambda boxes: right.inverse_sigmoid(boxes, right.logit_eps)
    )


NOISE = "loss specification, get_cdn_group: boxes"

BOX_NOISE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-positives-shifted-whole",
        "DN",
        "The opposite edges of a positive move by the same, so that it is shifted and keeps its size. Right: each edge "
        "for itself. Shows in how far centres move.",
        NOISE,
        drawn(lambda boxes, half, rng: (shifts if half else together)(boxes, half, rng)),
    ),
    Mutant(
        "plausible-positives-shifted-halfway",
        "DN",
        "The opposite edges of a positive both move by the mean of two draws. Right: each by its own. Shows in how far "
        "edges move; centres move as they should.",
        NOISE,
        drawn(halfway),
    ),
    Mutant(
        "paddle-dn-box-space",
        "DN",
        "Boxes came back in [0, 1], where the decoder expects logits. Right: the inverse sigmoid. Shows on any box.",
        "PaddlePaddle/PaddleDetection, pull request 7715",
        generating("inverse_sigmoid", lambda right, boxes, eps: sigmoid(right(boxes, eps))),
    ),
    Mutant(
        "ul-inverse-sigmoid-double-eps",
        "DN",
        "The inverse sigmoid added its eps to the quotient and to the divisor. Right: of p clipped to [eps, 1 - eps]. "
        "Shows on small boxes: a width of 0.001 is off by 0.001 as a logit.",
        "ultralytics/ultralytics up to 8.0.195, models/utils/ops.py",
        lambda spec: replace_in(spec, "denoising.generator.inverse_sigmoid", eps_added_twice),
    ),
    Mutant(
        "dino-inverse-sigmoid-eps",
        "DN",
        "Boxes are clipped to 0.001 before the inverse sigmoid. Right under this profile: to 1e-6. Shows on a size "
        "that comes out below 0.001.",
        "IDEA-Research/DINO, util/misc.py, inverse_sigmoid",
        lambda spec: replace_in(spec, "denoising.generator.logit_eps", 1e-3),
    ),
    Mutant(
        "dfine-negative-sizes-flipped",
        "DN",
        "A negative that was turned inside out was turned back, and some lay on their object. Right under this "
        "profile: a size below 0 is clipped. Shows on negatives.",
        "Peterande/D-FINE, denoising queries: negative sizes change their sign",
        generating("moved", lambda right, *args: np.abs(right(*args))),
    ),
    Mutant(
        "plausible-sizes-below-zero-unclipped",
        "DN",
        "The inverse sigmoid clips p and 1 - p from below alone, so that the logit of a size below 0 is less than that "
        "of 0: 1 - p is above 1. Right: p is clipped to [0, 1] before. Shows on negatives that were turned inside out.",
        "an early state of detr_conformance.optimized.rtdetr",
        lambda spec: replace_in(spec, "denoising.generator.inverse_sigmoid", clipped_from_below),
    ),
    Mutant(
        "plausible-negatives-with-small-noise",
        "DN",
        "Negatives move as little as positives. Right: by once to twice half the size. Shows on negatives.",
        NOISE,
        generating("moved", lambda right, boxes, scale, _half, rng: right(boxes, scale, 0, rng)),
    ),
    Mutant(
        "plausible-noise-of-whole-sizes",
        "DN",
        "Edges move by shares of the size. Right: of half the size. Shows on positives.",
        NOISE,
        generating("moved", lambda right, boxes, scale, half, rng: right(boxes, 2.0 * scale, half, rng)),
    ),
    Mutant(
        "plausible-noise-scale-ignored",
        "DN",
        "box_noise_scale says whether there is noise, and not how much. Right: it scales. Shows with a scale of 0.4.",
        NOISE,
        generating("moved", lambda right, boxes, _scale, half, rng: right(boxes, 1.0, half, rng)),
    ),
    Mutant(
        "plausible-noise-in-centre-form",
        "DN",
        "Centre and size are moved. Right: the four edges. Shows on positives.",
        NOISE,
        lambda spec: replace_in(spec, "denoising.generator.moved", in_centre_form),
    ),
    Mutant(
        "plausible-continuous-sign",
        "DN",
        "The sign is a number between -1 and 1, and negatives come near. Right: -1 or 1. Shows on negatives.",
        NOISE,
        drawn(lambda boxes, half, rng: rng.uniform(-1.0, 1.0, boxes.shape) * shifts(boxes, half, rng)),
    ),
    Mutant(
        "plausible-noise-without-sign",
        "DN",
        "Every edge moves to the right or down. Right: signs at random. Shows over many boxes.",
        NOISE,
        drawn(lambda boxes, half, rng: np.abs(shifts(boxes, half, rng))),
    ),
    Mutant(
        "plausible-noise-keeps-sizes",
        "DN",
        "Opposite edges move together. Right: independently. Shows on any box.",
        NOISE,
        drawn(together),
    ),
    Mutant(
        "plausible-noise-not-clipped",
        "DN",
        "Edges may leave the image. Right: they are clipped to it before centre and size are taken. Shows on a box on "
        "the border.",
        NOISE,
        drawn(shifts, -np.inf, np.inf),
    ),
    Mutant(
        "plausible-noise-same-in-all-groups",
        "DN",
        "The noise of the first group is repeated in the others. Right: drawn anew. Shows with two groups.",
        NOISE,
        repeated(1),
    ),
    Mutant(
        "plausible-logits-without-noise",
        "DN",
        "Boxes are logits with box_noise_scale 0, too. Right: they come back as they are, a quirk. Shows with 0.",
        NOISE,
        always_logits,
    ),
)
