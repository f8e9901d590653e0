"""A captured step as a program: variables, each made once by an equation, and the passes over it.

Printed, it reads like this::

    v0: float32[128, 784] = argument
    v3: float32[128, 128] = linear(v0, v1)
    return v7
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.backend.native import FLOATS
from tinygrad_ai.errors import GraphError, TinygradError, user_line
from tinygrad_ai.jit.lower import Aval


def where_called() -> str:
    """The user's line, as the end of a sentence."""
    line = user_line()
    return f", at {line}" if line else ""


class Var:
    """What stands for an array while a function is captured: a shape and a dtype, no values.

    ``base`` is the array from outside that it is, or is a view of, in an eager run.
    """

    __slots__ = ("base", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.base: Any = None
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
        return math.prod(self.shape)

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


@dataclass(eq=False, slots=True)
class Equation:
    """``outputs`` are what ``operation`` makes of ``inputs``: variables and Python numbers.

    ``part_of`` is the name of the composite operation that it was written out from.
    """

    operation: Any
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    outputs: tuple[Var, ...]
    part_of: str = ""
    _reads: list[Var] = field(init=False, repr=False)
    _static: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._reads = [v for v in self.inputs if isinstance(v, Var)]

    @property
    def static(self) -> Any:
        """The parameters as something that can be a key."""
        if self._static is None:
            self._static = frozen(self.params)
        return self._static

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.operation.name

    @property
    def label(self) -> str:
        """What the user calls it."""
        return self.part_of or self.name

    def reads(self) -> Iterator[Var]:
        """The variables among the inputs."""
        return iter(self._reads)

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
            made = f"{', '.join(map(typed, e.outputs))} = " if e.outputs else ""
            lines.append(f"{made}{e.name}({', '.join(words)})")
        return "\n".join([*lines, f"return {', '.join(map(named, self.outputs))}"])

    def structure(self) -> list[Any]:
        """What tells this program from others: the same for two that print alike."""
        numbers: dict[Any, int] = {}

        def numbered(v: Any) -> Any:
            return numbers.setdefault(v, len(numbers)) if isinstance(v, Var) else identity(v)

        lines: list[Any] = [(i.kind, numbered(i.var), i.var.aval) for i in self.inputs]
        for e in self.equations:
            read = [numbered(v) for v in e.inputs]
            made = [(numbered(v), v.shape, v.dtype) for v in e.outputs]
            lines.append((e.name, read, e.static, made))
        return [*lines, [numbered(v) for v in self.outputs]]

    def verify(self) -> None:
        """Raise ProgramError where a variable is read before it is made, or made twice."""
        made: set[Var] = set()
        for v in [i.var for i in self.inputs]:
            _once(v, made)
        for e in self.equations:
            if not made.issuperset(e.reads()):
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
            if not replaced.keys().isdisjoint(e.reads()):
                inputs = tuple(map(now, e.inputs))
                e = Equation(e.operation, inputs, e.params, e.outputs, e.part_of)
            kept.append(e)
        return Program(self.inputs, kept, [now(v) for v in self.outputs])


class ProgramError(TinygradError):
    """A program that is not well formed: a mistake of the compiler's own."""


def _once(v: Var, made: set[Var]) -> None:
    if v in made:
        raise ProgramError("a variable is made twice")
    made.add(v)


# ------------------------------------------------------------------------------------------ passes


def without_dead(program: Program) -> Program:
    """Equations and inputs whose results are never read are left out.

    One without results looks at what others read: it stays where they do, or always.
    """
    live = set(program.outputs)
    kept = []
    for e in reversed(program.equations):
        if "always" in e.params or not live.isdisjoint(e.outputs or e.reads()):
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
        key = (e.operation, tuple(map(identity, inputs)), e.static)
        if (first := seen.get(key)) is not None:
            replaced.update(zip(e.outputs, first.outputs, strict=True))
        else:
            seen[key] = e
            kept.append(e)
    return program.rewritten(replaced, kept)


def with_constants_known(program: Program) -> Program:
    """What is made of single constants alone, as a mean's 1/N is, is computed now."""
    known = {i.var: i.fetch() for i in program.inputs if i.kind == "constant" and i.var.size == 1}
    inputs, kept = list(program.inputs), []
    for e in program.equations:
        reads = list(e.reads())
        if not (reads and e.outputs and all(v in known for v in reads)) or any(
            v.size != 1 for v in e.outputs
        ):
            kept.append(e)
            continue
        with np.errstate(all="ignore"):
            made = e.evaluate([known[v] if isinstance(v, Var) else v for v in e.inputs])
        for v, value in zip(e.outputs, made, strict=True):
            known[v] = array = np.array(value, v.dtype).reshape(v.shape)
            inputs.append(Input(v, "constant", partial(np.asarray, array)))
    return Program(inputs, kept, program.outputs)


class Watch:
    """The operation that makes nothing, but raises the program's flag where it sees a NaN."""

    name = "watch"
    kind = "effect"
    lower = None


WATCH = Watch()


def watched(operation: Any, program: Program, source: Callable[[Equation], Var | None]) -> Program:
    """``operation(x, bad)`` replaced by ``x`` wherever the NaNs of which ``bad`` tells can be seen.

    ``source`` says of the equation that makes ``bad`` which array has these NaNs: it is watched,
    even where nothing else reads it any more if it is not ``x`` itself (in second derivatives).
    """
    makers = {v: e for e in program.equations for v in e.outputs}
    replaced: dict[Var, Any] = {}
    kept = []
    for e in program.equations:
        if e.operation is operation:
            x, bad = e.inputs
            seen = source(makers[bad]) if bad in makers else None
            if isinstance(x, Var) and seen is not None and seen.dtype in FLOATS and seen.size:
                replaced[e.outputs[0]] = x
                e = Equation(WATCH, (seen,), {} if seen is x else {"always": True}, ())
        kept.append(e)
    return program.rewritten(replaced, kept)


def identity(v: Any) -> Any:
    """An input of an equation as something that can be a key."""
    return id(v) if isinstance(v, Var) else (type(v), repr(v))


EXACT = {int, str, bool, type(None)}  # equal ones of a type are the same


def frozen(value: Any) -> Any:
    """``value`` (parameters of an operation) as something that can be a key."""
    if type(value) in EXACT:
        return type(value), value
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
