"""At which step of a trace each function of the reference shows, and evidence about deviations of the museum."""

from __future__ import annotations

from itertools import islice

from detr_conformance.diagnosis.explaining import cases_asked_about, divergence_of
from detr_conformance.power import DEVIATION, LEVELS, RULE, recorded
from detr_conformance.properties.drawing import pool
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.profiles import ULTRALYTICS
from detr_conformance.properties.run import run
from detr_conformance.properties.strategies import Domain

KILLS = recorded().kills

# A function that does several steps may have been changed in any of them.
STEPS_OF = {
    "get_cdn_group": {"denoising layout", "denoising noise"},
    "HungarianMatcher.cost_terms": {"cost terms"},
    "HungarianMatcher.focal_class_cost": {"cost terms"},
    "HungarianMatcher.softmax_class_cost": {"cost terms"},
    "HungarianMatcher.iou_eps": {"cost terms"},
    "HungarianMatcher.cost": {"cost", "cost terms"},
    "HungarianMatcher.replace_non_finite": {"cost"},
    "HungarianMatcher.assign": {"matching"},
    "HungarianMatcher.__call__": {"matching", "cost terms"},
    "DETRLoss._match": {"matching"},
    "DETRLoss._shared_layer": {"matching", "cost terms"},
    "RTDETRDetectionLoss.get_dn_match_indices": {"matching"},
    "DETRLoss._target_scores": {"scores"},
    "DETRLoss.iou_eps": {"scores", "box losses"},
    "DETRLoss._uses_varifocal": {"class terms"},
    "FocalLoss._balance": {"class terms"},
    "FocalLoss.terms": {"class terms"},
    "FocalLoss.slopes": {"gradients", "class terms"},
    "VarifocalLoss._weight": {"class terms"},
    "VarifocalLoss._weight_slope": {"gradients"},
    "VarifocalLoss.terms": {"class terms"},
    "VarifocalLoss.slopes": {"gradients", "class terms"},
    "DETRLoss._get_loss_class": {"class terms", "class loss"},
    "DETRLoss._get_loss_bbox": {"box losses", "gradients"},
    "DETRLoss._get_loss": {"normaliser", "targets", "scores", "class loss", "box losses", "totals", "gradients"},
    "DETRLoss._get_loss_aux": {"layers", "totals", "gradients", "matching", "cost terms"},
    "RTDETRDetectionLoss._denoising_losses": {"layers", "totals", "gradients"},
    "RTDETRDetectionLoss.forward": {"layers", "totals", "gradients"},
    "DETRLoss.__init__": {"layers", "cost terms", "cost", "matching", "class terms", "class loss", "box losses"},
}


def killers(name, most=5):
    """The rules that fail a deviation, those of its own family and the quickest first."""
    family, kills = DEVIATION[name].family, KILLS[name]

    def order(rule):
        return RULE[rule].family != family, LEVELS.index(kills[rule].level), kills[rule].cases, rule

    return sorted(kills, key=order)[:most]


def failing_case(deviation, rule):
    """The first case on which a rule fails a deviation."""
    outcome = run(RULE[rule], deviation.port(), level=KILLS[deviation.id][rule].level, shrink=False)
    assert outcome.verdict == "fail", outcome.message
    return outcome.case


def divergence(deviation):
    """Where the numbers part on the case of its quickest rule."""
    rule = killers(deviation.id)[0]
    return divergence_of(RULE[rule], deviation.port(), ULTRALYTICS, failing_case(deviation, rule))


def evidence(deviation):
    """What `check` asks about a port that fails so."""
    port, cases = deviation.port(), []
    for rule in killers(deviation.id):
        cases += cases_asked_about(RULE[rule], port, ULTRALYTICS, failing_case(deviation, rule))[-3:]
        if RULE[rule].listing is None:
            cases += islice(pool(RULE[rule].request, Domain.of(Judged(port)), 0), 2)
    return list(dict.fromkeys(cases))
