"""What `detr-conformance check` was asked for, in a form that travels to the worker processes of pytest-xdist."""

from __future__ import annotations

import msgspec

from detr_conformance.properties.levels import Level

TIMEOUTS = {"smoke": 60, "standard": 300, "exhaustive": 1800}
"""Seconds after which a rule is given up, by level; `-- --timeout SECONDS` sets another limit."""


COMMAND = "command"
"""The adapter of a port that a command starts: `port` is the command."""


class CheckOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `check` that decide what is judged, and by what.

    Attributes:
        port: a built-in name, `package.module:attribute`, or a command.
        adapter: `ultralytics` if the attribute is a loss class with that signature, `COMMAND` if it is a command.
        denoising: `package.module:function`, a generator of denoising queries to judge beside the loss class.
        profile: the conventions to hold the port to, a name or `package.module:SPEC`; None for those that it names.
        level: smoke, standard or exhaustive.
        seed: which cases are drawn.
        targets: path of a COCO annotations file, or of a folder of YOLO labels.
        case: path of a LossCase in JSON; the only case, if given.
        packets: folder to write a packet of each failure to.
        known_deviations: path of a list of rules that the port is known to break; None for that in its pyproject.toml.
        shard: which part of the rules, and of how many: (2, 3) is the second of three; None for all.
        memory: gigabytes that a worker process may take above what it holds once the port is built.
    """

    port: str
    adapter: str | None = None
    denoising: str | None = None
    profile: str | None = None
    level: Level = "standard"
    seed: int = 0
    targets: str | None = None
    case: str | None = None
    packets: str | None = None
    known_deviations: str | None = None
    shard: tuple[int, int] | None = None
    memory: float = 4.0

    def naming_the_port(self) -> list[str]:
        """The arguments of `check` that say which port it is."""
        own_spec = self.profile if self.profile and ":" in self.profile else None
        adapter = None if self.adapter == COMMAND else self.adapter
        given = {"--adapter": adapter, "--denoising": self.denoising, "--profile": own_spec}
        named = ["--command", self.port] if self.adapter == COMMAND else [self.port]
        return [*named, *(part for option, value in given.items() if value for part in (option, value))]

    def encoded(self) -> str:
        """As one argument of a command line."""
        return msgspec.json.encode(self).decode()

    @staticmethod
    def decoded(text: str) -> CheckOptions:
        """Back from `encoded`."""
        return msgspec.json.decode(text, type=CheckOptions)
