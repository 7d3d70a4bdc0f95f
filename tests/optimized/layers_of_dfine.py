"""A training step of D-FINE in the form of `transformers`, and the two losses of distributions by autograd."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from . import layers_of_rtdetr
from .layers_of_rtdetr import CLASSES, COUNTS, GROUPS, QUERIES, overlaps

LAST = 6
BINS = LAST + 1
REACH, FLATNESS = 0.5, 4.0
LEAVES = ("outputs_class", "outputs_coord", "enc_topk_logits", "enc_topk_bboxes", "predicted_corners")


def config(**options):
    """A configuration with the attributes that `transformers` reads, of few bins."""
    given = {"weight_loss_fgl": 0.15, "weight_loss_ddf": 1.5, "max_num_bins": LAST, "up": REACH, "reg_scale": FLATNESS}
    return layers_of_rtdetr.config(**given | options)


@dataclass
class Step:
    """The arguments by name: predictions are leaves, of which a model would hand over the last layer twice."""

    arguments: dict

    @property
    def leaves(self) -> list[Tensor]:
        return [self.arguments[name] for name in LEAVES]

    def __call__(self, loss_function, options=None, **changes):
        """What the function returns of these arguments, some of them changed."""
        given = self.arguments | changes
        last = {"logits": given["outputs_class"][:, -1], "pred_boxes": given["outputs_coord"][:, -1]}
        return loss_function(config=options or config(), device=torch.device("cpu"), **last | given)


def step(
    seed=0,
    *,
    layers=4,
    with_corners=3,
    denoising=True,
    counts=COUNTS,
    bins=BINS,
    reach=(0.05, 0.95),
    dtype=torch.float64,
) -> Step:
    """Random predictions.

    Args:
        seed: of all numbers.
        layers: with logits and boxes; a model's head before the first layer is one of them.
        with_corners: layers of distributions.
        denoising: whether there are denoising queries.
        counts: targets of each image.
        bins: of a side.
        reach: of the centres of predicted boxes.
        dtype: of predictions and targets.
    """
    generator = torch.Generator().manual_seed(seed)
    images, slots = len(counts), 2 * GROUPS * max(counts) if denoising else 0
    every = slots + QUERIES

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    def boxes(*shape):
        centres, sizes = (torch.rand(*shape, 2, generator=generator, dtype=dtype) for _ in range(2))
        return torch.cat([reach[0] + (reach[1] - reach[0]) * centres, 0.05 + 0.3 * sizes], dim=-1)

    predictions = {
        "outputs_class": normal(images, layers, every, CLASSES),
        "outputs_coord": boxes(images, layers, every),
        "enc_topk_logits": normal(images, QUERIES, CLASSES),
        "enc_topk_bboxes": boxes(images, QUERIES),
        "predicted_corners": 2 * normal(images, with_corners, every, 4 * bins),
    }
    labels = [
        {"class_labels": torch.randint(CLASSES, (count,), generator=generator), "boxes": boxes(count)}
        for count in counts
    ]
    slots_of = [torch.cat([torch.arange(n) + 2 * max(counts) * group for group in range(GROUPS)]) for n in counts]
    meta = {"dn_positive_idx": slots_of, "dn_num_group": GROUPS, "dn_num_split": [slots, QUERIES]}
    return Step(
        {name: each.requires_grad_() for name, each in predictions.items()}
        | {"labels": labels, "initial_reference_points": boxes(images, with_corners, every)}
        | {"denoising_meta_values": meta if denoising else None}
    )


def weighting_function() -> Tensor:
    """W of the bins above, number by number."""
    half, c = LAST // 2, 1 / FLATNESS
    outward = [c * ((REACH / c + 1) ** (2 * i / (LAST - 2)) - 1) for i in range(half)]
    every = [*(-each for each in outward[:0:-1]), *outward]
    return torch.tensor([-2 * REACH, *every, 2 * REACH], dtype=torch.float64)


def local_losses(layer, references, teacher, confidence, targets, indices):
    """FGL and DDF of one layer without weights, pair by pair and side by side.

    Args:
        layer: its `boxes` (images, queries, 4) and `corners` (images, queries, 4, bins).
        references: the box that each query starts from.
        teacher: the last layer's `corners`.
        confidence: of the last layer in each query.
        targets: for each image classes and boxes.
        indices: for each image queries and their targets.
    """
    offsets, fgl = weighting_function(), torch.zeros((), dtype=torch.float64)
    log_p, log_q = ((each / 5).log_softmax(-1) for each in (layer["corners"], teacher.detach()))
    divergence = 25 * F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    weights, is_matched = confidence.detach().clone(), torch.zeros_like(confidence, dtype=torch.bool)
    for image, (queries, chosen) in enumerate(indices):
        for query, target in zip(queries.tolist(), chosen.tolist(), strict=True):
            own, wanted = layer["boxes"][image, query].detach(), targets[image]["boxes"][target]
            iou = overlaps(own[None], wanted[None], 0.0)[0][0]
            weights[image, query], is_matched[image, query] = iou, True
            (x, y, w, h), (tx, ty, tw, th) = references[image, query].tolist(), wanted.tolist()
            sides = (x - tx + tw / 2) / w, (y - ty + th / 2) / h, (tx + tw / 2 - x) / w, (ty + th / 2 - y) / h
            for side, distance in enumerate(sides):
                phi = min(max(distance - 0.5, offsets[0].item()), offsets[-1].item())
                right = next(n for n in range(1, LAST + 1) if phi <= offsets[n])
                share = (phi - offsets[right - 1]) / (offsets[right] - offsets[right - 1])
                log = layer["corners"][image, query, side].log_softmax(-1)
                fgl = fgl - iou * ((1 - share) * log[right - 1] + share * log[right])
    terms = weights[..., None] * divergence
    of_sets = [terms[chosen] for chosen in (is_matched, ~is_matched) if chosen.any()]
    roots = [len(each) ** 0.5 for each in of_sets]
    return fgl, sum(root * each.mean() for root, each in zip(roots, of_sets, strict=True)) / sum(roots)
