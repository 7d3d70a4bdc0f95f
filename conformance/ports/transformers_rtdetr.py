"""The RT-DETR loss of the `transformers` package, through its public loss function and its own target format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import RTDetrConfig
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss, RTDetrHungarianMatcher, RTDetrLoss
from transformers.models.rt_detr.modeling_rt_detr import get_contrastive_denoising_training_group

from detr_conformance.ports.torch_port import CaseTensors, TorchPort, arrays_of, one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup, Matching


class TransformersRTDetrPort(TorchPort):
    """`RTDetrForObjectDetectionLoss`, `RTDetrHungarianMatcher` and the denoising generator of `transformers`.

    Layer 0 of a case is the encoder's, which `transformers` takes in arguments of its own. The classification loss is
    varifocal: the branches for the others cannot be run (see docs/findings.md).
    """

    name = "transformers-rtdetr"
    profile = "rtdetr"
    capabilities = frozenset(
        {
            "varifocal",
            "no_aux",
            "denoising",
            "gradients",
            "one_object",
            "match",
            "matcher_options",
            "denoising_indices",
            "denoising_group",
        }
    )
    # Half precision runs under autocast only: torch.cdist has no CPU kernel for it.
    dtypes = frozenset({"float32", "float64"})

    def build(self, case: LossCase) -> RTDetrConfig:
        """The configuration; the loss function builds its criterion anew in every call."""
        return _config(case)

    def call(self, loss: RTDetrConfig, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Hand the layers over as the model does: batch first, decoder layers stacked, denoising queries in front."""
        boxes, logits = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        labels = _labels(case, tensors)
        config = loss
        if not config.auxiliary_loss:
            _, losses, _ = RTDetrForObjectDetectionLoss(logits[-1], labels, logits.device, boxes[-1], config)
            return losses  # type: ignore[no-any-return]  # judged by the caller
        decoder = {"boxes": boxes[1:].transpose(0, 1), "logits": logits[1:].transpose(0, 1)}
        meta = None
        if case.denoising is not None:
            meta = _meta(case, tensors)
            decoder["boxes"] = torch.cat([tensors.predictions["dn_bboxes"].transpose(0, 1), decoder["boxes"]], dim=2)
            decoder["logits"] = torch.cat([tensors.predictions["dn_scores"].transpose(0, 1), decoder["logits"]], dim=2)
        _, losses, _ = RTDetrForObjectDetectionLoss(
            decoder["logits"][:, -1],
            labels,
            logits.device,
            decoder["boxes"][:, -1],
            config,
            outputs_class=decoder["logits"],
            outputs_coord=decoder["boxes"],
            enc_topk_logits=logits[0],
            enc_topk_bboxes=boxes[0],
            denoising_meta_values=meta,
        )
        return losses  # type: ignore[no-any-return]  # judged by the caller

    @one_thread()
    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every layer's predictions through the matcher; its targets count within each image."""
        tensors = tensors_of(case)
        matcher = RTDetrHungarianMatcher(_config(case))
        labels = _labels(case, tensors)
        layers = zip(tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"], strict=True)
        return [
            _through_the_batch(case, matcher({"logits": logits, "pred_boxes": boxes}, labels))
            for boxes, logits in layers
        ]

    @one_thread()
    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing by `RTDetrLoss.get_cdn_matched_indices`."""
        tensors = tensors_of(case)
        return _through_the_batch(
            case, RTDetrLoss.get_cdn_matched_indices(_meta(case, tensors), _labels(case, tensors))
        )

    @one_thread()
    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries for the case's targets. `training` is the model's business here, so it is decided first."""
        generator = case.generator
        if not generator.training:
            return None
        torch.manual_seed(generator.seed)
        embedding = torch.nn.Embedding.from_pretrained(  # type: ignore[no-untyped-call]  # torch does not type it
            torch.cat([torch.eye(case.config.nc), torch.zeros(1, case.config.nc)]), padding_idx=case.config.nc
        )
        labels, boxes, mask, meta = get_contrastive_denoising_training_group(
            _labels(case, tensors_of(case)),
            case.config.nc,
            case.queries,
            embedding,
            num_denoising_queries=generator.num_dn,
            label_noise_ratio=generator.cls_noise_ratio,
            box_noise_scale=generator.box_noise_scale,
        )
        if meta is None:
            return None
        return DenoisingGroup(
            labels=labels.numpy(),
            boxes=boxes.numpy(),
            blocked=(mask != 0).numpy(),
            pos_idx=[np.asarray(each) for each in meta["dn_positive_idx"]],
            gt_idx=None,
            num_group=meta["dn_num_group"],
            num_split=list(meta["dn_num_split"]),
        )


def _config(case: LossCase) -> RTDetrConfig:
    """The case's options under the names of `transformers`."""
    gain, cost = case.config.loss_gain, case.matcher.cost_gain
    return RTDetrConfig(
        num_labels=case.config.nc,
        auxiliary_loss=case.config.aux_loss and case.layers > 1,
        focal_loss_alpha=case.config.alpha,
        focal_loss_gamma=case.config.gamma,
        weight_loss_vfl=gain["class"],
        weight_loss_bbox=gain["bbox"],
        weight_loss_giou=gain["giou"],
        use_focal_loss=case.matcher.use_fl,
        matcher_alpha=case.matcher.alpha,
        matcher_gamma=case.matcher.gamma,
        matcher_class_cost=cost["class"],
        matcher_bbox_cost=cost["bbox"],
        matcher_giou_cost=cost["giou"],
    )


def _labels(case: LossCase, tensors: CaseTensors) -> list[dict[str, torch.Tensor]]:
    """One dictionary for each image."""
    own = [case.of_image(image) for image in range(case.images)]
    return [{"class_labels": tensors.gt_cls[part], "boxes": tensors.gt_bboxes[part]} for part in own]


def _meta(case: LossCase, tensors: CaseTensors) -> dict[str, Any]:
    assert case.denoising is not None  # noqa: S101  # callers have looked
    return {
        "dn_positive_idx": list(tensors.pos_idx),
        "dn_num_group": case.denoising.num_group,
        "dn_num_split": [case.denoising.bboxes.shape[2], case.queries],
    }


def _through_the_batch(case: LossCase, pairs: Sequence[Any]) -> list[Matching]:
    """Targets counted from the start of the batch."""
    arrays = [arrays_of(pair) for pair in pairs]
    return [(queries, targets + case.of_image(image).start) for image, (queries, targets) in enumerate(arrays)]


def port() -> TransformersRTDetrPort:
    """The installed `transformers` package."""
    return TransformersRTDetrPort()
