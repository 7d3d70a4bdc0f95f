"""INV: what the loss makes of more of the same: copies of layers and images, hopeless queries, other gains."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, cycle

from detr_conformance.properties.additions import (
    add_hopeless_queries,
    keep_first_and_main_layer,
    repeat_first_layer,
)
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.divisors import divisor, is_mean, ordinary_keys, term_of
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.questions import (
    adds_layers_up,
    divides_by_counts,
    is_alike_in_all_layers,
    matches_alike,
)
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.transforms import select_images

ORDINARY = Request(targets=(0, 3), denoising="never")
FACTORS = {"class": 0.0, "bbox": 3.0, "giou": 0.5}


@rule(
    "INV-07",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.2: the auxiliary losses are added up",
    request=replace(ORDINARY, layers=(2, 4)),
    among=lambda spec: spec.layers.independent and adds_layers_up(spec),
)
def layer_given_twice(port: PortUnderTest, case: LossCase) -> None:
    """A copy of a layer among the auxiliary ones adds that layer's losses to the auxiliary losses, and changes no main
    loss."""
    twice = repeat_first_layer(case)
    expected, once, again = port.expected(twice), port.loss(case), port.loss(twice)
    alone = port.loss(keep_first_and_main_layer(case))
    for key, auxiliary in zip(*ordinary_keys(expected), strict=True):
        if not is_alike_in_all_layers(port.spec, term_of(key), twice.layers):
            continue
        again.assert_alike(once, key, expected[key])
        again.assert_alike(once, auxiliary, expected[auxiliary], more=float(alone.value(auxiliary)))


@rule(
    "INV-08",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: unmatched queries are background",
    request=replace(ORDINARY, queries=(3, 6), special=()),
    among=divides_by_counts,
)
def hopeless_queries(port: PortUnderTest, case: LossCase) -> None:
    """Further queries, far from every target and sure of being background, change no loss: there is no term that only
    counts queries, but for a loss that the profile divides by their number."""
    # Two that are alike: where one of them is matched the other could be, and `expected` leaves the case to others.
    more = add_hopeless_queries(case)
    before, after = port.expected(case), port.expected(more)
    once, again = port.loss(case), port.loss(more)
    for key in chain(*ordinary_keys(after)):
        fewer, many = (divisor(each, port.spec, term_of(key)) for each in (case, more))
        factor = fewer / many
        background = float(after[key]) - factor * float(before[key])
        again.assert_alike(once, key, after[key], factor, more=background)


@rule(
    "INV-10",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1 and appendix A.2: weighted sum",
    request=Request(targets=(0, 3)),
    varies={"loss_gain"},
    among=lambda spec: matches_alike(spec, "loss_gain"),
)
def linear_in_each_gain(port: PortUnderTest, case: LossCase) -> None:
    """Where the profile's matcher does not follow the gains of the loss, every loss, and every gradient of it, is its
    own gain times something that no gain enters: 0 for a gain of 0, three times as much for three times the gain, half
    for half."""
    expected, once = port.expected(case), port.loss(case)
    factors = dict(zip(port.spec.extra_terms, cycle((4.0, 0.25)))) | FACTORS
    gains = {term: factor * port.gain(case, term) for term, factor in factors.items()}
    scaled = port.loss(case.change(loss_gain=gains))
    for key in expected:
        factor = factors[term_of(key)]
        scaled.assert_alike(once, key, expected[key], factor)
        for name in scaled.inputs() if port.can("gradients") else ():
            scaled.assert_gradient_alike(once, key, name, expected[key], factor)


@rule(
    "INV-11",
    source="Carion et al., DETR, arXiv 2005.12872, section 3.1: normalised by the number of objects in the batch",
    request=replace(ORDINARY, layers=(1, 2), images=(1, 2)),
    among=divides_by_counts,
)
def batch_given_twice(port: PortUnderTest, case: LossCase) -> None:
    """A batch in which every image occurs twice has the losses of one in which each occurs once, where there is a
    target; a loss that the profile divides by what does not double, such as the queries of an image, has twice as
    much."""
    if not case.targets:
        raise OutOfScope("without targets the normaliser is 1, however many images there are")
    twice = select_images(case, [*range(case.images)] * 2)
    expected, once, again = port.expected(twice), port.loss(case), port.loss(twice)
    for key in chain(*ordinary_keys(expected)):
        single, double = (divisor(each, port.spec, term_of(key)) for each in (case, twice))
        copies = 1.0 if is_mean(port.spec, term_of(key)) else 2.0
        again.assert_alike(once, key, expected[key], copies * single / double)
