"""A captured step as a program: variables, each made once by an equation, and the passes over it.

Printed, it reads like this::

    v0: float32[128, 784] = argument
    v3: float32[128, 128] = linear(v0, v1)
    return v7
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.errors import GraphError, TinygradError, user_line
from tinygrad_ai.jit.lower import Aval


def where_called() -> str:
    """The user's line, as the end of a sentence."""
    line = user_line()
    return f", at {line}" if line else ""


class Var:
    """What stands for an array while a function is captured: a shape and a dtype, no values."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype

    @property
    def aval(self) -> Aval:
        """Shape and dtype."""
        return Aval(self.shape, self.dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The bytes of an array of this kind."""
        return self.size * self.dtype.itemsize

    def copy(self) -> Var:
        """Itself: a variable is never written to."""
        return self

    def nonzero(self) -> Any:
        """How many there are is not known: raises GraphError."""
        raise GraphError(
            "jit: nonzero and boolean indices give a shape that depends on values, which are not "
            f"known while a step is captured{where_called()}",
            "   help: where(mask, x, 0) keeps the shape",
        )


@dataclass(frozen=True, eq=False)
class Input:
    """Where the value of ``var`` comes from: ``fetch()`` gives the array of the present call.

    ``kind`` is *argument*, *state* (a tensor that the function reads), *constant*, *draw* (random
    numbers) or *number* (a setting of an optimiser). ``key`` tells one source from another.
    """

    var: Var
    kind: str
    fetch: Callable[[], Any]
    key: Any = None


@dataclass(frozen=True, eq=False)
class Equation:
    """``outputs`` are what ``operation`` makes of ``inputs``: variables and Python numbers."""

    operation: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    outputs: tuple[Var, ...]

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    def reads(self) -> Iterator[Var]:
        """The variables among the inputs."""
        return (v for v in self.inputs if isinstance(v, Var))

    def evaluate(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs for arrays (and numbers) in the place of the inputs, by NumPy."""
        found = self.operation.evaluate(arrays, self.params)
        return found if isinstance(found, tuple) else (found,)


@dataclass
class Program:
    """Equations in an order in which each finds its inputs made."""

    inputs: list[Input]
    equations: list[Equation]
    outputs: list[Var]

    def __str__(self) -> str:
        names: dict[Var, str] = {}

        def named(v: Any) -> str:
            return names.setdefault(v, f"v{len(names)}") if isinstance(v, Var) else repr(v)

        def typed(v: Var) -> str:
            return f"{named(v)}: {v.dtype}{list(v.shape)}"

        lines = [f"{typed(i.var)} = {i.kind}" for i in self.inputs]
        for e in self.equations:
            words = [named(v) for v in e.inputs] + [f"{k}={v}" for k, v in e.params.items()]
            lines.append(f"{', '.join(map(typed, e.outputs))} = {e.name}({', '.join(words)})")
        return "\n".join([*lines, f"return {', '.join(map(named, self.outputs))}"])

    def verify(self) -> None:
        """Raise ProgramError where a variable is read before it is made, or made twice."""
        made: set[Var] = set()
        for v in [i.var for i in self.inputs]:
            _once(v, made)
        for e in self.equations:
            if any(v not in made for v in e.reads()):
                raise ProgramError(f"{e.name} reads a variable that is not made before it")
            for v in e.outputs:
                _once(v, made)
        if any(v not in made for v in self.outputs):
            raise ProgramError("an output is never made")

    def consumers(self) -> dict[Var, list[Equation]]:
        """For each variable the equations that read it."""
        found: dict[Var, list[Equation]] = {}
        for e in self.equations:
            for v in dict.fromkeys(e.reads()):
                found.setdefault(v, []).append(e)
        return found

    def rewritten(self, replaced: dict[Var, Any], equations: Iterable[Equation]) -> Program:
        """The program of ``equations``, which read other variables in the place of some."""

        def now(v: Any) -> Any:
            while isinstance(v, Var) and v in replaced:
                v = replaced[v]
            return v

        kept = []
        for e in equations:
            inputs = tuple(map(now, e.inputs))
            same = all(a is b for a, b in zip(inputs, e.inputs, strict=True))
            kept.append(e if same else Equation(e.operation, inputs, e.params, e.outputs))
        return Program(self.inputs, kept, [now(v) for v in self.outputs])


class ProgramError(TinygradError):
    """A program that is not well formed: a mistake of the compiler's own."""


def _once(v: Var, made: set[Var]) -> None:
    if v in made:
        raise ProgramError("a variable is made twice")
    made.add(v)


# ------------------------------------------------------------------------------------------ passes


def without_dead(program: Program) -> Program:
    """Equations and inputs whose results are never read are left out."""
    live = set(program.outputs)
    kept = []
    for e in reversed(program.equations):
        if any(v in live for v in e.outputs):
            kept.append(e)
            live.update(e.reads())
    # a draw is an effect: the generator moves on
    inputs = [i for i in program.inputs if i.var in live or i.kind == "draw"]
    return Program(inputs, kept[::-1], program.outputs)


def without_repeats(program: Program) -> Program:
    """Equal operations on equal inputs are done once."""
    seen: dict[Any, Equation] = {}
    replaced: dict[Var, Any] = {}
    kept = []
    for e in program.equations:
        inputs = tuple(replaced.get(v, v) if isinstance(v, Var) else v for v in e.inputs)
        key = (e.operation, tuple(map(_identity, inputs)), frozen(e.params))
        if (first := seen.get(key)) is not None:
            replaced.update(zip(e.outputs, first.outputs, strict=True))
        else:
            seen[key] = e
            kept.append(e)
    return program.rewritten(replaced, kept)


def without(operation: Any, program: Program) -> Program:
    """Every equation of ``operation`` replaced by its first input."""
    replaced = {e.outputs[0]: e.inputs[0] for e in program.equations if e.operation is operation}
    return program.rewritten(
        replaced, (e for e in program.equations if e.operation is not operation)
    )


def doubts(program: Program, operation: Any) -> list[int]:
    """The outputs, by number, that depend on what ``operation`` made."""
    tainted: set[Var] = set()
    for e in program.equations:
        if e.operation is operation or any(v in tainted for v in e.reads()):
            tainted.update(e.outputs)
    return [k for k, v in enumerate(program.outputs) if v in tainted and v.dtype.kind == "f"]


def _identity(v: Any) -> Any:
    return id(v) if isinstance(v, Var) else (type(v), repr(v))


def frozen(value: Any) -> Any:
    """``value`` (parameters of an operation) as something that can be a key."""
    if isinstance(value, dict):
        return tuple((k, frozen(v)) for k, v in value.items())
    if isinstance(value, tuple | list):
        return (type(value), *map(frozen, value))
    if isinstance(value, slice):
        return slice, frozen(value.start), frozen(value.stop), frozen(value.step)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, value.tobytes()
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return type(value), repr(value) if isinstance(value, float) else value  # 0.0 is not -0.0
