"""The loss of RF-DETR for segmentation in the `transformers` package, through its public loss function."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any
from unittest import mock

import torch
from transformers.loss import loss_rf_detr
from transformers.loss.loss_rf_detr import RfDetrForSegmentationLoss, RfDetrHungarianMatcher, RfDetrImageLoss

from detr_conformance.ports.list_of_dicts_port import points_of_pairs, weighted
from detr_conformance.ports.rfdetr_masks_spec import TRANSFORMERS_RFDETR
from detr_conformance.ports.torch_port import CaseTensors, tensors_of
from detr_conformance.ports.transformers_detr import TransformersLwDetrPort, whole
from detr_conformance.properties.case import LossCase


class TransformersRfDetrPort(TransformersLwDetrPort):
    """`RfDetrForSegmentationLoss`, in training. Layer 0 of a case is the encoder's.

    The case's points take the place of those that are drawn. The matcher draws one set for all images, a case has one
    for each: images go through it one by one.
    """

    name = "transformers-rf-detr"
    profile = TRANSFORMERS_RFDETR
    capabilities = TransformersLwDetrPort.capabilities - {"defaults", "match"} | {"mask_points", "point_counts"}
    dtypes = frozenset({"float32"})  # masks of targets are read in float32, whatever the points are

    def own_options(self, case: LossCase) -> dict[str, Any]:
        """With the gains of masks, which are those of their costs too."""
        gain = case.config.loss_gain
        return super().own_options(case) | {
            "mask_class_loss_coefficient": whole(gain.get("mask", 1.0)),
            "mask_dice_loss_coefficient": whole(gain.get("dice", 1.0)),
            "mask_point_sample_ratio": 16,
        }

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """With the masks of all layers; without masks the loss is that of LW-DETR."""
        if case.masks is None:
            return super().call(loss, case, tensors)
        points = Points(case, tensors)
        losses = self.at_points(points, loss, partial(ImageByImage, points))
        gain = case.config.loss_gain
        named = {"ce": "class", "bbox": "bbox", "giou": "giou", "mask_ce": "mask", "mask_dice": "dice"}
        return weighted(losses, {f"loss_{name}": gain[term] for name, term in named.items()})

    def point_counts(self, case: LossCase) -> Mapping[str, int]:
        """What the samplers of the main layer, which is the first, are asked for."""
        points = Points(case, tensors_of(case))
        self.at_points(points, self.build(case), partial(AllImages, points))
        return points.asked

    def at_points(self, points: Points, config: Any, matcher: Any) -> dict[str, torch.Tensor]:
        """The losses of every layer, handed over as the model does, with another criterion and matcher inside."""
        case, tensors = points.case, points.tensors
        boxes, logits, masks = (tensors.predictions[f"pred_{name}"] for name in ("bboxes", "scores", "masks"))
        layers = {"outputs_class": logits, "outputs_coord": boxes, "outputs_masks": masks}
        encoder = {f"enc_{name}": each[0] for name, each in layers.items()}
        decoder = {name: each[1:] for name, each in layers.items()}
        main = logits[-1], self.targets(case, tensors), logits.device, boxes[-1], masks[-1], config
        inside = {"RfDetrImageLoss": partial(CriterionAtPoints, points), "RfDetrHungarianMatcher": matcher}
        with mock.patch.multiple(loss_rf_detr, **inside):
            found: dict[str, torch.Tensor] = RfDetrForSegmentationLoss(*main, **decoder, **encoder)[1]
        return found


class Points:
    """The points of a case, and how many are first asked for.

    Args:
        case: the case, which has masks and points.
        tensors: its tensors.

    Attributes:
        asked: by `losses` and `matcher`.
    """

    def __init__(self, case: LossCase, tensors: CaseTensors) -> None:
        """Nobody has asked yet."""
        self.case, self.tensors = case, tensors
        self.asked: dict[str, int] = {}

    def given(self, points: torch.Tensor, who: str, _masks: Any, count: int, *_: Any, **__: Any) -> torch.Tensor:
        """These points, whatever number is wanted."""
        self.asked.setdefault(who, count)
        return points


class CriterionAtPoints(RfDetrImageLoss):  # type: ignore[misc]  # the package has no types here
    """Looks at the points of each pair's target."""

    def __init__(self, points: Points, **options: Any) -> None:
        """As the package builds it."""
        super().__init__(**options)
        self.points = points

    def loss_masks(self, outputs: Any, targets: Any, indices: Any, num_boxes: Any) -> Any:
        """The package's own losses at these points."""
        own = points_of_pairs(self.points.case, self.points.tensors, indices)
        drawn = partial(self.points.given, own, "losses")
        with mock.patch.object(loss_rf_detr, "sample_points_using_uncertainty", drawn):
            return super().loss_masks(outputs, targets, indices, num_boxes)


class AllImages(RfDetrHungarianMatcher):  # type: ignore[misc]  # as above
    """Compares masks of all images at the points of the first."""

    def __init__(self, points: Points, **options: Any) -> None:
        """As the package builds it."""
        super().__init__(**options)
        self.points = points

    def forward(self, outputs: Any, targets: Any, group_detr: int) -> Any:
        """The package's own matching at these points."""
        return self.at(self.points.tensors.constants["cost_points"][0], outputs, targets, group_detr)

    def at(self, points: torch.Tensor, outputs: Any, targets: Any, group_detr: int) -> Any:
        """The matching at some points."""
        with mock.patch.object(torch, "rand", partial(self.points.given, points[None], "matcher")):
            return super().forward(outputs, targets, group_detr)


class ImageByImage(AllImages):
    """Compares masks of each image at its own points."""

    def forward(self, outputs: Any, targets: Any, group_detr: int) -> Any:
        """The pairs of each image."""
        found: list[Any] = []
        for image, (target, points) in enumerate(
            zip(targets, self.points.tensors.constants["cost_points"], strict=True)
        ):
            own = {name: each[image : image + 1] for name, each in outputs.items() if torch.is_tensor(each)}
            found += self.at(points, own, [target], group_detr)
        return found


def port() -> TransformersRfDetrPort:
    """RF-DETR for segmentation of the installed `transformers` package."""
    return TransformersRfDetrPort()
