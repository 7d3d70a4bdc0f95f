"""The form in which most DETR repositories write their criterion: dictionaries of outputs, and a list of targets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from detr_conformance.ports.torch_port import CaseTensors, TorchPort, arrays_of, one_thread, tensors_of
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port import Matching


@dataclass(frozen=True)
class Names:
    """What a criterion calls its inputs.

    Attributes:
        logits: logits of a layer, in its dictionary.
        boxes: its boxes.
        auxiliary: the list of the auxiliary layers' dictionaries.
        encoder: the dictionary of the encoder's layer, which is layer 0 of a case; None where there is none, or where
            it comes in a list.
        encoders: the list that holds that dictionary; where it is `auxiliary`, it comes last.
        denoising: the list of the denoising layers' dictionaries.
        meta: what tells denoising queries and targets together.
        positives: in it, for each image its positive slots.
        labels: classes of an image's targets, in its dictionary.
        target_boxes: their boxes.
        masks: predicted masks of a layer, in its dictionary, where a case has masks.
        target_masks: masks of an image's targets in the size of the image; where the case has points, in that of the
            batch, which the points are shares of.
    """

    logits: str = "pred_logits"
    boxes: str = "pred_boxes"
    auxiliary: str = "aux_outputs"
    encoder: str | None = None
    encoders: str | None = None
    denoising: str = "dn_outputs"
    meta: str = "dn_meta"
    positives: str = "dn_positive_idx"
    labels: str = "labels"
    target_boxes: str = "boxes"
    masks: str = "pred_masks"
    target_masks: str = "masks"


Outputs = dict[str, Any]
"""What a criterion is called with: tensors of the main layer, lists of dictionaries for the others."""


class ListOfDictsPort(TorchPort):
    """A criterion that is called as `criterion(outputs, targets)`: implement `build`.

    `outputs` holds logits and boxes of the main layer, and lists of such dictionaries for the other layers; `targets`
    is a list with a dictionary for each image. The matching is that of `criterion.matcher(outputs, targets)`, and the
    pairing of denoising queries that of `criterion.get_cdn_matched_indices(dn_meta, targets)`, where the port declares
    `match` and `denoising_indices`. With `matcher_options` implement `matcher` too.

    Attributes:
        names: what the criterion calls its inputs, where it differs from `Names()`.
    """

    names: Names = Names()

    def call(self, loss: Any, case: LossCase, tensors: CaseTensors) -> Mapping[str, torch.Tensor]:
        """Call the criterion, and weight its losses where it does not."""
        outputs = tensors.handed_over.watch("outputs", self.outputs(case, tensors))
        targets = tensors.handed_over.watch("targets", self.targets(case, tensors))
        losses = loss(outputs, targets)
        weights = self.weights(loss, case)
        return losses if weights is None else weighted(losses, weights)

    def weights(self, loss: Any, case: LossCase) -> Mapping[str, float] | None:  # noqa: ARG002  # for those who need them
        """What the trainer multiplies each loss by; None where the criterion does.

        A name counts for all layers that have no entry of their own: `loss_bbox` for `loss_bbox_0`. What has no weight
        is for logging, and is left out.
        """
        return None

    def matcher(self, case: LossCase) -> Any:
        """The matcher of the loss, or where `case.changes_matcher` one with the options `case.matcher`."""
        return self.build(case).matcher

    def outputs(self, case: LossCase, tensors: CaseTensors) -> Outputs:
        """The predictions as the model hands them over. Override it to add what the criterion wants besides."""
        names, predictions = self.names, tensors.predictions
        *others, main = self._all_layers(predictions, "pred_")
        outputs = dict(main)
        if case.config.aux_loss:
            outputs |= self._auxiliary(others)
        if case.denoising is not None:
            outputs[names.denoising] = self._all_layers(predictions, "dn_")
            outputs[names.meta] = self.meta(case, tensors)
        return outputs

    def _auxiliary(self, layers: Sequence[Outputs]) -> Outputs:
        """Decoder layers in a list, the encoder's where the criterion looks for it."""
        names = self.names
        if (names.encoder is None and names.encoders is None) or not layers:
            return {names.auxiliary: list(layers)}
        encoder, *decoder = layers
        outputs: Outputs = {names.auxiliary: decoder}
        if names.encoder is not None:
            outputs[names.encoder] = encoder
        if names.encoders is not None:
            outputs[names.encoders] = [*outputs.get(names.encoders, ()), encoder]
        return outputs

    def layers(self, boxes: Iterable[torch.Tensor], logits: Iterable[torch.Tensor]) -> list[Outputs]:
        """A dictionary for each layer."""
        names = self.names
        return [{names.logits: own, names.boxes: each} for each, own in zip(boxes, logits, strict=True)]

    def _all_layers(self, predictions: Mapping[str, torch.Tensor], prefix: str) -> list[Outputs]:
        """A dictionary for each layer of ordinary or of denoising queries, with its masks if there are any."""
        layers = self.layers(predictions[f"{prefix}bboxes"], predictions[f"{prefix}scores"])
        for layer, masks in zip(layers, predictions.get(f"{prefix}masks", ()), strict=False):
            layer[self.names.masks] = masks
        return layers

    def targets(self, case: LossCase, tensors: CaseTensors) -> list[dict[str, torch.Tensor]]:
        """A dictionary for each image."""
        own = [case.of_image(image) for image in range(case.images)]
        names = self.names
        targets = [{names.labels: tensors.gt_cls[each], names.target_boxes: tensors.gt_bboxes[each]} for each in own]
        if case.masks is not None:
            sizes = case.masks.sizes if case.masks.loss_points is None else [case.masks.size] * case.images
            for target, each, (height, width) in zip(targets, own, sizes, strict=True):
                target[names.target_masks] = tensors.constants["gt_masks"][each, :height, :width]
        return targets

    def meta(self, case: LossCase, tensors: CaseTensors) -> dict[str, Any]:
        """What the generator of denoising queries says of them."""
        assert case.denoising is not None  # noqa: S101  # callers have looked
        return {
            self.names.positives: list(tensors.pos_idx),
            "dn_num_group": case.denoising.num_group,
            "dn_num_split": [case.denoising.bboxes.shape[2], case.queries],
        }

    @one_thread()
    def match(self, case: LossCase) -> Sequence[Sequence[Matching]]:
        """Every layer's predictions through the matcher."""
        matcher, tensors = self.matcher(case), tensors_of(case, self.device)
        targets, predictions = self.targets(case, tensors), tensors.predictions
        layers = self._all_layers(predictions, "pred_")
        return [through_the_batch(case, _pairs(matcher(layer, targets))) for layer in layers]

    @one_thread()
    def denoising_indices(self, case: LossCase) -> Sequence[Matching]:
        """The pairing by the criterion's own function."""
        tensors = tensors_of(case, self.device)
        pairs = self.build(case).get_cdn_matched_indices(self.meta(case, tensors), self.targets(case, tensors))
        return through_the_batch(case, pairs)


def points_of_pairs(case: LossCase, tensors: CaseTensors, indices: Iterable[Any]) -> torch.Tensor:
    """Where the losses compare masks, of shape (pairs, points, 2): what a criterion's sampler of points must return.

    Args:
        case: the case.
        tensors: its tensors.
        indices: for each image the pairs of a layer as the criterion has them, queries and targets within the image.
    """
    chosen = np.concatenate([targets for _, targets in through_the_batch(case, indices)])
    return tensors.constants["loss_points"][torch.as_tensor(chosen)]


def weighted(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> dict[str, torch.Tensor]:
    """Each loss times its weight; without those that have none."""
    found = {key: _weight(key, weights) for key in losses}
    return {key: losses[key] * weight for key, weight in found.items() if weight is not None}


def _weight(key: str, weights: Mapping[str, float]) -> float | None:
    """The weight of a key, or of the longest name that it is a layer of."""
    names = [name for name in weights if re.fullmatch(rf"{re.escape(name)}(_.*)?", key)]
    return weights[max(names, key=len)] if names else None


def through_the_batch(case: LossCase, pairs: Iterable[Any]) -> list[Matching]:
    """Targets counted from the start of the batch: a matcher counts them within each image."""
    arrays = [arrays_of(pair) for pair in pairs]
    return [(queries, targets + case.of_image(image).start) for image, (queries, targets) in enumerate(arrays)]


def _pairs(found: Any) -> Iterable[Any]:  # of somebody else's matcher
    """Pairs of each image; some matchers return more beside them."""
    return found["indices"] if isinstance(found, Mapping) else found  # type: ignore[no-any-return]  # judged by the caller
