"""The loss of a training step: match, then classify every query and regress the matched boxes, in every decoder layer.

This is the story that all members of the family share. Whatever they decide differently is asked of a `LossSpec`. Read
down: `Criterion`; `pairs_of_step`, who answers for whom; `_step_losses`, ordinary and denoising queries; `part_losses`,
layer by layer; `layer_losses`, the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.reference.inputs import Inputs, predictions_of
from detr_conformance.reference.keys import PartLosses, StepLosses
from detr_conformance.reference.layers import Layer, Stack
from detr_conformance.reference.loss_value import Losses, losses_of
from detr_conformance.reference.matcher import (
    Matcher,
    Matching,
    Targets,
    flat,
    group_by_group,
    masks_to_match,
    pairs_of_each_image,
)
from detr_conformance.reference.normaliser import Tally
from detr_conformance.reference.options import LossConfig
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.rounding import Arithmetic, plain, tracked_like
from detr_conformance.reference.spec import LossSpec, SideEffects
from detr_conformance.reference.tape import Array, placed
from detr_conformance.reference.terms import TermInputs

FLOAT16_EPS = 2.0**-10


Complete = Callable[[Tally, int], Tally]
"""From what a batch has to divide by in the layer in this place to what it divides by."""


def on_its_own(tally: Tally, place: int) -> Tally:
    """No other rank, and no other micro-batch."""
    return tally


class Criterion:
    """A loss object: a spec with its options. Call it as often as you like."""

    def __init__(self, spec: LossSpec, config: LossConfig) -> None:
        """Make the side effects of a new object."""
        self.spec = spec
        self.config = config
        self.side_effects = spec.side_effects()

    def __call__(self, inputs: Inputs, named: bool = False, complete: Complete = on_its_own) -> Losses:
        """The losses of a training step, with their gradients with respect to the predictions.

        Args:
            inputs: predictions, targets and denoising queries.
            named: under the spec's own keys, layer by layer where it names them so; otherwise under canonical keys.
            complete: adds to what a layer has to divide by what the other ranks or micro-batches have; see
                `merged_batch`.
        """
        spec, config, inputs = self.side_effects.before(self.spec, self.config, inputs)
        config = spec.options(config)
        step = partial(_step_losses, spec, config, inputs, pairs_of_step(spec, config, inputs), complete)
        keys = spec.keys.named if named else StepLosses.sums
        losses = losses_of(lambda leaves: keys(step(leaves)), predictions_of(inputs), inputs.arithmetic, inputs.bounded)
        if type(self.side_effects) is not SideEffects:
            for loss in losses.values():  # now, while what they were computed from is as it was
                loss.gradients  # noqa: B018  # computed when it is first asked for
            self.side_effects.after(inputs)
        return losses


@dataclass(frozen=True)
class StepPairs:
    """Who answers for which target.

    Attributes:
        ordinary: for each layer of ordinary queries.
        denoising: for each layer of denoising queries.
    """

    ordinary: Sequence[Pairs]
    denoising: Sequence[Pairs]


def pairs_of_step(spec: LossSpec, config: LossConfig, inputs: Inputs) -> StepPairs:
    """Match every layer by its own costs; a denoising query belongs to the target that it was made from."""
    dn, arrays = inputs.denoising, predictions_of(inputs)
    ordinary, denoising = _layers(arrays, "pred_"), _layers(arrays, "dn_")
    layers = spec.layers.arranged(spec.denoising.ordinary(ordinary, denoising), False)
    matcher = matcher_for(spec, inputs.arithmetic, inside_loss=True)
    options = matcher.configured(config)
    targets = inputs.targets._replace(boxes=spec.target_boxes(inputs.targets.boxes))

    def match(layer: int) -> Sequence[Matching]:
        boxes, logits = (np.asarray(each, dtype=np.float64) for each in layers[layer][:2])
        groups, masks = spec.query_groups(config), masks_to_match(layers[layer].further, inputs.constants)
        return group_by_group(partial(matcher.match, options), boxes, logits, targets, groups, masks)

    paired = spec.pairing(match, len(layers), config)
    if dn is None:
        return StepPairs(paired, ())
    matching = spec.denoising.pairs(dn.pos_idx, dn.groups, inputs.targets.counts, dn.gt_idx)
    return StepPairs(paired, [Pairs.same(matching)] * len(spec.layers.arranged(denoising, True)))


def _step_losses(
    spec: LossSpec,
    config: LossConfig,
    inputs: Inputs,
    pairs: StepPairs,
    complete: Complete,
    leaves: Mapping[str, Sequence[Array]],
) -> StepLosses:
    """The losses of ordinary and of denoising queries."""
    dn = inputs.denoising
    ordinary, denoising = _layers(leaves, "pred_"), _layers(leaves, "dn_")
    layers = spec.denoising.ordinary(ordinary, denoising)
    split = _matched_and_others(layers[-1], pairs.ordinary[-1].boxes)
    part = partial(part_losses, spec, config, has_denoising=dn is not None, complete=complete, matched_and_others=split)
    of_ordinary = part(layers, inputs.targets, pairs.ordinary, constants=inputs.constants)
    of_denoising = None
    if dn is not None:
        targets, groups = spec.denoising.targets(inputs.targets), dn.groups
        of_denoising = part(denoising, targets, pairs.denoising, constants=dn.constants, groups=groups)
    number = sum(inputs.targets.counts)
    return StepLosses(of_ordinary, of_denoising, config.aux_loss, config.classification, number)


def part_losses(
    spec: LossSpec,
    config: LossConfig,
    layers: Sequence[Layer],
    targets: Targets,
    pairs: Sequence[Pairs],
    *,
    has_denoising: bool,
    constants: Mapping[str, Any],
    complete: Complete,
    matched_and_others: tuple[int, int],
    groups: int | None = None,
) -> PartLosses:
    """The losses of the main layer, and those of the auxiliary layers; `groups` makes it the denoising part."""
    layers = spec.layers.arranged(layers, groups is not None)
    stack = Stack(len(layers), groups is not None, has_denoising)
    of_part = Tally(
        pairs=(),
        targets=tuple(targets.counts),
        queries=0,
        classes=config.nc,
        layers=len(layers),
        groups=groups or 1,
        is_denoising=groups is not None,
        query_groups=spec.query_groups(config),
    )
    losses = []
    for place, (layer, own) in enumerate(zip(layers, pairs, strict=True)):
        tally = complete(replace(of_part, queries=layer.boxes.shape[1]), place)
        given = TermInputs(layer, layers[-1], place, (), targets, constants, matched_and_others)
        extra = extra_losses(spec, config, stack, given, own, tally)
        losses.append(spec.layer(spec, config, layer, own, targets, tally) | extra)
    main = [_weighted(each, weight) for each, weight in zip(losses, spec.layers.main(stack), strict=True) if weight]
    weights = spec.layers.auxiliary(stack) if config.aux_loss else [0.0] * len(losses)
    auxiliary = [_weighted(each, weight) for each, weight in zip(losses, weights, strict=True) if weight]
    nothing = dict.fromkeys(losses[0], np.zeros(()))
    return PartLosses(_total(spec, main) or nothing, auxiliary, _total(spec, auxiliary) or nothing, len(layers))


def layer_losses(
    spec: LossSpec, config: LossConfig, layer: Layer, pairs: Pairs, targets: Targets, tally: Tally
) -> dict[str, Array]:
    """All losses of one layer.

    Each is a sum over the layer, divided by the normaliser of its term, times its gain:

        class    sum_{images, queries, classes} term(x, y, q)        symbols as in `classification`
        bbox     sum_{pairs} |b - b'|
        giou     sum_{pairs} (1 - GIoU(b, b'))
    """
    # Targets are not rounded, but their corners are.
    targets = targets._replace(boxes=spec.target_boxes(tracked_like(layer.boxes, targets.boxes)))
    classes, scores = classes_and_scores(spec, layer, pairs.classes, targets, config.nc)
    class_tally = replace(tally, pairs=pairs_of_each_image(pairs.classes))
    losses = {"class": class_loss_of(spec, config, layer.logits, classes, scores, class_tally)}
    (images, queries), chosen = flat(pairs.boxes)
    boxes = spec.matched_boxes(layer.boxes, images, queries)
    box_tally = replace(tally, pairs=pairs_of_each_image(pairs.boxes), about="boxes")
    return losses | box_losses_of(spec, config, boxes, targets.boxes[chosen], box_tally)


def classes_and_scores(
    spec: LossSpec, layer: Layer, pairs: Sequence[Matching], targets: Targets, nc: int
) -> tuple[Int64[np.ndarray, "images queries"], Float[Array, "images queries"]]:
    """What each query is classified as, `nc` for background, and its target score, 0 for background."""
    (images, queries), chosen = flat(pairs)
    classes = spec.labels(pairs, targets, *layer.boxes.shape[:2], nc)
    with np.errstate(all="ignore"):
        scores = spec.score(layer.boxes[images, queries], targets.boxes[chosen], spec.guard)
    return classes, placed(scores, (images, queries), np.zeros(classes.shape))


def class_loss_of(
    spec: LossSpec,
    config: LossConfig,
    logits: Float[Array, "images queries columns"],
    classes: Int64[np.ndarray, "images queries"],
    scores: Float[Array, "images queries"],
    tally: Tally,
) -> Array:
    """The classification loss of queries with these classes and target scores; `nc` is background."""
    y = (classes[..., None] == np.arange(logits.shape[-1])).astype(np.float64)
    q = scores[..., None] * y
    name = spec.choose_class_term(config, int(sum(tally.pairs)))
    term = spec.class_terms[name]
    with np.errstate(all="ignore"):
        total = spec.class_total(term.terms(term, logits, y, q, config), classes < config.nc, config)
        scored = replace(tally, scores=float(np.sum(plain(scores))))
        return spec.gain(total / spec.divisor(name, scored), "class", config)


def box_losses_of(
    spec: LossSpec,
    config: LossConfig,
    boxes: Float[Array, "pairs 4"],
    wanted: Float[np.ndarray, "pairs 4"],
    tally: Tally,
) -> dict[str, Array]:
    """The losses of matched boxes and their targets, pair by pair."""
    with np.errstate(all="ignore"):
        sums = {term: np.sum(of_pair(boxes, wanted, spec.guard)) for term, of_pair in spec.box_terms.items()}
        return {term: spec.gain(total / spec.divisor(term, tally), term, config) for term, total in sums.items()}


def extra_losses(
    spec: LossSpec, config: LossConfig, stack: Stack, given: TermInputs, pairs: Pairs, tally: Tally
) -> dict[str, Array]:
    """The extra terms of one layer, as far as its stack has them and their predictions have come.

    Args:
        spec: the conventions.
        config: the options; a term for which they name no gain has its own.
        stack: what the layer is one of.
        given: what the terms are computed of, but for the pairs.
        pairs: who answers for which target.
        tally: what there is to divide by, but for the number of pairs.
    """
    terms = spec.terms_of(given.layer.further)
    config = replace(config, loss_gain={name: term.gain for name, term in terms.items()} | dict(config.loss_gain))
    boxes = spec.target_boxes(tracked_like(given.layer.boxes, given.targets.boxes))
    given, losses = given._replace(targets=given.targets._replace(boxes=boxes)), {}
    for name, term in terms.items():
        own = pairs.classes if term.pairs == "classes" else pairs.boxes
        if term.layers(stack)[given.place]:
            with np.errstate(all="ignore"):
                total = term.total(given._replace(pairs=own))
                divisor = spec.divisor(name, replace(tally, pairs=pairs_of_each_image(own), about=term.pairs))
                losses[name] = spec.gain(total / divisor, name, config)
    return losses


def matcher_for(spec: LossSpec, arithmetic: Arithmetic, inside_loss: bool = False) -> Matcher:
    """The spec's matcher for predictions of this format, as it is called alone or by the loss."""
    matcher = spec.matcher.in_half(spec.matcher) if arithmetic.eps == FLOAT16_EPS else spec.matcher
    return matcher.inside_loss(matcher) if inside_loss else matcher


def _layers(leaves: Mapping[str, Any], prefix: str) -> list[Layer]:
    """The inputs whose names begin so, layer by layer; none if there are no such inputs."""
    arrays = {name.removeprefix(prefix): each for name, each in leaves.items() if name.startswith(prefix)}
    layers = [dict(zip(arrays, each, strict=True)) for each in zip(*arrays.values(), strict=True)]
    return [Layer(each.pop("bboxes"), each.pop("scores"), each) for each in layers]


def _weighted(losses: Mapping[str, Any], weight: float) -> dict[str, Any]:
    return {term: loss if weight == 1.0 else loss * weight for term, loss in losses.items()}


def _total(spec: LossSpec, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each term over the layers that have it."""
    terms = dict.fromkeys(term for each in layers for term in each)
    return {term: spec.layers.total([each[term] for each in layers if term in each]) for term in terms}


def _matched_and_others(layer: Layer, pairs: Sequence[Matching]) -> tuple[int, int]:
    """How many queries of a layer are in pairs, and how many are not."""
    images, queries = layer.boxes.shape[:2]
    matched = sum(pairs_of_each_image(pairs))
    return matched, images * queries - matched
