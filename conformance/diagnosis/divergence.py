"""First divergence: the earliest decision at which a port's numbers and the reference's part ways."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from detr_conformance.diagnosis.trace import Call, Event, Numbers, Return, generator_trace_of, trace_of
from detr_conformance.numbers_by_name import gradient_name
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.matching import certify
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.port_under_test import PortUnderTest
from detr_conformance.properties.tolerance import budget_shares
from detr_conformance.reference import LossSpec, Tracked, differing
from detr_conformance.reference.rounding import plain
from detr_conformance.reference.spec import value_in
from detr_conformance.report import Divergence

SIDE_EFFECTS = "side_effects"
"""What has changed the inputs of a call that no other call made."""

EXACT = 1e-9
"""Relative difference of numbers without a bound that is none: both come from float64."""


def diverging(step: str, what: str, where: Sequence[int], expected: str, got: str) -> Divergence:
    """The first step beyond its budget, also in a sentence.

    Args:
        step: path of the decision, such as `class_terms.focal.weight`; of a port that shows no steps `matching`,
            `losses`, `gradients` or `denoising layout`.
        what: which of its numbers.
        where: index of the worst entry; empty for a single number.
        expected: the reference's value there, or what was expected in words.
        got: the port's.
    """
    index = f"[{', '.join(map(str, where))}]" if where else ""
    subject = f"{what}{index} is" if what or index else "it is"
    message = f"the first step that differs is {step}: {subject} {got}, expected {expected}"
    return Divergence(step=step, what=what, where=list(where), expected=expected, got=got, message=message)


def first_divergence(judged: PortUnderTest, case: LossCase) -> Divergence | None:
    """Compare what the port shows of its steps with the reference, in the order in which one needs the other.

    A port shows its losses, and its gradients and its matching where it declares them; one that is made of a spec
    shows every decision.

    Returns:
        The first step beyond its budget; None if all are within theirs.

    Raises:
        PortError: the port gives no answer.
    """
    if type(judged.port) is ReferencePort:
        return first_decision(judged.spec, judged.port.spec, case)
    return _layout_difference(judged, case) or _first_wrong_pair(judged, case) or _returned_difference(judged, case)


def first_decision(right: LossSpec, wrong: LossSpec, case: LossCase) -> Divergence | None:
    """The first decision that two specs take otherwise on a case: in denoising queries, in values, in derivatives."""
    found = (
        _first_event(generator_trace_of(case, right), generator_trace_of(case, wrong), case.dtype)
        or _first_event(trace_of(case, right), trace_of(case, wrong), case.dtype)
        or _first_event(trace_of(case, right, True), trace_of(case, wrong, True), case.dtype)
    )
    if found is None:
        return None
    # Numbers of the spec are handed to its functions as they are, and a step that it lacks is not called.
    for path in differing(right, wrong):
        is_number = found.step == SIDE_EFFECTS and not callable(value_in(right, path))
        is_left_out = value_in(wrong, path) is None and found.expected == _called(path)
        if is_number or is_left_out:
            return diverging(path, "", (), found.expected, found.got)
    return found


def _first_event(right: Sequence[Event], wrong: Sequence[Event], dtype: str) -> Divergence | None:
    """The field that gave a call other inputs, did not make it, or returned something else for the same inputs.

    The gradients of the whole are left to a look at those of every call.
    """
    has_slopes = any(isinstance(event, Return) and event.slopes for event in right)
    for expected, got in zip_longest(right, wrong):
        if isinstance(expected, Call) and isinstance(got, Call) and expected.path == got.path:
            found = _other_inputs(expected, got, dtype)
        elif isinstance(expected, Return) and isinstance(got, Return) and expected.path == got.path:
            found = None
            if expected.path != "gradients" or has_slopes:
                found = _difference(expected.path, expected.result, got.result, dtype)
            found = found or _difference(expected.path, expected.slopes, got.slopes, dtype)
        else:
            found = _other_calls(expected, got)
        if found is not None:
            return found
    return None


def _other_inputs(expected: Call, got: Call, dtype: str) -> Divergence | None:
    """Other numbers, or numbers that are constants in one and not in the other."""
    caller = expected.around or SIDE_EFFECTS
    if expected.on_tape != got.on_tape:
        kinds = ("differentiated" if each.on_tape else "constant" for each in (expected, got))
        return diverging(caller, f"the input of {expected.path}", (), *kinds)
    return _difference(caller, expected.inputs, got.inputs, dtype)


def _other_calls(expected: Event | None, got: Event | None) -> Divergence:
    """What was called last and has not returned, in both, decides otherwise what to do next."""
    [one, *_] = (each for each in (expected, got) if each is not None)
    step = one.around if isinstance(one, Call) else one.path
    return diverging(step, "the next step", (), *map(_described, (expected, got)))


def _described(event: Event | None) -> str:
    if event is None:
        return "nothing"
    return _called(event.path) if isinstance(event, Call) else f"a return of {event.path}"


def _called(path: str) -> str:
    return f"a call of {path}"


def _difference(step: str, expected: Numbers, got: Numbers, dtype: str) -> Divergence | None:
    """The first of all numbers that differs."""
    for name, wanted in expected.items():
        found = _worst(step, name, wanted, got[name], dtype) if name in got else _absent(step, name, wanted)
        if found is not None:
            return found
    for name in got:
        if name not in expected:
            return diverging(step, name, (), "nothing", "there")
    return None


def _absent(step: str, name: str, wanted: Any) -> Divergence | None:
    """A derivative that is 0 everywhere may be missing."""
    if step == "gradients" and not np.any(plain(wanted)):
        return None
    return diverging(step, name, (), "there", "missing")


def _worst(step: str, what: str, expected: Any, got: Any, dtype: str) -> Divergence | None:
    """The entry that is furthest off, in units of its budget; None if all are within theirs."""
    if not all(isinstance(each, (np.ndarray, int, float, np.number)) for each in (expected, got)):
        same = type(expected) is type(got) and expected == got
        return None if same else diverging(step, what, (), str(expected), str(got))
    wanted, came = np.asarray(plain(expected)), np.asarray(plain(got))
    if wanted.shape != came.shape:
        return diverging(step, what, (), f"of shape {wanted.shape}", f"of shape {came.shape}")
    shares = np.atleast_1d(_shares(came, expected, dtype))
    if not shares.size or shares.max() <= 1.0:
        return None
    place = np.unravel_index(int(shares.argmax()), shares.shape)
    where = tuple(int(axis) for axis in place) if wanted.ndim else ()
    return diverging(step, what, where, f"{np.atleast_1d(wanted)[place]:.9g}", f"{np.atleast_1d(came)[place]:.9g}")


def _shares(got: np.ndarray, expected: Any, dtype: str) -> np.ndarray:
    """Of the budget where there is one; what is not rounded must be equal."""
    if isinstance(expected, Tracked) and expected.magnitude.any():
        return budget_shares(got, expected, dtype)
    values = np.asarray(plain(expected), dtype=np.float64)
    return np.where(np.isclose(got.astype(np.float64), values, rtol=EXACT, atol=0.0, equal_nan=True), 0.0, np.inf)


def _layout_difference(judged: PortUnderTest, case: LossCase) -> Divergence | None:
    """The first difference in where denoising queries are; which of too many targets are chosen is left to chance."""
    if not judged.can("denoising_group"):
        return None
    wanted, came = (each.denoising_group(case) for each in (ReferencePort(judged.spec), judged))
    return _difference("denoising layout", _layout(wanted), _layout(came), case.dtype)


def _layout(group: DenoisingGroup | None) -> Numbers:
    if group is None:
        return {"number of groups": np.asarray(0)}
    arrays: dict[str, Any] = {"number of groups": group.num_group, "numbers of queries": np.asarray(group.num_split)}
    arrays |= {f"positive slots of image {image}": slots for image, slots in enumerate(group.pos_idx)}
    return arrays | {"attention mask": group.blocked}


def _first_wrong_pair(judged: PortUnderTest, case: LossCase) -> Divergence | None:
    """The first layer and image whose matching is not one of the cheapest, where the port shows it."""
    if not judged.can("match") or case.changes_matcher:
        return None
    costs = oracle.matching_costs(case, judged.spec)
    for layer, (of_layer, images) in enumerate(zip(costs, judged.match(case), strict=True)):
        for image, (cost, (queries, targets)) in enumerate(zip(of_layer, images, strict=True)):
            own = np.asarray(targets) - case.of_image(image).start
            found = certify(plain(cost), oracle.allowed_cost_error(cost, case.dtype), np.asarray(queries), own)
            if found.share > 1.0 or found.defect is not None:
                what = f"the matching of layer {layer}, image {image}"
                why = found.defect or f"{found.share:.3g} times dearer than rounding explains"
                return diverging("matching", what, (), "one of the cheapest", f"wrong ({why})")
    return None


def _returned_difference(judged: PortUnderTest, case: LossCase) -> Divergence | None:
    """Losses under canonical keys, then their gradients."""
    returned, wanted = judged.loss(case), oracle.expected_losses(case, judged.spec)
    expected = {key: loss.value for key, loss in wanted.items()}
    try:
        values = {key: returned.value(key) for key in wanted}
    except AssertionError as absent:
        return diverging("keys", "", (), "there", str(absent))
    found = _difference("losses", expected, values, case.dtype)
    if found is not None or not judged.can("gradients"):
        return found
    gradients = {(key, name): grad for key, loss in wanted.items() for name, grad in loss.gradients.items()}
    return _difference(
        "gradients",
        {gradient_name(key, name): grad for (key, name), grad in gradients.items()},
        {gradient_name(key, name): returned.gradient(key, name) for key, name in gradients},
        case.dtype,
    )
