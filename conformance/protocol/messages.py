"""What goes over the streams: cases and answers as JSON, arrays as base64 of little-endian bytes in C order."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from detr_conformance.properties.answers import shortened
from detr_conformance.properties.case import (
    Denoising,
    Distributions,
    GeneratorConfig,
    LossCase,
    LossConfig,
    Masks,
    MatcherConfig,
)
from detr_conformance.properties.port import SEVERAL

PROTOCOL = 1
"""Version of the protocol; `describe` carries it."""
DTYPES = ("float16", "float32", "float64", "int32", "int64", "bool")
"""Of arrays on the streams."""
SHOWN = 80
"""So many characters of what was not understood are quoted."""

ARGUMENTS = {
    "accumulated_gradients": "passes",
    "loss_in_mode": "mode",
    "loss_in_situation": "situation",
    "loss_built": "passing",
    "match_built": "passing",
    "denoising_group_called": "passing",
}
"""What a method is given besides its case, by the name that it has in a request."""


class MessageError(ValueError):
    """A message that is not of the protocol; says in one sentence what is wrong."""


def encoded(value: Any) -> Any:
    """A value as JSON can hold it: arrays as bytes, but those of integers as lists, and records by their fields."""
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind in "iu" else as_array(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: encoded(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): encoded(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [encoded(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def as_array(array: np.ndarray) -> dict[str, Any]:
    """An array of any dtype that there is on the streams."""
    dtype = array.dtype.newbyteorder("<")
    data = base64.b64encode(np.ascontiguousarray(array, dtype).tobytes()).decode("ascii")
    return {"shape": list(array.shape), "dtype": array.dtype.name, "data": data}


def decoded(value: Any, at: str = "") -> Any:
    """The other way round, but for records, which stay mappings.

    Args:
        value: what came.
        at: where, for the message.

    Raises:
        MessageError: an array's bytes do not fit its shape and dtype.
    """
    if isinstance(value, list):
        return [decoded(each, f"{at}[{place}]") for place, each in enumerate(value)]
    if isinstance(value, dict):
        if value.keys() == {"shape", "dtype", "data"}:
            return _decoded_array(at, **value)
        return {name: decoded(each, f"{at}.{name}" if at else name) for name, each in value.items()}
    return value


def _decoded_array(at: str, shape: Any, dtype: Any, data: Any) -> np.ndarray:
    what = f"{at or 'the answer'} is an array"
    if dtype not in DTYPES:
        raise MessageError(f"{what} of dtype {quoted(dtype)}, expected one of {', '.join(DTYPES)}")
    if not (isinstance(shape, list) and all(type(each) is int and each >= 0 for each in shape)):
        raise MessageError(f"{what} of shape {quoted(shape)}, expected a list of integers from 0 on")
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise MessageError(f"{what} whose data {quoted(data)} are not base64 ({error})") from error
    kind = np.dtype(dtype).newbyteorder("<")
    if len(content) != math.prod(shape) * kind.itemsize:
        raise MessageError(f"{what} of shape {shape} and dtype {dtype} with {len(content):,} bytes")
    try:
        return np.frombuffer(content, kind).astype(dtype).reshape(shape)
    except ValueError as error:  # more axes, or a longer one, than there can be
        raise MessageError(f"{what} of shape {shape}: {error}") from error


def request(method: str, argument: LossCase | Sequence[LossCase] | None = None, *more: Any) -> dict[str, Any]:
    """The request that stands for a call of a port's method."""
    message: dict[str, Any] = {"method": method}
    if isinstance(argument, LossCase):
        message["case"] = encoded(argument)
    elif argument is not None:
        message["cases"] = [encoded(each) for each in argument]
    if more:
        message[ARGUMENTS[method]] = encoded(more[0])
    return message


def arguments(message: Mapping[str, Any]) -> list[Any]:
    """What the method of a request is called with.

    Raises:
        MessageError: the request lacks something, or a case is none.
    """
    method = message["method"]
    try:
        given: list[Any] = (
            [[case_of(each) for each in message["cases"]]] if method in SEVERAL else [case_of(message["case"])]
        )
        return given + ([message[ARGUMENTS[method]]] if method in ARGUMENTS else [])
    except KeyError as error:
        raise MessageError(f"a request for {method} without {error.args[0]!r}") from error


def case_of(document: Mapping[str, Any]) -> LossCase:
    """The case of a request.

    Raises:
        MessageError: it is none.
    """
    given = dict(decoded(document))
    try:
        records = {
            "config": LossConfig,
            "matcher": MatcherConfig,
            "generator": GeneratorConfig,
            "distributions": Distributions,
        }
        for name, kind in records.items():
            given[name] = None if given[name] is None else kind(**given[name])
        if given["denoising"] is not None:
            slots = {name: _indices(given["denoising"][name]) for name in ("pos_idx", "gt_idx")}
            given["denoising"] = Denoising(**(given["denoising"] | slots))
        if given["masks"] is not None:
            sizes = tuple((height, width) for height, width in given["masks"]["sizes"])
            given["masks"] = Masks(**(given["masks"] | {"sizes": sizes}))
        given["gt_cls"], given["gt_groups"] = np.array(given["gt_cls"], np.int64), tuple(given["gt_groups"])
        return LossCase(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise MessageError(f"a case that does not fit together ({error})") from error


def _indices(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(row, np.int64) for row in rows)


def line(message: Mapping[str, Any]) -> bytes:
    """A message as one line. Numbers that are not finite go into arrays alone: JSON has none.

    Raises:
        MessageError: there is one outside of an array.
    """
    try:
        return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"
    except ValueError as error:
        raise MessageError(f"a number that JSON does not have ({error}): put it into an array") from error


def parsed(text: bytes) -> dict[str, Any]:
    """The message of a line.

    Raises:
        MessageError: it is none.
    """
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except MessageError:
        raise
    except (ValueError, RecursionError) as error:
        raise MessageError(f"{quoted(text.decode(errors='replace').strip())}, which is no JSON") from error
    if not isinstance(message, dict):
        raise MessageError(f"{quoted(message)}, expected a JSON object")
    return message


def _refuse_constant(name: str) -> None:
    raise MessageError(f"{name}, which JSON does not have: put it into an array")


def quoted(value: Any) -> str:
    """A value as JSON has it, cut off where it is long."""
    return shortened(json.dumps(value, default=str), SHOWN)
