"""Sums of slices put back into place, as the gradient of ``x[:, 0]``, ``x[:, 1]`` … is one.

Each slice's gradient is an array of the whole shape, zeros but for the slice; adding up a hundred
of them moves the whole array a hundred times. Where the slices do not overlap, nothing needs to be
added: each is copied to its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.jit.program import Equation, Program, Var
from tinygrad_ai.ops.elementwise import add
from tinygrad_ai.ops.movement import unslice


class Slices:
    """The operation: its k-th input stands at ``keys[k]`` of an array of zeros of ``shape``.

    They do not overlap; ``whole`` says that they cover the array.
    """

    name = "slices"
    kind = "opaque"
    lower = None

    def __init__(self, keys: Sequence[Any], shape: tuple[int, ...], whole: bool) -> None:
        self.keys, self.shape, self.whole = tuple(keys), shape, whole

    def evaluate(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        """The result, by NumPy."""
        out = np.zeros(self.shape, arrays[0].dtype)
        for key, array in zip(self.keys, arrays, strict=True):
            out[key] = array
        return out


class _Sum(NamedTuple):
    """The slices of which a variable is the sum, and which elements they take (None: not known)."""

    parts: list[tuple[Any, Var]]
    taken: np.ndarray[Any, Any] | None = None


def with_slices_joined(program: Program) -> Program:
    """``program`` with sums of slices that do not overlap made by one operation each."""
    uses = program.consumers()
    sums: dict[Any, _Sum] = {}
    equations = []
    for e in program.equations:
        if e.operation is unslice:
            sums[e.outputs[0]] = _Sum([(e.params["key"], e.inputs[0])])
        elif e.operation is add and all(v in sums and len(uses[v]) == 1 for v in e.inputs):
            (out,) = e.outputs
            a, b = (sums[v] for v in e.inputs)
            alike = all(v.aval == out.aval for v in e.reads())
            joined = _joined(a, b, out.shape) if alike else None
            if joined is not None:
                sums[out] = joined
                keys, parts = zip(*joined.parts, strict=True)
                operation = Slices(keys, out.shape, sum(v.size for v in parts) == out.size)
                e = Equation(operation, parts, {}, (out,))
        equations.append(e)
    return Program(program.inputs, equations, program.outputs)


def _joined(a: _Sum, b: _Sum, shape: tuple[int, ...]) -> _Sum | None:
    """The sum of two sums; None if they overlap."""
    few, many = sorted((a, b), key=lambda s: len(s.parts))
    taken = many.taken
    if taken is None:
        taken = np.zeros(shape, np.bool_)
        for key, _ in many.parts:
            taken[key] = True
    if any(taken[key].any() for key, _ in few.parts):
        return None
    for key, _ in few.parts:
        taken[key] = True
    return _Sum(a.parts + b.parts, taken)
