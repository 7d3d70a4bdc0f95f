"""Mutants in the auxiliary losses: whose matching a layer has, and what a layer is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.reference import LossConfig, replace_in
from detr_conformance.reference.layers import Layer
from detr_conformance.reference.pairing import Match, Pairs, own_per_layer

OWN = "loss specification, DETRLoss, forward: each auxiliary layer is matched on its own"
SHARED = "loss specification, DETRLoss, forward: use_uni_match"

Pairing = Callable[[Match, int, LossConfig], Sequence[Pairs]]


def images_for_layers(
    right: Callable[[Sequence[Layer], bool], Sequence[Layer]], layers: Sequence[Layer], is_denoising: bool
) -> Sequence[Layer]:
    """The axis of images is taken for that of layers: each image but the last is a layer, and its layers are images.

    Where there are fewer layers than images it raised; here the layers start over, and each is matched on its own.
    """
    *auxiliary, main = right(layers, is_denoising)
    images = range(len(main.boxes)) if auxiliary else range(0)
    chosen = [auxiliary[image % len(auxiliary)] for image in images]
    return [*(_stacked([each.map(itemgetter(image)) for each in chosen]) for image in images[:-1]), main]


def _stacked(images: Sequence[Layer]) -> Layer:
    """Predictions of images one after the other, as those of a layer."""
    further = {name: np.stack([each.further[name] for each in images]) for name in images[0].further}
    return Layer(np.stack([each.boxes for each in images]), np.stack([each.logits for each in images]), further)


def first_kept(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The matching of the first auxiliary layer is kept for the others."""
    *auxiliary, main = right(match, layers, config)
    return [*auxiliary[:1] * len(auxiliary), main]


def matching_of_main(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """The auxiliary layers have the matching of the main one."""
    return [right(match, layers, config)[-1]] * layers


def main_shares(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """With use_uni_match the main layer shares the matching too."""
    first, *others = right(match, layers, config)
    return [first] * layers if config.use_uni_match else [first, *others]


def shared_from_the_end(right: Pairing, match: Match, layers: int, config: LossConfig) -> Sequence[Pairs]:
    """uni_match_ind counts from the last auxiliary layer."""
    return right(match, layers, replace(config, uni_match_ind=layers - 2 - config.uni_match_ind))


LAYER_MATCHING_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "hf-deformable-aux-batch-axis",
        "AUX",
        "Layers were stacked along the second axis and taken along the first: every image but the last became a layer, "
        "matched with the targets of all images. Right: layers along the first axis. Shows in the sum over layers; one "
        "image has no auxiliary loss.",
        "huggingface/transformers 4.30.2, modeling_deformable_detr.py",
        lambda spec: replace_in(wrapped("layers.arranged", images_for_layers)(spec), "pairing", own_per_layer),
    ),
    Mutant(
        "paddle-aux-stale-matching",
        "AUX",
        "The matching of the first auxiliary layer was stored where the next one looked for a given matching, and used "
        "from there on. Right: every layer is matched on its own. Shows with three layers that match differently.",
        "PaddlePaddle/PaddleDetection, pull request 7724",
        wrapped("pairing", first_kept),
    ),
    Mutant(
        "plausible-aux-matching-of-main",
        "AUX",
        "The auxiliary layers have the matching of the main one, an option of lyuwenyu/RT-DETR. Right under this "
        "profile: every layer its own. Shows with layers that match differently.",
        OWN,
        wrapped("pairing", matching_of_main),
    ),
    Mutant(
        "plausible-uni-match-main-too",
        "AUX",
        "With use_uni_match the main layer shares the matching too. Right: it keeps its own. Shows with layers that "
        "match differently.",
        SHARED,
        wrapped("pairing", main_shares),
    ),
    Mutant(
        "plausible-uni-match-from-the-end",
        "AUX",
        "uni_match_ind counts from the last auxiliary layer. Right: from the first. Shows with three layers that match "
        "differently.",
        SHARED,
        wrapped("pairing", shared_from_the_end),
    ),
)
