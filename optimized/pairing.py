"""Pairs of queries and targets: out of an assignment, or out of the lists that a caller gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from detr_conformance.optimized.targets import Pairs, Targets
from detr_conformance.optimized.upload import on_device, repeated
from detr_conformance.optimized.validation import check_count, check_integers, check_rows

Matching = tuple[Int64[Tensor, " _pairs"], Int64[Tensor, " _pairs"]]
"""Queries of an image, ascending, and the target of each, counted through the whole batch."""


def pairs_of_assignment(query_of_target: Int64[Tensor, "layers targets"], targets: Targets, queries: int) -> Pairs:
    """The pairs of every layer.

    Args:
        query_of_target: the query of each target, -1 where its image has more targets than queries and it went without.
        targets: of all images.
        queries: number of queries of an image.
    """
    rows = torch.add(query_of_target, targets.images, alpha=queries)
    own = torch.arange(rows.shape[1], device=rows.device).expand_as(rows)
    pairs = targets.pairs_in_a_layer(queries)
    if pairs < rows.shape[1]:
        # Every layer leaves out equally many, so that sorting them to the end keeps all shapes known to the host.
        order = (query_of_target < 0).sort(dim=1, stable=True).indices[:, :pairs]
        rows, own = rows.gather(1, order), own.gather(1, order)
    return Pairs(rows, own)


def matching_of_pairs(pairs: Pairs, targets: Targets, queries: int) -> list[Matching]:
    """The pairs of a single layer in the form of the public surface, image by image."""
    rows, order = pairs.rows[0].sort()
    sizes = [min(queries, count) for count in targets.counts]
    of_images = ((rows % queries).split(sizes), pairs.targets[0][order].split(sizes))  # type: ignore[no-untyped-call]
    return list(zip(*of_images, strict=True))


def matching_within_images(pairs: Pairs, targets: Targets, queries: int) -> list[Matching]:
    """The same, with targets counted within their image."""
    starts = [0, *accumulate(targets.counts)][:-1]
    found = matching_of_pairs(pairs, targets, queries)
    return [(own, each - start) for (own, each), start in zip(found, starts, strict=True)]


def pairs_of_matching(
    match_indices: Sequence[Sequence[Tensor]], queries: int, counts: Sequence[int], device: torch.device
) -> Pairs:
    """Pairs that a caller gives, the same for every layer.

    Args:
        match_indices: for each image its queries, and the target of each, counted through the batch.
        queries: number of queries of an image.
        counts: number of targets of each image.
        device: where the pairs are needed.

    Raises:
        TypeError: an index is no integer.
        ValueError: the number of images or pairs does not fit, or on the CPU an index is out of range. On CUDA, where
            looking would mean waiting, such an index is moved into the range.
    """
    own_queries, own_targets = rows_of_matching(match_indices, len(counts), device)
    inside = own_queries.within([0] * len(counts), [queries] * len(counts))
    targets = own_targets.within([0] * len(counts), [sum(counts)] * len(counts))
    return Pairs(torch.add(inside, own_queries.images, alpha=queries)[None], targets[None])


def pairs_of_images(found: object, name: str, queries: int, counts: Sequence[int], device: torch.device) -> Pairs:
    """Pairs of one layer whose targets are counted within each image.

    Args:
        found: for each image its queries, and the target of each.
        name: what it is called.
        queries: number of queries of an image.
        counts: number of targets of each image.
        device: where the pairs are needed.

    Raises:
        TypeError, ValueError: as `pairs_of_matching`.
    """
    own_queries, own_targets = rows_of_matching(found, len(counts), device, name)
    nothing = [0] * len(counts)
    inside = own_queries.within(nothing, [queries] * len(counts))
    targets = own_targets.within(nothing, counts) + own_targets.spread([0, *accumulate(counts)][:-1])
    return Pairs(torch.add(inside, own_queries.images, alpha=queries)[None], targets[None])


def rows_of_matching(
    match_indices: object, images: int | None, device: torch.device, name: str = "match_indices"
) -> tuple[IndexRows, IndexRows]:
    """Queries and targets of given pairs.

    Args:
        match_indices: for each image its queries, and the target of each.
        images: how many images there are; None: as many as there are entries.
        device: where the indices are needed.
        name: what the pairs are called.

    Raises:
        TypeError: something is no sequence, or an index is no integer.
        ValueError: the number of images or pairs does not fit.
    """
    pairs = [check_rows(f"{name}[{at}]", pair) for at, pair in enumerate(check_rows(name, match_indices))]
    if images is not None and len(pairs) != images:
        raise ValueError(f"{name} has {len(pairs)} entries, expected one for each of {images} images")
    for image, pair in enumerate(pairs):
        if len(pair) != 2:
            raise ValueError(f"{name}[{image}] has {len(pair)} entries, expected 2: queries and targets")
    queries, targets = (
        IndexRows.of(f"{name}[{{}}][{side}]", [pair[side] for pair in pairs], device) for side in (0, 1)
    )
    for image, sizes in enumerate(zip(queries.sizes, targets.sizes, strict=True)):
        if sizes[0] != sizes[1]:
            raise ValueError(f"{name}[{image}] has {sizes[0]} queries for {sizes[1]} targets")
    return queries, targets


def _limits(first: Sequence[int], end: Sequence[int], sizes: Sequence[int]) -> Int64[Tensor, "2 indices"]:
    """The least and the largest index that each index of an image may be."""
    last = [min(each - 1, LARGEST_INDEX) for each in end]
    return torch.stack([repeated(first, sizes), repeated(last, sizes)])


LARGEST_INDEX = torch.iinfo(torch.int64).max


@dataclass(frozen=True, eq=False)
class IndexRows:
    """A row of indices for each image, end to end.

    Attributes:
        name: what a row is called, with {} for the image.
        values: all indices.
        sizes: length of each row.
    """

    name: str
    values: Int64[Tensor, " indices"]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, name: str, rows: object, device: torch.device) -> IndexRows:
        """The rows on the device; TypeError or ValueError where one of them is no row of integers."""
        every = check_rows(name.partition("[")[0], rows)
        checked = [check_integers(name.format(image), row) for image, row in enumerate(every)]
        for image, row in enumerate(checked):
            if row.is_meta and device.type != "meta":
                raise ValueError(f"{name.format(image)} is on meta, expected {device}")
        if len({row.device for row in checked}) > 1:  # a list of nothing becomes a tensor on the CPU
            checked = [row.to(device, non_blocking=True) for row in checked]
        values = torch.cat(checked) if checked else torch.zeros(0, dtype=torch.int64)
        if values.device.type == "cpu" and device.type == "cuda":
            values = values.pin_memory()
        return cls(name, values.to(device, non_blocking=True), tuple(len(row) for row in checked))

    @property
    def images(self) -> Int64[Tensor, " indices"]:
        """The image of each index."""
        return self.spread(range(len(self.sizes)))

    def spread(self, of_images: Sequence[int]) -> Int64[Tensor, " indices"]:
        """A number of each image, repeated for each of its indices."""
        return on_device(repeated, tuple(of_images), self.sizes, device=self.values.device)

    def within(self, first: Sequence[int], end: Sequence[int]) -> Int64[Tensor, " indices"]:
        """The indices, which must lie from an image's `first` to before its `end`.

        Raises:
            ValueError: one does not, on the CPU. On CUDA it is moved to where any of them may be: that needs no
                waiting.
        """
        if self.values.device.type != "cpu":
            return self.values.clamp(min(first), min(max(end) - 1, LARGEST_INDEX))
        low, high = _limits(first, end, self.sizes).unbind()
        wrong = (self.values < low) | (self.values > high)
        if bool(wrong.any()):
            image = int(self.images[wrong][0])
            row = self.values.split(self.sizes)[image].tolist()  # type: ignore[no-untyped-call]
            raise ValueError(
                f"{self.name.format(image)} is {row}, expected indices from {first[image]} to {end[image] - 1}"
            )
        return self.values

    def not_negative(self) -> Int64[Tensor, " indices"]:
        """The indices, whatever their limit; see `within`."""
        return self.within([0] * len(self.sizes), [LARGEST_INDEX + 1] * len(self.sizes))


def denoising_matching(
    dn_pos_idx: Sequence[Any],
    dn_num_group: int,
    counts: Sequence[int] | None,
    dn_gt_idx: Sequence[Any] | None,
    device: torch.device,
    name: str = "dn_pos_idx",
) -> tuple[IndexRows, Int64[Tensor, " pairs"]]:
    """Positive slots, and the target that each was made from, counted through the batch.

    Args:
        dn_pos_idx: for each image its positive slots, group after group.
        dn_num_group: number of groups.
        counts: number of targets of each image; None: not known, the indices are taken as they are.
        dn_gt_idx: for each image the targets that one group reconstructs; None: all of them in order.
        device: where the result is needed.
        name: what `dn_pos_idx` is called where it comes from.

    Raises:
        TypeError, ValueError: an argument does not fit; it is named with its value.
    """
    groups = check_count("dn_num_group", dn_num_group, least=1)
    positive = IndexRows.of(f"{name}[{{}}]", dn_pos_idx, device)
    sizes, targets = _one_group(counts, dn_gt_idx, device)
    if len(positive.sizes) != len(sizes):
        images = len(sizes)
        raise ValueError(f"{name} has {len(positive.sizes)} entries, expected one for each of {images} images")
    for image, (found, size) in enumerate(zip(positive.sizes, sizes, strict=True)):
        if found != size * groups:
            raise ValueError(
                f"{name}[{image}] has {found} slots, expected {size * groups}: "
                f"{size} targets in each of dn_num_group = {groups} groups"
            )
    if not len(positive.values):  # then there may be any number of groups
        return positive, positive.values
    chosen = on_device(_group_by_group, tuple(sizes), groups, device=device)
    return positive, chosen if targets is None else targets[chosen]


def _group_by_group(sizes: Sequence[int], groups: int) -> Int64[Tensor, " pairs"]:
    """For each image its targets, counted through the batch, once for each group."""
    start = repeated([0, *accumulate(sizes)][:-1], [size * groups for size in sizes])
    position = torch.arange(len(start), device="cpu") - groups * start
    return start + position % repeated(sizes, [size * groups for size in sizes])


def _one_group(
    counts: Sequence[int] | None, dn_gt_idx: Sequence[Any] | None, device: torch.device
) -> tuple[Sequence[int], Int64[Tensor, " targets"] | None]:
    """How many targets of each image one group reconstructs, and which; None: all of them in order."""
    if dn_gt_idx is None:
        assert counts is not None  # noqa: S101  # callers give one of the two
        return counts, None
    given = IndexRows.of("dn_gt_idx[{}]", dn_gt_idx, device)
    if counts is None:
        return given.sizes, given.not_negative()
    if len(given.sizes) != len(counts):
        raise ValueError(f"dn_gt_idx has {len(given.sizes)} entries, expected one for each of {len(counts)} images")
    end = list(accumulate(counts))
    return given.sizes, given.within([last - count for last, count in zip(end, counts, strict=True)], end)
