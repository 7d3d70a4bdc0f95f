"""Contrastive denoising queries: targets with noise on them, for the decoder to repair.

Every group holds, for each image, one slightly moved copy of each target (a positive, to be repaired) and one
strongly moved copy (a negative, to be called background). M is the largest number of targets that any image
contributes, so a group has 2 M slots: M positive ones, then M negative ones. Slots that an image does not fill
are padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from detr_conformance.reference.layers import Layer
from detr_conformance.reference.matcher import Matching, Targets
from detr_conformance.reference.options import GeneratorConfig, as_meant
from detr_conformance.reference.validation import check_array, check_count, check_number, check_targets, entry

LOGIT_EPS = 1e-6
"""Boxes are clipped this far inside (0, 1) before the inverse sigmoid."""

POSITIVE, NEGATIVE = 0, 1
"""The two halves of a group."""

Generated = tuple[Any, Any, Any, Any]
"""Embedded labels (images denoising channels), boxes as logits (images denoising 4), the attention mask (all all), and
`dn_meta`; or four times None."""


@dataclass(frozen=True)
class Layout:
    """How the denoising queries of a batch are arranged.

    Attributes:
        chosen: for each image the targets it contributes, counted through the whole batch, ascending.
        width: M, the largest number of targets that an image contributes.
        groups: K, the number of groups.
        first: the first target of each image.
    """

    chosen: tuple[Int64[np.ndarray, " _targets"], ...]
    width: int
    groups: int
    first: tuple[int, ...]

    @property
    def queries(self) -> int:
        """D = 2 M K, the number of denoising queries of each image."""
        return 2 * self.width * self.groups

    def slots(self, image: int, half: int) -> Int64[np.ndarray, " slots"]:
        """An image's filled slots, group after group: positive ones (half 0) or negative ones (half 1)."""
        starts = 2 * self.width * np.arange(self.groups) + half * self.width
        return (starts[:, None] + np.arange(len(self.chosen[image]))).ravel()


def queries_of_each_class(
    labels: Float[np.ndarray, "images denoising classes"],
) -> Float[np.ndarray, "classes classes"]:
    """The embedding of a class is trained by every query that carries it: every number of it has their count."""
    return np.repeat(labels.sum(axis=(0, 1))[:, None], labels.shape[-1], axis=1)


@dataclass(frozen=True)
class Generator:
    """How denoising queries are made.

    Attributes:
        made: whether there are any, from `training` and `num_dn`.
        without_targets: what a batch without targets may get: `nothing`, or a `dummy` query for each image, which keeps
            the ranks of a data-parallel run from waiting for each other. It describes a port; `generate` gives nothing.
        randomness: the source of all random numbers, from the one that the caller gives.
        contributed: which of its targets an image contributes, from their number, `num_dn` and a source.
        groups: K, from `num_dn` and M.
        labels: noisy classes, from classes, their number, `cls_noise_ratio`, the half and a source.
        moved: noisy boxes in centre form, from boxes, `box_noise_scale`, the half and a source.
        inverse_sigmoid: boxes as logits, from boxes and `logit_eps`.
        without_noise: what becomes of boxes where `box_noise_scale` is 0.
        logit_eps: boxes are clipped this far inside (0, 1) before the inverse sigmoid.
        padding_is_zero: padding slots hold zeros as boxes; otherwise the logits of an empty box.
        mask: who must not see whom, from the layout and the number of ordinary queries.
        meta: what the loss needs to know, from the layout and the number of ordinary queries.
        handed_over: the last look at labels, boxes, mask and meta, with the embedding of each class.
        called: the options that it is called with, from those that are meant and how they are passed.
        embedding_gradient: gradient of the sum of all embedded labels with respect to the embedding of each class, from
            the labels that unit vectors give.

    Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (positives and negatives); Li et al., DN-DETR,
    arXiv 2203.01305, section 4 (noise, groups, attention mask).
    """

    made: Callable[[bool, int], bool]
    without_targets: frozenset[str]
    randomness: Callable[[np.random.Generator | None], np.random.Generator]
    contributed: Callable[[int, int, np.random.Generator], Int64[np.ndarray, " _targets"]]
    groups: Callable[[int, int], int]
    labels: Callable[..., Int64[np.ndarray, " slots"]]
    moved: Callable[..., Float[np.ndarray, "slots 4"]]
    inverse_sigmoid: Callable[..., Float[np.ndarray, "slots 4"]]
    without_noise: Callable[..., Float[np.ndarray, "slots 4"]]
    logit_eps: float
    padding_is_zero: bool
    mask: Callable[[Layout, int], Bool[np.ndarray, "all all"]]
    meta: Callable[[Layout, int], dict[str, Any]]
    handed_over: Callable[..., Generated]
    called: Callable[[GeneratorConfig, str], GeneratorConfig] = as_meant
    embedding_gradient: Callable[..., Float[np.ndarray, "classes classes"]] = queries_of_each_class

    def generate(
        self,
        targets: Targets,
        num_classes: int,
        num_queries: int,
        class_embed: np.ndarray,
        options: GeneratorConfig,
        rng: np.random.Generator | None,
    ) -> Generated:
        """Labels, boxes, mask and meta; four times None where there is nothing to denoise."""
        if not self.made(options.training, options.num_dn) or max(targets.counts, default=0) == 0:
            return None, None, None, None
        rng = self.randomness(rng)
        layout = self.arranged(targets.counts, options.num_dn, rng)
        shape = (len(targets.counts), layout.queries)
        padding = 0.0 if self.padding_is_zero else logit(np.zeros(1), self.logit_eps)
        embedded, logits = np.zeros((*shape, class_embed.shape[1])), np.zeros((*shape, 4)) + padding
        for image, own in enumerate(layout.chosen):
            for half in (POSITIVE, NEGATIVE):
                slots, sources = layout.slots(image, half), np.tile(own, layout.groups)
                classes = targets.classes[sources]
                labels = self.labels(classes, num_classes, options.cls_noise_ratio, half, rng)
                embedded[image, slots] = class_embed[labels]
                logits[image, slots] = self._boxes(targets.boxes[sources], options.box_noise_scale, half, rng)
        made = embedded, logits, self.mask(layout, num_queries), self.meta(layout, num_queries)
        return self.handed_over(*made, class_embed)

    def arranged(self, counts: Sequence[int], num_dn: int, rng: np.random.Generator) -> Layout:
        """The layout for images with so many targets, of which there are some."""
        first = tuple(sum(counts[:image]) for image in range(len(counts)))
        chosen = tuple(start + self.contributed(count, num_dn, rng) for start, count in zip(first, counts, strict=True))
        width = max(map(len, chosen))
        return Layout(chosen, width, self.groups(num_dn, width), first)

    def _boxes(self, boxes: np.ndarray, scale: float, half: int, rng: np.random.Generator) -> np.ndarray:
        """Noisy boxes as logits."""
        if scale == 0:
            return self.without_noise(boxes)
        return self.inverse_sigmoid(self.moved(boxes, scale, half, rng), self.logit_eps)


def get_cdn_group(
    batch: Mapping[str, Any] | None,
    num_classes: int,
    num_queries: int,
    class_embed: Float[np.ndarray, "classes channels"],
    num_dn: int = 100,
    cls_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    training: bool = False,
    rng: np.random.Generator | None = None,
) -> Generated:
    """Make the denoising queries of a batch, as Ultralytics does.

    Args:
        batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, the number of targets of
            each image.
        num_classes: number of classes.
        num_queries: number of ordinary queries, which follow the denoising ones.
        class_embed: embedding of each class.
        num_dn: at most how many positives to make for each image; K = num_dn // M.
        cls_noise_ratio: twice the probability that a label is replaced, in [0, 2].
        box_noise_scale: size of the noise on boxes in half box sizes, >= 0.
        training: denoising queries exist in training only.
        rng: where all random numbers come from; a fresh one by default.

    Returns:
        Embedded labels (zeros in padding), boxes as logits (zeros in padding), the attention mask, and `dn_meta`
        with `dn_pos_idx`, `dn_gt_idx`, `dn_num_group` and `dn_num_split` = [denoising, num_queries]. Four times
        None where not `training`, num_dn <= 0, batch is None, or no image has a target.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
    """
    if not training or batch is None or num_dn <= 0:
        return None, None, None, None
    _check_options(num_classes, num_queries, class_embed, num_dn, cls_noise_ratio, box_noise_scale)
    classes, boxes, gt_groups = (entry(batch, "batch", key) for key in ("cls", "bboxes", "gt_groups"))
    check_targets(boxes, classes, gt_groups, None, num_classes)
    targets = Targets(boxes.astype(np.float64), classes.astype(np.int64), gt_groups)
    options = GeneratorConfig(num_dn, cls_noise_ratio, box_noise_scale, training)
    return GENERATOR.generate(targets, num_classes, num_queries, class_embed, options, rng)


def _check_options(
    num_classes: int,
    num_queries: int,
    class_embed: np.ndarray,
    num_dn: int,
    cls_noise_ratio: float,
    box_noise_scale: float,
) -> None:
    for name, count in {"num_classes": num_classes, "num_queries": num_queries, "num_dn": num_dn}.items():
        check_count(name, count, least=1)
    check_array("class_embed", class_embed)
    if class_embed.ndim != 2 or len(class_embed) < num_classes:
        raise ValueError(f"class_embed has shape {class_embed.shape}, expected (num_classes = {num_classes}, _)")
    check_number("cls_noise_ratio", cls_noise_ratio)
    if not 0 <= cls_noise_ratio <= 2:
        raise ValueError(f"cls_noise_ratio is {cls_noise_ratio}, expected 0 to 2, twice a probability")
    check_number("box_noise_scale", box_noise_scale)
    if box_noise_scale < 0:
        raise ValueError(f"box_noise_scale is {box_noise_scale}, expected at least 0")


def in_training(training: bool, num_dn: int) -> bool:
    """In training only, and for a number above 0."""
    return training and num_dn > 0


def random_subset(count: int, num_dn: int, rng: np.random.Generator) -> Int64[np.ndarray, " _targets"]:
    """All targets of an image, or a random subset of `num_dn`, ascending."""
    return np.sort(rng.permutation(count)[:num_dn])


def every_target(count: int, num_dn: int, rng: np.random.Generator) -> Int64[np.ndarray, " _targets"]:
    """All targets of an image, however many there are."""
    return np.arange(count)


def as_many_as_fit(num_dn: int, width: int) -> int:
    """num_dn // M, at least 1."""
    return max(num_dn // width, 1)


def noisy_labels(
    classes: Int64[np.ndarray, " slots"],
    num_classes: int,
    cls_noise_ratio: float,
    half: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " slots"]:
    """Replace each label, with probability cls_noise_ratio / 2, by a class drawn uniformly from all of them.

    Reference: Li et al., DN-DETR, arXiv 2203.01305, section 4 (label flipping).
    """
    flipped = rng.random(len(classes)) < cls_noise_ratio / 2
    return np.where(flipped, rng.integers(num_classes, size=len(classes)), classes)


def moved_edges(
    boxes: Float[np.ndarray, "slots 4"], box_noise_scale: float, half: int, rng: np.random.Generator
) -> Float[np.ndarray, "slots 4"]:
    """Move every edge of every box.

        edge + sign u (half the width or height) box_noise_scale

    with u uniform in [0, 1) for positives, in [1, 2) for negatives; clipped to the image. A negative's width or
    height may come out below 0.

    Args:
        boxes: boxes in centre form.
        box_noise_scale: size of the noise, > 0.
        half: `POSITIVE` or `NEGATIVE`.
        rng: source of signs and distances.

    Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (lambda_1 and lambda_2).
    """
    half_size = np.tile(boxes[:, 2:] / 2, 2)
    edges = np.tile(boxes[:, :2], 2) + np.repeat([-1.0, 1.0], 2) * half_size
    distance = rng.random(boxes.shape) + half
    sign = rng.choice([-1.0, 1.0], size=boxes.shape)
    return centre_form(np.clip(edges + sign * distance * half_size * box_noise_scale, 0.0, 1.0))


def centre_form(edges: Float[np.ndarray, "slots 4"]) -> Float[np.ndarray, "slots 4"]:
    """Centre and size of left, top, right, bottom."""
    low, high = edges[:, :2], edges[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)


def as_they_are(boxes: Float[np.ndarray, "slots 4"]) -> Float[np.ndarray, "slots 4"]:
    """quirk: without noise boxes come back as they are, and not as logits."""
    return boxes


def logit(p: Float[np.ndarray, "*shape"], eps: float = LOGIT_EPS) -> Float[np.ndarray, "*shape"]:
    """Inverse of the sigmoid, log(p / (1 - p)), of p clipped to [eps, 1 - eps]."""
    inside = np.clip(p, eps, 1.0 - eps)
    return np.log(inside) - np.log1p(-inside)


def attention_mask(layout: Layout, num_queries: int) -> Bool[np.ndarray, "all all"]:
    """Who must not see whom: [i, j] is True where query i may not attend to query j.

    Ordinary queries do not see denoising ones, which know the answers; a group does not see another group.

    Reference: Li et al., DN-DETR, arXiv 2203.01305, section 4 (attention mask).
    """
    denoising = layout.queries
    group = np.full(denoising + num_queries, -1)
    group[:denoising] = np.arange(denoising) // (2 * layout.width)
    another_group = group[:, None] != group[None, :]
    towards_denoising = group[None, :] >= 0
    return another_group & towards_denoising


def indices_and_sizes(layout: Layout, num_queries: int) -> dict[str, Any]:
    """What the loss needs to know of the layout."""
    images = range(len(layout.chosen))
    return {
        "dn_pos_idx": [layout.slots(image, half=0) for image in images],
        "dn_gt_idx": list(layout.chosen),
        "dn_num_group": layout.groups,
        "dn_num_split": [layout.queries, num_queries],
    }


def nothing_more(labels: Any, boxes: Any, blocked: Any, meta: Any, class_embed: Any) -> Generated:
    """As it was made."""
    return labels, boxes, blocked, meta


GENERATOR = Generator(
    made=in_training,
    without_targets=frozenset({"nothing"}),
    randomness=np.random.default_rng,
    contributed=random_subset,
    groups=as_many_as_fit,
    labels=noisy_labels,
    moved=moved_edges,
    inverse_sigmoid=logit,
    without_noise=as_they_are,
    logit_eps=LOGIT_EPS,
    padding_is_zero=True,
    mask=attention_mask,
    meta=indices_and_sizes,
    handed_over=nothing_more,
)
"""Ultralytics' generator."""


def denoising_pairs(
    dn_pos_idx: Sequence[Int64[np.ndarray, " _slots"]],
    dn_num_group: int,
    gt_groups: Sequence[int],
    dn_gt_idx: Sequence[Int64[np.ndarray, " _targets"]] | None,
) -> list[Matching]:
    """Pair every positive denoising query with the target that it was made from.

    Args:
        dn_pos_idx: for each image its positive slots, group after group.
        dn_num_group: number of groups, at least 1.
        gt_groups: number of targets of each image.
        dn_gt_idx: for each image the targets, counted through the whole batch, that one group reconstructs; None for
            all of them in order.

    Returns:
        For each image its slots, and the target of each, counted through the whole batch.

    Raises:
        ValueError: an image has not as many slots as targets times groups; both numbers are named.
    """
    if dn_gt_idx is None:
        ends = np.cumsum(gt_groups)
        dn_gt_idx = [np.arange(end - count, end) for end, count in zip(ends, gt_groups, strict=True)]
    matchings = []
    for image, (slots, one_group) in enumerate(zip(dn_pos_idx, dn_gt_idx, strict=True)):
        targets = np.tile(one_group, dn_num_group)
        if len(slots) != len(targets):
            raise ValueError(
                f"dn_pos_idx[{image}] has {len(slots)} slots, expected {len(targets)}: "
                f"{len(one_group)} targets in each of dn_num_group = {dn_num_group} groups"
            )
        matchings.append((np.asarray(slots, dtype=np.int64), np.asarray(targets, dtype=np.int64)))
    return matchings


def same_targets(targets: Targets) -> Targets:
    """Denoising queries are held to the same targets as all others."""
    return targets


def ordinary_alone(ordinary: Sequence[Layer], denoising: Sequence[Layer]) -> Sequence[Layer]:
    """The ordinary losses look at ordinary queries alone."""
    return ordinary


@dataclass(frozen=True)
class DenoisingPlan:
    """What is made of denoising queries.

    Attributes:
        generator: makes them.
        pairs: which slot answers for which target.
        targets: what they are held against.
        ordinary: the layers that the ordinary losses look at, from those of both.
        regular: slots are laid out evenly: as many in each group, positives first, none left over.
    """

    generator: Generator = GENERATOR
    pairs: Callable[..., list[Matching]] = denoising_pairs
    targets: Callable[[Targets], Targets] = same_targets
    ordinary: Callable[[Sequence[Layer], Sequence[Layer]], Sequence[Layer]] = ordinary_alone
    regular: bool = False
