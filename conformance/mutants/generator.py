"""Mutants in how many denoising queries are made, of which targets, and with whose random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from detr_conformance.mutants.changes import wrapped
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import LossSpec, replace_in, wrap_in
from detr_conformance.reference.denoising import Generated, Generator, every_target
from detr_conformance.reference.matcher import Targets
from detr_conformance.reference.options import GeneratorConfig


def generating(field: str, wrong: Callable[..., Any]) -> Change:
    """The generator with a wrong step, which is given the right one before all else."""
    return wrapped(f"denoising.generator.{field}", wrong)


def altered(change: Callable[..., Generated]) -> Change:
    """The generator with a change of labels, boxes, mask, meta and embedding of the classes, as it hands them over."""
    return generating("handed_over", lambda right, *made: change(*right(*made), made[-1]))


def repeated(part: int) -> Change:
    """The generator with the labels (0) or the boxes (1) of the first group in all the others."""

    def alike(*made: Any) -> Generated:
        groups = made[3]["dn_num_group"]
        first = np.split(made[part], groups, axis=1)[0]
        return (*made[:part], np.tile(first, (1, groups, 1)), *made[part + 1 : 4])

    return altered(alike)


@dataclass(frozen=True)
class WithDummy(Generator):
    """One empty group, where there is nothing to denoise."""

    def generate(
        self,
        targets: Targets,
        num_classes: int,
        num_queries: int,
        class_embed: np.ndarray,
        options: GeneratorConfig,
        rng: np.random.Generator | None,
    ) -> Generated:
        """Queries of no class, without a box, which no ordinary query sees."""
        if any(targets.counts) or not self.made(options.training, options.num_dn):
            return super().generate(targets, num_classes, num_queries, class_embed, options, rng)
        shape, none = (len(targets.counts), 2), [np.zeros(0, dtype=np.int64) for _ in targets.counts]
        meta = {"dn_pos_idx": none, "dn_gt_idx": none, "dn_num_group": 1, "dn_num_split": [2, num_queries]}
        dummy = np.arange(2 + num_queries) < 2
        return np.zeros((*shape, class_embed.shape[1])), np.zeros((*shape, 4)), ~dummy[:, None] & dummy, meta


def dummy_without_targets(spec: LossSpec) -> LossSpec:
    """A dummy query instead of nothing, where the convention allows none."""
    if "dummy" in spec.denoising.generator.without_targets:
        return spec
    dummy = replace_in(spec, "denoising.generator.without_targets", frozenset({"dummy"}))
    return wrap_in(dummy, "denoising.generator", lambda right: WithDummy(**vars(right)))


GENERATOR = "loss specification, get_cdn_group"

EMBEDDING = "Li et al., DN-DETR, arXiv 2203.01305, section 4: the label embedding is learned"


def of_first_query(right: Callable[..., np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The gradient from the first denoising query of each image alone."""
    return right(labels[:, :1])


GENERATOR_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ul-cdn-over-budget",
        "DN",
        "An image with more targets than num_dn had all of them denoised: 1400 queries for 700 boxes and a budget of "
        "200. Right: a random subset of num_dn. Shows with more targets than num_dn.",
        "ultralytics/ultralytics, pull request 25834",
        lambda spec: replace_in(spec, "denoising.generator.contributed", every_target),
    ),
    Mutant(
        "dino-dn-number-becomes-group-count",
        "DN",
        "A number of denoising queries below 50 was doubled and used as the number of groups. Right: divided by the "
        "largest number of targets. Shows with a small num_dn.",
        "IDEA-Research/DINO, models/dino/dn_components.py",
        generating("groups", lambda right, num_dn, width: 2 * num_dn if num_dn < 50 else right(num_dn, width)),
    ),
    Mutant(
        "rtdetrv2-dummy-query-without-targets",
        "DN",
        "A batch without targets gets an empty group, which the classification loss counts as background. Right: no "
        "denoising queries. Shows in such a batch.",
        "lyuwenyu/RT-DETR, pull request 684",
        dummy_without_targets,
    ),
    Mutant(
        "plausible-negatives-in-num-dn",
        "DN",
        "num_dn is the number of positives and negatives together, which halves the groups. Right: num_dn // M groups. "
        "Shows with room for two groups.",
        GENERATOR,
        generating("groups", lambda right, num_dn, width: right(num_dn // 2, width)),
    ),
    Mutant(
        "plausible-group-too-many",
        "DN",
        "num_dn / M is rounded up. Right: rounded down. Shows where M does not divide num_dn.",
        GENERATOR,
        generating("groups", lambda right, num_dn, width: right(num_dn + width - 1, width)),
    ),
    Mutant(
        "plausible-denoising-in-any-mode",
        "DN",
        "Denoising queries are made in evaluation, too. Right: in training only. Shows with training off.",
        GENERATOR,
        generating("made", lambda right, _training, num_dn: right(True, num_dn)),
    ),
    Mutant(
        "plausible-subset-always-the-first",
        "DN",
        "Of an image with more targets than num_dn always the first ones are denoised. Right: a random subset, drawn "
        "anew at each call. Shows over several calls.",
        GENERATOR,
        generating("contributed", lambda right, *asked: np.arange(len(right(*asked)))),
    ),
    Mutant(
        "plausible-noise-without-seed",
        "DN",
        "The noise comes from a generator that the caller cannot seed. Right: the same seed gives the same queries. "
        "Shows in two calls with one seed.",
        GENERATOR,
        generating("randomness", lambda right, _rng: right(None)),
    ),
    Mutant(
        "plausible-noise-of-one-seed",
        "DN",
        "The noise is seeded anew with the same number at each call. Right: drawn anew. Shows in two calls with "
        "different seeds.",
        GENERATOR,
        generating("randomness", lambda right, _rng: right(np.random.default_rng(0))),
    ),
    Mutant(
        "plausible-label-embedding-detached",
        "DN",
        "The embedding of labels is looked up where no gradients are recorded. Right: denoising queries train it. "
        "Shows in its gradient.",
        EMBEDDING,
        generating("embedding_gradient", lambda _right, labels: np.zeros((labels.shape[-1],) * 2)),
    ),
    Mutant(
        "plausible-label-embedding-of-one-query",
        "DN",
        "A query is embedded, and copied without its gradient to all others of its class. Right: each of them trains "
        "the embedding. Shows with two queries of a class.",
        EMBEDDING,
        generating("embedding_gradient", of_first_query),
    ),
)
