"""Targets of a batch, and their pairing with queries."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.upload import on_device, repeated
from detr_conformance.optimized.validation import check_targets, check_values


@dataclass(frozen=True, eq=False)
class Targets:
    """What is to be found in the images of a batch.

    Attributes:
        boxes: (targets, 4), centre form, in the dtype of the arithmetic.
        classes: (targets,), int64, image 0's first.
        counts: number of targets of each image, known to the host: no shape has to be read from the device.
    """

    boxes: Float[Tensor, "targets 4"]
    classes: Int64[Tensor, " targets"]
    counts: tuple[int, ...]

    @property
    def images(self) -> Int64[Tensor, " targets"]:
        """The image of each target."""
        return on_device(repeated, tuple(range(len(self.counts))), self.counts, device=self.classes.device)

    def pairs_in_a_layer(self, queries: int) -> int:
        """How many pairs any optimal matching has: a query answers for one target at most."""
        return sum(min(queries, count) for count in self.counts)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Which query answers for which target.

    Attributes:
        rows: image * queries + query, for each pair; one row of pairs for each layer, or one for all layers.
        targets: the target of each, counted through the batch.
    """

    rows: Int64[Tensor, "layers pairs"]
    targets: Int64[Tensor, "layers pairs"]

    @property
    def layers(self) -> int:
        """Number of layers with pairs of their own."""
        return self.rows.shape[0]

    @property
    def count(self) -> int:
        """Number of pairs in a layer."""
        return self.rows.shape[1]

    def in_layers(self, layers: int) -> Pairs:
        """The same, with a row of pairs for each of so many layers."""
        shape = (layers, self.count)
        return Pairs(self.rows.expand(shape), self.targets.expand(shape))

    def of_layers(self, layers: list[int]) -> Pairs:
        """Those of the given layers, in that order."""
        return Pairs(*(torch.stack([each[layer] for layer in layers]) for each in (self.rows, self.targets)))


def checked_targets(
    gt_bboxes: object,
    gt_cls: object,
    gt_groups: object,
    pred_bboxes: Float[Tensor, "*axes images queries 4"],
    pred_scores: Float[Tensor, "*axes images queries classes"],
    validate: bool,
) -> Targets:
    """Targets that fit the predictions, in the dtype of the arithmetic.

    On CUDA values are looked at with `validate` only, since that means waiting for the device; otherwise a class that
    does not exist counts as the nearest one, and never as an address outside the logits.

    Raises:
        TypeError, ValueError: an argument does not fit; it is named with its value.
    """
    images, _, classes = pred_scores.shape[-3:]
    boxes, labels, counts = check_targets(gt_bboxes, gt_cls, gt_groups, images, pred_scores.device)
    if validate or labels.device.type == "cpu":
        check_values(boxes, labels, classes)
    else:
        labels = labels.long().clamp(0, classes - 1)
    return Targets(boxes.to(arithmetic_dtype(pred_bboxes, pred_scores)), labels.long(), counts)
