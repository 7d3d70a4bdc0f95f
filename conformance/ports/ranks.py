"""The ranks of a data-parallel run in one process: what `torch.distributed` does between several, without sockets.

Ranks take turns. Each runs in a process group of as many ranks as there are batches, whose collectives answer with
what all ranks handed in when they had their last turn. They take turns until nobody hands in anything else: then every
answer was the one that a real run gives.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist

BACKEND = "detr_conformance"
"""Under this name `torch.distributed` knows the group."""

REDUCED: dict[Any, Callable[[torch.Tensor], torch.Tensor]] = {
    dist.ReduceOp.SUM: lambda stacked: stacked.sum(0),
    dist.ReduceOp.AVG: lambda stacked: stacked.sum(0) / len(stacked),
    dist.ReduceOp.MAX: lambda stacked: stacked.amax(0),
    dist.ReduceOp.MIN: lambda stacked: stacked.amin(0),
    dist.ReduceOp.PRODUCT: lambda stacked: stacked.prod(0),
}
"""What becomes of the tensors of all ranks."""

Result = TypeVar("Result")
Batch = TypeVar("Batch")


class Handed(NamedTuple):
    """What a rank hands in to a collective.

    Attributes:
        collective: its name.
        tensor: a copy.
    """

    collective: str
    tensor: torch.Tensor

    def is_like(self, other: Handed) -> bool:
        """Whether another rank, or this one in another turn, can have meant the same collective."""
        return self.collective == other.collective and self.tensor.shape == other.tensor.shape

    def equals(self, other: Handed) -> bool:
        """Whether it is the same once more."""
        return self.is_like(other) and bool(torch.allclose(self.tensor, other.tensor, 0.0, 0.0, equal_nan=True))


class Exchange:
    """What the ranks hand in, turn by turn.

    Attributes:
        ranks: number of ranks.
        last: for each rank what it handed in when it had its last turn.
        now: what the rank whose turn it is has handed in so far.
    """

    def __init__(self, ranks: int) -> None:
        """Nobody has had a turn."""
        self.ranks = ranks
        self.last: list[list[Handed]] = [[] for _ in range(ranks)]
        self.now: list[Handed] = []

    def of_all(self, rank: int, collective: str, tensor: torch.Tensor) -> list[torch.Tensor]:
        """What all ranks hand in to the collective that a rank calls; of a rank that is not known yet, the same."""
        own, place = Handed(collective, tensor.detach().clone()), len(self.now)
        self.now.append(own)
        known = [self.last[other][place : place + 1] for other in range(self.ranks)]
        others = [each[0] if each and each[0].is_like(own) else own for each in known]
        others[rank] = own
        return [each.tensor for each in others]

    def turn(self, rank: int, compute: Callable[[], Result]) -> tuple[Result, list[Handed]]:
        """One rank's turn: its result, and what it handed in."""
        self.now = []
        with _group(self, rank):
            result = compute()
        return result, self.now

    def round(self, computations: Sequence[Callable[[], Result]]) -> tuple[list[Result], bool]:
        """Every rank's turn: their results, and whether all handed in what they did before."""
        turns = [self.turn(rank, compute) for rank, compute in enumerate(computations)]
        handed = [each for _, each in turns]
        settled = all(_same(*each) for each in zip(handed, self.last, strict=True))
        self.last = handed
        return [result for result, _ in turns], settled


def _same(now: Sequence[Handed], before: Sequence[Handed]) -> bool:
    return len(now) == len(before) and all(one.equals(other) for one, other in zip(now, before, strict=True))


def in_ranks(
    compute: Callable[[Batch], Result],
    batches: Sequence[Batch],
    as_rank: Callable[[int, int], AbstractContextManager[object]],
) -> list[Result]:
    """What each rank of a data-parallel run computes of its own batch.

    Args:
        compute: from a batch to a result; it may call the collectives of `torch.distributed`: all_reduce, all_gather,
            broadcast and barrier.
        batches: one for each rank.
        as_rank: what else a rank needs around it, from its number and the number of ranks.

    Raises:
        RuntimeError: the ranks do not call the same collectives, so that in a real run some would wait for ever; or the
            answers never settle.
    """

    def computation(rank: int) -> Callable[[], Result]:
        def own() -> Result:
            with as_rank(rank, len(batches)):
                return compute(batches[rank])

        return own

    exchange, computations = Exchange(len(batches)), [computation(rank) for rank in range(len(batches))]
    rounds = 0
    while True:
        results, settled = exchange.round(computations)
        if settled or not any(exchange.last):
            _refuse_waiting(exchange.last)
            return results
        rounds += 1
        if rounds > 2 + len(exchange.last[0]):
            raise RuntimeError(f"what the ranks hand to each other has not settled after {rounds} rounds")


def _refuse_waiting(handed: Sequence[Sequence[Handed]]) -> None:
    """Raise RuntimeError where one rank calls a collective that another one does not."""
    called = [[each.collective for each in of_rank] for of_rank in handed]
    for rank, names in enumerate(called):
        if names != called[0]:
            first, other = (", ".join(each) or "none" for each in (called[0], names))
            raise RuntimeError(
                f"a real run would wait for ever: rank 0 calls the collectives {first}, and rank {rank} {other}"
            )


class _Work(dist.Work):
    """A collective that is done."""

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self._future: Any = torch.futures.Future()
        self._future.set_result(list(tensors))

    def wait(self, timeout: Any = None) -> bool:  # noqa: ARG002  # the signature
        return True

    def is_completed(self) -> bool:
        return True

    def get_future(self) -> Any:
        return self._future


class _Group(dist.ProcessGroup):
    """The process group of the rank whose turn it is; the methods are those that `torch.distributed` calls.

    Each is one of several overloads, which a type checker would have all of.
    """

    def __init__(self, exchange: Exchange, rank: int) -> None:
        super().__init__(rank, exchange.ranks)  # type: ignore[call-arg]  # the stubs leave this constructor out
        self.exchange, self.own = exchange, rank

    def getBackendName(self) -> str:  # noqa: N802  # the name that torch asks for
        return BACKEND

    def allreduce(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> dist.Work:  # type: ignore[override]
        reduce = next(each for op, each in REDUCED.items() if opts is None or opts.reduceOp == op)
        for tensor in tensors:
            tensor.data.copy_(reduce(torch.stack(self.exchange.of_all(self.own, "all_reduce", tensor))))
        return _Work(tensors)

    def allgather(self, outputs: Any, inputs: Sequence[torch.Tensor], opts: Any = None) -> dist.Work:  # type: ignore[override]  # noqa: ARG002
        for output, tensor in zip(outputs, inputs, strict=True):
            for place, each in zip(output, self.exchange.of_all(self.own, "all_gather", tensor), strict=True):
                place.data.copy_(each)
        return _Work(inputs)

    def broadcast(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> dist.Work:  # type: ignore[override]
        root = 0 if opts is None else opts.rootRank
        for tensor in tensors:
            tensor.data.copy_(self.exchange.of_all(self.own, "broadcast", tensor)[root])
        return _Work(tensors)

    def barrier(self, opts: Any = None) -> dist.Work:  # noqa: ARG002  # the signature
        self.exchange.of_all(self.own, "barrier", torch.zeros(()))
        return _Work(())


_turns: list[tuple[Exchange, int]] = []
"""Whose turn it is, for the constructor that `torch.distributed` calls."""


@contextmanager
def _group(exchange: Exchange, rank: int) -> Iterator[None]:
    """`torch.distributed` as this rank sees it."""
    if dist.is_initialized():
        raise RuntimeError("torch.distributed is in use already: ranks cannot take turns in a process of a real run")
    if BACKEND not in dist.Backend.backend_list:
        dist.Backend.register_backend(BACKEND, lambda *_: _Group(*_turns[-1]), devices=["cpu"])
    _turns.append((exchange, rank))
    hook = sys.excepthook  # the group puts one around it that names the rank, and leaves it there
    try:
        store = dist.HashStore()  # type: ignore[attr-defined]  # documented, but in no list of exports
        dist.init_process_group(BACKEND, store=store, rank=rank, world_size=exchange.ranks)
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
        sys.excepthook = hook
        _turns.pop()
