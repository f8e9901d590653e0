"""From a fused group to something that can be launched: native code, or a call of NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.jit.cache import compiled
from tinygrad_ai.jit.fuse import Fused, Rows, Single
from tinygrad_ai.jit.lower_columns import CHAINS, emit_columns
from tinygrad_ai.jit.lower_rows import emit_rows, row_lanes
from tinygrad_ai.jit.program import Equation, Var
from tinygrad_ai.jit.rows import RowProgram, fold_key
from tinygrad_ai.jit.views import View, contiguous
from tinygrad_ai.kernels.cpu.gemm import (
    LARGE,
    Packing,
    Product,
    emit_pack,
    emit_product,
    packing_units,
    panel_columns,
    panel_size,
    units,
)
from tinygrad_ai.kernels.cpu.simd import Native, host_lanes
from tinygrad_ai.ops.products import linear_

MOST_ALONE = 1 << 15  # elements that one thread does sooner than several


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
    source: str | Callable[[], str]  #: the LLVM IR
    offsets: dict[int, int] = field(default_factory=dict)  #: where operands begin, in elements

    def reads(self) -> Iterator[Var]:
        """The roots that are read."""
        return (v for k, v in enumerate(self.operands) if k not in self.writes)

    def makes(self) -> Iterator[Var]:
        """The roots that are written."""
        return (v for k, v in enumerate(self.operands) if k in self.writes)


@dataclass(eq=False)
class Call:
    """A Python function that reads and writes arrays; ``reason`` says why it is not native."""

    name: str
    run: Callable[[], None]
    inputs: list[Var]
    outputs: list[Var]
    reason: str

    def reads(self) -> Iterator[Var]:
        """The roots that are read."""
        return iter(self.inputs)

    def makes(self) -> Iterator[Var]:
        """The roots that are written."""
        return iter(self.outputs)


class Lowering:
    """The launches of a fused program, in order."""

    def __init__(self, fused: Fused, memory: dict[Var, Any]) -> None:
        self.fused, self.memory = fused, memory
        self.launches: list[Launch | Call] = []
        self.packed: dict[Any, Var] = {}
        for kernel in fused.kernels:
            self.add(kernel)

    def add(self, kernel: Rows | Single) -> None:
        """Lower one group."""
        if isinstance(kernel, Rows):
            self.launches.append(_rows(self.fused, kernel))
        elif kernel.kind == "columns":
            self.launches.append(_columns(self.fused, kernel))
        elif kernel.kind == "matmul":
            self._product(kernel.equation)
        else:
            self.launches.append(_call(self.fused, kernel, self.memory))

    def _product(self, e: Equation) -> None:
        """A matrix product, after B has been copied to panels where it has to be."""
        (out,), batch = e.outputs, e.outputs[0].shape[:-2]
        a, b = (self.fused.views[v] for v in e.reads())
        (m, k), n = a.shape[-2:], out.shape[-1]
        if e.operation is linear_:
            b = b._replace(
                shape=(*b.shape[:-2], k, n), strides=(*b.strides[:-2], *b.strides[:-3:-1])
            )
        a, b = a.broadcast((*batch, m, k)), b.broadcast((*batch, k, n))
        dtype = out.dtype.name
        rows = b.strides[-2] if b.strides[-1] == 1 and m * n * k < LARGE else None
        p = Product(m, n, k, a.strides[-2:], rows, batch, a.strides[:-2], b.strides[:-2], dtype)
        source = b.root
        offset = b.offset
        if rows is None:
            source, step = self._panels(b, p)
            offset, p = 0, replace(p, b_batch=step)
        emit = partial(emit_product, p)
        offsets = {1: a.offset, 2: offset}
        grain = 1 if m * n * k > MOST_ALONE * 16 else 0
        self.launches.append(
            Launch(
                e.name,
                compiled(repr(p), emit),
                [out, a.root, source],
                {0},
                {},
                units(p),
                grain,
                emit,
                offsets,
            )
        )

    def _panels(self, b: View, p: Product) -> tuple[Var, tuple[int, ...]]:
        """B in panels, and the steps from one matrix of the batch to the next."""
        repeated = [n if s else 1 for n, s in zip(p.batch, p.b_batch, strict=True)]
        steps = [s if n > 1 else 0 for n, s in zip(repeated, contiguous(repeated), strict=True)]
        size, width = panel_size(p), panel_columns(p)
        key = b, width
        if key not in self.packed:
            packing = Packing(p.k, p.n, b.strides[-2:], width, tuple(repeated), p.b_batch, p.dtype)
            panels = self.packed[key] = Var((math.prod(repeated), size), np.dtype(p.dtype))
            emit = partial(emit_pack, packing)
            total = packing_units(packing)
            grain = 1 if total * p.k > MOST_ALONE // 8 else 0
            self.launches.append(
                Launch(
                    "pack",
                    compiled(repr(packing), emit),
                    [panels, b.root],
                    {0},
                    {},
                    total,
                    grain,
                    emit,
                    {1: b.offset},
                )
            )
        return self.packed[key], tuple(s * size for s in steps)


def _rows(fused: Fused, kernel: Rows) -> Launch:
    program = RowProgram(fused, kernel)
    lanes = row_lanes(program)
    source = partial(emit_rows, program, lanes)
    native = compiled(f"{lanes} {program.key()}", source)
    flat = kernel.outer is None
    total = kernel.size if flat else kernel.rows
    grain = (host_lanes() if flat else 1) if kernel.size > MOST_ALONE else 0
    scratch = {
        k: -(-program.columns * program.operands[k].dtype.itemsize // 64) * 64
        for k in program.scratch
    }
    name = "+".join(dict.fromkeys(e.name for e in kernel.equations))
    return Launch(
        name,
        native,
        program.operands,
        program.writes,
        scratch,
        total,
        grain,
        source,
        program.offsets,
    )


def _columns(fused: Fused, single: Single) -> Launch:
    e = single.equation
    view, (out,) = fused.matrices(e), e.outputs
    assert view is not None
    batch, _, columns = view.shape
    fold, dtypes = e.operation.lower, (out.dtype, view.root.dtype)
    source = partial(emit_columns, fold, view.shape, view.strides[:2], dtypes)
    key = f"columns {fold_key(fold, out.dtype)} {view.shape} {view.strides[:2]} {dtypes}"
    grain = 1 if batch > 1 else CHAINS * host_lanes(out.dtype)
    grain = grain if view.root.size > MOST_ALONE else 0
    total = batch if batch > 1 else columns
    operands = [out, view.root]
    offsets = {1: view.offset}
    native = compiled(key, source)
    return Launch(e.name, native, operands, {0}, {}, total, grain, source, offsets)


def _call(fused: Fused, single: Single, memory: dict[Var, Any]) -> Call:
    e = single.equation
    views = [fused.views[v] if isinstance(v, Var) else v for v in e.inputs]

    def run() -> None:
        given = [v.array(memory[v.root]) if hasattr(v, "root") else v for v in views]
        found = e.evaluate(given)
        for out, value in zip(e.outputs, found, strict=True):
            np.copyto(memory[out], value)

    reads = [fused.views[v].root for v in e.reads()]
    return Call(e.name, run, reads, list(e.outputs), "its record does not say how to lower it")


def addresses(arrays: Sequence[np.ndarray[Any, Any]]) -> list[int]:
    """Where arrays stand in memory."""
    return [a.__array_interface__["data"][0] for a in arrays]
