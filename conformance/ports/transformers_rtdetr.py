"""The losses of RT-DETR and RT-DETRv2 in the `transformers` package, through its public loss function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import PretrainedConfig, RTDetrConfig, RTDetrV2Config
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss, RTDetrHungarianMatcher, RTDetrLoss
from transformers.models.rt_detr import modeling_rt_detr
from transformers.models.rt_detr_v2 import modeling_rt_detr_v2

from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names, through_the_batch
from detr_conformance.ports.rtdetr_form import CAPABILITIES, DTYPES, denoising_group
from detr_conformance.ports.torch_port import CaseTensors, one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup, Matching
from detr_conformance.reference import LossSpec

NAMES = Names(logits="logits", boxes="pred_boxes", labels="class_labels")


class TransformersRTDetrPort(ListOfDictsPort):
    """`RTDetrForObjectDetectionLoss`, `RTDetrHungarianMatcher` and the denoising generator of `transformers`.

    Layer 0 of a case is the encoder's, which `transformers` takes in arguments of its own. The classification loss is
    varifocal: the branches for the others cannot be run (see docs/findings.md).
    """

    name = "transformers-rtdetr"
    profile: str | LossSpec = "rtdetr"
    capabilities = CAPABILITIES
    dtypes = DTYPES
    names = NAMES
    config_class: Callable[..., PretrainedConfig] = RTDetrConfig
    loss_function: Callable[..., Any] = staticmethod(RTDetrForObjectDetectionLoss)
    generator: Callable[..., Any] = staticmethod(modeling_rt_detr.get_contrastive_denoising_training_group)
    class_weight = "weight_loss_vfl"
    """What the configuration calls the gain of the classification loss."""

    def build(self, case: LossCase) -> PretrainedConfig:
        """The case's options under the names of `transformers`; its loss function builds a criterion in every call."""
        gain, cost = case.config.loss_gain, case.matcher.cost_gain
        return self.config_class(
            num_labels=case.config.nc,
            auxiliary_loss=case.config.aux_loss,
            focal_loss_alpha=case.config.alpha,
            focal_loss_gamma=case.config.gamma,
            weight_loss_bbox=gain["bbox"],
            weight_loss_giou=gain["giou"],
            use_focal_loss=case.matcher.use_fl,
            matcher_alpha=case.matcher.alpha,
            matcher_gamma=case.matcher.gamma,
            matcher_class_cost=cost["class"],
            matcher_bbox_cost=cost["bbox"],
            matcher_giou_cost=cost["giou"],
            **{self.class_weight: gain["class"]},
        )

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Hand the layers over as the model does: batch first, decoder layers stacked, denoising queries in front."""
        boxes, logits = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        config, labels = loss, self.targets(case, tensors)
        if not config.auxiliary_loss:
            _, losses, _ = self.loss_function(logits[-1], labels, logits.device, boxes[-1], config)
            return losses  # type: ignore[no-any-return]  # judged by the caller
        decoder = {"boxes": boxes[1:].transpose(0, 1), "logits": logits[1:].transpose(0, 1)}
        meta = None
        if case.denoising is not None:
            meta = self.meta(case, tensors)
            decoder["boxes"] = torch.cat([tensors.predictions["dn_bboxes"].transpose(0, 1), decoder["boxes"]], dim=2)
            decoder["logits"] = torch.cat([tensors.predictions["dn_scores"].transpose(0, 1), decoder["logits"]], dim=2)
        _, losses, _ = self.loss_function(
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
            **self.more(case, tensors, decoder["boxes"]),
        )
        return losses  # type: ignore[no-any-return]  # judged by the caller

    def more(
        self,
        case: LossCase,  # noqa: ARG002  # for others
        tensors: CaseTensors,  # noqa: ARG002  # as above
        boxes: torch.Tensor,  # noqa: ARG002  # as above
    ) -> dict[str, torch.Tensor]:
        """What the loss function wants besides, beside boxes of all queries and layers of the decoder: nothing."""
        return {}

    def matcher(self, case: LossCase) -> RTDetrHungarianMatcher:
        """The matcher with the options of the case."""
        return RTDetrHungarianMatcher(self.build(case))

    @one_thread()
    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing by `RTDetrLoss.get_cdn_matched_indices`."""
        tensors = tensors_of(case)
        pairs = RTDetrLoss.get_cdn_matched_indices(self.meta(case, tensors), self.targets(case, tensors))
        return through_the_batch(case, pairs)

    @one_thread()
    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries for the case's targets."""
        targets = self.targets(case, tensors_of(case))
        return denoising_group(self.generator, case, targets, "num_denoising_queries")


class TransformersRTDetrV2Port(TransformersRTDetrPort):
    """RT-DETRv2: the same loss function, with its own configuration and generator."""

    name = "transformers-rtdetrv2"
    config_class = RTDetrV2Config
    generator = staticmethod(modeling_rt_detr_v2.get_contrastive_denoising_training_group)


def port() -> TransformersRTDetrPort:
    """RT-DETR of the installed `transformers` package."""
    return TransformersRTDetrPort()


def v2_port() -> TransformersRTDetrV2Port:
    """RT-DETRv2 of the installed `transformers` package."""
    return TransformersRTDetrV2Port()
