"""Cases on the targets of real images: real boxes and classes, with predictions scattered around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TypeVar

import numpy as np

from detr_conformance.coco import CocoTargets, ImageTargets
from detr_conformance.properties.case import CLASSIFICATION, GeneratorConfig, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.strategies import (
    COST_GAINS,
    KEPT,
    Domain,
    Sizes,
    by_term,
    denoising_queries,
    predict,
)
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.working import domain_for

Choice = TypeVar("Choice")

BATCH = 8
"""Images in a batch."""
BATCHES = {"smoke": 2, "standard": None, "exhaustive": None}
"""How many batches each rule sees, by level; None for all."""
QUERIES_TO_SPARE = 8
"""Queries beyond the largest number of targets of an image."""
LOGIT_SCALE = 1.5
"""Among so many classes and queries a wider spread has saturated logits, whose matching cost float32 cannot resolve."""


def real_cases(targets: CocoTargets, rule: Rule, judged: PortUnderTest, level: str) -> Iterator[LossCase]:
    """Cases for a rule on real targets, batch by batch in the order of the file; none if the rule takes no targets.

    Options that a rule leaves free, such as the classification loss, change from batch to batch. The numbers come
    from generators seeded by the batch: same file, same cases.

    Args:
        targets: the targets of the images.
        rule: decides what the cases look like.
        judged: decides what the port can be asked for.
        level: smoke takes the first batches, standard and exhaustive all.
    """
    domain = domain_for(rule.request, judged)
    request = replace(domain.narrow(rule.request), logit_scale=LOGIT_SCALE)
    if not request.real or request.all_empty:
        return
    images = [image for image in targets.images if len(image.classes) >= request.targets[0]]
    # A last batch that is too small for the rule takes in images before it.
    latest = max(len(images) - request.images[0], 0)
    starts = (min(start, latest) for start in range(0, len(images), BATCH))
    for batch, start in enumerate(islice(starts, BATCHES[level])):
        yield _case(images[start : start + BATCH], targets.num_classes, request, domain, batch)


def _case(images: Sequence[ImageTargets], classes: int, request: Request, domain: Domain, batch: int) -> LossCase:
    """One batch of images as a case."""
    gt_groups = tuple(len(image.classes) for image in images)
    layers = max(2, request.layers[0], domain.least_layers)
    denoising_layers = domain.denoising_layers(layers) if domain.denoising_layers else layers - 1
    numbers = Numbers(np.random.default_rng(batch), grid=0, special=(), dtype=request.dtype)
    groups, queries = request.query_groups[0], max(gt_groups) + QUERIES_TO_SPARE
    sizes = Sizes(
        layers=layers,
        denoising_layers=denoising_layers,
        queries=groups * queries,
        classes=classes,
        gt_groups=gt_groups,
        columns=domain.columns(classes),
        query_groups=groups,
        kept=KEPT if domain.layers_vote else 0.0,
    )
    boxes = rounded(
        np.concatenate([image.boxes for image in images]), "float64" if request.dtype == "float64" else "float32"
    )
    labels = np.concatenate([image.classes for image in images])
    case = predict(boxes, labels, sizes, _config(request, domain, sizes, batch), numbers, request)
    if request.denoising != "never" and case.targets:
        surplus, subset = batch % 2 if domain.surplus else 0, domain.denoising_subset and batch % 2 == 1
        case = case.change(denoising=denoising_queries(case, denoising_layers, 2, surplus, subset, numbers))
    return case.change(
        matcher=_matcher(request, batch), generator=GeneratorConfig(num_dn=(100, 20)[batch % 2], seed=batch)
    )


def _config(request: Request, domain: Domain, sizes: Sizes, batch: int) -> LossConfig:
    """A configuration that the rule asks for; what it leaves free goes round with the batches."""
    uni_match = _turn(request.uni_match, batch)
    return LossConfig(
        nc=sizes.classes,
        loss_gain=by_term(_turn(domain.gains, batch)),
        aux_loss=_turn(request.aux_loss, batch),
        **CLASSIFICATION[_turn(request.classification, batch)],
        use_uni_match=uni_match,
        uni_match_ind=batch % (sizes.layers - 1) if uni_match else 0,
        gamma=_turn(domain.gammas, batch),
        alpha=_turn(domain.alphas, batch),
        query_groups=sizes.query_groups,
    )


def _matcher(request: Request, batch: int) -> MatcherConfig:
    if not request.matcher_options:
        return MatcherConfig()
    return MatcherConfig(cost_gain=by_term(_turn(COST_GAINS, batch)), use_fl=batch % 2 == 0)


def _turn(choices: Sequence[Choice], batch: int) -> Choice:
    return choices[batch % len(choices)]
