"""Known deviations: the rules that a port is known to break, each with the reason (`known_deviations_file`).

A listed rule that fails is `xfail`. One that passes is `stale`, which fails the run: a list that nobody prunes hides
the next failure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

import msgspec
from packaging.requirements import Requirement

from detr_conformance.errors import UsageError, one_line
from detr_conformance.properties.case import LossCase
from detr_conformance.properties.judging import RuleResult, judge_on
from detr_conformance.properties.port import Port
from detr_conformance.properties.rule import Rule
from detr_conformance.reference import LossSpec
from detr_conformance.report import FAILED, Report, RuleEntry

ENTRIES = "known-deviations"


@dataclass(frozen=True)
class KnownDeviation:
    """One rule that a port is known to break.

    Attributes:
        rule: its id.
        reason: why it breaks it.
        link: where more is said; empty if nowhere.
        dtype: of the cases that show it; None for any.
        device: of the ports that have it; None for any.
        version: versions that have it, as a requirement such as `torch<2.4`; None for any.
        witness: a case that shows it, from a packet, after those to ask about first; empty if there is none.
        where: file and entry, for messages.
    """

    rule: str
    reason: str
    link: str = ""
    dtype: str | None = None
    device: str | None = None
    version: str | None = None
    witness: tuple[LossCase, ...] = ()
    where: str = ""

    def concerns(self, port: Port) -> bool:
        """Whether it is said of this port, on this device and with these versions.

        Raises:
            UsageError: the package whose version decides is not installed.
        """
        if self.device is not None and self.device != str(getattr(port, "device", "cpu")).partition(":")[0]:
            return False
        if self.dtype is not None and self.dtype not in port.dtypes:
            return False
        return self.version is None or _holds(self.version, self.where)

    def explains(self, entry: RuleEntry) -> bool:
        """Whether a failure is the one that is known."""
        return self.dtype is None or entry.case is None or entry.case["dtype"] == self.dtype


Known = Mapping[str, Sequence[KnownDeviation]]
"""Known deviations by the id of the rule."""


def witnessed(rule: Rule, known: Known, port: Port, profile: LossSpec) -> RuleResult | None:
    """The failure that a witness shows, if the rule is listed and one does: no other case has to be tried then.

    Args:
        rule: about to be judged.
        known: the list.
        port: the port.
        profile: the conventions that it is held to.
    """
    for each in known.get(rule.id, ()):
        if each.witness:
            *earlier, case = each.witness
            outcome = judge_on(case, rule, port, profile, earlier)
            if outcome.verdict in FAILED:
                return outcome
    return None


def apply(entry: RuleEntry, known: Known, on_all_cases: bool = True) -> RuleEntry:
    """The entry with `xfail` for a failure that is known, and `stale` for a known one that passes.

    Args:
        entry: what came of a rule.
        known: the list.
        on_all_cases: the rule was judged on the cases that it asks for. A pass on a case that somebody chose says
            nothing about the others.
    """
    listed = known.get(entry.id, ())
    if entry.verdict == "pass" and listed and on_all_cases:
        return _stale(entry, listed)
    explaining = [each for each in listed if each.explains(entry)]
    if entry.verdict not in FAILED or not explaining:
        return entry
    [first, *_] = explaining
    link = f" ({first.link})" if first.link else ""
    return msgspec.structs.replace(entry, verdict="xfail", message=f"known: {first.reason}{link}\n{entry.message}")


def _stale(entry: RuleEntry, listed: Sequence[KnownDeviation]) -> RuleEntry:
    said = "; ".join(f"{each.where}: {each.reason}" for each in listed)
    return msgspec.structs.replace(
        entry,
        verdict="stale",
        message=f"listed as a known deviation, but it passes: remove it from the list, or give it a witness ({said})",
    )


def draft(report: Report, packets: Mapping[str, str] | None = None) -> str:
    """A file of known deviations for every failure of a report, with the reasons left to be filled in.

    Args:
        report: of a run.
        packets: for rules that have one, the path of a packet, from the folder that the file will lie in.
    """
    failed = [entry for entry in report.rules if entry.verdict in FAILED]
    kept = [entry for entry in report.rules if entry.verdict == "xfail"]
    head = f"# Known deviations of {one_line(report.port.name)}. Give every reason: an empty one is an error.\n"
    if kept:
        head += f"# Already known, and not repeated here: {', '.join(entry.id for entry in kept)}.\n"
    return head + "".join(_drafted(entry, (packets or {}).get(entry.id)) for entry in failed)


def _drafted(entry: RuleEntry, witness: str | None) -> str:
    message = entry.message.splitlines()[0] if entry.message else ""
    about = one_line(f"{entry.title}: {message}")
    lines = ["", f"[[{ENTRIES}]]", f"# {about}", f"rule = {_quoted(entry.id)}", 'reason = ""']
    lines += [] if witness is None else [f"witness = {_quoted(witness)}"]
    return "".join(f"{line}\n" for line in lines)


def _quoted(text: str) -> str:
    """A TOML string: JSON's escapes are TOML's."""
    return msgspec.json.encode(text).decode()


def _holds(version: str, where: str) -> bool:
    """Whether the installed version of a package is one of these."""
    requirement = Requirement(version)
    try:
        installed = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        raise UsageError(f"{where}: {requirement.name} is not installed, so {version} cannot be decided") from None
    return requirement.specifier.contains(installed, prereleases=True)
