"""Follows a pytest session rule by rule, in the process that was started, whichever process judges."""

from __future__ import annotations

import io
import re

import msgspec
import pytest

from detr_conformance.check_plugin import ENTRY
from detr_conformance.console import Display
from detr_conformance.errors import one_line
from detr_conformance.judgement import Judgement
from detr_conformance.properties.run import Outcome
from detr_conformance.report import RuleEntry


class Progress:
    """A pytest plugin that collects the entries of the report and shows each as it arrives.

    Args:
        judgement: what is being judged.
        display: where rows are shown.

    Attributes:
        entries: what came of each rule, by its id.
        interrupted: somebody pressed ctrl-C.
        chatter: what pytest would have printed.
    """

    def __init__(self, judgement: Judgement, display: Display) -> None:
        """Nothing has happened yet."""
        self.judgement = judgement
        self.rules = {rule.id: rule for rule in judgement.rules}
        self.display = display
        self.entries: dict[str, RuleEntry] = {}
        self.interrupted = False
        self.chatter = io.StringIO()

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Let pytest's own reporter talk to nobody: options such as -v and --tb belong to it, so it has to stay."""
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            config.pluginmanager.unregister(reporter)
            config.pluginmanager.register(type(reporter)(config, self.chatter), "terminalreporter")

    def pytest_sessionstart(self) -> None:
        """Pytest has understood its arguments."""
        self.display.opening(self.judgement)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the entry out of an item's report, or write one for an item that broke off."""
        text = _taken(report)
        rule = self.rules.get(_rule_id(report.nodeid))
        if rule is None or rule.id in self.entries:
            return
        if text:
            self._add(msgspec.json.decode(text, type=RuleEntry))
        elif text is None and not report.passed:
            self._add(RuleEntry.of(Outcome(rule, "error", f"the rule could not be judged: {_reason(report)}")))

    def pytest_keyboard_interrupt(self) -> None:
        """Remember that the run is not complete."""
        self.interrupted = True

    def _add(self, entry: RuleEntry) -> None:
        self.entries[entry.id] = entry
        self.display.row(entry)


def _taken(report: pytest.TestReport) -> str | None:
    """The entry's text; what else reads the report, a JUnit file for instance, has no use for it."""
    found = [str(value) for name, value in report.user_properties if name == ENTRY]
    report.user_properties = [each for each in report.user_properties if each[0] != ENTRY]
    return found[-1] if found else None


def _rule_id(nodeid: str) -> str:
    match = re.search(r"\[([^\[\]]+)\]$", nodeid)
    return match[1] if match else ""


def _reason(report: pytest.TestReport) -> str:
    """Why an item has no entry: its worker died, or the suite itself raised."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return one_line(report.longrepr if crash is None else crash.message)
