"""One worker process of a run, from inside: it judges rules, and survives or reports what the port does meanwhile."""

from __future__ import annotations

import faulthandler
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.halves import HALVES, half_of
from detr_conformance.isolation import memory
from detr_conformance.isolation.deadline import Deadline
from detr_conformance.isolation.exit_log import ENTRY
from detr_conformance.isolation.output import FLOOD, Sink
from detr_conformance.isolation.process_state import restored_state
from detr_conformance.isolation.watched_port import WatchedPort, out_of_memory
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.port import Port
from detr_conformance.properties.port_under_test import PortTimeout
from detr_conformance.properties.rule import Rule
from detr_conformance.protocol.process import Process

PLUGIN = "detr_conformance_worker"
EXIT_LOG, GIVEN_UP, PATIENCE = "detr_conformance_exit_log", "detr_conformance_given_up", "detr_conformance_patience"
"""Inputs of a worker: the path of its exit log; and for each half of the rules why the port is not called any more, or
an empty text, and the seconds that a rule gets at most."""
GRACE = 5.0
"""Seconds between the signal that stops a rule and the end of a process in which Python has not handled it, and again
until whoever started the process ends it."""
START = 300.0
"""Seconds that a worker may take to build the port, which the main process has built before."""


def deadline_of(exit_log: Path) -> Path:
    """The file with the deadline of a worker, beside its exit log."""
    return exit_log.with_name(f"{exit_log.name} deadline")


class Worker:
    """A worker process.

    Args:
        exit_log: the file to write to if the process ends early.
        gigabytes: memory that the port may take.
        given_up: for each half of the rules why the port is not called any more; empty if it is.
        patience: likewise the seconds that a rule gets at most.

    Attributes:
        timed_out: a rule was stopped because the port took too long.
        is_judging: a rule is being judged, and its failure not yet explained.
    """

    def __init__(
        self,
        exit_log: Path,
        gigabytes: float,
        given_up: Sequence[str] = ("",) * HALVES,
        patience: Sequence[float] = (math.inf,) * HALVES,
    ) -> None:
        """Put the process into a group of its own, redirect its output, and start the watchdog."""
        self.exit_log = exit_log.open("w", encoding="utf-8")
        self.deadline = Deadline(deadline_of(exit_log))
        self._patience = patience
        self.is_judging = False
        self.gigabytes = gigabytes
        self.given_up = given_up
        self.timed_out = self.exhausted = False
        self._port: WatchedPort | None = None
        if hasattr(os, "setpgid"):
            os.setpgid(0, 0)  # ctrl-C reaches the main process alone, and what the port starts ends with the group
        Process.has_own_session = False
        self.sink = Sink()
        faulthandler.enable(self.exit_log)
        self.start_watchdog(START)

    @staticmethod
    def of(config: pytest.Config) -> Worker | None:
        """The worker that a session runs in; None in the main process."""
        found: Worker | None = config.pluginmanager.get_plugin(PLUGIN)
        return found

    def pytest_collection_finish(self) -> None:
        """The port is built: memory is counted from here on, and a crash is told, whatever the port has set up."""
        self.stop_watchdog()
        memory.limit(self.gigabytes)
        faulthandler.enable(self.exit_log)

    def start_watchdog(self, seconds: float) -> None:
        """End the process after this time, even where the port blocks the interpreter or disarms what watches it."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self.exit_log)
        self.deadline.set(seconds + GRACE)

    def stop_watchdog(self) -> None:
        """Nothing is being judged."""
        faulthandler.cancel_dump_traceback_later()
        self.deadline.clear()

    def limit(self, rule: str, seconds: float) -> float:
        """The seconds that a rule gets, by its id."""
        return min(seconds, self._patience[half_of(rule)])

    def left(self, seconds: float) -> float:
        """What is left of the time that a rule gets: it is the port's own that counts, not the suite's or others'.

        To explain a failure takes calls that nobody counts: then there is none left.
        """
        return seconds - self._port.seconds if self.is_judging and self._port is not None else 0.0

    def out_of_time(self, seconds: float) -> PortTimeout:
        """What a rule is stopped with: the port hangs, or it is slow."""
        self.timed_out = True
        longer = "(-- --timeout SECONDS)"
        if self._port is None or not self._port.answered:
            return PortTimeout(f"no answer within {seconds:g} s: the port hangs, or needs a longer limit {longer}")
        return PortTimeout(
            f"the port took {self._port.seconds:.0f} s for {self._port.answered:,} calls and the one that was stopped, "
            f"and a rule gets {seconds:g} s: the last call hangs, or all of them need a longer limit {longer}"
        )

    def judge(self, plan: CheckPlan, rule: Rule) -> RuleResult | None:
        """What `CheckPlan.judge` returns, or an error for what the port did to the process."""
        given_up = self.given_up[half_of(rule.id)]
        if given_up:
            return RuleResult(rule, "error", given_up)
        self.is_judging = True
        try:
            outcome, touched = self._watched(plan, rule)
            if touched and not self.unusable:
                # A first call may import modules, and those may set variables and filters: only a second time counts.
                _, touched = self._watched(plan, rule)
        finally:
            self.is_judging = False
        return self._blamed(outcome, touched)

    @property
    def unusable(self) -> bool:
        """Whether the process can judge no other rule: a lock may be held, or the memory is used up."""
        return self.timed_out or self.exhausted

    def end_with(self, entry: str) -> None:
        """Write the entry of the rule that was judged into the exit log, and end the process."""
        self.exit_log.write(f"\n{ENTRY}{entry}")
        self.exit_log.flush()
        os._exit(0)

    def _watched(self, plan: CheckPlan, rule: Rule) -> tuple[RuleResult | None, list[str]]:
        """The result of a rule, and the global settings that had changed after it."""
        watch = self._watch_of(plan.port)
        watch.start_counting()
        with restored_state() as touched:
            outcome = self._contained(replace(plan, port=watch.as_port()), rule)
        self.exhausted |= watch.exhausted
        return outcome, touched

    def _watch_of(self, port: Port) -> WatchedPort:
        """The port as the rules see it: one object for all of them, since `properties.working` remembers by object."""
        if self._port is None or self._port.port is not port:
            self._port = WatchedPort(port, self.gigabytes)
        return self._port

    def _contained(self, plan: CheckPlan, rule: Rule) -> RuleResult | None:
        """The result of a rule, also where judging it broke off outside of the port."""
        try:
            return plan.judge(rule)
        except MemoryError:  # the port has used up the memory, and the suite gets none
            memory.lift()
            self.exhausted = True
            return RuleResult(rule, "error", out_of_memory(self.gigabytes))
        except PortTimeout as timeout:
            return RuleResult(rule, "error", str(timeout))

    def _blamed(self, outcome: RuleResult | None, touched: list[str]) -> RuleResult | None:
        """The result, or an error for a port that flooded the output or changed global settings."""
        flooded = self.sink.flooded()
        if outcome is None or outcome.verdict == "fail":
            return outcome
        if flooded:  # an exception of the port may come from its refused writes
            reason = f"the port wrote more than {FLOOD // 10**6} MB to stdout or stderr"
            return replace(outcome, verdict="error", message=reason)
        if touched and outcome.verdict == "pass":
            reason = f"the port changed {' and '.join(touched)}, and left it so"
            return replace(outcome, verdict="error", message=reason)
        return outcome
