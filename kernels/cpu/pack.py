"""Copies of a product's B in panels: columns of one tile's width, side by side for every k.

A product reads a panel from its first byte to its last, whatever the strides of the matrix were.
The last panel may be narrower; lanes past the last column are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import I64, KERNEL, POINTER, Simd, element_type, looped

CHUNK = 64  # rows of a matrix that are copied to all panels before the next ones


@dataclass(frozen=True)
class Packing:
    """Panels of matrices (k, n) with ``strides``, ``width`` columns each, a multiple of ``lanes``.

    Strides are in elements; ``steps`` are those of the ``batch``, per axis.
    """

    k: int
    n: int
    strides: tuple[int, int]
    width: int
    lanes: int
    batch: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    dtype: str = "float32"

    @property
    def vectors(self) -> int:
        """Registers that hold a row of the matrix."""
        return -(-self.n // self.lanes)

    @property
    def size(self) -> int:
        """Elements of all panels of one matrix."""
        return self.vectors * self.lanes * self.k

    @property
    def units(self) -> int:
        """Units of work: panels, of every matrix."""
        return math.prod(self.batch) * -(-self.n // self.width)


def emit_pack(p: Packing) -> str:
    """The LLVM IR of ``kernel`` on the operands panels, B.

    A matrix that lies along k is transposed in squares of a register's length.
    """
    module = ir.Module("pack")
    _PackWriter(p, ir.Function(module, KERNEL, "kernel")).write()
    return str(module)


class _PackWriter:
    def __init__(self, p: Packing, function: ir.Function) -> None:
        self.p, self.args = p, function.args
        self.dtype = np.dtype(p.dtype)
        self.build = ir.IRBuilder(function.append_basic_block("entry"))
        self.simd = Simd(self.build, p.lanes)

    def write(self) -> None:
        p, build = self.p, self.build
        table, begin, end, _ = self.args
        panels, matrices = (
            build.load(build.gep(table, [I64(k)], source_etype=POINTER), typ=POINTER)
            for k in range(2)
        )
        across = I64(max(1, -(-p.n // p.width)))
        along_k = p.strides[0] == 1 and p.strides[1] != 1
        whole = p.k - p.k % p.lanes if along_k else p.k
        # rows far apart stay in the second cache until the next panel has read its part of a line
        chunk = CHUNK if p.strides[1] == 1 else max(1, whole)
        with looped(build, I64(0), I64(max(1, whole) + chunk - 1), chunk) as start:
            stop = least(build, build.add(start, I64(chunk)), I64(whole))
            with looped(build, begin, end, 1) as unit:
                item, panel = build.sdiv(unit, across), build.srem(unit, across)
                first = build.mul(panel, I64(p.width // p.lanes))
                count = least(build, build.sub(I64(p.vectors), first), I64(p.width // p.lanes))
                panel = build.mul(panel, I64(p.width * p.k))
                target = self._at(panels, build.add(build.mul(item, I64(p.size)), panel))
                source = self._at(matrices, batch_offset(build, item, p.batch, p.steps))
                with looped(build, start, stop, p.lanes if along_k else 1) as k:
                    self._steps(target, source, k, p.lanes if along_k else 1, first, count)
                if whole < p.k:
                    self._steps(target, source, I64(whole), p.k - whole, first, count)
        build.ret_void()

    def _steps(
        self,
        target: ir.Value,
        source: ir.Value,
        k: ir.Value,
        steps: int,
        first: ir.Value,
        count: ir.Value,
    ) -> None:
        """``steps`` rows of a panel from ``k`` on: ``count`` vectors, of B's from ``first`` on."""
        p, build = self.p, self.build
        row = build.mul(count, I64(p.lanes))
        here = self._at(target, build.mul(k, row))
        there = self._at(source, build.mul(k, I64(p.strides[0])))
        with looped(build, I64(0), count, 1) as v:
            vector = build.add(first, v)
            onto = self._at(here, build.mul(v, I64(p.lanes)))
            from_ = self._at(there, build.mul(vector, I64(p.lanes * p.strides[1])))

            def copy(columns: int) -> None:
                for n, line in enumerate(self._lines(from_, steps, columns)):
                    self.simd.store(line, onto, build.mul(I64(n), row))

            if p.n % p.lanes:
                edge = build.icmp_signed("==", vector, I64(p.vectors - 1))
                with build.if_else(edge) as (last, other):
                    with last:
                        copy(p.n % p.lanes)
                    with other:
                        copy(p.lanes)
            else:
                copy(p.lanes)

    def _at(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.build.gep(pointer, [offset], source_etype=element_type(self.dtype))

    def _lines(self, source: ir.Value, steps: int, columns: int) -> Sequence[ir.Value]:
        """``steps`` vectors of B; only their first ``columns`` lanes are read, the rest is 0."""
        simd, dtype, lanes, stride = self.simd, self.dtype, self.p.lanes, self.p.strides[1]
        active = None if columns == lanes else columns
        if stride == 1:
            return [simd.load(dtype, source, I64(0), active)]
        if self.p.strides[0] != 1:
            offsets = ir.Constant(ir.VectorType(I64, lanes), [n * stride for n in range(lanes)])
            return [simd.gather(dtype, source, offsets, active)]
        some, none = None if steps == lanes else steps, simd.constant(dtype, 0.0)
        lines = [
            simd.load(dtype, source, I64(n * stride), some) if n < columns else none
            for n in range(lanes)
        ]
        return transposed(self.build, lines)[:steps]


def transposed(build: ir.IRBuilder, lines: list[ir.Value]) -> list[ir.Value]:
    """A square of registers transposed: halves of ever smaller blocks are exchanged (Eklundh)."""
    lanes = len(lines)
    i32 = ir.IntType(32)
    step = lanes // 2
    while step:
        low = [c if not c & step else lanes + c - step for c in range(lanes)]
        high = [c + step if not c & step else lanes + c for c in range(lanes)]
        after = list(lines)
        for n in range(lanes):
            if not n & step:
                pair = lines[n], lines[n + step]
                for place, chosen in ((n, low), (n + step, high)):
                    mask = ir.Constant(ir.VectorType(i32, lanes), chosen)
                    after[place] = build.shuffle_vector(*pair, mask)
        lines, step = after, step // 2
    return lines


def batch_offset(
    build: ir.IRBuilder, item: ir.Value, batch: Sequence[int], steps: Sequence[int]
) -> ir.Value:
    """Where matrix number ``item`` of a batch begins, in elements."""
    offset: ir.Value = I64(0)
    for n, step in zip(reversed(batch), reversed(steps), strict=True):
        offset = build.add(offset, build.mul(build.urem(item, I64(n)), I64(step)))
        item = build.udiv(item, I64(n))
    return offset


def least(build: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The smaller of two integers."""
    return build.select(build.icmp_signed("<", a, b), a, b)
