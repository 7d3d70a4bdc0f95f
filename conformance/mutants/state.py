"""Mutants in what a call leaves behind: in the loss object, in its class, in the whole process."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import Inputs, LossConfig, LossSpec, wrap_in
from detr_conformance.reference.inputs import DenoisingInputs
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.normaliser import Normaliser, Tally, per_query
from detr_conformance.reference.spec import SideEffects

Asked = tuple[LossSpec, LossConfig, Inputs]
"""What a call is made with."""


@dataclass
class MoreEffects(SideEffects):
    """Side effects on top of those that a loss has already."""

    others: SideEffects

    def before(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """Those of the others, then these."""
        return self.ask(*self.others.before(spec, config, inputs))

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """What is made of a call."""
        return spec, config, inputs

    def after(self, inputs: Inputs) -> None:
        """Those of the others."""
        self.others.after(inputs)


def leaving(effects: Callable[[SideEffects], SideEffects]) -> Change:
    """A loss with more side effects."""
    return lambda spec: wrap_in(spec, "side_effects", lambda right: lambda: effects(right()))


@dataclass
class Schedule(MoreEffects):
    """Every call changes the options of those after it: a function of options and inputs."""

    step: Callable[[LossConfig, Inputs], LossConfig]
    past: list[Inputs] = field(default_factory=list)

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The options after all calls so far."""
        config = reduce(self.step, self.past, config)
        self.past.append(inputs)
        return spec, config, inputs


def rounded_alpha(config: LossConfig, inputs: Inputs) -> LossConfig:
    """Alpha in the precision of the predictions."""
    mantissa, exponent = np.frexp(config.alpha)
    step = inputs.arithmetic.eps / 2
    return replace(config, alpha=float(np.ldexp(np.round(mantissa / step) * step, exponent)))


def faded_gains(config: LossConfig, _inputs: Inputs) -> LossConfig:
    """The gains less a thousandth."""
    return replace(config, loss_gain={term: 0.999 * gain for term, gain in config.loss_gain.items()})


def larger_gamma(config: LossConfig, _inputs: Inputs) -> LossConfig:
    """Gamma and a thousandth."""
    return replace(config, gamma=config.gamma + 0.001)


def one_dict_for_all(spec: LossSpec) -> LossSpec:
    """The first loss writes its gains into the default of all others."""
    gains: dict[str, float] = {}

    def options(right: Callable[[LossConfig], LossConfig], config: LossConfig) -> LossConfig:
        gains.update({**config.loss_gain, **gains})
        return right(replace(config, loss_gain=gains))

    return wrapped("options", options)(spec)


class RunningNormaliser(MoreEffects):
    """The normaliser is a running average of the number of pairs."""

    average: float | None = None

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """Every number of pairs in proportion."""
        pairs = sum(min(count, inputs.boxes.shape[2]) for count in inputs.targets.counts)
        self.average = pairs if self.average is None else 0.9 * self.average + 0.1 * pairs
        share = max(self.average, 1.0) / max(pairs, 1)

        def averaged(right: Normaliser) -> Normaliser:
            return right if right is per_query else lambda tally: share * right(tally)

        normaliser = {term: averaged(right) for term, right in spec.normaliser.items()}
        return replace(spec, normaliser=normaliser), config, inputs


@dataclass
class TargetsRemembered(MoreEffects):
    """Targets are prepared once for each row of counts."""

    known: dict[tuple[int, ...], Targets] = field(default_factory=dict)

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The first targets with these counts."""
        known = self.known.setdefault(tuple(inputs.targets.counts), inputs.targets)
        return spec, config, replace(inputs, targets=known)


class DriftingGains(MoreEffects):
    """From the eleventh call on gains are larger."""

    calls = 0

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """A tenth more."""
        self.calls += 1
        factor = 1.1 if self.calls > 10 else 1.0
        return spec, replace(config, loss_gain={term: factor * gain for term, gain in config.loss_gain.items()}), inputs


class FirstBatchSize(MoreEffects):
    """Buffers are as large as the first batch."""

    images: int | None = None

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """Images beyond have no targets."""
        self.images = self.images or len(inputs.targets.counts)
        counts = [count if image < self.images else 0 for image, count in enumerate(inputs.targets.counts)]
        boxes, classes = (each[: sum(counts)] for each in (inputs.targets.boxes, inputs.targets.classes))
        return (
            spec,
            config,
            replace(inputs, targets=inputs.targets._replace(boxes=boxes, classes=classes, counts=counts)),
        )


class LargestNormaliser(RunningNormaliser):
    """The normaliser never falls below that of an earlier call."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The largest number of pairs so far."""
        pairs = sum(min(count, inputs.boxes.shape[2]) for count in inputs.targets.counts)
        self.average = max(self.average or 0.0, pairs)
        share = max(self.average, 1.0) / max(pairs, 1)
        normaliser = {
            term: right if right is per_query else partial(_times, share, right)
            for term, right in spec.normaliser.items()
        }
        return replace(spec, normaliser=normaliser), config, inputs


def _times(share: float, right: Normaliser, tally: Tally) -> float:
    return share * right(tally)


class SampledQueries(MoreEffects):
    """The classification loss of a random part of the queries, put in proportion by their expected share."""

    draws = np.random.default_rng(0)

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """A share for each call."""
        share = self.draws.uniform(0.5, 1.5)
        sampled = wrapped("class_total", lambda right, *terms: share * right(*terms))
        return sampled(spec), config, inputs


@dataclass
class DenoisingPairsByCounts(MoreEffects):
    """Pairs of denoising queries are computed once for so many targets of each image in so many groups."""

    known: dict[Any, DenoisingInputs] = field(default_factory=dict)

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """The slots and targets of the first such call."""
        dn = inputs.denoising
        if dn is None:
            return spec, config, inputs
        counts = (dn.groups, *inputs.targets.counts, *map(len, dn.pos_idx))
        first = self.known.setdefault(counts, dn)
        return spec, config, replace(inputs, denoising=replace(dn, pos_idx=first.pos_idx, gt_idx=first.gt_idx))


class GlobalSeed(MoreEffects):
    """NumPy's global generator starts anew."""

    def after(self, inputs: Inputs) -> None:
        """With the same numbers."""
        super().after(inputs)
        np.random.seed(42)  # noqa: NPY002  # what is wrong here


class GainsInPlace(MoreEffects):
    """A gain is multiplied into the caller's own dictionary, call after call."""

    def ask(self, spec: LossSpec, config: LossConfig, inputs: Inputs) -> Asked:
        """Four times as much as before."""
        if isinstance(config.loss_gain, dict):
            config.loss_gain["bbox"] *= 4.0
        return spec, config, inputs


class PythonSeed(MoreEffects):
    """Python's global generator starts anew."""

    def after(self, inputs: Inputs) -> None:
        """With the same numbers."""
        super().after(inputs)
        random.seed(42)


FUNCTION = "loss specification: a loss is a function of its arguments"

STATE_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ul-focal-alpha-state-leak",
        "NUM",
        "The focal loss stored its alpha in the precision of the predictions, and it stayed rounded. Right: a cast of "
        "its own for each call. Shows after a bfloat16 batch, with an alpha of 0.1.",
        "ultralytics/ultralytics 8.3.121 to 8.4.190, utils/loss.py",
        leaving(partial(Schedule, step=rounded_alpha)),
    ),
    Mutant(
        "paddle-mutable-default-gains",
        "NUM",
        "The constructor wrote into its default dict of gains, and the next loss began with what it found there. "
        "Right: a copy. Shows when a second loss is built.",
        "PaddlePaddle/PaddleDetection, DETRLoss: loss_coeff",
        one_dict_for_all,
    ),
    Mutant(
        "plausible-gains-scaled-in-place",
        "NUM",
        "A schedule changes the gains with each call. Right: a loss is a function. Shows in a second call.",
        FUNCTION,
        leaving(partial(Schedule, step=faded_gains)),
    ),
    Mutant(
        "plausible-gamma-drift",
        "NUM",
        "A schedule changes gamma with each call. Right: a loss is a function. Shows in a second call.",
        FUNCTION,
        leaving(partial(Schedule, step=larger_gamma)),
    ),
    Mutant(
        "plausible-running-normaliser",
        "NUM",
        "The normaliser is an average over the calls so far. Right: the number of pairs. Shows in a call with another "
        "number of pairs.",
        FUNCTION,
        leaving(RunningNormaliser),
    ),
    Mutant(
        "plausible-denoising-pairs-cached-by-counts",
        "NUM",
        "Pairs of denoising queries were kept for the next batch with as many targets in each image. Right: other "
        "targets may be denoised then. Shows in a second call, where an image has more targets than num_dn.",
        FUNCTION,
        leaving(DenoisingPairsByCounts),
    ),
    Mutant(
        "plausible-targets-cached-by-count",
        "NUM",
        "Targets are prepared once and found again by the numbers of targets of the images. Right: prepared anew. "
        "Shows in a second call with other targets, as many.",
        FUNCTION,
        leaving(TargetsRemembered),
    ),
    Mutant(
        "plausible-sampled-queries",
        "NUM",
        "Only a random part of the queries is classified, as two-stage detectors sample their negatives. Right: all of "
        "them, every time. Shows in two calls with the same predictions.",
        FUNCTION,
        leaving(SampledQueries),
    ),
    Mutant(
        "plausible-global-seed",
        "NUM",
        "The loss seeds the random numbers of the whole process. Right: it leaves them alone. Shows in what is drawn "
        "after a call.",
        FUNCTION,
        leaving(GlobalSeed),
    ),
    Mutant(
        "plausible-drift-after-ten-calls",
        "NUM",
        "From its eleventh call on a loss object has larger gains. Right: a loss is a function. Shows in many calls.",
        FUNCTION,
        leaving(DriftingGains),
    ),
    Mutant(
        "plausible-buffers-of-the-first-batch",
        "NUM",
        "Buffers are as large as the first batch, and images beyond them have no targets. Right: any batch. Shows when "
        "a batch grows.",
        FUNCTION,
        leaving(FirstBatchSize),
    ),
    Mutant(
        "plausible-normaliser-never-falls",
        "NUM",
        "The normaliser is the largest so far. Right: that of the batch. Shows when a batch shrinks.",
        FUNCTION,
        leaving(LargestNormaliser),
    ),
    Mutant(
        "plausible-gains-multiplied-in-place",
        "API",
        "Every call multiplies a gain in the dictionary that the caller has handed over. Right: the caller's options "
        "are the caller's. Shows in the dictionary after a call.",
        FUNCTION,
        leaving(GainsInPlace),
    ),
    Mutant(
        "plausible-seed-of-python",
        "NUM",
        "The loss seeds Python's own random numbers, to sample the same queries again. Right: it leaves them alone. "
        "Shows in what is drawn after a call.",
        FUNCTION,
        leaving(PythonSeed),
    ),
)
