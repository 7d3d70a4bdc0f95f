"""The test module that `detr-conformance check` hands to pytest: one item for each rule."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from detr_conformance.check_plugin import ENTRY, options_of
from detr_conformance.isolation.worker import Worker
from detr_conformance.judgement import prepare
from detr_conformance.properties.rule import Rule
from detr_conformance.report import RuleEntry


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One item for each rule that the port is judged by."""
    rules = prepare(options_of(metafunc.config)).rules
    metafunc.parametrize("rule", [pytest.param(rule, id=rule.id) for rule in rules])


def test_rule(rule: Rule, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> None:
    """Judge the port by the rule. The entry travels as text: pytest-xdist carries it from worker to controller."""
    judgement, worker = prepare(options_of(pytestconfig)), Worker.of(pytestconfig)
    outcome = judgement.judge(rule) if worker is None else worker.judge(judgement, rule)
    if outcome is None:
        record_property(ENTRY, "")
        pytest.skip("the case lacks something that the rule assumes")
    entry = RuleEntry.of(outcome)
    text = msgspec.json.encode(entry).decode()
    if worker is not None and worker.spoilt:
        worker.leave(text)
    record_property(ENTRY, text)
    if entry.verdict == "unsupported":
        pytest.skip(entry.message)
    if entry.verdict != "pass":
        pytest.fail(f"{entry.verdict}: {entry.message}", pytrace=False)
