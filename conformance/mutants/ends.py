"""Mutants at the ends: of the ranges of options, where there is one of something, and where numbers are not finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossConfig
from detr_conformance.reference.layers import Stack, Weights
from detr_conformance.reference.rounding import plain

OPTIONS = "loss specification, DETRLoss, options: gamma and gains from 0, alpha from 0 to 1"
ANY_SIZE = "loss specification, arguments: any number of layers, images, queries, classes, targets and groups"
LEAST_ALPHA = float(np.finfo(np.float64).tiny)
"""As good as 0, and above it."""
VISIBLE = "a training loop must see a broken prediction: nothing is replaced or hidden"


def built_with(options: Callable[[LossConfig], dict[str, Any]]) -> Change:
    """The loss is built with other options, made of those that are asked for."""
    return wrapped("options", lambda right, config: right(replace(config, **options(config))))


def gains_or_one(config: LossConfig) -> dict[str, Mapping[str, float]]:
    """A gain of 0 counts as none given."""
    return {"loss_gain": {term: gain or 1.0 for term, gain in config.loss_gain.items()}}


def one_query_averaged(right: Callable[..., Any], terms: Any, *rest: Any) -> Any:  # tracked or taped
    """An axis of one entry is squeezed, and the next one taken for it."""
    total = right(terms, *rest)
    return total / terms.shape[2] if terms.shape[1] == 1 else total


def one_image_averaged(right: Callable[..., Any], terms: Any, *rest: Any) -> Any:  # see above
    """A batch of one image loses its first axis."""
    total = right(terms, *rest)
    return total / terms.shape[1] if terms.shape[0] == 1 else total


def no_main_layer_alone(right: Callable[[Stack], Weights], stack: Stack) -> Weights:
    """The only layer is taken for an auxiliary one."""
    return [0.0] if stack.count == 1 else right(stack)


def without_nan(loss: Any) -> Any:  # see above
    """0 in the place of what is no number."""
    return np.where(np.isnan(plain(loss)), 0.0, loss)


def later_images_cleaned(right: Callable[..., Any], terms: Any, *rest: Any) -> Any:  # see above
    """What is no number in an image after the first counts 0."""
    later = np.arange(terms.shape[0])[:, None, None] > 0
    return right(np.where(later & np.isnan(plain(terms)), 0.0, terms), *rest)


def denoising_cleaned(right: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Losses of denoising queries that are no numbers are 0."""
    losses, tally = right(*args), args[-1]
    return {term: without_nan(loss) for term, loss in losses.items()} if tally.is_denoising else losses


END_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-gamma-at-most-4",
        "CLASS",
        "Gamma is capped at 4. Right: as it is asked for. Shows with a gamma of 5.",
        OPTIONS,
        built_with(lambda config: {"gamma": min(config.gamma, 4.0)}),
    ),
    Mutant(
        "plausible-gamma-or-default",
        "CLASS",
        "`gamma or 1.5` takes a gamma of 0 for none given. Right: no focusing. Shows with a gamma of 0.",
        OPTIONS,
        built_with(lambda config: {"gamma": config.gamma or 1.5}),
    ),
    Mutant(
        "plausible-alpha-at-least-0.05",
        "CLASS",
        "Alpha is kept away from 0. Right: as it is asked for. Shows with an alpha of 0.01.",
        OPTIONS,
        built_with(lambda config: {"alpha": max(config.alpha, 0.05) if config.alpha > 0 else config.alpha}),
    ),
    Mutant(
        "plausible-balance-at-alpha-0",
        "CLASS",
        "`alpha >= 0` balances with an alpha of 0 too, so that foreground counts nothing. Right: it switches the "
        "balance off. Shows with an alpha of 0.",
        "facebookresearch/detr, models/segmentation.py: sigmoid_focal_loss, which others have taken over",
        built_with(lambda config: {"alpha": config.alpha or LEAST_ALPHA}),
    ),
    Mutant(
        "plausible-alpha-or-default",
        "CLASS",
        "`alpha or 0.25` takes an alpha of 0 for none given. Right: no balance. Shows with an alpha of 0.",
        OPTIONS,
        built_with(lambda config: {"alpha": config.alpha or 0.25}),
    ),
    Mutant(
        "plausible-gain-or-default",
        "REG",
        "`gain or 1.0` takes a gain of 0 for none given. Right: 0 switches the term off. Shows with a gain of 0.",
        OPTIONS,
        built_with(gains_or_one),
    ),
    Mutant(
        "plausible-one-query-squeezed",
        "CLASS",
        "`squeeze()` drops the axis of queries where there is one, and the classes are averaged for it. Right: a sum "
        "over all axes. Shows with one query.",
        ANY_SIZE,
        wrapped("class_total", one_query_averaged),
    ),
    Mutant(
        "plausible-one-image-squeezed",
        "CLASS",
        "`squeeze()` drops the axis of images where there is one, and the queries are averaged for it. Right: a sum "
        "over all axes. Shows with one image.",
        ANY_SIZE,
        wrapped("class_total", one_image_averaged),
    ),
    Mutant(
        "plausible-only-layer-auxiliary",
        "AUX",
        "The only layer is taken for an auxiliary one, and the main losses are 0. Right: the last layer is the main "
        "one. Shows with one layer.",
        ANY_SIZE,
        wrapped("layers.main", no_main_layer_alone),
    ),
    Mutant(
        "plausible-nan-hidden-over-layers",
        "NUM",
        "`nansum` adds the losses of auxiliary layers up. Right: a layer that is no number makes the sum none. Shows "
        "with a NaN in an auxiliary layer.",
        VISIBLE,
        wrapped("layers.total", lambda right, losses: right([without_nan(each) for each in losses])),
    ),
    Mutant(
        "plausible-nan-hidden-in-later-images",
        "NUM",
        "What is no number in an image after the first is replaced by 0. Right: it stays visible. Shows with a NaN in "
        "the second image.",
        VISIBLE,
        wrapped("class_total", later_images_cleaned),
    ),
    Mutant(
        "plausible-nan-hidden-in-denoising",
        "NUM",
        "Losses of denoising queries that are no numbers are replaced by 0. Right: they stay visible. Shows with a NaN "
        "in a denoising query.",
        VISIBLE,
        wrapped("layer", denoising_cleaned),
    ),
)
