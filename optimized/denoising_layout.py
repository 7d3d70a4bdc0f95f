"""Where denoising queries sit: which targets of which image in which slots, and who may look at whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from detr_conformance.optimized.upload import upload


@dataclass(frozen=True, eq=False)
class Layout:
    """How the denoising queries of a batch are arranged.

    Attributes:
        counts: number of targets that each image contributes, known to the host: no shape is read from the device.
        width: M, the largest of them.
        groups: K, the number of groups of M positive slots, then M negative ones.
        sizes: `counts` on the device.
        starts: on the device, how many contributed targets come before each image's first.
    """

    counts: tuple[int, ...]
    width: int
    groups: int
    sizes: Int64[Tensor, " images"]
    starts: Int64[Tensor, " images"]

    @classmethod
    def of(cls, counts: tuple[int, ...], num_dn: int, device: torch.device) -> Layout:
        """As many groups as fit, at least one.

        Args:
            counts: number of targets that each image contributes, not 0 for all.
            num_dn: number of positive slots that the groups shall not exceed together.
            device: where the slots are needed.
        """
        width = max(counts)
        return cls(counts, width, max(1, num_dn // width), upload(counts, device), upload(_starts(counts), device))

    @property
    def halves(self) -> int:
        """2 K: every group has a positive half, then a negative one."""
        return 2 * self.groups

    @property
    def queries(self) -> int:
        """D = 2 M K, the number of denoising queries of each image."""
        return self.halves * self.width

    def slots(self) -> Int64[Tensor, "{self.halves} contributed"]:
        """Where each target sits in each half, counted through the denoising queries of all images."""
        places = torch.arange(sum(self.counts), device=self.sizes.device)
        first = torch.arange(0, self.queries * len(self.counts), self.queries, device=self.sizes.device)
        # A target's slot is its place less those of the images before. The size of the output is given: otherwise it
        # would be read from the device.
        places += (first - self.starts).repeat_interleave(self.sizes, output_size=len(places))
        halves = torch.arange(0, self.queries, self.width, device=self.sizes.device)
        return halves[:, None] + places

    def positive_slots(self) -> list[Int64[Tensor, " slots"]]:
        """For each image its positive slots j + 2 M g, group after group.

        Those of one image and group are a run of n_b successive numbers, so each is its own place in the row of all
        runs, shifted by what its run needs: 2 M g, less the place where the run starts, K start_b + n_b g.
        """
        group = torch.arange(self.groups, device=self.sizes.device)
        shifts = (2 * self.width - self.sizes)[:, None] * group - (self.groups * self.starts)[:, None]
        places = torch.arange(self.groups * sum(self.counts), device=self.sizes.device)
        runs = self.sizes[:, None].expand_as(shifts).flatten()
        slots = places.add_(shifts.flatten().repeat_interleave(runs, output_size=len(places)))
        return list(slots.split_with_sizes([self.groups * count for count in self.counts]))


def choose_targets(
    gt_groups: tuple[int, ...], layout: Layout, generator: torch.Generator | None
) -> Int64[Tensor, " contributed"]:
    """The targets that the images contribute, ascending: all, or of crowded images a uniformly drawn subset.

    Args:
        gt_groups: number of targets of each image.
        layout: how many of them to take.
        generator: source of the draw, which is made only where an image does not contribute everything.

    Returns:
        Numbers of targets counted through the batch, image 0's first.
    """
    total, device = sum(gt_groups), layout.sizes.device
    places = torch.arange(sum(layout.counts), device=device)
    if total == len(places):
        return places
    # Shuffle all, then sort by image and keep the order within each. One key of both would need float64: in float32 a
    # later image has so few fractions that ties, which are not broken at random, are to be expected.
    images = torch.arange(len(gt_groups), device=device)
    images = images.repeat_interleave(upload(gt_groups, device), output_size=total)
    shuffled = torch.rand(total, dtype=torch.float32, device=device, generator=generator).argsort()
    order = shuffled[images[shuffled].argsort(stable=True)]
    # The first few of each image: skip what the images before it leave out.
    skipped = upload(_starts(gt_groups), device) - layout.starts
    places += skipped.repeat_interleave(layout.sizes, output_size=len(places))
    # An image's targets are successive numbers: sorting all of them sorts within each image.
    return order[places].sort().values


def attention_mask(layout: Layout, num_queries: int) -> Bool[Tensor, "all all"]:
    """Who must not see whom: [i, j] is True where query i may not attend to query j.

    Nobody sees denoising queries, which know the answers, but those of the same group. All see the ordinary queries.

    Reference: Li et al., DN-DETR, arXiv 2203.01305, section 4 (attention mask).
    """
    size = layout.queries + num_queries
    blocked = torch.zeros((size, size), dtype=torch.bool, device=layout.sizes.device)
    blocked[:, : layout.queries] = True
    squares = torch.unflatten(blocked[: layout.queries, : layout.queries], 0, (layout.groups, -1))
    torch.unflatten(squares, 2, (layout.groups, -1)).diagonal(dim1=0, dim2=2).fill_(value=False)
    return blocked


def _starts(counts: Sequence[int]) -> list[int]:
    """How many come before each image's first."""
    return list(accumulate(counts, initial=0))[:-1]
