"""The heads of DETR, Deformable DETR and DINO in the `mmdet` package."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from detr_conformance.ports.absent_operators import declare_torchvision_operators, stub_package
from detr_conformance.ports.torch_port import CaseTensors, TorchPort, arrays_of, one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import Matching
from detr_conformance.reference import FAMILY, LossSpec
from detr_conformance.reference.base_spec import differs
from detr_conformance.reference.keys import LayerKeys
from detr_conformance.reference.normaliser import Tally, per_matched_pair, per_weighted_query

declare_torchvision_operators()
# Compiled operators, which no head of this file calls on the CPU, and which mmcv-lite does not have.
stub_package("mmcv.ops")

from mmdet.models.dense_heads import DeformableDETRHead, DETRHead, DINOHead  # noqa: E402  # after the above
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy  # noqa: E402  # as above
from mmengine.structures import InstanceData  # noqa: E402  # as above

SIDE = 256
"""Side of every image in pixels: a power of two, so that neither pixels nor shares of it round."""
EMBEDDING = 8  # channels of layers that are built and never called
BOX_COSTS = (
    {"type": "BBoxL1Cost", "weight": 5.0, "box_format": "xywh"},
    {"type": "IoUCost", "iou_mode": "giou", "weight": 2.0},
)
_HEAD = "https://github.com/open-mmlab/mmdetection, mmdet/models/dense_heads/detr_head.py"


def at_least_one(tally: Tally) -> float:
    """The weighted number of queries, at least 1."""
    return max(per_weighted_query(tally), 1.0)


MMDET_DETR = differs(
    FAMILY["detr"],
    "mmdet-detr",
    target_boxes=(FAMILY["mmdet"].target_boxes, "Targets come as corners.", _HEAD),
    normaliser=(
        {"softmax": at_least_one, "bbox": per_matched_pair, "giou": per_matched_pair},
        "The weighted number of queries is at least 1; box losses are divided by the number of matched pairs.",
        _HEAD,
    ),
    keys=(
        LayerKeys(
            {"softmax": ("cls",)},
            box_names={"bbox": "bbox", "giou": "iou"},
            auxiliary="d{layer}.loss_{term}",
            encoder=None,
        ),
        "loss_cls, loss_bbox and loss_iou; those of layer i begin with di.",
        _HEAD,
    ),
)
"""mmdetection's DETR."""


class MMDetPort(TorchPort):
    """A head with a focal loss. Targets are corners in pixels there.

    Attributes:
        head: the class of the head.
    """

    name = "mmdet-deformable"
    profile: str | LossSpec = "mmdet"
    capabilities = frozenset({"focal", "gradients", "one_object", "match"})
    dtypes = frozenset({"float32"})  # float32's eps is added to every divisor
    # Its documentation gives no meaning to an alpha of 0 or less.
    options: Mapping[str, Any] = {"alpha": (0.25, 0.75, 0.1, 1.0)}
    head: Callable[..., Any] = DeformableDETRHead

    def build(self, case: LossCase) -> Any:
        """The head, with costs as its recipe has them."""
        gain = case.config.loss_gain
        with torch.random.fork_rng(devices=()):  # its layers, which are never called, start with random weights
            return self.head(
                num_classes=case.config.nc,
                embed_dims=EMBEDDING,
                loss_cls=self.class_loss(case) | {"loss_weight": gain["class"]},
                loss_bbox={"type": "L1Loss", "loss_weight": gain["bbox"]},
                loss_iou={"type": "GIoULoss", "loss_weight": gain["giou"]},
                train_cfg={"assigner": {"type": "HungarianAssigner", "match_costs": [self.class_cost(), *BOX_COSTS]}},
            )

    def class_loss(self, case: LossCase) -> dict[str, Any]:
        """The configuration of the classification loss."""
        return {"type": "FocalLoss", "use_sigmoid": True, "gamma": case.config.gamma, "alpha": case.config.alpha}

    def class_cost(self) -> dict[str, Any]:
        """That of the class cost."""
        return {"type": "FocalLossCost", "weight": 2.0}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """As the head does with what its layers predict; there is no encoder's layer."""
        predictions = tensors.predictions
        layers = (predictions["pred_scores"], predictions["pred_bboxes"])
        return loss.loss_by_feat(*layers, None, None, targets_of(case, tensors), images_of(case))  # type: ignore[no-any-return]  # judged by the caller

    @one_thread()
    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every image of every layer through the assigner."""
        head, tensors = self.build(case), tensors_of(case)
        targets = targets_of(case, tensors)
        layers = (tensors.predictions[name] for name in ("pred_bboxes", "pred_scores"))
        return [
            [_assigned(head, case, image, own, targets[image]) for image, own in enumerate(zip(*layer, strict=True))]
            for layer in zip(*layers, strict=True)
        ]


class MMDetDETRPort(MMDetPort):
    """DETR's head, with softmax cross-entropy."""

    name = "mmdet-detr"
    profile = MMDET_DETR
    capabilities = MMDetPort.capabilities - {"focal"} | {"softmax"}
    options: Mapping[str, Any] = {}
    head = DETRHead

    def class_loss(self, case: LossCase) -> dict[str, Any]:  # noqa: ARG002  # for the others
        """Softmax with the weight of no object."""
        return {"type": "CrossEntropyLoss", "use_sigmoid": False, "bg_cls_weight": 0.1, "class_weight": 1.0}

    def class_cost(self) -> dict[str, Any]:
        """The probability."""
        return {"type": "ClassificationCost", "weight": 1.0}

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """As the head does with what its layers predict."""
        layers = (tensors.predictions["pred_scores"], tensors.predictions["pred_bboxes"])
        return loss.loss_by_feat(*layers, targets_of(case, tensors), images_of(case))  # type: ignore[no-any-return]  # judged by the caller


class MMDetDINOPort(MMDetPort):
    """DINO's head, with denoising queries."""

    name = "mmdet-dino"
    capabilities = MMDetPort.capabilities | {"denoising"}
    head = DINOHead

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Denoising queries in front. Without any, what the head computes of the others."""
        predictions, made, targets = tensors.predictions, case.denoising, targets_of(case, tensors)
        boxes, logits = predictions["pred_bboxes"], predictions["pred_scores"]
        if made is None:
            return DETRHead.loss_by_feat(loss, logits, boxes, targets, images_of(case))  # type: ignore[no-any-return]  # judged by the caller
        meta = {"num_denoising_queries": made.bboxes.shape[2], "num_denoising_groups": made.num_group}
        boxes = torch.cat([predictions["dn_bboxes"], boxes], dim=2)
        logits = torch.cat([predictions["dn_scores"], logits], dim=2)
        return loss.loss_by_feat(logits, boxes, None, None, targets, images_of(case), meta)  # type: ignore[no-any-return]  # as above


def targets_of(case: LossCase, tensors: CaseTensors) -> list[InstanceData]:
    """The targets of each image, as corners in pixels."""
    corners = bbox_cxcywh_to_xyxy(tensors.gt_bboxes) * SIDE
    own = [case.of_image(image) for image in range(case.images)]
    return [InstanceData(bboxes=corners[each], labels=tensors.gt_cls[each]) for each in own]


def images_of(case: LossCase) -> list[dict[str, tuple[int, int]]]:
    """What the head wants to know of each image."""
    return [{"img_shape": (SIDE, SIDE)}] * case.images


def _assigned(
    head: Any, case: LossCase, image: int, layer: tuple[torch.Tensor, torch.Tensor], targets: InstanceData
) -> Matching:
    """The pairs of one image, targets counted through the batch."""
    boxes, logits = layer
    predicted = InstanceData(bboxes=bbox_cxcywh_to_xyxy(boxes) * SIDE, scores=logits)
    target_of_query = head.assigner.assign(predicted, targets, {"img_shape": (SIDE, SIDE)}).gt_inds - 1  # -1: none
    queries = (target_of_query >= 0).nonzero()[:, 0]
    return arrays_of((queries, target_of_query[queries] + case.of_image(image).start))


def port() -> MMDetPort:
    """Deformable DETR of the installed `mmdet` package."""
    return MMDetPort()


def detr_port() -> MMDetDETRPort:
    """DETR of the installed `mmdet` package."""
    return MMDetDETRPort()


def dino_port() -> MMDetDINOPort:
    """DINO of the installed `mmdet` package."""
    return MMDetDINOPort()
