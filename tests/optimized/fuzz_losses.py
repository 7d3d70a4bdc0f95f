"""What losses a good call must return: scalars, and the numbers of the reference wherever those are certain."""

from __future__ import annotations

import numpy as np
import torch

from detr_conformance.properties import tolerance
from detr_conformance.reference import track
from detr_conformance.reference.rounding import plain

from .fuzz_forms import predictions_of
from .fuzz_reference import is_matching_certain, limits_of_reference, losses_of_reference, precision_of

NEARLY_THE_LARGEST_HALF = 60_000.0
TERMS = ("loss_class", "loss_bbox", "loss_giou")


def check_losses(call, losses):
    """All keys in their order, and `check_scalars`."""
    __tracebackhide__ = True
    assert list(losses) == _keys(call), f"keys {list(losses)}, expected {_keys(call)}"
    return check_scalars(call, losses)


def _keys(call):
    if call.surface not in ("loss", "detr"):
        return [f"{term}_aux" for term in TERMS] if call.surface == "auxiliary" else list(TERMS)
    aux = [f"{term}_aux" for term in TERMS] if call.options["aux_loss"] else []
    postfixes = ["", "_dn"] if call.surface == "loss" else [call.arguments["postfix"]]
    return [key + postfix for postfix in postfixes for key in (*TERMS, *aux)]


def check_scalars(call, losses):
    """Scalars in float32 or better, equal to the reference's; True if they were compared."""
    __tracebackhide__ = True
    for key, loss in losses.items():
        assert loss.shape == (), f"{key} has shape {tuple(loss.shape)}"
        assert loss.dtype in (torch.float32, torch.float64), f"{key} has dtype {loss.dtype}"
    precision = precision_of(call)
    if not call.ordinary or not is_matching_certain(call, precision):
        return False
    expected = losses_of_reference(call, precision)
    assert list(expected) == list(losses), f"keys {list(losses)}, expected {list(expected)}"
    for key, loss in losses.items():
        says_nan = loss.isfinite() and np.isnan(plain(expected[key].value))
        wanted = limits_of_reference(call, precision) if says_nan else expected
        assert_near(key, loss.item(), wanted[key].value, precision)
    if call.finite and call.context == "none":
        _check_gradients(call, losses, expected, precision)
    return True


def assert_near(what, got, expected, dtype):
    """Within the budget of each number; no number where there is none to expect."""
    __tracebackhide__ = True
    got, wanted = np.asarray(got, np.float64), np.asarray(plain(expected))
    assert got.shape == wanted.shape, f"{what} has shape {got.shape}, expected {wanted.shape}"
    hidden = np.isfinite(got) & ~np.isfinite(wanted)
    assert not hidden.any(), f"{what} is {got[hidden]}, expected {wanted[hidden]}"
    expected = track(expected)
    # A NaN for a bound means an infinite divisor with an infinite error: that is as open as an infinite bound.
    bounded = np.isfinite(wanted) & ~np.isnan(expected.magnitude)
    shares = np.where(bounded, tolerance.budget_shares(got, expected, dtype), 0.0)
    worst = np.unravel_index(shares.argmax(), shares.shape) if shares.size else ()
    assert shares.max(initial=0.0) <= 1, (
        f"{what}: {got[worst]!r}, expected {wanted[worst]!r}, {shares.max():.3g} budgets"
    )


def _check_gradients(call, losses, expected, precision):
    """Of the sum of all losses, in the dtype of each prediction that requires one."""
    __tracebackhide__ = True
    tensors = {name: call.arguments[name] for name in predictions_of(call) if call.arguments[name].requires_grad}
    if not tensors:
        return
    total = sum(loss.double() for loss in losses.values())
    found = torch.autograd.grad(total, list(tensors.values()), allow_unused=True)
    for (name, tensor), gradient in zip(tensors.items(), found, strict=True):
        dtype = str(tensor.dtype).removeprefix("torch.")
        wanted = _gradient_by(name, tensor, expected)
        if dtype == "float16" and np.abs(plain(wanted)).max(initial=0.0) > NEARLY_THE_LARGEST_HALF:
            continue  # rounding may make infinity of it
        got = torch.zeros_like(tensor) if gradient is None else gradient
        assert got.dtype == tensor.dtype, f"the gradient of {name} has dtype {got.dtype}, expected {dtype}"
        coarser = precision if dtype == "float64" else dtype
        assert_near(f"gradient with respect to {name}", got.detach().double().numpy(), wanted, coarser)


def _gradient_by(name, tensor, losses):
    """The reference's gradient of the sum; of a single loss it always calls the logits pred_scores."""
    parts = [loss.gradients.get(name) for loss in losses.values()]
    if name in ("pred", "pred_score"):
        parts = [loss.gradients["pred_scores"] for loss in losses.values()]
    return sum((part for part in parts if part is not None), start=track(np.zeros(tensor.shape)))
