"""The losses of DETR and its heirs in the `transformers` package, through its public loss functions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any
from unittest import mock

import torch
from transformers import ConditionalDetrConfig, DeformableDetrConfig, DetrConfig, LwDetrConfig, PretrainedConfig
from transformers.loss.loss_deformable_detr import (
    DeformableDetrForObjectDetectionLoss,
    DeformableDetrForSegmentationLoss,
    DeformableDetrHungarianMatcher,
)
from transformers.loss.loss_for_object_detection import (
    ForObjectDetectionLoss,
    ForSegmentationLoss,
    HungarianMatcher,
)
from transformers.loss.loss_lw_detr import LwDetrForObjectDetectionLoss, LwDetrHungarianMatcher

from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort
from detr_conformance.ports.rtdetr_form import NAMES
from detr_conformance.ports.torch_port import CaseTensors
from detr_conformance.properties.case import LossCase
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import differs

_SEGMENTATION = "https://github.com/huggingface/transformers, src/transformers/loss/loss_deformable_detr.py"

DEFORMABLE_MASKS = differs(
    FAMILY["deformable"],
    "deformable-masks",
    extra_terms=(
        FAMILY["detr-masks"].extra_terms,
        "The main layer has DETR's two losses of masks.",
        _SEGMENTATION,
    ),
)
"""Deformable DETR with masks, as Conditional DETR for segmentation."""

RANKS = frozenset({"ranks"}) if find_spec("accelerate") else frozenset[str]()
"""Of ranks the package knows what `accelerate` tells it, and nothing where that is not installed."""

GAINS = (
    {"class": 1.0, "bbox": 5.0, "giou": 2.0},
    {"class": 1.0, "bbox": 3.0, "giou": 4.0},
)
"""That of the class is a constant of the package; its configuration takes whole numbers for the others."""


class TransformersDetrPort(ListOfDictsPort):
    """`ForObjectDetectionLoss`, the loss of DETR, YOLOS and Table Transformer.

    It returns its losses without weights, and a total that has them. That of the class is always 1.
    """

    name = "transformers-detr"
    profile: str | LossSpec = "detr"
    capabilities = (
        frozenset({"softmax", "no_aux", "gradients", "one_object", "match", "matcher_options", "defaults"}) | RANKS
    )
    dtypes = frozenset({"float32"})  # the weights of the classes are float32; torch.cdist knows no half precision
    options: Mapping[str, Any] = {"loss_gain": GAINS}
    names = NAMES
    loss_in_mode: Any = None  # the weights of losses are their gradients in the total, which other modes do not have
    loss_in_situation: Any = None  # nor do losses of which a part is frozen
    config_class: Callable[..., PretrainedConfig] = DetrConfig
    loss_function: Callable[..., Any] = staticmethod(ForObjectDetectionLoss)
    matcher_class: Callable[..., Any] = HungarianMatcher

    def build(self, case: LossCase) -> PretrainedConfig:
        """The case's options under the names of `transformers`; its loss function builds a criterion in every call."""
        gain, cost = case.config.loss_gain, self.costs(case)
        return self.config_class(
            num_labels=case.config.nc,
            auxiliary_loss=case.config.aux_loss,
            decoder_layers=case.layers,
            bbox_loss_coefficient=whole(gain["bbox"]),
            giou_loss_coefficient=whole(gain["giou"]),
            **{f"{term}_cost": whole(each) for term, each in cost.items()},
            **self.own_options(case),
        )

    def costs(self, case: LossCase) -> Mapping[str, float]:
        """The gains of the matching cost: those of the recipe, or those that the case asks for."""
        return case.matcher.cost_gain if case.changes_matcher else {"class": 1.0, "bbox": 5.0, "giou": 2.0}

    def defaults(self, case: LossCase) -> dict[str, Any]:  # noqa: ARG002  # one loss, one configuration
        """Those of the configuration."""
        config = self.config_class()
        cost = {"class": config.class_cost, "bbox": config.bbox_cost, "giou": config.giou_cost}
        gain = {"bbox": config.bbox_loss_coefficient, "giou": config.giou_loss_coefficient}
        alpha = {"alpha": config.focal_alpha} if hasattr(config, "focal_alpha") else {}
        return {"cost_gain": cost, "loss_gain": gain, **alpha}

    def own_options(self, case: LossCase) -> dict[str, Any]:  # noqa: ARG002  # for others
        """Options that only this configuration has."""
        return {"eos_coefficient": 0.1}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Hand the layers over as the model does, and weight what comes back as the total does."""
        boxes, logits = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        main = (logits[-1], self.targets(case, tensors), logits.device, boxes[-1])
        total, losses, _ = self.loss_function(*main, loss, **self.auxiliary(boxes, logits))
        return as_in_total(total, losses)

    def auxiliary(self, boxes: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """All layers of the decoder."""
        return {"outputs_class": logits, "outputs_coord": boxes}

    @contextmanager
    def as_rank(self, rank: int, ranks: int) -> Iterator[None]:
        """As a process that `accelerate launch` has started: it goes by the environment."""
        from accelerate import PartialState

        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "localhost"}
        with mock.patch.dict(os.environ, place):
            try:
                PartialState(cpu=True)
                yield
            finally:
                PartialState._reset_state()  # the one way to be another rank in the same process

    def matcher(self, case: LossCase) -> Any:
        """The matcher with the options of the case."""
        return self.matcher_class(**{f"{term}_cost": each for term, each in self.costs(case).items()})


class WithMasks(TransformersDetrPort):
    """A loss for segmentation. Masks of targets come in the sizes of their images."""

    options: Mapping[str, Any] = {
        "loss_gain": ({**GAINS[0], "mask": 1.0, "dice": 2.0}, {**GAINS[1], "mask": 3.0, "dice": 1.0})
    }
    segmentation: Callable[..., Any]

    def own_options(self, case: LossCase) -> dict[str, Any]:
        """The gains of masks beside the others; those of the recipe, where the case names none."""
        gains = {term: whole(case.config.loss_gain.get(term, 1.0)) for term in ("mask", "dice")}
        return super().own_options(case) | {f"{term}_loss_coefficient": gain for term, gain in gains.items()}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """With the masks of the last layer, the only ones that the model predicts."""
        if case.masks is None:
            return super().call(loss, case, tensors)
        boxes, logits = tensors.predictions["pred_bboxes"], tensors.predictions["pred_scores"]
        main = (logits[-1], self.targets(case, tensors), logits.device, boxes[-1])
        masks = tensors.predictions["pred_masks"][-1]
        total, losses, _ = self.segmentation(*main, masks, loss, **self.auxiliary(boxes, logits))
        return as_in_total(total, losses)


class TransformersDetrMasksPort(WithMasks):
    """`ForSegmentationLoss`, the loss of DETR for segmentation."""

    name = "transformers-detr-masks"
    profile = "detr-masks"
    capabilities = TransformersDetrPort.capabilities | {"masks"}
    segmentation = staticmethod(ForSegmentationLoss)


class TransformersDeformablePort(TransformersDetrPort):
    """`DeformableDetrForObjectDetectionLoss`, the loss of Deformable, Conditional and DAB DETR.

    Gamma is always 2; the matcher's alpha and gamma are always 0.25 and 2.
    """

    name = "transformers-deformable"
    profile: str | LossSpec = "deformable"
    capabilities = TransformersDetrPort.capabilities - {"softmax", "matcher_options"} | {"focal"}
    dtypes = frozenset({"float32", "float64"})
    config_class = DeformableDetrConfig
    loss_function = staticmethod(DeformableDetrForObjectDetectionLoss)
    matcher_class = DeformableDetrHungarianMatcher

    def costs(self, case: LossCase) -> Mapping[str, float]:
        """Those of Deformable DETR's recipe; the default of the configuration is 1 for the class."""
        return case.matcher.cost_gain

    def own_options(self, case: LossCase) -> dict[str, Any]:
        """The balance of the focal loss."""
        return {"focal_alpha": case.config.alpha}


class TransformersDeformableMasksPort(WithMasks, TransformersDeformablePort):
    """`DeformableDetrForSegmentationLoss`, the loss of Conditional DETR for segmentation, with its own matcher."""

    name = "transformers-deformable-masks"
    profile: str | LossSpec = DEFORMABLE_MASKS
    capabilities = TransformersDeformablePort.capabilities | {"masks"}
    segmentation = staticmethod(DeformableDetrForSegmentationLoss)

    def matcher(self, case: LossCase) -> Any:
        """The one inside the loss that the case is handed to: without masks that is the loss for detection."""
        kind = DeformableDetrHungarianMatcher if case.masks is None else HungarianMatcher
        return kind(**{f"{term}_cost": each for term, each in self.costs(case).items()})


class TransformersConditionalPort(TransformersDeformablePort):
    """The same loss with Conditional DETR's configuration, which has a gain of the class loss, as DAB-DETR's has."""

    name = "transformers-conditional"
    options: Mapping[str, Any] = {"loss_gain": ({"class": 2.0, "bbox": 5.0, "giou": 2.0}, *GAINS)}
    config_class = ConditionalDetrConfig

    def own_options(self, case: LossCase) -> dict[str, Any]:
        """Balance, and the gain of the class loss."""
        return super().own_options(case) | {"cls_loss_coefficient": whole(case.config.loss_gain["class"])}


class TransformersLwDetrPort(TransformersDeformablePort):
    """`LwDetrForObjectDetectionLoss`, the loss of LW-DETR and RF-DETR, in training.

    Layer 0 of a case is the encoder's.
    """

    name = "transformers-lw-detr"
    profile: str | LossSpec = "lwdetr"
    capabilities = TransformersDeformablePort.capabilities - {"focal", "no_aux"} | {"ia_bce", "query_groups"}
    options: Mapping[str, Any] = {}
    config_class = LwDetrConfig
    loss_function = staticmethod(LwDetrForObjectDetectionLoss)

    def own_options(self, case: LossCase) -> dict[str, Any]:
        """Gain, balance and groups."""
        return super().own_options(case) | {
            "class_loss_coefficient": case.config.loss_gain["class"],
            "group_detr": case.config.query_groups,
        }

    def auxiliary(self, boxes: torch.Tensor, logits: torch.Tensor) -> dict[str, torch.Tensor]:
        """Those of the decoder, and the encoder's."""
        encoder = {"enc_outputs_class": logits[0], "enc_outputs_coord": boxes[0]}
        return super().auxiliary(boxes[1:], logits[1:]) | encoder

    def matcher(self, case: LossCase) -> Callable[..., Any]:
        """The matcher with the options and the groups of the case."""
        matcher = LwDetrHungarianMatcher(**{f"{term}_cost": each for term, each in self.costs(case).items()})
        return lambda outputs, targets: matcher(outputs, targets, case.config.query_groups)


def as_in_total(total: torch.Tensor, losses: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each loss times its weight in the total, which is the gradient of the one with respect to the other.

    What is not in the total, or has no gradient, is for logging and left out.
    """
    trained = {key: loss for key, loss in losses.items() if loss.requires_grad}
    weights: Sequence[torch.Tensor | None] = torch.autograd.grad(
        total, list(trained.values()), retain_graph=True, allow_unused=True
    )
    pairs = zip(trained.items(), weights, strict=True)
    return {key: loss * weight for (key, loss), weight in pairs if weight is not None}


def whole(number: float) -> int | float:
    """The number as an int where it is one: some configurations refuse floats."""
    return int(number) if number == int(number) else number


def port() -> TransformersDetrPort:
    """DETR of the installed `transformers` package."""
    return TransformersDetrPort()


def masks_port() -> TransformersDetrMasksPort:
    """DETR for segmentation of the installed `transformers` package."""
    return TransformersDetrMasksPort()


def deformable_port() -> TransformersDeformablePort:
    """Deformable DETR of the installed `transformers` package."""
    return TransformersDeformablePort()


def deformable_masks_port() -> TransformersDeformableMasksPort:
    """Conditional DETR for segmentation of the installed `transformers` package."""
    return TransformersDeformableMasksPort()


def conditional_port() -> TransformersConditionalPort:
    """Conditional DETR of the installed `transformers` package."""
    return TransformersConditionalPort()


def lw_detr_port() -> TransformersLwDetrPort:
    """LW-DETR of the installed `transformers` package."""
    return TransformersLwDetrPort()
