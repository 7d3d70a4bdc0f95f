"""`detr-conformance check`: judge a port."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from detr_conformance.commands.arguments import Commands, absolute, add_port, gigabytes, number, port_of, shard
from detr_conformance.errors import UsageError
from detr_conformance.options import COMMAND, TIMEOUTS, CheckOptions

AFTER_DASHES = "Arguments after -- go to pytest, such as -k MATCH, -n 4, -x, --junitxml FILE."


def add_parser(commands: Commands) -> None:
    """What `check` takes."""
    parser = commands.add_parser("check", help="judge a port", description="Judge a port.", epilog=AFTER_DASHES)
    parser.set_defaults(run=_run)
    add_port(parser)
    parser.add_argument(
        "--probe", action="store_true", help="with --command: see whether it speaks the protocol, no more"
    )
    parser.add_argument(
        "--profile",
        help="conventions to hold the port to, instead of those that it names: a name, or package.module:SPEC",
    )
    parser.add_argument("--level", choices=list(TIMEOUTS), default="standard", help="how many cases (standard)")
    parser.add_argument("--seed", type=number, default=0, help="which cases are drawn, any whole number (0)")
    cases = parser.add_mutually_exclusive_group()
    cases.add_argument(
        "--targets",
        metavar="FILE_OR_FOLDER",
        help="COCO annotations, or a folder of YOLO labels: judge on the boxes of these images as well",
    )
    cases.add_argument("--case", metavar="FILE", help="a case in JSON: judge on this one alone")
    parser.add_argument("--shard", metavar="I/N", type=shard, help="judge by the I-th of N parts of the rules alone")
    parser.add_argument("--memory", metavar="GB", type=gigabytes, default=4.0, help="what the port may take (4)")
    parser.add_argument("--packets", metavar="DIR", type=absolute, help="write a packet of each failure there")
    known = parser.add_argument_group("known deviations: rules that the port breaks, with reasons")
    known.add_argument("--known-deviations", metavar="FILE", type=absolute, help="list them there (pyproject.toml)")
    known.add_argument("--write-known-deviations", metavar="FILE", type=absolute, help="draft such a list")
    parser.add_argument("--json", metavar="FILE", type=absolute, help="write the report there")
    parser.add_argument("--every-rule", action="store_true", help="show a row for each rule, and explain each failure")


def _run(given: argparse.Namespace, pytest_arguments: Sequence[str]) -> int:
    from detr_conformance.check import check
    from detr_conformance.console import Display

    port = port_of(given)
    options = CheckOptions(**{name: getattr(given, name) for name in CheckOptions.__struct_fields__} | port)
    if given.probe:
        return _probe(options)
    display = Display(given.every_rule)
    return check(options, given.json, given.write_known_deviations, pytest_arguments, display)


def _probe(options: CheckOptions) -> int:
    from detr_conformance.probe import probe

    if options.adapter != COMMAND:
        raise UsageError("--probe is for a port that --command starts: name that, or leave it out")
    return probe(options)
