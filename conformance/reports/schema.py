"""The form of a report as JSON Schema: `python -m detr_conformance.reports.schema > conformance/report.schema.json`."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec

from detr_conformance import report
from detr_conformance.report import SCHEMA_VERSION, Report

Schema = dict[str, Any]
"""JSON Schema, as msgspec writes it."""


def schema() -> str:
    """The schema as JSON text."""
    _, parts = msgspec.json.schema_components([Report], ref_template="#/$defs/{name}")
    described = {name: _described(part, getattr(report, name)) for name, part in parts.items()}
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **described.pop("Report"),
        "title": f"Report of detr-conformance, version {SCHEMA_VERSION}",
        "$defs": described,
    }
    return json.dumps(document, indent=1) + "\n"


def _described(part: Schema, struct: type[msgspec.Struct]) -> Schema:
    """The schema of a struct, with its docstring taken apart: the head describes it, each attribute its property."""
    head, _, attributes = (inspect.getdoc(struct) or "").partition("\n\nAttributes:\n")
    names = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    properties = dict(part["properties"])
    for attribute, text in _attributes(attributes):
        name = names[attribute]
        properties[name] = {"description": text, **properties[name]}
    return {**part, "description": head, "properties": properties}


def _attributes(section: str) -> Iterator[tuple[str, str]]:
    for name, text in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE):
        yield name, " ".join(text.split())


if __name__ == "__main__":
    sys.stdout.write(schema())
