"""API: options passed in other ways than by keyword, to a port that copies a signature.

API-09, in `defaults.py`, asks whether what a constructor sets is what the profile's members were published with:
advice, since recipes pass every option. Here a port has promised the signature of another class, with its defaults,
published or not, and the question is whether a caller who relies on that gets the loss that they mean.

What a port returns is compared with what it returns by keyword. If that is wrong too, other rules say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial

import numpy as np

from detr_conformance.properties import oracle
from detr_conformance.properties.case import GeneratorConfig, LossCase, LossConfig, MatcherConfig
from detr_conformance.properties.default_options import (
    ALL_OTHER,
    MATCHER,
    at_defaults,
    generators_but_for_one_option,
    losses_but_for_one_option,
    losses_with_layers_otherwise,
    matchers_but_for_one_option,
)
from detr_conformance.properties.port import LATER, PASSING
from detr_conformance.properties.port_under_test import OutOfScope, PortUnderTest
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.rules.dn_generator import REQUEST
from detr_conformance.properties.rules.generated import first_difference
from detr_conformance.properties.rules.match_costs import DUEL, MOVED, assert_exchange
from detr_conformance.properties.rules.matched import Matched, assert_cheapest, assert_pairs, pairs_of
from detr_conformance.reference import Tracked

LOSSES = Request(
    # In the focal loss, and with three layers, every default and every order of arguments shows.
    classification=("focal",),
    layers=(3, 3),
    images=(1, 2),
    queries=(3, 5),
    targets=(2, 3),
    denoising="where declared",
    special=(),
    extra="never",
    real=False,
    large=False,
    about_class=True,
)
Options = LossConfig | MatcherConfig | GeneratorConfig
VARIES = {"gamma", "alpha", "loss_gain"}
NOT_BUILT = "a training step builds no matcher: its loss does, with options of its own"


@rule(
    "API-13",
    source="Ultralytics, nn/tasks.py: RTDETRDetectionLoss(nc=self.nc, use_vfl=True), and nothing else",
    request=LOSSES,
    needs={"constructor"},
    varies=VARIES,
)
def options_left_to_the_constructor(port: PortUnderTest, case: LossCase) -> None:
    """A loss that is not given those options that are at the defaults of the signature that it copies returns what it
    does if all of them are passed. Whether these defaults are those of a published recipe is API-09's question."""
    plain = at_defaults(case)
    for each in (plain, *losses_but_for_one_option(port, plain.change(denoising=None))):
        _assert_same_losses(port, each, "defaults")


@rule(
    "API-14",
    source="the order of arguments is part of a signature: whoever exchanges two classes passes the same row to both",
    request=LOSSES,
    needs={"constructor"},
    varies=VARIES,
)
def options_by_position(port: PortUnderTest, case: LossCase) -> None:
    """A loss whose options are passed by position, in the order of the signature that it copies, and which is called so
    with denoising queries, returns what it does if all of them are passed by keyword."""
    plain = at_defaults(case)
    others = plain.change(denoising=None, **ALL_OTHER)
    for each in (plain, others, *losses_with_layers_otherwise(port, others, shared=1)):
        _assert_same_losses(port, each, "positions")


@rule(
    "API-15",
    source="Ultralytics HungarianMatcher: gains class 1, bbox 5, giou 2",
    # Predictions near targets, of classes that matter as much: which gains there are decides who is matched.
    request=Request(
        layers=(2, 2),
        images=(2, 4),
        queries=(6, 8),
        targets=(3, 5),
        special=(),
        denoising="never",
        real=False,
        large=False,
    ),
    needs={"match", "matcher_options", "matcher_constructor"},
    should=NOT_BUILT,
)
def options_of_a_matcher(port: PortUnderTest, case: LossCase) -> None:
    """A matcher that is built with only those options that are not the defaults of the signature that it copies, or
    with all of them by position, finds the cheapest pairs by the options that are meant."""
    for each in matchers_but_for_one_option(case):
        usual = pairs_of(each, port.match(each))
        for passing in PASSING:
            _assert_matched(port, each, passing, usual)


@rule(
    "API-16",
    source="Ultralytics HungarianMatcher: alpha 0.25, gamma 2.0",
    request=DUEL,
    needs={"match", "matcher_options", "matcher_constructor"},
    should=NOT_BUILT,
)
def class_cost_of_a_matcher(port: PortUnderTest, case: LossCase) -> None:
    """The class cost of a matcher whose alpha and gamma are left to its constructor, or passed by position, is worth
    exactly so much L1 distance as the defaults of the signature that it copies say."""
    for passing in PASSING:
        assert_exchange(port, case.change(matcher=MATCHER), "bbox", MOVED, partial(_assert_matched, passing=passing))


@rule(
    "API-17",
    source="Ultralytics, nn/modules/head.py: get_cdn_group with every argument by position",
    request=replace(REQUEST, images=(1, 2), targets=(1, 2), classes=(2, 5), cheap=False, real=False, large=False),
    needs={"denoising_group", "generator_arguments"},
)
def arguments_of_a_generator(port: PortUnderTest, case: LossCase) -> None:
    """A generator of denoising queries that is called by position, or with only those options that are not the defaults
    of the signature that it copies, makes what it does if all of them are passed by keyword, with the same seed."""
    for each in generators_but_for_one_option(case):
        for passing in PASSING:
            _assert_same_group(port, each, passing)


@rule(
    "API-20",
    source="loss specification: loss_gain, aux_loss, use_uni_match and uni_match_ind are attributes of a loss, gamma "
    "and alpha of its fl or vfl",
    request=LOSSES,
    needs={"constructor"},
    varies=VARIES,
    should="recipes pass options to the constructor",
)
def options_set_later(port: PortUnderTest, case: LossCase) -> None:
    """A loss whose gains, gamma, alpha, auxiliary losses or shared matching are changed by its attributes after it was
    built and called returns what it does if they are passed. A change without effect looks like one that does not
    help."""
    by_classification = port.each_classification(case)
    for each in (*by_classification, *losses_with_layers_otherwise(port, case.change(denoising=None), shared=0)):
        _assert_same_losses(port, each, LATER)


def _assert_same_losses(port: PortUnderTest, case: LossCase, passing: str) -> None:
    __tracebackhide__ = True
    usual, returned = port.loss(case), port.loss_built(case, passing)
    odd = sorted(set(usual.result.losses) ^ set(returned.result.losses))
    said = f"built {_said(case.config, LossConfig(nc=case.config.nc), passing)}"
    assert not odd, f"{said}, the loss differs from one built by keyword in having, or not having, {', '.join(odd)}"
    pairs = ((key, value, returned.values[key]) for key, value in usual.values.items())
    unlike = [key for key, value, other in pairs if not np.array_equal(value, other, equal_nan=True)]
    if not unlike:  # as good as always, and nobody has to know what is right
        return
    expected = port.expected(case)
    for key in sorted(expected.keys() & set(unlike)):
        wanted = Tracked(usual.values[key], 2.0 * expected[key].magnitude)  # both calls round
        port.compare(f"{said}, {key}", returned.values[key], wanted, case.dtype)


def _assert_matched(port: PortUnderTest, case: LossCase, passing: str, usual: Sequence[Matched] = ()) -> None:
    """Either what it has matched by keyword, which other rules look at, or what is cheapest."""
    __tracebackhide__ = True
    matched = pairs_of(case, port.match_built(case, passing))
    if usual and all(map(_same_pairs, matched, usual)):
        return
    try:
        assert_pairs(case, matched)
        assert_cheapest(port, case, matched, oracle.matching_costs(case, port.spec))
    except AssertionError as failure:
        raise AssertionError(f"built {_said(case.matcher, MATCHER, passing)}, {failure}") from None


def _same_pairs(one: Matched, other: Matched) -> bool:
    return all(np.array_equal(one[side], other[side]) for side in (2, 3))


def _assert_same_group(port: PortUnderTest, case: LossCase, passing: str) -> None:
    __tracebackhide__ = True
    usual = port.denoising_group(case)
    odd = first_difference(usual, port.denoising_group_called(case, passing))
    if odd and first_difference(usual, port.denoising_group(case)):  # DN-25 is about such generators
        raise OutOfScope("the generator makes other denoising queries when it is asked again")
    said = _said(case.generator, GeneratorConfig(seed=case.generator.seed), passing)
    assert not odd, f"called {said}, the generator makes other {odd} than called by keyword"


def _said(options: Options, defaults: Options, passing: str) -> str:
    """How options were passed."""
    own, usual = asdict(options), asdict(defaults)
    given = ", ".join(f"{name}={own[name]!r}" for name in own if own[name] != usual[name])
    how = {
        "defaults": "without what is at its default",
        "positions": "by position",
        LATER: "otherwise and changed by its attributes",
    }[passing]
    return f"{how}{f', with {given}' if given else ''}"
