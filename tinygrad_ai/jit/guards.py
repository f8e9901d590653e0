"""What a captured function depends on besides its arguments, and whether it is still the same.

The function's closure and the globals that it names are followed: into functions, methods,
containers, modules, optimisers and plain objects. What cannot be seen: values that a library
function reads for itself (a clock, NumPy's generator), globals reached through another module's
attributes, and attributes of objects with ``__slots__``.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from tinygrad_ai.autodiff import Value
from tinygrad_ai.errors import KERNELS, PACKAGE

PLAIN = (int, float, complex, str, bytes, bool, type(None), type, types.BuiltinFunctionType)
_missing = object()


class World:
    """Everything that ``function`` reaches: its ``tensors``, and a copy of the rest to compare."""

    def __init__(self, function: Any) -> None:
        self.tensors: list[Value] = []
        self.optimizers: list[Any] = []
        self._cells: list[tuple[Any, Any, str]] = []
        self._globals: list[tuple[dict[str, Any], str, Any]] = []
        self._dicts: list[tuple[Mapping[str, Any], dict[str, Any], str]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._seen: dict[int, Any] = {}
        stack = [function]
        while stack:
            value = stack.pop()
            if isinstance(value, (*PLAIN, types.ModuleType)) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            stack.extend(self._inside(value))

    def _inside(self, value: Any) -> Iterator[Any]:
        """What hangs on ``value``; noted as it is now."""
        if isinstance(value, Value):
            self.tensors.append(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from (value.__self__, value.__func__)
        elif isinstance(value, partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif isinstance(value, list | tuple | set | frozenset):
            if isinstance(value, list):
                self._lists.append((value, list(value)))
            yield from value
        elif isinstance(value, dict):
            self._dicts.append((value, dict(value), "a dict"))
            yield from value.values()
        elif hasattr(value, "param_groups"):
            self.optimizers.append(value)
            yield from [group["params"] for group in value.param_groups]
        elif hasattr(value, "__dict__"):
            own = vars(value)
            self._dicts.append((own, dict(own), type(value).__name__))
            yield from own.values()
            for name in ("forward", "__call__"):
                method = getattr(type(value), name, None)
                if isinstance(method, types.FunctionType):
                    yield method

    def _function(self, function: types.FunctionType) -> Iterator[Any]:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                content = cell.cell_contents
            except ValueError:  # assigned later
                continue
            self._cells.append((cell, content, name))
            yield content
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        if function.__code__.co_filename.startswith((PACKAGE, KERNELS)):
            return
        for name in _names(function.__code__):
            found = function.__globals__.get(name, _missing)
            if found is not _missing and not isinstance(found, types.ModuleType):
                self._globals.append((function.__globals__, name, found))
                yield found

    def settle(self) -> None:
        """Take what there is now for what it was: a first call may have filled things in."""
        self._dicts = [(own, dict(own), kind) for own, _, kind in self._dicts]
        self._lists = [(now, list(now)) for now, _ in self._lists]

    def change(self) -> str | None:
        """What is no longer what it was, in words; None if nothing is."""
        for cell, then, name in self._cells:
            if cell.cell_contents is not then and not _equal(cell.cell_contents, then):
                return f"the value of {name} changed"
        for space, name, then in self._globals:
            now = space.get(name, _missing)
            if now is not then and not _equal(now, then):
                return f"the global {name} changed"
        for own, then, kind in self._dicts:
            if not _equal(own, then):
                return f"{_difference(own, then)} of {kind} changed"
        for now, then in self._lists:
            if not _equal(now, then):
                return "a list changed"
        return None


def _equal(now: Any, then: Any) -> bool:
    """Equality that trusts identity first, and takes what cannot be compared for different."""
    try:
        return type(now) is type(then) and bool(now == then)
    except Exception:
        return False


def _difference(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    names = [k for k in {**now, **then} if now.get(k, _missing) is not then.get(k, _missing)]
    return ", ".join(map(str, names)) or "something"


def _names(code: types.CodeType) -> set[str]:
    """The global names of a function and of those defined in it."""
    names = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _names(inner)
    return names


def fetch(tensor: Value) -> Callable[[], Any]:
    """A function that gives the present array of ``tensor``."""
    return lambda: tensor.array
