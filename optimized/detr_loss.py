"""The DETR loss: match, then classify every query and regress the matched boxes, in all decoder layers at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int64, Integer, Shaped
from torch import Tensor, nn

from detr_conformance.optimized.backends.choice import backend_for, check_backend
from detr_conformance.optimized.backends.torch.pairs import pair_terms
from detr_conformance.optimized.by_parts import (
    PARTS,
    Losses,
    auxiliary_by_parts,
    class_loss_by_modules,
    layer_by_parts,
    losses_by_parts,
    replaced_class_losses,
    replaced_parts,
)
from detr_conformance.optimized.compiled import group_of_name, known_to_compiler, losses_of_parts, name_of_group
from detr_conformance.optimized.focal import FocalLoss, OfClassLosses, VarifocalLoss
from detr_conformance.optimized.known_gradient import known_gradient
from detr_conformance.optimized.layer_losses import (
    Configuration,
    LayerInputs,
    LayerTerms,
    layer_losses,
    layer_terms,
)
from detr_conformance.optimized.mask_checks import check_mask_gains
from detr_conformance.optimized.masks import TERMS as MASK_TERMS
from detr_conformance.optimized.masks import MaskLosses, Masks, checked_masks, mask_losses
from detr_conformance.optimized.matcher import HungarianMatcher
from detr_conformance.optimized.normaliser import Normaliser, check_process_group, normalisers
from detr_conformance.optimized.options import UNSCALED, ClassOptions, Weight
from detr_conformance.optimized.pairing import Matching, pairs_of_matching, rows_of_matching
from detr_conformance.optimized.part_checks import check_boxes_of_images, check_class_arguments, check_pairs
from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.replaced import remember
from detr_conformance.optimized.targets import Pairs, Targets, checked_targets
from detr_conformance.optimized.validation import (
    check_count,
    check_gains,
    check_integer,
    check_number,
    check_predictions,
    check_rows,
    entry,
)

TERMS = ("class", "bbox", "giou")
LAYER_AXES = ("layers", "images", "queries")

DEFAULT_LOSS_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0, "no_object": 0.1, "mask": 1.0, "dice": 1.0}
MATCHER_COST_GAIN = {"class": 2.0, "bbox": 5.0, "giou": 2.0}


@known_to_compiler
class DETRLoss(nn.Module):
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
        named = {f"loss_{term}{postfix}": self._gained(term, loss) for term, loss in zip(terms, main, strict=True)}
        if not self.aux_loss:
            return named
        of_auxiliary = zip(terms, auxiliary, strict=True)
        return named | {f"loss_{term}_aux{postfix}": self._gained(term, loss) for term, loss in of_auxiliary}

    def _gain(self, term: str) -> float:
        """The gain of a term inside of what has its derivatives in closed form; of a tensor see `_gained`."""
        gain = self.loss_gain[term]
        return 1.0 if isinstance(gain, Tensor) else gain

    def _gained(self, term: str, loss: Tensor) -> Tensor:
        """The loss times a gain that is a tensor, which may be learnt, and lie on the device."""
        gain = self.loss_gain[term]
        return loss * gain if isinstance(gain, Tensor) else loss

    def _configuration(self, inputs: LayerInputs, normaliser: Normaliser) -> Configuration:
        """The losses with their weights."""
        scores = inputs.pred_scores
        return Configuration(
            self._class_options(normaliser, scores.shape[2]),
            self._box_weights(normaliser),
            backend_for(scores.device, self.backend),
            None if inputs.masks is None else self._mask_weights(normaliser),
        )

    def _mask_weights(self, normaliser: Normaliser) -> tuple[Weight, Weight]:
        """Of the focal and of the dice loss of masks."""
        return normaliser.per_pair(self._gain("mask")), normaliser.per_pair(self._gain("dice"))

    def _box_weights(self, normaliser: Normaliser) -> tuple[Weight, Weight]:
        """Of the L1 and of the GIoU loss."""
        return normaliser.per_pair(self._gain("bbox")), normaliser.per_pair(self._gain("giou"))

    def _class_options(self, normaliser: Normaliser, queries: int) -> ClassOptions:
        """The classification loss with its weights; see `_get_loss_class`."""
        gain = self._gain("class")
        if self.fl is None:
            # quirk: by the queries, not by the pairs. The merged batch of all processes has as many queries an image,
            # so the mean of their losses has to be made its sum again.
            weight = gain * normaliser.processes / queries
            return ClassOptions("bce", 0.0, weight, weight)
        alpha = self.fl.alpha
        rest, foreground = (1 - alpha, alpha) if alpha > 0 else (1.0, 1.0)
        if self.vfl is None:
            weights = (normaliser.per_pair(gain * rest), normaliser.per_pair(gain * foreground))
            return ClassOptions("focal", self.fl.gamma, *weights)
        # quirk: without a single pair the varifocal loss gives way to the focal one, which differs in this factor.
        background = normaliser.per_pair(gain) * normaliser.if_any(self.vfl.alpha, rest)
        gamma = normaliser.choose(self.vfl.gamma, self.fl.gamma)
        return ClassOptions("varifocal", gamma, background, normaliser.per_pair(gain))

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
        weights = self._mask_weights(Normaliser(float(pairs.count)))
        of_pairs = zip(MASK_TERMS, mask_losses(checked, pairs, weights), strict=False)
        return losses | {f"loss_{term}{postfix}": self._gained(term, loss) for term, loss in of_pairs}

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
        return {f"loss_{term}_aux{postfix}": self._gained(term, total) for term, total in totals.items()}

    def _get_loss_class(
        self,
        pred_scores: Float[Tensor, "images queries classes"],
        targets: Integer[Tensor, "images queries"],
        gt_scores: Float[Tensor, "images queries"],
        num_gts: int,
        postfix: str = "",
    ) -> Losses:
        """The classification loss of one layer.

        With y one-hot over the classes (background all zero) and q = y score:

            use_fl, use_vfl and N > 0    sum of BCE(x, q) (alpha p^gamma (1 - y) + q) / max(N, 1)
            use_fl otherwise             sum of BCE(x, y) (1 - p_t)^gamma a_t / max(N, 1)
            not use_fl                   sum of BCE(x, q) / Q    (quirk: not by the number of pairs)

        Args:
            pred_scores: logits x.
            targets: class of each query's target, nc for background.
            gt_scores: IoU of each query with its target, 0 for background.
            num_gts: N.
            postfix: goes last in the key.
        """
        check_class_arguments(pred_scores, targets, gt_scores, self.nc)
        pairs = check_number("num_gts", num_gts, least=0.0)
        if self.fl is not None and replaced_class_losses(self):
            total = class_loss_by_modules(self, pred_scores, targets.long(), gt_scores, pairs)
            return {f"loss_class{postfix}": total * self.loss_gain["class"]}
        options = self._class_options(Normaliser(pairs), pred_scores.shape[1])
        backend = backend_for(pred_scores.device, self.backend)
        x = pred_scores.to(arithmetic_dtype(pred_scores))  # or a derivative in float16 would be rounded before its use
        one_layer = (x.detach()[None], targets.long()[None], gt_scores[None])
        sums, grads = backend.class_terms(*one_layer, options, UNSCALED)
        assert grads is not None  # noqa: S101  # for the type checker: factors were given
        return {f"loss_class{postfix}": self._gained("class", known_gradient(x, sums.sum(), grads[0]))}

    def _get_loss_bbox(
        self, pred_bboxes: Float[Tensor, "pairs 4"], gt_bboxes: Float[Tensor, "pairs 4"], postfix: str = ""
    ) -> Losses:
        """The two box losses of one layer over its matched pairs; both 0 without a pair.

            loss_bbox = gain_bbox sum |b - b'| / N,    loss_giou = gain_giou sum (1 - GIoU(b, b')) / N

        Args:
            pred_bboxes: matched predictions b, one for each pair.
            gt_bboxes: their targets b'.
            postfix: goes last in the keys.
        """
        check_pairs(pred_bboxes, gt_bboxes)
        dtype = arithmetic_dtype(pred_bboxes)
        terms = pair_terms(pred_bboxes.detach().to(dtype)[None], gt_bboxes.to(dtype)[None])
        bbox_weight, giou_weight = self._box_weights(Normaliser(float(len(pred_bboxes))))
        bbox = terms.distance.sum() * bbox_weight, terms.grad_distance[0] * bbox_weight
        giou = terms.apart.sum() * giou_weight, terms.grad_apart[0] * giou_weight
        return {
            f"loss_bbox{postfix}": self._gained("bbox", known_gradient(pred_bboxes, *bbox)),
            f"loss_giou{postfix}": self._gained("giou", known_gradient(pred_bboxes, *giou)),
        }

    @staticmethod
    def _get_index(
        match_indices: Sequence[Matching],
    ) -> tuple[tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]], Int64[Tensor, " pairs"]]:
        """All pairs of a batch as flat indices: ((image, query), target)."""
        rows = (row for pair in check_rows("match_indices", match_indices) for row in check_rows("match_indices", pair))
        device = next((row.device for row in rows if isinstance(row, Tensor)), torch.device("cpu"))
        queries, targets = rows_of_matching(match_indices, None, device)
        images = queries.images.clone()  # what is on the device is shared, and a caller may write into what it gets
        return (images, queries.not_negative()), targets.not_negative()

    @staticmethod
    def _get_assigned_bboxes(
        pred_bboxes: Float[Tensor, "images queries 4"],
        gt_bboxes: Sequence[Float[Tensor, "_ 4"]],
        match_indices: Sequence[Matching],
    ) -> tuple[Float[Tensor, "pairs 4"], Float[Tensor, "pairs 4"]]:
        """Matched predictions and their targets, row by row; here target indices count within each image."""
        boxes, of_images = check_boxes_of_images(pred_bboxes, gt_bboxes)
        queries, targets = rows_of_matching(match_indices, len(boxes), boxes.device)
        inside = queries.within([0] * len(boxes), [boxes.shape[1]] * len(boxes))
        counts = [len(own) for own in of_images]
        own = targets.within([0] * len(boxes), counts) + targets.spread([0, *accumulate(counts)][:-1])
        with torch.autocast(boxes.device.type, enabled=False):  # for one type of halves it does not join the other
            every = torch.cat(of_images)
        return boxes[queries.images, inside], every[own]


remember(DETRLoss, *PARTS)
