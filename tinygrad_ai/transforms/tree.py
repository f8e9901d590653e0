"""Nested tuples, lists and dicts of leaves, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """The leaves of ``tree`` in order, and a function that builds the same tree around others.

    Containers are tuples (named ones too), lists and dicts; None is a container of nothing.
    """
    if tree is None:
        return [], lambda leaves: None
    if isinstance(tree, dict):
        keys, parts = list(tree), [flatten(v) for v in tree.values()]
        return _joined(parts, lambda values: dict(zip(keys, values, strict=True)))
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return _joined([flatten(v) for v in tree], lambda values: type(tree)(*values))
    if isinstance(tree, tuple | list):
        return _joined([flatten(v) for v in tree], type(tree))
    return [tree], lambda leaves: leaves[0]


def _joined(
    parts: list[tuple[list[Any], Callable[[list[Any]], Any]]], build: Callable[[list[Any]], Any]
) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    def rebuild(leaves: list[Any]) -> Any:
        rest = iter(leaves)
        return build([make([next(rest) for _ in own]) for own, make in parts])

    return [leaf for own, _ in parts for leaf in own], rebuild


def is_module(leaf: Any) -> bool:
    """Whether a leaf is a module, which stands for its parameters."""
    return hasattr(leaf, "named_parameters")
