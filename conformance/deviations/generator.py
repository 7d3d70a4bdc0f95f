"""Deviations in how many denoising queries are made, of which targets, and with whose random numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.reference import get_cdn_group

Generated = tuple[Any, Any, Any, Any]
"""Labels, boxes, attention mask and dn_meta, or four times None."""

Generator = Callable[..., Generated]

cdn_group: Generator = get_cdn_group
"""The right one, whose arguments are passed on unread."""


def filled(meta: Any) -> Iterator[tuple[int, int, np.ndarray]]:
    """Every image with each half, 0 for positives and 1 for negatives, and the slots that it fills."""
    width = meta["dn_num_split"][0] // (2 * meta["dn_num_group"])
    for image, positives in enumerate(meta["dn_pos_idx"]):
        for half in (0, 1):
            yield image, half, positives + half * width


def altered(change: Callable[..., Generated]) -> Generator:
    """The generator with a change of what it has made."""

    def generate(*args: Any, **options: Any) -> Generated:
        made = cdn_group(*args, **options)
        return made if made[-1] is None else change(*made)

    return generate


def repeated(part: int) -> Generator:
    """The generator with the labels (0) or the boxes (1) of the first group in all the others."""

    def alike(*made: Any) -> Generated:
        groups = made[-1]["dn_num_group"]
        first = np.split(made[part], groups, axis=1)[0]
        return (*made[:part], np.tile(first, (1, groups, 1)), *made[part + 1 :])

    return altered(alike)


def grouped(count: Callable[[int, int], int]) -> Generator:
    """The generator with another number of groups, a function of num_dn and M."""

    def generate(batch: Any, *args: Any, num_dn: int = 100, **options: Any) -> Generated:
        width = min(max(batch["gt_groups"]), num_dn)
        # So many queries make just so many groups of M.
        budget = count(num_dn, width) * width if width > 0 else num_dn
        return cdn_group(batch, *args, num_dn=budget, **options)

    return generate


def uncapped(batch: Any, *args: Any, num_dn: int = 100, **options: Any) -> Generated:
    """Every target of every image is denoised."""
    enough = max(num_dn, *batch["gt_groups"]) if num_dn > 0 else num_dn
    return cdn_group(batch, *args, num_dn=enough, **options)


def first_of_each_image(batch: Any, *args: Any, num_dn: int = 100, **options: Any) -> Generated:
    """The first num_dn targets of an image are denoised, never the others."""
    starts = np.cumsum([0, *batch["gt_groups"]])
    kept = np.concatenate([start + np.arange(n)[:num_dn] for start, n in zip(starts, batch["gt_groups"], strict=False)])
    less = {"cls": batch["cls"][kept], "bboxes": batch["bboxes"][kept]}
    less["gt_groups"] = [min(count, num_dn) for count in batch["gt_groups"]]
    made = cdn_group(less, *args, num_dn=num_dn, **options)
    if made[-1] is not None:
        made[-1]["dn_gt_idx"] = [kept[own] for own in made[-1]["dn_gt_idx"]]
    return made


def in_any_mode(*args: Any, training: bool = False, **options: Any) -> Generated:  # noqa: ARG001  # what is wrong here
    """The flag is not looked at."""
    return cdn_group(*args, training=True, **options)


def dummy_without_targets(batch: Any, classes: int, queries: int, embed: Any, **options: Any) -> Generated:
    """One empty group, where there is nothing to denoise."""
    made = cdn_group(batch, classes, queries, embed, **options)
    if any(batch["gt_groups"]) or not options["training"]:
        return made
    images, none = len(batch["gt_groups"]), [np.zeros(0, dtype=np.int64) for _ in batch["gt_groups"]]
    meta = {"dn_pos_idx": none, "dn_gt_idx": none, "dn_num_group": 1, "dn_num_split": [2, queries]}
    blocked = np.arange(queries + 2) < 2
    return np.zeros((images, 2, embed.shape[1])), np.zeros((images, 2, 4)), ~blocked[:, None] & blocked, meta


def noise_without_seed(*args: Any, rng: Any = None, **options: Any) -> Generated:  # noqa: ARG001  # what is wrong here
    """Randomness of its own."""
    return cdn_group(*args, **options)


def noise_of_one_seed(*args: Any, rng: Any = None, **options: Any) -> Generated:  # noqa: ARG001  # what is wrong here
    """The same randomness at every call."""
    return cdn_group(*args, rng=np.random.default_rng(0), **options)


GENERATOR = "loss specification, get_cdn_group"

GENERATOR_DEVIATIONS = (
    Deviation(
        "ul-cdn-over-budget",
        "DN",
        "An image with more targets than num_dn had all of them denoised: 1400 queries for 700 boxes and a budget of "
        "200. Right: a random subset of num_dn. Shows with more targets than num_dn.",
        "ultralytics/ultralytics, pull request 25834",
        generator=uncapped,
    ),
    Deviation(
        "dino-dn-number-becomes-group-count",
        "DN",
        "A number of denoising queries below 50 was doubled and used as the number of groups. Right: divided by the "
        "largest number of targets. Shows with a small num_dn.",
        "IDEA-Research/DINO, models/dino/dn_components.py",
        generator=grouped(lambda num_dn, width: 2 * num_dn if num_dn < 50 else num_dn // width),
    ),
    Deviation(
        "rtdetrv2-dummy-query-without-targets",
        "DN",
        "A batch without targets gets an empty group, which the classification loss counts as background. Right: no "
        "denoising queries. Shows in such a batch.",
        "lyuwenyu/RT-DETR, pull request 684",
        generator=dummy_without_targets,
    ),
    Deviation(
        "plausible-negatives-in-num-dn",
        "DN",
        "num_dn is the number of positives and negatives together, which halves the groups. Right: num_dn // M groups. "
        "Shows with room for two groups.",
        GENERATOR,
        generator=grouped(lambda num_dn, width: max(num_dn // (2 * width), 1)),
    ),
    Deviation(
        "plausible-group-too-many",
        "DN",
        "num_dn / M is rounded up. Right: rounded down. Shows where M does not divide num_dn.",
        GENERATOR,
        generator=grouped(lambda num_dn, width: -(-num_dn // width)),
    ),
    Deviation(
        "plausible-denoising-in-any-mode",
        "DN",
        "Denoising queries are made in evaluation, too. Right: in training only. Shows with training off.",
        GENERATOR,
        generator=in_any_mode,
    ),
    Deviation(
        "plausible-subset-always-the-first",
        "DN",
        "Of an image with more targets than num_dn always the first ones are denoised. Right: a random subset, drawn "
        "anew at each call. Shows over several calls.",
        GENERATOR,
        generator=first_of_each_image,
    ),
    Deviation(
        "plausible-noise-without-seed",
        "DN",
        "The noise comes from a generator that the caller cannot seed. Right: the same seed gives the same queries. "
        "Shows in two calls with one seed.",
        GENERATOR,
        generator=noise_without_seed,
    ),
    Deviation(
        "plausible-noise-of-one-seed",
        "DN",
        "The noise is seeded anew with the same number at each call. Right: drawn anew. Shows in two calls with "
        "different seeds.",
        GENERATOR,
        generator=noise_of_one_seed,
    ),
)
