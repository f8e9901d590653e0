"""What a captured function depends on besides its arguments, and whether it is still the same.

The function's closure, defaults and the globals that it names are followed: into functions,
methods, containers, modules, optimisers, objects with ``__dict__`` or ``__slots__``, their classes,
and a user's own modules. :func:`tinygrad_ai.jit.jit` says what cannot be seen.
"""

from __future__ import annotations

import dis
import sys
import types
from array import array
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from inspect import getattr_static
from operator import is_
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value
from tinygrad_ai.autodiff.graph import owner
from tinygrad_ai.errors import KERNELS, PACKAGE, GraphError
from tinygrad_ai.jit.memory import facts
from tinygrad_ai.jit.program import Var
from tinygrad_ai.jit.streams import Streams

PLAIN = (int, float, complex, str, bytes, bool, type(None), type, types.BuiltinFunctionType)
GLOBAL = {"LOAD_GLOBAL", "LOAD_NAME"}
READ = 4096  # bytes of an array whose elements are compared
WRITTEN_IN_PYTHON = 1 << 9  # a flag of types
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
        self._others: list[tuple[Any, Callable[[Any], Any], Any]] = []
        self._iterators: list[tuple[str, Any]] = []
        self._named: set[str] = set()  # by the user's functions
        self._seen: dict[int, Any] = {}
        stack = [function]
        while stack:
            value = stack.pop()
            plain = isinstance(value, (*PLAIN, types.ModuleType)) and not isinstance(value, type)
            if plain or id(value) in self._seen:
                continue
            self._seen[id(value)] = value
            stack.extend(self._inside(value))
        self._check_iterators()
        self.streams = Streams(self._seen.values())
        self.ids = {id(t) for t in self.tensors}
        self.moves = 0  # how often an array was found to be another
        self.settle()

    def _inside(self, value: Any) -> Iterator[Any]:
        """What hangs on ``value``; noted as it is now."""
        if isinstance(value, Value):
            self.tensors.append(value)
        elif isinstance(value, np.ndarray):
            self.arrays.append(value)
            if value.nbytes <= READ:
                self._note(value, np.ndarray.tobytes)
        elif isinstance(value, type):
            yield from self._classes(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from (value.__self__, value.__func__)
        elif _has(value, "__wrapped__"):  # such as a compiled function
            yield value.__wrapped__
        elif isinstance(value, partial):
            yield from (value.func, value.args, value.keywords)
        elif _has(value, "param_groups"):
            self._optimizers.append((value, list(value.state), None))
            yield from [group["params"] for group in value.param_groups]
        else:
            yield from self._contents(value)
            yield from self._attributes(value)

    def _note(self, value: Any, take: Callable[[Any], Any]) -> Any:
        """What ``take`` finds in ``value``, now and when it is compared."""
        self._others.append((value, take, take(value)))
        return self._others[-1][-1]

    def _contents(self, value: Any) -> Iterable[Any]:
        if isinstance(value, dict):
            self._dicts.append((value, dict(value), [], "a dict"))
            return value.values()
        if isinstance(value, types.MappingProxyType):
            return self._note(value, dict).values()
        if isinstance(value, tuple | frozenset):
            return value
        if isinstance(value, bytearray | array):
            self._note(value, bytes)
        elif isinstance(value, list | deque | set):
            return self._note(value, list)
        return ()

    def _attributes(self, value: Any) -> Iterator[Any]:
        own = getattr(value, "__dict__", None)
        if isinstance(own, dict):
            self._dicts.append((own, dict(own), [], type(value).__name__))
            self._iterators += own.items()
            yield from own.values()
        if _slots(value):
            yield from self._note(value, _slots).values()
        yield from self._classes(type(value))

    def _classes(self, kind: type) -> Iterator[Any]:
        for base in kind.__mro__[:-1]:
            yield from self._class(base)

    def _function(self, function: types.FunctionType) -> Iterator[Any]:
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        for name, cell in cells:
            try:
                content = cell.cell_contents
            except ValueError:  # assigned later
                continue
            self._cells.append((cell, content, name))
            self._iterators.append((name, content))
            yield content
        if vars(function):
            self._dicts.append((vars(function), dict(vars(function)), [], function.__name__))
            yield from vars(function).values()
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()
        if function.__code__.co_filename.startswith((PACKAGE, KERNELS)):
            return
        self._named |= _all_names(function.__code__)
        for name in _names(function.__code__):
            found = function.__globals__.get(name, _missing)
            if isinstance(found, types.ModuleType):
                yield from self._module(found, function.__code__.co_names)
            elif found is not _missing:
                self._globals.append((function.__globals__, name, found))
                self._iterators.append((name, found))
                yield found

    def _class(self, kind: type) -> Iterator[Any]:
        """The methods of a user's class, and what else it holds."""
        file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
        if file.startswith((PACKAGE, KERNELS)) or kind.__module__ in sys.stdlib_module_names:
            return
        for name, member in vars(kind).items():
            method = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(method, types.FunctionType):
                yield method
            elif not name.startswith("__") and not hasattr(type(member), "__get__"):
                self._globals.append((vars(kind), name, member))
                yield member

    def _module(self, module: types.ModuleType, names: Iterable[str]) -> Iterator[Any]:
        """What a module holds under ``names``; only numbers and texts of a library's."""
        seen, stack = set(), [module]
        while stack:
            space = vars(stack.pop())
            library = _is_library(space)
            for name in (n for n in names if n in space and not n.startswith("__")):
                found = space[name]
                if isinstance(found, types.ModuleType):
                    if not library and id(found) not in seen:
                        seen.add(id(found))
                        stack.append(found)
                elif not library or isinstance(found, int | float | str):
                    self._globals.append((space, name, found))
                    yield found

    def _check_iterators(self) -> None:
        """Raise GraphError for an iterator that the user's functions name: a capture would take
        from it, and then nobody."""
        for name, value in self._iterators:
            if name in self._named and isinstance(value, Iterator) and not _has(value, "__dict__"):
                raise GraphError(
                    f"jit: the function takes from an iterator, {name}, which a compiled step "
                    "would not do again",
                    f"   help: pass what it gives as an argument: step(next({name}))",
                )
        self._iterators.clear()

    def check_kept(self) -> None:
        """Raise GraphError where the function has kept a tensor that has no values; it is taken
        back."""
        for cell, then, name in self._cells:
            if _traced(cell.cell_contents):
                cell.cell_contents = then
                raise _kept(f"the variable {name}")
        for space, name, then in self._globals:
            if _traced(space.get(name)):
                space.update({name: then})  # type: ignore[attr-defined]
                raise _kept(f"the global {name}")
        for own, then, _, kind in self._dicts:
            kept = [k for k, v in own.items() if _traced(v)]
            for name in kept:
                if isinstance(own, dict):
                    own.update({name: then[name]}) if name in then else own.pop(name)
            if kept:
                raise _kept(f"{', '.join(map(str, kept))} of {kind}")
        for value, take, then in self._others:
            now = take(value)
            inside = now.values() if isinstance(now, dict) else now
            if not isinstance(now, bytes) and any(map(_traced, inside)):
                _restore(value, now, then)
                raise _kept(f"a {type(value).__name__}")

    def settle(self, operands: Container[int] = ()) -> None:
        """Take what there is now for what it was: a first call may have filled things in.

        Arrays whose identities are among the ``operands`` may change: they are read at every call.
        """
        self._dicts = [(own, dict(own), _ids(own), kind) for own, _, _, kind in self._dicts]
        others = [(value, take) for value, take, _ in self._others if id(value) not in operands]
        self._others = [(value, take, take(value)) for value, take in others]
        self._optimizers = [(o, known, _layout(o)) for o, known, _ in self._optimizers]
        self._states = [(t, t.array, t.node is None) for t in self.tensors]
        self._shared = _sharing(self.tensors)

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
        for value, take, then in self._others:
            if not _same(take(value), then):
                return f"a {type(value).__name__} changed"
        for optimizer, _, layout in self._optimizers:
            if _layout(optimizer) != layout:
                return f"the groups of {type(optimizer).__name__}, or switches in them, changed"
        moves = self.moves
        for k, (t, before, plain) in enumerate(self._states):
            if (t.node is None) is not plain:
                return f"requires_grad of a tensor {before.shape} changed"
            if t.array is not before:
                was, now = (f"{a.dtype} {a.shape}" for a in (before, t.array))
                if now != was:
                    return f"a tensor was {was} and is {now}"
                self._states[k] = t, t.array, plain
                self.moves += 1
        if self.moves != moves and _sharing(self.tensors) != self._shared:
            return "which tensors share memory changed"
        return None


def _has(value: Any, name: str) -> bool:
    """Whether there is such an attribute; a module's ``__getattr__`` would look for a like one."""
    return getattr_static(value, name, _missing) is not _missing


def _traced(value: Any) -> bool:
    return isinstance(value, Value) and isinstance(value.array, Var)


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
        alike = len(now) == len(then)
        return alike and (all(map(is_, now, then)) or all(map(_same, now, then)))
    if isinstance(now, dict):
        return now.keys() == then.keys() and not _differences(now, then)
    return isinstance(now, PLAIN) and bool(now == then)


def _slots(value: Any) -> dict[str, Any]:
    """The attributes of an object that stand in slots."""
    kinds = [kind for kind in type(value).__mro__ if kind.__flags__ & WRITTEN_IN_PYTHON]
    members = [(k, m) for kind in kinds for k, m in vars(kind).items()]
    names = [k for k, m in members if isinstance(m, types.MemberDescriptorType)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _restore(value: Any, now: Any, then: Any) -> None:
    """Have a list, deque, set, or the slots of an object hold what they did hold."""
    if isinstance(then, dict):
        for name in now.keys() - then.keys():
            delattr(value, name)
        for name, content in then.items():
            setattr(value, name, content)
    else:
        value.clear()
        (value.update if isinstance(value, set) else value.extend)(then)


def _is_library(space: Mapping[str, Any]) -> bool:
    """Whether a module is not the user's own: this package, Python's or an installed one."""
    name, file = str(space.get("__name__")), space.get("__file__") or ""
    installed = file.startswith((PACKAGE, KERNELS)) or "site-packages" in file
    return installed or name.partition(".")[0] in sys.stdlib_module_names


def _ids(own: Mapping[str, Any]) -> list[int]:
    """Which objects are in a dict: cheap to compare, while somebody keeps them."""
    return [len(own), *map(id, own.values())]


def _differences(now: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    both = {**now, **then}
    return [str(k) for k in both if not _same(now.get(k, _missing), then.get(k, _missing))]


def _sharing(tensors: Sequence[Value]) -> list[Any]:
    """The tensors whose memory an earlier one has too: which, and how they lie to each other."""
    first: dict[int, int] = {}
    found = []
    for k, t in enumerate(tensors):
        j = first.setdefault(id(owner(t.array)), k)
        if j != k:
            start, shape, strides = facts(t.array)
            found.append((j, k, start - facts(tensors[j].array)[0], shape, strides))
    return found


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


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """The code of a function, and of those defined in it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _names(code: types.CodeType) -> set[str]:
    """The globals that a function, and those defined in it, read (not attributes of that name)."""
    instructions = (i for c in _codes(code) for i in dis.get_instructions(c))
    return {i.argval for i in instructions if i.opname in GLOBAL}


def _all_names(code: types.CodeType) -> set[str]:
    """What a function, and those defined in it, call things that are not their own."""
    return {name for c in _codes(code) for name in (*c.co_names, *c.co_freevars)}


def fetch(tensor: Value) -> Callable[[], Any]:
    """A function that gives the present array of ``tensor``."""
    return lambda: tensor.array
