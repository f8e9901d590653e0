"""From a fused group to something that can be launched: native code, or a call of NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
    """Native code on ``operands``: ``total`` units of work, divided at multiples of ``grain``.

    ``writes`` are the operands that nothing has written before. ``scratch`` operands belong to this
    launch alone: their bytes for each thread. ``offsets`` say where operands begin, in elements.
    """

    name: str
    native: Native
    source: Callable[[], str]  #: the LLVM IR
    operands: list[Var]
    total: int
    grain: int
    writes: set[int]
    offsets: dict[int, int]
    scratch: dict[int, int]

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
            self._rows(kernel)
        elif kernel.kind == "columns":
            self._columns(kernel.equation)
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
        key: str | None = None,
        writes: set[int] | None = None,
        offsets: dict[int, int] | None = None,
        scratch: dict[int, int] | None = None,
        size: int = 0,
        unit: int = 1,
    ) -> None:
        """Append a launch of the kernel whose IR ``emit()`` gives.

        ``key`` tells its code apart, by default the arguments of ``emit``. It writes its first
        operand unless ``writes`` says otherwise; ``size`` elements say whether threads share the
        work, in multiples of ``unit``.
        """
        assert not emit.keywords  # they would not be in the key
        code = compiled(f"{emit.func.__name__} {key or emit.args}", emit)
        grain = unit if size > MOST_ALONE else 0
        writes = {0} if writes is None else writes
        self.launches.append(
            Launch(name, code, emit, operands, total, grain, writes, offsets or {}, scratch or {})
        )

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
        self.native(e.name, emit, operands, p.units, offsets=offsets, size=out.size * k // 16)

    def _panels(self, b: View, p: Packing) -> Var:
        """An operand in panels, made once for all products that want the same."""
        key = b, p
        if key not in self.packed:
            panels = self.packed[key] = Var((math.prod(p.batch), p.size), np.dtype(p.dtype))
            self.native(
                "pack",
                partial(emit_pack, p),
                [panels, b.root],
                p.units,
                offsets={1: b.offset},
                size=panels.size,
            )
        return self.packed[key]

    def _rows(self, kernel: Rows) -> None:
        """A fused kernel, divided by rows, or where it has none by vectors."""
        program = RowProgram(self.fused, kernel)
        lanes = row_lanes(program)
        flat = kernel.outer is None
        self.native(
            "+".join(dict.fromkeys(e.name for e in kernel.equations)),
            partial(emit_rows, program, lanes),
            program.operands,
            kernel.size if flat else kernel.rows,
            key=f"{lanes} {program.key()}",
            writes=program.writes,
            offsets=program.offsets,
            scratch=program.scratch_bytes(),
            size=kernel.size,
            unit=host_lanes() if flat else 1,
        )

    def _columns(self, e: Equation) -> None:
        """A reduction along leading axes, divided by the batch or by vectors of columns."""
        view, (out,), fold = self.fused.matrices(e), e.outputs, e.operation.lower
        assert view is not None
        batch, _, columns = view.shape
        dtypes = out.dtype, view.root.dtype
        self.native(
            e.name,
            partial(emit_columns, fold, view.shape, view.strides[:2], dtypes),
            [out, view.root],
            batch if batch > 1 else columns,
            key=f"{fold_key(fold, out.dtype)} {view.shape} {view.strides[:2]} {dtypes}",
            offsets={1: view.offset},
            size=view.root.size,
            unit=1 if batch > 1 else CHAINS * host_lanes(out.dtype),
        )


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


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array stands in memory."""
    return array.__array_interface__["data"][0]
