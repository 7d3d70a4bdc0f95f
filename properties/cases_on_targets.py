"""Cases whose sizes and targets are given; what a rule leaves free goes round from case to case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int64

from detr_conformance.properties.case import CLASSIFICATION, GeneratorConfig, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.request import Request
from detr_conformance.properties.strategies import (
    COST_GAINS,
    KEPT,
    Domain,
    Sizes,
    by_term,
    denoising_queries,
    predict,
)

Choice = TypeVar("Choice")


def sizes_for(
    domain: Domain, layers: int, queries: int, classes: int, gt_groups: tuple[int, ...], query_groups: int = 1
) -> Sizes:
    """The structure of a case with so many queries in each group of them."""
    return Sizes(
        layers=layers,
        denoising_layers=domain.denoising_layers(layers) if domain.denoising_layers else max(layers - 1, 1),
        queries=query_groups * queries,
        classes=classes,
        gt_groups=gt_groups,
        columns=domain.columns(classes),
        query_groups=query_groups,
        kept=KEPT if domain.layers_vote else 0.0,
    )


def case_on_targets(
    gt_bboxes: Float[np.ndarray, "targets 4"],
    gt_cls: Int64[np.ndarray, " targets"],
    sizes: Sizes,
    request: Request,
    domain: Domain,
    place: int,
    numbers: Numbers,
    groups: int = 2,
) -> LossCase:
    """A case with predictions for these targets.

    Args:
        gt_bboxes: boxes of the targets, in numbers that the dtype of the request holds.
        gt_cls: their classes.
        sizes: the structure.
        request: what the rule asks for, narrowed to the domain.
        domain: what the port can be asked for.
        place: of the case among others; it decides what the request leaves free.
        numbers: where the predictions come from.
        groups: number of denoising groups, where the request takes any.
    """
    case = predict(gt_bboxes, gt_cls, sizes, _config(request, domain, sizes, place), numbers, request)
    if request.denoising != "never" and groups and case.targets:
        surplus, subset = place % 2 if domain.surplus else 0, domain.denoising_subset and place % 2 == 1
        denoising = denoising_queries(case, sizes.denoising_layers, groups, surplus, subset, numbers)
        case = case.change(denoising=denoising)
    generator = GeneratorConfig(num_dn=(100, 20)[place % 2], seed=place)
    return case.change(matcher=_matcher(request, place), generator=generator)


def _config(request: Request, domain: Domain, sizes: Sizes, place: int) -> LossConfig:
    uni_match, classification = _turn(request.uni_match, place), _turn(request.classification, place)
    uni_match = uni_match and sizes.layers > 1
    return LossConfig(
        nc=sizes.classes,
        loss_gain=by_term(_turn(domain.gains, place)),
        aux_loss=_turn(request.aux_loss, place),
        **CLASSIFICATION[classification],
        use_uni_match=uni_match,
        uni_match_ind=max(sizes.layers - 2 - place % 2, 0) if uni_match else 0,
        gamma=_turn(domain.gammas_of(classification), place),
        alpha=_turn(domain.alphas, place),
        query_groups=sizes.query_groups,
    )


def _matcher(request: Request, place: int) -> MatcherConfig:
    if not request.matcher_options:
        return MatcherConfig()
    return MatcherConfig(cost_gain=by_term(_turn(COST_GAINS, place)), use_fl=place % 2 == 0)


def _turn(choices: Sequence[Choice], place: int) -> Choice:
    return choices[place % len(choices)]
