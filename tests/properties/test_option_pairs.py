"""Every two values of two options meet in some case of API-18, but for those that define no loss together."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import pytest

from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.power import RULE
from detr_conformance.properties import oracle
from detr_conformance.properties.covering import covering_array
from detr_conformance.properties.judging import judge
from detr_conformance.properties.option_pairs import (
    ALPHAS,
    DENOISING,
    GAINS,
    GAMMAS,
    HALF,
    QUERIES,
    ROWS_AT_SMOKE,
    cases_of_pairs,
    counts_of,
    factors_of,
    rows_for,
)
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.rules.pairs import PAIRS
from detr_conformance.properties.working import domain_for
from detr_conformance.reference import FAMILY, ULTRALYTICS

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

NEVER_TOGETHER = {
    *(("layers", 1, "shared", which) for which in ("first", "last")),
    *(("targets", "none", "denoising", groups) for groups in DENOISING[:-1]),
    *(("denoising", groups, "aux_loss", False) for groups in DENOISING[:-1]),
    *(("gains", gains, "dtype", "float16") for gains in GAINS[1:]),
}
"""One layer has no auxiliary one; no generator makes queries for no target; packages differ in what is left of
denoising losses without auxiliary ones; float16 ends at 65504."""
OF_DEIM = {("classification", "mal", "gamma", 0.0)}


def array_of(spec=ULTRALYTICS, **declared):
    port = ReferencePort(spec)
    for name, value in declared.items():
        setattr(port, name, value)
    judged = PortUnderTest(port)
    domain = domain_for(PAIRS, judged)
    return factors_of(domain, judged), list(rows_for(domain, judged))


def missing(factors, rows):
    """Every two values that are in no row together."""
    found = set()
    for one, other in combinations(factors, 2):
        met = {(row[one], row[other]) for row in rows}
        found |= {(one, a, other, b) for a, b in product(factors[one], factors[other]) if (a, b) not in met}
    return {pair if pair[0] in FIRST else (*pair[2:], *pair[:2]) for pair in found}


FIRST = ("layers", "targets", "gains", "classification")


@pytest.mark.parametrize("name", ["ultralytics", "detr", "dfine", "deim", "lwdetr"])
def test_only_what_defines_no_loss_together_never_meets(name):
    factors, rows = array_of(FAMILY[name])
    impossible = NEVER_TOGETHER | (OF_DEIM if name == "deim" else set())
    known = {pair for pair in impossible if pair[1] in factors[pair[0]] and pair[3] in factors[pair[2]]}
    assert missing(factors, rows) == known
    assert len(rows) <= 45


def test_a_row_shows_a_pair_only_where_no_other_option_hides_it():
    _, rows = array_of()
    in_full = [row for row in rows if row["dtype"] not in HALF and row["gains"][0] > 0.0]
    showing = [row for row in in_full if row["classification"] != "bce"]
    assert {(row["gamma"], row["alpha"]) for row in showing} == set(product(GAMMAS, ALPHAS))


def test_a_port_is_asked_for_what_it_declares_alone():
    only = {"capabilities": frozenset({"focal"}), "dtypes": frozenset({"float32"}), "options": {"gamma": (2.0,)}}
    _, rows = array_of(**only)
    asked = {name: {row[name] for row in rows} for name in ("classification", "gamma", "denoising", "shared", "dtype")}
    values = ({"focal"}, {2.0}, {(0, False)}, {"no"}, {"float32"})
    assert asked == dict(zip(asked, values, strict=True))


def test_smoke_goes_through_all_rows_from_seed_to_seed():
    judged = PortUnderTest(ReferencePort())
    rows = len(list(rows_for(domain_for(PAIRS, judged), judged)))
    first, again = (list(cases_of_pairs(PAIRS, judged, "smoke", seed)) for seed in (0, rows))
    assert len(first) == ROWS_AT_SMOKE
    assert [case.config for case in first] == [case.config for case in again]
    assert list(cases_of_pairs(PAIRS, judged, "smoke", 1)) != first


@pytest.mark.parametrize("name", ["ultralytics", "dfine", "lwdetr"])
def test_who_is_matched_is_certain_in_every_case(name):
    judged = PortUnderTest(ReferencePort(FAMILY[name]))
    cases = list(cases_of_pairs(PAIRS, judged, "standard", 0))
    assert all(oracle.matching_is_certain(case, judged.spec) for case in cases)


def test_targets_are_none_or_one_or_more_than_queries():
    assert counts_of("none", 2, 5) == (0, 0)
    assert counts_of("one", 2, 5) == (0, 1)
    assert all(max(counts_of("more than queries", 1, queries)) > queries for queries in QUERIES)


def test_what_fails_ends_small():
    main_halved = replace(ULTRALYTICS.layers, main=lambda stack: [*[0.0] * (stack.count - 1), 0.5])
    port = ReferencePort(replace(ULTRALYTICS, layers=main_halved), "halved", profile=ULTRALYTICS)
    outcome = judge(RULE["API-18"], port, level="smoke")
    assert (outcome.verdict, outcome.case.layers, outcome.case.images, outcome.case.config.nc) == ("fail", 1, 1, 1)


def test_a_pair_that_no_row_shows_is_left_out():
    def hidden(row):
        return [("a", "c"), ("b", "c")] if row.get("c") == 1 else []

    def allowed(row):
        return "a" not in row or row.get("c") != 0

    rows = list(covering_array({"a": (0, 1), "b": (0, 1), "c": (0, 1)}, allowed, hidden))
    assert sorted((row["a"], row["c"]) for row in rows) == [(0, 1), (1, 1)]


def test_a_port_whose_gains_are_too_large_for_float16_is_judged_in_other_dtypes():
    _, rows = array_of(options={"loss_gain": ({"class": 20.0, "bbox": 5.0, "giou": 2.0},)})
    assert {row["dtype"] for row in rows} == {"float32", "float64", "bfloat16"}
