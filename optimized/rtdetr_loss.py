"""The RT-DETR loss: the DETR loss, and the same once more for the denoising queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Number
from typing import Any

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

from detr_conformance.optimized.by_parts import Losses, denoising_pairs
from detr_conformance.optimized.compiled import known_to_compiler, losses_of_parts
from detr_conformance.optimized.detr_loss import LAYER_AXES, DETRLoss
from detr_conformance.optimized.layer_losses import (
    Configuration,
    LayerInputs,
    LayerTerms,
    layer_losses,
    layer_terms,
)
from detr_conformance.optimized.masks import TERMS as MASK_TERMS
from detr_conformance.optimized.normaliser import normalisers
from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.pairing import Matching, denoising_matching
from detr_conformance.optimized.replaced import remember, replaced_methods
from detr_conformance.optimized.targets import Pairs, Targets
from detr_conformance.optimized.validation import (
    check_count,
    check_counts,
    check_device,
    check_predictions,
    check_rows,
    entry,
)


@known_to_compiler
class RTDETRDetectionLoss(DETRLoss):
    """`DETRLoss` of the ordinary queries, plus `DETRLoss` of the denoising queries under keys that end in `_dn`.

    A denoising query is not matched: it was made from a target, and answers for that one in every layer.

    A caller under `torch.compile` sees one operator and no graph break. But torch compiles the caller anew for every
    pattern of images with no, one and more targets, and soon gives up: compile the model and call the loss outside,
    unless the images of all batches have two targets or more.

    Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4; denoising: Zhang et al., DINO, arXiv 2203.03605,
    section 3.3.
    """

    def forward(  # type: ignore[override]  # the signature is that of Ultralytics' class
        self,
        preds: tuple[Float[Tensor, "layers images queries 4"], Float[Tensor, "layers images queries classes"]],
        batch: Mapping[str, Any],
        dn_bboxes: Float[Tensor, "dn_layers images denoising 4"] | None = None,
        dn_scores: Float[Tensor, "dn_layers images denoising classes"] | None = None,
        dn_meta: Mapping[str, Any] | None = None,
        *,
        masks: Float[Tensor, "layers images queries height width"] | None = None,
        gt_mask: Shaped[Tensor, "targets gt_height gt_width"] | None = None,
        normaliser: Weight | None = None,
        dn_normaliser: Weight | None = None,
    ) -> Losses:
        """All losses of a training step.

        Args:
            preds: predicted boxes in centre form and logits, the main layer last.
            batch: `cls` (targets,), `bboxes` (targets, 4) in centre form and `gt_groups`, a list with the number of
                targets of each image.
            dn_bboxes: boxes predicted by the denoising queries, in any number of layers; with `dn_meta` only.
            dn_scores: their logits; with `dn_meta` only.
            dn_meta: `dn_pos_idx` and `dn_num_group`, and where the generator gives it `dn_gt_idx`; see
                `get_dn_match_indices`. None: there are no denoising queries.
            masks: see `DETRLoss.forward`; denoising queries have none.
            gt_mask: likewise.
            normaliser: see `DETRLoss.forward`.
            dn_normaliser: likewise, of the denoising queries; by default `normaliser` times the number of groups, which
                fits where every target is denoised in each of them.

        Returns:
            The losses of `DETRLoss`, and those of classes and boxes once more with `_dn` at the end, all of those 0
            without `dn_meta`.

        Raises:
            KeyError, TypeError, ValueError: an argument does not fit; it is named with its value.
            RuntimeError: the backend cannot run here.
        """
        try:
            pred_bboxes, pred_scores = preds
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"preds is a {type(preds).__name__}, expected the pair (pred_bboxes, pred_scores)"
            ) from error
        arguments, called = (
            (pred_bboxes, pred_scores, batch, dn_bboxes, dn_scores, dn_meta),
            self._called_with_denoising,
        )
        self.device = getattr(pred_bboxes, "device", None)
        if torch.compiler.is_compiling():
            if normaliser is dn_normaliser is None and self._fits_the_operator(masks, gt_mask):
                return self._traced(*arguments)
            called = torch.compiler.disable(self._called_with_denoising)  # type: ignore[no-untyped-call]
        return called(*arguments, masks, gt_mask, (normaliser, dn_normaliser))

    def _names_of_replaced(self) -> list[str]:
        """Those of `DETRLoss`, and what pairs denoising queries."""
        return super()._names_of_replaced() + replaced_methods(self, RTDETRDetectionLoss)

    def _called_with_denoising(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        dn_bboxes: Tensor | None,
        dn_scores: Tensor | None,
        dn_meta: Mapping[str, Any] | None,
        masks: Tensor | None,
        gt_mask: Tensor | None,
        given: tuple[Weight | None, Weight | None],
    ) -> Losses:
        """The same, outside of what is compiled; with the normalisers that are given."""
        if self._replaced_parts(*given):
            predictions = (pred_bboxes, pred_scores, dn_bboxes, dn_scores)
            return self._both_by_parts(predictions, batch, dn_meta, masks, gt_mask)
        ordinary, *denoising = self._both_parts(
            pred_bboxes, pred_scores, batch, dn_bboxes, dn_scores, dn_meta, masks, gt_mask, given
        )
        losses = layer_losses(*ordinary)
        named = self._named(losses, of_masks=self._mask_losses(*ordinary))
        if denoising:
            return named | self._named(layer_losses(*denoising[0]), "_dn")
        return named | _nothing(self._named(losses), pred_bboxes)

    def _both_by_parts(
        self,
        predictions: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
        batch: Mapping[str, Any],
        dn_meta: Mapping[str, Any] | None,
        masks: Tensor | None,
        gt_mask: Tensor | None,
    ) -> Losses:
        """Ordinary and denoising queries layer by layer, through the parts that a user may have replaced."""
        pred_bboxes, pred_scores, dn_bboxes, dn_scores = predictions
        losses = DETRLoss.forward(self, pred_bboxes, pred_scores, batch, masks=masks, gt_mask=gt_mask)
        if dn_meta is None:
            of_masks = tuple(f"loss_{term}" for term in MASK_TERMS)
            return losses | _nothing(
                {key: each for key, each in losses.items() if not key.startswith(of_masks)}, pred_bboxes
            )
        dn_bboxes, dn_scores = _both_given(dn_bboxes, dn_scores)
        pairs = denoising_pairs(self.get_dn_match_indices, dn_meta, batch["gt_groups"])
        return losses | DETRLoss.forward(self, dn_bboxes, dn_scores, batch, "_dn", pairs)

    def _both_parts(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        dn_bboxes: Tensor | None,
        dn_scores: Tensor | None,
        dn_meta: Mapping[str, Any] | None,
        masks: Tensor | None = None,
        gt_mask: Tensor | None = None,
        given: tuple[Weight | None, Weight | None] = (None, None),
    ) -> list[tuple[LayerInputs, Configuration]]:
        """Checked arguments, pairs and weights of the ordinary queries, and of the denoising ones if there are any."""
        check_predictions(pred_bboxes, pred_scores, LAYER_AXES, self.nc)
        targets = self._targets(pred_bboxes, pred_scores, batch)
        checked = self._masks(masks, gt_mask, pred_scores, targets)
        parts = [] if dn_meta is None else [self._denoising(dn_bboxes, dn_scores, targets, dn_meta)]
        parts.insert(0, self._paired(pred_bboxes, pred_scores, targets, masks=checked))
        # Every process counts both kinds of pairs, also one that has no denoising queries: the others wait for it.
        counts = [*(part.pairs.count for part in parts), 0][:2]
        of_parts = normalisers(counts, pred_scores.device, self.process_group, given)
        if dn_meta is not None and given[1] is None:
            of_parts[1] = of_parts[1].like(of_parts[0], check_count("dn_num_group", dn_meta["dn_num_group"], least=1))
        return [(part, self._configuration(part, own)) for part, own in zip(parts, of_parts, strict=False)]

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
            predictions: boxes and logits of the ordinary queries, then of the denoising queries if there are any.
            batch: see `forward`.
            queries: for each image its positive denoising slots.
            targets: for each image the targets of one denoising group, or nothing at all: all of them in order.
            groups: number of denoising groups.
        """
        dn_bboxes, dn_scores = predictions[2:] or (None, None)
        dn_meta = {"dn_pos_idx": queries, "dn_num_group": groups, "dn_gt_idx": targets or None}
        parts = self._both_parts(
            predictions[0], predictions[1], batch, dn_bboxes, dn_scores, None if dn_bboxes is None else dn_meta
        )
        return [layer_terms(*part) for part in parts]

    def _traced(
        self,
        pred_bboxes: Tensor,
        pred_scores: Tensor,
        batch: Mapping[str, Any],
        dn_bboxes: Tensor | None,
        dn_scores: Tensor | None,
        dn_meta: Mapping[str, Any] | None,
    ) -> Losses:
        """The same by way of one operator; see `compiled`."""
        if dn_meta is None or dn_bboxes is None or dn_scores is None:
            [losses] = losses_of_parts(self, [pred_bboxes, pred_scores], batch)
            named = self._named(losses.unbind())
            return named | _nothing(named, pred_bboxes)
        ordinary, denoising = losses_of_parts(
            self,
            [pred_bboxes, pred_scores, dn_bboxes, dn_scores],
            batch,
            dn_meta["dn_pos_idx"],
            dn_meta.get("dn_gt_idx") or (),
            dn_meta["dn_num_group"],
        )
        return self._named(ordinary.unbind()) | self._named(denoising.unbind(), "_dn")

    def _denoising(
        self,
        dn_bboxes: Tensor | None,
        dn_scores: Tensor | None,
        targets: Targets,
        dn_meta: Mapping[str, Any],
    ) -> LayerInputs:
        """The denoising queries, each paired with the target that it was made from."""
        dn_bboxes, dn_scores = _both_given(dn_bboxes, dn_scores)
        axes = ("layers", "images", "denoising")
        check_predictions(dn_bboxes, dn_scores, axes, self.nc, ("dn_bboxes", "dn_scores"))
        check_device("dn_scores", dn_scores, "pred_bboxes", targets.boxes.device)
        if dn_scores.shape[1] != len(targets.counts):
            raise ValueError(f"dn_scores has shape {tuple(dn_scores.shape)}, expected {len(targets.counts)} images")
        images, slots = dn_scores.shape[1:3]
        positions, groups = (entry(dn_meta, "dn_meta", key) for key in ("dn_pos_idx", "dn_num_group"))
        positive, chosen = denoising_matching(
            positions, groups, targets.counts, dn_meta.get("dn_gt_idx"), dn_scores.device
        )
        inside = positive.within([0] * images, [slots] * images)
        rows = torch.add(inside, positive.images, alpha=slots)
        return self._used_layers(dn_bboxes, dn_scores, targets, Pairs(rows[None], chosen[None]))

    @staticmethod
    def get_dn_match_indices(
        dn_pos_idx: Sequence[Integer[Tensor, " _slots"]],
        dn_num_group: int,
        gt_groups: Sequence[int] | Sequence[Integer[Tensor, " _targets"]],
        dn_gt_idx: Sequence[Integer[Tensor, " _targets"]] | None = None,
    ) -> list[Matching]:
        """Pair every positive denoising query with the target that it was made from.

        Args:
            dn_pos_idx: for each image its positive slots, group after group.
            dn_num_group: number of groups, at least 1.
            gt_groups: number of targets of each image; or, as newer releases of Ultralytics have it in this place, what
                `dn_gt_idx` means.
            dn_gt_idx: for each image the targets, counted through the whole batch, that one group reconstructs; by
                default all of them in order.

        Returns:
            For each image its slots, and the target of each, counted through the whole batch.

        Raises:
            ValueError: an image has not as many slots as targets times groups, and both numbers are named; or an index
                is out of range.
            TypeError: an index or a number is no integer.

        Reference: Zhang et al., DINO, arXiv 2203.03605, section 3.3 (contrastive denoising groups).
        """
        slots, counts = check_rows("dn_pos_idx", dn_pos_idx), None
        if isinstance(gt_groups, (list, tuple)) and gt_groups and not _is_number(gt_groups[0]):
            dn_gt_idx = gt_groups  # the caller may mean both by it
        else:
            counts = check_counts(gt_groups, len(slots))
        device = next((row.device for row in slots if isinstance(row, Tensor)), torch.device("cpu"))
        positive, chosen = denoising_matching(slots, dn_num_group, counts, dn_gt_idx, device)
        own = chosen.clone()  # what is on the device is shared, and a caller may write into what it gets
        return list(zip(positive.not_negative().split(positive.sizes), own.split(positive.sizes), strict=True))  # type: ignore[no-untyped-call]


def _is_number(entry: object) -> bool:
    """Whether it is a count, and no row of targets."""
    return isinstance(entry, Number) or (isinstance(entry, Tensor) and not entry.dim())


def _both_given(dn_bboxes: Tensor | None, dn_scores: Tensor | None) -> tuple[Tensor, Tensor]:
    """The predictions of denoising queries, which `dn_meta` speaks of."""
    if dn_bboxes is None or dn_scores is None:
        absent = "dn_bboxes" if dn_bboxes is None else "dn_scores"
        raise ValueError(f"{absent} is None, expected the denoising queries' predictions beside dn_meta")
    return dn_bboxes, dn_scores


def _nothing(losses: Losses, pred_bboxes: Tensor) -> Losses:
    """The losses of no denoising queries: zeros, connected to the graph of the predictions."""
    zero = pred_bboxes[..., :0].sum(dtype=losses["loss_bbox"].dtype)
    return {f"{key}_dn": zero.clone() for key in losses}


remember(RTDETRDetectionLoss, "get_dn_match_indices")
