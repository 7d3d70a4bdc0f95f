"""The criteria of RT-DETRv2 and D-FINE in the `lightly-train` package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from detr_conformance.ports.absent_operators import declare_torchvision_operators
from detr_conformance.ports.foreign_packages import without_init
from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names, Outputs
from detr_conformance.ports.rtdetr_form import CAPABILITIES, DTYPES, denoising_group
from detr_conformance.ports.torch_port import CaseTensors, one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import DenoisingGroup

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
    profile = "rtdetr"
    capabilities = CAPABILITIES | {"focal"}
    dtypes = DTYPES
    names = Names(encoders="enc_aux_outputs", denoising="dn_aux_outputs")

    criterion: Callable[..., Any] = RTDETRCriterionv2

    def build(self, case: LossCase) -> Any:
        """The criterion, with the matcher that the package's recipe has."""
        config, of_class = case.config, NAMES[case.config.classification]
        gain = config.loss_gain
        weights = {f"loss_{of_class}": gain["class"], "loss_bbox": gain["bbox"], "loss_giou": gain["giou"]}
        matcher = HungarianMatcher(COSTS, use_focal_loss=True)
        return self.criterion(
            matcher, weights, [of_class, "boxes"], alpha=config.alpha, gamma=config.gamma, num_classes=config.nc
        )

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


class LightlyDFINEPort(LightlyRTDETRPort):
    """`DFINECriterion`, without the two losses on distributions of box sides. Its generator is that of RT-DETRv2.

    It wants the predictions of a head before the first layer of the decoder: layer 1 of a case is given to it as such.
    """

    name = "lightly-dfine"
    profile = "dfine"
    capabilities = LightlyRTDETRPort.capabilities - {"focal", "no_aux", "denoising_group"}
    names = Names(encoders="enc_aux_outputs")
    criterion = DFINECriterion

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """The head's losses under the name of the auxiliary layer that it is."""
        losses = super().call(loss, case, tensors)
        return {key.replace("_pre", f"_aux_{case.layers - 3}"): each for key, each in losses.items()}

    def outputs(self, case: LossCase, tensors: CaseTensors) -> Outputs:
        """Layer 1 apart from the others, and what the losses on distributions would read."""
        outputs = super().outputs(case, tensors) | {"up": None, "reg_scale": None}
        if "aux_outputs" in outputs:
            first, *others = outputs["aux_outputs"]
            outputs |= {"pre_outputs": first, "aux_outputs": others}
        return outputs


def port() -> LightlyRTDETRPort:
    """RT-DETRv2 of the installed `lightly-train` package."""
    return LightlyRTDETRPort()


def dfine_port() -> LightlyDFINEPort:
    """D-FINE of the installed `lightly-train` package."""
    return LightlyDFINEPort()
