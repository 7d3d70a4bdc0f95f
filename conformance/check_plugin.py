"""The pytest plugin of `detr-conformance check`, loaded in the worker processes of pytest-xdist as well."""

from __future__ import annotations

import argparse
import signal
from pathlib import Path
from typing import Protocol, runtime_checkable

import pytest

from detr_conformance.halves import rule_id
from detr_conformance.isolation.worker import EXIT_LOG, GIVEN_UP, GRACE, PATIENCE, PLUGIN, Worker
from detr_conformance.options import CheckOptions
from detr_conformance.properties.port_under_test import PortTimeout

OPTION = "--conformance-check"
SHORTEST = 0.1
"""Seconds until the next look at what is left of a rule's time."""
ENTRY = "detr_conformance_entry"
"""The user property with a rule's entry of the report; empty where the rule was not judged."""


@runtime_checkable
class TimeoutSettings(Protocol):
    """What pytest-timeout says about an item: seconds, and whether a signal or a thread watches the clock."""

    timeout: float
    method: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """The one option that `check` passes on; it is written by a program."""
    parser.addoption(OPTION, help=argparse.SUPPRESS)


def options_of(config: pytest.Config) -> CheckOptions:
    """What `check` was asked for."""
    return CheckOptions.decoded(config.getoption(OPTION))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """In a worker process contain what the port does; after pytest's own plugins, two of which it stands in for."""
    workerinput = getattr(config, "workerinput", None)
    if workerinput is None:
        return
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is not None:
        capture.stop_global_capturing()  # it would keep all that a port writes, on disk and in memory
        config.pluginmanager.unregister(capture)
    log, memory = Path(workerinput[EXIT_LOG]), options_of(config).memory
    worker = Worker(log, memory, workerinput[GIVEN_UP], workerinput[PATIENCE])
    config.pluginmanager.register(worker, PLUGIN)


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: TimeoutSettings) -> bool | None:
    """Stop a rule in which the port takes too long by an exception that Hypothesis does not catch.

    Hypothesis would take pytest-timeout's own for a failure of the rule, and call the hanging port again to shrink it,
    this time without a clock. A worker process that does not come back even so is ended. Where there are no signals
    that is all that happens, and in a process of its own pytest-timeout goes its own way.
    """
    worker = Worker.of(item.config)
    limit = settings.timeout if worker is None else worker.limit(rule_id(item.nodeid), settings.timeout)
    if settings.method != "signal":
        if worker is not None:
            worker.start_watchdog(limit)
        return None if worker is None else True

    def start_clock(seconds: float) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        if worker is not None:
            worker.start_watchdog(seconds + GRACE)

    def give_up(_signal: int, _frame: object) -> None:
        if worker is None:
            raise PortTimeout(f"no answer within {limit:g} s: the port hangs, or needs a longer limit")
        left = worker.left(limit)
        if left <= 0.0:
            raise worker.out_of_time(limit)
        start_clock(max(left, SHORTEST))

    signal.signal(signal.SIGALRM, give_up)
    start_clock(limit)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> None:
    """Stop the clock."""
    worker = Worker.of(item.config)
    if worker is not None:
        worker.stop_watchdog()
    if hasattr(signal, "SIGALRM"):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
