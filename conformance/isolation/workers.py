"""The worker processes of a run, from outside: what they are told, why they ended, and that none is left behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from detr_conformance.errors import UsageError
from detr_conformance.halves import HALVES, half_of, rule_id
from detr_conformance.isolation.deadline import is_overdue
from detr_conformance.isolation.exit_log import ExitLog
from detr_conformance.isolation.scheduler import HalvesScheduler
from detr_conformance.isolation.worker import EXIT_LOG, GIVEN_UP, PATIENCE, START, deadline_of

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

MOST_LOST = 8
"""So many processes may end early in a half of the rules; more only while more rules than that get an answer."""
MOST_HUNG = 2
"""So many rules of a half may hang if the port has never answered any of it."""
PATIENCE_THEN = 15.0
"""Seconds that a rule gets at most once the port has hung in one of its half, and never answered any."""
MOST_FAILED_STARTS = 3
"""So many processes may end before they can judge anything."""
POLL = 0.5
"""Seconds between two looks at the processes."""
MOST_RESTARTS = 100_000
"""Restarts that pytest-xdist is allowed: any number, since this module decides when to stop."""


@dataclass
class Tally:
    """What has become of the rules of a half so far: with both, a message would depend on who is quicker.

    Attributes:
        lost: how many processes ended while a rule was judged.
        hung: in how many rules the port took too long.
        answered: how many rules the port has given an answer to, right or wrong.
    """

    lost: int = 0
    hung: int = 0
    answered: int = 0

    @property
    def given_up(self) -> str:
        """Why the port is not called any more; empty while it is."""
        hangs = self.hung >= MOST_HUNG and not self.answered
        if not hangs and (self.lost < MOST_LOST or self.lost <= self.answered):
            return ""
        return (
            f"not tried: the port had crashed, hung or run out of memory in {self.lost} rules by then, "
            f"and answered in {self.answered}"
        )

    @property
    def patience(self) -> float:
        """Seconds that a rule gets at most."""
        return PATIENCE_THEN if self.hung and not self.answered else math.inf


class Workers:
    """A pytest plugin that follows the worker processes.

    Attributes:
        selected: node ids of the rules that were to be judged.
        last_cause: why the last process ended.
    """

    def __init__(self) -> None:
        """No process was started yet."""
        self.selected: Sequence[str] = ()
        self.last_cause = ""
        self._tallies = [Tally() for _ in range(HALVES)]
        self._vacant = list(range(HALVES))
        self._halves: dict[str, int] = {}
        self._ready: set[str] = set()
        self._failed_starts = 0
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._overdue: set[str] = set()
        self._patience: dict[str, list[float]] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._finished = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, daemon=True)

    def pytest_sessionstart(self) -> None:
        """Start to end what worker processes leave running."""
        self._sweeper.start()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: WorkerController) -> None:
        """Tell a new process what it needs to know."""
        process = getattr(getattr(node.gateway, "_io", None), "popen", None)
        if process is not None:
            self._processes[node.gateway.id] = process
        if self._vacant:
            self._halves[node.gateway.id] = self._vacant.pop(0)
        self._patience[node.gateway.id] = patience = [tally.patience for tally in self._tallies]
        given_up = [tally.given_up for tally in self._tallies]
        node.workerinput |= {EXIT_LOG: str(self._log_path(node)), GIVEN_UP: given_up, PATIENCE: patience}

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> HalvesScheduler | None:
        """Where two processes judge, each has a half of the rules; other numbers are left to pytest-xdist."""
        if config.getoption("dist") != "load" or config.getoption("numprocesses") != HALVES:
            return None
        return HalvesScheduler(lambda name: half_of(rule_id(name)), lambda node: self._halves[node.gateway.id])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: WorkerController, ids: Sequence[str]) -> None:
        """A process has built the port."""
        self._ready.add(node.gateway.id)
        self.selected = ids

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: WorkerController, error: object) -> None:
        """Stop the run if the port ends every process before it can judge; whoever replaces one gets its half."""
        if not error:
            return
        if node.gateway.id in self._halves:
            self._vacant.append(self._halves[node.gateway.id])
        if node.gateway.id in self._ready:
            return
        self._failed_starts += 1
        self.last_cause = self._cause(node, START)
        if self._failed_starts == MOST_FAILED_STARTS:
            pytest.exit(f"{self.last_cause}, while it was built")

    def answered(self, rule: str) -> None:
        """The port has given an answer to a rule."""
        self._tallies[half_of(rule)].answered += 1

    def lose(self, node: WorkerController, rule: str, timeout: float) -> tuple[str, str]:
        """Count a process that ended while it judged a rule, and read its exit log.

        Args:
            node: the process.
            rule: the rule.
            timeout: seconds after which a rule is given up.

        Returns:
            The entry of the report, or nothing if there is none; why the process ended.
        """
        half = half_of(rule)
        tally = self._tallies[half]
        tally.lost += 1
        self.last_cause = self._cause(node, min(timeout, self._patience[node.gateway.id][half]))
        log = ExitLog.read(self._log_path(node))
        tally.hung += log.hung or self._is_overdue(node) or bool(log.entry)  # a rule that was stopped leaves its entry
        return log.entry, self.last_cause

    @property
    def abandoned(self) -> str:
        """Why no process was left to judge the remaining rules; empty if that is not why they were not judged."""
        if self._failed_starts == MOST_FAILED_STARTS:
            return f"not tried: {self.last_cause}, while it was built"
        return f"not tried: {self.last_cause}, and no other was to be started" if self._has_lost else ""

    @property
    def _has_lost(self) -> bool:
        return any(tally.lost for tally in self._tallies)

    def refuse_a_port_that_cannot_be_built(self) -> None:
        """Raise UsageError if every process has ended before it could judge."""
        if self._failed_starts and not self._ready:
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
        """End processes that are overdue, and what one that has ended leaves running: it would hold the connection."""
        swept: set[str] = set()
        while not self._finished.wait(POLL):
            for name, process in list(self._processes.items()):
                if is_overdue(deadline_of(self._folder_of_logs / name)):
                    self._overdue.add(name)
                if name not in swept and (name in self._overdue or process.poll() is not None):
                    _kill_group(process)
                    swept.add(name)

    def _log_path(self, node: WorkerController) -> Path:
        """The exit log of a process."""
        return self._folder_of_logs / str(node.gateway.id)

    @cached_property
    def _folder_of_logs(self) -> Path:
        self._folder = tempfile.TemporaryDirectory(prefix="detr-conformance-", ignore_cleanup_errors=True)
        return Path(self._folder.name)

    def _cause(self, node: WorkerController, seconds: float) -> str:
        """Why a process ended, in a few words."""
        log, process = ExitLog.read(self._log_path(node)), self._processes.get(node.gateway.id)
        status = None
        if process is not None:
            with suppress(subprocess.TimeoutExpired):  # it has closed the connection and lives on
                status = process.wait(timeout=POLL)
        return log.cause(status, seconds, self._is_overdue(node))

    def _is_overdue(self, node: WorkerController) -> bool:
        return node.gateway.id in self._overdue


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it has started: its process group, if it lived long enough to make one."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    if process.poll() is None:
        process.kill()
