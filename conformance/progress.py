"""Follows a pytest session rule by rule, in the process that was started, whichever process judges."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from detr_conformance.check_plan import CheckPlan
from detr_conformance.check_plugin import ENTRY
from detr_conformance.console import Display
from detr_conformance.errors import one_line
from detr_conformance.halves import rule_id
from detr_conformance.isolation.workers import Workers
from detr_conformance.known_deviations import apply
from detr_conformance.properties.judging import RuleResult
from detr_conformance.report import RuleEntry
from detr_conformance.reports.composing import entry_of


class Progress:
    """A pytest plugin that collects the entries of the report and shows each as it arrives.

    Args:
        plan: what is being judged.
        display: where rows are shown.
        workers: the processes that judge.

    Attributes:
        entries: what came of each rule, by its id.
        interrupted: somebody pressed ctrl-C.
        cut_short: pytest was told to stop early, by -x for instance.
        unshown: why nothing can be shown any more: a full disk behind stdout, or nobody who reads it.
        chatter: what pytest would have printed.
    """

    def __init__(self, plan: CheckPlan, display: Display, workers: Workers) -> None:
        """Nothing has happened yet."""
        self.plan = plan
        self.workers = workers
        self.rules = {rule.id: rule for rule in plan.rules}
        self.display = display
        self.entries: dict[str, RuleEntry] = {}
        self.interrupted = self.cut_short = False
        self.unshown: BaseException | None = None
        self.chatter = io.StringIO()

    @property
    def in_order(self) -> list[RuleEntry]:
        """The entries in the order of the rules, whoever was quicker."""
        return [self.entries[rule] for rule in self.rules if rule in self.entries]

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Let pytest's own reporter talk to nobody: options such as -v and --tb belong to it, so it has to stay."""
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            config.pluginmanager.unregister(reporter)
            config.pluginmanager.register(type(reporter)(config, self.chatter), "terminalreporter")

    def pytest_sessionstart(self) -> None:
        """Pytest has understood its arguments."""
        self.show(self.display.opening, self.plan)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the entry out of an item's report, or write one for an item that broke off."""
        text = _taken(report)
        rule = self.rules.get(rule_id(report.nodeid))
        if rule is None or rule.id in self.entries:
            return
        if text:
            self._add(msgspec.json.decode(text, type=RuleEntry))
        elif text is None and not report.passed:
            self._add(entry_of(RuleResult(rule, "error", f"the rule could not be judged: {_reason(report)}")))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: pytest.TestReport) -> None:
        """Give the report of an item whose process has ended an entry: its own last, or one that says why it ended."""
        node: Any = getattr(report, "node")  # noqa: B009  # pytest-xdist adds it; pytest's class has no such attribute
        text, cause = self.workers.lose(node, rule_id(crashitem), node.config.getoption("timeout"))
        rule = self.rules.get(rule_id(crashitem))
        if rule is not None:
            entry = msgspec.json.decode(text, type=RuleEntry) if text else entry_of(RuleResult(rule, "error", cause))
            report.user_properties.append((ENTRY, msgspec.json.encode(entry).decode()))
            report.longrepr = f"{entry.verdict}: {entry.message}"

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Remember that the run is not complete, and wait for nobody. Its subclass means that -x was met."""
        self.interrupted = excinfo.type is KeyboardInterrupt
        self.cut_short = issubclass(excinfo.type, KeyboardInterrupt) and not self.interrupted
        if self.interrupted:
            self.workers.end()

    def close_gaps(self) -> None:
        """An entry for every rule that was to be judged and had nobody left to judge it."""
        reason = "" if self.interrupted or self.cut_short else self.workers.abandoned
        for rule in map(self.rules.get, map(rule_id, self.workers.selected)) if reason else ():
            if rule is not None and rule.id not in self.entries:
                self._add(entry_of(RuleResult(rule, "error", reason)))

    def show(self, what: Callable[..., None], *arguments: Any) -> None:
        """Show something, and go on where that cannot be: the report matters more."""
        if self.unshown is None:
            try:
                what(*arguments)
            except (OSError, SystemExit) as error:  # SystemExit: rich ends programs that nobody reads
                self.unshown = error

    def _add(self, entry: RuleEntry) -> None:
        # Once more for rules whose worker died: what is applied already stays as it is.
        entry = apply(entry, self.plan.known, on_all_cases=self.plan.case is None)
        self.entries[entry.id] = entry
        if entry.verdict in ("pass", "fail"):
            self.workers.answered(entry.id)
        self.show(self.display.row, entry)


def _taken(report: pytest.TestReport) -> str | None:
    """The entry's text; what else reads the report, a JUnit file for instance, has no use for it."""
    found = [str(value) for name, value in report.user_properties if name == ENTRY]
    report.user_properties = [each for each in report.user_properties if each[0] != ENTRY]
    return found[-1] if found else None


def _reason(report: pytest.TestReport) -> str:
    """Why an item has no entry: its worker died, or the suite itself raised."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return one_line(report.longrepr if crash is None else crash.message)
