"""Mutants in the slots of denoising queries: their order, padding and attention mask, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from detr_conformance.mutants.generator import altered, generating
from detr_conformance.mutants.mutant import Change, Mutant
from detr_conformance.reference import replace_in
from detr_conformance.reference.denoising import Generated, Layout

Numbers = np.ndarray
Meta = Mapping[str, Any]


def masked(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Change:
    """Another attention mask, a function of the right one and of who is an ordinary query."""

    def mask(right: Callable[..., np.ndarray], layout: Layout, queries: int) -> np.ndarray:
        return change(right(layout, queries), np.arange(layout.queries + queries) >= layout.queries)

    return generating("mask", mask)


def told(change: Callable[[Meta, Layout], Meta]) -> Change:
    """Other entries in `dn_meta`, a function of the right ones and the layout."""

    def meta(right: Callable[..., Meta], layout: Layout, queries: int) -> Meta:
        return {**right(layout, queries), **change(right(layout, queries), layout)}

    return generating("meta", meta)


def rearranged(places: Callable[[np.ndarray], np.ndarray], meta_follows: bool) -> Change:
    """The slots in another order, a function of their numbers by group and half."""

    def in_order(labels: Numbers, boxes: Numbers, blocked: Numbers, meta: Meta, _embed: Numbers) -> Generated:
        order = places(np.arange(meta["dn_num_split"][0]).reshape(meta["dn_num_group"], 2, -1)).ravel()
        place = np.argsort(order) if meta_follows else np.arange(len(order))
        moved = {"dn_pos_idx": [place[own] for own in meta["dn_pos_idx"]]}
        return labels[:, order], boxes[:, order], blocked, {**meta, **moved}

    return altered(in_order)


def packed(meta: Meta, layout: Layout) -> Meta:
    """Positive slots as if groups were M slots."""
    return {"dn_pos_idx": [own - own // (2 * layout.width) * layout.width for own in meta["dn_pos_idx"]]}


def within_images(meta: Meta, layout: Layout) -> Meta:
    """Targets counted from the first one of each image."""
    return {"dn_gt_idx": [own - first for own, first in zip(meta["dn_gt_idx"], layout.first, strict=True)]}


def padding_of_class_0(labels: Numbers, boxes: Numbers, blocked: Numbers, meta: Meta, embed: Numbers) -> Generated:
    """A label in every slot that nothing fills."""
    return np.where(labels.any(axis=-1, keepdims=True), labels, embed[0]), boxes, blocked, meta


SLOTS = "loss specification, get_cdn_group: slots and dn_meta"
MASK = "loss specification, get_cdn_group: attention mask"

SLOT_MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "ul-cdn-pos-neg-unpaired",
        "DN",
        "All positives were laid out before all negatives, while the attention mask grouped 2 M neighbours: "
        "positives of one target saw each other, and the last groups held negatives only. Right: each group "
        "holds its positives, then its negatives. Shows with two groups.",
        "ultralytics/ultralytics 8.0.124 to 8.4.170, issue 14217",
        rearranged(lambda slots: slots.swapaxes(0, 1), meta_follows=True),
    ),
    Mutant(
        "plausible-negatives-first",
        "DN",
        "Each group begins with its negatives, and dn_pos_idx names them. Right: positives first. Shows with one "
        "target.",
        SLOTS,
        rearranged(lambda slots: slots[:, ::-1], meta_follows=False),
    ),
    Mutant(
        "plausible-pos-idx-stride",
        "DN",
        "dn_pos_idx counts groups of M slots. Right: j + 2 M g. Shows with two groups.",
        SLOTS,
        told(packed),
    ),
    Mutant(
        "plausible-gt-idx-within-image",
        "DN",
        "dn_gt_idx counts targets within each image. Right: through the batch. Shows in the second image.",
        SLOTS,
        told(within_images),
    ),
    Mutant(
        "plausible-num-group-of-halves",
        "DN",
        "dn_num_group counts positive and negative halves. Right: K. Shows with one group.",
        SLOTS,
        told(lambda _meta, layout: {"dn_num_group": 2 * layout.groups}),
    ),
    Mutant(
        "plausible-num-split-of-all",
        "DN",
        "The second entry of dn_num_split is the number of all queries. Right: of ordinary ones. Shows always.",
        SLOTS,
        told(lambda meta, layout: {"dn_num_split": [layout.queries, sum(meta["dn_num_split"])]}),
    ),
    Mutant(
        "plausible-padding-as-logits",
        "DN",
        "Boxes in padding slots are the logits of an empty box. Right under this profile: zeros. Shows with images of "
        "different numbers of targets.",
        SLOTS,
        lambda spec: replace_in(spec, "denoising.generator.padding_is_zero", False),
    ),
    Mutant(
        "plausible-padding-of-class-0",
        "DN",
        "Padding slots carry the embedding of class 0. Right: zeros. Shows with images of different numbers of "
        "targets.",
        SLOTS,
        altered(padding_of_class_0),
    ),
    Mutant(
        "hf-dn-mask-added-as-bool",
        "DN",
        "The boolean mask was added to the attention logits, which blocked nothing, and the answers leaked. Right: "
        "minus infinity where it is true; here it is false everywhere. Shows always.",
        "huggingface/transformers 4.42 to 4.55, pull request 40269",
        masked(lambda blocked, _ordinary: np.zeros_like(blocked)),
    ),
    Mutant(
        "paddle-mask-of-visible",
        "DN",
        "The mask is true where a query may look, as Paddle's attention wants it. Right under this profile: true is "
        "blocked. Shows always.",
        "PaddlePaddle/PaddleDetection, get_contrastive_denoising_training_group",
        masked(lambda blocked, _ordinary: ~blocked),
    ),
    Mutant(
        "plausible-groups-see-each-other",
        "DN",
        "Only ordinary queries are kept from looking at denoising ones. Right: a group does not see another group "
        "either. Shows with two groups.",
        MASK,
        masked(lambda blocked, ordinary: blocked & ordinary[:, None]),
    ),
    Mutant(
        "plausible-queries-see-denoising",
        "DN",
        "Only groups are kept apart. Right: ordinary queries do not see denoising ones either. Shows with one group.",
        MASK,
        masked(lambda blocked, ordinary: blocked & ~ordinary[:, None]),
    ),
    Mutant(
        "plausible-denoising-blind-to-queries",
        "DN",
        "Denoising queries do not see ordinary ones. Right: they do. Shows with one group.",
        MASK,
        masked(lambda _blocked, ordinary: ordinary[:, None] != ordinary),
    ),
    Mutant(
        "plausible-query-blind-to-itself",
        "DN",
        "A query does not see itself. Right: it does. Shows always.",
        MASK,
        masked(lambda blocked, _ordinary: blocked | np.eye(len(blocked), dtype=bool)),
    ),
)
