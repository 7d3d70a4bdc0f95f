"""The operator that needs to know a function as a whole: one of its variables for its neighbour."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from itertools import pairwise


@cache
def neighbours(function: ast.FunctionDef) -> dict[str, list[str]]:
    """For each argument, and each name that is bound in a row of several, the next of the row, and the one before."""
    arguments = [each.arg for each in function.args.args if each.arg != "self"]
    rows = [arguments, *(_names(each) for each in ast.walk(function) if isinstance(each, ast.Tuple))]
    found: dict[str, list[str]] = {}
    for row in rows:
        for own, other in [*pairwise(row), *pairwise(reversed(row))]:
            found.setdefault(own, []).append(other)
    return found


def _names(row: ast.Tuple) -> list[str]:
    stored = isinstance(row.ctx, ast.Store)
    return [each.id for each in row.elts if isinstance(each, ast.Name)] if stored else []


def confused_name(node: ast.AST, function: ast.FunctionDef) -> Iterator[ast.AST]:
    """A variable of the same row, such as the height for the width."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        for other in neighbours(function).get(node.id, ()):
            yield ast.Name(other, node.ctx)
