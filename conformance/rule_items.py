"""The test module that `detr-conformance check` hands to pytest: one item for each rule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from detr_conformance.check_plan import CheckPlan, prepare
from detr_conformance.check_plugin import ENTRY, options_of
from detr_conformance.diagnosis.explaining import compared_with, explained
from detr_conformance.errors import UsageError
from detr_conformance.isolation.worker import Worker
from detr_conformance.known_deviations import apply
from detr_conformance.options import CheckOptions
from detr_conformance.packets.composing import Told
from detr_conformance.packets.files import keep
from detr_conformance.packets.new_process import told_in_new_process
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.port_under_test import PortTimeout
from detr_conformance.properties.rule import Rule
from detr_conformance.reports.composing import entry_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item for each rule that the port is judged by."""
    rules = prepare(options_of(metafunc.config)).rules
    metafunc.parametrize("rule", [pytest.param(rule, id=rule.id) for rule in rules])


def _told(outcome: RuleResult, plan: CheckPlan, options: CheckOptions) -> Told | None:
    """What happens in a new process: for a packet, and for the first failure of a kind, unless it needs earlier calls.

    The others of its kind are as it is, and each costs the start of a process.
    """
    if options.packets is None and outcome.kind in plan.learned(outcome.rule).told:
        return None
    account: Told | None = None
    with suppress(PortTimeout):  # the time of the rule is over
        account = told_in_new_process(outcome, options)
    if account is not None and account.broken and not account.earlier and outcome.kind is not None:
        plan.learned(outcome.rule).told.add(outcome.kind)
    return account


def test_rule(rule: Rule, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> None:
    """Judge the port by the rule. The entry travels as text: pytest-xdist carries it from worker to controller."""
    options, worker = options_of(pytestconfig), Worker.of(pytestconfig)
    plan = prepare(options)
    outcome = plan.judge(rule) if worker is None else worker.judge(plan, rule)
    if outcome is None:
        record_property(ENTRY, "")
        pytest.skip("the case lacks something that the rule assumes")
    entry, account = entry_of(outcome), None
    if outcome.verdict == "fail" and outcome.case is not None:
        entry = explained(entry, rule, plan.port, plan.profile, outcome.case)
        account = _told(outcome, plan, options)
        entry = compared_with(entry, account)
    entry = apply(entry, plan.known, on_all_cases=plan.case is None)
    text = msgspec.json.encode(entry).decode()
    if worker is not None and worker.unusable:
        worker.end_with(text)
    record_property(ENTRY, text)
    if options.packets is not None:
        with suppress(PortTimeout, UsageError):  # a port that hangs now, or a disk that is full: the entry is safe
            keep(outcome, plan.port, plan.profile, options, options.packets, account)
    if entry.verdict == "unsupported":
        pytest.skip(entry.message)
    if entry.verdict == "xfail" or entry.is_remark:
        pytest.xfail(entry.message)
    if entry.verdict != "pass":
        pytest.fail(f"{entry.verdict}: {entry.message}", pytrace=False)
