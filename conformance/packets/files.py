"""Writing packets: for each failure a JSON file, a script that shows it, and a picture."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from os.path import relpath
from pathlib import Path

from detr_conformance.errors import UsageError, one_line, visible
from detr_conformance.options import CheckOptions
from detr_conformance.packets.composing import Told, compose, told
from detr_conformance.packets.packet import Packet, PacketPort
from detr_conformance.packets.script import script, script_name
from detr_conformance.picture import picture
from detr_conformance.properties.case_json import from_document
from detr_conformance.properties.judging import RuleResult
from detr_conformance.properties.port import Port
from detr_conformance.reference import LossSpec
from detr_conformance.report import FAILED
from detr_conformance.versions import versions_for

LONGEST_NAME = 60


def keep(
    outcome: RuleResult,
    port: Port,
    profile: LossSpec,
    options: CheckOptions,
    directory: str,
    account: Told | None = None,
) -> Path | None:
    """Write what is needed to show a failure; None for a result that is no failure, or that has no case.

    The port is called, and may end the process in which this runs.

    Args:
        outcome: what came of a rule.
        port: the port.
        profile: the conventions that it is held to.
        options: how the port was asked for.
        directory: where to; it is made if there is none.
        account: of the calls in a new process. If there is none, or it does not show the failure, the rule is checked
            here once more.

    Raises:
        UsageError: the folder cannot be made or written into.
    """
    if outcome.verdict not in FAILED or outcome.case is None:
        return None
    source = PacketPort(
        name=visible(port.name), spec=options.port, adapter=options.adapter, denoising=options.denoising
    )
    if account is None or not account.broken:
        account = told(outcome.rule, port, profile, outcome.case)
    packet = compose(outcome, outcome.case, account, options.profile or profile.name, source, _versions(options.port))
    return write_packet(packet, port, profile, Path(directory))


def write_packet(packet: Packet, port: Port, profile: LossSpec, folder: Path) -> Path:
    """Write one packet with its script and its picture.

    Raises:
        UsageError: it cannot be written.
    """
    name = packet_name(packet.rule.id, packet.port.name).removesuffix(".json")
    files = {
        f"{name}.json": packet.to_json(),
        script_name(f"{name}.json"): script(packet, f"{name}.json", _is_port(packet.port.spec)),
        f"{name}.svg": picture(from_document(packet.case), profile, port),
    }
    _write(files, folder)
    return folder / f"{name}.json"


def refuse_unwritable_folder(directory: str | None) -> None:
    """Raise UsageError if the folder cannot be made or written into; None is no folder."""
    if directory is not None:
        probe = ".detr-conformance"
        _write({probe: ""}, Path(directory))
        (Path(directory) / probe).unlink()


def packet_name(rule_id: str, port_name: str) -> str:
    """What the packet of a rule and a port is called."""
    return f"{safe(rule_id)}_{safe(port_name)}.json"


def written(rule_ids: Iterable[str], port_name: str, directory: str | None, beside: str) -> dict[str, str]:
    """Packets of these rules that lie in a folder, as paths from where another file lies, such as a draft."""
    paths = {each: Path(directory or "") / packet_name(each, port_name) for each in rule_ids if directory is not None}
    start = Path(beside).absolute().parent
    return {each: Path(relpath(path, start)).as_posix() for each, path in paths.items() if path.exists()}


def safe(name: str) -> str:
    """A part of a file's name: small letters, digits and dashes, whatever a port calls itself."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST_NAME] or "port"


def _write(files: Mapping[str, str], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{folder} cannot be written ({one_line(reason)}): give --packets another folder") from error


def _is_port(spec: str) -> bool:
    """Whether the attribute is a port itself; its module has been imported when the port was resolved."""
    module, _, name = spec.partition(":")
    found = getattr(sys.modules.get(module), name, None)
    return not isinstance(found, type) and isinstance(found, Port)


@lru_cache(maxsize=1)
def _versions(spec: str) -> dict[str, str]:
    return versions_for(spec)
