"""The criterion of the `rfdetr` package."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import torch

from detr_conformance.ports.absent_operators import declare_torchvision_operators
from detr_conformance.ports.list_of_dicts_port import ListOfDictsPort, Names, points_of_pairs
from detr_conformance.ports.rfdetr_masks_spec import RFDETR_MASKS
from detr_conformance.ports.torch_port import CaseTensors, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.reference import LossSpec

declare_torchvision_operators()

from rfdetr.models import criterion  # noqa: E402  # after the above
from rfdetr.models.criterion import SetCriterion  # noqa: E402  # as above
from rfdetr.models.matcher import HungarianMatcher  # noqa: E402  # as above

LOSSES = ["labels", "boxes", "cardinality"]


class RFDETRPort(ListOfDictsPort):
    """`SetCriterion` with its `HungarianMatcher`, in training; layer 0 of a case is the encoder's."""

    name = "rfdetr"
    profile: str | LossSpec = "rfdetr"
    capabilities = frozenset({"ia_bce", "focal", "query_groups", "gradients", "one_object", "match"})
    dtypes = frozenset({"float32", "float64"})  # torch.cdist has no CPU kernel for half precision
    names = Names(encoder="enc_outputs")

    def build(self, case: LossCase) -> SetCriterion:
        """The criterion, with the matcher that the package's recipe has."""
        config = case.config
        matcher = HungarianMatcher(cost_class=2.0, cost_bbox=5.0, cost_giou=2.0, focal_alpha=0.25)
        return SetCriterion(
            config.nc,
            matcher,
            self.weights(None, case),
            config.alpha,
            LOSSES,
            group_detr=config.query_groups,
            ia_bce_loss=config.classification == "ia_bce",
        )

    def weights(self, loss: SetCriterion | None, case: LossCase) -> dict[str, float]:  # noqa: ARG002  # the signature
        """The criterion keeps them for its trainer."""
        gain = case.config.loss_gain
        return {"loss_ce": gain["class"], "loss_bbox": gain["bbox"], "loss_giou": gain["giou"]}

    def matcher(self, case: LossCase) -> Callable[..., object]:
        """The matcher, told of the groups."""
        matcher = self.build(case).matcher
        return lambda outputs, targets: matcher(outputs, targets, group_detr=case.config.query_groups)


class RFDETRMasksPort(RFDETRPort):
    """The same for segmentation. The case's points take the place of those that are drawn.

    In its matcher the package draws one set of points for all images, a case has one for each: images go through the
    matcher one by one, those without targets not at all.
    """

    name = "rfdetr-masks"
    profile = RFDETR_MASKS
    capabilities = RFDETRPort.capabilities | {"mask_points", "point_counts"}
    dtypes = frozenset({"float32"})  # masks of targets are read in float32, whatever the points are

    def build(self, case: LossCase) -> SetCriterion:
        """With losses and costs of masks, where the case has some."""
        config = case.config
        matcher = ImageByImage(
            cost_class=2.0, cost_bbox=5.0, cost_giou=2.0, focal_alpha=0.25, cost_mask_ce=5.0, cost_mask_dice=5.0
        )
        return CriterionAtPoints(
            config.nc,
            matcher,
            self.weights(None, case),
            config.alpha,
            LOSSES if case.masks is None else [*LOSSES, "masks"],
            group_detr=config.query_groups,
            ia_bce_loss=config.classification == "ia_bce",
        )

    def weights(self, loss: SetCriterion | None, case: LossCase) -> dict[str, float]:
        """With those of masks."""
        gain = case.config.loss_gain
        return super().weights(loss, case) | {
            "loss_mask_ce": gain.get("mask", 1.0),
            "loss_mask_dice": gain.get("dice", 1.0),
        }

    def call(self, loss: SetCriterion, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Tell the criterion where it looks at masks."""
        loss.points_of = lambda indices: points_of_pairs(case, tensors, indices)
        loss.matcher.points = tensors.constants.get("cost_points")
        return super().call(loss, case, tensors)

    def point_counts(self, case: LossCase) -> Mapping[str, int]:
        """What the samplers of criterion and matcher are asked for."""
        loss = self.build(case)
        self.call(loss, case, tensors_of(case))
        return {"losses": loss.asked, "matcher": loss.matcher.asked}

    def matcher(self, case: LossCase) -> Callable[..., object]:
        """The matcher, told of groups and points."""
        matcher = self.build(case).matcher
        matcher.points = tensors_of(case).constants.get("cost_points")
        return lambda outputs, targets: matcher(outputs, targets, group_detr=case.config.query_groups)


class CriterionAtPoints(SetCriterion):  # type: ignore[misc]  # the package has no types here
    """Looks at the points of `points_of`, from the pairs of a layer; `asked` is the number that it last wanted."""

    points_of: Callable[..., torch.Tensor]
    asked: int

    def loss_masks(self, outputs: Any, targets: Any, indices: Any, num_boxes: Any) -> Any:
        """The package's own losses at these points."""
        drawn = mock.Mock(return_value=self.points_of(indices))
        with mock.patch.object(criterion, "get_uncertain_point_coords_with_randomness", drawn):
            losses = super().loss_masks(outputs, targets, indices, num_boxes)
        if drawn.called:
            self.asked = drawn.call_args.args[2]
        return losses


class ImageByImage(HungarianMatcher):  # type: ignore[misc]  # as above
    """Compares masks at `points`, those of each image on their own; `asked` is the number that it last wanted."""

    points: torch.Tensor | None = None
    asked: int

    def forward(self, outputs: Any, targets: Any, group_detr: int = 1, **more: Any) -> Any:
        """The pairs of each image."""
        if self.points is None:
            return super().forward(outputs, targets, group_detr, **more)
        nothing = torch.zeros(0, dtype=torch.int64)
        found: list[Any] = []
        for image, (target, points) in enumerate(zip(targets, self.points, strict=True)):
            own = {name: each[image : image + 1] for name, each in outputs.items() if isinstance(each, torch.Tensor)}
            if not len(target["labels"]):
                found.append((nothing, nothing))
                continue
            with mock.patch.object(torch, "rand", mock.Mock(return_value=points[None])) as drawn:
                found += super().forward(own, [target], group_detr)
            self.asked = drawn.call_args.args[1]
        return found


def port() -> RFDETRPort:
    """The installed `rfdetr` package."""
    return RFDETRPort()


def masks_port() -> RFDETRMasksPort:
    """The installed `rfdetr` package, for segmentation."""
    return RFDETRMasksPort()
