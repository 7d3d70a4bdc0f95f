"""Generated mutants: the operators do what they say, and what became of the mutants is as recorded."""

from __future__ import annotations

import ast

import msgspec
import pytest

pytest.importorskip("torch", reason="the original is in PyTorch")

from detr_conformance import generated_power
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules import RULES

from ..thorough import thorough_but
from . import operators
from .confused_names import confused_name
from .figures import power_of
from .judging import BUILDING, RULE, SEED
from .mutants import all_mutants, replaced
from .mutated_port import original
from .probing import difference
from .results import of_outcome, recorded
from .survivors import REASONS

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

RESULTS = recorded()
KILLED = [name for name in of_outcome(RESULTS, "killed") if RESULTS[name].rule != BUILDING]
SAMPLE = KILLED[::20]
"""A thorough run judges these again, any other a few of them."""
EQUIVALENT = of_outcome(RESULTS, "equivalent")


def results_of(operator, source):
    """What an operator makes of the one statement in a source."""
    [statement] = ast.parse(source).body
    return {ast.unparse(each) for node in ast.walk(statement) for each in operator(node)}


@pytest.mark.parametrize(
    ("operator", "source", "expected"),
    [
        ("integer", "f(0)", {"1"}),
        ("integer", "f(1)", {"0", "2"}),
        ("integer", "f(2)", {"1", "3"}),
        ("real", "f(0.5)", {"0.25", "1.5"}),
        ("real", "f(1e-07)", {"0.0", "9.999999999999999e-05"}),
        ("boolean", "f(True)", {"False"}),
        ("term", "gain['bbox']", {"'giou'"}),
        ("comparison", "a < b", {"a <= b", "a > b"}),
        ("arithmetic", "a + b", {"a - b"}),
        ("arithmetic", "a += b", {"a -= b"}),
        ("dropped_operand", "a * b", {"a", "b"}),
        ("dropped_operand", "a and b", {"a", "b"}),
        ("swapped_operands", "a - b", {"b - a"}),
        ("swapped_operands", "a + b", set()),
        ("connective", "a and b", {"a or b"}),
        ("sign", "-a", {"a"}),
        ("condition", "x = a if b else c", {"a", "c"}),
        ("condition", "if a:\n    b()", {"if not a:\n    b()"}),
        ("index", "a[-1]", {"a[0]"}),
        ("index", "a[image]", {"a[image - 1]"}),
        ("slice_bounds", "a[:-1]", {":", ":-1 - 1", "1:", "-1:"}),
        ("swapped_arguments", "f(a, b, c)", {"f(b, a, c)", "f(a, c, b)"}),
        ("dropped_keyword", "f(a, dim=1)", {"f(a)"}),
        ("dropped_call", "a.clamp(min=0)", {"a"}),
        ("dropped_call", "torch.log(a)", {"a"}),
        ("other_name", "a.sum()", {"a.mean"}),
        ("added_detach", "a = f(b)", {"a = f(b).detach()"}),
        ("dropped_no_grad", "@torch.no_grad()\ndef f(): pass", {"def f():\n    pass"}),
        ("dropped_statement", "a[0] = b", {"pass"}),
        ("dropped_statement", "a = b", set()),
        ("shorter_loop", "for a in b: pass", {"for a in list(b)[1:]:\n    pass", "for a in list(b)[:-1]:\n    pass"}),
    ],
)
def test_an_operator_makes_what_it_says(operator, source, expected):
    assert results_of(getattr(operators, operator), source) == expected


def test_every_operator_is_tried_above():
    tried = {
        each.args[1][0][0] for each in test_an_operator_makes_what_it_says.pytestmark if each.name == "parametrize"
    }
    assert tried <= {each.__name__ for each in operators.OPERATORS}


def test_a_variable_is_taken_for_its_neighbour():
    [function] = ast.parse("def f(self, a, b):\n    x, y = a.unbind()\n    return x").body
    assert results_of(lambda node: confused_name(node, function), "return x * a * c") == {"y", "b"}


def test_a_replacement_leaves_the_tree_as_it_was():
    tree = ast.parse("f(a)[0]")
    path = (("body", 0), ("value", None), ("value", None), ("args", 0))
    assert ast.unparse(replaced(tree, path, ast.Name("b"))) == "f(b)[0]"
    assert ast.unparse(tree) == "f(a)[0]"


def test_the_original_is_not_accused():
    port = original()
    rules = [rule for rule in RULES if rule.applies(PortUnderTest(port))][::24]
    assert [rule.id for rule in rules if judge(rule, port, level="smoke", seed=1).verdict != "pass"] == []


def test_what_has_been_judged_is_a_mutant():
    assert set(RESULTS) <= set(all_mutants()), "run python -m tests.generated.run, as CONTRIBUTING.md says"


def test_every_survivor_is_explained():
    explained = [name for names in REASONS.values() for name in names]
    assert sorted(explained) == sorted(of_outcome(RESULTS, "survived"))


def test_the_figures_are_those_of_the_results():
    recorded_figures, figures = generated_power.recorded(), power_of(RESULTS)
    assert msgspec.to_builtins(recorded_figures) == msgspec.to_builtins(figures)


@pytest.mark.parametrize("name", thorough_but(SAMPLE[:: len(SAMPLE) // 6 + 1], SAMPLE))
def test_a_mutant_is_killed_as_recorded(name):
    known, port = RESULTS[name], all_mutants()[name].port()
    assert difference(port) == known.probe
    assert judge(RULE[known.rule], port, level=known.level, seed=SEED, shrink=False).verdict in ("fail", "error")


@pytest.mark.parametrize("name", thorough_but(EQUIVALENT[:1], EQUIVALENT[::20]))
def test_an_equivalent_mutant_answers_every_probe_as_the_original(name):
    assert difference(all_mutants()[name].port()) is None
