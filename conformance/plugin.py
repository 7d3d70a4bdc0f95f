"""The pytest plugin of every environment that has the suite: counts the verdicts of `parametrize_with_rules`.

It names the causes of those that are broken, too. A rule that is skipped because a port does not declare something
looks like a test that passed; the count shows it. pytest imports this module in every session, before any conftest: it
must not import what those want to hook into.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from detr_conformance.parametrize import RuleCheck

PROPERTY, BROKEN = "detr_conformance", "detr_conformance_broken"
"""The user properties of a test that judged a rule: its verdict, or `remark`, and the port after a space; and, of one
that is broken, the port and its entry of a report without what is large, as JSON."""


def pytest_configure(config: pytest.Config) -> None:
    """Start counting."""
    config.pluginmanager.register(Verdicts(), "detr_conformance_verdicts")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Note the verdict of a test that was given a rule."""
    try:
        return (yield)
    finally:
        for check in _checks(item):
            port = check.judgement.port.name
            item.user_properties.append((PROPERTY, f"{check.said} {port}"))
            if check.outcome is not None and check.outcome.is_broken:
                item.user_properties.append((BROKEN, json.dumps([port, check.outcome.in_short()])))


def _checks(item: pytest.Item) -> list[RuleCheck]:
    """The rules that a test has judged by; none unless its module uses `parametrize_with_rules`."""
    parametrize = sys.modules.get("detr_conformance.parametrize")
    callspec = getattr(item, "callspec", None)
    if parametrize is None or callspec is None:
        return []
    found = [each for each in callspec.params.values() if isinstance(each, parametrize.RuleCheck)]
    return [each for each in found if each.outcome is not None]


class Verdicts:
    """Counts the verdicts of a session by port; with pytest-xdist they arrive from the workers."""

    def __init__(self) -> None:
        """Nothing counted yet."""
        self.counts: dict[str, Counter[str]] = {}
        self.broken: dict[str, list[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count each verdict once."""
        for name, value in report.user_properties if report.when == "call" else ():
            if name == PROPERTY:
                verdict, _, port = str(value).partition(" ")
                self.counts.setdefault(port, Counter())[verdict] += 1
            if name == BROKEN:
                port, entry = json.loads(str(value))
                self.broken.setdefault(port, []).append(entry)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """A line for each port, and for each cause of what it breaks."""
        for port, verdicts in self.counts.items():
            counted = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
            terminalreporter.write_line(f"detr-conformance rules on {ascii(port)[1:-1]}: {counted}")
            for line in _causes(self.broken.get(port, [])):
                terminalreporter.write_line(f"  {line}")


def _causes(entries: list[str]) -> list[str]:
    """What is behind these entries, a line each."""
    if not entries:
        return []
    from detr_conformance.reports.causes import in_lines

    return in_lines(entries)
