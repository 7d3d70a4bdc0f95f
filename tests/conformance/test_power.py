"""The power of the rules is what `conformance/kills.json` says: the kills that are written there happen again."""

from __future__ import annotations

from statistics import median

import msgspec
import pytest

from detr_conformance import generated_power
from detr_conformance.cli import main
from detr_conformance.mutants import MUSEUM
from detr_conformance.power import (
    LEVELS,
    MUTANT,
    RULE,
    Kill,
    Matrix,
    Size,
    can_show,
    recorded,
    replay,
    untried,
    witnesses,
)
from detr_conformance.power_text import markdown, shortcomings
from detr_conformance.properties.judging import judge
from detr_conformance.properties.rules import RULES

from ..thorough import thorough_but

pytestmark = pytest.mark.usefixtures("shapes_unchecked")  # thousands of calls of the reference

MATRIX = recorded()


@pytest.mark.parametrize("rule", thorough_but(RULES[::2], RULES), ids=lambda rule: rule.id)
def test_a_rule_fails_the_mutants_that_it_is_the_witness_of(rule):
    pairs = [(witness, name) for witness, name in witnesses(MATRIX) if witness == rule.id]
    assert pairs
    assert replay(MATRIX, pairs) == []


def test_every_mutant_and_every_rule_has_a_witness():
    rules, names = map(set, zip(*witnesses(MATRIX), strict=True))
    assert (rules, names) == (set(RULE), set(MUTANT))


@pytest.mark.thorough
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_fails_what_it_has_been_seen_to_fail(rule):
    assert replay(MATRIX, [(rule.id, name) for name in MATRIX.caught_by(rule.id)]) == []


def test_the_matrix_is_about_these_rules_and_mutants():
    assert set(MATRIX.rules) == set(RULE), "run detr-conformance power, as CONTRIBUTING.md says"
    assert set(MATRIX.kills) == set(MUTANT), "run detr-conformance power, as CONTRIBUTING.md says"


def test_the_rules_are_as_strong_as_they_should_be():
    assert shortcomings(MATRIX) == []


def test_a_mutant_is_failed_by_a_rule_of_its_family():
    def families(name):
        return {RULE[rule].family for rule in MATRIX.kills[name]}

    assert [each.id for each in MUSEUM if each.family not in families(each.id)] == []


def test_nothing_is_failed_by_a_rule_that_cannot_see_it():
    pairs = [(RULE[rule], MUTANT[name]) for name, kills in MATRIX.kills.items() for rule in kills]
    assert all(can_show(rule, mutant) for rule, mutant in pairs)


@pytest.mark.parametrize("name", thorough_but([MUSEUM[0].id], [each.id for each in MUSEUM[::12]]))
def test_the_smallest_case_is_as_small_as_recorded(name):
    rule = min(MATRIX.kills[name], key=lambda rule: (RULE[rule].family != MUTANT[name].family, rule))
    level = MATRIX.kills[name][rule].level
    case = judge(RULE[rule], MUTANT[name].port(), level=level).case
    recorded = MATRIX.sizes[name]  # large where the mistake shows in nothing small
    assert case.images <= max(3, recorded.images)
    assert case.queries <= max(6, recorded.queries)


def test_the_smallest_cases_are_small():
    sizes = MATRIX.sizes.values()
    assert set(MATRIX.sizes) == set(MUTANT)
    assert median(size.images for size in sizes) <= 2
    assert median(size.queries for size in sizes) <= 4
    assert median(size.targets for size in sizes) <= 3


def test_every_mutant_changes_a_decision():
    assert [each.id for each in MUSEUM if not each.changes()] == []


def made_up(**changes):
    """A matrix in which all is well, with some changes."""
    kills = {name: {rule: Kill("smoke", 1) for rule in RULE} for name in MUTANT}
    sizes = dict.fromkeys(MUTANT, Size(1, 2, 3))
    return Matrix(**{"version": "0", "seed": 0, "rules": list(RULE), "kills": kills, "sizes": sizes} | changes)


def test_what_is_recorded_is_not_tried_again():
    assert list(untried(MATRIX)) == []
    without_rule = msgspec.structs.replace(MATRIX, rules=MATRIX.rules[1:])
    [(rule, names)] = untried(without_rule)
    assert rule == MATRIX.rules[0]
    assert set(names) == {each.id for each in MUSEUM if can_show(RULE[rule], each)}
    new = MUSEUM[0].id
    without_mutant = msgspec.structs.replace(
        MATRIX, kills={name: MATRIX.kills[name] for name in MATRIX.kills if name != new}
    )
    assert dict(untried(without_mutant)) == {rule.id: [new] for rule in RULES if can_show(rule, MUTANT[new])}


def test_all_can_be_well():
    assert shortcomings(made_up()) == []


def test_a_mutant_without_a_kill_is_named():
    kills = made_up().kills | {MUSEUM[3].id: {}}
    assert shortcomings(made_up(kills=kills)) == [f"level standard does not fail: {MUSEUM[3].id}"]


def test_too_few_kills_at_level_smoke_are_told():
    too_many = len(MUSEUM) // 9
    late = {name: {rule: Kill("standard", 20) for rule in RULE} for name in list(MUTANT)[:too_many]}
    [said] = shortcomings(made_up(kills=made_up().kills | late))
    assert said.startswith(f"level smoke fails {len(MUSEUM) - too_many} of {len(MUSEUM)} mutants")


def test_a_rule_without_a_kill_is_named():
    kills = {name: {rule: Kill("smoke", 1) for rule in RULE if rule != "BOX-02"} for name in MUTANT}
    assert shortcomings(made_up(kills=kills)) == ["rules that fail no mutant: BOX-02"]


def test_large_cases_are_told():
    [said] = shortcomings(made_up(sizes=dict.fromkeys(MUTANT, Size(1, 5, 3))))
    assert said.startswith("the median smallest case has 1 images, 5 queries, 3 targets")


def test_a_kill_that_does_not_happen_is_told():
    wrong = made_up(seed=0)
    harmless = next(each for each in MUSEUM if each.family == "NUM")
    untouched = next(rule for rule in MATRIX.rules if rule not in MATRIX.kills[harmless.id] and rule.startswith("BOX"))
    [said] = replay(wrong, [(untouched, harmless.id)])
    assert said.startswith(f"{untouched} does not fail {harmless.id} at level smoke: pass")


def test_the_document_is_that_of_the_matrix(pytestconfig):
    path = pytestconfig.rootpath / "docs" / "power.md"
    assert path.read_text(encoding="utf-8") == markdown(MATRIX, generated_power.recorded())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--jobs", "0"], "--jobs is 0, expected at least 1"),
        (["--add", "--seed", "1"], "argument --seed: not allowed with argument --add"),
        (["--seed", "-1"], "argument --seed: '-1', expected a whole number from 0 on"),
        (["--json", "/no/such/folder/kills.json"], "/no/such/folder/kills.json cannot be written"),
    ],
)
def test_a_wrong_argument_of_power_is_refused(arguments, said, capsys):
    assert main(["power", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_the_matrix_survives_json():
    assert msgspec.json.decode(msgspec.json.encode(MATRIX), type=Matrix) == MATRIX
    assert {kill.level for kills in MATRIX.kills.values() for kill in kills.values()} <= set(LEVELS)
