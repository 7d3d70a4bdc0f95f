"""The loss of a training step: match, then classify every query and regress the matched boxes, in every decoder layer.

This is the story that all members of the family share. Whatever they decide differently is asked of a `LossSpec`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.reference.keys import PartLosses, StepLosses
from detr_conformance.reference.layers import Layer, Stack
from detr_conformance.reference.loss_value import Losses, losses_of
from detr_conformance.reference.matcher import MaskInputs, Matcher, Matching, Targets
from detr_conformance.reference.normaliser import LayerTally, Tally
from detr_conformance.reference.options import LossConfig
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.rounding import FLOAT32, Arithmetic, plain, tracked_like
from detr_conformance.reference.spec import LossSpec, SideEffects
from detr_conformance.reference.tape import Array
from detr_conformance.reference.terms import TermInputs

FLOAT16_EPS = 2.0**-10


@dataclass(frozen=True)
class DenoisingInputs:
    """Predictions of the denoising queries, and where they came from.

    Attributes:
        boxes: predicted boxes in centre form.
        logits: one column for each class, and in some specs one for no object.
        pos_idx: for each image its positive slots, group after group.
        gt_idx: for each image the targets that one group reconstructs; None for all of them in order.
        groups: number of groups.
        further: predictions that extra terms read, by the names of those of ordinary queries.
        constants: what extra terms of denoising queries read beside predictions and targets.
    """

    boxes: Float[np.ndarray, "dn_layers images denoising 4"]
    logits: Float[np.ndarray, "dn_layers images denoising classes"]
    pos_idx: Sequence[Int64[np.ndarray, " _slots"]]
    gt_idx: Sequence[Int64[np.ndarray, " _targets"]] | None
    groups: int
    further: Mapping[str, Float[np.ndarray, "dn_layers images denoising *_"]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    """What a loss is called with.

    Attributes:
        boxes: predicted boxes in centre form, the main layer last.
        logits: one column for each class, and in some specs one for no object.
        targets: the ground truths.
        denoising: the denoising queries, if there are any.
        given: one matching for every layer, instead of matching each.
        arithmetic: the arithmetic of those who are judged by these losses.
        bounded: whether the losses come with bounds on their rounding errors. Without them they are quicker.
        further: predictions that extra terms read, by name, such as `masks`; losses are differentiated by them as
            `pred_masks`, by those of denoising queries as `dn_masks`.
        constants: what extra terms of ordinary queries read beside predictions and targets, such as the masks of
            targets.
    """

    boxes: Float[np.ndarray, "layers images queries 4"]
    logits: Float[np.ndarray, "layers images queries classes"]
    targets: Targets
    denoising: DenoisingInputs | None = None
    given: Sequence[Matching] | None = None
    arithmetic: Arithmetic = FLOAT32
    bounded: bool = True
    further: Mapping[str, Float[np.ndarray, "layers images queries *_"]] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


class Criterion:
    """A loss object: a spec with its options. Call it as often as you like."""

    def __init__(self, spec: LossSpec, config: LossConfig) -> None:
        """Make the side effects of a new object."""
        self.spec = spec
        self.config = config
        self.side_effects = spec.side_effects()

    def __call__(self, inputs: Inputs, named: bool = False, beside: Beside | None = None) -> Losses:
        """The losses of a training step, with their gradients by the predictions.

        Args:
            inputs: predictions, targets and denoising queries.
            named: under the spec's own keys, layer by layer where it names them so; otherwise under canonical keys.
            beside: the ranks or micro-batches that this batch is one of; None for none.
        """
        spec, config, inputs = self.side_effects.before(self.spec, self.config, inputs)
        config = spec.options(config)
        step = partial(_step_losses, spec, config, inputs, pairs_of_step(spec, config, inputs), beside or Beside())
        keys = spec.keys.named if named else StepLosses.sums
        losses = losses_of(lambda leaves: keys(step(leaves)), _leaves(inputs), inputs.arithmetic, inputs.bounded)
        if type(self.side_effects) is not SideEffects:
            for loss in losses.values():  # now, while what they were computed from is as it was
                loss.gradients  # noqa: B018  # computed when it is first asked for
            self.side_effects.after(inputs)
        return losses


@dataclass(frozen=True)
class Beside:
    """The batches that make one optimiser step together, this one included.

    Attributes:
        ranks: what the batch of each rank of a data-parallel run has.
        steps: what each micro-batch has.
    """

    ranks: Sequence[StepTallies] = ()
    steps: Sequence[StepTallies] = ()

    def put_into(self, tally: Tally, place: int) -> Tally:
        """The tally of the layer in this place, with those of the other batches."""
        ranks, steps = (
            tuple(each.of_layer(tally.is_denoising, place) for each in batches) for batches in (self.ranks, self.steps)
        )
        return replace(tally, ranks=ranks, steps=steps)


def losses_of_ranks(spec: LossSpec, config: LossConfig, ranks: Sequence[Inputs], named: bool = False) -> list[Losses]:
    """The losses of every rank of a data-parallel run, each computed of its own batch.

    Args:
        spec: the conventions.
        config: the options.
        ranks: what each rank is called with.
        named: as in `Criterion`.
    """
    beside = Beside(ranks=[tallies_of_step(spec, config, each) for each in ranks])
    return [Criterion(spec, config)(each, named, beside) for each in ranks]


def losses_of_steps(spec: LossSpec, config: LossConfig, steps: Sequence[Inputs], named: bool = False) -> list[Losses]:
    """The losses of every micro-batch of an optimiser step, all with the normaliser of the merged batch.

    Arguments are those of `losses_of_ranks`.
    """
    beside = Beside(steps=[tallies_of_step(spec, config, each) for each in steps])
    return [Criterion(spec, config)(each, named, beside) for each in steps]


def matcher_for(spec: LossSpec, arithmetic: Arithmetic) -> Matcher:
    """The spec's matcher for predictions of this format."""
    return spec.matcher.in_half(spec.matcher) if arithmetic.eps == FLOAT16_EPS else spec.matcher


def group_by_group(
    match: Callable[..., Sequence[Matching]],
    boxes: Float[np.ndarray, "images queries 4"],
    logits: Float[np.ndarray, "images queries columns"],
    targets: Targets,
    groups: int,
    masks: MaskInputs | None = None,
) -> list[Matching]:
    """The matching of one layer whose queries fall into groups of one size, each matched with all targets.

    Reference: Chen et al., Group DETR, arXiv 2207.13085, section 3.2.
    """
    size = boxes.shape[1] // groups
    starts, matchings = [size * group for group in range(groups)], []
    for start in starts:
        own = slice(start, start + size)
        of_masks = None if masks is None else masks._replace(masks=masks.masks[:, own])
        matchings.append(match(boxes[:, own], logits[:, own], targets, of_masks))
    return [
        (
            np.concatenate([start + queries for start, (queries, _) in zip(starts, of_image, strict=True)]),
            np.concatenate([chosen for _, chosen in of_image]),
        )
        for of_image in zip(*matchings, strict=True)
    ]


def masks_of(further: Mapping[str, Any], constants: Mapping[str, Any]) -> MaskInputs | None:
    """What a matcher needs to compare the masks of a layer; None where the call has no masks, or no points."""
    if "masks" not in further or "cost_points" not in constants:
        return None
    return MaskInputs(further["masks"], constants["gt_masks"], constants["cost_points"])


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
    dn, arrays = inputs.denoising, _leaves(inputs)
    ordinary, denoising = _layers(arrays, "pred_"), _layers(arrays, "dn_")
    layers = spec.layers.arranged(spec.denoising.ordinary(ordinary, denoising), False)
    if inputs.given is not None:
        return StepPairs([Pairs.same(inputs.given)] * len(layers), ())
    matcher, options = matcher_for(spec, inputs.arithmetic), spec.matcher.configured(config)
    targets = inputs.targets._replace(boxes=spec.target_boxes(inputs.targets.boxes))

    def match(layer: int) -> Sequence[Matching]:
        boxes, logits = (np.asarray(each, dtype=np.float64) for each in layers[layer][:2])
        groups, masks = spec.query_groups(config), masks_of(layers[layer].further, inputs.constants)
        return group_by_group(partial(matcher.match, options), boxes, logits, targets, groups, masks)

    paired = spec.pairing(match, len(layers), config)
    if dn is None:
        return StepPairs(paired, ())
    matching = spec.denoising.pairs(dn.pos_idx, dn.groups, inputs.targets.counts, dn.gt_idx)
    return StepPairs(paired, [Pairs.same(matching)] * len(spec.layers.arranged(denoising, True)))


@dataclass(frozen=True)
class StepTallies:
    """What one batch has to divide by.

    Attributes:
        ordinary: in each layer of ordinary queries.
        denoising: in each layer of denoising queries; empty without any.
    """

    ordinary: Sequence[LayerTally]
    denoising: Sequence[LayerTally]

    def of_layer(self, is_denoising: bool, place: int) -> LayerTally:
        """That of one layer. A batch without denoising queries has no pairs of them."""
        if not is_denoising:
            return self.ordinary[place]
        if self.denoising:
            return self.denoising[place]
        nothing = replace(self.ordinary[0].classes, pairs=(), groups=1, is_denoising=True)
        return LayerTally(nothing, nothing)


def tallies_of_step(spec: LossSpec, config: LossConfig, inputs: Inputs) -> StepTallies:
    """Count what there is to divide by, without computing a loss."""
    config = spec.options(config)
    pairs, dn = pairs_of_step(spec, config, inputs), inputs.denoising
    counts, nc, groups = tuple(inputs.targets.counts), config.nc, spec.query_groups(config)
    tally = Tally((), counts, inputs.boxes.shape[2], nc, len(pairs.ordinary), query_groups=groups)
    ordinary = [_of_layer(tally, own) for own in pairs.ordinary]
    if dn is None:
        return StepTallies(ordinary, ())
    tally = Tally((), counts, dn.boxes.shape[2], nc, len(pairs.denoising), dn.groups, True, query_groups=groups)
    return StepTallies(ordinary, [_of_layer(tally, own) for own in pairs.denoising])


def _of_layer(tally: Tally, pairs: Pairs) -> LayerTally:
    """The tally with either kind of pairs."""
    boxes = replace(tally, pairs=_counts(pairs.boxes), about="boxes")
    return LayerTally(replace(tally, pairs=_counts(pairs.classes)), boxes)


def _leaves(inputs: Inputs) -> Mapping[str, np.ndarray]:
    """The inputs by which losses are differentiated, layer by layer."""
    leaves = {"pred_bboxes": inputs.boxes, "pred_scores": inputs.logits}
    leaves |= {f"pred_{name}": array for name, array in inputs.further.items()}
    if inputs.denoising is not None:
        leaves |= {"dn_bboxes": inputs.denoising.boxes, "dn_scores": inputs.denoising.logits}
        leaves |= {f"dn_{name}": array for name, array in inputs.denoising.further.items()}
    return leaves


def _step_losses(
    spec: LossSpec,
    config: LossConfig,
    inputs: Inputs,
    pairs: StepPairs,
    beside: Beside,
    leaves: Mapping[str, Sequence[Array]],
) -> StepLosses:
    """The losses of ordinary and of denoising queries."""
    dn = inputs.denoising
    ordinary, denoising = _layers(leaves, "pred_"), _layers(leaves, "dn_")
    layers = spec.denoising.ordinary(ordinary, denoising)
    counts = _matched_and_others(layers[-1], pairs.ordinary[-1].boxes)
    part = partial(part_losses, spec, config, has_denoising=dn is not None, beside=beside, counts=counts)
    of_ordinary = part(layers, inputs.targets, pairs.ordinary, constants=inputs.constants)
    of_denoising = None
    if dn is not None:
        own, groups = spec.denoising.targets(inputs.targets), dn.groups
        of_denoising = part(denoising, own, pairs.denoising, constants=dn.constants, groups=groups)
    number = sum(inputs.targets.counts)
    return StepLosses(of_ordinary, of_denoising, config.aux_loss, config.classification, number)


def _layers(leaves: Mapping[str, Any], prefix: str) -> list[Layer]:
    """The inputs whose names begin so, layer by layer; none if there are no such inputs."""
    arrays = {name.removeprefix(prefix): each for name, each in leaves.items() if name.startswith(prefix)}
    layers = [dict(zip(arrays, each, strict=True)) for each in zip(*arrays.values(), strict=True)]
    return [Layer(each.pop("bboxes"), each.pop("scores"), each) for each in layers]


def part_losses(
    spec: LossSpec,
    config: LossConfig,
    layers: Sequence[Layer],
    targets: Targets,
    pairs: Sequence[Pairs],
    *,
    has_denoising: bool,
    constants: Mapping[str, Any],
    beside: Beside,
    counts: tuple[int, int],
    groups: int | None = None,
) -> PartLosses:
    """The losses of the main layer, and those of the auxiliary layers; `groups` makes it the denoising part."""
    layers = spec.layers.arranged(layers, groups is not None)
    stack = Stack(len(layers), groups is not None, has_denoising)
    tally = Tally(
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
        counted = beside.put_into(replace(tally, queries=layer.boxes.shape[1]), place)
        given = TermInputs(layer, layers[-1], place, (), targets, constants, counts)
        extra = extra_losses(spec, config, stack, given, own, counted)
        losses.append(spec.layer(spec, config, layer, own, targets, counted) | extra)
    main = [_counted(each, weight) for each, weight in zip(losses, spec.layers.main(stack), strict=True) if weight]
    weights = spec.layers.auxiliary(stack) if config.aux_loss else [0.0] * len(losses)
    auxiliary = [_counted(each, weight) for each, weight in zip(losses, weights, strict=True) if weight]
    nothing = dict.fromkeys(losses[0], np.zeros(()))
    return PartLosses(_total(spec, main) or nothing, auxiliary, _total(spec, auxiliary) or nothing, len(layers))


def _counted(losses: Mapping[str, Any], weight: float) -> dict[str, Any]:
    return {term: loss if weight == 1.0 else loss * weight for term, loss in losses.items()}


def _total(spec: LossSpec, layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of each term over the layers that have it."""
    terms = dict.fromkeys(term for each in layers for term in each)
    return {term: spec.layers.total([each[term] for each in layers if term in each]) for term in terms}


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
                divisor = spec.divisor(name, replace(tally, pairs=_counts(own), about=term.pairs))
                losses[name] = spec.gain(total / divisor, name, config)
    return losses


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
    given = tracked_like(layer.boxes, targets.boxes)
    targets = targets._replace(boxes=spec.target_boxes(given))
    classes, scores = classes_and_scores(spec, layer, pairs.classes, targets, config.nc)
    own = replace(tally, pairs=_counts(pairs.classes))
    losses = {"class": class_loss_of(spec, config, layer.logits, classes, scores, own)}
    (images, queries), chosen = flat(pairs.boxes)
    boxes = spec.matched_boxes(layer.boxes, images, queries)
    own = replace(tally, pairs=_counts(pairs.boxes), about="boxes")
    return losses | box_losses_of(spec, config, boxes, targets.boxes[chosen], own)


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


def classes_and_scores(
    spec: LossSpec, layer: Layer, pairs: Sequence[Matching], targets: Targets, nc: int
) -> tuple[Int64[np.ndarray, "images queries"], Float[Array, "images queries"]]:
    """What each query is classified as, `nc` for background, and its target score, 0 for background."""
    (images, queries), chosen = flat(pairs)
    classes = spec.labels(pairs, targets, *layer.boxes.shape[:2], nc)
    scores: Array = tracked_like(layer.boxes, np.zeros(classes.shape))
    with np.errstate(all="ignore"):
        scored = spec.score(layer.boxes[images, queries], targets.boxes[chosen], spec.guard)
    if isinstance(scores, np.ndarray) and isinstance(scored, np.ndarray):
        scores[images, queries] = scored
    else:  # a score that is not detached
        scores = _scattered(scored, images, queries, classes.shape)
    return classes, scores


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


def _scattered(values: Array, images: np.ndarray, queries: np.ndarray, shape: tuple[int, ...]) -> Array:
    """Zeros with these values in their places, differentiable."""
    row = np.full(shape, len(images))
    row[images, queries] = np.arange(len(images))
    return np.concatenate([values, np.zeros(1)])[row]


def _matched_and_others(layer: Layer, pairs: Sequence[Matching]) -> tuple[int, int]:
    """How many queries of a layer are in pairs, and how many are not."""
    images, queries = layer.boxes.shape[:2]
    matched = sum(_counts(pairs))
    return matched, images * queries - matched


def _counts(pairs: Sequence[Matching]) -> tuple[int, ...]:
    return tuple(len(queries) for queries, _ in pairs)


def flat(
    matching: Sequence[Matching],
) -> tuple[tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]], Int64[np.ndarray, " pairs"]]:
    """All pairs of a batch as flat indices: ((image, query), target)."""
    images = [np.full(len(queries), image) for image, (queries, _) in enumerate(matching)]
    queries, targets = ([pair[side] for pair in matching] for side in (0, 1))
    return (_joined(images), _joined(queries)), _joined(targets)


def _joined(parts: Sequence[np.ndarray]) -> Int64[np.ndarray, " pairs"]:
    """Indices of all images in one array, also where there is none."""
    return np.concatenate([np.zeros(0), *parts]).astype(np.int64)
