"""What a class term says of itself is what its terms compute: rules hold ports to both."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from detr_conformance.reference import FAMILY, LossConfig
from detr_conformance.reference.tape import gradients, variable

TERMS = {f"{spec.name} {name}": (spec, term) for spec in FAMILY.values() for name, term in spec.class_terms.items()}
LOGITS = (-40.0, -3.0, 0.0, 0.7, 2.0, 40.0)
OPTIONS = list(product((0.0, 1.0, 1.5, 2.0), (0.25, 0.75)))
CLASSES = 2

every_term = pytest.mark.parametrize(("spec", "term"), TERMS.values(), ids=TERMS)


def value(term, x, y, q, config) -> float:
    """The term of one query and one class."""
    arguments = (np.full((1, 1, 1), float(each)) for each in (x, y, q))
    return term.terms(term, *arguments, config).item()


def of_query(term, logits, label, iou, config) -> float:
    """The terms of all columns of one query; the label of background is one beyond the last class."""
    y = (np.arange(len(logits)) == label).astype(float)
    return float(term.terms(term, *(each[None, None] for each in (logits, y, iou * y)), config).sum())


@every_term
@pytest.mark.parametrize(("gamma", "alpha"), OPTIONS)
def test_the_closed_form_of_a_query_is_the_sum_of_its_terms(spec, term, gamma, alpha):
    config = LossConfig(nc=CLASSES, gamma=gamma, alpha=alpha)
    for logits in map(np.array, product(LOGITS, repeat=spec.columns(CLASSES))):
        for label, iou in ((0, 0.0), (1, 0.3), (0, 1.0), (CLASSES, 0.0)):
            rounding = 1e-15 * (1.0 + np.abs(logits).max())
            expected = pytest.approx(of_query(term, logits, label, iou, config), rel=1e-9, abs=rounding)
            assert term.closed_form(logits, None if label == CLASSES else label, iou, config) == expected


@every_term
def test_a_term_reads_what_it_says_it_reads(spec, term):
    usual, other = (LossConfig(nc=CLASSES, gamma=gamma, alpha=alpha) for gamma, alpha in (OPTIONS[3], OPTIONS[6]))
    logits = np.linspace(0.7, -0.2, spec.columns(CLASSES))
    by_score = {of_query(term, logits, 0, q, usual) for q in (0.2, 0.6)}
    by_options = {of_query(term, logits, CLASSES, 0.0, config) for config in (usual, other)}
    assert (len(by_score) == 2) == term.reads_score
    assert (len(by_options) == 2) == term.reads_options


@pytest.mark.parametrize("term", [term for _, term in TERMS.values()], ids=TERMS)
def test_the_score_is_read_off_where_its_probe_says(term):
    assert term.probe is None or term.reads_score
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
def test_a_term_that_is_straight_in_alpha_has_no_bend_there(spec, term):
    logits = np.linspace(0.7, -0.2, spec.columns(CLASSES))
    at = [of_query(term, logits, 0, 0.5, LossConfig(nc=CLASSES, alpha=alpha)) for alpha in (0.2, 0.4, 0.6)]
    is_straight = at[1] == pytest.approx((at[0] + at[2]) / 2, rel=1e-12)
    assert term.straight_in_alpha == (is_straight and at[0] != at[2])


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
