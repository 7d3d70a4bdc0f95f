"""The worker processes of a run, from outside: what they are told, why they ended, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from detr_conformance.errors import UsageError
from detr_conformance.isolation.last_words import LastWords
from detr_conformance.isolation.worker import GIVEN_UP, START, WORDS

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

PATIENCE = 8
"""So many processes may end early. More only while at least as many rules get an answer."""
STILLBORN = 3
"""So many processes may end before they can judge anything."""
POLL = 0.5
"""Seconds between two looks at the processes."""
EVER = 100_000
"""Restarts that pytest-xdist is allowed; when it is enough is decided here."""


class Workers:
    """A pytest plugin that follows the worker processes.

    Attributes:
        selected: node ids of the rules that were to be judged.
        lost: how many processes ended while a rule was judged.
        answered: how many rules the port has given an answer to, right or wrong.
        last_cause: why the last process ended.
    """

    def __init__(self) -> None:
        """No process was started yet."""
        self.selected: Sequence[str] = ()
        self.lost = self.answered = 0
        self.last_cause = ""
        self._ready: set[str] = set()
        self._stillborn = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._finished = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, daemon=True)

    def pytest_sessionstart(self) -> None:
        """Begin to look after what processes leave behind."""
        self._sweeper.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell a new process what it needs to know."""
        process = getattr(getattr(node.gateway, "_io", None), "popen", None)
        if process is not None:
            self._processes[node.gateway.id] = process
        node.workerinput |= {WORDS: str(self._words(node)), GIVEN_UP: self.given_up}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: Sequence[str]) -> None:
        """A process has built the port."""
        self._ready.add(node.gateway.id)
        self.selected = ids

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController, error: object) -> None:
        """Do not start processes for ever that the port ends before they can judge."""
        if not error or node.gateway.id in self._ready:
            return
        self._stillborn += 1
        self.last_cause = self._cause(node, START)
        if self._stillborn == STILLBORN:
            pytest.exit(f"{self.last_cause}, while it was built")

    def bury(self, node: WorkerController, timeout: float) -> tuple[str, str]:
        """What a process leaves that ended while it judged a rule.

        Args:
            node: the process.
            timeout: seconds after which a rule is given up.

        Returns:
            The entry of the report, or nothing if there is none; why the process ended.
        """
        self.lost += 1
        self.last_cause = self._cause(node, timeout)
        return LastWords.of(self._words(node)).entry, self.last_cause

    @property
    def given_up(self) -> str:
        """Why the port is to be asked no more; empty as long as it is."""
        if self.lost < PATIENCE or self.lost <= self.answered:
            return ""
        return (
            f"not tried: the port had crashed, hung or run out of memory in {self.lost} rules by then, "
            f"and answered in {self.answered}"
        )

    @property
    def abandoned(self) -> str:
        """Why rules were left without anybody to judge them; empty if pytest had its way."""
        if self._stillborn == STILLBORN:
            return f"not tried: {self.last_cause}, while it was built"
        return f"not tried: {self.last_cause}, and no other was to be started" if self.lost else ""

    def refuse_a_port_that_cannot_be_built(self) -> None:
        """Raise UsageError if every process has ended before it could judge."""
        if self._stillborn and not self._ready:
            raise UsageError(f"{self.last_cause}, while it was built in a worker: make that work first, or use -- -n 0")

    def end(self) -> None:
        """End every process, and what the port has started in them, at once."""
        for process in self._processes.values():
            _kill_group(process)

    def pytest_unconfigure(self) -> None:
        """The session is over, and so are all processes."""
        self._finished.set()
        if self._sweeper.is_alive():
            self._sweeper.join()
        self.end()
        if self._folder is not None:
            self._folder.cleanup()

    def _sweep(self) -> None:
        """End what a process that has ended leaves running: it would hold the connection open, and the run up."""
        swept: set[str] = set()
        while not self._finished.wait(POLL):
            for name, process in list(self._processes.items()):
                if name not in swept and process.poll() is not None:
                    _kill_group(process)
                    swept.add(name)

    def _words(self, node: WorkerController) -> Path:
        """The file for the last words of a process; the folder is made for the first one."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="detr-conformance-", ignore_cleanup_errors=True)
        return Path(self._folder.name) / str(node.gateway.id)

    def _cause(self, node: WorkerController, seconds: float) -> str:
        """Why a process ended, in a few words."""
        words, process = LastWords.of(self._words(node)), self._processes.get(node.gateway.id)
        status = None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):  # it has closed the connection and lives on
                status = process.wait(timeout=POLL)
        return words.cause(status, seconds)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started, which is a group of its own once it has come so far."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
