"""CLASS: the classification loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.additions import append_empty_image
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import divisor
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import divides_by_counts, matches_alike
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import select_images

CLASS_KEYS = ("loss_class", "loss_class_aux", "loss_class_dn", "loss_class_aux_dn")
BOX_KEYS = ("loss_bbox", "loss_giou", "loss_bbox_aux", "loss_giou_aux")
WITH_TARGETS = Request(targets=(1, 4), about_class=True)


@rule(
    "CLASS-01",
    source="Lin et al., Focal Loss, arXiv 1708.02002, equation 5",
    request=replace(WITH_TARGETS, classification=("focal",)),
)
def focal_loss(port: PortUnderTest, case: LossCase) -> None:
    """The focal loss_class is the gain times the sum of a_t (1 - p_t)^gamma BCE(x, y) over all images, queries and
    classes, divided by the profile's normaliser; the queries without a target are background in every class. A
    negative alpha means that there is no a_t."""
    for same in (case, case.change(alpha=-1.0)) if port.may_be_asked(alpha=-1.0) else (case,):
        port.loss(same).assert_values(port.expected(same), CLASS_KEYS)


@rule(
    "CLASS-02",
    source="Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2",
    request=replace(WITH_TARGETS, classification=("varifocal",)),
)
def varifocal_loss(port: PortUnderTest, case: LossCase) -> None:
    """The varifocal loss_class is the gain times the sum of (alpha p^gamma (1 - y) + q) BCE(x, q), divided by the
    profile's normaliser, where q is the IoU (not the GIoU) of a matched prediction with its target."""
    port.loss(case).assert_values(port.expected(case), CLASS_KEYS)


@rule(
    "CLASS-03",
    source="Ultralytics DETRLoss, use_fl=False: cross-entropy averaged over the queries",
    request=replace(WITH_TARGETS, classification=("bce",)),
)
def cross_entropy_loss(port: PortUnderTest, case: LossCase) -> None:
    """Without use_fl, whatever use_vfl says, loss_class is the gain times the sum of the profile's cross-entropy,
    divided by its normaliser: by the base profile of BCE(x, q), divided by the number of queries and not by that of
    targets, where q is the IoU of a matched prediction with its target."""
    for use_vfl in (False, True):
        same = case.change(use_vfl=use_vfl)
        port.loss(same).assert_values(port.expected(same), CLASS_KEYS)


@rule(
    "CLASS-13",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1 and appendix A.4",
    request=replace(WITH_TARGETS, classification=("softmax",)),
)
def softmax_loss(port: PortUnderTest, case: LossCase) -> None:
    """The softmax loss_class is the gain times the weighted mean, over all queries, of the cross-entropy of C + 1
    logits against the class of the query's target, or the last column, no object, which has the weight 0.1."""
    port.loss(case).assert_values(port.expected(case), CLASS_KEYS)


@rule(
    "CLASS-14",
    source="Huang et al., DEIM, arXiv 2412.04234, section 3.3",
    request=replace(WITH_TARGETS, classification=("mal",)),
)
def matchability_aware_loss(port: PortUnderTest, case: LossCase) -> None:
    """The matchability-aware loss_class is the gain times the sum of (p^gamma (1 - y) + y) BCE(x, q^gamma), divided by
    the profile's normaliser, where q is the IoU of a matched prediction with its target."""
    port.loss(case).assert_values(port.expected(case), CLASS_KEYS)


@rule(
    "CLASS-15",
    source="Chen et al., LW-DETR, arXiv 2406.03459, section 3.3",
    request=replace(WITH_TARGETS, classification=("ia_bce",)),
)
def iou_aware_loss(port: PortUnderTest, case: LossCase) -> None:
    """The IA-BCE loss_class is the gain times the sum of BCE(x, t) over matched queries, t = max(p^alpha q^(1 - alpha),
    0.01) and q the IoU with the target, and of p^gamma BCE(x, 0) elsewhere, divided by the profile's normaliser."""
    port.loss(case).assert_values(port.expected(case), CLASS_KEYS)


@rule(
    "CLASS-04",
    source="Ultralytics DETRLoss: no varifocal loss without a target; lyuwenyu/RT-DETR keeps it",
    request=Request(all_empty=True, denoising="never", about_class=True),
)
def batch_without_targets(port: PortUnderTest, case: LossCase) -> None:
    """In a batch without any target every logit is background, over the profile's normaliser, which is 1 by most, and
    the classification loss is the one that the profile names: focal by the base profile, where varifocal is asked
    for."""
    for batch in (case, select_images(case, [0])):
        for same in port.each_classification(batch):
            port.loss(same).assert_values(port.expected(same), CLASS_KEYS)


@rule(
    "CLASS-05",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: weighted sum",
    request=WITH_TARGETS,
    varies={"loss_gain"},
    among=lambda spec: matches_alike(spec, "loss_gain"),
)
def class_gain(port: PortUnderTest, case: LossCase) -> None:
    """Where the profile's matcher does not follow the gains of the loss, doubling the class gain doubles loss_class in
    the main, auxiliary and denoising part, and changes no box loss."""
    gain = dict(case.config.loss_gain)
    doubled = case.change(loss_gain=gain | {"class": 2.0 * gain["class"]})
    expected, once, twice = port.expected(case), port.loss(case), port.loss(doubled)
    for key in CLASS_KEYS:
        twice.assert_alike(once, key, expected[key], factor=2.0)
    for key in BOX_KEYS:
        twice.assert_alike(once, key, expected[key])


@rule(
    "CLASS-06",
    source="Zhang et al., VarifocalNet, arXiv 2008.13367, equation 2: the IoU is a target",
    request=replace(WITH_TARGETS, classification=("varifocal", "bce", "mal", "ia_bce")),
    needs={"gradients"},
)
def target_score_is_a_constant(port: PortUnderTest, case: LossCase) -> None:
    """The IoU that serves as target score is a constant: loss_class has no gradient with respect to any box."""
    port.expected(case)
    returned = port.loss(case)
    for key in CLASS_KEYS:
        for name in returned.inputs():
            if name.endswith("bboxes"):
                gradient = returned.gradient(key, name)
                worst = float(np.abs(gradient).max(initial=0.0))
                assert worst == 0.0, (
                    f"gradient of {key} with respect to {name} must be 0 everywhere, its largest entry is {worst:.3g}"
                )


@rule(
    "CLASS-10",
    source="Lin et al., Focal Loss, arXiv 1708.02002, equation 3: alpha and 1 - alpha",
    request=replace(WITH_TARGETS, classification=("focal", "varifocal")),
    among=lambda spec: any(term.straight_in_alpha for term in spec.class_terms.values()),
    varies={"alpha"},
)
def alpha_is_a_balance(port: PortUnderTest, case: LossCase) -> None:
    """loss_class is a straight line in alpha, for alpha above 0, where it is by its formula: at the mean of two of them
    it is the mean of both losses."""
    if not port.class_term(case).straight_in_alpha:
        raise OutOfScope("this classification loss is no straight line in alpha")
    low, middle, high = (port.loss(case.change(alpha=alpha)) for alpha in (0.25, 0.5, 0.75))
    expected = port.expected(case.change(alpha=0.5))
    for key in CLASS_KEYS:
        between = 0.5 * float(low.value(key)) + 0.5 * float(high.value(key))
        middle.assert_number(key, between, expected[key])


@rule(
    "CLASS-12",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: unmatched queries are background",
    request=replace(WITH_TARGETS, queries=(4, 8), layers=(1, 2), denoising="never"),
    among=divides_by_counts,
)
def image_without_targets(port: PortUnderTest, case: LossCase) -> None:
    """An image without targets adds the background terms of all its logits to loss_class, over the profile's
    normaliser, and adds nothing to the box losses: (1 - alpha) p^gamma (-log(1 - p)) to the focal loss, with alpha for
    1 - alpha to the varifocal one, -log(1 - p) to cross-entropy, p^gamma (-log(1 - p)) to MAL and IA-BCE, and a tenth
    of -log p, p being the probability of no object, to softmax cross-entropy."""
    more = append_empty_image(case)
    before, after = (divisor(each, port.spec, "class") for each in (case, more))
    expected, once, again = port.expected(more), port.loss(case.change(denoising=None)), port.loss(more)
    for key, layers in (("loss_class", slice(-1, None)), ("loss_class_aux", slice(0, -1))):
        closed_form, of_layers = port.class_term(case).closed_form, case.pred_scores[layers, 0]
        terms = [sum(closed_form(logits, None, 0.0, port.config(case)) for logits in queries) for queries in of_layers]
        background = port.config(case).loss_gain["class"] * (port.spec.layers.total(terms) if terms else 0.0)
        again.assert_alike(once, key, expected[key], before / after, more=background / after)
    for key in BOX_KEYS:
        again.assert_alike(once, key, expected[key])
