"""What losses are divided by: the number of matched pairs, of this process or averaged over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from detr_conformance.optimized.options import Weight


@dataclass(frozen=True, eq=False)
class Normaliser:
    """The matched pairs of a layer.

    Attributes:
        pairs: number of pairs; the mean over the processes, if it is averaged.
        processes: how many processes it is averaged over.
    """

    pairs: Weight
    processes: int = 1

    def per_pair(self, factor: float) -> Weight:
        """`factor` divided by the number of pairs; by 1 where no process has any, like the merged batch would."""
        least = 1 / self.processes
        if isinstance(self.pairs, Tensor):
            return factor / self.pairs.clamp(min=least)
        return factor / max(self.pairs, least)

    def if_any(self, some: float, none: float) -> Weight:
        """`some` where there is a pair, in whatever process; else `none`."""
        if isinstance(self.pairs, Tensor):
            # Of two Python numbers `where` would make float32.
            return torch.where(self.pairs > 0, torch.full_like(self.pairs, some), none)
        return some if self.pairs > 0 else none

    def choose(self, some: float, none: float) -> float:
        """The same for what the host has to know.

        Raises:
            ValueError: the number of pairs is averaged, so that the host does not know, and the two differ.
        """
        if some == none:
            return some
        if isinstance(self.pairs, Tensor):
            raise ValueError(f"vfl.gamma is {some} and fl.gamma {none}, expected the same with a process_group")
        return some if self.pairs > 0 else none


def check_process_group(process_group: object) -> None:
    """A group that this process belongs to, or None.

    Raises:
        TypeError: it is something else, such as what a process gets that does not belong to the group.
    """
    if process_group is not None and not isinstance(process_group, dist.ProcessGroup):
        raise TypeError(f"process_group is {process_group!r}, expected a group that this process belongs to, or None")


def normalisers(
    pairs: Sequence[int], device: torch.device, process_group: dist.ProcessGroup | None
) -> tuple[Normaliser, ...]:
    """One normaliser for each number of pairs.

        N = pairs                              without a process group
        N = sum over processes / processes     otherwise: the mean of the processes' losses is then the loss of the
                                               merged batch, also where a process has no target

    The averages stay on the device. Every process must call this equally often; it is one collective for all numbers.

    Reference: Carion et al., DETR, arXiv 2005.12872, section 3.1, normalises by the targets of the whole batch.
    """
    if process_group is None:
        return tuple(Normaliser(float(count)) for count in pairs)
    processes = dist.get_world_size(process_group)
    totals = torch.stack([torch.full((), float(count), dtype=torch.float64, device=device) for count in pairs])
    dist.all_reduce(totals, group=process_group)
    return tuple(Normaliser(mean, processes) for mean in totals / processes)
