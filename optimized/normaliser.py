"""What losses are divided by: the number of matched pairs, of this process or averaged over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor

from detr_conformance.optimized.options import Weight
from detr_conformance.optimized.precision import counting_dtype
from detr_conformance.optimized.validation import check_device, check_number, check_tensor, is_one_number


@dataclass(frozen=True, eq=False)
class Normaliser:
    """The matched pairs of a layer.

    Attributes:
        pairs: number of pairs; the mean over the processes, if it is averaged.
        processes: how many processes it is averaged over.
        given: what a caller divides by instead; 0 counts as 1.
    """

    pairs: Weight
    processes: int = 1
    given: Weight | None = None

    def like(self, other: Normaliser, times: int) -> Normaliser:
        """The same pairs, divided by so many times what was given for others, if anything was."""
        return self if other.given is None else replace(self, given=other.given * times)

    def per_pair(self, factor: float) -> Weight:
        """`factor` divided by the number of pairs; by 1 where no process has any, like the merged batch would."""
        if isinstance(self.given, Tensor):
            return factor / torch.where(self.given == 0, 1.0, self.given)
        if self.given is not None:
            return factor / (self.given or 1.0)
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
    pairs: Sequence[int],
    device: torch.device,
    process_group: dist.ProcessGroup | None,
    given: Sequence[Weight | None] = (),
) -> list[Normaliser]:
    """One normaliser for each number of pairs.

        N = pairs                              without a process group
        N = sum over processes / processes     otherwise: the mean of the processes' losses is then the loss of the
                                               merged batch, also where a process has no target

    The averages stay on the device. Every process must call this equally often; it is one collective for all numbers.

    Args:
        pairs: of the ordinary queries, and where there are any of the denoising ones.
        device: where the predictions are.
        process_group: processes to average over; None: there are no others.
        given: what to divide by instead, if anything.

    Raises:
        TypeError: what is given is no number.
        ValueError: it is negative or not finite, on another device, or given beside a process group.

    Reference: Carion et al., DETR, arXiv 2005.12872, section 3.1, normalises by the targets of the whole batch.
    """
    named = zip(("normaliser", "dn_normaliser"), given, strict=False)
    checked = [_checked(name, value, device, process_group) for name, value in named] or [None] * len(pairs)
    if process_group is None:
        return [Normaliser(float(count), given=value) for count, value in zip(pairs, checked, strict=True)]
    processes = dist.get_world_size(process_group)
    dtype = counting_dtype(device)
    totals = torch.stack([torch.full((), float(count), dtype=dtype, device=device) for count in pairs])
    dist.all_reduce(totals, group=process_group)
    return [Normaliser(mean, processes) for mean in totals / processes]


def _checked(name: str, given: object, device: torch.device, process_group: dist.ProcessGroup | None) -> Weight | None:
    """A number of at least 0, or a tensor of one number on the device, whose value is not looked at."""
    if given is None:
        return None
    if process_group is not None:
        raise ValueError(f"{name} is {given!r}, expected None with a process_group, which averages N by itself")
    if not is_one_number(given):
        return check_number(name, given, least=0.0)
    check_device(name, check_tensor(name, given), "pred_bboxes", device)
    return given.detach().to(counting_dtype(device)).reshape(())
