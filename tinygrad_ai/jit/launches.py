"""From a fused group to something that can be launched: native code, or a call of NumPy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.jit.fuse import Fused, Rows, Single
from tinygrad_ai.jit.lower_columns import CHAINS, emit_columns
from tinygrad_ai.jit.lower_rows import emit_rows
from tinygrad_ai.jit.program import Var
from tinygrad_ai.jit.rows import RowProgram
from tinygrad_ai.kernels.cpu.simd import Native, host_lanes

MOST_ALONE = 1 << 15  # elements that one thread does sooner than several
_compiled: dict[str, Native] = {}


@dataclass(eq=False)
class Launch:
    """Native code on ``operands``: ``total`` rows (or elements), divided at multiples of ``grain``.

    ``scratch`` operands belong to this launch alone: their bytes for each thread.
    """

    name: str
    native: Native
    operands: list[Var]
    writes: set[int]
    scratch: dict[int, int]
    total: int
    grain: int
    source: str


@dataclass(eq=False)
class Call:
    """A Python function that reads and writes arrays; ``reason`` says why it is not native."""

    name: str
    run: Callable[[], None]
    reads: list[Var]
    writes: list[Var]
    reason: str


def lowered(fused: Fused, number: int, memory: dict[Var, Any]) -> Launch | Call:
    """The launch of the fused group ``number``."""
    kernel = fused.kernels[number]
    if isinstance(kernel, Rows):
        return _rows(fused, kernel)
    if kernel.kind == "columns":
        return _columns(fused, kernel)
    return _call(fused, kernel, memory)


def compiled(source: str) -> Native:
    """The code of a kernel called ``kernel``; equal sources are compiled once."""
    key = hashlib.sha256(source.encode()).hexdigest()
    if key not in _compiled:
        _compiled[key] = Native(source, "kernel", 4)
    return _compiled[key]


def _rows(fused: Fused, kernel: Rows) -> Launch:
    program = RowProgram(fused, kernel)
    source = emit_rows(program, "kernel")
    flat = kernel.outer is None
    total = kernel.size if flat else kernel.rows
    grain = (host_lanes() if flat else 1) if kernel.size > MOST_ALONE else 0
    scratch = {
        k: -(-program.columns * program.operands[k].dtype.itemsize // 64) * 64
        for k in program.scratch
    }
    name = "+".join(dict.fromkeys(e.name for e in kernel.equations))
    return Launch(
        name, compiled(source), program.operands, program.writes, scratch, total, grain, source
    )


def _columns(fused: Fused, single: Single) -> Launch:
    e = single.equation
    view, (out,) = fused.matrix(e), e.outputs
    assert view is not None
    rows, columns = view.shape
    source = emit_columns(
        e.operation.lower, rows, columns, view.strides[0], view.offset, (out.dtype, view.root.dtype)
    )
    grain = CHAINS * host_lanes(out.dtype) if rows * columns > MOST_ALONE else 0
    operands = [out, view.root]
    return Launch(e.name, compiled(source), operands, {0}, {}, columns, grain, source)


def _call(fused: Fused, single: Single, memory: dict[Var, Any]) -> Call:
    e = single.equation
    views = [fused.views[v] if isinstance(v, Var) else v for v in e.inputs]

    def run() -> None:
        given = [v.array(memory[v.root]) if hasattr(v, "root") else v for v in views]
        found = e.evaluate(given)
        for out, value in zip(e.outputs, found, strict=True):
            np.copyto(memory[out], value)

    def product() -> None:
        a, b = (v.array(memory[v.root]) for v in views)
        b = b if e.name == "matmul" else b.swapaxes(-1, -2)
        np.matmul(a, b, out=memory[e.outputs[0]])

    reads = [fused.views[v].root for v in e.reads()]
    fast = e.name in ("matmul", "linear") and e.outputs[0].dtype.kind == "f"
    fast = fast and all(v.root.dtype == e.outputs[0].dtype for v in views if hasattr(v, "root"))
    reason = "its record does not say how to lower it" if single.kind == "call" else "BLAS"
    return Call(e.name, product if fast else run, reads, list(e.outputs), reason)


def addresses(arrays: Sequence[np.ndarray[Any, Any]]) -> list[int]:
    """Where arrays stand in memory."""
    return [a.__array_interface__["data"][0] for a in arrays]
