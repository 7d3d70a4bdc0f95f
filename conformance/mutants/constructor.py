"""Mutants in what becomes of options that are not passed, and of those that are passed by position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.properties.port import LATER
from detr_conformance.reference.options import GeneratorConfig, LossConfig, MatcherConfig

Options = LossConfig | MatcherConfig | GeneratorConfig

LOSS, MATCHER, GENERATOR = "built", "matcher.built", "denoising.generator.called"
"""Where a spec says what becomes of options."""
SIGNATURE = "loss specification: DETRLoss(nc, loss_gain, aux_loss, use_fl, use_vfl, …, gamma, alpha), with its defaults"
OF_MATCHER = "loss specification: HungarianMatcher(cost_gain, use_fl, with_mask, num_sample_points, alpha, gamma)"
OF_GENERATOR = "loss specification: get_cdn_group(…, num_dn, cls_noise_ratio, box_noise_scale, training)"
ATTRIBUTES_OF_A_LOSS = "loss specification: loss_gain, aux_loss and use_uni_match are attributes of a loss"
GAINS = {"class": 1.0, "bbox": 5.0, "giou": 2.0}


def wrong_default(path: str, name: str, right: object, wrong: object) -> Change:
    """An option that is not passed, since it is at its default, has another value."""

    def built(as_meant: Callable[..., Options], options: Options, passing: str) -> Options:
        options = as_meant(options, passing)
        left_out = passing == "defaults" and getattr(options, name) == right
        return _changed(options, **{name: wrong}) if left_out else options

    return wrapped(path, built)


def exchanged(path: str, one: str, other: str) -> Change:
    """Two arguments in each other's place."""

    def built(as_meant: Callable[..., Options], options: Options, passing: str) -> Options:
        options = as_meant(options, passing)
        if passing != "positions":
            return options
        return _changed(options, **{one: getattr(options, other), other: getattr(options, one)})

    return wrapped(path, built)


def changed_later(**before: Any) -> Change:
    """Options that a loss was built with, and keeps."""

    def built(as_meant: Callable[..., Options], options: Options, passing: str) -> Options:
        options = as_meant(options, passing)
        return _changed(options, **before) if passing == LATER else options

    return wrapped(LOSS, built)


def _changed(options: Options, **changes: Any) -> Options:  # of any option
    return replace(options, **changes)


CONSTRUCTOR_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "plausible-default-gamma-of-the-paper",
        "API",
        "Where no gamma is passed it is the focal paper's 2. Right: 1.5. Shows in a loss that is built without one.",
        SIGNATURE,
        wrong_default(LOSS, "gamma", 1.5, 2.0),
    ),
    Mutant(
        "plausible-default-alpha-of-varifocal",
        "API",
        "Where no alpha is passed it is the varifocal paper's 0.75. Right: 0.25, whatever the classification loss. "
        "Shows in a loss that is built without one.",
        SIGNATURE,
        wrong_default(LOSS, "alpha", 0.25, 0.75),
    ),
    Mutant(
        "plausible-default-loss-varifocal",
        "API",
        "The varifocal loss is the default. Right: the focal loss. Shows in a loss that is built without use_vfl.",
        SIGNATURE,
        wrong_default(LOSS, "use_vfl", right=False, wrong=True),
    ),
    Mutant(
        "plausible-default-loss-cross-entropy",
        "API",
        "The cross-entropy is the default. Right: the focal loss. Shows in a loss that is built without use_fl.",
        SIGNATURE,
        wrong_default(LOSS, "use_fl", right=True, wrong=False),
    ),
    Mutant(
        "plausible-default-gains-of-the-matcher",
        "API",
        "Where no gains are passed that of classes is 2, as in the matcher. Right: 1. Shows in a loss that is built "
        "without gains.",
        SIGNATURE,
        wrong_default(LOSS, "loss_gain", GAINS, {**GAINS, "class": 2.0}),
    ),
    Mutant(
        "plausible-default-without-auxiliary",
        "API",
        "Auxiliary losses have to be asked for. Right: they are there unless aux_loss is off. Shows in the keys of a "
        "loss that is built without it.",
        SIGNATURE,
        wrong_default(LOSS, "aux_loss", right=True, wrong=False),
    ),
    Mutant(
        "plausible-default-shared-matching",
        "API",
        "Auxiliary layers share a matching unless they are told not to. Right: each has its own. Shows from three "
        "layers on, in a loss that is built without use_uni_match.",
        SIGNATURE,
        wrong_default(LOSS, "use_uni_match", right=False, wrong=True),
    ),
    Mutant(
        "plausible-default-second-layer-shared",
        "API",
        "The matching that auxiliary layers share is by default the second one's. Right: the first one's. Shows from "
        "three layers on, with use_uni_match alone.",
        SIGNATURE,
        wrong_default(LOSS, "uni_match_ind", 0, 1),
    ),
    Mutant(
        "plausible-gamma-and-alpha-exchanged",
        "API",
        "The constructor takes alpha before gamma, as the matcher does. Right: gamma before alpha. Shows in a loss "
        "whose options are passed by position.",
        SIGNATURE,
        exchanged(LOSS, "gamma", "alpha"),
    ),
    Mutant(
        "plausible-use-fl-and-use-vfl-exchanged",
        "API",
        "The constructor takes use_vfl before use_fl. Right: use_fl before use_vfl. Shows in a focal loss whose "
        "options are passed by position.",
        SIGNATURE,
        exchanged(LOSS, "use_fl", "use_vfl"),
    ),
    Mutant(
        "plausible-matcher-default-gains-of-the-loss",
        "API",
        "A matcher without arguments has the gains that the loss gives to its own, class 2. Right: class 1. Shows in "
        "a matcher that is built without gains.",
        OF_MATCHER,
        wrong_default(MATCHER, "cost_gain", GAINS, {**GAINS, "class": 2.0}),
    ),
    Mutant(
        "plausible-matcher-default-gamma-of-the-loss",
        "API",
        "A matcher without arguments has the loss's gamma, 1.5. Right: 2. Shows between two queries of nearly equal "
        "cost.",
        OF_MATCHER,
        wrong_default(MATCHER, "gamma", 2.0, 1.5),
    ),
    Mutant(
        "plausible-matcher-gamma-and-alpha-exchanged",
        "API",
        "The matcher takes gamma before alpha, as the loss does. Right: alpha before gamma. Shows in a matcher whose "
        "options are passed by position.",
        OF_MATCHER,
        exchanged(MATCHER, "gamma", "alpha"),
    ),
    Mutant(
        "plausible-generator-default-training",
        "API",
        "The generator makes denoising queries unless it is told that this is no training. Right: only where it is "
        "told that it is. Shows in validation, in a call without that argument.",
        OF_GENERATOR,
        wrong_default(GENERATOR, "training", right=False, wrong=True),
    ),
    Mutant(
        "plausible-generator-noises-exchanged",
        "API",
        "The generator takes box_noise_scale before cls_noise_ratio. Right: the other way round. Shows in a call by "
        "position, as Ultralytics' head makes it.",
        OF_GENERATOR,
        exchanged(GENERATOR, "cls_noise_ratio", "box_noise_scale"),
    ),
    Mutant(
        "plausible-gains-kept-from-the-constructor",
        "API",
        "The gains are multiplied into the terms when the loss is built, and loss_gain is a record of them. Right: it "
        "is read at every call. Shows where it is changed later.",
        ATTRIBUTES_OF_A_LOSS,
        changed_later(loss_gain={"class": 2.0, "bbox": 10.0, "giou": 4.0}),
    ),
    Mutant(
        "plausible-gamma-kept-from-the-constructor",
        "API",
        "A fused loss keeps the gamma that it was built with. Right: that of fl or vfl is read at every call. Shows "
        "where it is changed later.",
        ATTRIBUTES_OF_A_LOSS,
        changed_later(gamma=3.0),
    ),
    Mutant(
        "plausible-auxiliary-kept-from-the-constructor",
        "API",
        "Which losses there are is decided when the loss is built. Right: aux_loss is read at every call. Shows where "
        "it is changed later.",
        ATTRIBUTES_OF_A_LOSS,
        changed_later(aux_loss=False),
    ),
    Mutant(
        "plausible-shared-matching-kept-from-the-constructor",
        "API",
        "Whether auxiliary layers share a matching is decided when the loss is built. Right: use_uni_match is read at "
        "every call. Shows where it is changed later.",
        ATTRIBUTES_OF_A_LOSS,
        changed_later(use_uni_match=False),
    ),
)
