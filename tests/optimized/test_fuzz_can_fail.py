"""The random calls notice a defect: one at a time is put into `optimized`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

import pytest
import torch

from detr_conformance.optimized.backends.torch.totals import LayerLosses

from .test_fuzz import outcome

pytestmark = pytest.mark.usefixtures("shapes_unchecked")

FIRST = "detr_conformance.optimized."
SEEDS = range(500)
BOTH_LOSSES = ("detr_loss.layer_losses", "rtdetr_loss.layer_losses")


def nothing(_original):
    return lambda *_, **__: None


def with_errors(other):
    """The original, whose errors are replaced."""

    def defect(original):
        def check(*arguments):
            try:
                return original(*arguments)
            except (TypeError, ValueError) as error:
                raise other(error) from error

        return check

    return defect


TORCH = "backends.torch."


def on_each_loss(change):
    return lambda original: lambda *arguments: LayerLosses(*map(change, original(*arguments)))


def after(effect):
    """The original, after something that nobody asked for."""
    return lambda original: lambda *arguments, **named: (effect(*arguments), original(*arguments, **named))[1]


def on_result(change):
    return lambda original: lambda *arguments, **named: change(original(*arguments, **named))


DEFECTS: dict[str, tuple[tuple[str, ...], Callable]] = {
    "classes and coordinates are not looked at": (("targets.check_values",), nothing),
    "devices are not compared": (("validation.check_device",), nothing),
    "a process group may be anything": (("detr_loss.check_process_group",), nothing),
    "gains are not looked at": (("detr_loss.check_gains",), lambda _: lambda _name, gains: dict(gains)),
    "counts are not looked at": (("validation.check_counts",), lambda _: lambda counts, _images: tuple(counts)),
    "errors name nothing": (("pairing.check_integers",), with_errors(lambda _: ValueError("it does not fit"))),
    "errors are of another type": (("validation.check_counts",), with_errors(lambda error: RuntimeError(str(error)))),
    "all losses are a thousandth too large": (BOTH_LOSSES, on_each_loss(lambda loss: loss * (1 + 1e-3))),
    "all losses are in half precision": (BOTH_LOSSES, on_each_loss(torch.Tensor.half)),
    "all losses have an axis": (BOTH_LOSSES, on_each_loss(lambda loss: loss[None])),
    "NaN is hidden": (BOTH_LOSSES, on_each_loss(torch.nan_to_num)),
    "a gradient is a thousandth too large": (
        (TORCH + "box_gradients.in_place_of_queries",), on_result(lambda each: each * 1.001),
    ),
    "who is matched is left to chance": (
        (TORCH + "assignment.linear_sum_assignment",), on_result(lambda pairs: (pairs[0], pairs[1][::-1])),
    ),
    "queries and targets change places": (("parts_of_layer.rows_of_matching",), on_result(lambda rows: rows[::-1])),
    "a loss is left out": (("detr_loss.TERMS",), lambda terms: terms[:2]),
    "predictions are written to": (("detr_loss.check_predictions",), after(lambda boxes, *_: boxes.detach().mul_(1.0))),
    "random numbers are drawn": (("matcher.check_predictions",), after(lambda *_: torch.rand(1))),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_noticed(name, monkeypatch):
    places, defect = DEFECTS[name]
    for place in places:
        monkeypatch.setattr(FIRST + place, defect(pkgutil.resolve_name(FIRST + place)))
    assert any(map(_is_noticed, SEEDS))


def _is_noticed(seed):
    try:
        outcome(seed)
    except AssertionError:
        return True
    return False
