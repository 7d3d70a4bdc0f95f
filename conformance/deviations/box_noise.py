"""Deviations in the noise on the boxes of denoising queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.generator import Generated, Generator, cdn_group, filled, repeated
from detr_conformance.reference.classification import sigmoid
from detr_conformance.reference.denoising import logit, noisy_boxes

Noise = Callable[[np.ndarray, float, int, np.random.Generator], np.ndarray]
"""Boxes out of those of their targets, box_noise_scale, 0 for positives or 1 for negatives, and randomness."""


def noisy(noise: Noise) -> Generator:
    """The generator with other noise on its boxes."""

    def generate(*args: Any, box_noise_scale: float = 1.0, rng: Any = None, **options: Any) -> Generated:
        rng = np.random.default_rng(rng)
        labels, boxes, blocked, meta = cdn_group(*args, box_noise_scale=0.0, rng=rng, **options)
        if boxes is not None and box_noise_scale > 0:
            for image, half, slots in filled(meta):
                boxes[image, slots] = noise(boxes[image, slots], box_noise_scale, half, rng)
        return labels, boxes, blocked, meta

    return generate


def moved(boxes: np.ndarray, shift: np.ndarray, lowest: float = 0.0, highest: float = 1.0) -> np.ndarray:
    """Boxes whose four edges have moved by so many half sizes to the right or down, in centre form."""
    half_size = np.tile(boxes[:, 2:] / 2, 2)
    edges = np.tile(boxes[:, :2], 2) + (np.repeat([-1.0, 1.0], 2) + shift) * half_size
    low, high = np.split(np.clip(edges, lowest, highest), 2, axis=1)
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def shifts(boxes: np.ndarray, half: int, rng: np.random.Generator) -> np.ndarray:
    """The right ones, for scale 1."""
    return rng.choice([-1.0, 1.0], size=boxes.shape) * (rng.random(boxes.shape) + half)


def probabilities(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """No inverse sigmoid."""
    return sigmoid(noisy_boxes(boxes, scale, half, rng))


def eps_added_twice(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """The inverse sigmoid as log(p / (1 - p + eps) + eps)."""
    p = np.clip(moved(boxes, scale * shifts(boxes, half, rng)), 0.0, 1.0)
    return np.log(p / (1.0 - p + 1e-6) + 1e-6)


def eps_of_a_thousandth(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """The inverse sigmoid of what was clipped to 0.001."""
    return logit(np.clip(moved(boxes, scale * shifts(boxes, half, rng)), 1e-3, 1.0 - 1e-3))


def turned_right_side_out(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Sizes below 0 lose their sign."""
    return logit(np.abs(moved(boxes, scale * shifts(boxes, half, rng))))


def not_clipped(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Edges may leave the image."""
    return logit(moved(boxes, scale * shifts(boxes, half, rng), -np.inf, np.inf))


def never_back(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Every edge to the right or down."""
    return logit(moved(boxes, scale * np.abs(shifts(boxes, half, rng))))


def in_one_piece(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Opposite edges by the same, so that no size changes."""
    return logit(moved(boxes, scale * np.tile(shifts(boxes[:, :2], half, rng), 2)))


def positives_in_one_piece(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """As `in_one_piece`, negatives as they should be."""
    return (noisy_boxes if half else in_one_piece)(boxes, scale, half, rng)


def positives_halfway(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Opposite edges of a positive both by the mean of what each should move by; negatives as they should be."""
    if half:
        return noisy_boxes(boxes, scale, half, rng)
    low, high = np.split(shifts(boxes, half, rng), 2, axis=1)
    return logit(moved(boxes, scale * np.tile((low + high) / 2, 2)))


def continuous_sign(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """A sign anywhere between -1 and 1."""
    return logit(moved(boxes, scale * rng.uniform(-1.0, 1.0, boxes.shape) * shifts(boxes, half, rng)))


def in_centre_form(boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
    """Centres by up to half the size, sizes by up to the whole."""
    unit = np.concatenate([boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    return logit(boxes + scale * unit * shifts(boxes, half, rng))


def always_logits(*args: Any, box_noise_scale: float = 1.0, **options: Any) -> Generated:
    """Logits without noise, too."""
    labels, boxes, blocked, meta = cdn_group(*args, box_noise_scale=box_noise_scale, **options)
    if boxes is not None and box_noise_scale == 0:
        for image, _, slots in filled(meta):
            boxes[image, slots] = logit(boxes[image, slots])
    return labels, boxes, blocked, meta


NOISE = "loss specification, get_cdn_group: boxes"

BOX_NOISE_DEVIATIONS = (
    Deviation(
        "plausible-positives-shifted-whole",
        "DN",
        "The opposite edges of a positive move by the same, so that it is shifted and keeps its size. Right: each edge "
        "for itself. Shows in how far centres move.",
        NOISE,
        generator=noisy(positives_in_one_piece),
    ),
    Deviation(
        "plausible-positives-shifted-halfway",
        "DN",
        "The opposite edges of a positive both move by the mean of two draws. Right: each by its own. Shows in how far "
        "edges move; centres move as they should.",
        NOISE,
        generator=noisy(positives_halfway),
    ),
    Deviation(
        "paddle-dn-box-space",
        "DN",
        "Boxes came back in [0, 1], where the decoder expects logits. Right: the inverse sigmoid. Shows on any box.",
        "PaddlePaddle/PaddleDetection, pull request 7715",
        generator=noisy(probabilities),
    ),
    Deviation(
        "ul-inverse-sigmoid-double-eps",
        "DN",
        "The inverse sigmoid added its eps to the quotient and to the divisor. Right: of p clipped to [eps, 1 - eps]. "
        "Shows on small boxes: a width of 0.001 is off by 0.001 as a logit.",
        "ultralytics/ultralytics up to 8.0.195, models/utils/ops.py",
        generator=noisy(eps_added_twice),
    ),
    Deviation(
        "dino-inverse-sigmoid-eps",
        "DN",
        "Boxes are clipped to 0.001 before the inverse sigmoid. Right under this profile: to 1e-6. Shows on a size "
        "that comes out below 0.001.",
        "IDEA-Research/DINO, util/misc.py, inverse_sigmoid",
        generator=noisy(eps_of_a_thousandth),
    ),
    Deviation(
        "dfine-negative-sizes-flipped",
        "DN",
        "A negative that was turned inside out was turned back, and some lay on their object. Right under this "
        "profile: a size below 0 is clipped. Shows on negatives.",
        "Peterande/D-FINE, denoising queries: negative sizes change their sign",
        generator=noisy(turned_right_side_out),
    ),
    Deviation(
        "plausible-negatives-with-small-noise",
        "DN",
        "Negatives move as little as positives. Right: by once to twice half the size. Shows on negatives.",
        NOISE,
        generator=noisy(lambda boxes, scale, _half, rng: noisy_boxes(boxes, scale, 0, rng)),
    ),
    Deviation(
        "plausible-noise-of-whole-sizes",
        "DN",
        "Edges move by shares of the size. Right: of half the size. Shows on positives.",
        NOISE,
        generator=noisy(lambda boxes, scale, half, rng: noisy_boxes(boxes, 2.0 * scale, half, rng)),
    ),
    Deviation(
        "plausible-noise-scale-ignored",
        "DN",
        "box_noise_scale says whether there is noise, and not how much. Right: it scales. Shows with a scale of 0.4.",
        NOISE,
        generator=noisy(lambda boxes, _scale, half, rng: noisy_boxes(boxes, 1.0, half, rng)),
    ),
    Deviation(
        "plausible-noise-in-centre-form",
        "DN",
        "Centre and size are moved. Right: the four edges. Shows on positives.",
        NOISE,
        generator=noisy(in_centre_form),
    ),
    Deviation(
        "plausible-continuous-sign",
        "DN",
        "The sign is a number between -1 and 1, and negatives come near. Right: -1 or 1. Shows on negatives.",
        NOISE,
        generator=noisy(continuous_sign),
    ),
    Deviation(
        "plausible-noise-without-sign",
        "DN",
        "Every edge moves to the right or down. Right: signs at random. Shows over many boxes.",
        NOISE,
        generator=noisy(never_back),
    ),
    Deviation(
        "plausible-noise-keeps-sizes",
        "DN",
        "Opposite edges move together. Right: independently. Shows on any box.",
        NOISE,
        generator=noisy(in_one_piece),
    ),
    Deviation(
        "plausible-noise-not-clipped",
        "DN",
        "Edges may leave the image. Right: they are clipped to it before centre and size are taken. Shows on a box on "
        "the border.",
        NOISE,
        generator=noisy(not_clipped),
    ),
    Deviation(
        "plausible-noise-same-in-all-groups",
        "DN",
        "The noise of the first group is repeated in the others. Right: drawn anew. Shows with two groups.",
        NOISE,
        generator=repeated(1),
    ),
    Deviation(
        "plausible-logits-without-noise",
        "DN",
        "Boxes are logits with box_noise_scale 0, too. Right: they come back as they are, a quirk. Shows with 0.",
        NOISE,
        generator=always_logits,
    ),
)
