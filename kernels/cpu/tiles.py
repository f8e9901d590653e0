"""The innermost work of a convolution: a tile of sums of products that stays in registers.

At each step a few vectors of one operand meet as many broadcast elements of the other; each pair is
one fused multiply-add. Broadcasts come from any fixed offsets, so the windows of an image can be
read where they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from tinygrad_ai.kernels.cpu.planes import Opened, i64, pieces
from tinygrad_ai.kernels.cpu.simd import I64, POINTER, Simd, looped

UNROLL = 4  # steps in one pass through the inner loop


@dataclass(frozen=True)
class Rows:
    """What is broadcast: at each step elements at ``offsets``, the next step ``a_step`` further on.

    The vectors of the other operand are ``b_step`` apart. ``lines`` such runs follow each other,
    ``a_line`` and ``b_line`` apart.
    """

    offsets: tuple[int, ...]
    a_step: int
    b_step: int
    lines: int = 1
    a_line: int = 0
    b_line: int = 0


class Products:
    """Functions ``tile(C, A, B)``: C[r, v] = (C[r, v] or 0) + Σ A[r, step]·B[step, v]."""

    def __init__(self, kernel: Opened, lanes: int) -> None:
        self.kernel, self.lanes = kernel, lanes
        self.known: dict[Any, ir.Function] = {}

    def call(
        self, c: Any, a: Any, b: Any, rows: Rows, width: int, apart: int, steps: int,
        onto: bool = False,
    ) -> None:  # fmt: skip
        """Call the tile of ``width`` columns whose rows of C are ``apart``."""
        key = rows, width, apart, steps, onto
        if key not in self.known:
            self.known[key] = self._tile(*key)
        self.kernel.build.call(self.known[key], [c, a, b])

    def _tile(self, rows: Rows, width: int, apart: int, steps: int, onto: bool) -> ir.Function:
        dtype = self.kernel.dtype
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * 3)
        function = ir.Function(self.kernel.module, kind, f"tile{len(self.known)}")
        function.linkage = "internal"
        function.attributes.add("noinline")
        build = ir.IRBuilder(function.append_basic_block("entry"))
        simd, one = Simd(build, self.lanes), Simd(build, 1)
        c, a, b = function.args
        cells: dict[tuple[int, int], Any] = {}
        none = simd.constant(dtype, 0.0)
        line = pieces(width, self.lanes)
        for r in range(len(rows.offsets)):
            for v, active in line:
                cell = cells[r, v] = build.alloca(none.type)
                start = simd.load(dtype, c, I64(r * apart + v), active) if onto else none
                build.store(start, cell)

        def step(number: Any, a: ir.Value, b: ir.Value) -> None:
            here_a = self.kernel.at(a, build.mul(i64(number), I64(rows.a_step)), build)
            here_b = build.mul(i64(number), I64(rows.b_step))
            loads = [simd.load(dtype, b, build.add(here_b, I64(v))) for v, _ in line]
            for r, offset in enumerate(rows.offsets):
                element = one.load(dtype, here_a, I64(offset))
                wide = simd.splat(build.extract_element(element, ir.IntType(32)(0)))
                for (v, _), value in zip(line, loads, strict=True):
                    total = build.load(cells[r, v], typ=none.type)
                    build.store(simd.fma(wide, value, total), cells[r, v])

        whole = steps - steps % UNROLL
        with looped(build, I64(0), I64(rows.lines), 1) as number:
            start_a = self.kernel.at(a, build.mul(number, I64(rows.a_line)), build)
            start_b = self.kernel.at(b, build.mul(number, I64(rows.b_line)), build)
            if whole:
                with looped(build, I64(0), I64(whole), UNROLL) as k:
                    for u in range(UNROLL):
                        step(build.add(k, I64(u)), start_a, start_b)
            for k in range(whole, steps):
                step(k, start_a, start_b)
        for (r, v), cell in cells.items():
            active = dict(line)[v]
            value = build.load(cell, typ=none.type)
            simd.store(value, c, I64(r * apart + v), active)
        build.ret_void()
        return function
