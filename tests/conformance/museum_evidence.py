"""Evidence about mutants of the museum: what `check` would ask a port that fails so."""

from __future__ import annotations

from itertools import islice

from detr_conformance.diagnosis.divergence import first_decision
from detr_conformance.diagnosis.explaining import cases_asked_about
from detr_conformance.power import LEVELS, MUTANT, RULE, recorded
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.judging import judge
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.strategies import Domain
from detr_conformance.properties.working import working

KILLS = recorded().kills
RULES_LOOKED_AT = 5


def killers(name):
    """The rules that fail a mutant, those of its own family and the quickest first."""
    family, kills = MUTANT[name].family, KILLS[name]

    def order(rule):
        return RULE[rule].family != family, LEVELS.index(kills[rule].level), kills[rule].cases, rule

    return sorted(kills, key=order)


def failures(mutant, spec=None, most=RULES_LOOKED_AT, port=None):
    """Rules that fail the mutant, or a port that makes its mistake, each with the first case on which it does.

    By default it is held to the mutant's home, as in all that follows.
    """
    spec = spec or mutant.home
    found, port = [], port or mutant.port(spec)
    for rule in map(RULE.get, killers(mutant.id)):
        if rule.applies(PortUnderTest(port, spec)):
            level = KILLS[mutant.id][rule.id].level
            outcome = judge(rule, port, spec, level=level, shrink=False)
            if outcome.verdict == "fail":
                found.append((rule, outcome.case))
        if len(found) == most:
            break
    return found


def divergence(mutant, spec=None):
    """The first decision that differs, on a case that the quickest rule asks about."""
    spec = spec or mutant.home
    for rule, case in failures(mutant, spec, most=1):
        for each in cases_asked_about(rule, mutant.port(spec), spec, case):
            found = first_decision(spec, mutant.of(spec), each)
            if found is not None:
                return found
    return None


def evidence(mutant, spec=None, port=None):
    """What `check` asks about a port that fails so: the mutant, or another port that makes its mistake."""
    spec = spec or mutant.home
    judged, cases = PortUnderTest(port or mutant.port(spec), spec), []
    domain = working(judged, Domain.of(judged))
    for rule, case in failures(mutant, spec, port=judged.port):
        cases += cases_asked_about(rule, judged.port, spec, case)[-3:]
        if rule.listing is None:
            cases += islice(pool(rule.request, domain, 0), 2)
    return list(dict.fromkeys(cases))
