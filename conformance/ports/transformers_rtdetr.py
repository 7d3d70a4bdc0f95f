"""The losses of RT-DETR and RT-DETRv2 in the `transformers` package, through its public loss function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from transformers import PretrainedConfig, RTDetrConfig, RTDetrV2Config
from transformers.loss.loss_rt_detr import RTDetrForObjectDetectionLoss, RTDetrHungarianMatcher, RTDetrLoss
from transformers.models.rt_detr import modeling_rt_detr
from transformers.models.rt_detr_v2 import modeling_rt_detr_v2

from detr_conformance.ports.list_of_dicts_port import through_the_batch
from detr_conformance.ports.rtdetr_form import CAPABILITIES, DTYPES, LossFunctionPort, denoising_group
from detr_conformance.ports.torch_port import one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup, Matching
from detr_conformance.reference import LossSpec


class TransformersRTDetrPort(LossFunctionPort):
    """`RTDetrForObjectDetectionLoss`, `RTDetrHungarianMatcher` and the denoising generator of `transformers`.

    The classification loss is varifocal: the branches for the others cannot be run (see docs/findings.md).
    """

    name = "transformers-rtdetr"
    profile: str | LossSpec = "rtdetr"
    capabilities = CAPABILITIES
    dtypes = DTYPES
    config_class: Callable[..., PretrainedConfig] = RTDetrConfig
    loss_function: Callable[..., Any] = staticmethod(RTDetrForObjectDetectionLoss)
    generator: Callable[..., Any] = staticmethod(modeling_rt_detr.get_contrastive_denoising_training_group)

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
