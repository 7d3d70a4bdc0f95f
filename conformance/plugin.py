"""The pytest plugin of every environment that has the suite: counts the verdicts of `parametrize_with_rules`.

A rule that is skipped because a port does not declare something looks like a test that passed; the count shows it.
pytest imports this module in every session, before any conftest: it must not import what those want to hook into.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Generator

import pytest

PROPERTY = "detr_conformance"
"""The user property of a test that judged a rule: its verdict, or `remark`, and the port after a space."""


def pytest_configure(config: pytest.Config) -> None:
    """Start counting."""
    config.pluginmanager.register(Verdicts(), "detr_conformance_verdicts")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Note the verdict of a test that was given a rule."""
    try:
        return (yield)
    finally:
        item.user_properties += [(PROPERTY, verdict) for verdict in _verdicts(item)]


def _verdicts(item: pytest.Item) -> list[str]:
    """The verdicts that a test has reached; none unless its module uses `parametrize_with_rules`."""
    parametrize = sys.modules.get("detr_conformance.parametrize")
    callspec = getattr(item, "callspec", None)
    if parametrize is None or callspec is None:
        return []
    checks = [each for each in callspec.params.values() if isinstance(each, parametrize.RuleCheck)]
    return [f"{each.said} {each.judgement.port.name}" for each in checks if each.outcome is not None]


class Verdicts:
    """Counts the verdicts of a session by port; with pytest-xdist they arrive from the workers."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self.counts: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count each verdict once."""
        for name, value in report.user_properties if report.when == "call" else ():
            if name == PROPERTY:
                verdict, _, port = str(value).partition(" ")
                self.counts.setdefault(port, Counter())[verdict] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each port."""
        for port, verdicts in self.counts.items():
            counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
            terminalreporter.write_line(f"detr-conformance rules on {ascii(port)[1:-1]}: {counted}")
