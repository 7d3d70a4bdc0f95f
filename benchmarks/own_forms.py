"""Peers that take targets, layers and denoising queries in a form of their own."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from settings import GAINS, Losses, Setting, Step
from workloads import Inputs, as_of_a_model

_TORCHVISION = torch.library.Library("torchvision", "FRAGMENT")  # kept: a library takes its schemas along when it goes


def transformers(inputs: Inputs, setting: Setting) -> Step:
    """RT-DETR's loss function in `transformers`."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    declare_torchvision()
    from transformers import RTDetrConfig
    from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss

    config = RTDetrConfig(
        num_labels=inputs.workload.classes, focal_loss_alpha=setting.alpha, focal_loss_gamma=setting.gamma
    )
    return _of_transformers(inputs, RTDetrForObjectDetectionLoss, config)


def optimized_for_transformers(inputs: Inputs, setting: Setting) -> Step:
    """Our loss function for its models, which reads these attributes of a configuration."""
    from detr_conformance.optimized.transformers import rt_detr_loss

    config = SimpleNamespace(
        num_labels=inputs.workload.classes,
        auxiliary_loss=True,
        focal_loss_alpha=setting.alpha,
        focal_loss_gamma=setting.gamma,
        weight_loss_vfl=GAINS["class"],
        weight_loss_bbox=GAINS["bbox"],
        weight_loss_giou=GAINS["giou"],
        use_focal_loss=True,
        matcher_alpha=0.25,
        matcher_gamma=2.0,
        matcher_class_cost=2.0,
        matcher_bbox_cost=5.0,
        matcher_giou_cost=2.0,
    )
    return _of_transformers(inputs, rt_detr_loss, config)


def _of_transformers(inputs: Inputs, loss_function: Callable[..., Any], config: Any) -> Step:
    """A loss function with these arguments."""
    labels = [{"class_labels": each["labels"], "boxes": each["boxes"]} for each in inputs.targets]
    # Its model stacks the decoder's layers behind the images.
    boxes, logits = (as_of_a_model(inputs.decoder[key].transpose(0, 1).contiguous()) for key in ("boxes", "logits"))
    encoder = {"enc_topk_bboxes": inputs.encoder["boxes"], "enc_topk_logits": inputs.encoder["logits"]}
    meta = inputs.dn_meta | {"dn_positive_idx": inputs.dn_meta["dn_pos_idx"]}
    stacked = {"outputs_class": logits, "outputs_coord": boxes, "denoising_meta_values": meta}

    def forward() -> Losses:
        last = (logits[:, -1], labels, logits.device, boxes[:, -1])
        _, losses, _ = loss_function(*last, config, **stacked, **encoder)
        return losses

    return Step(forward, (boxes, logits, *encoder.values()), _from_transformers, same_gradients=False)


def _from_transformers(losses: Losses) -> Losses:
    """One key for each layer; of the denoising keys the highest number is the last layer's."""
    last = max(int(key.rsplit("_", 1)[1]) for key in losses if "_dn_" in key)
    summed: Losses = {}
    for key, loss in losses.items():
        suffix = "_aux" if "_aux_" in key else ""
        if "_dn_" in key:
            suffix = "_dn" if key.endswith(f"_dn_{last}") else "_aux_dn"
        name = key.replace("vfl", "class").split("_")[1]
        summed[f"loss_{name}{suffix}"] = summed.get(f"loss_{name}{suffix}", 0) + loss
    return summed


def declare_torchvision() -> None:
    """Let an installed torchvision be imported that was built for another torch: two schemas are missing then."""
    try:
        import torchvision  # noqa: F401  # only to see whether it can be
    except ModuleNotFoundError:
        return
    except RuntimeError:
        for name in ("nms", "qnms"):
            _TORCHVISION.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def rfdetr(inputs: Inputs, setting: Setting) -> Step:
    """RF-DETR's criterion with focal loss; only the encoder's and the decoder's ordinary queries."""
    return _of_rfdetr(inputs, setting, ia_bce_loss=False)


def rfdetr_default(inputs: Inputs, setting: Setting) -> Step:
    """The same with the classification loss that RF-DETR is trained with."""
    return _of_rfdetr(inputs, setting, ia_bce_loss=True)


def _of_rfdetr(inputs: Inputs, setting: Setting, ia_bce_loss: bool) -> Step:
    declare_torchvision()
    from rfdetr.models.criterion import SetCriterion
    from rfdetr.models.matcher import HungarianMatcher

    matcher = HungarianMatcher(cost_class=2, cost_bbox=5, cost_giou=2, focal_alpha=setting.alpha)
    weights = {"loss_ce": GAINS["class"], "loss_bbox": GAINS["bbox"], "loss_giou": GAINS["giou"]}
    losses = ["labels", "boxes", "cardinality"]  # its own choice, which its fast paths ask for
    criterion = SetCriterion(inputs.workload.classes, matcher, weights, setting.alpha, losses, ia_bce_loss=ia_bce_loss)
    # Layers of their own: by slices of one tensor, each layer's gradient would be padded to all layers and summed.
    boxes, logits = ([as_of_a_model(layer) for layer in inputs.ordinary(key)] for key in ("boxes", "logits"))
    encoder, *aux, last = ({"pred_boxes": b, "pred_logits": s} for b, s in zip(boxes, logits, strict=True))
    outputs = {**last, "aux_outputs": aux, "enc_outputs": encoder}

    def forward() -> Losses:
        computed = criterion(outputs, inputs.targets)
        named = ((key, weights.get("_".join(key.split("_")[:2]))) for key in computed)
        return {key: computed[key] * weight for key, weight in named if weight is not None}

    return Step(forward, (*boxes, *logits), None if ia_bce_loss else _from_rfdetr, same_gradients=False)


def _from_rfdetr(losses: Losses) -> Losses:
    """The last layer's keys have no suffix, every other layer's is auxiliary here."""
    summed: Losses = {}
    for key, loss in losses.items():
        _, name, *layer = key.replace("ce", "class").split("_")
        canonical = f"loss_{name}{'_aux' if layer else ''}"
        summed[canonical] = summed.get(canonical, 0) + loss
    return summed
