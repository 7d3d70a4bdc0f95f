"""GRAD: gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.reference import Tracked

ANY = Request(targets=(0, 4))
SATURATED = replace(ANY, logit_scale=30.0, about_class=True, large=False)
SUFFIXES = ("", "_aux", "_dn", "_aux_dn")


@rule(
    "GRAD-01",
    source="derivatives of the losses named in CLASS-01 to CLASS-04",
    request=replace(ANY, about_class=True),
    needs={"gradients"},
)
def class_gradient(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_class with respect to every logit is the derivative of its formula; that of the varifocal
    weight counts where the profile says so."""
    for same in port.each_classification(case):
        expected, returned = port.expected(same), port.loss(same)
        for suffix in SUFFIXES:
            for name in sorted(returned.inputs().keys() & {"pred_scores", "dn_scores"}):
                returned.assert_gradient(f"loss_class{suffix}", name, expected[f"loss_class{suffix}"])


@rule("GRAD-02", source="derivative of the L1 distance", request=ANY, needs={"gradients"})
def l1_gradient(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_bbox with respect to a matched box is the gain times the signs of its differences, over the
    normaliser."""
    _assert_box_gradient(port, case, "loss_bbox")


@rule(
    "GRAD-03",
    source="Rezatofighi et al., GIoU, arXiv 1902.09630, algorithm 2, by the quotient rule",
    request=ANY,
    needs={"gradients"},
)
def giou_gradient(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_giou with respect to a matched box is the derivative of 1 - GIoU through intersection, union
    and hull, eps included, times the gain, over the normaliser."""
    _assert_box_gradient(port, case, "loss_giou")


@rule(
    "GRAD-04",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: box losses over matched pairs, matching is no term",
    request=replace(ANY, queries=(2, 8)),
    needs={"gradients"},
)
def no_other_gradient(port: PortUnderTest, case: LossCase) -> None:
    """Box losses have no gradient with respect to a logit or an unmatched box: matching is not differentiated, and
    nobody but a matched prediction is regressed."""
    expected, returned = port.expected(case), port.loss(case)
    for key in (f"loss_{term}{suffix}" for term in ("bbox", "giou") for suffix in SUFFIXES):
        for name, shape in returned.inputs().items():
            allowed = expected[key].gradients.get(name)
            untouched = np.full(shape.shape, True) if allowed is None else _is_nothing(allowed)
            stray = np.abs(returned.gradient(key, name)[untouched])
            worst = float(stray.max(initial=0.0))
            assert worst == 0.0, (
                f"gradient of {key} with respect to {name} must be 0 at every logit and unmatched box, "
                f"one there is {worst:.3g}"
            )


@rule(
    "GRAD-05",
    source="one gradient that is no number makes every weight of the model one: the losses have finite derivatives",
    request=SATURATED,
    needs={"gradients"},
)
def finite_gradients(port: PortUnderTest, case: LossCase) -> None:
    """Finite predictions give finite gradients of every classification loss, also for saturated logits, for boxes
    without area where the profile defines them, and for perfect predictions."""
    for kind in port.each_classification(case):
        _assert_finite_gradients(port, kind)


@rule(
    "GRAD-06",
    source="data-parallel training: every parameter must take part in every step",
    request=Request(all_empty=True, denoising="never"),
    needs={"gradients"},
)
def gradient_without_targets(port: PortUnderTest, case: LossCase) -> None:
    """In a batch without any target every logit still has the gradient of background, and no box has one. Whether the
    box losses are constants there or zeros connected to the predictions is left open."""
    expected, returned = port.expected(case), port.loss(case)
    returned.assert_gradients(expected, [key for key in expected if "_dn" not in key])


@rule(
    "GRAD-07",
    source="Rezatofighi et al., GIoU, arXiv 1902.09630, section 3: a gradient where boxes do not meet",
    request=Request(
        layers=(1, 2), images=(1, 1), queries=(1, 1), classes=(1, 2), targets=(1, 1), denoising="never", real=False
    ),
    needs={"gradients"},
)
def boxes_apart_are_pulled_together(port: PortUnderTest, case: LossCase) -> None:
    """A prediction that does not meet its target has a gradient of both box losses that moves its centre towards that
    of the target, on both axes and from either side."""
    target = np.array([0.5, 0.5, 0.125, 0.25])
    for away in ((0.25, 0.375), (-0.25, 0.375), (0.25, -0.375)):
        moved = target + np.array([*away, 0.0, 0.0])
        apart = case.change(gt_bboxes=target[None], pred_bboxes=np.tile(moved, (case.layers, 1, 1, 1)))
        returned = port.loss(apart)
        for key in ("loss_bbox", "loss_giou"):
            pull = returned.gradient(key, "pred_bboxes")[-1, 0, 0, :2]
            assert (pull * away > 0).all(), (
                f"a prediction {list(away)} away from its target has the gradient {pull.tolist()} of {key} with "
                f"respect to its centre, expected the signs of {list(away)}"
            )


@rule(
    "GRAD-08",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2: a sum over layers",
    request=replace(ANY, layers=(3, 4), targets=(1, 4), denoising="where declared"),
    needs={"gradients"},
)
def each_part_by_its_own_layers(port: PortUnderTest, case: LossCase) -> None:
    """Every part of the loss has the gradient of its formula with respect to its own layers, and none with respect to
    others: the main losses none to an auxiliary layer, the auxiliary ones none to the main layer, the denoising losses
    none to ordinary predictions, and the others none to those of denoising queries."""
    expected, returned = port.expected(case), port.loss(case)
    for key in returned.values:
        for name in returned.inputs():
            if name.startswith("dn") == key.endswith("_dn"):
                foreign = slice(-1, None) if "_aux" in key else slice(0, -1)
            else:
                foreign = slice(None)
            worst = float(np.abs(returned.gradient(key, name)[foreign]).max(initial=0.0))
            assert worst == 0.0, (
                f"gradient of {key} with respect to the layers of {name} that it does not look at is {worst:.3g}"
            )
    returned.assert_gradients(expected)


@rule(
    "GRAD-09",
    source="Lin et al., Focal Loss, arXiv 1708.02002, section 3.2: gamma >= 0, tried from 0.1 to 5",
    request=SATURATED,
    needs={"gradients"},
    varies={"gamma"},
    should="no recipe of the family has such a gamma: they train with 1.5 and 2",
)
def finite_gradients_for_a_small_gamma(port: PortUnderTest, case: LossCase) -> None:
    """With a gamma between 0 and 1 finite predictions give finite gradients too, also for saturated logits, where the
    derivative of (1 - p_t)^gamma grows beyond all bounds and is multiplied by a loss that vanishes faster."""
    for kind in port.each_classification(case):
        _assert_finite_gradients(port, kind.change(gamma=0.5))


def _is_nothing(gradient: Tracked) -> np.ndarray:
    """Where a gradient is 0 beyond doubt, and not merely exact, as a gain of 2 times a sign is."""
    return (gradient.values == 0.0) & (gradient.magnitude == 0.0)


def _assert_finite_gradients(port: PortUnderTest, case: LossCase) -> None:
    __tracebackhide__ = True
    returned = port.loss(case)
    for key in returned.values:
        for name in returned.inputs():
            gradient = returned.gradient(key, name)
            broken = np.argwhere(~np.isfinite(gradient))
            assert not len(broken), (
                f"gradient of {key} with respect to {name}{broken[0].tolist()} is {gradient[tuple(broken[0])]} with "
                f"{case.config.classification} loss and gamma {case.config.gamma}, expected a finite number"
            )


def _assert_box_gradient(port: PortUnderTest, case: LossCase, loss: str) -> None:
    __tracebackhide__ = True
    expected, returned = port.expected(case), port.loss(case)
    for suffix in SUFFIXES:
        for name in sorted(returned.inputs().keys() & {"pred_bboxes", "dn_bboxes"}):
            returned.assert_gradient(f"{loss}{suffix}", name, expected[f"{loss}{suffix}"])
