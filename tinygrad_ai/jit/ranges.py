"""Indices and labels out of range: refused before a compiled step runs, in the words of eager mode.

Kernels do not look whether an index is one. What cannot be out of range (constants, the place of a
largest element, a clipped integer, what is moved or picked from such) needs no look. The other
index arrays are looked at in every call. They are arguments mostly, or made of such by a few
operations on integers; what is computed from real numbers has a program of its own, and what
follows from an optimiser's step of the same call is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.autodiff import Primitive, Value
from tinygrad_ai.errors import TinygradError
from tinygrad_ai.jit.program import Equation, Input, Program, Var, without_dead
from tinygrad_ai.ops.elementwise import (
    add,
    astype,
    clip,
    multiply,
    positive,
    remainder,
    subtract,
    where,
)
from tinygrad_ai.ops.index import ARRAY, argbest, argsort_, index, scatter, take_
from tinygrad_ai.ops.movement import concatenate_
from tinygrad_ai.ops.reduce import argmax_, argmin_

Array = np.ndarray[Any, Any]
Exact = Callable[[Array], None]
Interval = tuple[int, int]
Compiled = Callable[[Program], Any]
CORNERS = {add: int.__add__, subtract: int.__sub__, multiply: int.__mul__}
EVERYTHING = (-(2**63), 2**63 - 1)


class Check(NamedTuple):
    """``exact`` raises unless the integers ``var`` are in low … size-1, where low ≤ 0."""

    var: Var
    low: int
    size: int
    exact: Exact
    line: str


def operands(primitive: Primitive, arrays: Sequence[Any], params: Any) -> Iterator[tuple[int, int]]:
    """The positions of index arrays among the inputs, and the sizes of the axes they index."""
    if primitive is take_:
        yield 1, arrays[0].shape[params["axis"]]
    elif primitive in (index, scatter):
        shape = arrays[0].shape if primitive is index else params["shape"]
        spec = params["spec"]
        taken = sum(part is not None and part is not Ellipsis for part in spec)
        axis, k = 0, 1
        for part in spec:
            if part is ARRAY:
                yield k, shape[axis]
                k += 1
            axis += len(shape) - taken if part is Ellipsis else part is not None


def exact_of(
    primitive: Primitive, arrays: Sequence[Any], params: dict[str, Any], k: int, size: int
) -> Exact:
    """What raises for indices out of range in input ``k`` what ``primitive`` raises."""
    likes = [(tuple(a.shape), a.dtype) for a in arrays]
    return partial(_evaluate, primitive, likes, params, k, size)


def _evaluate(
    primitive: Primitive, likes: list[Any], params: dict[str, Any], k: int, size: int, found: Array
) -> None:
    if not ((found >= -size) & (found < size)).all():
        arrays = [np.broadcast_to(np.zeros((), d), n) for n, d in likes]
        arrays[k] = found
        primitive.evaluate(arrays, params)


class Part:
    """What computes some variables of a program, and nothing else."""

    def __init__(self, program: Program, wanted: Sequence[Var], compiled: Compiled) -> None:
        self.wanted = wanted
        part = without_dead(Program(program.inputs, program.equations, list(wanted)))
        self.equations = part.equations
        self.inputs = [i for i in part.inputs if i.var in wanted or self._reads(i.var)]
        sources = {i.var: i for i in part.inputs}
        self.given = None if self.equations else [sources[v] for v in wanted]
        real = any(v.dtype.kind == "f" for e in self.equations for v in e.reads())
        self.execution = compiled(part) if real else None

    def _reads(self, var: Var) -> bool:
        return any(v is var for e in self.equations for v in e.reads())

    def __call__(self, arguments: Sequence[Any], draws: Mapping[Var, Any]) -> list[Any]:
        """The wanted variables' arrays."""
        if self.given is not None:
            return [_present(i, arguments, draws) for i in self.given]
        if self.execution is not None:
            made: list[Any] = self.execution(arguments, draws, [], [None] * len(self.wanted))
            return made
        found = {i.var: _present(i, arguments, draws) for i in self.inputs}
        for e in self.equations:
            given = [found[v] if isinstance(v, Var) else v for v in e.inputs]
            found.update(zip(e.outputs, e.evaluate(given), strict=True))
        return [np.asarray(found[v]) for v in self.wanted]


class Ranges:
    """The checks of a program that must be made at every call.

    What is looked at is what the index arrays were moved from: it holds all of their elements.
    """

    def __init__(self, program: Program, checks: Sequence[Check], compiled: Compiled) -> None:
        sources = {i.var: i for i in program.inputs}
        makers = {v: e for e in program.equations for v in e.outputs}
        known: dict[Var, Interval] = {}
        late = {i.var for i in program.inputs if i.kind == "number"}  # follow an optimiser's step
        for e in program.equations:
            if not late.isdisjoint(e.reads()):
                late.update(e.outputs)
        self.checks: list[Check] = []
        sizes: dict[Var, int] = {}
        for check in (c for c in checks if c.var not in late):
            low, high = _interval(check.var, makers, sources, known)
            if not check.low <= low <= high < check.size:
                self.checks.append(check)
                root = _root(check.var, makers)
                sizes[root] = min(check.size, sizes.get(root, check.size))
        self.limits = [_limit(v.dtype, size) for v, size in sizes.items()]
        self.looked = Part(program, list(sizes), compiled)
        self.drawn = any(i.kind == "draw" for i in self.looked.inputs)
        self._indices = cache(lambda: Part(program, [c.var for c in self.checks], compiled))

    def __call__(self, arguments: Sequence[Any], draws: Mapping[Var, Any]) -> None:
        """Raise what an eager run would raise for these arguments."""
        if not self.checks:
            return
        found = self.looked(arguments, draws)
        if all(map(_inside, found, self.limits)):
            return
        for check, array in zip(self.checks, self._indices()(arguments, draws), strict=True):
            try:
                check.exact(array)
            except TinygradError as error:
                error.add_note(f"   in a compiled step{check.line}")
                raise


def _limit(dtype: np.dtype[Any], size: int) -> tuple[np.dtype[Any], int]:
    """As what integers are compared, and the least that is no index: negative ones are large
    without a sign."""
    most = 1 << 8 * dtype.itemsize - (dtype.kind == "i")
    return np.dtype(f"u{dtype.itemsize}"), min(size, most)


def _inside(array: Array, limit: tuple[np.dtype[Any], int]) -> bool:
    """Whether all integers are indices."""
    dtype, most = limit
    return not array.size or bool(np.maximum.reduce(array.view(dtype), axis=None) < most)


def _root(v: Var, makers: Mapping[Var, Equation]) -> Var:
    """What the integers of ``v`` were moved from."""
    while (e := makers.get(v)) is not None:
        moved = e.operation.kind == "movement" or e.operation is positive
        widened = e.operation is astype and np.can_cast(e.inputs[0].dtype, v.dtype)
        if not moved and not widened:
            break
        v = e.inputs[0]
    return v


def _present(source: Input, arguments: Sequence[Any], draws: Mapping[Var, Any]) -> Any:
    if source.kind == "draw":
        return draws[source.var]
    given = arguments[source.key] if source.kind == "argument" else source.fetch()
    return given.array if isinstance(given, Value) else given


def _interval(
    v: Any, makers: dict[Var, Equation], sources: dict[Var, Input], known: dict[Var, Interval]
) -> Interval:
    """Least and greatest value that integers can have."""
    if not isinstance(v, Var):
        return (int(v), int(v)) if isinstance(v, int) else EVERYTHING
    if v not in known:
        source, e = sources.get(v), makers.get(v)
        known[v] = EVERYTHING
        if v.dtype.kind == "b":
            known[v] = 0, 1
        elif source is not None and source.kind == "constant" and v.dtype.kind in "iu" and v.size:
            array = source.fetch()
            known[v] = int(array.min()), int(array.max())
        elif e is not None:
            made = _made(e, lambda x: _interval(x, makers, sources, known))
            known[v] = made if _fits(made, v.dtype) else EVERYTHING
    return known[v]


def _fits(interval: Interval, dtype: np.dtype[Any]) -> bool:
    """Whether no integer in an interval wraps around in ``dtype``."""
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return limits is not None and limits.min <= interval[0] <= interval[1] <= limits.max


def _made(e: Equation, of: Callable[[Any], Interval]) -> Interval:
    operation, first = e.operation, e.inputs[0]
    if operation in (argmax_, argmin_, argsort_, argbest):
        axis = e.params["axis"]
        return 0, (first.size if axis is None else first.shape[axis]) - 1
    if (
        operation in (astype, positive, index, take_)
        or getattr(operation, "kind", "") == "movement"
    ):
        return of(first) if first.dtype.kind in "iub" else EVERYTHING
    if operation is clip and e.outputs[0].dtype.kind in "iu":
        x, low, high = map(of, e.inputs)
        return min(max(x[0], low[0]), high[0]), min(max(x[1], low[1]), high[1])
    if operation in CORNERS and e.outputs[0].dtype.kind in "iu":
        ends = [CORNERS[operation](a, b) for a in of(first) for b in of(e.inputs[1])]
        return min(ends), max(ends)
    if operation is remainder and (last := of(e.inputs[1]))[0] > 0:
        return 0, last[1] - 1
    if operation in (where, concatenate_):
        parts = [of(x) for x in e.inputs[operation is where :]]
        return min(low for low, _ in parts), max(high for _, high in parts)
    return EVERYTHING
