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

from detr_conformance.optimized.by_layer import denoising_pairs, matched, number_of_targets
from detr_conformance.optimized.denoising import Nothing
from detr_conformance.optimized.normaliser import check_process_group
from detr_conformance.optimized.pairing import Matching, matching_within_images
from detr_conformance.optimized.rtdetr_denoising import Group, Names, contrastive_denoising_group
from detr_conformance.optimized.targets_of_images import targets_of_queries
from detr_conformance.optimized.transformers.configuration import KEYS, costs_of, recipe_of
from detr_conformance.optimized.transformers.model_outputs import (
    TARGETS,
    as_outputs,
    decoder_layers,
    encoder_layer,
    last_layer,
    named,
    split_of,
)
from detr_conformance.optimized.validation import entry

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
    recipe, costs = recipe_of(config), costs_of(config)
    split = None if denoising_meta_values is None else split_of(denoising_meta_values)
    main = last_layer(logits, pred_boxes, split, config.num_labels)
    targets = targets_of_queries(labels, TARGETS, *main)
    check_process_group(process_group)
    count = number_of_targets(targets, process_group)

    own, denoising, outputs = [main], None, None
    if config.auxiliary_loss:
        encoder = encoder_layer(enc_topk_logits, enc_topk_bboxes, main)
        decoder, denoising = decoder_layers(outputs_class, outputs_coord, split, main)
        own += [decoder, encoder] if len(decoder.pred_scores) else [encoder]
        outputs = [*as_outputs(decoder), *as_outputs(encoder)]
    found = [each for one in own for each in recipe.losses(one, targets, matched(one, targets, costs), count)]
    losses = named(KEYS, found[:1], [""]) | named(KEYS, found[1:], [f"_aux_{at}" for at in range(len(found) - 1)])
    if denoising is not None:
        pairs, groups = denoising_pairs(denoising, targets, denoising_meta_values, "denoising_meta_values")
        found = recipe.losses(denoising, targets, pairs, count * groups)
        losses |= named(KEYS, found, [f"_dn_{layer}" for layer in range(len(found))])
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
        queries = last_layer(logits, boxes, None, self.config.num_labels)
        found = targets_of_queries(targets, NAMES.targets, *queries)
        return matching_within_images(matched(queries, found, costs_of(self.config)), found, logits.shape[1])


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
