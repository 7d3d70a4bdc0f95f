"""What a backend has: a function for each step that is worth one of its own."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64, Integer
from torch import Tensor

from detr_conformance.optimized.backends.torch.box_gradients import OfBoxLosses
from detr_conformance.optimized.backends.torch.classification import ClassSums
from detr_conformance.optimized.backends.torch.pairs import MatchedTerms
from detr_conformance.optimized.backends.torch.totals import LayerLosses
from detr_conformance.optimized.options import IOU_EPS, ClassOptions, CostOptions, Factors, Weight
from detr_conformance.optimized.targets import Pairs, Targets


@runtime_checkable  # for who checks types at each call
class Backend(Protocol):
    """One way to compute each step; the function of that name in `backends.torch` says in full what its step is."""

    def costs(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        pred_scores: Float[Tensor, "layers images queries classes"],
        targets: Targets,
        options: CostOptions,
    ) -> Float[Tensor, "layers targets queries"]:
        """See `torch.costs`."""

    def assign(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        pred_scores: Float[Tensor, "layers images queries classes"],
        targets: Targets,
        options: CostOptions,
    ) -> Int64[Tensor, "layers targets"]:
        """The query of each target by these costs, -1 where it goes without; see `by_costs`."""

    def solve_stack(
        self,
        costs: Float[Tensor, "total_rows width"],
        starts: Int64[Tensor, " problems"],
        rows: Int64[Tensor, " problems"],
        columns: Int64[Tensor, " problems"],
        *,
        most_rows: int,
        non_finite: float = 0.0,
    ) -> Int64[Tensor, " total_rows"]:
        """See `torch.assignment.solve_stack`."""

    def matched_terms(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        targets: Targets,
        pairs: Pairs,
        classes: int,
        eps: float = IOU_EPS,
    ) -> MatchedTerms:
        """See `torch.pairs`."""

    def class_terms(
        self,
        logits: Float[Tensor, "layers images queries classes"],
        labels: Integer[Tensor, "layers images queries"],
        scores: Float[Tensor, "layers images queries"],
        options: ClassOptions,
        factors: Factors | None,
    ) -> ClassSums:
        """See `torch.classification`."""

    def scale_layers(self, grads: Float[Tensor, "layers *rest"], factors: Factors) -> None:
        """See `torch.classification`."""

    def totals(
        self,
        class_sums: Float[Tensor, "layers class_parts"],
        distance: Float[Tensor, "layers pair_parts"],
        apart: Float[Tensor, "layers pair_parts"],
        weights: tuple[Weight, Weight],
    ) -> LayerLosses:
        """See `torch.totals`."""

    def grad_boxes(
        self,
        grad_distance: Float[Tensor, "layers pairs 4"],
        grad_apart: Float[Tensor, "layers pairs 4"],
        weights: tuple[Weight, Weight],
        arriving: OfBoxLosses,
        pairs: Pairs,
        shape: torch.Size,
        dtype: torch.dtype,
    ) -> Float[Tensor, "layers images queries 4"]:
        """See `torch.box_gradients`."""
