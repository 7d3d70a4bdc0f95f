"""The layers of queries in what a model hands over to its loss function: the last, the decoder's, the encoder's.

A model stacks the decoder's layers behind the images, and puts denoising queries in front of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from detr_conformance.optimized.by_layer import Queries
from detr_conformance.optimized.validation import check_count, check_predictions, entry

TARGETS = ("labels", "boxes", "class_labels")
"""The argument, and the keys of its dictionaries."""
LAYERED = ("images", "layers", "queries")


def split_of(meta: Mapping[str, Any]) -> list[int]:
    """How many queries are for denoising, and how many are not."""
    name = "denoising_meta_values"
    numbers = entry(meta, name, "dn_num_split")
    if not isinstance(numbers, (Sequence, Tensor)) or len(numbers) != 2:
        raise ValueError(f"{name}['dn_num_split'] is {numbers}, expected the numbers of denoising and of other queries")
    return [check_count(f"{name}['dn_num_split'][{place}]", number) for place, number in enumerate(numbers)]


def last_layer(logits: Tensor, pred_boxes: Tensor, split: list[int] | None, classes: int) -> Queries:
    """The last layer without its denoising queries."""
    names = ("pred_boxes", "logits")
    check_predictions(pred_boxes, logits, ("images", "queries"), classes, names, "config.num_labels")
    if split is not None:
        (_, pred_boxes), (_, logits) = (_parts(*each, split) for each in zip(names, (pred_boxes, logits), strict=True))
    return Queries(pred_boxes[None], logits[None])


def encoder_layer(logits: Tensor | None, boxes: Tensor | None, main: Queries) -> Queries:
    """The encoder's layer."""
    names = ("enc_topk_bboxes", "enc_topk_logits")
    logits, boxes = needed(names[1], logits), needed(names[0], boxes)
    classes = main.pred_scores.shape[-1]
    check_predictions(boxes, logits, ("images", "queries"), classes, names, "config.num_labels")
    _check_images(names[1], logits, main)
    return Queries(boxes[None], logits[None])


def decoder_layers(
    logits: Tensor | None,
    boxes: Tensor | None,
    split: list[int] | None,
    main: Queries,
    at_most: int | None = None,
) -> tuple[Queries, Queries | None]:
    """The decoder's layers before the last, and the denoising queries of all of them, if there are any.

    Args:
        logits: of all layers.
        boxes: of all layers.
        split: the numbers of denoising and of other queries; None without denoising queries.
        main: the last layer.
        at_most: layers behind so many are left out, and of these the last is not one of those before the last.
    """
    names = ("outputs_coord", "outputs_class")
    logits, boxes = needed(names[1], logits), needed(names[0], boxes)
    classes = main.pred_scores.shape[-1]
    check_predictions(boxes, logits, LAYERED, classes, names, "config.num_labels")
    _check_images(names[1], logits, main)
    denoising, _ = (0, 0) if split is None else _fitting(names[0], boxes, split)
    layers = min(boxes.shape[1], at_most or boxes.shape[1])
    (of_boxes, auxiliary_boxes), (of_logits, auxiliary_logits) = (
        _Decoder.apply(each, denoising, layers)  # type: ignore[no-untyped-call]
        for each in (boxes, logits)
    )
    auxiliary = Queries(auxiliary_boxes, auxiliary_logits)
    return auxiliary, None if split is None else Queries(of_boxes, of_logits)


class _Decoder(torch.autograd.Function):
    """Denoising queries of the first layers, and the others of those but the last, each with the layers first.

    By slices each gradient would be padded with zeros to all layers and queries, and these be added.
    """

    @staticmethod
    def forward(ctx: Any, of_layers: Tensor, denoising: int, count: int) -> tuple[Tensor, Tensor]:
        ctx.shape, ctx.denoising, ctx.count = of_layers.shape, denoising, count
        ctx.set_materialize_grads(False)
        layers = of_layers.detach().transpose(0, 1)[:count]
        return layers[:, :, :denoising], layers[:-1, :, denoising:]

    @staticmethod
    def backward(
        ctx: Any, of_denoising: Tensor | None, of_auxiliary: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        arriving = of_denoising if of_auxiliary is None else of_auxiliary
        if arriving is None:
            return None, None, None
        grads = arriving.new_zeros(ctx.shape) if None in (of_denoising, of_auxiliary) else arriving.new_empty(ctx.shape)
        layers, last = grads.transpose(0, 1), ctx.count - 1
        layers[last, :, ctx.denoising :] = 0
        layers[ctx.count :] = 0
        if of_denoising is not None:
            layers[: ctx.count, :, : ctx.denoising] = of_denoising
        if of_auxiliary is not None:
            layers[:last, :, ctx.denoising :] = of_auxiliary
        return grads, None, None


def _parts(name: str, of_queries: Tensor, split: list[int]) -> tuple[Tensor, ...]:
    """Denoising queries and the others."""
    parts: tuple[Tensor, ...] = of_queries.split(_fitting(name, of_queries, split), dim=-2)  # type: ignore[no-untyped-call]
    return parts


def _fitting(name: str, of_queries: Tensor, split: list[int]) -> list[int]:
    """The numbers of denoising and of other queries, if there are as many."""
    if of_queries.shape[-2] != sum(split):
        raise ValueError(f"{name} has {of_queries.shape[-2]} queries, expected {sum(split)}: dn_num_split is {split}")
    return split


def needed(name: str, tensor: Tensor | None) -> Tensor:
    """What auxiliary losses need."""
    if tensor is None:
        raise ValueError(f"{name} is None, expected a tensor, as config.auxiliary_loss is True")
    return tensor


def _check_images(name: str, of_images: Tensor, main: Queries) -> None:
    """As many images as the last layer has."""
    if len(of_images) != main.pred_scores.shape[1]:
        raise ValueError(f"{name} has {len(of_images)} images, expected {main.pred_scores.shape[1]} as in logits")


def as_outputs(queries: Queries) -> list[dict[str, Tensor]]:
    """The predictions of each layer, as the model returns them."""
    return [{"logits": logits, "pred_boxes": boxes} for boxes, logits in zip(*queries, strict=True)]


def named(keys: Sequence[str], of_layers: Sequence[Sequence[Tensor]], suffixes: Sequence[str]) -> dict[str, Tensor]:
    """The losses of layers under their keys."""
    pairs = zip(of_layers, suffixes, strict=True)
    return {f"{key}{suffix}": loss for losses, suffix in pairs for key, loss in zip(keys, losses, strict=True)}
