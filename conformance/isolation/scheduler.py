"""Who judges which rules, where two processes do: each of them one half, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from detr_conformance.halves import HALVES

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

AHEAD = 2
"""Items that a process has at any time: pytest runs one only when it knows the next."""


class HalvesScheduler:
    """A scheduler of pytest-xdist. A process that replaces another goes on with its half.

    Each process begins as soon as it has built the port, and never has more than `AHEAD` items: `-x` ends the run.

    Args:
        half_of_item: the half that an item belongs to, by its node id.
        half_of_process: the half that a process has, and whoever replaces it.

    Attributes:
        collection_is_completed: whether processes may begin; nobody waits for another.
    """

    collection_is_completed = True

    def __init__(self, half_of_item: Callable[[str], int], half_of_process: Callable[[WorkerController], int]) -> None:
        """No process has built the port yet."""
        self._half_of_item = half_of_item
        self._half_of_process = half_of_process
        self._waiting: list[deque[str]] = [deque() for _ in range(HALVES)]
        self._is_split = False
        self._pending: dict[WorkerController, list[str]] = {}
        self._names: dict[WorkerController, list[str]] = {}

    @property
    def nodes(self) -> list[WorkerController]:
        """The processes that have started."""
        return list(self._pending)

    @property
    def has_pending(self) -> bool:
        """Whether an item is waiting, or with a process."""
        return any(self._waiting) or any(self._pending.values())

    @property
    def tests_finished(self) -> bool:
        """Whether all items are with processes, and none has one after the one that it runs."""
        return self._is_split and not any(self._waiting) and all(len(own) < AHEAD for own in self._pending.values())

    def add_node(self, node: WorkerController) -> None:
        """A process has started."""
        self._pending[node] = []

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """A process has built the port; the first one says which items there are."""
        self._names[node] = list(collection)
        if not self._is_split:
            self._is_split = True
            for name in collection:
                self._waiting[self._half_of_item(name)].append(name)

    def schedule(self) -> None:
        """Let every process that has built the port begin, or end if there is nothing for it."""
        for node in self._names:
            self._feed(node)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:  # noqa: ARG002
        """A process has run an item."""
        self._pending[node].remove(self._names[node][item_index])
        self._feed(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """A process has ended; the item that it ran, if any. What it has not begun waits for whoever replaces it."""
        pending = self._pending.pop(node)
        self._names.pop(node, None)
        if not pending:
            return None
        self._waiting[self._half_of_process(node)].extendleft(reversed(pending[1:]))
        return pending[0]

    def mark_test_pending(self, item: str) -> None:
        """An item is to be run again; nothing here asks for that."""
        raise NotImplementedError(item)

    def remove_pending_tests_from_node(self, node: WorkerController, indices: Sequence[int]) -> None:
        """Items are taken from a process; nothing here asks for that."""
        raise NotImplementedError(node, indices)

    def _feed(self, node: WorkerController) -> None:
        """Send a process what it has room for, and let it end once nothing of its half is waiting."""
        if node.shutting_down:
            return
        waiting = self._waiting[self._half_of_process(node)]
        while waiting and len(self._pending[node]) < AHEAD:
            name = waiting.popleft()
            if name in self._names[node]:  # a port may declare something else in another process
                self._pending[node].append(name)
                node.send_runtest_some([self._names[node].index(name)])
        if not waiting:
            node.shutdown()
