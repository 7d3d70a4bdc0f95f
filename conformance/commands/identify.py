"""`detr-conformance identify`: which convention a port follows."""

from __future__ import annotations

import argparse

from detr_conformance.commands.arguments import Commands, add_port, gigabytes, port_of
from detr_conformance.writing import refuse_unwritable, write

ABOUT = "Find out, field by field, which convention a port follows, and name the nearest profile and all differences."


def add_parser(commands: Commands) -> None:
    """What `identify` takes."""
    parser = commands.add_parser("identify", help="find out which convention a port follows", description=ABOUT)
    parser.set_defaults(run=_run)
    add_port(parser)
    parser.add_argument("--memory", metavar="GB", type=gigabytes, default=4.0, help="what the port may take (4)")
    parser.add_argument("--write", metavar="FILE", help="write a Python module there, for check --profile MODULE:SPEC")
    parser.add_argument("--json", metavar="FILE", help="write what was found there")


def _run(given: argparse.Namespace) -> int:
    from detr_conformance.identify.apart import identified
    from detr_conformance.identify.showing import show
    from detr_conformance.options import CheckOptions

    refuse_unwritable(given.write, "--write")
    refuse_unwritable(given.json, "--json")
    options = CheckOptions(**port_of(given), memory=given.memory, level="smoke")
    found = identified(options)
    write(given.write, found.spec, "--write")
    write(given.json, found.to_json(), "--json")
    show(found)
    return 0
