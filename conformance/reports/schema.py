"""The form of a report as JSON Schema: `python -m detr_conformance.reports.schema > conformance/report.schema.json`."""

from __future__ import annotations

import sys

import msgspec

from detr_conformance import report
from detr_conformance.json_schema import REFERENCE, described, text_of
from detr_conformance.report import SCHEMA_VERSION, Report


def schema() -> str:
    """The schema as JSON text."""
    _, parts = msgspec.json.schema_components([Report], ref_template=REFERENCE)
    structs = {name: described(part, getattr(report, name)) for name, part in parts.items()}
    whole = structs.pop("Report")
    return text_of(f"Report of detr-conformance, version {SCHEMA_VERSION}", whole, structs)


if __name__ == "__main__":
    sys.stdout.write(schema())
