"""Mutants that take a shortcut which is right for most batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Mutant
from detr_conformance.mutants.sizes import ANY_SIZE, few_candidates
from detr_conformance.mutants.state import FUNCTION, Asked, MoreEffects, leaving
from detr_conformance.reference import Inputs, LossConfig, LossSpec
from detr_conformance.reference.family import DFINE
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.pairing import Match, Pairs
from detr_conformance.reference.tape import Array

BLOCK = 8192


def whole_blocks(right: Callable[..., Array], terms: Array, matched: np.ndarray, config: LossConfig) -> Array:
    """Queries of the batch in whole blocks, if there is one."""
    counted = matched.size // BLOCK * BLOCK or matched.size
    is_counted = (np.arange(matched.size) < counted).reshape(matched.shape)
    return right(terms * is_counted[..., None], matched, config)


class MatchedByBoxes(MoreEffects):
    """Layers with the same boxes share a matching."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """Each layer has that of the first one whose boxes are its own."""

        def shared(right: Callable[..., list[Pairs]], match: Match, layers: int, config: LossConfig) -> list[Pairs]:
            found = right(match, layers, config)
            return [found[_first_alike(inputs.boxes, layer)] for layer in range(layers)]

        return wrapped("pairing", shared)(spec), config, inputs


def _first_alike(layers: Float[np.ndarray, "layers images queries 4"], layer: int) -> int:
    return next(place for place, boxes in enumerate(layers) if np.allclose(boxes, layers[layer], equal_nan=True))


@dataclass
class DenoisedTargetsRemembered(MoreEffects):
    """The targets of denoising queries are prepared once for each number of slots."""

    known: dict[tuple[int, ...], Targets] = field(default_factory=dict)

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The first targets with so many slots."""
        if inputs.denoising is None:
            return spec, config, inputs
        slots = tuple(len(each) for each in inputs.denoising.pos_idx)

        def remembered(right: Callable[[Targets], Targets], targets: Targets) -> Targets:
            return self.known.setdefault(slots, right(targets))

        return wrapped("denoising.targets", remembered)(spec), config, inputs


SHORTCUT_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-matching-of-layers-with-equal-boxes",
        "AUX",
        "A layer whose boxes are those of an earlier one takes over its matching, which saves time late in training. "
        "Right: logits decide too. Shows where layers agree in boxes and not in logits.",
        "loss specification, DETRLoss: every layer is matched by its own costs",
        leaving(MatchedByBoxes),
    ),
    Mutant(
        "plausible-queries-in-whole-blocks",
        "CLASS",
        "Classification goes through the queries of a batch in blocks of 8,192, of which the last, smaller one is left "
        "out. Right: all queries. Shows with ten images of 900 queries.",
        ANY_SIZE,
        wrapped("class_total", whole_blocks),
    ),
    Mutant(
        "plausible-fifty-candidates-of-each-target",
        "MATCH",
        "Only queries that are among the fifty cheapest of some target are matched. Right: all queries. Shows with a "
        "hundred targets that want the same queries.",
        ANY_SIZE,
        wrapped("matcher.assign", partial(few_candidates, number=50)),
    ),
    Mutant(
        "plausible-denoised-targets-kept-by-slots",
        "NUM",
        "Targets of denoising queries are prepared once for each number of slots. Right: prepared anew. Shows in a "
        "second call with other targets in as many slots.",
        FUNCTION,
        leaving(DenoisedTargetsRemembered),
    ),
    Mutant(
        "plausible-bins-of-denoised-targets-kept-by-slots",
        "DIST",
        "Bins and shares of denoising queries are made once for each number of slots, with all else of their targets. "
        "Right: made anew. Shows in a second call with other targets in as many slots.",
        FUNCTION,
        leaving(DenoisedTargetsRemembered),
        home=DFINE,
    ),
)
