from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detr_conformance import parametrize_with_rules
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES

from ..properties.sample_cases import BASE_RULES
from . import sample_ports

pytest_plugins = ["pytester"]

TEST_FILE = """
    import sample_ports
    from detr_conformance import parametrize_with_rules

    @parametrize_with_rules(sample_ports.{port}, level="smoke")
    def test_conforms(rule):
        rule()
"""
COUNTED = "detr-conformance rules on {}: {}"


@pytest.fixture
def run_rules(pytester):
    """Runs a port's own test file."""
    pytester.makepyfile(sample_ports=(Path(__file__).parent / "sample_ports.py").read_text())

    def run(port, *arguments):
        pytester.makepyfile(TEST_FILE.format(port=port))
        return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)

    return run


def test_a_failure_shows_the_rule_and_neither_a_frame_nor_an_assertion_of_the_suite(run_rules):
    result = run_rules("wrong", "-k", "CLASS-01 or CLASS-11")
    result.assert_outcomes(failed=2, deselected=len(BASE_RULES) - 2)
    result.stdout.fnmatch_lines(["*CLASS-01 focal loss: The focal loss_class is*", "*loss_class: expected*"])
    result.stdout.fnmatch_lines(["*the target score of a query with IoU 0.5 is 0.5005, and may be off by*"])
    assert "parametrize.py" not in result.stdout.str()
    result.stdout.no_re_match_line(r"E +assert ")


def test_a_rule_passes_or_is_skipped_with_the_reason_and_both_are_counted(run_rules):
    asked = [rule for rule in RULES if rule.applies(PortUnderTest(sample_ports.modest))]
    result = run_rules("modest", "-rs", "-k", "API-01 or MATCH-01")
    result.assert_outcomes(passed=1, skipped=1, deselected=len(asked) - 2)
    result.stdout.fnmatch_lines_random(
        ["*MATCH-01 pairs: the port does not declare match", COUNTED.format("modest", "1 unsupported, 1 pass")]
    )


def test_a_should_that_does_not_hold_fails_no_test_and_is_counted_as_a_remark(run_rules):
    result = run_rules("careless", "-rx", "-k", "NUM-05 or API-01")
    result.assert_outcomes(passed=1, xfailed=1, deselected=len(BASE_RULES) - 2)
    counted = COUNTED.format("careless", "1 remark, 1 pass")
    result.stdout.fnmatch_lines_random(["*remark: NUM-05 non finite predictions stay visible: *", counted])


LISTED = '[[tool.detr-conformance.known-deviations]]\nrule = "{}"\nreason = "a thousandth too large"\n'


def test_a_rule_that_the_port_is_known_to_break_is_an_expected_failure(run_rules, pytester):
    pytester.makepyprojecttoml(LISTED.format("CLASS-01"))
    result = run_rules("wrong", "-rx", "-k", "CLASS-01 or API-01")
    result.assert_outcomes(passed=1, xfailed=1, deselected=len(BASE_RULES) - 2)
    counted = COUNTED.format("wrong", "1 xfail, 1 pass")
    result.stdout.fnmatch_lines_random(["*CLASS-01 focal loss: known: a thousandth too large*", counted])


def test_a_rule_that_is_listed_and_holds_fails_its_test(run_rules, pytester):
    pytester.makepyprojecttoml(LISTED.format("API-01"))
    result = run_rules("good", "-k", "API-01")
    result.assert_outcomes(failed=1, deselected=len(BASE_RULES) - 1)
    result.stdout.fnmatch_lines(["*listed as a known deviation, but it passes: remove it from the list*"])


def test_a_list_in_a_file_of_its_own_is_read(tmp_path):
    path = tmp_path / "known.toml"
    path.write_text(LISTED.format("API-01").replace("tool.detr-conformance.", ""))
    rules = parametrize_with_rules(ReferencePort(), level="smoke", known_deviations=path).args[1]
    [check] = next(each.values for each in rules if each.id == "API-01")
    with pytest.raises(AssertionError, match="listed as a known deviation, but it passes"):
        check()


def test_the_causes_are_named_at_the_end_and_an_exception_has_its_traceback(run_rules):
    result = run_rules("raising", "-k", "REG-01 or REG-02")
    result.stdout.fnmatch_lines(["*sample_ports.py, line *, in loss"])
    result.stdout.fnmatch_lines(["  1. RuntimeError: *, at sample_ports.py, line *, in loss (2 rules: REG-01, REG-02)"])


@pytest.mark.thorough
def test_an_error_in_another_process_is_counted(run_rules):
    pytest.importorskip("xdist")
    result = run_rules("raising", "-n", "1", "-k", "API-01")
    result.assert_outcomes(failed=1)
    assert r"detr-conformance rules on raising \x1b[31m: 1 error" in result.stdout.str()


def test_a_session_without_rules_says_nothing(pytester):
    pytester.makepyfile("def test_something(): pass")
    assert "rules on" not in pytester.runpytest("-p", "no:cacheprovider").stdout.str()


def test_loading_the_plugin_imports_nothing_that_a_conftest_may_want_to_hook_into():
    program = "import sys, detr_conformance.plugin as _; print(*(m for m in sys.modules if m.startswith('detr_conf')))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["detr_conformance", "detr_conformance.plugin"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"level": "huge"}, "level is 'huge', expected one of smoke"),
        ({"profile": "nobody"}, "profile is 'nobody', expected one of ultralytics"),
        ({"targets": "no/such/file"}, "cannot be read"),
        ({"known_deviations": "no/such/file"}, "no/such/file cannot be read"),
    ],
)
def test_an_argument_that_does_not_exist_is_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        parametrize_with_rules(ReferencePort(), **options)


def test_a_port_that_cannot_be_judged_is_refused():
    port = ReferencePort()
    port.capabilities = frozenset({"telepathy"})
    with pytest.raises(TypeError, match="unknown capability 'telepathy'"):
        parametrize_with_rules(port)
