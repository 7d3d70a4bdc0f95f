"""What a mutant does to one node of a syntax tree: each operator yields the nodes that may stand in its place.

Nodes of the tree itself are never changed; what an operator yields is new, and may share parts with the old.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

SMALL = 1e-3
"""A float below this is an eps."""

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
ARITHMETIC = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = {
    "max": "min",
    "min": "max",
    "maximum": "minimum",
    "minimum": "maximum",
    "sum": "mean",
    "mean": "sum",
    "isnan": "isinf",
    "isinf": "isnan",
    "any": "all",
    "all": "any",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "sigmoid": "exp",
    "softmax": "log_softmax",
    "rand": "randn",
    "log": "log1p",
    "float": "half",
    "long": "int",
    "float64": "float32",
}
"""Functions, methods and dtypes that are taken for one another; of `max` and `min` also the names of arguments."""
TERMS = {"class": "bbox", "bbox": "giou", "giou": "class"}
"""Strings that are taken for one another, also as parts of keys."""


def integer(node: ast.AST) -> Iterator[ast.AST]:
    """One more, or one less; 0 for -1."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        for value in sorted({1 - node.value if node.value in (0, 1) else node.value - 1, node.value + 1}):
            yield ast.Constant(value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        yield ast.Constant(0)


def real(node: ast.AST) -> Iterator[ast.AST]:
    """Half of it; an eps of 0 or a thousand times as large."""
    if isinstance(node, ast.Constant) and type(node.value) is float:
        small = 0 < node.value < SMALL
        for value in (0.0, node.value * 1e3) if small else (node.value / 2, node.value + 1.0):
            yield ast.Constant(value)


def boolean(node: ast.AST) -> Iterator[ast.AST]:
    """True and False for each other."""
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield ast.Constant(not node.value)


def term(node: ast.AST) -> Iterator[ast.AST]:
    """One of class, bbox and giou for another, also in a key."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        for own, other in TERMS.items():
            if node.value in (own, f"loss_{own}"):
                yield ast.Constant(node.value.replace(own, other))


def comparison(node: ast.AST) -> Iterator[ast.AST]:
    """Strict or not, and the other way round."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in COMPARISONS.get(type(node.ops[0]), ()):
            yield ast.Compare(node.left, [other()], node.comparators)


def arithmetic(node: ast.AST) -> Iterator[ast.AST]:
    """Plus and minus for each other, times and divided by, and what else is confused."""
    if isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
        yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
    if isinstance(node, ast.AugAssign) and type(node.op) in ARITHMETIC:
        yield ast.AugAssign(node.target, ARITHMETIC[type(node.op)](), node.value)


def dropped_operand(node: ast.AST) -> Iterator[ast.AST]:
    """One term of a sum, one factor of a product, one side of `and` or `or` alone."""
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)
    if isinstance(node, ast.BoolOp):
        for place in range(len(node.values)):
            kept = [*node.values[:place], *node.values[place + 1 :]]
            yield kept[0] if len(kept) == 1 else ast.BoolOp(node.op, kept)


def swapped_operands(node: ast.AST) -> Iterator[ast.AST]:
    """a - b for b - a, and so on where the order counts."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)):
        yield ast.BinOp(node.right, node.op, node.left)


def connective(node: ast.AST) -> Iterator[ast.AST]:
    """`and` and `or` for each other."""
    if isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)


def sign(node: ast.AST) -> Iterator[ast.AST]:
    """Without the minus or the `not`."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand


def condition(node: ast.AST) -> Iterator[ast.AST]:
    """Negated, and each branch of a conditional expression whatever its condition says."""
    if isinstance(node, ast.If):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)


def index(node: ast.AST) -> Iterator[ast.AST]:
    """The next one, or the one before; the first and the last for each other."""
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        for other in _other_indices(node.slice):
            yield ast.Subscript(node.value, other, node.ctx)


def _other_indices(place: ast.expr) -> Iterator[ast.expr]:
    if ast.unparse(place) in ("0", "-1"):
        yield ast.Constant(0) if ast.unparse(place) == "-1" else ast.UnaryOp(ast.USub(), ast.Constant(1))
    if isinstance(place, (ast.Name, ast.Attribute)):
        yield ast.BinOp(place, ast.Sub(), ast.Constant(1))


def slice_bounds(node: ast.AST) -> Iterator[ast.AST]:
    """A bound dropped or one further; all but the last and all but the first for each other."""
    if not isinstance(node, ast.Slice):
        return
    if node.lower is not None:
        yield ast.Slice(None, node.upper)
        yield ast.Slice(ast.BinOp(node.lower, ast.Add(), ast.Constant(1)), node.upper)
    if node.upper is not None:
        yield ast.Slice(node.lower, None)
        yield ast.Slice(node.lower, ast.BinOp(node.upper, ast.Sub(), ast.Constant(1)))
    if node.lower is None and node.upper is not None:
        yield ast.Slice(ast.Constant(1), None)
        yield ast.Slice(node.upper, None)
    if node.upper is None and node.lower is not None:
        yield ast.Slice(None, node.lower)


def swapped_arguments(node: ast.AST) -> Iterator[ast.AST]:
    """Neighbours in a call, in a tuple or in a list change places."""
    if isinstance(node, ast.Call):
        for arguments in _with_neighbours_swapped(node.args):
            yield ast.Call(node.func, arguments, node.keywords)
    if isinstance(node, (ast.Tuple, ast.List)):
        for elements in _with_neighbours_swapped(node.elts):
            yield type(node)(elements, node.ctx)


def _with_neighbours_swapped(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    for place in range(len(items) - 1):
        yield [*items[:place], items[place + 1], items[place], *items[place + 2 :]]


def dropped_keyword(node: ast.AST) -> Iterator[ast.AST]:
    """A keyword argument is forgotten."""
    if isinstance(node, ast.Call):
        for place in range(len(node.keywords)):
            yield ast.Call(node.func, node.args, [*node.keywords[:place], *node.keywords[place + 1 :]])


def dropped_call(node: ast.AST) -> Iterator[ast.AST]:
    """A method such as `clamp`, `float` or `detach` is not called; of a function its first argument is left."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) not in ("torch", "functional", "self"):
        yield node.func.value
    elif node.args:
        yield node.args[0]


def other_name(node: ast.AST) -> Iterator[ast.AST]:
    """`min` for `max`, `mean` for `sum`, and so on."""
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)
    if isinstance(node, ast.keyword) and node.arg in NAMES:
        yield ast.keyword(NAMES[node.arg], node.value)


def added_detach(node: ast.AST) -> Iterator[ast.AST]:
    """What is computed is cut off from the predictions."""
    if isinstance(node, ast.Assign) and isinstance(node.value, (ast.BinOp, ast.Call)):
        yield ast.Assign(node.targets, _detached(node.value), lineno=node.lineno)
    if isinstance(node, ast.Return) and isinstance(node.value, (ast.BinOp, ast.Call)):
        yield ast.Return(_detached(node.value))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        if not isinstance(node.left, ast.Constant):
            yield ast.BinOp(_detached(node.left), node.op, node.right)
        if not isinstance(node.right, ast.Constant):
            yield ast.BinOp(node.left, node.op, _detached(node.right))


def _detached(value: ast.expr) -> ast.expr:
    return ast.Call(ast.Attribute(value, "detach", ast.Load()), [], [])


def dropped_no_grad(node: ast.AST) -> Iterator[ast.AST]:
    """A function that is not to be differentiated is."""
    if isinstance(node, ast.FunctionDef):
        kept = [each for each in node.decorator_list if "no_grad" not in ast.unparse(each)]
        if len(kept) < len(node.decorator_list):
            yield ast.FunctionDef(node.name, node.args, node.body, kept, lineno=node.lineno)


def dropped_statement(node: ast.AST) -> Iterator[ast.AST]:
    """A step or a guard is forgotten: one that writes into something, that calls something, or an `if`."""
    writes = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript)
    calls = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if writes or calls or isinstance(node, (ast.AugAssign, ast.If)):
        yield ast.Pass()


def shorter_loop(node: ast.AST) -> Iterator[ast.AST]:
    """Without the first or the last turn."""
    if not isinstance(node, (ast.For, ast.comprehension)) or not isinstance(node.iter, (ast.Name, ast.Call)):
        return
    for bounds in (ast.Slice(ast.Constant(1), None), ast.Slice(None, ast.UnaryOp(ast.USub(), ast.Constant(1)))):
        turns = ast.Call(ast.Name("list", ast.Load()), [node.iter], [])
        kept = ast.Subscript(turns, bounds, ast.Load())
        if isinstance(node, ast.For):
            yield ast.For(node.target, kept, node.body, node.orelse, lineno=node.lineno)
        else:
            yield ast.comprehension(node.target, kept, node.ifs, node.is_async)


OPERATORS = (
    *(integer, real, boolean, term, comparison, arithmetic, dropped_operand, swapped_operands, connective, sign),
    *(condition, index, slice_bounds, swapped_arguments, dropped_keyword, dropped_call, other_name, added_detach),
    *(dropped_no_grad, dropped_statement, shorter_loop),
)
