"""What ports answer, distrusted: turned into arrays of the right kind, or refused with the reason.

A port hands over what its framework makes, and a broken one anything at all. Every function here raises TypeError or
ValueError and nothing else, whatever the answer does when it is looked at. Messages go on from "the port returned".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, TypeVar

import numpy as np

from detr_conformance.properties.port import DenoisingGroup, LossResult, Matching
from detr_conformance.reference.recipe import OPTIONS

Answer = TypeVar("Answer")

POINT_COUNTS = frozenset({"losses", "matcher"})
"""Who draws points."""

RAISED = (Exception, SystemExit, KeyboardInterrupt)
"""What a foreign object may raise. A rule that is out of time raises something else."""

MOST_LOSSES = 10_000
"""More than any port has: each is looked at in every call."""

NOT_REAL = "OSUMmVcb"
"""Kinds of NumPy dtypes that hold no real numbers. Formats that NumPy does not know, such as bfloat16, come as V."""


def _distrustful(read: Callable[..., Answer]) -> Callable[..., Answer]:
    """Whatever a foreign object raises becomes a TypeError."""

    @wraps(read)
    def guarded(*answer: Any) -> Answer:
        try:
            return read(*answer)
        except (TypeError, ValueError):
            raise
        except RAISED as error:
            raise TypeError(f"what raises {type(error).__name__} when it is read: {shortened(error)}") from error

    return guarded


@_distrustful
def loss_result(answer: Any) -> LossResult:
    """The losses as float64 arrays of the shapes that came; gradients are looked at when they are asked for."""
    if not isinstance(answer, LossResult):
        raise TypeError(f"{_kind(answer)}, expected a LossResult")
    losses, dtypes = _items("losses", answer.losses), _items("dtypes", answer.dtypes)
    if len(losses) > MOST_LOSSES:
        raise ValueError(f"{len(losses):,} losses, expected at most {MOST_LOSSES:,}")
    return LossResult(
        losses={_text("a key of losses", key): numbers(f"loss {key!r}", value) for key, value in losses},
        gradients=_mapping("gradients", answer.gradients),
        dtypes={_text("a key of dtypes", key): _text(f"the dtype of {key!r}", dtype) for key, dtype in dtypes},
        mutated=[_text("a name in mutated", name) for name in _listed("mutated", answer.mutated)],
    )


@_distrustful
def loss_results(answer: Any) -> list[LossResult]:
    """What was answered to several cases."""
    return [loss_result(each) for each in _listed("the answer", answer)]


@_distrustful
def options(answer: Any) -> dict[str, Any]:
    """Numbers, and gains by term, by the names of options."""
    found = {_text("an option", name): value for name, value in _items("the answer", answer)}
    for name in found:
        if name not in OPTIONS:
            raise ValueError(f"the unknown option {shortened(name)!r}, known are: {', '.join(OPTIONS)}")
    return {name: _option(name, value) for name, value in found.items()}


@_distrustful
def point_counts(answer: Any) -> dict[str, int]:
    """Whole numbers for losses and matcher."""
    found = {_text("a name", name): value for name, value in _items("the answer", answer)}
    if found.keys() != POINT_COUNTS:
        raise ValueError(f"numbers of points of {shortened(', '.join(found))}, expected those of losses and matcher")
    for name, count in found.items():
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)):
            raise TypeError(f"{_kind(count)} as the number of points of {name}, expected an int")
    return {name: int(count) for name, count in found.items()}


def _option(name: str, value: Any) -> Any:
    if name.endswith("_gain"):
        gains = {_text(f"a term of {name}", term): gain for term, gain in _items(name, value)}
        return {term: _number(f"{name}[{term!r}]", gain) for term, gain in gains.items()}
    return _number(name, value)


def _number(what: str, value: Any) -> float:
    array = numbers(what, value)
    if array.size != 1:
        raise ValueError(f"{what} of shape {array.shape}, expected a number")
    return float(array.reshape(()))


@_distrustful
def numbers(what: str, answer: Any) -> np.ndarray:
    """An array of real numbers as float64."""
    array = np.asarray(answer)
    if array.dtype.kind in NOT_REAL and not _is_small_float(array.dtype):
        raise TypeError(f"{what} as {_kind(answer)}, expected real numbers")
    return array.astype(np.float64)


@_distrustful
def gradient(answer: Any, key: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Gradient of one loss with respect to an input, of those of all; zeros where it is not connected to it."""
    what, of_loss = repr(key), answer.get(key)
    by_name = {} if of_loss is None else dict(_items(f"gradient of {what}", of_loss))
    if by_name.get(name) is None:
        return np.zeros(shape)
    array = numbers(f"gradient of {what} with respect to {name}", by_name[name])
    if array.shape != shape:
        raise ValueError(f"gradient of {what} with respect to {name} of shape {array.shape}, expected {shape}")
    return array


@_distrustful
def accumulated_gradients(
    answer: Any, passes: int, shapes: Mapping[str, tuple[int, ...]]
) -> list[dict[str, np.ndarray]]:
    """For each backward pass the gradient of each input; zeros where nothing has accumulated."""
    listed = _listed("the answer", answer)
    if len(listed) != passes:
        raise ValueError(f"gradients after {len(listed)} backward passes, expected {passes}")
    return [
        {name: gradient({key: each}, key, name, shape) for name, shape in shapes.items()}
        for key, each in ((f"backward pass {place}", each) for place, each in enumerate(listed))
    ]


@_distrustful
def matchings(answer: Any) -> list[list[Matching]]:
    """Pairs for each layer, and in it for each image."""
    return [pairs(layer) for layer in _listed("the answer", answer)]


@_distrustful
def pairs(answer: Any) -> list[Matching]:
    """Two arrays of indices for each image."""
    images = [_listed("an image's pairs", image) for image in _listed("the images of a layer", answer)]
    for image, sides in enumerate(images):
        if len(sides) != 2:
            raise ValueError(f"{len(sides)} arrays of indices for image {image}, expected 2")
    return [(_indices("queries", queries), _indices("targets", targets)) for queries, targets in images]


@_distrustful
def denoising_group(answer: Any) -> DenoisingGroup | None:
    """Denoising queries with every part an array of the right kind and number of axes."""
    if answer is None:
        return None
    if not isinstance(answer, DenoisingGroup):
        raise TypeError(f"{_kind(answer)}, expected a DenoisingGroup or None")
    blocked = np.asarray(answer.blocked)
    if blocked.dtype != np.bool_:
        raise TypeError(f"blocked as {_kind(answer.blocked)}, expected booleans")
    return DenoisingGroup(
        labels=_axes("labels", numbers("labels", answer.labels), 3),
        boxes=_axes("boxes", numbers("boxes", answer.boxes), 3),
        blocked=_square(blocked),
        pos_idx=[_indices("pos_idx", each) for each in _listed("pos_idx", answer.pos_idx)],
        gt_idx=None
        if answer.gt_idx is None
        else [_indices("gt_idx", each) for each in _listed("gt_idx", answer.gt_idx)],
        num_group=int(_indices("num_group", [answer.num_group])[0]),
        num_split=_indices("num_split", answer.num_split).tolist(),
        mutated=list(map(str, answer.mutated)),
        embedding_gradient=None
        if answer.embedding_gradient is None
        else _axes("embedding_gradient", numbers("embedding_gradient", answer.embedding_gradient), 2),
    )


def shortened(value: Any, limit: int = 200) -> str:
    """A value in one line, cut off where it is long."""
    try:
        text = " ".join(str(value).split())
    except RAISED:  # a foreign object that cannot even be printed
        text = _kind(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _kind(answer: Any) -> str:
    """What an object is, for a message: its type, with dtype and shape of an array."""
    if answer is None:
        return "None"
    name = type(answer).__name__
    return f"{name} of {answer.dtype}, shape {answer.shape}" if isinstance(answer, np.ndarray) else name


def _is_small_float(dtype: np.dtype[Any]) -> bool:
    """A format of 8 or 16 bits that an extension of NumPy has brought, such as bfloat16."""
    return dtype.kind == "V" and dtype.names is None and np.can_cast(dtype, np.float64)


def _mapping(what: str, answer: Any) -> Mapping[Any, Any]:
    if not isinstance(answer, Mapping):
        raise TypeError(f"{what} as {_kind(answer)}, expected a mapping")
    return answer


def _items(what: str, answer: Any) -> list[tuple[Any, Any]]:
    return list(_mapping(what, answer).items())


def _listed(what: str, answer: Any) -> list[Any]:
    if isinstance(answer, (str, bytes, Mapping)) or not isinstance(answer, Iterable):
        raise TypeError(f"{what} as {_kind(answer)}, expected a sequence")
    return list(answer)


def _text(what: str, answer: Any) -> str:
    if not isinstance(answer, str):
        raise TypeError(f"{what} as {shortened(answer)}, expected a string")
    return answer


def _indices(what: str, answer: Any) -> np.ndarray:
    """Indices as int64; an empty array may come as floats."""
    array = np.asarray(answer).reshape(-1)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{what} as {_kind(answer)}, expected integers")
    return array.astype(np.int64)


def _axes(what: str, array: np.ndarray, count: int) -> np.ndarray:
    if array.ndim != count:
        raise ValueError(f"{what} of shape {array.shape}, expected {count} axes")
    return array


def _square(array: np.ndarray) -> np.ndarray:
    if array.ndim != 2 or array.shape[0] != array.shape[1]:
        raise ValueError(f"blocked of shape {array.shape}, expected as many rows as columns")
    return array
