"""What a class term says of itself is what its terms compute: rules hold ports to both."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from detr_conformance.reference import FAMILY, LossConfig
from detr_conformance.reference.tape import gradients, variable

TERMS = {f"{spec.name} {name}": term for spec in FAMILY.values() for name, term in spec.class_terms.items()}
LOGITS = (-40.0, -3.0, 0.0, 0.7, 2.0, 40.0)
CONFIGS = [LossConfig(nc=1, gamma=gamma, alpha=alpha) for gamma, alpha in product((0.0, 1.0, 1.5, 2.0), (0.25, 0.75))]

every_term = pytest.mark.parametrize("term", TERMS.values(), ids=TERMS)


def value(term, x, y, q, config) -> float:
    """The term of one query and one class."""
    arguments = (np.full((1, 1, 1), float(each)) for each in (x, y, q))
    return term.terms(term, *arguments, config).item()


@every_term
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_closed_form_of_a_matched_query_is_its_term(term, config):
    for x, iou in product(LOGITS, (0.0, 0.3, 1.0)):
        expected = pytest.approx(value(term, x, 1, iou, config), rel=1e-9, abs=1e-15)
        assert term.matched(x, iou, config) == expected


@every_term
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_closed_form_of_the_background_is_its_term(term, config):
    expected = [value(term, x, 0, 0, config) for x in LOGITS]
    assert term.background(np.array(LOGITS), config) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@every_term
def test_a_term_reads_what_it_says_it_reads(term):
    usual, other = CONFIGS[3], CONFIGS[6]
    by_score = {value(term, 0.7, 1, q, usual) for q in (0.2, 0.6)}
    by_options = {value(term, 0.7, 0, 0, config) for config in (usual, other)}
    assert (len(by_score) == 2) == term.reads_score
    assert (len(by_options) == 2) == term.reads_options


@every_term
def test_the_score_is_read_off_where_its_probe_says(term):
    assert (term.probe is not None) == term.reads_score
    if term.probe is None:
        return
    for y, q in product((1,), (0.2, 0.6, 1.0)):
        loss = value(term, term.probe.logit, y, q, LossConfig(nc=1))
        assert term.probe.score(loss) == pytest.approx(q, rel=1e-12)
    slope = value(term, term.probe.logit, 1, 0.6, LossConfig(nc=1)) - value(
        term, term.probe.logit, 1, 0.2, LossConfig(nc=1)
    )
    assert abs(slope) == pytest.approx(0.4 * abs(term.probe.slope), rel=1e-12)


@every_term
def test_a_term_that_is_straight_in_alpha_has_no_bend_there(term):
    at = [sum(value(term, 0.7, y, 0.5 * y, LossConfig(alpha=alpha)) for y in (0, 1)) for alpha in (0.2, 0.4, 0.6)]
    assert at[1] == pytest.approx((at[0] + at[2]) / 2, rel=1e-12)
    assert term.straight_in_alpha == (at[0] != at[2] and term.reads_options)


def test_rtdetrs_varifocal_weight_is_a_constant_and_the_bases_is_not():
    slopes = []
    for name in ("ultralytics", "rtdetr"):
        term, x = FAMILY[name].class_terms["varifocal"], variable(np.full((1, 1, 1), 0.7))
        zero = np.zeros((1, 1, 1))
        [slope] = gradients(np.sum(term.terms(term, x, zero, zero, LossConfig(gamma=2.0, alpha=0.75))), [x])
        slopes.append(slope.values.item())
    p = 1 / (1 + np.exp(-0.7))
    constant, through = 0.75 * p**2 * p, 0.75 * 2 * p**2 * (1 - p) * -np.log(1 - p)
    assert slopes == pytest.approx([constant + through, constant])
