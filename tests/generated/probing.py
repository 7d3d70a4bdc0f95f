"""Whether a mutant differs from the original: what both answer to every probe."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from detr_conformance.ports.torch_port import tensors_of

from .mutated_port import original
from .probes import ORDINARY, probes

EXACT = {"rtol": 1e-6, "atol": 1e-9}
"""For double precision: further off is further than single precision rounds."""
ROUNDED = {"rtol": 1e-4, "atol": 1e-6}
"""For other dtypes: further off is further than another order of sums in single precision."""


def difference(port):
    """The first probe to which the port answers otherwise than the original; None if there is none."""
    for name, case, expected in _expected():
        found = answers(port, case)
        tolerance = EXACT if case.dtype == "float64" else ROUNDED
        if found.keys() != expected.keys() or not all(_alike(found[key], expected[key], tolerance) for key in expected):
            return name
    return None


def raises_in_an_ordinary_step(port):
    """Whether a first try finds the mistake."""
    case = next(case for name, case, _ in _expected() if name == ORDINARY)
    return any(question.__name__ in answers(port, case) for question in QUESTIONS)


@cache
def _expected():
    port = original()
    return [(name, case, answers(port, case)) for name, case in probes()]


def answers(port, case):
    """Everything that the port says about a case, by name; of a question that it fails on only the exception."""
    found = {}
    for question in QUESTIONS:
        found |= _answer(question, port, case)
    return found


def _answer(question, port, case):
    try:
        return question(port, case)
    except Exception as error:  # noqa: BLE001  # a mutant may raise anything
        return {question.__name__: repr(error)}


def _losses_and_gradients(port, case):
    """Losses, their dtypes, and the gradient of a sum in which each has a weight of its own."""
    tensors = tensors_of(case)
    losses = dict(port.call(port.build(case), case, tensors))
    total = sum(loss * (1.0 + 0.37 * place) for place, loss in enumerate(losses.values()))
    inputs = tensors.predictions
    gradients = torch.autograd.grad(total, list(inputs.values()), allow_unused=True, materialize_grads=True)
    found = {f"d{name}": each for name, each in zip(inputs, gradients, strict=True)}
    dtypes = {f"dtype of {key}": str(loss.dtype) for key, loss in losses.items()}
    return {"keys": sorted(losses), **dtypes} | {key: _array(each) for key, each in (losses | found).items()}


def _matching(port, case):
    """Pairs of ordinary and of denoising queries, and the defaults of the constructors."""
    matcher = port.build(case).matcher
    found = {"defaults": repr(port.defaults(case)), "a bare matcher": _options(type(matcher)())}
    if np.isfinite(case.pred_scores).all():
        for layer, images in enumerate(port.match(case)):
            found |= _pairs(f"layer {layer}", images)
    if case.denoising is not None:
        found |= _pairs("denoising", port.denoising_indices(case))
    return found


def _options(matcher):
    return str([matcher.cost_gain, matcher.use_fl, matcher.alpha, matcher.gamma])


def _pairs(where, images):
    return {f"pairs of {where}, image {image}": np.array(pair) for image, pair in enumerate(images)}


def _generated(port, case):
    """Denoising queries, with the noise that the seed of the case gives."""
    group = port.denoising_group(case)
    if group is None:
        return {"generated": None}
    indices = {f"pos_idx {image}": each for image, each in enumerate(group.pos_idx)}
    indices |= {f"gt_idx {image}": each for image, each in enumerate(group.gt_idx)}
    sizes = np.array([group.num_group, *group.num_split])
    return {"labels": group.labels, "boxes": group.boxes, "blocked": group.blocked, "sizes": sizes} | indices


QUESTIONS = (_losses_and_gradients, _matching, _generated)


def _alike(found, expected, tolerance):
    """Whether two answers are the same, but for rounding."""
    if not isinstance(found, np.ndarray) or not isinstance(expected, np.ndarray):
        return type(found) is type(expected) and found == expected
    if found.shape != expected.shape:
        return False
    if found.dtype.kind in "fc":
        return np.allclose(found, expected, **tolerance, equal_nan=True)
    return np.array_equal(found, expected)


def _array(tensor):
    return tensor.detach().to(torch.float64).numpy()
