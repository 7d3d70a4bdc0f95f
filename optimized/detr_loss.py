"""The DETR loss: match, then classify every query and regress the matched boxes, in all decoder layers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from detr_conformance.optimized.backends.choice import backend_for, check_backend
from detr_conformance.optimized.by_parts import (
    PARTS,
    Losses,
    auxiliary_by_parts,
    layer_by_parts,
    losses_by_parts,
    replaced_parts,
)
from detr_conformance.optimized.compiled import group_of_name, known_to_compiler, losses_of_parts, name_of_group
from detr_conformance.optimized.focal import FocalLoss, OfClassLosses, VarifocalLoss
from detr_conformance.optimized.layer_losses import (
    Configuration,
    LayerInputs,
    LayerTerms,
    layer_losses,
    layer_terms,
)
from detr_conformance.optimized.loss_weights import box_weights, class_options, gained, mask_weights
from detr_conformance.optimized.mask_checks import check_mask_gains
from detr_conformance.optimized.masks import TERMS as MASK_TERMS
from detr_conformance.optimized.masks import MaskLosses, Masks, checked_masks, mask_losses
from detr_conformance.optimized.matcher import HungarianMatcher
from detr_conformance.optimized.normaliser import Normaliser, check_process_group, normalisers
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.pairing import Matching, pairs_of_matching
from detr_conformance.optimized.parts_of_layer import PartsOfLayer
from detr_conformance.optimized.replaced import remember
from detr_conformance.optimized.targets import Pairs, Targets, checked_targets
from detr_conformance.optimized.validation import (
    check_count,
    check_gains,
    check_integer,
    check_number,
    check_predictions,
    entry,
)

TERMS = ("class", "bbox", "giou")
LAYER_AXES = ("layers", "images", "queries")

DEFAULT_LOSS_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0, "no_object": 0.1, "mask": 1.0, "dice": 1.0}
MATCHER_COST_GAIN = {"class": 2.0, "bbox": 5.0, "giou": 2.0}


@known_to_compiler
class DETRLoss(PartsOfLayer):
    """Classification, L1 and GIoU loss of all decoder layers, and the losses of masks where they are given.

    In each layer, with N the number of matched pairs and m(b) the target of query b:

        loss_class = gain_class sum_{images, queries, classes} term(x) / max(N, 1)    see `_get_loss_class`
        loss_bbox  = gain_bbox sum_{matched} |b - m(b)| / N                           0 where N is 0
        loss_giou  = gain_giou sum_{matched} (1 - GIoU(b, m(b))) / N                  0 where N is 0
        loss_mask, loss_dice                                                          see `masks.mask_losses`

    N counts pairs, not targets (quirk): with fewer queries than targets it is the smaller number, with denoising it is
    the denoised targets times the number of groups.

    Takes float16, bfloat16, float32 and float64 predictions on the CPU and on CUDA, also under autocast and as views;
    computes in float32 or better, and returns gradients in the dtype of the predictions. The losses can be
    differentiated once: a second derivative raises RuntimeError.

    Attributes that are set, and methods and modules that are replaced, take effect at the next call. `fl` and `vfl` are
    the classification losses, None where `use_fl` or `use_vfl` is off; `device` is that of the last predictions.

    Args:
        nc: number of classes; background is none of them.
        loss_gain: weights, by default class 1, bbox 5, giou 2, mask 1, dice 1, the last two needed for masks alone; a
            tensor may be learnt.
            quirk: no_object is never read.
        aux_loss: also compute the layers before the last.
        use_fl: focal or varifocal classification; otherwise cross-entropy against the IoU.
        use_vfl: varifocal instead of focal. quirk: ignored without `use_fl`.
        use_uni_match: all auxiliary layers share one of their matchings.
        uni_match_ind: the auxiliary layer whose matching they share; below 0 it counts from the last, -1.
        gamma: exponent of the focal or varifocal loss, >= 0.
        alpha: balance of the focal or varifocal loss. quirk: neither it nor gamma nor use_fl reaches the matcher.
        process_group: average N over its processes, so that the mean of their losses is the loss of the merged batch,
            also where one has no target; None: N of this process.
        validate: also check on CUDA what can only be checked by waiting for the device: classes, boxes, indices.
        backend: "torch", "native" or "triton"; None: by the device of the predictions, and what is installed.

    Raises:
        KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.

    Reference: Carion et al., DETR, arXiv 2005.12872, equation 2 and section 3.1; IoU-aware classification: Zhao et al.,
    RT-DETR, arXiv 2304.08069, section 4.3.
    """

    gamma = OfClassLosses()
    alpha = OfClassLosses()

    def __init__(
        self,
        nc: int = 80,
        loss_gain: Mapping[str, float] | None = None,
        aux_loss: bool = True,
        use_fl: bool = True,
        use_vfl: bool = False,
        use_uni_match: bool = False,
        uni_match_ind: int = 0,
        gamma: float = 1.5,
        alpha: float = 0.25,
        *,
        process_group: dist.ProcessGroup | None = None,
        validate: bool = False,
        backend: str | None = None,
    ) -> None:
        """Keep the options and build the matcher."""
        super().__init__()
        check_process_group(process_group)
        check_backend(backend)
        self.nc = check_count("nc", nc, least=1)
        self.loss_gain = check_gains("loss_gain", DEFAULT_LOSS_GAIN if loss_gain is None else loss_gain, tensors=True)
        self.aux_loss = aux_loss
        self.use_uni_match = use_uni_match
        self.uni_match_ind = check_integer("uni_match_ind", uni_match_ind)
        check_number("gamma", gamma, least=0.0)  # also without a loss that reads them
        check_number("alpha", alpha)
        self.fl = FocalLoss(gamma, alpha) if use_fl else None
        self.vfl = VarifocalLoss(gamma, alpha) if use_vfl else None
        self.device: torch.device | None = None
        self.validate = validate
        self.backend = backend
        self.matcher = HungarianMatcher(MATCHER_COST_GAIN, validate=validate, backend=backend)
        self.name_of_group = name_of_group(process_group)

    @property
    def process_group(self) -> dist.ProcessGroup | None:
        """The processes that share N. Kept by name, so that the loss can be copied and pickled, as with its model."""
        return group_of_name(self.name_of_group)

    @property
    def use_fl(self) -> bool:
        """Whether there is a focal or varifocal loss; `fl = None` switches both off."""
        return self.fl is not None

    @property
    def use_vfl(self) -> bool:
        """Whether there is a varifocal loss; `vfl = None` switches it off."""
        return self.vfl is not None

    def forward(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        pred_scores: Float[Tensor, "layers images queries classes"],
        batch: Mapping[str, Any],
        postfix: str = "",
        match_indices: Sequence[Matching] | None = None,
        *,
        masks: Float[Tensor, "layers images queries height width"] | None = None,
        gt_mask: Shaped[Tensor, "targets gt_height gt_width"] | None = None,
        normaliser: Weight | None = None,
    ) -> Losses:
        """The losses of the last layer, and their sums over the auxiliary layers.

        Args:
            pred_bboxes: predicted boxes in centre form, the main layer last.
            pred_scores: logits.
            batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, a list with the number of
                targets of each image.
            postfix: goes last in every key.
            match_indices: one matching to use in every layer, instead of matching each. A query has one target.
            masks: logits of the predicted masks; with `gt_mask` only.
            gt_mask: for each target 1 on the object and 0 beside it, in a size of its own; with `masks` only.
            normaliser: what to divide by instead of N, at least 0, where 0 counts as 1. For gradients that are
                accumulated: the pairs of all micro-batches of an optimiser step, so that their losses add up to that of
                the merged batch. A tensor may lie on the device, and is not looked at.
                quirk: a micro-batch without a pair takes the focal loss in place of the varifocal one, like any batch.

        Returns:
            `loss_class`, `loss_bbox`, `loss_giou`, for masks `loss_mask` and `loss_dice`, and with `aux_loss` each of
            them with `_aux`; scalars in float32, or float64 for float64 predictions.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
            RuntimeError: the backend cannot run here.
        """
        called, self.device = self._called, getattr(pred_bboxes, "device", None)
        if torch.compiler.is_compiling():
            if normaliser is None and self._fits_the_operator(masks, gt_mask):
                queries, targets = zip(*match_indices, strict=True) if match_indices else ((), ())
                [losses] = losses_of_parts(self, [pred_bboxes, pred_scores], batch, queries, targets)
                return self._named(losses.unbind(), postfix)
            called = torch.compiler.disable(self._called)  # type: ignore[no-untyped-call]
        return called(pred_bboxes, pred_scores, batch, postfix, match_indices, masks, gt_mask, normaliser)

    def _called(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        postfix: str,
        match_indices: Sequence[Matching] | None,
        masks: Tensor | None,
        gt_mask: Tensor | None,
        normaliser: Weight | None,
    ) -> Losses:
        """The same, outside of what is compiled."""
        if self._replaced_parts(normaliser):
            check_predictions(pred_bboxes, pred_scores, LAYER_AXES, self.nc)
            self._targets(pred_bboxes, pred_scores, batch)
            predictions = pred_bboxes, pred_scores
            return losses_by_parts(self, predictions, batch, postfix, match_indices, masks, gt_mask)
        part = self._part(pred_bboxes, pred_scores, batch, match_indices, masks, gt_mask, normaliser)
        return self._named(layer_losses(*part), postfix, self._mask_losses(*part))

    def _fits_the_operator(self, masks: object, gt_mask: object) -> bool:
        """Whether a compiled caller need not have a graph break: the operator knows no masks, and nothing of a user."""
        return masks is None and gt_mask is None and not self._replaced_parts() and not self.matcher.with_mask

    def _replaced_parts(self, *given: Weight | None) -> list[str]:
        """The parts that a user has overridden, patched, hooked or exchanged; with any, the loss goes layer by layer.

        Raises:
            ValueError: there are some, and a process group, or normalisers are given: neither reaches what they divide
                by.
        """
        names = self._names_of_replaced()
        number = next((each for each in given if each is not None), None)
        from_outside = {"process_group": self.name_of_group or None, "normaliser": number}
        for name, value in from_outside.items():
            if names and value is not None:
                raise ValueError(f"{name} is {value!r}, expected None where a part is replaced: {', '.join(names)}")
        return names

    def terms(
        self,
        predictions: Sequence[Tensor],
        batch: Mapping[str, Any],
        queries: Sequence[Tensor],
        targets: Sequence[Tensor],
        groups: int,
    ) -> list[LayerTerms]:
        """What `forward` computes, with the derivatives and without a graph, for `torch.compile`.

        Args:
            predictions: boxes and logits.
            batch: see `forward`.
            queries: for each image the queries of the pairs to use, or nothing at all.
            targets: for each image their targets.
            groups: 0, denoising queries are the subclass's.
        """
        match_indices = list(zip(queries, targets, strict=True)) or None
        return [layer_terms(*self._part(predictions[0], predictions[1], batch, match_indices))]

    def _names_of_replaced(self) -> list[str]:
        """The same, whatever the processes."""
        return replaced_parts(self, DETRLoss)

    def _part(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        match_indices: Sequence[Matching] | None,
        masks: Tensor | None = None,
        gt_mask: Tensor | None = None,
        normaliser: Weight | None = None,
    ) -> tuple[LayerInputs, Configuration]:
        """Checked arguments, pairs, and weights."""
        check_predictions(pred_bboxes, pred_scores, LAYER_AXES, self.nc)
        targets = self._targets(pred_bboxes, pred_scores, batch)
        checked = self._masks(masks, gt_mask, pred_scores, targets)
        inputs = self._paired(pred_bboxes, pred_scores, targets, match_indices, checked)
        [divided] = normalisers([inputs.pairs.count], pred_scores.device, self.process_group, [normaliser])
        return inputs, self._configuration(inputs, divided)

    def _targets(self, pred_bboxes: Tensor, pred_scores: Tensor, batch: Mapping[str, Any]) -> Targets:
        """The targets out of the batch, checked."""
        gt_bboxes, gt_cls, gt_groups = (entry(batch, "batch", key) for key in ("bboxes", "cls", "gt_groups"))
        return checked_targets(gt_bboxes, gt_cls, gt_groups, pred_bboxes, pred_scores, self.validate)

    def _masks(self, masks: object, gt_mask: object, pred_scores: Tensor, targets: Targets) -> Masks | None:
        """The masks, checked, and whether there are gains for them."""
        checked = checked_masks(masks, gt_mask, pred_scores, targets, self.validate)
        if checked is not None:
            check_mask_gains("loss_gain", self.loss_gain, "masks")
        return checked

    @staticmethod
    def _mask_losses(inputs: LayerInputs, configuration: Configuration) -> MaskLosses | None:
        """The losses of the masks, if there are any."""
        if inputs.masks is None or configuration.mask_weights is None:
            return None
        return mask_losses(inputs.masks, inputs.pairs, configuration.mask_weights)

    def _paired(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        pred_scores: Float[Tensor, "layers images queries classes"],
        targets: Targets,
        match_indices: Sequence[Matching] | None = None,
        masks: Masks | None = None,
    ) -> LayerInputs:
        """The layers that have a loss, with the given pairs or the matcher's."""
        if match_indices is not None:
            pairs = pairs_of_matching(match_indices, pred_scores.shape[2], targets.counts, pred_scores.device)
            return self._used_layers(pred_bboxes, pred_scores, targets, pairs, masks)
        if not self.aux_loss:
            pred_bboxes, pred_scores = pred_bboxes[-1:], pred_scores[-1:]
            masks = None if masks is None else masks.of_layers(slice(-1, None))
        layers = len(pred_scores)
        boxes, scores, compared = pred_bboxes, pred_scores, masks
        if self.use_uni_match and layers > 1:
            # As a view: a list of indices would be copied to the device, and waited for, and `stack` refuses halves of
            # one type under autocast to the other.
            first = self._shared_layer(layers - 1)
            both = slice(first, None, layers - 1 - first)
            boxes, scores = pred_bboxes[both], pred_scores[both]
            compared = None if masks is None else masks.of_layers(both)
        pairs = self.matcher.match_layers(boxes, scores, targets, compared)
        if pairs.layers < layers:
            pairs = pairs.of_layers([0] * (layers - 1) + [1])
        return LayerInputs(pred_bboxes, pred_scores, targets, pairs, masks)

    def _used_layers(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        pred_scores: Float[Tensor, "layers images queries classes"],
        targets: Targets,
        pairs: Pairs,
        masks: Masks | None = None,
    ) -> LayerInputs:
        """The layers that have a loss, all with the same pairs."""
        if not self.aux_loss:  # a slice of everything would cost a copy of everything in the backward pass
            pred_bboxes, pred_scores = pred_bboxes[-1:], pred_scores[-1:]
            masks = None if masks is None else masks.of_layers(slice(-1, None))
        return LayerInputs(pred_bboxes, pred_scores, targets, pairs.in_layers(len(pred_bboxes)), masks)

    def _shared_layer(self, auxiliary: int) -> int:
        """The auxiliary layer whose matching all of them use."""
        if not -auxiliary <= self.uni_match_ind < auxiliary:
            expected = f"a layer from 0 to {auxiliary - 1}, or from the last, -1, to {-auxiliary}"
            raise ValueError(f"uni_match_ind is {self.uni_match_ind}, expected {expected}")
        return self.uni_match_ind % auxiliary

    def _named(self, losses: Sequence[Tensor], postfix: str = "", of_masks: MaskLosses | None = None) -> Losses:
        """The losses of `LayerLosses` and `MaskLosses` under their public keys."""
        main, auxiliary = list(losses[:3]), list(losses[3:])
        if of_masks is not None:
            main, auxiliary = [*main, *of_masks[:2]], [*auxiliary, *of_masks[2:]]
        terms = TERMS if of_masks is None else TERMS + MASK_TERMS
        gains, of_main = self.loss_gain, zip(terms, main, strict=True)
        named = {f"loss_{term}{postfix}": gained(gains, term, loss) for term, loss in of_main}
        if not self.aux_loss:
            return named
        of_auxiliary = zip(terms, auxiliary, strict=True)
        return named | {f"loss_{term}_aux{postfix}": gained(gains, term, loss) for term, loss in of_auxiliary}

    def _configuration(self, inputs: LayerInputs, normaliser: Normaliser) -> Configuration:
        """The losses with their weights."""
        scores = inputs.pred_scores
        return Configuration(
            class_options(self.fl, self.vfl, self.loss_gain, normaliser, scores.shape[2]),
            box_weights(self.loss_gain, normaliser),
            backend_for(scores.device, self.backend),
            None if inputs.masks is None else mask_weights(self.loss_gain, normaliser),
        )

    def _get_loss(
        self,
        pred_bboxes: Float[Tensor, "images queries 4"],
        pred_scores: Float[Tensor, "images queries classes"],
        gt_bboxes: Float[Tensor, "targets 4"],
        gt_cls: Integer[Tensor, " targets"],
        gt_groups: Sequence[int],
        masks: Float[Tensor, "images queries height width"] | str | None = None,
        gt_mask: Shaped[Tensor, "targets gt_height gt_width"] | Sequence[Matching] | None = None,
        postfix: str = "",
        match_indices: Sequence[Matching] | None = None,
    ) -> Losses:
        """The losses of one layer; arguments as in `forward`, without the axis of layers.

        `postfix` and `match_indices` may also come in the sixth and seventh place, where Ultralytics 8.4.190 has them.
        """
        if isinstance(masks, str):
            pairs: Any = match_indices if gt_mask is None else gt_mask
            targets = gt_bboxes, gt_cls, gt_groups
            return DETRLoss._get_loss(self, pred_bboxes, pred_scores, *targets, postfix=masks, match_indices=pairs)
        check_predictions(pred_bboxes, pred_scores, LAYER_AXES[1:], self.nc)
        if self._replaced_parts():
            of_images = (pred_bboxes, pred_scores), (gt_bboxes, gt_cls, gt_groups)
            return self._layer_by_parts(*of_images, masks, gt_mask, postfix, match_indices)
        batch = {"bboxes": gt_bboxes, "cls": gt_cls, "gt_groups": gt_groups}
        one_layer = masks[None] if isinstance(masks, Tensor) else masks
        layer = pred_bboxes[None], pred_scores[None], batch, postfix, match_indices
        # Not `self.forward`: that of a subclass takes other arguments.
        of_masks: Any = gt_mask
        losses = DETRLoss.forward(self, *layer, masks=one_layer, gt_mask=of_masks)
        return {key: loss for key, loss in losses.items() if not key.endswith(f"_aux{postfix}")}

    def _layer_by_parts(
        self,
        layer: tuple[Tensor, Tensor],
        targets: tuple[Tensor, Tensor, Sequence[int]],
        masks: object,
        gt_mask: object,
        postfix: str,
        match_indices: Sequence[Matching] | None,
    ) -> Losses:
        """The losses of one layer through the parts that a user may have replaced, and those of its masks."""
        batch = dict(zip(("bboxes", "cls", "gt_groups"), targets, strict=True))
        of_images = self._targets(*layer, batch)
        one_layer = masks[None] if isinstance(masks, Tensor) else masks
        checked = self._masks(one_layer, gt_mask, layer[1][None], of_images)
        if match_indices is None:
            compared = {} if checked is None else {"masks": masks, "gt_mask": gt_mask}
            match_indices = self.matcher(*layer, *targets, **compared)
        losses = layer_by_parts(self, *layer, of_images.boxes, of_images.classes, match_indices, postfix)
        if checked is None:
            return losses
        queries, device = layer[1].shape[1], layer[1].device
        pairs = pairs_of_matching(match_indices, queries, of_images.counts, device)
        weights = mask_weights(self.loss_gain, Normaliser(float(pairs.count)))
        of_pairs = zip(MASK_TERMS, mask_losses(checked, pairs, weights), strict=False)
        return losses | {f"loss_{term}{postfix}": gained(self.loss_gain, term, loss) for term, loss in of_pairs}

    def _get_loss_aux(
        self,
        pred_bboxes: Float[Tensor, "auxiliary images queries 4"],
        pred_scores: Float[Tensor, "auxiliary images queries classes"],
        gt_bboxes: Float[Tensor, "targets 4"],
        gt_cls: Integer[Tensor, " targets"],
        gt_groups: Sequence[int],
        match_indices: Sequence[Matching] | None = None,
        postfix: str = "",
        masks: Float[Tensor, "auxiliary images queries height width"] | None = None,
        gt_mask: Shaped[Tensor, "targets gt_height gt_width"] | None = None,
    ) -> Losses:
        """The losses summed over the given layers; arguments as in `forward`, without the main layer."""
        if self._replaced_parts():
            of_layers = (pred_bboxes, pred_scores), (gt_bboxes, gt_cls, gt_groups)
            terms = TERMS if masks is None else TERMS + MASK_TERMS
            return auxiliary_by_parts(self, *of_layers, match_indices, postfix, masks, gt_mask, terms)
        check_predictions(pred_bboxes, pred_scores, LAYER_AXES, self.nc)
        targets = checked_targets(gt_bboxes, gt_cls, gt_groups, pred_bboxes, pred_scores, self.validate)
        checked = self._masks(masks, gt_mask, pred_scores, targets)
        layers, _, queries, _ = pred_scores.shape
        if match_indices is not None:
            pairs = pairs_of_matching(match_indices, queries, targets.counts, pred_scores.device)
        else:
            first = self._shared_layer(layers) if self.use_uni_match else 0
            matched = slice(first, first + 1 if self.use_uni_match else layers)
            compared = None if checked is None else checked.of_layers(matched)
            pairs = self.matcher.match_layers(pred_bboxes[matched], pred_scores[matched], targets, compared)
        inputs = LayerInputs(pred_bboxes, pred_scores, targets, pairs.in_layers(layers), checked)
        [normaliser] = normalisers([pairs.count], pred_scores.device, self.process_group)
        part = inputs, self._configuration(inputs, normaliser)
        losses, of_masks = layer_losses(*part), self._mask_losses(*part)
        totals = {term: losses[place] + losses[place + 3] for place, term in enumerate(TERMS)}
        if of_masks is not None:
            totals |= {term: of_masks[place] + of_masks[place + 2] for place, term in enumerate(MASK_TERMS)}
        return {f"loss_{term}_aux{postfix}": gained(self.loss_gain, term, total) for term, total in totals.items()}


remember(DETRLoss, *PARTS)
