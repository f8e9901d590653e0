"""From a fused group to something that can be launched: native code, or a call of NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.jit.cache import compiled
from tinygrad_ai.jit.fuse import Fused, Rows, Single
from tinygrad_ai.jit.library import lower
from tinygrad_ai.jit.lower_columns import CHAINS, emit_columns
from tinygrad_ai.jit.lower_rows import emit_rows, row_lanes
from tinygrad_ai.jit.program import Equation, Var
from tinygrad_ai.jit.rows import RowProgram, fold_key
from tinygrad_ai.jit.views import View
from tinygrad_ai.kernels.cpu.gemm import emit_product, prepared
from tinygrad_ai.kernels.cpu.pack import Packing, emit_pack
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
        elif kernel.kind == "library":
            lower(self, kernel.equation)
        else:
            self.launches.append(_call(self.fused, kernel, self.memory))

    def native(
        self,
        name: str,
        emit: partial[str],
        operands: list[Var],
        total: int,
        *,
        writes: set[int] | None = None,
        offsets: dict[int, int] | None = None,
        scratch: dict[int, int] | None = None,
        size: int = 0,
    ) -> None:
        """Append a launch of the kernel whose IR ``emit()`` gives; its arguments tell it apart.

        It writes its first operand unless ``writes`` says otherwise; ``size`` elements say whether
        threads share the work.
        """
        grain = 1 if size > MOST_ALONE else 0
        writes = {0} if writes is None else writes
        code = compiled(f"{emit.func.__name__} {emit.args}", emit)
        extra = scratch or {}, total, grain, emit, offsets or {}
        self.launches.append(Launch(name, code, operands, writes, *extra))

    def _product(self, e: Equation) -> None:
        """A matrix product, after operands have been copied to panels where that has to be."""
        (out,), batch = e.outputs, e.outputs[0].shape[:-2]
        a, b = (self.fused.views[v] for v in e.reads())
        (m, k), n = a.shape[-2:], out.shape[-1]
        if e.operation is linear_:
            b = b._replace(
                shape=(*b.shape[:-2], k, n), strides=(*b.strides[:-2], *b.strides[:-3:-1])
            )
        a, b = a.broadcast((*batch, m, k)), b.broadcast((*batch, k, n))
        p, packings = prepared(out.shape, k, a.strides, b.strides, out.dtype.name)
        operands, offsets = [out, a.root, b.root], {1: a.offset, 2: b.offset}
        for number, packing in packings.items():
            operands[number] = self._panels((a, b)[number - 1], packing)
            offsets[number] = 0
        emit = partial(emit_product, p)
        grain = 1 if out.size * k > MOST_ALONE * 16 else 0
        self.launches.append(
            Launch(
                e.name,
                compiled(repr(p), emit),
                operands,
                {0},
                {},
                p.units,
                grain,
                emit,
                offsets,
            )
        )

    def _panels(self, b: View, p: Packing) -> Var:
        """An operand in panels, made once for all products that want the same."""
        key = b, p
        if key not in self.packed:
            panels = self.packed[key] = Var((math.prod(p.batch), p.size), np.dtype(p.dtype))
            emit = partial(emit_pack, p)
            grain = 1 if panels.size > MOST_ALONE else 0
            self.launches.append(
                Launch(
                    "pack",
                    compiled(repr(p), emit),
                    [panels, b.root],
                    {0},
                    {},
                    p.units,
                    grain,
                    emit,
                    {1: b.offset},
                )
            )
        return self.packed[key]


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
