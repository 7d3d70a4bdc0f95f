"""The loss layer by layer, through the public parts: what a user has put in the place of one takes effect.

It computes what the way of all layers at once computes, in the order of Ultralytics' loss, and takes about twice as
long. See `replaced` for what brings a loss here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.boxes import bbox_iou
from detr_conformance.optimized.focal import FocalLoss, VarifocalLoss
from detr_conformance.optimized.matcher import HungarianMatcher
from detr_conformance.optimized.pairing import Matching
from detr_conformance.optimized.precision import arithmetic_dtype
from detr_conformance.optimized.replaced import is_replaced, remember, replaced_methods

PARTS = ("_get_loss_class", "_get_loss_bbox", "_get_index", "_get_loss", "_get_loss_aux")
"""Methods of `DETRLoss` that make up its `forward`."""

Losses = dict[str, Float[Tensor, ""]]


@runtime_checkable
class ClassLosses(Protocol):
    """The classification losses of a `DETRLoss`; what users replace may be anything that can be called."""

    nc: int
    fl: Any
    vfl: Any


@runtime_checkable
class LossOfParts(ClassLosses, Protocol):
    """A `DETRLoss`, or what is derived from it."""

    aux_loss: bool
    use_uni_match: bool
    loss_gain: dict[str, Any]
    matcher: Any

    def _get_loss(self, *given: Any, **options: Any) -> Losses: ...

    def _get_loss_aux(self, *given: Any, **options: Any) -> Losses: ...

    def _get_loss_class(self, *given: Any) -> Losses: ...

    def _get_loss_bbox(self, *given: Any) -> Losses: ...

    def _get_index(self, match_indices: Sequence[Matching]) -> tuple[tuple[Tensor, Tensor], Tensor]: ...

    def _shared_layer(self, auxiliary: int) -> int: ...


remember(HungarianMatcher, "forward", "match_layers")
remember(FocalLoss, "forward")
remember(VarifocalLoss, "forward")


def replaced_parts(loss: LossOfParts, owner: type) -> list[str]:
    """The parts of a loss that are not its own any more, by the names that a user knows.

    Args:
        loss: a `DETRLoss`, or what is derived from it.
        owner: `DETRLoss`, which remembers its `PARTS`.
    """
    names = replaced_methods(loss, owner)
    if is_replaced(loss.matcher, HungarianMatcher):
        names.append("matcher")
    return names + replaced_class_losses(loss)


def replaced_class_losses(loss: ClassLosses) -> list[str]:
    """Which of `fl` and `vfl` is there and is not this package's own."""
    focal, varifocal = loss.fl, loss.vfl
    names = ["fl"] if focal is not None and is_replaced(focal, FocalLoss) else []
    return [*names, "vfl"] if varifocal is not None and is_replaced(varifocal, VarifocalLoss) else names


def losses_by_parts(
    loss: LossOfParts,
    predictions: Sequence[Tensor],
    batch: Mapping[str, Any],
    postfix: str,
    match_indices: Sequence[Matching] | None,
    masks: Tensor | None,
    gt_mask: Tensor | None,
) -> Losses:
    """What `DETRLoss.forward` computes; arguments as there."""
    targets = (batch["bboxes"], batch["cls"], batch["gt_groups"])
    options = {"postfix": postfix, "match_indices": match_indices}

    def of(layers: int | slice, compute: Callable[..., Losses]) -> Losses:
        return compute(*_of_layer(predictions, layers), *targets, **options, **_masks(masks, gt_mask, layers))

    main = of(-1, loss._get_loss)
    return {**main, **of(slice(-1), loss._get_loss_aux)} if loss.aux_loss else dict(main)


def layer_by_parts(
    loss: LossOfParts,
    pred_bboxes: Float[Tensor, "images queries 4"],
    pred_scores: Float[Tensor, "images queries classes"],
    gt_bboxes: Float[Tensor, "targets 4"],
    gt_cls: Int64[Tensor, " targets"],
    match_indices: Sequence[Matching],
    postfix: str,
) -> Losses:
    """The losses of one layer with these pairs, but for those of masks; the targets have been checked."""
    queries, chosen = loss._get_index(match_indices)
    matched, wanted = pred_bboxes[queries], gt_bboxes[chosen]
    classes = torch.full(pred_scores.shape[:2], loss.nc, dtype=torch.int64, device=pred_scores.device)
    classes[queries] = gt_cls[chosen]
    dtype = arithmetic_dtype(pred_bboxes)
    scores = torch.zeros(pred_scores.shape[:2], dtype=dtype, device=pred_scores.device)
    scores[queries] = bbox_iou(matched.detach().to(dtype), wanted.to(dtype)).squeeze(-1)
    losses: Losses = loss._get_loss_class(pred_scores, classes, scores, len(wanted), postfix)
    return losses | loss._get_loss_bbox(matched, wanted, postfix)


def auxiliary_by_parts(
    loss: LossOfParts,
    predictions: Sequence[Tensor],
    targets: tuple[Any, ...],
    match_indices: Sequence[Matching] | None,
    postfix: str,
    masks: Tensor | None,
    gt_mask: Tensor | None,
    terms: Sequence[str],
) -> Losses:
    """What `DETRLoss._get_loss_aux` computes: the sum of each of these terms over the layers.

    Terms that an overriding `_get_loss` adds are those of the main layer alone, as in Ultralytics' loss.
    """
    boxes, scores = predictions
    if match_indices is None and loss.use_uni_match and len(boxes):
        shared = loss._shared_layer(len(boxes))
        match_indices = loss.matcher(*_of_layer(predictions, shared), *targets, **_masks(masks, gt_mask, shared))
    zero = boxes[..., :0].sum(dtype=torch.promote_types(arithmetic_dtype(boxes), arithmetic_dtype(scores)))
    options = {"postfix": postfix, "match_indices": match_indices}
    of_layers = [
        loss._get_loss(*_of_layer(predictions, layer), *targets, **options, **_masks(masks, gt_mask, layer))
        for layer in range(len(boxes))
    ]
    sums = {term: sum((losses[f"loss_{term}{postfix}"] for losses in of_layers), start=zero.clone()) for term in terms}
    return {f"loss_{term}_aux{postfix}": total for term, total in sums.items()}


def class_loss_by_modules(
    loss: ClassLosses,
    pred_scores: Float[Tensor, "images queries classes"],
    targets: Int64[Tensor, "images queries"],
    gt_scores: Float[Tensor, "images queries"],
    pairs: float,
) -> Float[Tensor, ""]:
    """The classification loss without its gain, by the modules `fl` and `vfl`, on dense targets.

    They return the mean over the queries, summed over images and classes, as `FocalLoss` and `VarifocalLoss` do.
    """
    one_hot = F.one_hot(targets, loss.nc + 1)[..., :-1]
    if pairs and loss.vfl is not None:
        mean = loss.vfl(pred_scores, gt_scores[..., None] * one_hot, one_hot)
    else:
        mean = loss.fl(pred_scores, one_hot.to(arithmetic_dtype(pred_scores)))
    total: Tensor = mean * (pred_scores.shape[1] / max(pairs, 1.0))
    return total


def denoising_pairs(
    match: Callable[..., Any], dn_meta: Mapping[str, Any], gt_groups: Sequence[int]
) -> Sequence[Matching]:
    """The pairs of denoising queries by a `get_dn_match_indices` that may not be this package's own.

    It gets what its signature asks for. In the third place one release of Ultralytics has the number of targets of each
    image, another what one group reconstructs. Where that is not every target, numbers would not say it.
    """
    takes, counts, chosen = list(inspect.signature(match).parameters), list(gt_groups), dn_meta.get("dn_gt_idx")
    given = (dn_meta["dn_pos_idx"], dn_meta["dn_num_group"])
    of_some = chosen is not None and [len(each) for each in chosen] != counts
    pairs: Sequence[Matching]
    if len(takes) > len(given) + 1:
        pairs = match(*given, gt_groups, chosen)
    else:
        pairs = match(*given, chosen if of_some or takes[2:] == ["dn_gt_idx"] else gt_groups)
    return pairs


def _of_layer(predictions: Sequence[Tensor], layer: int | slice) -> tuple[Tensor, ...]:
    return tuple(each[layer] for each in predictions)


def _masks(masks: Tensor | None, gt_mask: Tensor | None, layer: int | slice | None = None) -> dict[str, Any]:
    """As keywords, where there are any: what overrides a part need not know of masks."""
    if masks is None and gt_mask is None:
        return {}
    return {"masks": masks if masks is None or layer is None else masks[layer], "gt_mask": gt_mask}
