"""Deviations in the slots of denoising queries: their order, padding and attention mask, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from detr_conformance.deviations.deviation import Deviation
from detr_conformance.deviations.generator import Generated, Generator, altered, cdn_group
from detr_conformance.reference.denoising import logit


def masked(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Generator:
    """The generator with another attention mask, a function of the right one and of who is an ordinary query."""

    def with_mask(labels: Any, boxes: Any, blocked: Any, meta: Any) -> Generated:
        ordinary = np.arange(len(blocked)) >= meta["dn_num_split"][0]
        return labels, boxes, change(blocked, ordinary), meta

    return altered(with_mask)


def told(change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Generator:
    """The generator with other entries in `dn_meta`, a function of the right ones."""

    def with_meta(labels: Any, boxes: Any, blocked: Any, meta: Any) -> Generated:
        return labels, boxes, blocked, {**meta, **change(meta)}

    return altered(with_meta)


def rearranged(places: Callable[[np.ndarray], np.ndarray], meta_follows: bool) -> Generator:
    """The generator with its slots in another order, a function of their numbers by group and half."""

    def in_order(labels: Any, boxes: Any, blocked: Any, meta: Any) -> Generated:
        by_half = np.arange(meta["dn_num_split"][0]).reshape(meta["dn_num_group"], 2, -1)
        order = places(by_half).ravel()
        place = np.argsort(order) if meta_follows else np.arange(len(order))
        moved = {"dn_pos_idx": [place[own] for own in meta["dn_pos_idx"]]}
        return labels[:, order], boxes[:, order], blocked, meta | moved

    return altered(in_order)


def packed(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Positive slots as if groups were M slots."""
    width = meta["dn_num_split"][0] // (2 * meta["dn_num_group"])
    return {"dn_pos_idx": [own - own // (2 * width) * width for own in meta["dn_pos_idx"]]}


def within_images(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    """Targets counted from the first one of each image."""
    return {"dn_gt_idx": [own - own.min(initial=own.max(initial=0)) for own in meta["dn_gt_idx"]]}


def padding_as_logits(labels: Any, boxes: Any, blocked: Any, meta: Any) -> Generated:
    """An empty box in every slot that nothing fills."""
    empty = ~labels.any(axis=-1, keepdims=True)
    return labels, np.where(empty, logit(np.zeros(4)), boxes), blocked, meta


def padding_of_class_0(batch: Any, classes: int, queries: int, embed: Any, **options: Any) -> Generated:
    """A label in every slot that nothing fills."""
    labels, *others = cdn_group(batch, classes, queries, embed, **options)
    if labels is not None:
        labels = np.where(labels.any(axis=-1, keepdims=True), labels, embed[0])
    return labels, *others


SLOTS = "loss specification, get_cdn_group: slots and dn_meta"
MASK = "loss specification, get_cdn_group: attention mask"

SLOT_DEVIATIONS = (
    Deviation(
        "ul-cdn-pos-neg-unpaired",
        "DN",
        "All positives were laid out before all negatives, while the attention mask grouped 2 M neighbours: "
        "positives of one target saw each other, and the last groups held negatives only. Right: each group "
        "holds its positives, then its negatives. Shows with two groups.",
        "ultralytics/ultralytics 8.0.124 to 8.4.170, issue 14217",
        generator=rearranged(lambda slots: slots.swapaxes(0, 1), meta_follows=True),
    ),
    Deviation(
        "plausible-negatives-first",
        "DN",
        "Each group begins with its negatives, and dn_pos_idx names them. Right: positives first. Shows with one "
        "target.",
        SLOTS,
        generator=rearranged(lambda slots: slots[:, ::-1], meta_follows=False),
    ),
    Deviation(
        "plausible-pos-idx-stride",
        "DN",
        "dn_pos_idx counts groups of M slots. Right: j + 2 M g. Shows with two groups.",
        SLOTS,
        generator=told(packed),
    ),
    Deviation(
        "plausible-gt-idx-within-image",
        "DN",
        "dn_gt_idx counts targets within each image. Right: through the batch. Shows in the second image.",
        SLOTS,
        generator=told(within_images),
    ),
    Deviation(
        "plausible-num-group-of-halves",
        "DN",
        "dn_num_group counts positive and negative halves. Right: K. Shows with one group.",
        SLOTS,
        generator=told(lambda meta: {"dn_num_group": 2 * meta["dn_num_group"]}),
    ),
    Deviation(
        "plausible-num-split-of-all",
        "DN",
        "The second entry of dn_num_split is the number of all queries. Right: of ordinary ones. Shows always.",
        SLOTS,
        generator=told(lambda meta: {"dn_num_split": [meta["dn_num_split"][0], sum(meta["dn_num_split"])]}),
    ),
    Deviation(
        "plausible-padding-as-logits",
        "DN",
        "Boxes in padding slots are the logits of an empty box. Right under this profile: zeros. Shows with images of "
        "different numbers of targets.",
        SLOTS,
        generator=altered(padding_as_logits),
    ),
    Deviation(
        "plausible-padding-of-class-0",
        "DN",
        "Padding slots carry the embedding of class 0. Right: zeros. Shows with images of different numbers of "
        "targets.",
        SLOTS,
        generator=padding_of_class_0,
    ),
    Deviation(
        "hf-dn-mask-added-as-bool",
        "DN",
        "The boolean mask was added to the attention logits, which blocked nothing, and the answers leaked. Right: "
        "minus infinity where it is true; here it is false everywhere. Shows always.",
        "huggingface/transformers 4.42 to 4.55, pull request 40269",
        generator=masked(lambda blocked, _ordinary: np.zeros_like(blocked)),
    ),
    Deviation(
        "paddle-mask-of-visible",
        "DN",
        "The mask is true where a query may look, as Paddle's attention wants it. Right under this profile: true is "
        "blocked. Shows always.",
        "PaddlePaddle/PaddleDetection, get_contrastive_denoising_training_group",
        generator=masked(lambda blocked, _ordinary: ~blocked),
    ),
    Deviation(
        "plausible-groups-see-each-other",
        "DN",
        "Only ordinary queries are kept from looking at denoising ones. Right: a group does not see another group "
        "either. Shows with two groups.",
        MASK,
        generator=masked(lambda blocked, ordinary: blocked & ordinary[:, None]),
    ),
    Deviation(
        "plausible-queries-see-denoising",
        "DN",
        "Only groups are kept apart. Right: ordinary queries do not see denoising ones either. Shows with one group.",
        MASK,
        generator=masked(lambda blocked, ordinary: blocked & ~ordinary[:, None]),
    ),
    Deviation(
        "plausible-denoising-blind-to-queries",
        "DN",
        "Denoising queries do not see ordinary ones. Right: they do. Shows with one group.",
        MASK,
        generator=masked(lambda _blocked, ordinary: ordinary[:, None] != ordinary),
    ),
    Deviation(
        "plausible-query-blind-to-itself",
        "DN",
        "A query does not see itself. Right: it does. Shows always.",
        MASK,
        generator=masked(lambda blocked, _ordinary: blocked | np.eye(len(blocked), dtype=bool)),
    ),
)
