"""DIST: distributions of box sides, and D-FINE's two losses of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_distributions import Distributions
from detr_conformance.properties.divisors import keys_of
from detr_conformance.properties.failing_where import failing_where
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.posed_distributions import NEXT_TO_NONE, POSES, Masses, layers_with, posed
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.staged import CLAIM, staged
from detr_conformance.properties.tolerance import rounded
from detr_conformance.properties.transforms import many_images, map_corners, with_transposed_targets
from detr_conformance.reference import LossSpec
from detr_conformance.reference.distributions import BINS, SIDES, TEMPERATURE

FGL = "Peng et al., D-FINE, arXiv 2410.13842, equation 8"
DDF = "Peng et al., D-FINE, arXiv 2410.13842, equation 9"
NEEDS = frozenset({"distributions"})
MANY_PAIRS = 129
FIRST, SECOND = 3, 20
"""Two bins."""

ANY = Request(queries=(2, 8), classes=(2, 5), real=False, extra="always")
ON_STAGE = Request(
    layers=(3, 4),
    images=(1, 3),
    queries=(3, 6),
    targets=(1, 3),
    denoising="never",
    special=(),
    real=False,
    extra="always",
)


def localises(spec: LossSpec) -> bool:
    """Whether the spec has FGL."""
    return "fgl" in spec.extra_terms


def distils(spec: LossSpec) -> bool:
    """Whether the spec has DDF."""
    return "ddf" in spec.extra_terms


@rule("DIST-01", source=FGL, request=ANY, needs=NEEDS, among=localises)
def localisation_loss(port: PortUnderTest, case: LossCase) -> None:
    """loss_fgl is the cross-entropy of each side's distribution with the two bins next to the offset of the target from
    the reference box, each by its nearness, times the IoU of the predicted box; summed over pairs, over the
    normaliser."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, keys_of(expected, "fgl"))


@rule("DIST-02", source=DDF, request=ANY, needs=NEEDS, among=distils)
def distillation_loss(port: PortUnderTest, case: LossCase) -> None:
    """loss_ddf is the divergence of each side's distribution from the last layer's at temperature 5, times 25, weighed
    by the IoU of a matched query and by the last layer's confidence in another one; the means of both kinds are
    weighted by the roots of their numbers."""
    expected = port.expected(case)
    port.loss(case).assert_values(expected, keys_of(expected, "ddf"))


@rule("DIST-03", source=FGL, request=ON_STAGE, needs=NEEDS, among=localises)
def uniform_distributions(port: PortUnderTest, case: LossCase) -> None:
    """Where boxes are predicted exactly and all bins of a side are alike, loss_fgl of a layer is 4 log 33, its gain
    aside, wherever reference boxes and targets lie."""
    level = staged(case)
    corners = np.zeros(_distributions(level).pred_corners.shape)
    level = level.change(distributions=Distributions(corners, _distributions(level).references))
    _assert_layers(port, level, "fgl", SIDES * math.log(BINS))


@rule("DIST-04", source=FGL, request=ON_STAGE, needs=NEEDS, among=localises)
def sides_at_bins(port: PortUnderTest, case: LossCase) -> None:
    """A distribution with all mass on the bin at which a side of the target lies costs nothing; beyond the outermost
    bins that is the outermost one."""
    level = staged(case)
    for pose in POSES:
        masses = [{place: 1.0} for place in pose.bins]
        _assert_layers(port, posed(level, pose.moved, pose.size, masses), "fgl", 0.0, f"reference box {pose.described}")


@rule("DIST-05", source=FGL, request=ON_STAGE, needs=NEEDS, among=localises)
def sides_between_bins(port: PortUnderTest, case: LossCase) -> None:
    """A side of the target between two bins is shared by them, and the nearer one has more: a distribution with a
    share s on the bin at 1/2 and the rest on that at 1 costs -(3/4 log s + 1/4 log(1 - s)) for a side at 5/8."""
    level = staged(case)
    for share in (0.75, 0.25, 0.5):
        right, left = {31: share, 32: 1.0 - share}, {1: share, 0: 1.0 - share}
        masses: Masses = [right, {16: 1.0}, left, {16: 1.0}]
        cost = -2.0 * (0.75 * math.log(share) + 0.25 * math.log(1.0 - share))
        _assert_layers(port, posed(level, (0.625, 0.0), 1.0, masses), "fgl", cost, f"share {share}")


@rule(
    "DIST-06",
    source="softmax: a constant that is added to all logits drops out",
    request=ANY,
    needs=NEEDS,
    among=localises,
)
def level_of_logits(port: PortUnderTest, case: LossCase) -> None:
    """A number that is added to all logits of a side changes nothing, whichever number each side gets."""
    level = map_corners(case, lambda corners: np.round(corners * 16.0) / 16.0)
    raised = map_corners(level, lambda corners: corners + _numbers_for(corners)[..., None])
    expected, elsewhere = port.expected(level), port.expected(raised)
    once, again = port.loss(level), port.loss(raised)
    for key in (key for term in ("fgl", "ddf") for key in keys_of(expected, term)):
        again.assert_alike(once, key, max(expected[key], elsewhere[key], key=lambda loss: loss.magnitude))


@rule("DIST-07", source=DDF, request=replace(ANY, denoising="never"), needs=NEEDS, among=distils)
def equal_distributions(port: PortUnderTest, case: LossCase) -> None:
    """Where every layer has the distributions of the last one there is nothing to learn: loss_ddf is 0."""
    given = _distributions(case)
    last = np.repeat(given.pred_corners[-1:], case.layers, axis=0)
    agreed = case.change(distributions=Distributions(last, given.references))
    expected, returned = port.expected(agreed), port.loss(agreed)
    for key in layers_with(port, "ddf", case.layers):
        returned.assert_number(key, 0.0, expected[key])


@rule("DIST-08", source=DDF, request=ON_STAGE, needs=NEEDS, among=distils)
def two_bins_learn_from_two(port: PortUnderTest, case: LossCase) -> None:
    """Where the last layer gives two bins 3/4 and 1/4 in all sides, and the others give each a half, at temperature 5,
    loss_ddf of a layer is 25 (3/4 log 3/2 + 1/4 log 1/2) times (sqrt(m) + c sqrt(u)) / (sqrt(m) + sqrt(u)): with m
    matched queries whose boxes are exact and u others, in which the last layer's confidence is c."""
    level = two_bins(staged(case))
    more = float(_distributions(level).pred_corners[-1, 0, 0, 0, FIRST])
    q = 1.0 / (1.0 + math.exp(-more / TEMPERATURE))
    divergence = q * math.log(2.0 * q) + (1.0 - q) * math.log(2.0 * (1.0 - q))
    matched, others = math.sqrt(case.targets), math.sqrt(case.images * case.queries - case.targets)
    unsure = 1.0 / (1.0 + math.exp(CLAIM))  # nothing is claimed by a query without a target
    share = (matched + unsure * others) / (matched + others)
    _assert_layers(port, level, "ddf", TEMPERATURE**2 * divergence * share)


@rule("DIST-09", source=f"{FGL}, with respect to the logits", request=ANY, needs={*NEEDS, "gradients"}, among=localises)
def localisation_gradient(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_fgl with respect to a bin of a side is its probability less its share in the offset, times
    the IoU and the gain, over the normaliser; by a query that is in no pair it is 0."""
    expected = port.expected(case)
    port.loss(case).assert_gradients(expected, keys_of(expected, "fgl"))


@rule("DIST-10", source=f"{DDF}, with respect to the logits", request=ANY, needs={*NEEDS, "gradients"}, among=distils)
def distillation_gradient(port: PortUnderTest, case: LossCase) -> None:
    """The gradient of loss_ddf with respect to a bin of a side is 5 times the difference of the two softened
    probabilities, times what the side counts."""
    expected = port.expected(case)
    port.loss(case).assert_gradients(expected, keys_of(expected, "ddf"))


@rule(
    "DIST-11", source=f"{FGL} and {DDF.rpartition(' ')[2]}", request=ANY, needs={*NEEDS, "gradients"}, among=localises
)
def weights_and_teacher_are_constants(port: PortUnderTest, case: LossCase) -> None:
    """loss_fgl and loss_ddf have no gradient with respect to boxes or logits of classes: IoU and confidence are
    constants. Nor has loss_ddf of the other layers one by the distributions of the last layer, from which they
    learn."""
    expected, returned = port.expected(case), port.loss(case)
    for term in ("fgl", "ddf"):
        for key in keys_of(expected, term):
            for name in returned.inputs():
                gradient = returned.gradient(key, name)
                if not name.endswith("_corners"):
                    _assert_none(key, name, gradient)
                elif term == "ddf" and "_aux" in key and name.startswith("dn") == key.endswith("_dn"):
                    _assert_none(key, f"the last layer of {name}", gradient[-1])


@rule(
    "DIST-12",
    source=f"{FGL}: a sum over all pairs of the batch",
    request=replace(ANY, images=(2, 3), targets=(1, 3), denoising="never", special=()),
    needs=NEEDS,
    among=localises,
)
def distributions_of_many_pairs(port: PortUnderTest, case: LossCase) -> None:
    """A batch with more than a hundred and twenty-eight pairs has the losses of distributions of all of them."""
    many = many_images(case, MANY_PAIRS)
    expected = port.expected(many)
    for term in port.spec.extra_terms:
        port.loss(many).assert_values(expected, keys_of(expected, term))


@rule(
    "DIST-13",
    source="a loss is a function",
    request=replace(ANY, targets=(1, 4), denoising="where declared", special=()),
    needs=NEEDS | {"one_object"},
    among=localises,
)
def distributions_of_other_targets(port: PortUnderTest, case: LossCase) -> None:
    """A loss object that has been called with other targets, as many, has the losses of distributions of those that it
    is called with now, and keeps neither bins nor shares of denoising queries."""
    calls = [case, with_transposed_targets(case), case]
    for each, returned in zip(calls, port.losses_in_turn(calls), strict=True):
        expected = port.expected(each)
        for term in port.spec.extra_terms:
            returned.assert_values(expected, keys_of(expected, term))


def two_bins(level: LossCase) -> LossCase:
    """A case on stage whose distributions are 1/2 and 1/2 on two bins, in the last layer 3/4 and 1/4, all softened."""
    given = _distributions(level)
    corners = np.full(given.pred_corners.shape, TEMPERATURE * NEXT_TO_NONE)
    corners[..., [FIRST, SECOND]] = 0.0
    corners[-1, ..., FIRST] = rounded(np.array(TEMPERATURE * math.log(3.0)), level.dtype)
    return level.change(distributions=Distributions(corners, given.references))


def _distributions(case: LossCase) -> Distributions:
    """Those of the case; OutOfScope for a case that somebody brings without any."""
    if case.distributions is None:
        raise OutOfScope("the case has no distributions")
    return case.distributions


def _numbers_for(corners: np.ndarray) -> np.ndarray:
    """Another number from -3 to 3 for each side than for its neighbours."""
    return np.arange(corners[..., 0].size).reshape(corners.shape[:-1]) % 7 - 3.0


def _assert_layers(port: PortUnderTest, level: LossCase, term: str, cost: float, where: str = "") -> None:
    """A loss in which every layer on stage costs the same; nothing without targets."""
    __tracebackhide__ = True
    expected, returned = port.expected(level), port.loss(level)
    with failing_where(where):
        for key, layers in layers_with(port, term, level.layers).items():
            returned.assert_number(key, port.gain(level, term) * layers * cost, expected[key])


def _assert_none(key: str, name: str, gradient: np.ndarray) -> None:
    __tracebackhide__ = True
    worst = float(np.abs(gradient).max(initial=0.0))
    assert worst == 0.0, f"gradient of {key} with respect to {name} must be 0, one entry is {worst:.3g}"
