"""Mutants in what ranks and micro-batches divide by."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in
from detr_conformance.reference.family import DEFORMABLE, DETR, DFINE, LWDETR, PADDLE, RTDETR
from detr_conformance.reference.normaliser import Normaliser, Tally
from detr_conformance.reference.ranks import Together, all_steps, joined, mean_over_ranks, of_own_rank

rank_mutant = partial(Mutant, family="RANK")
DEVICES_OF_A_NODE = 2


def over_ranks(wrong: Together) -> Change:
    """Ranks divide by something else."""
    return lambda spec: replace_in(spec, "over_ranks", wrong)


def over_steps(wrong: Together) -> Change:
    """Micro-batches divide by something else."""
    return lambda spec: replace_in(spec, "over_steps", wrong)


def averaged_twice(term: str, normaliser: Normaliser, tally: Tally) -> float:
    """The mean count is divided by the number of ranks once more; a weighted mean stays that of the rank."""
    if term == "softmax":
        return float(normaliser(tally))
    return float(normaliser(joined(tally, tally.ranks, len(tally.ranks) ** -2)))


def added_up(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """The count of all ranks, which is not divided by their number."""
    return float(normaliser(joined(tally, tally.ranks)))


def clamped_first(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """Every rank's count is made at least 1 before they are averaged."""
    return float(np.mean([normaliser(replace(getattr(each, tally.about), ranks=())) for each in tally.ranks]))


def not_clamped(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """The mean count, however small; 1 only where no rank has a target."""
    thousand = normaliser(joined(tally, tally.ranks, 1000.0 / len(tally.ranks)))
    return float(thousand) / 1000.0 if sum(joined(tally, tally.ranks).targets) else 1.0


def of_devices(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """The count of all ranks is divided by the number of devices of one machine."""
    return float(normaliser(joined(tally, tally.ranks, 1.0 / DEVICES_OF_A_NODE)))


def of_first_rank(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """Every rank takes the count of the first one."""
    return float(normaliser(getattr(tally.ranks[0], tally.about)))


def nothing_without_targets(term: str, normaliser: Normaliser, tally: Tally) -> float:
    """A rank without a target returns zeros."""
    return float(mean_over_ranks(term, normaliser, tally)) if sum(tally.targets) else np.inf


def own_classes(term: str, normaliser: Normaliser, tally: Tally) -> float:
    """Box losses are divided by the mean count, classification losses by the rank's own."""
    return float((mean_over_ranks if tally.about == "boxes" else of_own_rank)(term, normaliser, tally))


def own_denoising(term: str, normaliser: Normaliser, tally: Tally) -> float:
    """Denoising losses are divided by the rank's own count."""
    return float((of_own_rank if tally.is_denoising else mean_over_ranks)(term, normaliser, tally))


def times_ranks(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """Losses are multiplied by the number of ranks."""
    return float(normaliser(tally)) / len(tally.ranks)


def of_own_step(_term: str, normaliser: Normaliser, tally: Tally) -> float:
    """Every micro-batch divides by its own count, and by the number of micro-batches."""
    return float(normaliser(tally)) * len(tally.steps)


def once_more_by_steps(term: str, normaliser: Normaliser, tally: Tally) -> float:
    """The common count is multiplied by the number of micro-batches."""
    return float(all_steps(term, normaliser, tally)) * len(tally.steps)


def published_as(loss: str, **options: float | dict[str, float]) -> Change:
    """A constructor with other defaults for a classification loss."""

    def change(spec: LossSpec) -> LossSpec:
        recipe = {name: dict(each) for name, each in spec.recipe.items()}
        own = recipe.get(loss, {})
        own |= {name: own[name]._replace(value=value) for name, value in options.items() if name in own}
        return replace_in(spec, "recipe", recipe)

    return change


MEAN = "Carion et al., DETR, arXiv 2005.12872, section 3.1: normalised by the number of objects inside the batch"

RANK_MUTANTS: tuple[Mutant, ...] = (
    rank_mutant(
        id="hf-detr-normaliser-divided-twice",
        story="The number of targets was averaged over the ranks by a function that divides by default, and divided by "
        "the number of ranks again. Right: once. With two ranks of 5 and 1 targets 1.5 instead of 3: losses of boxes "
        "are as many times too large as there are ranks.",
        link="huggingface/transformers 5.23.0, loss/loss_for_object_detection.py: ImageLoss.forward under accelerate",
        change=over_ranks(averaged_twice),
        home=DETR,
    ),
    rank_mutant(
        id="hf-rtdetr-normaliser-of-own-rank",
        story="Every rank divided by the number of its own targets. Right under this profile: by the mean over ranks. "
        "Shows where ranks have different numbers of targets.",
        link="huggingface/transformers 5.23.0, loss/loss_rt_detr.py: RTDetrLoss.forward",
        change=over_ranks(of_own_rank),
        home=RTDETR,
    ),
    rank_mutant(
        id="plausible-normaliser-summed-over-ranks",
        story="The number of targets is added up over the ranks, and not divided by their number. Right: the mean, as "
        "gradients are averaged. Losses are as many times too small as there are ranks.",
        link=MEAN,
        change=over_ranks(added_up),
        home=DEFORMABLE,
    ),
    rank_mutant(
        id="plausible-normaliser-clamped-before-ranks",
        story="The number of targets of each rank is made at least 1 before they are averaged. Right: after. Shows "
        "where a rank has no target.",
        link="facebookresearch/detr, models/detr.py: clamp after all_reduce",
        change=over_ranks(clamped_first),
        home=RTDETR,
    ),
    rank_mutant(
        id="plausible-normaliser-not-clamped-over-ranks",
        story="The mean number of targets is used as it is, also below 1. Right: at least 1. Shows with fewer targets "
        "than ranks.",
        link="facebookresearch/detr, models/detr.py: clamp after all_reduce",
        change=over_ranks(not_clamped),
        home=LWDETR,
    ),
    rank_mutant(
        id="plausible-normaliser-by-devices-of-a-node",
        story="The number of all targets is divided by the number of devices of this machine. Right: by the number of "
        "ranks. Shows with any other number of ranks, such as on two machines.",
        link=MEAN,
        change=over_ranks(of_devices),
        home=DEFORMABLE,
    ),
    rank_mutant(
        id="plausible-normaliser-of-first-rank",
        story="The number of targets is broadcast from the first rank. Right: averaged over all. Shows where ranks "
        "have different numbers of targets.",
        link=MEAN,
        change=over_ranks(of_first_rank),
        home=DFINE,
    ),
    rank_mutant(
        id="plausible-rank-without-targets-skipped",
        story="A rank without a target returns zeros. Right: the loss of its background, which is averaged with the "
        "others. Shows where a rank has no target.",
        link="loss specification, DETRLoss, step 4: every query is classified",
        change=over_ranks(nothing_without_targets),
        home=DEFORMABLE,
    ),
    rank_mutant(
        id="plausible-class-normaliser-of-own-rank",
        story="Box losses are divided by the mean over ranks, the classification loss by the rank's own targets. "
        "Right: both by the mean. Shows where ranks have different numbers of targets.",
        link="Peterande/D-FINE, src/zoo/dfine/dfine_criterion.py",
        change=over_ranks(own_classes),
        home=DFINE,
    ),
    rank_mutant(
        id="plausible-dn-normaliser-of-own-rank",
        story="Denoising losses are divided by the rank's own targets. Right: by the mean over ranks, as the others "
        "are. Shows where ranks have different numbers of targets.",
        link="PaddlePaddle/PaddleDetection, ppdet/modeling/losses/detr_loss.py",
        change=over_ranks(own_denoising),
        home=PADDLE,
    ),
    rank_mutant(
        id="plausible-times-number-of-ranks",
        story="Losses are multiplied by the number of ranks, so that averaged gradients become a sum. Right: the "
        "trainer does that, if anybody. Shows with two ranks.",
        link="ultralytics/ultralytics, ultralytics/engine/trainer.py: loss times world size",
        change=over_ranks(times_ranks),
    ),
    rank_mutant(
        id="plausible-averaged-over-ranks",
        story="The number of pairs is averaged over the ranks. Right under this profile: each rank divides by its own. "
        "Shows where ranks have different numbers of targets.",
        link="ultralytics/ultralytics, pull request 23152, which was not merged",
        change=over_ranks(mean_over_ranks),
    ),
    rank_mutant(
        id="plausible-mean-of-micro-batches",
        story="Every micro-batch is divided by its own number of targets, and by the number of micro-batches. Right: "
        "by the targets of all of them. Shows where micro-batches have different numbers of targets.",
        link="huggingface/transformers, pull request 34191: gradient accumulation of language models",
        change=over_steps(of_own_step),
    ),
    rank_mutant(
        id="plausible-micro-batches-averaged-once-more",
        story="With the number of targets of all micro-batches as normaliser, losses are divided by the number of "
        "micro-batches as well. Right: they are added up. Shows with two micro-batches.",
        link=MEAN,
        change=over_steps(once_more_by_steps),
        home=RTDETR,
    ),
    Mutant(
        "ul-varifocal-defaults-of-focal",
        "API",
        "New arguments, with the defaults of the focal loss, went to the varifocal loss too: alpha 0.25 and gamma 1.5 "
        "instead of 0.75 and 2, for everybody who passed nothing. Right: the published ones.",
        "ultralytics/ultralytics, pull request 20292, release 8.3.116",
        published_as("varifocal", alpha=0.25, gamma=1.5),
    ),
    Mutant(
        "lyuwenyu-alpha-of-0.2",
        "API",
        "The constructor's alpha is 0.2, which no configuration has. Right: 0.75. Shows where nothing is passed.",
        "lyuwenyu/RT-DETR, rtdetr_pytorch/src/zoo/rtdetr/rtdetr_criterion.py",
        published_as("varifocal", alpha=0.2),
        home=RTDETR,
    ),
    Mutant(
        "hf-deformable-class-cost-of-one",
        "API",
        "The gain of the class cost is 1 by default. Right: 2, as published. Shows where nothing is passed.",
        "huggingface/transformers 5.23.0, models/deformable_detr/configuration_deformable_detr.py: class_cost",
        published_as("focal", cost_gain={"class": 1.0, "bbox": 5.0, "giou": 2.0}),
        home=DEFORMABLE,
    ),
)
