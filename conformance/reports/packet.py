"""The counterexample of a failure: as a file to download, in a few words, and the command that replays it."""

from __future__ import annotations

import base64
import json
import re
import shlex

from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import CaseFormatError, from_document
from detr_conformance.reference import FAMILY
from detr_conformance.report import Report, RuleEntry


def packet(entry: RuleEntry) -> str:
    """The case as a data URI to download; empty if there is none."""
    return "" if entry.case is None else data_uri("application/json", json.dumps(entry.case, indent=1) + "\n")


def packet_name(entry: RuleEntry) -> str:
    """A file name for the case, of letters, digits and dashes whatever the id is."""
    return f"{re.sub(r'[^A-Za-z0-9-]', '', entry.id)}.json"


def replay(report: Report, entry: RuleEntry) -> list[str]:
    """The command that judges the port on this case alone, in parts that belong together."""
    asked, profile = report.port.asked, report.profile.name
    parts = [f"detr-conformance check {shlex.join(asked) if asked else 'PORT'}"]
    if profile in FAMILY and "--profile" not in asked:
        parts.append(f"--profile {profile}")
    return [*parts, f"--case {packet_name(entry)}", f"-- -k {entry.id}"]


def sizes(entry: RuleEntry) -> str:
    """How large the case is; empty if there is none that can be read."""
    try:
        case = from_document(entry.case)
    except (CaseFormatError, RecursionError):
        return ""
    denoising = [] if case.denoising is None else [_plural(case.denoising.num_group, "denoising group")]
    return ", ".join([*_sizes(case), *denoising, case.dtype])


def _sizes(case: LossCase) -> list[str]:
    counts = {"layer": case.layers, "image": case.images, "query": case.queries, "target": case.targets}
    return [_plural(count, name) for name, count in {**counts, "class": case.config.nc}.items()]


def _plural(count: int, name: str) -> str:
    plurals = {"query": "queries", "class": "classes"}
    return f"{count} {name if count == 1 else plurals.get(name, f'{name}s')}"


def data_uri(kind: str, text: str) -> str:
    """A text as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
