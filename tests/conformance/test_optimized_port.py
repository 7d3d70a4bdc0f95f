"""Our own fast loss, judged like anybody's."""

from __future__ import annotations

import pytest

from detr_conformance.options import CheckOptions
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES
from detr_conformance.resolve import resolve

pytest.importorskip("torch", reason="the fast loss is in PyTorch")

# Interpreted, a case takes a second; tests/optimized/test_kernels.py holds each kernel against plain torch besides.
RULES_OF_KERNELS = ("CLASS-01", "CLASS-02", "REG-02", "DN-01", "MATCH-01", "GRAD-01")
FAST = ["optimized", "optimized-native", "optimized-transformers", "optimized-transformers-dfine", "optimized-rtdetr"]
A_RULE_OF_EACH_PART = ("MATCH-01", "CLASS-02", "REG-01", "AUX-01", "DN-01", "GRAD-02", "GRAD-03", "API-01")
OF_DISTRIBUTIONS = ("DIST-01", "DIST-02", "DIST-09", "DIST-10")


@pytest.mark.usefixtures("shapes_unchecked")
@pytest.mark.parametrize("name", FAST)
def test_the_fast_loss_fails_no_rule_on_values_and_gradients(name):
    if name == "optimized-native":
        pytest.importorskip("numba")
    port, _ = resolve(CheckOptions(port=name))
    chosen = (*A_RULE_OF_EACH_PART, *(OF_DISTRIBUTIONS if "distributions" in port.capabilities else ()))
    rules = [rule for rule in RULES if rule.id in chosen]
    outcomes = {rule.id: judge(rule, port, level="smoke") for rule in rules}
    assert {name: each.message for name, each in outcomes.items() if each.verdict != "pass"} == {}
    assert len(outcomes) == len(chosen)


@pytest.mark.thorough
@pytest.mark.parametrize("name", FAST)
def test_the_fast_loss_is_conformant(name, check):
    run = check(name)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.splitlines()[-1].startswith("conformant: "), run.stdout


@pytest.mark.thorough
def test_its_kernels_pass_where_they_are_interpreted(check, monkeypatch):
    pytest.importorskip("triton", reason="needs Triton, which has builds for Linux alone")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    run = check("optimized-triton", "--", "--timeout", "300", "-k", " or ".join(RULES_OF_KERNELS))
    assert run.returncode == 0, run.stdout + run.stderr
    assert f": {len(RULES_OF_KERNELS)} pass, 0 fail, 0 error, 0 unsupported" in run.stdout
