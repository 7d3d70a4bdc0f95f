"""The faces of our own fast implementation for `transformers` and for the RT-DETR repositories, as ports."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch.distributed as dist

from detr_conformance.optimized import transformers
from detr_conformance.optimized.rtdetr import (
    CLASS_LOSSES,
    HungarianMatcher,
    RTDETRCriterion,
    get_contrastive_denoising_training_group,
)
from detr_conformance.ports.dfine_form import DistributionsPort
from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names, through_the_batch
from detr_conformance.ports.rtdetr_form import CAPABILITIES, LossFunctionPort, denoising_group
from detr_conformance.ports.torch_port import one_thread, tensors_of
from detr_conformance.ports.transformers_dfine_spec import TRANSFORMERS_DFINE
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup, Matching
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.distributions import BINS, CURVATURE, REACH
from detr_conformance.reference.options import LossConfig

DTYPES = frozenset({"float16", "bfloat16", "float32", "float64"})
NAME_OF_LOSS = {ours: name for name, ours in CLASS_LOSSES.items()}


def varifocal_alone(config: LossConfig, pairs: int) -> str:  # noqa: ARG001  # decided by neither
    """The varifocal loss: there is no other."""
    return "varifocal"


_TRANSFORMERS = "https://github.com/huggingface/transformers, src/transformers/loss/loss_rt_detr.py"

RTDETR_VARIFOCAL = differs(
    FAMILY["rtdetr"],
    "rtdetr-varifocal",
    choose_class_term=(varifocal_alone, "Classification is the varifocal loss.", _TRANSFORMERS),
    class_terms=(
        {"varifocal": FAMILY["rtdetr"].class_terms["varifocal"]},
        "There is no other classification loss; the weight of this one is a constant.",
        _TRANSFORMERS,
    ),
)
"""RT-DETR as `transformers` configures it."""


DFINE_VARIFOCAL = differs(
    RTDETR_VARIFOCAL,
    "transformers-dfine-varifocal",
    extra_terms=(
        TRANSFORMERS_DFINE.extra_terms,
        TRANSFORMERS_DFINE.differences["extra_terms"].sentence,
        "https://github.com/huggingface/transformers, src/transformers/loss/loss_d_fine.py",
    ),
)
"""D-FINE as `transformers` has and configures it."""


class OptimizedTransformersPort(LossFunctionPort):
    """`detr_conformance.optimized.transformers`."""

    name = "optimized-transformers"
    profile: str | LossSpec = RTDETR_VARIFOCAL
    capabilities = CAPABILITIES | {"ranks", "concurrent"}
    dtypes = DTYPES
    config_class = SimpleNamespace

    @staticmethod
    def loss_function(*arguments: Any, **more: Any) -> Any:
        """The loss of the ranks that there are."""
        ranks = dist.group.WORLD if dist.is_initialized() else None
        return transformers.rt_detr_loss(*arguments, process_group=ranks, **more)

    def matcher(self, case: LossCase) -> transformers.RTDetrHungarianMatcher:
        """The matcher with the options of the case."""
        return transformers.RTDetrHungarianMatcher(self.build(case))

    @one_thread()
    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing by the criterion, which is the same for both packages."""
        tensors = tensors_of(case, self.device)
        targets = [{"labels": each[self.names.labels]} for each in self.targets(case, tensors)]
        return through_the_batch(case, RTDETRCriterion.get_cdn_matched_indices(self.meta(case, tensors), targets))

    @one_thread()
    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries for the case's targets."""
        generate = transformers.get_contrastive_denoising_training_group
        return denoising_group(generate, case, self.targets(case, tensors_of(case)), "num_denoising_queries")


class OptimizedDFinePort(DistributionsPort, OptimizedTransformersPort):
    """`d_fine_loss` of `detr_conformance.optimized.transformers`."""

    name = "optimized-transformers-dfine"
    profile = DFINE_VARIFOCAL
    capabilities = OptimizedTransformersPort.capabilities | {"distributions"}

    @staticmethod
    def loss_function(*arguments: Any, **more: Any) -> Any:
        """The loss of the ranks that there are."""
        ranks = dist.group.WORLD if dist.is_initialized() else None
        return transformers.d_fine_loss(*arguments, process_group=ranks, **more)

    def build(self, case: LossCase) -> SimpleNamespace:
        """With the bins of the family."""
        bins = {"max_num_bins": BINS - 1, "up": REACH, "reg_scale": 1 / CURVATURE}
        return SimpleNamespace(**vars(super().build(case)), **bins)


class OptimizedRTDETRPort(ListOfDictsPort):
    """`detr_conformance.optimized.rtdetr.RTDETRCriterion` with its `HungarianMatcher`."""

    name = "optimized-rtdetr"
    profile: str | LossSpec = "rtdetr"
    capabilities = CAPABILITIES | {"focal", "bce", "ranks", "concurrent"}
    dtypes = DTYPES
    names = Names(encoders="enc_aux_outputs", denoising="dn_aux_outputs")

    def build(self, case: LossCase) -> RTDETRCriterion:
        """The criterion with the options of the case."""
        config, gain = case.config, case.config.loss_gain
        of_class = NAME_OF_LOSS[config.classification]
        weights = {f"loss_{of_class}": gain["class"], "loss_bbox": gain["bbox"], "loss_giou": gain["giou"]}
        losses = [of_class, "boxes"]
        return RTDETRCriterion(self.matcher(case), weights, losses, config.alpha, config.gamma, num_classes=config.nc)

    def matcher(self, case: LossCase) -> HungarianMatcher:
        """The matcher with the options of the case."""
        options = case.matcher
        costs = {f"cost_{term}": cost for term, cost in options.cost_gain.items()}
        return HungarianMatcher(costs, use_focal_loss=options.use_fl, alpha=options.alpha, gamma=options.gamma)

    @one_thread()
    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries for the case's targets."""
        targets = self.targets(case, tensors_of(case))
        return denoising_group(get_contrastive_denoising_training_group, case, targets, "num_denoising")


def port() -> OptimizedTransformersPort:
    """The loss function for models of `transformers`."""
    return OptimizedTransformersPort()


def dfine_port() -> OptimizedDFinePort:
    """The loss function for D-FINE of `transformers`."""
    return OptimizedDFinePort()


def rtdetr_port() -> OptimizedRTDETRPort:
    """The criterion for the RT-DETR repositories."""
    return OptimizedRTDETRPort()
