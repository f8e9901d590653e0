"""The formula of a rule, printed from the rule's own source."""

from __future__ import annotations

import ast
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from tinygrad_ai.autodiff.primitive import Primitive
from tinygrad_ai.errors import TinygradError


def vjp_formula(primitive: Primitive, i: int, names: Mapping[str, str] | None = None) -> str:
    """What the VJP rule of input ``i`` computes, e.g. ``g * (1 - y * y)`` for tanh.

    ``names`` puts the user's names in the place of the rule's (``{"y": "hidden"}``). Raises
    TinygradError if the input has no rule.
    """
    rule = primitive.rule(i)
    if rule is None:
        raise TinygradError(f"{primitive.name} has no VJP rule for input {i}")
    return formula(rule.function, names or {})


def forward_formula(primitive: Primitive, names: Mapping[str, str] | None = None) -> str:
    """What the forward rule computes, e.g. ``tanh(x)``."""
    return formula(primitive.forward, names or {})


def formula(function: Callable[..., Any], names: Mapping[str, str]) -> str:
    """The expression that ``function`` returns, with ``names`` put in; its source if it is long."""
    tree = definition(function)
    if isinstance(tree, ast.Lambda):
        body: ast.AST = tree.body
    elif len(tree.body) == 1 and isinstance(tree.body[0], ast.Return) and tree.body[0].value:
        body = tree.body[0].value
    else:
        return ast.unparse(tree)
    return ast.unparse(_Renamed(names).visit(ast.parse(ast.unparse(body), mode="eval")))


class _Renamed(ast.NodeTransformer):
    """Names replaced, and ``xp.tanh`` written as ``tanh``."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.parse(self.names.get(node.id, node.id), mode="eval").body

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id == "xp":
            return ast.Name(node.attr)
        self.generic_visit(node)
        return node


@functools.cache
def _functions(file: str) -> list[tuple[Any, Any]]:
    """Every function of a source file: (its syntax tree, its compiled code)."""
    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    return [
        (node, code_of(node))
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda | ast.FunctionDef)
    ]


def code_of(node: ast.Lambda | ast.FunctionDef) -> Any:
    """The code object of a function, from its syntax tree."""
    body = ast.Expression(node) if isinstance(node, ast.Lambda) else ast.Module([node], [])
    code = compile(body, "<rule>", "eval" if isinstance(node, ast.Lambda) else "exec")
    return next(c for c in code.co_consts if inspect.iscode(c))


def definition(function: Callable[..., Any]) -> Any:
    """The syntax tree of ``function``: the one of its file at its line with its bytecode."""
    code = function.__code__
    found = [
        node
        for node, own in _functions(code.co_filename)
        if own.co_firstlineno == code.co_firstlineno
        and own.co_varnames == code.co_varnames
        and own.co_names == code.co_names
        and _constants(own) == _constants(code)
    ]
    return found[0]


def _constants(code: Any) -> list[Any]:
    return [c for c in code.co_consts if not inspect.iscode(c)]
