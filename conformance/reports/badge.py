"""The verdict as a badge, in the form of shields.io's endpoint: https://shields.io/badges/endpoint-badge."""

from __future__ import annotations

import json

from detr_conformance.report import Report
from detr_conformance.reports import facts

COLOURS = {"conformant": "brightgreen", "partial": "yellow", "non-conformant": "red"}


def badge(report: Report) -> str:
    """The badge as JSON."""
    words = {
        "conformant": f"conformant{facts.remarked(report)}",
        "partial": f"partial: {report.counts.passed} of {facts.total(report)}{facts.remarked(report)}",
        "non-conformant": "non-conformant",
    }
    message = words[report.verdict]
    document = {"schemaVersion": 1, "label": "DETR loss", "message": message, "color": COLOURS[report.verdict]}
    return json.dumps(document, indent=1) + "\n"
