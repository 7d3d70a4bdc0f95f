"""The commands of `detr-conformance`, a module each: what it takes, and what it calls."""

from detr_conformance.commands import check, compare, coverage, identify, lists, merge, power, replay, report, serve

COMMANDS = (check, identify, replay, report, compare, merge, lists, serve, power, coverage)
"""In the order of the help. Each has `add_parser(commands)`, and sets `run`, which is called with what was given."""
