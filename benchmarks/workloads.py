"""What is timed: one training step's predictions and targets, the same for every contender and on every machine."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from itertools import accumulate
from statistics import NormalDist

import torch


@dataclass(frozen=True)
class Workload:
    """Shapes of one step: the encoder's layer and `layers - 1` of the decoder, which also have denoising queries."""

    name: str
    layers: int
    queries: int
    classes: int
    counts: tuple[int, ...]  # targets of each image
    num_dn: int = 100  # denoising targets of an image, over all groups

    @property
    def images(self) -> int:
        return len(self.counts)

    @property
    def groups(self) -> int:
        return max(self.num_dn // max(self.counts), 1)

    @property
    def denoising(self) -> int:
        """Denoising queries: a positive and a negative slot for each target of the fullest image, in each group."""
        return 2 * max(self.counts) * self.groups

    @property
    def logits(self) -> int:
        """Numbers that a classification loss has to read, and gradients that it has to write."""
        in_decoder = (self.layers - 1) * self.images * self.denoising * self.classes
        return self.layers * self.images * self.queries * self.classes + in_decoder


def counts_like_coco(images: int) -> tuple[int, ...]:
    """Targets per image with COCO's shape: median 4, mean about 7.3, a few images empty, a tail that ends at 100.

    Quantiles of a log-normal distribution instead of draws, so that a batch of 16 has the tail too.
    """
    levels = [NormalDist().inv_cdf((image + 0.5) / images) for image in range(images)]
    ordered = [min(int(4 * math.exp(1.25 * level)), 100) for level in levels]
    return tuple(random.Random(0).sample(ordered, images))  # noqa: S311  # images do not come sorted


WORKLOADS = {
    each.name: each
    for each in (
        Workload("tiny", layers=7, queries=300, classes=80, counts=(3, 1)),
        Workload("coco", layers=7, queries=300, classes=80, counts=counts_like_coco(16)),
        Workload("dense", layers=7, queries=300, classes=80, counts=tuple(range(104, 301, 28))),
        Workload("vocabulary", layers=7, queries=900, classes=365, counts=(2, 30, 7, 11)),
        Workload("large", layers=7, queries=900, classes=365, counts=counts_like_coco(32)),
    )
}
ON_CPU = ("tiny", "coco", "dense", "vocabulary")  # `large` is there to reach a GPU's memory bandwidth


@dataclass(frozen=True, eq=False)
class Inputs:
    """A workload's tensors. Predictions are what a model hands over: no leaves, and they require a gradient."""

    workload: Workload
    encoder: dict[str, torch.Tensor]  # boxes and logits, (images, queries, ...)
    decoder: dict[str, torch.Tensor]  # boxes and logits, (layers - 1, images, denoising + queries, ...)
    batch: dict[str, object]  # targets as Ultralytics' trainer hands them over
    targets: list[dict[str, torch.Tensor]]  # the same, image by image
    dn_meta: dict[str, object]

    def ordinary(self, which: str) -> torch.Tensor:
        """The encoder's layer and the decoder's, joined as RT-DETR joins them: (layers, images, queries, ...)."""
        decoder = self.decoder[which][:, :, self.workload.denoising :]
        return torch.cat([self.encoder[which][None], decoder])

    def noised(self, which: str) -> torch.Tensor:
        """The denoising queries' predictions: a view, not contiguous, as RT-DETR splits it off."""
        return self.decoder[which][:, :, : self.workload.denoising]


def build(workload: Workload, device: torch.device | str, seed: int = 0) -> Inputs:
    """Draw on the CPU, so that each device gets the same numbers. Another seed deals the counts to other images."""
    draw = torch.Generator().manual_seed(seed)
    if seed:
        counts = tuple(random.Random(seed).sample(workload.counts, workload.images))  # noqa: S311  # no secret
        workload = replace(workload, counts=counts)
    targets = [_targets(draw, count, workload.classes) for count in workload.counts]
    encoder = _predictions(draw, targets, workload.classes, [_near(draw, workload)])
    slots = torch.arange(workload.denoising) % max(workload.counts)
    near = [
        torch.cat([slots.expand(workload.images, -1), _near(draw, workload)], dim=1) for _ in range(workload.layers - 1)
    ]
    decoder = _predictions(draw, targets, workload.classes, near)
    here = [{key: tensor.to(device) for key, tensor in each.items()} for each in targets]
    return Inputs(
        workload,
        {key: as_of_a_model(tensor[0].to(device)) for key, tensor in encoder.items()},
        {key: as_of_a_model(tensor.to(device)) for key, tensor in decoder.items()},
        _batch(here, workload.counts),
        here,
        _dn_meta(workload, device),
    )


def as_of_a_model(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor as the result of an operation that autograd follows."""
    return tensor.detach().requires_grad_() * 1


def _targets(draw: torch.Generator, count: int, classes: int) -> dict[str, torch.Tensor]:
    centres = torch.rand(count, 2, generator=draw) * 0.8 + 0.1
    sizes = torch.rand(count, 2, generator=draw) ** 2 * 0.5 + 0.02  # most objects are small
    return {
        "labels": torch.randint(classes, (count,), generator=draw),
        "boxes": torch.cat([centres, sizes], dim=1),
    }


def _near(draw: torch.Generator, workload: Workload) -> torch.Tensor:
    """For each query the target of its image that it is near to: three queries each, and for most queries none."""
    return torch.stack([torch.randperm(workload.queries, generator=draw) // 3 for _ in workload.counts])


def _predictions(
    draw: torch.Generator, targets: list[dict[str, torch.Tensor]], classes: int, near: list[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Of one or more layers: logits around -4 and boxes anywhere, but for queries near a target both lean to it."""
    shape = (len(near), *near[0].shape)
    logits = torch.randn(*shape, classes, generator=draw) * 1.2 - 4
    boxes = torch.rand(*shape, 4, generator=draw) * 0.8 + 0.1
    noise = torch.randn(*shape, 4, generator=draw) * 0.03
    for layer, of_layer in enumerate(near):
        for image, (target, wanted) in enumerate(zip(targets, of_layer, strict=True)):
            (queries,) = torch.nonzero(wanted < len(target["labels"]), as_tuple=True)
            own = wanted[queries]
            logits[layer, image, queries, target["labels"][own]] += 4
            boxes[layer, image, queries] = (target["boxes"][own] + noise[layer, image, queries]).clamp(0.01, 0.99)
    return {"boxes": boxes, "logits": logits}


def _batch(targets: list[dict[str, torch.Tensor]], counts: tuple[int, ...]) -> dict[str, object]:
    device = targets[0]["labels"].device
    images = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return {
        "cls": torch.cat([each["labels"] for each in targets]),
        "bboxes": torch.cat([each["boxes"] for each in targets]),
        "batch_idx": images.to(device),
        "gt_groups": list(counts),
    }


def _dn_meta(workload: Workload, device: torch.device | str) -> dict[str, object]:
    """What a denoising generator says of its queries, with both forms of target indices; no image is capped."""
    most = max(workload.counts)
    starts = [0, *accumulate(workload.counts)]
    groups = torch.arange(workload.groups)[:, None] * 2 * most
    return {
        "dn_pos_idx": [(groups + torch.arange(count)).flatten().to(device) for count in workload.counts],
        "dn_gt_idx": [
            torch.arange(start, start + count, device=device)
            for start, count in zip(starts, workload.counts, strict=False)
        ],
        "dn_num_group": workload.groups,
        "dn_num_split": [workload.denoising, workload.queries],
    }
