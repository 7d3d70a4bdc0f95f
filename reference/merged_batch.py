"""The losses of ranks and of micro-batches, whose normalisers count in the other batches of the step too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from detr_conformance.reference.inputs import Inputs
from detr_conformance.reference.loss import Criterion, pairs_of_step
from detr_conformance.reference.loss_value import Losses
from detr_conformance.reference.matcher import pairs_of_each_image
from detr_conformance.reference.normaliser import LayerTally, Tally
from detr_conformance.reference.options import LossConfig
from detr_conformance.reference.pairing import Pairs
from detr_conformance.reference.spec import LossSpec


def losses_of_ranks(spec: LossSpec, config: LossConfig, ranks: Sequence[Inputs], named: bool = False) -> list[Losses]:
    """The losses of every rank of a data-parallel run, each computed of its own batch.

    Args:
        spec: the conventions.
        config: the options.
        ranks: what each rank is called with.
        named: as in `Criterion`.
    """
    merged = MergedBatch(ranks=[tallies_of_step(spec, config, each) for each in ranks])
    return [Criterion(spec, config)(each, named, merged.with_the_others) for each in ranks]


def losses_of_steps(spec: LossSpec, config: LossConfig, steps: Sequence[Inputs], named: bool = False) -> list[Losses]:
    """The losses of every micro-batch of an optimiser step, all with the normaliser of the merged batch.

    Arguments are those of `losses_of_ranks`.
    """
    merged = MergedBatch(steps=[tallies_of_step(spec, config, each) for each in steps])
    return [Criterion(spec, config)(each, named, merged.with_the_others) for each in steps]


@dataclass(frozen=True)
class MergedBatch:
    """The batches whose gradients make one optimiser step: one for each rank, or one for each micro-batch.

    Attributes:
        ranks: what the batch of each rank of a data-parallel run has.
        steps: what each micro-batch has.
    """

    ranks: Sequence[StepTallies] = ()
    steps: Sequence[StepTallies] = ()

    def with_the_others(self, tally: Tally, place: int) -> Tally:
        """The tally of the layer in this place, with those of the other batches."""
        ranks, steps = (
            tuple(each.of_layer(tally.is_denoising, place) for each in batches) for batches in (self.ranks, self.steps)
        )
        return replace(tally, ranks=ranks, steps=steps)


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
        """That of one layer. A batch that does not have it, as one without denoising queries, has no pairs there."""
        layers = self.denoising if is_denoising else self.ordinary
        if place < len(layers):
            return layers[place]
        nothing = replace(self.ordinary[0].classes, pairs=(), groups=1, is_denoising=is_denoising)
        return LayerTally(nothing, nothing)


def tallies_of_step(spec: LossSpec, config: LossConfig, inputs: Inputs) -> StepTallies:
    """Count what there is to divide by, without computing a loss."""
    config = spec.options(config)
    pairs, dn = pairs_of_step(spec, config, inputs), inputs.denoising
    counts, nc, groups = tuple(inputs.targets.counts), config.nc, spec.query_groups(config)
    tally = Tally((), counts, inputs.boxes.shape[2], nc, len(pairs.ordinary), query_groups=groups)
    ordinary = [_layer_tally(tally, own) for own in pairs.ordinary]
    if dn is None:
        return StepTallies(ordinary, ())
    tally = Tally((), counts, dn.boxes.shape[2], nc, len(pairs.denoising), dn.groups, True, query_groups=groups)
    return StepTallies(ordinary, [_layer_tally(tally, own) for own in pairs.denoising])


def _layer_tally(tally: Tally, pairs: Pairs) -> LayerTally:
    """The tally with either kind of pairs."""
    boxes = replace(tally, pairs=pairs_of_each_image(pairs.boxes), about="boxes")
    return LayerTally(replace(tally, pairs=pairs_of_each_image(pairs.classes)), boxes)
