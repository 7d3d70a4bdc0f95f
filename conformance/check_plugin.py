"""The pytest plugin of `detr-conformance check`, loaded in the worker processes of pytest-xdist as well."""

from __future__ import annotations

import argparse
import signal
from typing import Protocol, runtime_checkable

import pytest

from detr_conformance.options import CheckOptions
from detr_conformance.properties.judged import PortTimeout

OPTION = "--conformance-check"
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


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(settings: TimeoutSettings) -> bool | None:
    """Stop a rule that takes too long by an exception that Hypothesis does not catch.

    Hypothesis would take pytest-timeout's own for a failure of the rule, and call the hanging port again to shrink it,
    this time without a clock. Where there are no signals pytest-timeout goes its own way and ends the process.
    """
    if settings.method != "signal":
        return None

    def give_up(_signal: int, _frame: object) -> None:
        raise PortTimeout(
            f"no answer within {settings.timeout:g} s: the port hangs, or needs a longer limit (-- --timeout SECONDS)"
        )

    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, settings.timeout)
    return True


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_cancel_timer() -> None:
    """Stop the clock."""
    if hasattr(signal, "SIGALRM"):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
