"""The messages as JSON Schema: `python -m detr_conformance.protocol.schema > conformance/protocol.schema.json`.

Messages are made of what a port in Python is called with, and of what it returns: the signatures of `properties.port`,
and the records that these name, describe both. No struct of a message says so a second time.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_type_hints

import msgspec
from jaxtyping import AbstractArray

from detr_conformance.json_schema import REFERENCE, Schema, described, text_of
from detr_conformance.properties import port
from detr_conformance.properties.case import (
    Denoising,
    Distributions,
    GeneratorConfig,
    LossCase,
    LossConfig,
    Masks,
    MatcherConfig,
)
from detr_conformance.properties.place import Raised
from detr_conformance.protocol.description import Description
from detr_conformance.protocol.messages import DTYPES, PROTOCOL
from detr_conformance.reference.keys import LayerKeys

PORTS = (
    port.Port,
    port.MatchingPort,
    port.ReusablePort,
    port.IndexingPort,
    port.GeneratingPort,
    port.DistributedPort,
    port.AccumulatingPort,
    port.ConfiguredPort,
    port.PointCountingPort,
    port.DifferentiatedPort,
    port.ModalPort,
    port.SituatedPort,
    port.SignedPort,
    port.SignedMatchingPort,
    port.SignedGeneratingPort,
)
"""Where the methods of a port are declared."""
SENT = (LossCase, LossConfig, MatcherConfig, GeneratorConfig, Denoising, Masks, Distributions)
"""Records of a request, which has all of their fields."""
RECORDS = (*SENT, port.LossResult, port.DenoisingGroup, Description, LayerKeys, Raised)
CHOICES = {"mode": [*port.MODES], "situation": [*port.SITUATIONS], "passing": [*port.PASSING, port.LATER]}
"""What a parameter of a method can be."""
INTEGERS: Schema = {"type": "array", "items": {"type": "integer"}}
ARRAY: Schema = {"$ref": "#/$defs/Array"}


def schema() -> str:
    """The schema as JSON text."""
    hints = {name: get_type_hints(method) for name, method in methods().items()}
    kinds = [Description, Raised, *(kind for each in hints.values() for kind in each.values())]
    schemas, parts = msgspec.json.schema_components(kinds, schema_hook=_of_array, ref_template=REFERENCE)
    description, error, *of_methods = schemas
    messages = dict(_of_harness(description, error))
    for name, each in hints.items():
        given = dict(zip(each, of_methods, strict=False))
        del of_methods[: len(each)]
        answer = given.pop("return")
        choices = {name: {"enum": CHOICES[name]} for name in given.keys() & CHOICES}
        about = inspect.getdoc(methods()[name]) or ""
        messages[f"{name}_request"] = _request(name, about, **(given | choices))
        messages[f"{name}_reply"] = _reply(answer=answer)
    any_of = {"anyOf": [{"$ref": REFERENCE.format(name=name)} for name in messages]}
    records = {record.__name__: _of_record(parts[record.__name__], record) for record in RECORDS}
    title = f"A message between detr-conformance and a port that --command starts, version {PROTOCOL}"
    return text_of(title, any_of, {**messages, "Array": _array(), **records})


def methods() -> dict[str, Callable[..., Any]]:
    """Every method of a port, by its name."""
    names = {"loss", *port.METHODS.values()}
    return {name: method for each in PORTS for name, method in vars(each).items() if name in names}


def _of_harness(description: Schema, error: Schema) -> Iterator[tuple[str, Schema]]:
    """Messages that are about no case."""
    arrays = {"type": "array", "items": ARRAY}
    yield "describe_request", _request("describe", "Ask what the port is.", protocol={"const": PROTOCOL})
    yield "describe_reply", _reply(answer=description)
    yield "echo_request", _request("echo", "Ask for the same arrays.", values=arrays)
    yield "echo_reply", _reply(answer=arrays)
    yield "stop_request", _object("Ask the process to end. There is no reply.", {"method": {"const": "stop"}})
    yield "error_reply", _reply(error=error)


def _request(method: str, about: str, **given: Schema) -> Schema:
    number = {"type": "integer", "description": "of the request, which its reply repeats"}
    return _object(about, {"id": number, "method": {"const": method}, **given})


def _reply(**told: Schema) -> Schema:
    return _object("", {"id": {"type": "integer"}, **told})


def _array() -> Schema:
    return _object(
        "An array: base64 of its bytes, little-endian, in C order.",
        {
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "dtype": {"enum": [*DTYPES]},
            "data": {"type": "string", "contentEncoding": "base64", "pattern": "^[A-Za-z0-9+/]*={0,2}$"},
        },
    )


def _object(about: str, properties: Mapping[str, Schema]) -> Schema:
    """An object with these properties and no others."""
    told = {"description": " ".join(about.split())} if about else {}
    required = {"required": [*properties], "additionalProperties": False}
    return {**told, "type": "object", "properties": properties, **required}


def _of_array(kind: type[Any]) -> Schema:
    """An array by its annotation: indices are lists, and a loss may be a plain number."""
    assert issubclass(kind, AbstractArray)  # noqa: S101  # no record holds anything else
    axes = kind.dim_str.split()
    if any(dtype.startswith("int") for dtype in kind.dtypes):
        return INTEGERS
    if axes == ["..."]:
        return {"anyOf": [ARRAY, {"type": "number"}]}
    sizes = [{"const": int(axis)} if axis.isdecimal() else {"title": axis} for axis in axes]
    shape = {"prefixItems": sizes, "minItems": len(axes), "maxItems": len(axes)}
    return {**ARRAY, "properties": {"shape": shape}}


def _of_record(part: Schema, record: type[Any]) -> Schema:
    found = {**described(part, record), "additionalProperties": False}
    if record not in SENT:
        return found
    properties = {
        name: {key: each[key] for key in each if key != "default"} for name, each in found["properties"].items()
    }
    return {**found, "properties": properties, "required": [*properties]}


if __name__ == "__main__":
    sys.stdout.write(schema())
