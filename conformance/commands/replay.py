"""`detr-conformance replay`: judge a port on a packet."""

from __future__ import annotations

import argparse

from detr_conformance.commands.arguments import PORT, Commands, port_of

ABOUT = "Judge a port by the rule of a packet, on its case. Exit status 0 if the rule passes now, 1 if it does not."


def add_parser(commands: Commands) -> None:
    """What `replay` takes."""
    parser = commands.add_parser("replay", help="judge a port on a packet", description=ABOUT)
    parser.set_defaults(run=_run)
    parser.add_argument("packet", metavar="PACKET", help="a file that `check --packets` wrote")
    parser.add_argument("--port", metavar="PORT", help=f"another port than the packet's: {PORT}")
    parser.add_argument("--command", dest="started_by", metavar="COMMAND", help="another port, which this starts")
    parser.add_argument("--adapter", help="how to call it, if it is a loss class: `ultralytics`")
    parser.add_argument("--denoising", metavar="MODULE:FUNCTION", help="a generator like get_cdn_group, with --adapter")
    parser.add_argument(
        "--profile", help="conventions to hold the port to, instead of the packet's: a name, or package.module:SPEC"
    )


def _run(given: argparse.Namespace) -> int:
    from detr_conformance.replay import replay

    if given.started_by is None and given.port is None:
        return replay(given.packet, None, given.adapter, given.denoising, given.profile)
    port = port_of(given)
    return replay(given.packet, port["port"], port["adapter"], port["denoising"], given.profile)
