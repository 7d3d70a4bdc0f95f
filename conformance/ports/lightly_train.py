"""The criteria of RT-DETRv2 and D-FINE in the `lightly-train` package."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from detr_conformance.ports.absent_operators import declare_torchvision_operators
from detr_conformance.ports.foreign_packages import without_init
from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names, Outputs
from detr_conformance.ports.rtdetr_form import CAPABILITIES, DTYPES, denoising_group
from detr_conformance.ports.torch_port import CaseTensors, one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.distribution_terms import DDF, FGL
from detr_conformance.reference.distributions import CURVATURE, REACH
from detr_conformance.reference.layers import LayerPlan, Stack, Weights, every_layer

declare_torchvision_operators()
# The packages import the whole of training; the losses need torch alone.
without_init("lightly_train", "lightly_train._task_models")

from lightly_train._task_models.object_detection_components.denoising import (  # noqa: E402  # after the above
    get_contrastive_denoising_training_group,
)
from lightly_train._task_models.object_detection_components.dfine_criterion import (  # noqa: E402  # as above
    DFINECriterion,
)
from lightly_train._task_models.object_detection_components.matcher import HungarianMatcher  # noqa: E402  # as above
from lightly_train._task_models.object_detection_components.rtdetrv2_criterion import (  # noqa: E402  # as above
    RTDETRCriterionv2,
)

COSTS = {"cost_class": 2.0, "cost_bbox": 5.0, "cost_giou": 2.0}
NAMES = {"varifocal": "vfl", "focal": "focal"}


class LightlyRTDETRPort(ListOfDictsPort):
    """`RTDETRCriterionv2` with its `HungarianMatcher`."""

    name = "lightly-rtdetr"
    profile: str | LossSpec = "rtdetr"
    capabilities = CAPABILITIES | {"focal"}
    dtypes = DTYPES
    names = Names(encoders="enc_aux_outputs", denoising="dn_aux_outputs")

    criterion: Callable[..., Any] = RTDETRCriterionv2
    about: tuple[str, ...] = ("boxes",)

    def build(self, case: LossCase) -> Any:
        """The criterion, with the matcher that the package's recipe has."""
        config, matcher = case.config, HungarianMatcher(COSTS, use_focal_loss=True)
        losses = [NAMES[config.classification], *self.about]
        options = {"alpha": config.alpha, "gamma": config.gamma, "num_classes": config.nc}
        return self.criterion(matcher, self.weights_of(case), losses, **options)

    def weights_of(self, case: LossCase) -> dict[str, float]:
        """The gains by the criterion's own names."""
        gain, of_class = case.config.loss_gain, NAMES[case.config.classification]
        return {f"loss_{of_class}": gain["class"], "loss_bbox": gain["bbox"], "loss_giou": gain["giou"]}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """As its trainer does in a single process."""
        return loss(self.outputs(case, tensors), self.targets(case, tensors), world_size=1)  # type: ignore[no-any-return]  # judged by the caller

    def outputs(self, case: LossCase, tensors: CaseTensors) -> Outputs:
        """The encoder's layer tells classes apart."""
        return super().outputs(case, tensors) | {"enc_meta": {"class_agnostic": False}}

    def matcher(self, case: LossCase) -> HungarianMatcher:
        """One with the options of the case."""
        options = case.matcher
        costs = {f"cost_{term}": cost for term, cost in options.cost_gain.items()}
        return HungarianMatcher(costs, use_focal_loss=options.use_fl, alpha=options.alpha, gamma=options.gamma)

    @one_thread()
    def denoising_group(self, case: LossCase) -> DenoisingGroup | None:
        """Denoising queries for the case's targets."""
        targets = self.targets(case, tensors_of(case))
        return denoising_group(get_contrastive_denoising_training_group, case, targets, "num_denoising")


def after_the_head(stack: Stack) -> Weights:
    """The layers of the decoder; of the ordinary ones layer 1 is the head before them, which has no distributions."""
    return every_layer(stack) if stack.is_denoising else [0.0, 0.0, *[1.0] * (stack.count - 2)]


_DFINE = "https://github.com/lightly-ai/lightly-train, object_detection_components/dfine_criterion.py"

LIGHTLY_DFINE = differs(
    FAMILY["dfine"],
    "lightly-dfine",
    layers=(
        LayerPlan(least=4, denoising=lambda layers: layers - 1, independent=False),
        "The first layer is the encoder's, the second that of a head before the decoder, which has two at least.",
        _DFINE,
    ),
    extra_terms=(
        {"fgl": replace(FGL, layers=after_the_head), "ddf": replace(DDF, layers=after_the_head)},
        "The head before the decoder predicts no distributions.",
        _DFINE,
    ),
)
"""D-FINE with a head before the first layer of the decoder."""


class LightlyDFINEPort(LightlyRTDETRPort):
    """`DFINECriterion`. Its generator is that of RT-DETRv2.

    It wants the predictions of a head before the first layer of the decoder: layer 1 of a case is given to it as such.
    """

    name = "lightly-dfine"
    profile = LIGHTLY_DFINE
    capabilities = LightlyRTDETRPort.capabilities - {"focal", "no_aux", "denoising_group", "embedding_gradient"} | {
        "distributions"
    }
    dtypes = frozenset({"float32"})  # its loss on distributions fails on float64
    names = Names(encoders="enc_aux_outputs")
    criterion = DFINECriterion
    about = (*LightlyRTDETRPort.about, "local")

    def weights_of(self, case: LossCase) -> dict[str, float]:
        """With those of the losses of distributions."""
        gain, terms = case.config.loss_gain, LIGHTLY_DFINE.extra_terms
        return super().weights_of(case) | {f"loss_{name}": gain.get(name, term.gain) for name, term in terms.items()}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """The head's losses as those of the first auxiliary layer."""
        return {_numbered(key): each for key, each in super().call(loss, case, tensors).items()}

    def outputs(self, case: LossCase, tensors: CaseTensors) -> Outputs:
        """Layer 1 apart from the others, and what the losses on distributions read."""
        outputs = super().outputs(case, tensors)
        first, *others = outputs["aux_outputs"]
        if case.distributions is not None:
            given, constants = tensors.predictions, tensors.constants
            add_distributions([*others, outputs], given["pred_corners"][2:], constants["references"])
            if case.denoising is not None:
                add_distributions(outputs["dn_outputs"], given["dn_corners"], constants["denoising_references"])
        offsets = {"up": torch.tensor([REACH]), "reg_scale": torch.tensor([1.0 / CURVATURE])}
        return outputs | offsets | {"pre_outputs": first, "aux_outputs": others}


def add_distributions(layers: Sequence[Outputs], corners: torch.Tensor, references: torch.Tensor) -> None:
    """Give each layer its distributions and the boxes that they start from, and all but the last their teacher.

    Args:
        layers: a dictionary for each.
        corners: logits of the bins of each side, of shape (layers, images, queries, 4, bins).
        references: reference boxes, of shape (images, queries, 4).
    """
    *taught, last = layers
    teacher = {"teacher_corners": corners[-1].flatten(-2), "teacher_logits": last["pred_logits"]}
    for layer, own in zip(layers, corners, strict=True):
        layer.update({"pred_corners": own.flatten(-2), "ref_points": references})
    for layer in taught:
        layer.update(teacher)


def _numbered(key: str) -> str:
    """The key with the number of its layer in the case, one more than the criterion's."""
    return re.sub(r"_aux_(\d+)", lambda found: f"_aux_{int(found[1]) + 1}", key).replace("_pre", "_aux_0")


def port() -> LightlyRTDETRPort:
    """RT-DETRv2 of the installed `lightly-train` package."""
    return LightlyRTDETRPort()


def dfine_port() -> LightlyDFINEPort:
    """D-FINE of the installed `lightly-train` package."""
    return LightlyDFINEPort()
