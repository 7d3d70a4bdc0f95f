"""`detr-conformance list`, `spec` and `conventions`: rules and conventions, for the terminal and as documents."""

from __future__ import annotations

import argparse
import sys

from detr_conformance.commands.arguments import Commands


def add_parser(commands: Commands) -> None:
    """They take nothing."""
    commands.add_parser("list", help="list the rules and the built-in ports").set_defaults(run=_list)
    commands.add_parser("spec", help="print the rules in Markdown").set_defaults(run=_spec)
    commands.add_parser("conventions", help="print the conventions in Markdown").set_defaults(run=_conventions)


def _list(_given: argparse.Namespace) -> int:
    from detr_conformance.spec import listing

    sys.stdout.write(listing())
    return 0


def _spec(_given: argparse.Namespace) -> int:
    from detr_conformance.spec import markdown

    sys.stdout.write(markdown())
    return 0


def _conventions(_given: argparse.Namespace) -> int:
    from detr_conformance.conventions import markdown

    sys.stdout.write(markdown())
    return 0
