"""Mutants in the matching of a batch: indices, what a broken cost becomes, and how the loss builds its matcher."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig, Matching, replace_in
from detr_conformance.reference.matcher import MaskInputs, Matcher, Targets
from detr_conformance.reference.options import MatcherConfig
from detr_conformance.reference.rounding import plain

Batch = Callable[..., list[Matching]]


def as_many_as_images(right: Batch, *args: Any) -> list[Matching]:
    """Stops after as many pairs as the batch has images."""
    matchings = right(*args)
    return [(queries[: len(matchings)], chosen[: len(matchings)]) for queries, chosen in matchings]


def previous_offset(right: Batch, *args: Any) -> list[Matching]:
    """Offsets the targets of an image by the number of those of the image before it: right for the first two."""
    matchings, (_, _, _, _, targets, _) = right(*args), args
    offsets = [0, *targets.counts]
    return [
        (queries, chosen - targets.of_image(image).start + offsets[image])
        for image, (queries, chosen) in enumerate(matchings)
    ]


def empty_images_skipped(right: Batch, *args: Any) -> list[Matching]:
    """Returns nothing for an image without targets, so that the images after it move up."""
    return sorted(right(*args), key=lambda pairs: len(pairs[0]) == 0)


def one_problem_for_all(
    right: Batch,
    matcher: Matcher,
    config: MatcherConfig,
    boxes: np.ndarray,
    logits: np.ndarray,
    targets: Targets,
    _masks: MaskInputs | None,
) -> list[Matching]:
    """The whole batch is one problem, in which a query may take a target of another image."""
    images, size = boxes.shape[:2]
    together = boxes.reshape(1, -1, 4), logits.reshape(1, images * size, -1)
    [(queries, chosen)] = right(matcher, config, *together, targets._replace(counts=[sum(targets.counts)]), None)
    owner = queries // size
    return [(queries[owner == image] % size, chosen[owner == image]) for image in range(images)]


def nan_costs_one(cost: np.ndarray) -> np.ndarray:
    """1 for NaN, which is what an ordinary pair costs; a large number for infinity."""
    return np.where(np.isnan(cost), 1.0, np.minimum(np.maximum(cost, -1e30), 1e30))


def nan_costs_most(cost: np.ndarray) -> np.ndarray:
    """The largest number of float32."""
    return np.where(np.isfinite(cost), cost, np.finfo(np.float32).max)


def nan_costs_twice(cost: np.ndarray) -> np.ndarray:
    """Twice the largest finite cost, which is less where all costs are negative."""
    finite = np.isfinite(cost)
    return np.where(finite, cost, 2.0 * plain(cost)[finite].max(initial=-1e30) if finite.any() else 0.0)


def built_with(options: Callable[[LossConfig], dict[str, Any]]) -> Change:
    """The loss builds its matcher with other options, made of its own."""
    return wrapped("matcher.configured", lambda right, config: replace(right(config), **options(config)))


MATCHING_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "scenic-greedy-wrong-axis",
        "MATCH",
        "The number of steps was the smaller of the number of targets and the size of the batch. Right: of targets and "
        "queries. Shows in a batch with fewer images than an image has targets.",
        "google-research/scenic, commit 877ac40",
        wrapped("matcher.batch", as_many_as_images),
    ),
    Mutant(
        "plausible-one-problem-for-the-batch",
        "MATCH",
        "All queries of the batch compete for all targets of the batch. Right: every image is a problem of its own. "
        "Shows with two images.",
        "loss specification, HungarianMatcher: each image's own Q x n_b block",
        wrapped("matcher.batch", one_problem_for_all),
    ),
    Mutant(
        "plausible-offset-of-previous-image",
        "MATCH",
        "Targets of an image are offset by the number of those of the image before it. Right: of all images before it. "
        "Shows in the third image.",
        "loss specification, HungarianMatcher: target indices point into the concatenated targets",
        wrapped("matcher.batch", previous_offset),
    ),
    Mutant(
        "plausible-empty-images-skipped",
        "MATCH",
        "An image without targets adds nothing to the list of matchings, and the next image takes its place. Right: a "
        "pair of empty index arrays. Shows with an empty image that is not the last.",
        "loss specification, HungarianMatcher: B pairs come out",
        wrapped("matcher.batch", empty_images_skipped),
    ),
    Mutant(
        "dfine-nan-cost-to-1",
        "MATCH",
        "A NaN cost became 1, an ordinary cost, which may beat a sound query. Right under this profile: 0; safer: more "
        "than every finite cost. Shows with a NaN prediction.",
        "Peterande/D-FINE, matcher.py",
        lambda spec: replace_in(spec, "matcher.non_finite", nan_costs_one),
    ),
    Mutant(
        "hf-nan-cost-to-largest",
        "MATCH",
        "A cost that is not finite becomes the largest number: safer than this profile's 0, but another convention "
        "than it names. Shows with a NaN prediction.",
        "huggingface/transformers, pull request 47730",
        lambda spec: replace_in(spec, "matcher.non_finite", nan_costs_most),
    ),
    Mutant(
        "rfdetr-nan-replaced-by-nan",
        "MATCH",
        "A broken cost became twice the largest cost: NaN again where that was NaN, and cheaper than every sound one "
        "where all were negative; here it is the largest finite one. Right under this profile: 0. Shows with a NaN "
        "prediction.",
        "roboflow/rf-detr 1.3.0 to 1.5.2, issues 431 and 784",
        lambda spec: replace_in(spec, "matcher.non_finite", nan_costs_twice),
    ),
    Mutant(
        "hf-deformable-class-cost-gain",
        "MATCH",
        "The loss built its matcher with a class gain of 1 where the original has 2. Right: gains 2, 5 and 2, which "
        "are not the matcher's own defaults. Shows in who is matched inside the loss.",
        "huggingface/transformers, configuration of Deformable DETR: class_cost",
        built_with(lambda _config: {"cost_gain": {"class": 1.0, "bbox": 5.0, "giou": 2.0}}),
    ),
    Mutant(
        "plausible-loss-options-in-matcher",
        "MATCH",
        "Alpha and gamma of the loss are handed on to its matcher. Right: the matcher keeps 0.25 and 2. Shows in who "
        "is matched inside a loss with other options.",
        "loss specification, DETRLoss: neither gamma nor alpha of the loss reach the matcher",
        built_with(lambda config: {"alpha": config.alpha, "gamma": config.gamma}),
    ),
    Mutant(
        "plausible-loss-kind-in-matcher",
        "MATCH",
        "A loss without use_fl builds a matcher without it, which takes probabilities by softmax. Right: the matcher's "
        "class cost is the focal one always. Shows in who is matched inside such a loss.",
        "loss specification, DETRLoss: use_fl of the loss does not reach the matcher",
        built_with(lambda config: {"use_fl": config.use_fl}),
    ),
)
