"""Nested arguments and modules as a flat list of arrays, and the function of that list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.testing.adapters import Adapter
from tinygrad_ai.transforms.tree import flatten

NUMBERS = float | complex | np.generic | np.ndarray


def bind(
    f: Callable[..., Any], args: Sequence[Any], adapter: Adapter
) -> tuple[Callable[..., Any], list[Any]]:
    """``g, arrays`` with ``g(*arrays)`` = ``f(*args)``: what moves stands in ``arrays``.

    Tensors, arrays and floats move; the parameters of a module among the arguments do; other leaves
    (strings, functions, Python integers…) are constants.
    """
    trees = [flatten(arg) for arg in args]
    leaves = [leaf for found, _ in trees for leaf in found]
    arrays: list[Any] = []
    for leaf in leaves:
        if _is_module(leaf):
            arrays += [adapter.numpy(p) for _, p in leaf.named_parameters()]
        elif _moves(leaf, adapter):
            arrays.append(leaf)

    def g(*values: Any) -> Any:
        rest = iter(values)
        restore: list[Callable[[], None]] = []
        made = []
        for leaf in leaves:
            if _is_module(leaf):
                restore += _put(leaf, rest)
                made.append(leaf)
            else:
                made.append(next(rest) if _moves(leaf, adapter) else leaf)
        filled = iter(made)
        try:
            return f(*(build([next(filled) for _ in found]) for found, build in trees))
        finally:
            for undo in reversed(restore):
                undo()

    return g, arrays


def _is_module(leaf: Any) -> bool:
    return hasattr(leaf, "named_parameters")


def _moves(leaf: Any, adapter: Adapter) -> bool:
    return adapter.owns(leaf) or isinstance(leaf, NUMBERS)


def _put(module: Any, values: Any) -> list[Callable[[], None]]:
    """Set the module's parameters to the next ``values``; how to undo it."""
    undo: list[Callable[[], None]] = []
    for name, parameter in list(module.named_parameters()):
        *path, last = name.split(".")
        owner = module
        for part in path:
            owner = getattr(owner, part) if not part.isdigit() else owner[int(part)]
        slots = owner._parameters if hasattr(owner, "_parameters") else vars(owner)
        slots[last] = next(values)

        def back(slots: Any = slots, last: str = last, parameter: Any = parameter) -> None:
            slots[last] = parameter

        undo.append(back)
    return undo
