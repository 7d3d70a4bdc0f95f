"""`detr-conformance list` and `spec`: the rules, for the terminal and as a document."""

from __future__ import annotations

import argparse
import sys

from detr_conformance.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    """They take nothing."""
    commands.add_parser("list", help="list the rules and the built-in ports").set_defaults(run=_list)
    commands.add_parser("spec", help="print the rules in Markdown").set_defaults(run=_spec)


def _list(_given: argparse.Namespace) -> int:
    from detr_conformance.spec import listing

    sys.stdout.write(listing())
    return 0


def _spec(_given: argparse.Namespace) -> int:
    from detr_conformance.spec import markdown

    sys.stdout.write(markdown())
    return 0
