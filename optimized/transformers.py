"""The loss of RT-DETR and RT-DETRv2 for models of the `transformers` package: `model.loss_function = rt_detr_loss`.

Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from detr_conformance.optimized.backends.torch.totals import LossesOfLayer
from detr_conformance.optimized.by_layer import (
    Queries,
    Recipe,
    cost_options,
    denoising_pairs,
    matched,
    number_of_targets,
)
from detr_conformance.optimized.denoising import Nothing
from detr_conformance.optimized.normaliser import check_process_group
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.pairing import Matching, matching_within_images
from detr_conformance.optimized.rtdetr_denoising import Group, Names, contrastive_denoising_group
from detr_conformance.optimized.targets_of_images import targets_of_queries
from detr_conformance.optimized.validation import (
    GAINS,
    check_count,
    check_number,
    check_predictions,
    entry,
)

KEYS = ("loss_vfl", "loss_bbox", "loss_giou")
TARGETS = ("labels", "boxes", "class_labels")
"""The argument, and the keys of its dictionaries."""

NAMES = Names(("targets", *TARGETS[1:]), "num_denoising_queries")

FOR_OTHERS = ("predicted_corners", "initial_reference_points")
"""What D-FINE and DEIMv2 hand over to losses that RT-DETR does not have."""


def rt_detr_loss(
    logits: Float[Tensor, "images all_queries classes"],
    labels: Sequence[Mapping[str, Tensor]],
    device: torch.device | str | None,  # noqa: ARG001  # the argument list is that of `transformers`
    pred_boxes: Float[Tensor, "images all_queries 4"],
    config: Any,
    outputs_class: Float[Tensor, "images layers all_queries classes"] | None = None,
    outputs_coord: Float[Tensor, "images layers all_queries 4"] | None = None,
    enc_topk_logits: Float[Tensor, "images queries classes"] | None = None,
    enc_topk_bboxes: Float[Tensor, "images queries 4"] | None = None,
    denoising_meta_values: Mapping[str, Any] | None = None,
    *,
    process_group: dist.ProcessGroup | None = None,
    **kwargs: object,
) -> tuple[Tensor, dict[str, Tensor], list[dict[str, Tensor]] | None]:
    """What `RTDetrForObjectDetectionLoss` of `transformers` returns, in a fraction of its time.

    With N the number of targets, at least 1, each layer has

        loss_vfl  = weight_loss_vfl sum of BCE(x, q) (alpha p^gamma (1 - y) + q) / N    the weight is a constant
        loss_bbox = weight_loss_bbox sum_{matched} |b - b'| / N
        loss_giou = weight_loss_giou sum_{matched} (1 - GIoU(b, b')) / N

    over its own matching; those of denoising queries are divided by N times the groups. Takes float16 and bfloat16 too;
    computes in float32 or better. The losses can be differentiated once.

    Args:
        logits: of the last layer, behind those of the denoising queries where there are any.
        labels: for each image `class_labels` (targets,) and `boxes` (targets, 4) in centre form.
        device: not read, as in `transformers`.
        pred_boxes: boxes of the last layer in centre form, likewise.
        config: is read at each call: `num_labels`, `auxiliary_loss`, `focal_loss_alpha`, `focal_loss_gamma`,
            `weight_loss_vfl`, `weight_loss_bbox`, `weight_loss_giou`, and the matcher's `use_focal_loss`,
            `matcher_alpha`, `matcher_gamma`, `matcher_class_cost`, `matcher_bbox_cost`, `matcher_giou_cost`.
        outputs_class: logits of all layers of the decoder; needed with `auxiliary_loss`, like the next three.
        outputs_coord: their boxes.
        enc_topk_logits: logits of the encoder's layer, which is the last of the auxiliary ones.
        enc_topk_bboxes: its boxes.
        denoising_meta_values: `dn_positive_idx`, `dn_num_group` and `dn_num_split`; None without denoising queries.
        process_group: average N over its processes: the mean of their losses is then the loss of the merged batch,
            where that has a target for each process. None: N of this process, as in `transformers`.
        kwargs: not read, but that there are no distributions of D-FINE's, which has losses of its own for them.

    Returns:
        The sum of all losses; each under its key: `loss_vfl`, those of auxiliary layer i with `_aux_i`, those of
        denoising queries in layer i with `_dn_i`; and the predictions of the auxiliary layers, the encoder's last,
        None without `auxiliary_loss`.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
        RuntimeError: the backend cannot run here.
    """
    for name in FOR_OTHERS:
        if kwargs.get(name) is not None:
            raise ValueError(f"{name} is a {type(kwargs[name]).__name__}, expected None: this is the loss of RT-DETR")
    recipe, costs = _recipe(config), _costs(config)
    split = None if denoising_meta_values is None else _split(denoising_meta_values)
    main = _of_last_layer(logits, pred_boxes, split, config.num_labels)
    targets = targets_of_queries(labels, TARGETS, *main)
    check_process_group(process_group)
    count = number_of_targets(targets, process_group)

    own, denoising, outputs = [main], None, None
    if config.auxiliary_loss:
        encoder = _of_encoder(enc_topk_logits, enc_topk_bboxes, main)
        decoder, denoising = _of_decoder(outputs_class, outputs_coord, split, main)
        own += [decoder, encoder] if len(decoder.pred_scores) else [encoder]
        outputs = [*_as_outputs(decoder), *_as_outputs(encoder)]
    found = [each for one in own for each in recipe.losses(one, targets, matched(one, targets, costs), count)]
    losses = _named(found[:1], [""]) | _named(found[1:], [f"_aux_{layer}" for layer in range(len(found) - 1)])
    if denoising is not None:
        pairs, groups = denoising_pairs(denoising, targets, denoising_meta_values, "denoising_meta_values")
        found = recipe.losses(denoising, targets, pairs, count * groups)
        losses |= _named(found, [f"_dn_{layer}" for layer in range(len(found))])
    return torch.stack([*losses.values()]).sum(), losses, outputs


class RTDetrHungarianMatcher(nn.Module):
    """The matcher that `rt_detr_loss` uses, with the arguments of the class of that name in `transformers`.

    Args:
        config: see `rt_detr_loss`; it is read at each call.
    """

    def __init__(self, config: Any) -> None:
        """Keep the configuration."""
        super().__init__()
        self.config = config

    def forward(self, outputs: Mapping[str, Tensor], targets: Sequence[Mapping[str, Tensor]]) -> list[Matching]:
        """Match one layer.

        Args:
            outputs: `logits` (images, queries, classes) and `pred_boxes` (images, queries, 4).
            targets: see `labels` of `rt_detr_loss`.

        Returns:
            For each image min(queries, its targets) pairs: queries, ascending, and targets, counted within the image.
        """
        logits, boxes = (entry(outputs, "outputs", key) for key in ("logits", "pred_boxes"))
        queries = _of_last_layer(logits, boxes, None, self.config.num_labels)
        found = targets_of_queries(targets, NAMES.targets, *queries)
        return matching_within_images(matched(queries, found, _costs(self.config)), found, logits.shape[1])


def get_contrastive_denoising_training_group(
    targets: Sequence[Mapping[str, Tensor]],
    num_classes: int,
    num_queries: int,
    class_embed: nn.Embedding,
    num_denoising_queries: int = 100,
    label_noise_ratio: float = 0.5,
    box_noise_scale: float = 1.0,
    *,
    generator: torch.Generator | None = None,
) -> Group | Nothing:
    """The denoising queries of a batch; see `rtdetr_denoising.contrastive_denoising_group`.

    `targets` are the `labels` of `rt_detr_loss`. The attention mask holds what is added to attention: 0 and minus
    infinity.
    """
    options = num_classes, num_queries, class_embed, num_denoising_queries, label_noise_ratio, box_noise_scale
    group = contrastive_denoising_group(targets, NAMES, *options, generator)
    if group[2] is None:
        return group
    labels, boxes, blocked, meta = group
    return labels, boxes, torch.zeros_like(blocked, dtype=boxes.dtype).masked_fill_(blocked, -math.inf), meta


def _recipe(config: Any) -> Recipe:
    """The losses that a configuration asks for."""
    gains = {term: _number(config, f"weight_{key}") for term, key in zip(GAINS, KEYS, strict=True)}
    alpha, gamma = _number(config, "focal_loss_alpha"), _number(config, "focal_loss_gamma", least=0.0)
    return Recipe("varifocal", alpha, gamma, gains)


def _costs(config: Any) -> CostOptions:
    """The matching cost that a configuration asks for."""
    gains = {term: _number(config, f"matcher_{term}_cost") for term in GAINS}
    alpha, gamma = _number(config, "matcher_alpha"), _number(config, "matcher_gamma", least=0.0)
    return cost_options(gains, bool(config.use_focal_loss), alpha, gamma)


def _number(config: Any, name: str, least: float = -math.inf) -> float:
    """A number of the configuration."""
    return check_number(f"config.{name}", getattr(config, name), least)


def _split(meta: Mapping[str, Any]) -> list[int]:
    """How many queries are for denoising, and how many are not."""
    name = "denoising_meta_values"
    numbers = entry(meta, name, "dn_num_split")
    if not isinstance(numbers, (Sequence, Tensor)) or len(numbers) != 2:
        raise ValueError(f"{name}['dn_num_split'] is {numbers}, expected the numbers of denoising and of other queries")
    return [check_count(f"{name}['dn_num_split'][{place}]", number) for place, number in enumerate(numbers)]


def _of_last_layer(logits: Tensor, pred_boxes: Tensor, split: list[int] | None, classes: int) -> Queries:
    """The last layer without its denoising queries."""
    names = ("pred_boxes", "logits")
    check_predictions(pred_boxes, logits, ("images", "queries"), classes, names, "config.num_labels")
    if split is not None:
        (_, pred_boxes), (_, logits) = (_parts(*each, split) for each in zip(names, (pred_boxes, logits), strict=True))
    return Queries(pred_boxes[None], logits[None])


def _of_encoder(logits: Tensor | None, boxes: Tensor | None, main: Queries) -> Queries:
    """The encoder's layer."""
    names = ("enc_topk_bboxes", "enc_topk_logits")
    logits, boxes = _given(names[1], logits), _given(names[0], boxes)
    classes = main.pred_scores.shape[-1]
    check_predictions(boxes, logits, ("images", "queries"), classes, names, "config.num_labels")
    _check_images(names[1], logits, main)
    return Queries(boxes[None], logits[None])


def _of_decoder(
    logits: Tensor | None, boxes: Tensor | None, split: list[int] | None, main: Queries
) -> tuple[Queries, Queries | None]:
    """The decoder's layers before the last, and the denoising queries of all of them, if there are any."""
    names = ("outputs_coord", "outputs_class")
    logits, boxes = _given(names[1], logits), _given(names[0], boxes)
    classes = main.pred_scores.shape[-1]
    check_predictions(boxes, logits, ("images", "layers", "queries"), classes, names, "config.num_labels")
    _check_images(names[1], logits, main)
    denoising, _ = (0, 0) if split is None else _fitting(names[0], boxes, split)
    (of_boxes, auxiliary_boxes), (of_logits, auxiliary_logits) = (
        _Decoder.apply(each, denoising)  # type: ignore[no-untyped-call]
        for each in (boxes, logits)
    )
    auxiliary = Queries(auxiliary_boxes, auxiliary_logits)
    return auxiliary, None if split is None else Queries(of_boxes, of_logits)


class _Decoder(torch.autograd.Function):
    """Denoising queries of all layers, and the others of those before the last, each with the layers first.

    By slices each gradient would be padded with zeros to all layers and queries, and these be added.
    """

    @staticmethod
    def forward(ctx: Any, of_layers: Tensor, denoising: int) -> tuple[Tensor, Tensor]:
        ctx.shape, ctx.denoising = of_layers.shape, denoising
        ctx.set_materialize_grads(False)
        layers = of_layers.detach().transpose(0, 1)
        return layers[:, :, :denoising], layers[:-1, :, denoising:]

    @staticmethod
    def backward(ctx: Any, of_denoising: Tensor | None, of_auxiliary: Tensor | None) -> tuple[Tensor | None, None]:
        given = of_denoising if of_auxiliary is None else of_auxiliary
        if given is None:
            return None, None
        grads = given.new_zeros(ctx.shape) if None in (of_denoising, of_auxiliary) else given.new_empty(ctx.shape)
        layers = grads.transpose(0, 1)
        layers[-1, :, ctx.denoising :] = 0
        if of_denoising is not None:
            layers[:, :, : ctx.denoising] = of_denoising
        if of_auxiliary is not None:
            layers[:-1, :, ctx.denoising :] = of_auxiliary
        return grads, None


def _parts(name: str, of_queries: Tensor, split: list[int]) -> tuple[Tensor, ...]:
    """Denoising queries and the others."""
    parts: tuple[Tensor, ...] = of_queries.split(_fitting(name, of_queries, split), dim=-2)  # type: ignore[no-untyped-call]
    return parts


def _fitting(name: str, of_queries: Tensor, split: list[int]) -> list[int]:
    """The numbers of denoising and of other queries, if there are as many."""
    if of_queries.shape[-2] != sum(split):
        raise ValueError(f"{name} has {of_queries.shape[-2]} queries, expected {sum(split)}: dn_num_split is {split}")
    return split


def _given(name: str, tensor: Tensor | None) -> Tensor:
    """What auxiliary losses need."""
    if tensor is None:
        raise ValueError(f"{name} is None, expected a tensor, as config.auxiliary_loss is True")
    return tensor


def _check_images(name: str, of_images: Tensor, main: Queries) -> None:
    """As many images as the last layer has."""
    if len(of_images) != main.pred_scores.shape[1]:
        raise ValueError(f"{name} has {len(of_images)} images, expected {main.pred_scores.shape[1]} as in logits")


def _as_outputs(queries: Queries) -> list[dict[str, Tensor]]:
    """The predictions of each layer, as the model returns them."""
    return [{"logits": logits, "pred_boxes": boxes} for boxes, logits in zip(*queries, strict=True)]


def _named(of_layers: Sequence[LossesOfLayer], suffixes: Sequence[str]) -> dict[str, Tensor]:
    """The losses of layers under their keys."""
    pairs = zip(of_layers, suffixes, strict=True)
    return {f"{key}{suffix}": loss for losses, suffix in pairs for key, loss in zip(KEYS, losses, strict=True)}
