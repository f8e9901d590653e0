"""Copies of a product's B in panels: columns of one tile's width, side by side for every k.

A product reads a panel from its first byte to its last, whatever the strides of the matrix were.
The last panel may be narrower; lanes past the last column are zeros.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tinygrad_ai.kernels.cpu.planes import Opened, batch_offset
from tinygrad_ai.kernels.cpu.simd import I64, least, looped

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
    return _PackWriter(p).write()


class _PackWriter:
    def __init__(self, p: Packing) -> None:
        self.p = p
        self.kernel = Opened(p.dtype, 2, p.lanes)
        self.build, self.simd = self.kernel.build, self.kernel.simd

    def write(self) -> str:
        p, build, kernel = self.p, self.build, self.kernel
        panels, matrices = kernel.operands
        across = I64(max(1, -(-p.n // p.width)))
        along_k = p.strides[0] == 1 and p.strides[1] != 1
        whole = p.k - p.k % p.lanes if along_k else p.k
        # rows far apart stay in the second cache until the next panel has read its part of a line
        chunk = CHUNK if p.strides[1] == 1 else max(1, whole)
        with looped(build, I64(0), I64(max(1, whole) + chunk - 1), chunk) as start:
            stop = least(build, build.add(start, I64(chunk)), I64(whole))
            with looped(build, kernel.begin, kernel.end, 1) as unit:
                item, panel = build.sdiv(unit, across), build.srem(unit, across)
                first = build.mul(panel, I64(p.width // p.lanes))
                count = least(build, build.sub(I64(p.vectors), first), I64(p.width // p.lanes))
                panel = build.mul(panel, I64(p.width * p.k))
                target = kernel.at(panels, build.add(build.mul(item, I64(p.size)), panel))
                source = kernel.at(matrices, batch_offset(build, item, p.batch, p.steps))
                with looped(build, start, stop, p.lanes if along_k else 1) as k:
                    self._steps(target, source, k, p.lanes if along_k else 1, first, count)
                if whole < p.k:
                    self._steps(target, source, I64(whole), p.k - whole, first, count)
        return kernel.text()

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
        p, build, kernel = self.p, self.build, self.kernel
        row = build.mul(count, I64(p.lanes))
        here = kernel.at(target, build.mul(k, row))
        there = kernel.at(source, build.mul(k, I64(p.strides[0])))
        with looped(build, I64(0), count, 1) as v:
            vector = build.add(first, v)
            onto = kernel.at(here, build.mul(v, I64(p.lanes)))
            from_ = kernel.at(there, build.mul(vector, I64(p.lanes * p.strides[1])))

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

    def _lines(self, source: ir.Value, steps: int, columns: int) -> Sequence[ir.Value]:
        """``steps`` vectors of B; only their first ``columns`` lanes are read, the rest is 0."""
        simd, dtype, lanes, stride = self.simd, self.kernel.dtype, self.p.lanes, self.p.strides[1]
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
