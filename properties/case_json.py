"""LossCase as JSON, exact to the bit: floats are hexadecimal strings, arrays are a shape and a flat list.

The one JSON form serves as counterexample, golden vector, and wire format for ports in other languages. Every NaN
becomes the same NaN: its sign and payload are nobody's business.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from detr_conformance.properties.case import (
    RECORDS,
    Denoising,
    Distributions,
    GeneratorConfig,
    LossCase,
    LossConfig,
    Masks,
    MatcherConfig,
)
from detr_conformance.properties.case_masks import POINTS

FORMAT = "detr-conformance case"
VERSION = 1

CaseDocument = dict[str, Any]
"""A case as `to_document` writes it; what it has to look like is known to `from_document` alone."""

HEXADECIMAL = re.compile(r"[+-]?(0x[0-9a-f]+(\.[0-9a-f]*)?(p[+-]?[0-9]+)?|inf|nan)", re.IGNORECASE)
"""What `float.hex` writes. `float.fromhex` also takes "0.5", and makes 5/16 of it."""

AXES = 5
"""No array of a case has more."""

LATER = frozenset({"class_loss", "query_groups"})
"""Options that came after the form: a case that was written before them has their defaults."""

EXTRA = frozenset(RECORDS)
"""Fields that are written only where there is something in them: what extra terms read."""
OF_DENOISING = frozenset({"masks", "corners", "references"})
"""Those of `Denoising`."""

SHOWN = 60
"""So many characters of a wrong value are quoted."""


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


def to_document(case: LossCase) -> CaseDocument:
    """The case as a tree of dicts, lists, strings and integers."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "config": _encode_options(case.config),
        "matcher": _encode_options(case.matcher),
        "generator": _encode_options(case.generator),
        "dtype": case.dtype,
        "pred_bboxes": _encode_array(case.pred_bboxes),
        "pred_scores": _encode_array(case.pred_scores),
        "gt_cls": case.gt_cls.tolist(),
        "gt_bboxes": _encode_array(case.gt_bboxes),
        "gt_groups": [int(count) for count in case.gt_groups],
        "denoising": None if case.denoising is None else _encode_denoising(case.denoising),
        **{name: _ENCODED[name](record) for name, record in case.records().items()},
    }


def from_document(document: Any) -> LossCase:
    """The case that a parsed JSON document holds.

    Raises:
        CaseFormatError: a field is unknown or missing, or its content does not fit.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        raise CaseFormatError(f'not a case: expected a JSON object with "format": "{FORMAT}"')
    version = document.get("version")
    if type(version) is not int or version != VERSION:
        raise CaseFormatError(f"version is {_quoted(version)}, but this release reads version {VERSION}: update it")
    _check_names("the case", document, {each.name for each in fields(LossCase)} | {"format", "version"}, EXTRA)
    decoded = {
        "config": _decode_options("config", document["config"], LossConfig),
        "matcher": _decode_options("matcher", document["matcher"], MatcherConfig),
        "generator": _decode_options("generator", document["generator"], GeneratorConfig),
        "dtype": _decode("dtype", document["dtype"], str),
        "pred_bboxes": _decode_array("pred_bboxes", document["pred_bboxes"]),
        "pred_scores": _decode_array("pred_scores", document["pred_scores"]),
        "gt_cls": _decode_index("gt_cls", document["gt_cls"]),
        "gt_bboxes": _decode_array("gt_bboxes", document["gt_bboxes"]),
        "gt_groups": tuple(_decode_index("gt_groups", document["gt_groups"]).tolist()),
        "denoising": _decode_denoising(document["denoising"]),
        **{name: _DECODED[name](document[name]) for name in RECORDS if document.get(name) is not None},
    }
    try:
        return LossCase(**decoded)
    except (ValueError, TypeError, KeyError) as error:
        raise CaseFormatError(f"the case does not fit together: {error.args[0]}") from error


def from_documents(documents: Iterable[Any]) -> list[LossCase]:
    """Cases whose equal arrays are one array, as they are where one case is a change of another.

    A port that writes into what it is given may show that only in the next case.

    Raises:
        CaseFormatError: as `from_document`.
    """
    known: dict[tuple[tuple[int, ...], str, bytes], np.ndarray] = {}

    def one(array: np.ndarray) -> np.ndarray:
        return known.setdefault((array.shape, array.dtype.str, array.tobytes()), array)

    return [_with_arrays(from_document(each), one) for each in documents]


def _with_arrays(case: LossCase, one: Callable[[np.ndarray], np.ndarray]) -> LossCase:
    """The case with other arrays of the same contents."""
    denoising = case.denoising
    if denoising is not None:
        arrays: dict[str, Any] = {name: one(each) for name, each in denoising.predictions().items()}
        denoising = replace(denoising, **arrays)
    own: dict[str, Any] = {
        name: one(getattr(case, name)) for name in ("pred_bboxes", "pred_scores", "gt_cls", "gt_bboxes")
    }
    for name, record in case.records().items():
        arrays = {field: one(each) for field, each in record.arrays().items()}
        own[name] = replace(record, **arrays)
    return case.change(**own, denoising=denoising)


def _check_names(owner: str, found: Any, expected: set[str], optional: AbstractSet[str] = frozenset()) -> None:
    if not isinstance(found, Mapping):
        raise CaseFormatError(f"{owner} is {_quoted(found)}, expected an object with {', '.join(sorted(expected))}")
    for name in sorted(set(found) - expected):
        raise CaseFormatError(f"{owner} has the unknown field {name[:SHOWN]!r}: remove it, or correct its name")
    for name in sorted(expected - optional - set(found)):
        raise CaseFormatError(f"{owner} lacks the field {name!r}: add it, or write the case anew with to_json")


def _encode_options(options: LossConfig | MatcherConfig | GeneratorConfig) -> dict[str, Any]:
    """Each option in the type of its default: numbers may come as integers or as NumPy's."""
    defaults = asdict(type(options)())
    return {name: _encode(value, defaults[name]) for name, value in asdict(options).items()}


def _encode(value: Any, default: Any) -> Any:
    if isinstance(default, Mapping):
        return {term: float(gain).hex() for term, gain in value.items()}
    return float(value).hex() if isinstance(default, float) else type(default)(value)


def _encode_array(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "values": [float(each).hex() for each in array.ravel()]}


def _encode_masks(masks: Masks) -> dict[str, Any]:
    return {
        "pred_masks": _encode_array(masks.pred_masks),
        "gt_masks": _encode_array(masks.gt_masks),
        "sizes": [[int(each) for each in size] for size in masks.sizes],
        **{name: _encode_array(each) for name, each in masks.arrays().items() if name in POINTS},
    }


def _encode_distributions(given: Distributions) -> dict[str, Any]:
    return {name: _encode_array(each) for name, each in given.arrays().items()}


def _encode_denoising(denoising: Denoising) -> dict[str, Any]:
    return {
        **{name: _encode_array(each) for name, each in denoising.predictions().items()},
        **({} if denoising.references is None else {"references": _encode_array(denoising.references)}),
        "pos_idx": [each.tolist() for each in denoising.pos_idx],
        "gt_idx": [each.tolist() for each in denoising.gt_idx],
        "num_group": int(denoising.num_group),
    }


def _decode(name: str, value: Any, kind: type) -> Any:
    """A value of exactly this type: a bool is no int here."""
    if type(value) is not kind:
        raise CaseFormatError(f"{name} is {_quoted(value)}, expected {_NAMES[kind]}")
    return value


def _decode_float(name: str, text: Any) -> float:
    if isinstance(text, str) and HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError as error:
            raise CaseFormatError(f"{name} is {_quoted(text)}, expected a number that float64 can hold") from error
    raise CaseFormatError(f'{name} is {_quoted(text)}, expected a hexadecimal number in a string, such as "0x1.8p-1"')


def _decode_array(name: str, document: Any) -> np.ndarray:
    _check_names(name, document, {"shape", "values"})
    shape = _decode_index(f"{name}.shape", document["shape"]).tolist()
    listed = _decode(f"{name}.values", document["values"], list)
    values = [_decode_float(f"{name}.values[{place}]", each) for place, each in enumerate(listed)]
    if len(shape) > AXES or min(shape, default=0) < 0 or math.prod(shape) != len(values):
        raise CaseFormatError(
            f"{name} holds {len(values)} values, which do not fit its shape {shape[:AXES]}: correct one"
        )
    return np.array(values, dtype=np.float64).reshape(shape)


def _decode_index(name: str, document: Any) -> np.ndarray:
    indices = [_decode(f"{name}[{place}]", each, int) for place, each in enumerate(_decode(name, document, list))]
    try:
        return np.array(indices, dtype=np.int64)
    except OverflowError as error:
        raise CaseFormatError(f"{name} is {_quoted(indices)}, expected integers of 64 bits") from error


def _decode_options(name: str, document: Any, kind: Any) -> Any:
    """A dataclass of options; which type each has is read off its default."""
    defaults = asdict(kind())
    _check_names(name, document, set(defaults), optional=LATER)
    return kind(**{each: _decode_option(f"{name}.{each}", value, defaults[each]) for each, value in document.items()})


def _decode_option(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, float):
        return _decode_float(name, value)
    if isinstance(default, Mapping):
        return {term: _decode_float(f"{name}.{term}", gain) for term, gain in _decode(name, value, dict).items()}
    return _decode(name, value, type(default))


def _decode_denoising(document: Any) -> Denoising | None:
    if document is None:
        return None
    _check_names("denoising", document, {each.name for each in fields(Denoising)}, OF_DENOISING)
    pos_idx, gt_idx = (
        tuple(
            _decode_index(f"denoising.{name}[{image}]", each)
            for image, each in enumerate(_decode(f"denoising.{name}", document[name], list))
        )
        for name in ("pos_idx", "gt_idx")
    )
    return Denoising(
        bboxes=_decode_array("denoising.bboxes", document["bboxes"]),
        scores=_decode_array("denoising.scores", document["scores"]),
        pos_idx=pos_idx,
        gt_idx=gt_idx,
        num_group=_decode("denoising.num_group", document["num_group"], int),
        **{name: _decode_array(f"denoising.{name}", document[name]) for name in OF_DENOISING if name in document},
    )


def _decode_masks(document: Any) -> Masks:
    _check_names("masks", document, {each.name for each in fields(Masks)}, frozenset(POINTS))
    sizes = _decode("masks.sizes", document["sizes"], list)
    return Masks(
        pred_masks=_decode_array("masks.pred_masks", document["pred_masks"]),
        gt_masks=_decode_array("masks.gt_masks", document["gt_masks"]),
        sizes=tuple(_decode_size(f"masks.sizes[{image}]", each) for image, each in enumerate(sizes)),
        **{name: _decode_array(f"masks.{name}", document[name]) for name in POINTS if name in document},
    )


def _decode_distributions(document: Any) -> Distributions:
    names = {each.name for each in fields(Distributions)}
    _check_names("distributions", document, names)
    return Distributions(**{name: _decode_array(f"distributions.{name}", document[name]) for name in sorted(names)})


def _decode_size(name: str, document: Any) -> tuple[int, int]:
    size = _decode_index(name, document).tolist()
    if len(size) != 2:
        raise CaseFormatError(f"{name} is {_quoted(document)}, expected height and width")
    return size[0], size[1]


def _quoted(value: Any) -> str:
    """A value as it stands in the text, cut off where it is long."""
    text = json.dumps(value, default=repr)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


_ENCODED: Mapping[str, Callable[[Any], Any]] = {"masks": _encode_masks, "distributions": _encode_distributions}
_DECODED: Mapping[str, Callable[[Any], Any]] = {"masks": _decode_masks, "distributions": _decode_distributions}
_NAMES = {str: "a string", int: "an integer", bool: "boolean true or false", list: "a list", dict: "an object"}
