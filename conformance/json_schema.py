"""JSON Schema of records: structs and dataclasses, described by their docstrings."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Schema = dict[str, Any]
"""JSON Schema, as msgspec writes it."""
REFERENCE = "#/$defs/{name}"
"""Where a schema finds that of a record."""


def text_of(title: str, schema: Schema, definitions: Mapping[str, Schema]) -> str:
    """The text of a document: one schema, and the others that it refers to."""
    draft = "https://json-schema.org/draft/2020-12/schema"
    document = {"$schema": draft, **schema, "title": title, "$defs": definitions}
    return json.dumps(document, indent=1) + "\n"


def described(part: Schema, record: type[Any]) -> Schema:
    """The schema of a record, with its docstring taken apart: the head describes it, each attribute its property."""
    head, _, attributes = (inspect.getdoc(record) or "").partition("\n\nAttributes:\n")
    names, properties = _names(record), dict(part["properties"])
    for attribute, text in _attributes(attributes.partition("\n\n")[0]):
        name = names[attribute]
        properties[name] = {"description": text, **properties[name]}
    return {**part, "description": " ".join(head.split()), "properties": properties}


def _names(record: type[Any]) -> dict[str, str]:
    """What each field is called in JSON."""
    if dataclasses.is_dataclass(record):
        return {field.name: field.name for field in dataclasses.fields(record)}
    return {field.name: field.encode_name for field in msgspec.structs.fields(record)}


def _attributes(section: str) -> Iterator[tuple[str, str]]:
    for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
        yield name, " ".join(text.split())
