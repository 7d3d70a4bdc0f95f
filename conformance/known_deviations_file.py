"""The file of known deviations, read and checked.

They stand in the port's `pyproject.toml`, or in a TOML file of their own, where tables are named without the prefix:

    [[tool.detr-conformance.known-deviations]]
    rule = "NUM-07"
    reason = "alpha stays rounded after a bfloat16 batch; fixed upstream, not released"
    link = "https://…"                # optional, like everything below
    dtype = "bfloat16"                # only failures on cases of this dtype
    device = "cuda"                   # only ports on this device
    version = "torch<2.4"             # only where such a version is installed
    witness = "packets/num-07.json"   # a packet that shows it; judged first, so that the failure is quick and certain
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from detr_conformance.errors import UsageError, one_line
from detr_conformance.known_deviations import ENTRIES, Known, KnownDeviation
from detr_conformance.packets.packet import Packet
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.case_json import from_document
from detr_conformance.properties.port import Port
from detr_conformance.properties.rules import RULES
from detr_conformance.properties.tolerance import PRECISIONS
from detr_conformance.reading import read_text
from detr_conformance.replay import load as load_packet

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = "detr-conformance"
OWN = f"[[{ENTRIES}]]"
IN_PROJECT = f"[[tool.{TABLE}.{ENTRIES}]]"
OPTIONAL = ("link", "dtype", "device", "version", "witness")
FIELDS = ("rule", "reason", *OPTIONAL)


def load(file: str | None, port: Port, folder: Path | None = None) -> Known:
    """The known deviations that concern a port.

    Args:
        file: a TOML file of known deviations, or a pyproject.toml; None for the pyproject.toml of the folder, if it
            has one.
        port: the port.
        folder: the current one by default.

    Raises:
        UsageError: the file cannot be used; file, entry, and what was expected are named.
    """
    path = Path(file) if file is not None else (folder or Path.cwd()) / "pyproject.toml"
    if file is None and not path.exists():
        return {}
    known: dict[str, list[KnownDeviation]] = {}
    for place, entry in enumerate(_entries(path, asked_for=file is not None), start=1):
        deviation = _deviation(entry, f"{path}: known deviation {place}", path.parent)
        if deviation.concerns(port):
            known.setdefault(deviation.rule, []).append(deviation)
    return known


def _entries(path: Path, asked_for: bool) -> list[Any]:
    """The entries of a file, unchecked."""
    try:
        document = tomllib.loads(read_text(path, "a TOML file"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is no TOML ({one_line(error)}): correct it") from error
    if path.name == "pyproject.toml":
        table, heading = document.get("tool", {}).get(TABLE, {}), IN_PROJECT
    else:
        table, heading = document, OWN
    if not isinstance(table, dict) or set(table) - {ENTRIES}:
        odd = ", ".join(sorted(set(table) - {ENTRIES})) if isinstance(table, dict) else one_line(table)
        raise UsageError(f"{path} has {odd}, which nothing here reads: expected {heading} alone")
    if ENTRIES not in table and asked_for:
        raise UsageError(f"{path} lists no known deviations: expected {heading}")
    entries = table.get(ENTRIES, [])
    if not isinstance(entries, list):
        raise UsageError(f"{path}: {ENTRIES} is {one_line(entries)}, expected a list of tables, {heading}")
    return entries


def _deviation(entry: Any, where: str, folder: Path) -> KnownDeviation:  # noqa: ANN401  # whatever the file has there
    """One entry, checked."""
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is {one_line(entry)}, expected a table with {', '.join(FIELDS)}")
    where = f"{where} ({one_line(entry.get('rule', 'no rule'))})"
    for name in sorted(set(entry) - set(FIELDS)):
        raise UsageError(f"{where} has the unknown field {one_line(name)!r}, expected some of {', '.join(FIELDS)}")
    for name in FIELDS:
        value = entry.get(name, "" if name in OPTIONAL else None)
        if not isinstance(value, str):
            came = "is missing" if name not in entry else f"is {one_line(value)}"
            raise UsageError(f"{where}: {name} {came}, expected a text")
    _check(entry, where)
    witness = _witness(entry, where, folder) if "witness" in entry else ()
    return KnownDeviation(**{**entry, "witness": witness, "where": where})


def _check(entry: Mapping[str, str], where: str) -> None:
    """A rule that there is, a reason, a dtype, and a version that can be understood."""
    if entry["rule"] not in {rule.id for rule in RULES}:
        raise UsageError(f"{where}: there is no rule {one_line(entry['rule'])!r}, see `detr-conformance list`")
    if not entry["reason"].strip():
        raise UsageError(f"{where}: the reason is empty, expected one sentence on why the port breaks the rule")
    if "dtype" in entry and entry["dtype"] not in PRECISIONS:
        raise UsageError(f"{where}: dtype is {one_line(entry['dtype'])!r}, expected one of {', '.join(PRECISIONS)}")
    if "device" in entry and not entry["device"].isalpha():
        raise UsageError(f"{where}: device is {one_line(entry['device'])!r}, expected a name such as cpu or cuda")
    if "version" in entry:
        try:
            Requirement(entry["version"])
        except InvalidRequirement as error:
            raise UsageError(
                f"{where}: version is {one_line(entry['version'])!r}, expected a condition such as torch<2.4"
            ) from error


def _witness(entry: Mapping[str, str], where: str, folder: Path) -> tuple[LossCase, ...]:
    """The case of a packet, which has to be about the same rule, after those to ask about first."""
    packet, case = _packet(folder / entry["witness"], where)
    if packet.rule.id != entry["rule"]:
        raise UsageError(f"{where}: its witness is about {packet.rule.id}, expected a packet of {entry['rule']}")
    return (*map(from_document, packet.earlier), case)


def _packet(path: Path, where: str) -> tuple[Packet, LossCase]:
    try:
        return load_packet(path)
    except UsageError as error:
        raise UsageError(f"{where}: its witness {error}") from error
