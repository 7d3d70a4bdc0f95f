"""Every mutant of the original: one node of one of its modules replaced, in an order that stays."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache

from .confused_names import confused_name
from .mutated_port import MODULES, MutatedPort, tree_of
from .operators import OPERATORS

Path = tuple[tuple[str, int | None], ...]
"""How to come to a node from the root: fields, with the place where a field is a list."""


@dataclass(frozen=True)
class Mutant:
    """A module of the original with one node replaced.

    Attributes:
        id: function, operator, and which of that operator's mutants of that function it is.
        module: the module that is changed.
        line: where.
        was: the node's source.
        becomes: what stands there instead.
        path: how to come to the node.
        replacement: what stands there instead, as a tree.
    """

    id: str
    module: str
    line: int
    was: str
    becomes: str
    path: Path
    replacement: ast.AST

    def __str__(self):
        return f"{self.module}.py, line {self.line}: {self.change}"

    @property
    def change(self):
        """In a line of source."""
        return f"{self.was} -> {self.becomes}"

    def tree(self):
        return ast.fix_missing_locations(replaced(tree_of(self.module), self.path, self.replacement))

    def port(self):
        return MutatedPort(self.id, {self.module: self.tree()})


@cache
def all_mutants():
    """Those of every module, by id. Several changes that come to the same source are one mutant."""
    found, seen = {}, set()
    for module in MODULES:
        for mutant, statement in mutants_of(module, tree_of(module)):
            before, after = _statement_of(mutant, statement)
            if before != after and (module, statement, after) not in seen:
                seen.add((module, statement, after))
                found[mutant.id] = mutant
    return found


def mutants_of(module, tree) -> Iterator[tuple[Mutant, Path]]:
    """What the operators make of a tree, from top to bottom, each with the path of the statement that it changes."""
    numbers = Counter()
    for place in _places(tree):
        for operator, replacement in _replacements(place):
            numbers[place.scope, operator] += 1
            name = f"{place.scope}/{operator}/{numbers[place.scope, operator]}"
            was, becomes = _short(place.node), _short(replacement)
            yield Mutant(name, module, _line(place.node), was, becomes, place.path, replacement), place.statement


def _replacements(place) -> Iterator[tuple[str, ast.AST]]:
    """The name of each operator, and what it puts there."""
    for operator in OPERATORS:
        for replacement in operator(place.node):
            yield operator.__name__, replacement
    for replacement in confused_name(place.node, place.function):
        yield "confused_name", replacement


@dataclass(frozen=True)
class _Place:
    """Where in a module a node is: the function around it, the name of that, and the path of its statement."""

    node: ast.AST
    path: Path = ()
    statement: Path = ()
    function: ast.FunctionDef | None = None
    scope: str = ""

    def of(self, child, field, number):
        """The place of a child; a function is known by its class as well."""
        path = (*self.path, (field, number))
        statement = path if isinstance(child, ast.stmt) else self.statement
        function, scope = self.function, self.scope
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            scope = f"{scope}.{child.name}".removeprefix(".")
        if isinstance(child, ast.FunctionDef):
            function = child
        return _Place(child, path, statement, function, scope)


def _places(tree) -> Iterator[_Place]:
    """Every node of a function, but docstrings."""
    waiting = [_Place(tree)]
    while waiting:
        place = waiting.pop()
        if place.function is not None and not _is_docstring(place.node):
            yield place
        children = [place.of(child, field, number) for field, number, child in _children(place.node)]
        waiting.extend(reversed(children))


def _children(node) -> Iterator[tuple[str, int | None, ast.AST]]:
    for field, value in ast.iter_fields(node):
        for number, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield field, number, child


def _is_docstring(node):
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def replaced(node, path, replacement):
    """The tree with another node at the end of the path; what the path does not touch is shared with the old one."""
    if not path:
        return replacement
    (field, number), *rest = path
    new, value = copy(node), getattr(node, field)
    if number is None:
        setattr(new, field, replaced(value, rest, replacement))
    else:
        setattr(new, field, [*value[:number], replaced(value[number], rest, replacement), *value[number + 1 :]])
    return new


def _statement_of(mutant, path):
    """The source of the statement at the path, before and after the change."""
    statement = tree_of(mutant.module)
    for field, number in path:
        statement = getattr(statement, field) if number is None else getattr(statement, field)[number]
    changed = replaced(statement, mutant.path[len(path) :], mutant.replacement)
    return ast.unparse(statement), ast.unparse(changed)


def _line(node):
    """Where a node stands; one without a place of its own begins where its parts do."""
    return next(each.lineno for each in ast.walk(node) if hasattr(each, "lineno"))


def _short(node):
    """Its source; of a statement with a body the first line."""
    return ast.unparse(node).strip().partition("\n")[0]
