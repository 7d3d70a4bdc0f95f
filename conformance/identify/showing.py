"""What identification looks like in a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from detr_conformance.errors import one_line, shortened
from detr_conformance.identify.found import Finding, Identification

STYLES = {"found": "", "several": "yellow", "none fits": "bold red", "not asked": "dim"}


def show(found: Identification, console: Console | None = None) -> None:
    """Field by field; the nearest spec; how the port differs from it; what could not be told."""
    console = console or Console(markup=False, highlight=False, emoji=False)
    console.print(_table(found))
    _verdict(found, console)
    _listed("it differs in", [_decided(each) for each in found.differences], console)
    _listed("nothing known fits in", [each.field for each in found.unknown], console)
    _listed("could not tell", [_untold(each) for each in found.untold], console)
    _listed("not asked", found.not_asked, console)
    _listed("not explained", found.unexplained, console)
    _listed("no answer", found.refusals, console)


def _table(found: Identification) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("field", "what the port does", "evidence"):
        table.add_column(name, overflow="fold")
    for each in found.findings:
        if each.told in ("found", "none fits"):
            style = STYLES[each.told]
            table.add_row(Text(each.field, style), Text(_sentence(each)), Text(one_line(each.evidence)))
    return table


def _sentence(finding: Finding) -> str:
    prefix = "nothing known; nearest: " if finding.told == "none fits" else ""
    return prefix + one_line(finding.options[0].sentence)


def _verdict(found: Identification, console: Console) -> None:
    name = one_line(found.port, 80)
    nearest = " or ".join(found.nearest)
    console.print()
    if found.is_exact:
        console.print(Text(f"{name} follows {nearest}", "bold green"))
    else:
        console.print(Text(f"{name} is nearest to {nearest}", "bold yellow"))


def _decided(finding: Finding) -> str:
    return f"{finding.field}: {_sentence(finding)}"


def _untold(finding: Finding) -> str:
    if finding.told == "not asked":
        return f"{finding.field}: {finding.evidence}"
    return f"{finding.field}: {' Or: '.join(one_line(each.sentence) for each in finding.options)}"


def _listed(title: str, lines: list[str], console: Console) -> None:
    if lines:
        console.print(Text(f"{title}:", "bold"))
    for line in lines:
        console.print(Padding(Text(shortened(line)), (0, 0, 0, 2), expand=False))
