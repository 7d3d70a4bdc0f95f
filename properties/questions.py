"""Questions about a spec whose answer decides whether it has what a rule is about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from detr_conformance.reference import Guard, LossConfig, LossSpec, MatcherConfig
from detr_conformance.reference.denoising import NEGATIVE, Layout
from detr_conformance.reference.layers import Layer, Stack
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.normaliser import LayerTally, Tally
from detr_conformance.reference.terms import TermInputs

TWO_VALUES: dict[str, tuple[Any, Any]] = {
    "alpha": (0.25, 0.75),
    "gamma": (1.5, 3.0),
    "loss_gain": ({"class": 1.0, "bbox": 5.0, "giou": 2.0}, {"class": 2.0, "bbox": 4.0, "giou": 1.0}),
}
"""Two values of each option that the rules set."""


def heeds(spec: LossSpec, option: str) -> bool:
    """Whether the loss takes an option from its caller, instead of a value of its own."""
    given = TWO_VALUES[option]
    return all(getattr(spec.options(replace(LossConfig(), **{option: value})), option) == value for value in given)


def matches_alike(spec: LossSpec, option: str) -> bool:
    """Whether the matcher inside the loss is the same whatever the caller asks for."""
    one, other = (_matcher_of(spec, replace(LossConfig(), **{option: value})) for value in TWO_VALUES[option])
    return one == other


def _matcher_of(spec: LossSpec, config: LossConfig) -> MatcherConfig:
    return spec.matcher.configured(spec.options(config))


def adds_layers_up(spec: LossSpec) -> bool:
    """Whether the losses of the auxiliary layers are added, instead of averaged, say."""
    return float(spec.layers.total([1.0, 2.0])) == 3.0


def is_alike_in_all_layers(spec: LossSpec, term: str, layers: int) -> bool:
    """Whether every layer before the last has a term as the last one has it, or none of them has it.

    Layers may be exchanged then. Distributions are what the encoder's layer has none of.
    """
    if term not in spec.extra_terms:
        return True
    *auxiliary, main = spec.extra_terms[term].layers(Stack(layers))
    return not any(auxiliary) or all([*auxiliary, main])


def counts_layers(spec: LossSpec, layers: int) -> float:
    """How often the loss of one of so many equal layers is in that of all: so often in a sum, once in a mean."""
    return float(spec.layers.total([1.0] * layers)) if layers else 0.0


def divides_by_counts(spec: LossSpec) -> bool:
    """Whether the normalisers count pairs, targets or queries; rules work out no sum of target scores."""
    few, many = (Tally((3,), (3,), 4, 2, 1, scores=scores) for scores in (0.5, 50.0))
    return all(normaliser(few) == normaliser(many) for normaliser in spec.normaliser.values())


def makes_many_groups(spec: LossSpec) -> bool:
    """Whether there are as many groups of denoising queries as `num_dn` has room for."""
    return spec.denoising.generator.groups(60, 2) >= 30


def hides_groups(spec: LossSpec) -> bool:
    """Whether the denoising queries of one group do not see those of another."""
    layout = Layout((np.zeros(1, dtype=np.int64),), width=1, groups=2, first=(0,))
    blocked = spec.denoising.generator.mask(layout, 1)
    return bool(blocked[:2, 2:4].all() and blocked[2:4, :2].all())


def leaves_boxes(spec: LossSpec) -> bool:
    """Whether boxes without noise come back as they are."""
    boxes = np.array([[0.5, 0.25, 0.125, 0.75]])
    return np.array_equal(spec.denoising.generator.without_noise(boxes), boxes)


def turns_right_side_out(spec: LossSpec) -> bool:
    """Whether a negative whose edges have crossed becomes a box with edges in order."""
    boxes = np.tile([0.5, 0.5, 0.25, 0.25], (256, 1))
    moved = spec.denoising.generator.moved(boxes, 1.0, NEGATIVE, np.random.default_rng(0))
    return bool((moved[:, 2:] >= 0.0).all())


def caps_targets(spec: LossSpec) -> bool:
    """Whether an image contributes at most `num_dn` of its targets to a group of denoising queries."""
    return len(spec.denoising.generator.contributed(4, 1, np.random.default_rng(0))) < 4


def measures_giou(spec: LossSpec) -> bool:
    """Whether `giou` is the GIoU: of two boxes with a third of IoU and a hull of which a tenth is empty."""
    boxes = np.array([[0.5, 0.5, 0.5, 0.5]]), np.array([[0.625, 0.5, 0.5, 0.25]])
    [loss] = spec.box_terms["giou"](*boxes, Guard(0.0))
    return bool(np.isclose(loss, 1.0 - (1.0 / 3.0 - 0.1), rtol=1e-12))


def averages_over_ranks(spec: LossSpec, term: str) -> bool | None:
    """Whether ranks divide a term by their mean count; False if each divides by its own, None if neither.

    `term` is `bbox`, `giou`, an extra term, or the name of a classification loss.
    """
    boxes, extra = term in spec.box_terms, spec.extra_terms.get(term)
    about: Literal["classes", "boxes"] = "boxes" if boxes else extra.pairs if extra else "classes"
    own, other = (Tally((count,), (count,), 8, 2, about=about) for count in (2, 6))
    normaliser = spec.normaliser_of(term)
    mean = normaliser(Tally((4,), (4,), 8, 2, about=about))
    shared = spec.divisor(term, replace(own, ranks=(LayerTally(own, own), LayerTally(other, other))))
    return {mean: True, normaliser(own): False}.get(shared)


def has_masks(spec: LossSpec) -> bool:
    """Whether there are losses of masks, pixel by pixel."""
    terms = [spec.extra_terms.get(name) for name in ("mask", "dice")]
    return all(term is not None and term.needs == "masks" for term in terms)


def has_query_groups(spec: LossSpec) -> bool:
    """Whether queries may fall into groups, each matched on its own."""
    return spec.query_groups(LossConfig(query_groups=2)) == 2


def has_masks_at_points(spec: LossSpec) -> bool:
    """Whether there are losses of masks at points."""
    terms = [spec.extra_terms.get(name) for name in ("mask", "dice")]
    return all(term is not None and term.needs == "mask_points" for term in terms)


def reads_masks_bilinearly(spec: LossSpec) -> bool:
    """Whether losses read predictions and targets at points bilinearly, with zeros around.

    A quarter is left of each in the corner of a single pixel then.
    """
    if not has_masks_at_points(spec):
        return False
    nothing, one = np.zeros((1, 1, 4)), np.ones((1, 1, 1))
    layer, pair = Layer(nothing, nothing, {"masks": one[None]}), (np.zeros(1, dtype=np.int64),) * 2
    constants = {"gt_masks": one, "loss_points": np.zeros((1, 1, 2))}
    targets = Targets(nothing[0], np.zeros(1, dtype=np.int64), (1,))
    dice = spec.extra_terms["dice"].total(TermInputs(layer, layer, 0, [pair], targets, constants))
    p = 1.0 / (1.0 + np.exp(-0.25))
    return bool(np.isclose(float(dice), 1.0 - (2.0 * p * 0.25 + 1.0) / (p + 0.25 + 1.0), rtol=1e-9))


def has_costs_of_masks(spec: LossSpec) -> bool:
    """Whether masks have a part in matching."""
    return has_masks_at_points(spec) and spec.matcher.mask_costs is not None
