"""LossCase as JSON, exact to the bit: floats are hexadecimal strings, arrays are a shape and a flat list.

The one JSON form serves as counterexample, golden vector, and wire format for ports in other languages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from detr_conformance.properties.case import Denoising, GeneratorConfig, LossCase, LossConfig, MatcherConfig

FORMAT = "detr-conformance case"
VERSION = 1


class CaseFormatError(ValueError):
    """A text that is not a LossCase; the message says in one sentence what is wrong and what to do."""


def to_json(case: LossCase) -> str:
    """The case as JSON text."""
    return json.dumps(to_document(case), indent=1)


def from_json(text: str) -> LossCase:
    """The case that a JSON text holds.

    Raises:
        CaseFormatError: the text is truncated, a field is unknown or missing, or its content does not fit.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise CaseFormatError(
            f"not valid JSON at line {error.lineno}, column {error.colno} ({error.msg}): is the file complete?"
        ) from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer of thousands of digits
        raise CaseFormatError("not a case: it is nested too deeply, or holds a number that is too long") from error
    return from_document(document)


def to_document(case: LossCase) -> dict[str, Any]:
    """The case as a tree of dicts, lists, strings and integers."""
    denoising = case.denoising
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": _encode(asdict(case.config)),
        "matcher": _encode(asdict(case.matcher)),
        "generator": _encode(asdict(case.generator)),
        "dtype": case.dtype,
        "pred_bboxes": _encode_array(case.pred_bboxes),
        "pred_scores": _encode_array(case.pred_scores),
        "gt_cls": case.gt_cls.tolist(),
        "gt_bboxes": _encode_array(case.gt_bboxes),
        "gt_groups": list(case.gt_groups),
        "denoising": None if denoising is None else _encode_denoising(denoising),
    }


def from_document(document: Any) -> LossCase:
    """The case that a parsed JSON document holds.

    Raises:
        CaseFormatError: a field is unknown or missing, or its content does not fit.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise CaseFormatError(f'not a case: expected a JSON object with "format": "{FORMAT}"')
    if document.get("version") != VERSION:
        raise CaseFormatError(f"version is {document.get('version')!r}, this release reads version {VERSION}")
    names = {each.name for each in fields(LossCase)}
    _check_names("the case", document, names | {"format", "version"})
    try:
        return LossCase(**{name: _DECODERS[name](document[name]) for name in names})
    except CaseFormatError:
        raise
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CaseFormatError(f"the case does not fit together: {error.args[0] if error.args else error}") from error


def _check_names(owner: str, found: Any, expected: set[str]) -> None:
    if not isinstance(found, Mapping):
        raise CaseFormatError(f"{owner} is {type(found).__name__}, expected an object with {sorted(expected)}")
    for name in sorted(set(found) - expected):
        raise CaseFormatError(f"{owner} has the unknown field {name!r}, expected only {sorted(expected)}: remove it")
    for name in sorted(expected - set(found)):
        raise CaseFormatError(f"{owner} lacks the field {name!r}: add it, or write the case anew with to_json")


def _encode(value: Any) -> Any:
    """Floats to hexadecimal strings, everywhere in a tree."""
    if isinstance(value, Mapping):
        return {name: _encode(each) for name, each in value.items()}
    return value.hex() if isinstance(value, float) else value


def _encode_array(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "values": [float(each).hex() for each in array.ravel()]}


def _encode_denoising(denoising: Denoising) -> dict[str, Any]:
    return {
        "bboxes": _encode_array(denoising.bboxes),
        "scores": _encode_array(denoising.scores),
        "pos_idx": [each.tolist() for each in denoising.pos_idx],
        "gt_idx": [each.tolist() for each in denoising.gt_idx],
        "num_group": denoising.num_group,
    }


def _decode_array(document: Any) -> np.ndarray:
    _check_names("an array", document, {"shape", "values"})
    shape, values = document["shape"], [_decode_float(each) for each in document["values"]]
    if int(np.prod(shape)) != len(values):
        raise CaseFormatError(f"an array of shape {shape} holds {len(values)} values: is the file complete?")
    return np.array(values, dtype=np.float64).reshape(shape)


def _decode_float(text: Any) -> float:
    if isinstance(text, str):
        try:
            return float.fromhex(text)
        except ValueError:
            pass
    raise CaseFormatError(f'{text!r} is not a number: expected hexadecimal digits in a string, such as "0x1.8p-1"')


def _decode_index(values: Any) -> np.ndarray:
    if not isinstance(values, Sequence) or not all(type(each) is int for each in values):
        raise CaseFormatError(f"{str(values)[:60]} is not a list of integers")
    return np.array(values, dtype=np.int64)


def _decode_config(kind: Any) -> Any:
    """A decoder for a dataclass of options; which type each has is read off its default."""
    default = asdict(kind())

    def decode(document: Any) -> Any:
        _check_names(kind.__name__, document, set(default))
        return kind(
            **{name: _decode_option(f"{kind.__name__}.{name}", document[name], default[name]) for name in default}
        )

    return decode


def _decode_option(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, Mapping) and isinstance(value, Mapping):
        return {key: _decode_float(each) for key, each in value.items()}
    if isinstance(default, float) and isinstance(value, str):
        return _decode_float(value)
    if type(value) is type(default) and not isinstance(value, float):
        return value
    expected = "a hexadecimal number in a string" if isinstance(default, float) else type(default).__name__
    raise CaseFormatError(f"{name} is {value!r}, expected {expected}")


def _decode_denoising(document: Any) -> Denoising | None:
    if document is None:
        return None
    _check_names("denoising", document, {each.name for each in fields(Denoising)})
    return Denoising(
        bboxes=_decode_array(document["bboxes"]),
        scores=_decode_array(document["scores"]),
        pos_idx=tuple(_decode_index(each) for each in document["pos_idx"]),
        gt_idx=tuple(_decode_index(each) for each in document["gt_idx"]),
        num_group=int(document["num_group"]),
    )


_DECODERS: dict[str, Any] = {
    "config": _decode_config(LossConfig),
    "matcher": _decode_config(MatcherConfig),
    "generator": _decode_config(GeneratorConfig),
    "dtype": str,
    "pred_bboxes": _decode_array,
    "pred_scores": _decode_array,
    "gt_cls": _decode_index,
    "gt_bboxes": _decode_array,
    "gt_groups": lambda counts: tuple(_decode_index(counts).tolist()),
    "denoising": _decode_denoising,
}
