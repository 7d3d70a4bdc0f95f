"""API: keys, shapes, dtypes, purity, determinism."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detr_conformance.properties.additions import empty_images
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.port_under_test import PortUnderTest, ReturnedLosses
from detr_conformance.properties.request import Request
from detr_conformance.properties.rule import rule
from detr_conformance.properties.staged import staged
from detr_conformance.properties.tolerance import PRECISIONS

ANY = Request(targets=(0, 4))


@rule("API-01", source="the profile's names of the losses", request=ANY)
def keys(port: PortUnderTest, case: LossCase) -> None:
    """The loss returns exactly the keys of its profile: those of every part, main, auxiliary and denoising, and no
    others."""
    _assert_keys(port, case)


@rule("API-02", source="a trainer adds the losses up", request=ANY)
def scalars(port: PortUnderTest, case: LossCase) -> None:
    """Every loss is a scalar of shape ()."""
    for key, loss in port.loss(case).result.losses.items():
        assert np.shape(loss) == (), f"loss {key!r} has shape {np.shape(loss)}, expected ()"


@rule(
    "API-03",
    source="float16 cannot hold a sum over all logits",
    request=Request(targets=(1, 4), special=(), dtype="float16"),
)
def losses_in_single_precision(port: PortUnderTest, case: LossCase) -> None:
    """Float16 predictions give losses in float32 or better; one that is exactly 0 loses nothing in float16."""
    _assert_dtypes(port, case)


@rule("API-04", source="the caller's tensors are the caller's", request=ANY)
def inputs_stay_untouched(port: PortUnderTest, case: LossCase) -> None:
    """Predictions, targets and denoising indices are the same after the call as before; targets are also after
    denoising queries were made of them, of all or of some."""
    mutated = list(port.loss(case).result.mutated)
    if port.can("denoising_group"):
        for number in (case.generator.num_dn, 1):
            made = port.denoising_group(case.change(generator=replace(case.generator, num_dn=number)))
            mutated += made.mutated if made else ()
    assert not mutated, f"the call changed its input {', '.join(mutated)}"


@rule(
    "API-05",
    source="data-parallel training: the ranks must agree on the keys, also one whose images are all empty",
    request=replace(ANY, all_empty=True, denoising="never"),
)
def keys_without_targets(port: PortUnderTest, case: LossCase) -> None:
    """A batch without any target returns the same keys as one with targets, and every loss is a finite number."""
    _assert_keys(port, case)
    for key, loss in port.loss(case).result.losses.items():
        assert np.isfinite(loss).all(), f"loss {key!r} is {loss} in a batch without targets, expected a finite number"


@rule(
    "API-06",
    source="bfloat16 has three digits, a sum over all logits needs more",
    request=Request(targets=(1, 4), special=(), dtype="bfloat16"),
)
def losses_of_brain_floats(port: PortUnderTest, case: LossCase) -> None:
    """Bfloat16 predictions give losses in float32 or better; one that is exactly 0 loses nothing in bfloat16."""
    _assert_dtypes(port, case)


@rule(
    "API-07",
    source="the losses are as precise as the predictions",
    request=Request(targets=(1, 4), special=(), dtype="float64"),
)
def losses_of_doubles(port: PortUnderTest, case: LossCase) -> None:
    """Float64 predictions give losses in float64; one that is exactly 0 loses nothing in another format."""
    _assert_dtypes(port, case)


@rule(
    "API-08",
    source="data-parallel training and logging: the keys must not depend on the numbers",
    request=replace(ANY, queries=(3, 6), targets=(1, 3), denoising="never", special=(), real=False),
)
def keys_do_not_depend_on_numbers(port: PortUnderTest, case: LossCase) -> None:
    """Perfect predictions, and a batch of which one image has lost its targets, have the same keys as any others."""
    usual = set(port.loss(case).result.losses)
    for what, other in (("perfect predictions", staged(case)), ("an empty image", empty_images(case, {0}))):
        odd = sorted(usual ^ set(port.loss(other).result.losses))
        assert not odd, f"a batch with {what} differs from others in having, or not having, {', '.join(odd)}"


def legal_dtypes(loss: np.ndarray | None, of_predictions: str) -> Sequence[str]:
    """Dtypes in which a loss may come; any for one that is exactly 0, which loses nothing."""
    if loss is not None and not np.any(loss):
        return tuple(PRECISIONS)
    return ("float64",) if of_predictions == "float64" else ("float32", "float64")


def legal_keys(returned: ReturnedLosses) -> tuple[frozenset[str], frozenset[str]]:
    """The keys that the port must return, and those that it may: the set of its profile that is nearest to its own."""
    port, came = returned.judged, set(returned.result.losses)
    known = min(port.keys.expected(returned.call), key=lambda keys: len(keys ^ came))
    # Who has no denoising part may leave its keys out, or return them as zeros.
    wanted = known if port.can("denoising") else frozenset(key for key in known if "_dn" not in key)
    return wanted, known


def _assert_dtypes(port: PortUnderTest, case: LossCase) -> None:
    __tracebackhide__ = True
    returned = port.loss(case).result
    for key, dtype in returned.dtypes.items():
        legal = legal_dtypes(returned.losses.get(key), case.dtype)
        assert dtype in legal, f"loss {key!r} has dtype {dtype}, expected {' or '.join(legal)}"


def _assert_keys(port: PortUnderTest, case: LossCase) -> None:
    __tracebackhide__ = True
    returned = port.loss(case)
    wanted, known = legal_keys(returned)
    came = set(returned.result.losses)
    absent, extra = sorted(wanted - came), sorted(came - known)
    assert not absent, f"the port returned no {', '.join(absent)}; it returned {', '.join(sorted(came))}"
    assert not extra, f"the port returned {', '.join(extra)}, which the profile {port.spec.name} does not know"
