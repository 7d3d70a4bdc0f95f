"""The matcher: which query answers for which target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Integer, Shaped
from torch import Tensor, nn

from detr_conformance.optimized.backends.by_costs import solved
from detr_conformance.optimized.backends.choice import backend_for, check_backend
from detr_conformance.optimized.mask_checks import check_mask_gains
from detr_conformance.optimized.mask_costs import add_mask_costs, draw_points
from detr_conformance.optimized.masks import Masks, checked_masks
from detr_conformance.optimized.options import CostOptions
from detr_conformance.optimized.pairing import Matching, matching_of_pairs, pairs_of_assignment
from detr_conformance.optimized.targets import Pairs, Targets, checked_targets
from detr_conformance.optimized.validation import (
    check_count,
    check_gains,
    check_generator,
    check_generator_device,
    check_number,
    check_predictions,
)

DEFAULT_COST_GAIN = {"class": 1.0, "bbox": 5.0, "giou": 2.0}
DEFAULT_MASK_COST_GAIN = {"mask": 1.0, "dice": 1.0}


class HungarianMatcher(nn.Module):
    """One-to-one assignment of queries to targets at the least total cost, image by image.

        cost = gain_class class + gain_bbox sum|b - b'| + gain_giou (1 - GIoU(b, b'))

    with, for p = sigmoid(logit of the target's class),

        class = alpha (1 - p)^gamma (-log(p + 1e-8)) - (1 - alpha) p^gamma (-log(1 - p + 1e-8))

    if `use_fl`, else `-softmax(logits)[target's class]`. `with_mask` adds the two costs of masks on sampled points, see
    `mask_costs.mask_costs`. Every entry that is not finite counts as 0 (quirk: most costs are positive, so a NaN
    prediction is often the cheapest match). Nothing of it carries a gradient. The arithmetic is in float32, in float64
    for float64 predictions. Which of several cheapest matchings is returned depends on the backend.

    Args:
        cost_gain: weights of the terms, by default class 1, bbox 5, giou 2, and with masks mask 1 and dice 1.
        use_fl: focal class cost on sigmoids; otherwise the softmax probability.
        with_mask: add the two costs of masks, which every call then needs.
        num_sample_points: number of points in each image, on which masks are compared; read with `with_mask` only.
        alpha: balance of the focal class cost.
        gamma: exponent of the focal class cost, >= 0.
        validate: also check on CUDA what can only be checked by waiting for the device.
        backend: "torch", "native" or "triton"; None: by the device of the predictions, and what is installed.
        generator: where the points come from, on the device of the predictions; None: torch's own.

    Reference: Carion et al., DETR, arXiv 2005.12872, equation 1 and appendix A.2; focal loss for the classes: Zhu et
    al., Deformable DETR, arXiv 2010.04159.
    """

    def __init__(
        self,
        cost_gain: Mapping[str, float] | None = None,
        use_fl: bool = True,
        with_mask: bool = False,
        num_sample_points: int = 12544,
        alpha: float = 0.25,
        gamma: float = 2.0,
        *,
        validate: bool = False,
        backend: str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Keep the options; KeyError, TypeError or ValueError where one of them does not fit."""
        super().__init__()
        check_backend(backend)
        check_generator(generator)
        default = DEFAULT_COST_GAIN | (DEFAULT_MASK_COST_GAIN if with_mask else {})
        self.cost_gain = check_gains("cost_gain", default if cost_gain is None else cost_gain)
        if with_mask:
            check_mask_gains("cost_gain", self.cost_gain, "with_mask")
            check_count("num_sample_points", num_sample_points, least=1)
        self.use_fl = use_fl
        self.with_mask = with_mask
        self.num_sample_points = num_sample_points
        self.generator = generator
        self.alpha = check_number("alpha", alpha)
        self.gamma = check_number("gamma", gamma, least=0.0)
        self.validate = validate
        self.backend = backend

    def forward(
        self,
        pred_bboxes: Float[Tensor, "images queries 4"],
        pred_scores: Float[Tensor, "images queries classes"],
        gt_bboxes: Float[Tensor, "targets 4"],
        gt_cls: Integer[Tensor, " targets"],
        gt_groups: Sequence[int],
        masks: Float[Tensor, "images queries height width"] | None = None,
        gt_mask: Shaped[Tensor, "targets gt_height gt_width"] | None = None,
    ) -> list[Matching]:
        """Match one layer's predictions.

        Args:
            pred_bboxes: predicted boxes in centre form.
            pred_scores: logits.
            gt_bboxes: target boxes of all images in centre form, image 0's first.
            gt_cls: class of each target, 0 to classes - 1.
            gt_groups: number of targets of each image.
            masks: logits of the predicted masks. They and `gt_mask` are read with `with_mask` only.
            gt_mask: for each target 1 on the object and 0 beside it, in a size of its own.

        Returns:
            For each image min(queries, its targets) pairs: queries, ascending, and targets, which count through the
            whole batch.

        Raises:
            TypeError, ValueError: an argument does not fit; it is named with its value.
            RuntimeError: the backend cannot run here.
        """
        check_predictions(pred_bboxes, pred_scores, ("images", "queries"))
        targets = checked_targets(gt_bboxes, gt_cls, gt_groups, pred_bboxes, pred_scores, self.validate)
        of_layer = None
        if self.with_mask:
            masks = masks[None] if isinstance(masks, Tensor) else masks
            of_layer = checked_masks(masks, gt_mask, pred_scores[None], targets, self.validate)
        pairs = self.match_layers(pred_bboxes[None], pred_scores[None], targets, of_layer)
        return matching_of_pairs(pairs, targets, pred_bboxes.shape[1])

    @torch.no_grad()
    def match_layers(
        self,
        pred_bboxes: Float[Tensor, "layers images queries 4"],
        pred_scores: Float[Tensor, "layers images queries classes"],
        targets: Targets,
        masks: Masks | None = None,
    ) -> Pairs:
        """Match every layer on its own: all costs in one pass, all problems in one call of the solver.

        Masks are read with `with_mask` only, and compared on the same points in every layer.
        """
        if self.with_mask and masks is None:
            raise ValueError(f"masks is None, expected logits for each query, as with_mask is {self.with_mask}")
        if self.with_mask:
            check_generator_device(self.generator, "pred_scores", pred_scores.device)
        backend = backend_for(pred_scores.device, self.backend)
        given = pred_bboxes, pred_scores, targets, self._options()
        if self.with_mask and masks is not None:
            cost = backend.costs(*given)
            self._add_mask_costs(cost, masks, targets)
            query_of_target = solved(cost, targets, backend.solve_stack)
        else:
            query_of_target = backend.assign(*given)
        return pairs_of_assignment(query_of_target, targets, pred_scores.shape[2])

    def _add_mask_costs(self, cost: Float[Tensor, "layers targets queries"], masks: Masks, targets: Targets) -> None:
        """Add the costs of masks, on points that are drawn now."""
        images, device = len(targets.counts), masks.logits.device
        points = draw_points(images, self.num_sample_points, self.generator, device)
        gains = check_mask_gains("cost_gain", self.cost_gain, "with_mask")
        add_mask_costs(cost, masks, targets.counts, points, gains)

    def _options(self) -> CostOptions:
        gains = self.cost_gain
        return CostOptions(gains["class"], gains["bbox"], gains["giou"], self.use_fl, self.alpha, self.gamma)
