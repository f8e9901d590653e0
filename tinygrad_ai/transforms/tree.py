"""Nested tuples, lists and dicts of leaves, taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_ai.autodiff import Value
from tinygrad_ai.errors import GraphError


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


def paths_of(tree: Any, name: str = "") -> list[str]:
    """What the leaves of ``tree`` are called, in order, where it is called ``name``."""
    if tree is None:
        return []
    if isinstance(tree, dict):
        parts = [(f"{name}[{k!r}]", v) for k, v in tree.items()]
    elif isinstance(tree, tuple) and hasattr(tree, "_fields"):
        parts = [(f"{name}.{k}", v) for k, v in zip(tree._fields, tree, strict=True)]
    elif isinstance(tree, tuple | list):
        parts = [(f"{name}[{k}]", v) for k, v in enumerate(tree)]
    else:
        return [name]
    return [path for place, part in parts for path in paths_of(part, place)]


def structure_of(tree: Any) -> Any:
    """How the containers of ``tree`` nest, which :func:`flatten` leaves out of the leaves."""
    if isinstance(tree, dict):
        return dict, *((k, structure_of(v)) for k, v in tree.items())
    if isinstance(tree, tuple | list):
        return type(tree), *map(structure_of, tree)
    return tree is None


def _joined(
    parts: list[tuple[list[Any], Callable[[list[Any]], Any]]], build: Callable[[list[Any]], Any]
) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    def rebuild(leaves: list[Any]) -> Any:
        rest = iter(leaves)
        return build([make([next(rest) for _ in own]) for own, make in parts])

    return [leaf for own, _ in parts for leaf in own], rebuild


def values_of(tree: Any) -> list[Value]:
    """The tensors of a tree, and the parameters of its modules."""
    found = []
    for leaf in flatten(tree)[0]:
        parts = leaf.parameters() if is_module(leaf) else [leaf]
        found += [t for t in parts if isinstance(t, Value)]
    return found


class Unchanged:
    """The versions of all tensors in ``tree``, to see later that none was changed in place."""

    def __init__(self, name: str, tree: Any) -> None:
        self.name = name
        self.kept = [(t.version, t.version[0]) for t in values_of(tree)]

    def check(self) -> None:
        """Raise GraphError if a tensor was changed."""
        if any(cell[0] != version for cell, version in self.kept):
            raise GraphError(
                f"{self.name}: an argument or output was changed in place after the forward pass",
                "   help: change a copy instead, or run the forward pass again",
            )


def is_module(leaf: Any) -> bool:
    """Whether a leaf is a module, which stands for its parameters."""
    return hasattr(leaf, "named_parameters")
