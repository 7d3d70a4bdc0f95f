"""One worker process of a run, from inside: judges rules, and contains what the port does meanwhile."""

from __future__ import annotations

import faulthandler
import os
from dataclasses import replace
from pathlib import Path

import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.isolation import memory
from detr_conformance.isolation.last_words import LEFT
from detr_conformance.isolation.output import FLOOD, Sink
from detr_conformance.isolation.watched_port import Watch, out_of_memory
from detr_conformance.isolation.world import watched
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.port_under_test import PortTimeout
from detr_conformance.properties.rule import Rule

PLUGIN = "detr_conformance_worker"
WORDS, GIVEN_UP = "detr_conformance_words", "detr_conformance_given_up"
"""What a worker is told: where to leave its last words; why the port is to be asked no more, or nothing."""
GRACE = 5.0
"""Seconds between the signal that stops a rule, which Python has to take, and the end of a process that does not."""
START = 300.0
"""Seconds that a process may take to build the port, as the one that was started has done before."""


class Worker:
    """A worker process.

    Args:
        words: file for its last words.
        gigabytes: memory that the port may take.
        given_up: why the port is to be asked no more; empty if it is.

    Attributes:
        timed_out: a rule was stopped because it took too long.
    """

    def __init__(self, words: Path, gigabytes: float, given_up: str = "") -> None:
        """Take what the process needs to be ended alone, and its output out of everybody's way."""
        self.words = words.open("w", encoding="utf-8")
        self.gigabytes = gigabytes
        self.given_up = given_up
        self.timed_out = self.exhausted = False
        if hasattr(os, "setpgid"):
            os.setpgid(0, 0)  # a terminal's ctrl-C is for the process that was started; what the port starts is in it
        self.sink = Sink()
        faulthandler.enable(self.words)
        self.watch(START)

    @staticmethod
    def of(config: pytest.Config) -> Worker | None:
        """The one that a session runs in; None in the process that was started."""
        found: Worker | None = config.pluginmanager.get_plugin(PLUGIN)
        return found

    def pytest_collection_finish(self) -> None:
        """The port is built: from here on counts what it takes."""
        self.rest()
        memory.limit(self.gigabytes)

    def watch(self, seconds: float) -> None:
        """End the process if it is still at it then: without Python's help, which a port can hold up."""
        faulthandler.dump_traceback_later(seconds, exit=True, file=self.words)

    def rest(self) -> None:
        """Nothing is being judged."""
        faulthandler.cancel_dump_traceback_later()

    def judge(self, judgement: CheckPlan, rule: Rule) -> RuleResult | None:
        """Judge the port by one rule; None as with `Judgement.judge`."""
        if self.given_up:
            return RuleResult(rule, "error", self.given_up)
        outcome, touched = self._watched(judgement, rule)
        if touched and not self.spoilt:
            # Once is set-up: what a first call imports may set variables and filters. A second time is a habit.
            _, touched = self._watched(judgement, rule)
        return self._blamed(outcome, touched)

    @property
    def spoilt(self) -> bool:
        """Whether the process is in no state to judge another rule: locks are held, or memory is."""
        return self.timed_out or self.exhausted

    def leave(self, entry: str) -> None:
        """End the process, and leave the entry of the rule that it has judged."""
        self.words.write(f"\n{LEFT}{entry}")
        self.words.flush()
        os._exit(0)

    def _watched(self, judgement: CheckPlan, rule: Rule) -> tuple[RuleResult | None, list[str]]:
        """Judge by a rule; what it has come to, and which global settings were others afterwards."""
        watch = Watch(judgement.port, self.gigabytes)
        with watched(may_draw="denoising_group" in rule.needs) as touched:
            outcome = self._contained(replace(judgement, port=watch.as_port()), rule)
        self.exhausted |= watch.exhausted
        return outcome, touched

    def _contained(self, judgement: CheckPlan, rule: Rule) -> RuleResult | None:
        """What the rule has come to, also where it broke off in the suite's own code."""
        try:
            return judgement.judge(rule)
        except MemoryError:  # what the port keeps leaves nothing for anybody else
            memory.lift()
            self.exhausted = True
            return RuleResult(rule, "error", out_of_memory(self.gigabytes))
        except PortTimeout as timeout:
            return RuleResult(rule, "error", str(timeout))

    def _blamed(self, outcome: RuleResult | None, touched: list[str]) -> RuleResult | None:
        """The outcome, or an error for what the port has done besides."""
        flooded = self.sink.flooded()
        if outcome is None or outcome.verdict == "fail":
            return outcome
        if flooded:  # its writes were refused in the end, and whatever it raised came from that
            reason = f"the port wrote more than {FLOOD // 10**6} MB to stdout or stderr"
            return replace(outcome, verdict="error", message=reason)
        if touched and outcome.verdict == "pass":
            reason = f"the port changed {' and '.join(touched)}, and left it so"
            return replace(outcome, verdict="error", message=reason)
        return outcome
