"""Cases on the targets of real images: real boxes and classes, with predictions scattered around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from detr_conformance.image_targets import CocoTargets, ImageTargets
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.cases_on_targets import case_on_targets, sizes_for
from detr_conformance.properties.numbers import Numbers
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import Rule
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.working import domain_for

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
    layers, queries = max(2, request.layers[0], domain.least_layers), max(gt_groups) + QUERIES_TO_SPARE
    sizes = sizes_for(domain, layers, queries, classes, gt_groups, request.query_groups[0])
    numbers = Numbers(np.random.default_rng(batch), grid=0, special=(), dtype=request.dtype)
    boxes = np.concatenate([image.boxes for image in images])
    boxes = rounded(boxes, "float64" if request.dtype == "float64" else "float32")
    labels = np.concatenate([image.classes for image in images])
    return case_on_targets(boxes, labels, sizes, request, domain, batch, numbers)
