"""`detr-conformance serve`: answer on standard streams for a port in Python."""

from __future__ import annotations

import argparse

from detr_conformance.commands.arguments import Commands, add_port, port_of

ABOUT = (
    "Speak the protocol of --command on standard streams, for a port in Python: in another environment, or a container."
)


def add_parser(commands: Commands) -> None:
    """What `serve` takes."""
    parser = commands.add_parser("serve", help="answer on standard streams for a port", description=ABOUT)
    parser.set_defaults(run=_run)
    add_port(parser)


def _run(given: argparse.Namespace) -> int:
    from detr_conformance.options import CheckOptions
    from detr_conformance.protocol.serving import serve
    from detr_conformance.resolve import resolve

    options = CheckOptions(**port_of(given))
    serve(lambda: resolve(options)[0])
    return 0
