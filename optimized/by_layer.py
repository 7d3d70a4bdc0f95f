"""The losses of RT-DETR's own criteria: each layer is matched and reported apart.

What the faces for other packages share. They differ from Ultralytics' loss: every loss is divided by the number of
targets, not of pairs; no gradient flows through the weight of the varifocal loss; nothing is added to the areas of
boxes; a batch without targets keeps its classification loss.

Reference: Zhao et al., RT-DETR, arXiv 2304.08069, section 4; MAL: Huang et al., DEIM, arXiv 2412.04234, section 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from detr_conformance.optimized.backends.choice import backend_for
from detr_conformance.optimized.backends.torch.totals import LossesOfLayer
from detr_conformance.optimized.layer_losses import Configuration, LayerInputs, losses_by_layer
from detr_conformance.optimized.options import ClassOptions, CostOptions, Weight
from detr_conformance.optimized.pairing import denoising_matching, pairs_of_assignment
from detr_conformance.optimized.precision import counting_dtype
from detr_conformance.optimized.targets import Pairs, Targets
from detr_conformance.optimized.validation import entry

LARGEST = torch.finfo(torch.float32).max
"""What a cost that is not finite counts as: such a query is matched after all others."""


class Queries(NamedTuple):
    """One set of queries in some layers, of which each has losses of its own."""

    pred_bboxes: Float[Tensor, "layers images queries 4"]
    pred_scores: Float[Tensor, "layers images queries classes"]


@dataclass(frozen=True)
class Recipe:
    """What such a criterion is configured with.

        varifocal    sum of BCE(x, q) (alpha p^gamma (1 - y) + q)
        focal        sum of BCE(x, y) (1 - p_t)^gamma a_t;  a_t is alpha or 1 - alpha, or 1 where alpha is below 0
        bce          sum of BCE(x, y)
        mal          sum of BCE(x, q^gamma y) (p^gamma (1 - y) + y)

    with y one-hot over the classes and q the IoU of a matched query; the weights of `varifocal` and `mal` are
    constants.

    Attributes:
        classification: "varifocal", "focal", "bce" or "mal".
        alpha: balance of `varifocal` and `focal`.
        gamma: exponent of all but `bce`.
        gains: of class, bbox and giou.
        backend: see `DETRLoss`.
    """

    classification: str
    alpha: float
    gamma: float
    gains: Mapping[str, float]
    backend: str | None = None

    def losses(self, queries: Queries, targets: Targets, pairs: Pairs, normaliser: Weight) -> list[LossesOfLayer]:
        """The losses of each layer, given who answers for which target.

        Args:
            queries: the predictions.
            targets: of all images.
            pairs: a row of them for each layer, or one for all layers.
            normaliser: what every loss is divided by.
        """
        layers, device = len(queries.pred_scores), queries.pred_scores.device
        per_target = {term: gain / normaliser for term, gain in self.gains.items()}
        configuration = Configuration(
            self._class_options(per_target["class"]),
            (per_target["bbox"], per_target["giou"]),
            backend_for(device, self.backend),
            eps=0.0,
            score_exponent={"mal": self.gamma, "bce": 0.0}.get(self.classification, 1.0),
        )
        return losses_by_layer(LayerInputs(*queries, targets, pairs.in_layers(layers)), configuration)

    def _class_options(self, weight: Weight) -> ClassOptions:
        """The classification loss with its weights."""
        if self.classification == "varifocal":
            return ClassOptions("varifocal", self.gamma, weight * self.alpha, weight, is_weight_live=False)
        if self.classification == "mal":
            return ClassOptions("bce", self.gamma, weight, weight, is_weight_live=False)
        if self.classification == "bce":
            return ClassOptions("bce", 0.0, weight, weight)
        background, foreground = (1 - self.alpha, self.alpha) if self.alpha >= 0 else (1.0, 1.0)
        return ClassOptions("focal", self.gamma, weight * background, weight * foreground)


def cost_options(gains: Mapping[str, float], use_fl: bool, alpha: float, gamma: float) -> CostOptions:
    """The matching cost with these options; nothing is added to areas.

    Raises:
        ValueError: all gains are 0, so that any matching would do.
    """
    if not any(gains.values()):
        raise ValueError(f"the gains of the matching cost are {dict(gains)}, expected one that is not 0")
    of_terms = gains["class"], gains["bbox"], gains["giou"]
    return CostOptions(*of_terms, use_fl, alpha, gamma, eps=0.0, non_finite=LARGEST)


@torch.no_grad()
def matched(queries: Queries, targets: Targets, options: CostOptions, backend: str | None = None) -> Pairs:
    """The pairs of every layer, each matched on its own."""
    boxes, scores = queries
    chosen = backend_for(scores.device, backend).assign(boxes, scores, targets, options)
    return pairs_of_assignment(chosen, targets, scores.shape[2])


def number_of_targets(targets: Targets, process_group: dist.ProcessGroup | None) -> Weight:
    """N, at least 1: the targets of this process, or their mean over those of a group, which stays on the device."""
    count = float(len(targets.classes))
    if process_group is None:
        return max(count, 1.0)
    device = targets.boxes.device
    total = torch.full((), count, dtype=counting_dtype(device), device=device)
    dist.all_reduce(total, group=process_group)
    return (total / dist.get_world_size(process_group)).clamp(min=1.0)


def denoising_pairs(queries: Queries, targets: Targets, meta: object, name: str) -> tuple[Pairs, int]:
    """The pairs of denoising queries, the same in every layer, and the number of groups.

    Args:
        queries: their predictions.
        targets: of all images.
        meta: holds `dn_positive_idx`, for each image its positive slots, group after group, and `dn_num_group`.
        name: what it is called.

    Raises:
        KeyError, TypeError, ValueError: something does not fit; it is named with its value.
    """
    positions, groups = (entry(meta, name, key) for key in ("dn_positive_idx", "dn_num_group"))
    images, slots = queries.pred_scores.shape[1:3]
    device = queries.pred_scores.device
    positive, chosen = denoising_matching(positions, groups, targets.counts, None, device, name="dn_positive_idx")
    inside = positive.within([0] * images, [slots] * images)
    return Pairs(torch.add(inside, positive.images, alpha=slots)[None], chosen[None]), int(groups)
