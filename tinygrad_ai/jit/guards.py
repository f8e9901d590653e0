"""What a captured function depends on besides its arguments, and whether it is still the same.

The function's closure and the globals that it names are followed: into functions, methods,
containers, modules, optimisers and plain objects. What cannot be seen: values that a library
function reads for itself (a clock, NumPy's generator), globals reached through another module's
attributes, and attributes of objects with ``__slots__``.
"""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value
from tinygrad_ai.errors import KERNELS, PACKAGE, GraphError
from tinygrad_ai.jit.program import Var

PLAIN = (int, float, complex, str, bytes, bool, type(None), type, types.BuiltinFunctionType)
GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME"}
_missing = object()


class World:
    """Everything that ``function`` reaches: its ``tensors``, and a copy of the rest to compare."""

    def __init__(self, function: Any) -> None:
        self.tensors: list[Value] = []
        self.arrays: list[np.ndarray[Any, Any]] = []
        self._optimizers: list[tuple[Any, list[Value], Any]] = []
        self._states: list[tuple[Value, Any, bool]] = []
        self._cells: list[tuple[Any, Any, str]] = []
        self._globals: list[tuple[Mapping[str, Any], str, Any]] = []
        self._dicts: list[tuple[Mapping[str, Any], dict[str, Any], list[int], str]] = []
        self._lists: list[tuple[list[Any], list[Any]]] = []
        self._seen: dict[int, Any] = {}
        stack = [function]
        while stack:
            value = stack.pop()
            if isinstance(value, (*PLAIN, types.ModuleType)) or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            stack.extend(self._inside(value))
        self.ids = {id(t) for t in self.tensors}
        self.settle()

    def _inside(self, value: Any) -> Iterator[Any]:
        """What hangs on ``value``; noted as it is now."""
        if isinstance(value, Value):
            self.tensors.append(value)
        elif isinstance(value, np.ndarray):
            self.arrays.append(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from (value.__self__, value.__func__)
        elif hasattr(value, "__wrapped__"):  # such as a compiled function
            yield value.__wrapped__
        elif isinstance(value, partial):
            yield from (value.func, *value.args, *value.keywords.values())
        elif isinstance(value, list | tuple | set | frozenset):
            if isinstance(value, list):
                self._lists.append((value, list(value)))
            yield from value
        elif isinstance(value, dict):
            self._dicts.append((value, dict(value), [], "a dict"))
            yield from value.values()
        elif hasattr(value, "param_groups"):
            self._optimizers.append((value, list(value.state), None))
            yield from [group["params"] for group in value.param_groups]
        elif isinstance(own := getattr(value, "__dict__", None), dict):
            self._dicts.append((own, dict(own), [], type(value).__name__))
            yield from own.values()
            for kind in type(value).__mro__[:-1]:
                yield from self._class(kind)

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
            if isinstance(found, types.ModuleType):
                self._note_plain(vars(found), function.__code__.co_names)
            elif found is not _missing:
                self._globals.append((function.__globals__, name, found))
                yield found

    def _class(self, kind: type) -> Iterator[Any]:
        """The methods of a user's class; its numbers and texts are noted."""
        file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
        if file.startswith((PACKAGE, KERNELS)) or kind.__module__ in sys.stdlib_module_names:
            return
        self._note_plain(vars(kind), vars(kind))
        for member in vars(kind).values():
            method = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(method, types.FunctionType):
                yield method

    def _note_plain(self, space: Mapping[str, Any], names: Iterable[str]) -> None:
        """Numbers and texts among the ``names`` of a module or a class."""
        for name in names:
            if not name.startswith("__") and isinstance(space.get(name), int | float | str):
                self._globals.append((space, name, space[name]))

    def check_kept(self) -> None:
        """Raise GraphError where the function has kept a tensor that has no values; it is taken
        back."""
        for own, then, _, kind in self._dicts:
            kept = [k for k, v in own.items() if isinstance(v, Value) and isinstance(v.array, Var)]
            for name in kept:
                if isinstance(own, dict):
                    own.update({name: then[name]}) if name in then else own.pop(name)
            if kept:
                raise _kept(f"{', '.join(map(str, kept))} of {kind}")
        for now, before in self._lists:
            if any(isinstance(v, Value) and isinstance(v.array, Var) for v in now):
                now[:] = before
                raise _kept("a list")

    def settle(self) -> None:
        """Take what there is now for what it was: a first call may have filled things in."""
        self._dicts = [(own, dict(own), _ids(own), kind) for own, _, _, kind in self._dicts]
        self._lists = [(now, list(now)) for now, _ in self._lists]
        self._optimizers = [(o, known, _layout(o)) for o, known, _ in self._optimizers]
        self._states = [(t, t.array, t.node is None) for t in self.tensors]

    def undo(self) -> None:
        """Take back what optimisers have made for parameters since this was made."""
        for optimizer, known, _ in self._optimizers:
            for parameter in set(optimizer.state) - set(known):
                del optimizer.state[parameter]

    def change(self) -> str | None:
        """What is no longer what it was, in words; None if nothing is."""
        for cell, then, name in self._cells:
            if cell.cell_contents is not then and not _same(cell.cell_contents, then):
                return f"the value of {name} changed"
        for space, name, then in self._globals:
            now = space.get(name, _missing)
            if now is not then and not _same(now, then):
                return f"the global {name} changed"
        for own, then, ids, kind in self._dicts:
            if _ids(own) != ids and (names := _differences(own, then)):
                return f"{', '.join(names)} of {kind} changed"
        for now, then in self._lists:
            if not _same(now, then):
                return "a list changed"
        for optimizer, _, layout in self._optimizers:
            if _layout(optimizer) != layout:
                return f"the groups of {type(optimizer).__name__}, or switches in them, changed"
        for k, (t, array, plain) in enumerate(self._states):
            if (t.node is None) is not plain:
                return f"requires_grad of a tensor {array.shape} changed"
            if t.array is not array:
                now, before = (f"{a.dtype} {a.shape}" for a in (t.array, array))
                if now != before:
                    return f"a tensor was {before} and is {now}"
                self._states[k] = t, t.array, plain
        return None


def _kept(where: str) -> GraphError:
    return GraphError(
        f"jit: the function keeps a tensor of the captured step in {where}, where it would have no "
        "values",
        "   help: return it, or assign to a tensor that is there: kept[...] = y",
    )


def _same(now: Any, then: Any) -> bool:
    """Whether two things are one, or equal plain values, or equally long lists of such."""
    if now is then:
        return True
    if type(now) is not type(then):
        return False
    if isinstance(now, list | tuple):
        return len(now) == len(then) and all(map(_same, now, then))
    return isinstance(now, PLAIN) and bool(now == then)


def _ids(own: Mapping[str, Any]) -> list[int]:
    """Which objects are in a dict: cheap to compare, while somebody keeps them."""
    return [len(own), *map(id, own.values())]


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    both = {**now, **then}
    return [str(k) for k in both if not _same(now.get(k, _missing), then.get(k, _missing))]


def _layout(optimizer: Any) -> list[Any]:
    """What the code of an update depends on: parameters, switches, whether a number is 0."""
    return [
        [
            list(map(id, group["params"])),
            [
                bool(v) if isinstance(v, int | float) else v
                for k, v in group.items()
                if k != "params"
            ],
        ]
        for group in optimizer.param_groups
    ]


def _names(code: types.CodeType) -> set[str]:
    """The globals that a function, and those defined in it, read (not attributes of that name)."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname in GLOBAL}
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names |= _names(inner)
    return names


def fetch(tensor: Value) -> Callable[[], Any]:
    """A function that gives the present array of ``tensor``."""
    return lambda: tensor.array
