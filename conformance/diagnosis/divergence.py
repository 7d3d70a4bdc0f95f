"""First divergence: the earliest step at which a port's numbers and the reference's part ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detr_conformance.diagnosis.trace import STEPS, Arrays, trace_of
from detr_conformance.ports.reference_port import ReferencePort
from detr_conformance.properties import oracle
from detr_conformance.properties.case import LossCase, MatcherConfig
from detr_conformance.properties.judged import Judged
from detr_conformance.properties.matching import certify
from detr_conformance.properties.port import DenoisingGroup
from detr_conformance.properties.profiles import ULTRALYTICS
from detr_conformance.properties.tolerance import budget_shares
from detr_conformance.reference import Tracked
from detr_conformance.reference.rounding import plain

Steps = Mapping[str, Sequence[Arrays]]
"""For each step one entry a call."""


@dataclass(frozen=True)
class Divergence:
    """The first step beyond its budget.

    Attributes:
        step: its name, one of `STEPS`.
        what: which call of the step, and which of its arrays.
        where: index of the worst entry; empty for a single number.
        expected: the reference's value there, or what was expected in words.
        got: the port's.
    """

    step: str
    what: str
    where: tuple[int, ...]
    expected: str
    got: str

    def __str__(self) -> str:
        """As a sentence."""
        index = f"[{', '.join(map(str, self.where))}]" if self.where else ""
        return f"the first step that differs is {self.step}: {self.what}{index} is {self.got}, expected {self.expected}"


def first_divergence(judged: Judged, case: LossCase) -> Divergence | None:
    """Compare what the port shows of its steps with the reference, in the order in which one needs the other.

    A port shows its losses, and its gradients and its matching where it declares them; one with a method `trace`
    every step.

    Returns:
        The first step beyond its budget; None if all are within theirs.

    Raises:
        PortError: the port gives no answer.
    """
    expected = trace_of(case, judged.profile).steps
    trace = getattr(judged.port, "trace", None)
    shows_noise = trace is not None  # built on the reference, it draws the same random numbers
    return (
        _denoising_difference(judged, case, shows_noise)
        or (_first_wrong_pair(judged, case) if trace is None else None)
        or _first_difference(expected, _shown(judged, case) if trace is None else trace(case), case.dtype)
    )


def _denoising_difference(judged: Judged, case: LossCase, shows_noise: bool) -> Divergence | None:
    """The first difference of the denoising queries that are made of the case's targets."""
    if not judged.can("denoising_group") or judged.profile is not ULTRALYTICS:
        return None
    wanted, came = ReferencePort().denoising_group(case), judged.denoising_group(case)
    found = _difference("denoising layout", [_layout(wanted, shows_noise)], [_layout(came, shows_noise)], case.dtype)
    if found is not None or wanted is None or came is None or not shows_noise:
        return found
    right, other = ([{"labels": group.labels, "boxes": group.boxes}] for group in (wanted, came))
    return _difference("denoising noise", right, other, case.dtype)


def _layout(group: DenoisingGroup | None, with_chosen: bool) -> Arrays:
    """Where everything is; which targets of too many are chosen is a matter of chance."""
    if group is None:
        return {"number of groups": np.asarray(0)}
    arrays: Arrays = {
        "number of groups": np.asarray(group.num_group),
        "numbers of queries": np.asarray(group.num_split),
    }
    arrays |= {f"positive slots of image {image}": slots for image, slots in enumerate(group.pos_idx)}
    if with_chosen and group.gt_idx is not None:
        arrays |= {f"denoised targets of image {image}": targets for image, targets in enumerate(group.gt_idx)}
    return arrays | {"attention mask": group.blocked}


def _first_difference(expected: Steps, got: Steps, dtype: str) -> Divergence | None:
    """The first of all steps that both show."""
    for step in STEPS:
        if step in got:
            found = _difference(step, expected[step], got[step], dtype)
            if found is not None:
                return found
    return None


def _difference(step: str, expected: Sequence[Arrays], got: Sequence[Arrays], dtype: str) -> Divergence | None:
    """The first call of a step that differs."""
    for number, (wanted, came) in enumerate(zip(expected, got, strict=False)):
        for name, array in wanted.items():
            found = _worst(step, f"{name}{_call(number, expected)}", array, came.get(name), dtype)
            if found is not None:
                return found
        for name in sorted(came.keys() - wanted.keys()):
            return Divergence(step, f"{name}{_call(number, expected)}", (), "nothing", "there")
    if len(expected) != len(got):
        return Divergence(step, "the number of calls", (), str(len(expected)), str(len(got)))
    return None


def _call(number: int, calls: Sequence[Arrays]) -> str:
    return f" in call {number + 1} of {len(calls)}" if len(calls) > 1 else ""


def _worst(step: str, what: str, expected: np.ndarray, got: np.ndarray | None, dtype: str) -> Divergence | None:
    """The entry that is furthest off, in units of its budget; None if all are within theirs."""
    if got is None:
        return Divergence(step, what, (), "an answer", "missing")
    wanted, came = np.asarray(plain(expected)), np.asarray(plain(got))
    if wanted.shape != came.shape:
        return Divergence(step, what, (), f"of shape {wanted.shape}", f"of shape {came.shape}")
    shares = np.atleast_1d(_shares(came, expected, dtype))
    if not shares.size or shares.max() <= 1.0:
        return None
    place = np.unravel_index(int(shares.argmax()), shares.shape)
    where = tuple(int(axis) for axis in place) if wanted.ndim else ()
    return Divergence(step, what, where, f"{np.atleast_1d(wanted)[place]:.9g}", f"{np.atleast_1d(came)[place]:.9g}")


def _shares(got: np.ndarray, expected: np.ndarray, dtype: str) -> np.ndarray:
    """Of the budget where there is one; what is not rounded must be equal."""
    if isinstance(expected, Tracked):
        return budget_shares(got, expected, dtype)
    return np.where((got == expected) | ((got != got) & (expected != expected)), 0.0, np.inf)  # noqa: PLR0124  # NaN


def _first_wrong_pair(judged: Judged, case: LossCase) -> Divergence | None:
    """The first layer and image whose matching is not one of the cheapest, where the port shows it."""
    if not judged.can("match") or case.matcher != MatcherConfig():
        return None
    costs = oracle.matching_costs(case, judged.profile)
    for layer, (of_layer, images) in enumerate(zip(costs, judged.match(case), strict=True)):
        for image, (cost, (queries, targets)) in enumerate(zip(of_layer, images, strict=True)):
            own = np.asarray(targets) - case.of_image(image).start
            found = certify(plain(cost), oracle.allowed_cost_error(cost, case.dtype), np.asarray(queries), own)
            if found.share > 1.0 or found.defect is not None:
                what = f"the matching of layer {layer}, image {image}"
                return Divergence("matching", what, (), "the cheapest", str(found.defect))
    return None


def _shown(judged: Judged, case: LossCase) -> dict[str, list[Arrays]]:
    """What every port shows: its losses under the base profile's keys, and its gradients."""
    returned = judged.loss(case)
    steps: dict[str, list[Arrays]] = {"totals": [dict(returned.values)]}
    wanted = oracle.expected_losses(case, judged.profile)
    steps["totals"][0] |= {key: returned.value(key) for key in wanted}
    if judged.can("gradients"):
        named = ((key, name) for key, loss in wanted.items() for name in loss.gradients)
        steps["gradients"] = [{f"{key} by {name}": returned.gradient(key, name) for key, name in named}]
    return steps
