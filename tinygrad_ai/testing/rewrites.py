"""Small changes of a function's source, each a mistake that someone could make.

A change is applied by exchanging the code object of the living function, so that whoever calls it,
by whatever name, calls the mutant.
"""

from __future__ import annotations

import ast
import copy
import inspect
import warnings
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from tinygrad_ai.explain.formula import code_of, definition

#: Operators that are mistaken for each other.
_CONFUSED: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div,),
    ast.Div: (ast.Mult,),
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
#: What drops out when one side of an operator is forgotten.
_DROPPED = {ast.Add: "term", ast.Sub: "term", ast.Mult: "factor", ast.Div: "factor"}
#: Names that stand for arrays in rules; one is easily written for another.
_ARRAYS = ("g", "y", "x", "a", "b", "t")

Change = tuple[str, str, CodeType]


def changes(function: FunctionType) -> Iterator[Change]:
    """(kind, description, code) for every small change of ``function`` that still compiles.

    Nothing is changed inside a ``while`` loop, which might then never end, nor inside ``raise``.
    """
    tree = definition(function)
    names = [p for p in inspect.signature(function).parameters if p in _ARRAYS]
    for path, node in _places(tree):
        for kind, new in _changed(node, names):
            before, after = _written(node), _written(new)
            code = _compiled(tree, path, new)
            if (
                before != after
                and code is not None
                and code.co_freevars == function.__code__.co_freevars
            ):
                yield kind, f"{before}  →  {after}", code


def helpers(function: Callable[..., Any], seen: set[Any]) -> Iterator[FunctionType]:
    """``function`` and the plain functions of its own module that it calls, and they call."""
    if not isinstance(function, FunctionType) or function in seen or function.__closure__:
        return
    seen.add(function)
    yield function
    for node in ast.walk(definition(function)):
        if isinstance(node, ast.Name):
            other: Any = function.__globals__.get(node.id)
            if getattr(other, "__module__", None) == function.__module__:
                yield from helpers(other, seen)


def _places(tree: ast.AST) -> Iterator[tuple[tuple[Any, ...], ast.AST]]:
    """Every expression and statement below ``tree`` with the way to it: fields and indices."""
    for field, value in ast.iter_fields(tree):
        if field in ("args", "decorator_list", "returns", "annotation") and isinstance(
            tree, ast.Lambda | ast.FunctionDef | ast.AnnAssign
        ):
            continue
        for k, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            strict = isinstance(child, ast.keyword) and child.arg == "strict"  # a check, no rule
            if isinstance(child, ast.AST) and not (
                strict or isinstance(child, ast.While | ast.Raise)
            ):
                here = (field,) if k is None else (field, k)
                yield here, child
                yield from ((here + rest, node) for rest, node in _places(child))


def _changed(node: ast.AST, names: list[str]) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.BinOp(left, op, right):
            for other in _CONFUSED.get(type(op), ()):
                yield "operator", ast.BinOp(left, other(), right)
            if type(op) in _DROPPED:
                yield f"dropped {_DROPPED[type(op)]}", left
            if isinstance(op, ast.Add | ast.Mult):
                yield f"dropped {_DROPPED[type(op)]}", right
            elif isinstance(op, ast.Sub):
                yield "dropped term", ast.UnaryOp(ast.USub(), right)
                yield "swapped arguments", ast.BinOp(right, op, left)
            elif isinstance(op, ast.BitAnd | ast.BitOr):
                yield from (("wrong branch", side) for side in (left, right))
        case ast.UnaryOp(ast.USub(), operand):
            yield "sign", operand
        case ast.Compare(left, [op], [right]):
            for other in _CONFUSED.get(type(op), ()):
                yield "wrong branch", ast.Compare(left, [other()], [right])
        case ast.Constant(value) if isinstance(value, bool):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value) if isinstance(value, int | float):
            yield "constant", ast.Constant(value + 1 if isinstance(value, int) else value * 1.1)
        case ast.Call():
            yield from _changed_call(node)
        case ast.Name(name, ast.Load()) if name in names:
            yield from (("stale input", ast.Name(n, ast.Load())) for n in names if n != name)
        case ast.AugAssign(ast.Subscript() as target, ast.Add(), value):
            yield "overwrite instead of accumulate", ast.Assign([target], value)
        case ast.Slice(lower, upper, step) if lower is not None and upper is not None:
            yield "slice", ast.Slice(None, upper, step)


def _changed_call(call: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    name = ast.unparse(call.func).rpartition(".")[2]
    if name == "where" and len(call.args) == 3:
        condition, yes, no = call.args
        yield "wrong branch", yes
        yield "wrong branch", no
        yield "wrong branch", ast.Call(call.func, [condition, no, yes], [])
    elif len(call.args) == 2 and not any(isinstance(a, ast.Starred) for a in call.args):
        first, second = call.args
        yield "swapped arguments", ast.Call(call.func, [second, first], call.keywords)
    if name == "scatter_add":
        target, index, values = call.args
        put = ast.Attribute(target, "__setitem__", ast.Load())
        yield "overwrite instead of accumulate", ast.Call(put, [index, values], [])
    if call.args and not isinstance(call.args[0], ast.Starred | ast.Lambda):
        kind = "permutation not inverted" if name == "argsort" else "call left out"
        yield kind, call.args[0]
    if name.startswith(("sum", "unbroadcast")):
        yield "mean instead of sum", _averaged(call)


def _averaged(call: ast.Call) -> ast.AST:
    """``call``, a sum, times size of the result over size of what was summed."""
    method = isinstance(call.func, ast.Attribute) and not (
        isinstance(call.func.value, ast.Name) and call.func.value.id == "xp"
    )
    summed = call.func.value if method and isinstance(call.func, ast.Attribute) else call.args[0]
    return ast.parse(
        f"({ast.unparse(call)}) * ((({ast.unparse(call)}).size or 1) / "
        f"(({ast.unparse(summed)}).size or 1))",
        mode="eval",
    ).body


def _compiled(tree: Any, path: tuple[Any, ...], new: ast.AST) -> CodeType | None:
    """The code of ``tree`` with ``new`` at ``path``; None if that is no valid program."""
    changed = copy.deepcopy(tree)
    place: Any = changed
    for step in path[:-1]:
        place = place[step] if isinstance(step, int) else getattr(place, step)
    if isinstance(path[-1], int):
        place[path[-1]] = copy.deepcopy(new)
    else:
        setattr(place, path[-1], copy.deepcopy(new))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of changes that cannot run either
        try:
            return code_of(ast.fix_missing_locations(changed))
        except (SyntaxError, ValueError, TypeError):
            return None


def _written(node: ast.AST) -> str:
    text = " ".join(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).split())
    return text if len(text) <= 60 else text[:57] + "..."
