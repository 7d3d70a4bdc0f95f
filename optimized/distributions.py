"""FGL and DDF of all layers at once: D-FINE's losses of box sides as distributions over bins.

A query starts from a reference box. For each side (left, top, right, bottom) a decoder predicts a logit for each of
N + 1 bins; bin n stands for an offset W(n), by which the side lies further out than that of the reference box, as a
share of its width or height.

Reference: Peng et al., D-FINE, arXiv 2410.13842, section 4; Hinton et al., arXiv 1503.02531, section 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from detr_conformance.optimized.boxes import bbox_iou
from detr_conformance.optimized.known_gradient import differentiable_once
from detr_conformance.optimized.targets import Pairs, Targets

SIDES = 4
"""Left, top, right, bottom."""
TEMPERATURE = 5.0
"""Logits are divided by it before distributions are compared."""

Places = tuple[Int64[Tensor, " pairs"], Int64[Tensor, " pairs"], Int64[Tensor, " pairs"]]
"""Image, layer and query of each pair."""


class Distributions(NamedTuple):
    """What a decoder says of the sides of boxes, layers behind the images, as a model hands it over.

    Attributes:
        corners: logits, the bins of one side after those of the other.
        references: boxes that the offsets are relative to, in centre form.
        bins: W(n), ascending.
    """

    corners: Float[Tensor, "images layers queries logits"]
    references: Float[Tensor, "images layers queries 4"]
    bins: Float[Tensor, " bins"]


class QuerySet(NamedTuple):
    """Some of the queries in the first layers, and who of them answers for which target.

    Attributes:
        first: the place of the first of them among all queries.
        boxes: predicted boxes in centre form.
        confidence: the largest probability of any class that the last layer gives.
        pairs: a row of them for each layer.
    """

    first: int
    boxes: Float[Tensor, "layers images queries 4"]
    confidence: Float[Tensor, "images queries"]
    pairs: Pairs


class LocalLosses(NamedTuple):
    """Of each layer, without gain; `fgl` is a sum over pairs."""

    fgl: Float[Tensor, " layers"]
    ddf: Float[Tensor, " layers"]


def bin_offsets(bins: int, reach: float, curvature: float, dtype: torch.dtype) -> Float[Tensor, " {bins}"]:
    """The weighting function W: bins lie close together around 0, and far apart at both ends.

        W(0) = -2 a,   W(N) = 2 a,   W(N/2 + i) = -W(N/2 - i) = c ((a / c + 1)^(2 i / (N - 2)) - 1)   for i < N/2

    Args:
        bins: N + 1, odd and at least 5.
        reach: a, above 0.
        curvature: c, above 0.
        dtype: of the result.
    """
    half = bins // 2
    inner = [curvature * ((reach / curvature + 1) ** (place / (half - 1)) - 1) for place in range(1, half)]
    outward = [*inner, 2 * reach]
    return torch.tensor([*(-each for each in reversed(outward)), 0.0, *outward], dtype=dtype, device="cpu")


def local_losses(given: Distributions, sets: Sequence[QuerySet], targets: Targets) -> list[LocalLosses]:
    """FGL and DDF of each set of queries.

        FGL = sum over pairs of IoU sum over sides of (1 - s) (-log p_n) + s (-log p_{n+1})
        DDF = (sqrt(K_m) mean over matched + sqrt(K_u) mean over unmatched) / (sqrt(K_m) + sqrt(K_u))
              of w T^2 KL(q || p') over queries and sides

    with p = softmax(logits), the target's side a share s of the way from bin n to n + 1; p' and q the softened
    distributions of the layer and of the last one; K_m and K_u the numbers of matched and of other queries, and w the
    IoU of a matched query, for others the confidence. IoU, q and w are constants. A mean over nothing is 0, and so is
    the last layer's DDF.

    Args:
        given: of all layers.
        sets: queries of which no two sets have one in common.
        targets: of all images.
    """
    if not sets:
        return []
    places, ious = _places(sets), [_iou_of_pairs(each, targets) for each in sets]
    taught = min(max(len(each.boxes) for each in sets), given.corners.shape[1] - 1)
    terms = _LocalTerms.apply(given.corners, _shares(given, places, sets, targets), places, taught)  # type: ignore[no-untyped-call]
    of_pairs, of_queries = terms
    parts = of_pairs.split([each.numel() for each in ious])
    return [
        LocalLosses((own.view(iou.shape) * iou).sum(1), _distillation(each, iou, of_queries))
        for each, iou, own in zip(sets, ious, parts, strict=True)
    ]


@torch.no_grad()
def _shares(
    given: Distributions, places: Places, sets: Sequence[QuerySet], targets: Targets
) -> Float[Tensor, "pairs 4 bins"]:
    """The shares of the bins in the sides of each pair's target."""
    wanted = targets.boxes[torch.cat([each.pairs.targets.flatten() for each in sets])]
    dtype = given.bins.dtype
    return bin_shares(side_offsets(given.references[places].to(dtype), wanted.to(dtype)), given.bins)


def side_offsets(references: Float[Tensor, "pairs 4"], targets: Float[Tensor, "pairs 4"]) -> Float[Tensor, "pairs 4"]:
    """By how much each side of a target lies further out than that of the reference box."""
    (centre, size), (wanted, extent) = references.chunk(2, dim=-1), targets.chunk(2, dim=-1)
    # A side of length 0, which a sigmoid in half precision can be: the outermost bin, not NaN.
    size = size.masked_fill(size == 0, torch.finfo(size.dtype).tiny)
    low, high = wanted - extent / 2, wanted + extent / 2
    return torch.cat([(centre - low) / size, (high - centre) / size], dim=-1) - 0.5


def bin_shares(offsets: Float[Tensor, "pairs 4"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "pairs 4 bins"]:
    """The share of each bin in an offset: linear between two neighbours, all of an outermost one beyond it."""
    below = (torch.searchsorted(bins, offsets, right=True) - 1).clamp(0, len(bins) - 2)
    of_next = ((offsets - bins[below]) / (bins[below + 1] - bins[below])).clamp(0, 1)
    shares = offsets.new_zeros(*offsets.shape, len(bins))
    shares.scatter_(-1, below[..., None], 1 - of_next[..., None])
    return shares.scatter_(-1, below[..., None] + 1, of_next[..., None])


def _places(sets: Sequence[QuerySet]) -> Places:
    """Where each pair of all sets is among the predictions of all queries."""
    image, layer, query = zip(*(_places_in(each) for each in sets), strict=True)
    return torch.cat(image), torch.cat(layer), torch.cat(query)


def _places_in(own: QuerySet) -> Places:
    """Where each pair is."""
    queries, rows = own.boxes.shape[2], own.pairs.rows
    layer = torch.arange(len(rows), device=rows.device)[:, None].expand_as(rows)
    image = torch.div(rows, queries, rounding_mode="floor")
    return image.flatten(), layer.flatten(), (rows - image * queries + own.first).flatten()


@torch.no_grad()
def _iou_of_pairs(own: QuerySet, targets: Targets) -> Float[Tensor, "layers pairs"]:
    """IoU of the predicted box of each pair with its target."""
    rows = own.pairs.rows[..., None].expand(-1, -1, 4)
    boxes = own.boxes.flatten(1, 2).gather(1, rows).to(targets.boxes.dtype)
    return bbox_iou(boxes, targets.boxes[own.pairs.targets], eps=0.0).squeeze(-1)


def _distillation(
    own: QuerySet, ious: Float[Tensor, "layers pairs"], divergence: Float[Tensor, "images taught all_queries"]
) -> Float[Tensor, " layers"]:
    """DDF of each layer."""
    layers, images, queries, _ = own.boxes.shape
    counts = own.pairs.count, images * queries - own.pairs.count
    roots = [math.sqrt(count) for count in counts]
    of_matched, of_others = (
        root / (sum(roots) * SIDES * max(count, 1)) for root, count in zip(roots, counts, strict=True)
    )
    others = (own.confidence.to(ious.dtype) * of_others).flatten().expand(layers, -1)
    weights = others.scatter(1, own.pairs.rows, ious * of_matched).view(layers, images, queries)
    of_layers = divergence[:, :layers, own.first : own.first + queries].transpose(0, 1)
    losses = (of_layers * weights[: len(of_layers)]).sum((1, 2))
    return F.pad(losses, (0, layers - len(losses)))


class _LocalTerms(torch.autograd.Function):
    """Cross-entropy of each pair, and divergence of each query in the first layers from the last; sums over sides.

    The derivatives are known in closed form: for shares s, p - s; for a teacher q at temperature T, T (p' - q).
    """

    @staticmethod
    def forward(
        ctx: Any, corners: Tensor, shares: Tensor, places: Places, taught: int
    ) -> tuple[Float[Tensor, " pairs"], Float[Tensor, "images taught queries"]]:
        dtype, bins = shares.dtype, shares.shape[-1]
        of_sides = corners.unflatten(-1, (SIDES, bins))  # type: ignore[no-untyped-call]
        log_p = of_sides[places].to(dtype).log_softmax(-1)
        entropy = -(shares * log_p).sum((-2, -1))
        parts = of_sides[:, :taught], of_sides[:, -1:]
        softened, teacher = ((each.to(dtype) / TEMPERATURE).log_softmax(-1) for each in parts)
        q = teacher.exp()
        divergence = (teacher - softened).mul_(q).sum((-2, -1)).mul_(TEMPERATURE**2)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(
                corners, log_p.exp_().sub_(shares), softened.exp_().sub_(q).mul_(TEMPERATURE), *places
            )
        ctx.set_materialize_grads(False)
        return entropy, divergence

    @staticmethod
    @differentiable_once(predictions=1)
    def backward(
        ctx: Any, by_entropy: Tensor | None, by_divergence: Tensor | None
    ) -> tuple[Tensor | None, None, None, None]:
        corners, of_pairs, of_queries, *places = ctx.saved_tensors
        grads = of_queries.new_zeros(*corners.shape[:-1], *of_queries.shape[-2:])
        if by_divergence is not None:
            torch.mul(of_queries, by_divergence[..., None, None], out=grads[:, : of_queries.shape[1]])
        if by_entropy is not None:
            grads.index_put_(tuple(places), of_pairs * by_entropy[..., None, None], accumulate=True)
        return grads.flatten(-2).to(corners.dtype), None, None, None
