"""Independent pieces of work on the CPU, shared among threads that do not wait for each other."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Piece = TypeVar("Piece")


def share(
    pieces: Iterable[Piece], new_worker: Callable[[], Callable[[Piece], None]], threads: int | None = None
) -> None:
    """Work on all pieces; each thread takes the next one as soon as it is done.

    It pays where a piece is work of C code that releases Python's lock for long. An operator of torch on a block that
    fits a cache does not: the threads would wait for the lock most of the time.

    Args:
        pieces: in the order in which they are taken.
        new_worker: makes what works on one piece after the other in one thread.
        threads: how many are worth it, the calling one included; at most as many as torch uses.

    Raises:
        Exception: what a worker raised.
    """
    waiting = deque(pieces)
    most = torch.get_num_threads()
    helpers = min(most, len(waiting), most if threads is None else threads) - 1
    started = []
    if helpers > 0:
        pool = _pool(os.getpid(), most - 1)
        started = [pool.submit(_work, waiting, new_worker) for _ in range(helpers)]
    _work(waiting, new_worker)
    for helper in started:
        helper.result()


def _work(waiting: deque[Piece], new_worker: Callable[[], Callable[[Piece], None]]) -> None:
    """Take pieces until none is left."""
    worker = new_worker()
    while True:
        try:
            piece = waiting.popleft()
        except IndexError:  # asking first whether one is left would leave time for another thread to take it
            return
        worker(piece)


@lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a fork has the object and not its threads
    """The threads of this process, kept for the next call."""
    return ThreadPoolExecutor(threads, thread_name_prefix="detr-loss")
