"""Every command with what it takes: `python -m detr_conformance.commands.reference > docs/commands.md`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

INTRODUCTION = """\
# Commands

Made from the code by `python -m detr_conformance.commands.reference`: edit the commands, not this.

Exit status of every command: 0 all is well, 1 the answer is no, 2 the run itself could not be made, 130 interrupted.
"""
# argparse has no public way to ask a parser what it takes. These classes have been the same since Python 3.2.
Actions = Iterable[argparse.Action]


def markdown() -> str:
    """Every command with its arguments and options."""
    from detr_conformance.cli import parser

    [commands] = (each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    about = {each.dest: each.help or "" for each in commands._choices_actions}
    sections = [_section(name, about[name], each) for name, each in commands.choices.items()]
    return "\n".join([INTRODUCTION, *sections])


def _section(name: str, about: str, parser: argparse.ArgumentParser) -> str:
    """One command: its usage, what it is for, and a table of what it takes."""
    actions = [each for each in parser._actions if not isinstance(each, argparse._HelpAction)]
    description = parser.description if parser.description not in {None, _sentence(about)} else ""
    paragraphs = [f"## {name}", _sentence(about), description, _table(actions), parser.epilog]
    return "\n\n".join(each for each in paragraphs if each) + "\n"


def _table(actions: list[argparse.Action]) -> str:
    """Arguments and options with their help; nothing for a command without any."""
    return "\n".join(["| | |", "|---|---|", *_rows(actions)]) if actions else ""


def _rows(actions: Actions) -> Iterator[str]:
    for each in actions:
        value = _value(each)
        name = f"{each.option_strings[-1]} {value}".strip() if each.option_strings else value
        meaning = (each.help or "").replace("|", "\\|").replace("%%", "%")
        yield f"| `{name}` | {meaning} |"


def _value(action: argparse.Action) -> str:
    """What stands for the value on the command line; nothing for a flag."""
    if action.nargs == 0:
        return ""
    names = " / ".join(map(str, action.choices)) if action.choices else str(action.metavar or action.dest.upper())
    return f"{names} …" if action.nargs in {"+", "*"} else names


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


if __name__ == "__main__":
    sys.stdout.write(markdown())
