"""CPU code for a reduction along the leading axes: sums over the rows, a vector of columns at once.

Several accumulators hide the latency of an addition: columns side by side, or where there are few,
rows that lie apart. Which it is depends on the shape alone, so the order of summation does too.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tinygrad_ai.backend.scalar import Expr, xp
from tinygrad_ai.jit.lower import identity_of
from tinygrad_ai.jit.lower_cpu import Evaluator, combined
from tinygrad_ai.kernels.cpu.simd import (
    I64,
    KERNEL,
    Simd,
    element_type,
    host_lanes,
    looped,
    operands_of,
)
from tinygrad_ai.ops.lowering import Fold

CHAINS = 4


def emit_columns(
    fold: Fold, shape: tuple[int, ...], strides: tuple[int, ...], dtypes: tuple[Any, Any]
) -> str:
    """``out[b, j] = fold over i of in[b·strides[0] + i·strides[1] + j]``; operands are out, in.

    ``shape`` is (batch, rows, columns). Units of work are those of the batch; where there is only
    one, columns: multiples of the vector's lanes but for the last.
    """
    (batch, rows, columns), row_stride = shape, strides[1]
    module = ir.Module("columns")
    function = ir.Function(module, KERNEL, "kernel")
    table, begin, end, _ = function.args
    build = ir.IRBuilder(function.append_basic_block("entry"))
    out_dtype, in_dtype = dtypes
    lanes = host_lanes(out_dtype)
    simd = Simd(build, lanes)
    out, source = operands_of(build, table, 2)
    none = simd.constant(out_dtype, identity_of(fold, out_dtype))

    def block(
        out: ir.Value, source: ir.Value, first: ir.Value, vectors: int, active: int | None
    ) -> None:
        """``vectors`` of columns from ``first`` on, over all rows."""
        apart = CHAINS // vectors
        cells = []
        for _ in range(apart * vectors):
            with build.goto_entry_block():
                cells.append(build.alloca(none.type))
            build.store(none, cells[-1])

        def add(row: ir.Value, chain: int) -> None:
            start = build.mul(row, I64(row_stride))
            for n in range(vectors):
                at = build.add(build.add(start, first), I64(n * lanes))
                value = simd.cast(simd.load(in_dtype, source, at, active), out_dtype)
                cell = cells[chain * vectors + n]
                total = build.load(cell, typ=none.type)
                build.store(combined(fold, simd, total, value, out_dtype), cell)

        whole = rows - rows % apart
        with looped(build, I64(0), I64(whole), apart) as row:
            for chain in range(apart):
                add(build.add(row, I64(chain)), chain)
        for row in range(whole, rows):
            add(I64(row), row - whole)
        for n in range(vectors):
            totals = [build.load(cells[c * vectors + n], typ=none.type) for c in range(apart)]
            total = totals[0]
            for other in totals[1:]:
                total = combined(fold, simd, total, other, out_dtype)
            if fold.finish is not None:
                acc = Expr("symbol", (), out_dtype, "acc")
                result = fold.finish(xp, acc, rows).astype(out_dtype)
                (total,) = Evaluator(simd, {acc: total})(result)
            simd.store(total, out, build.add(first, I64(n * lanes)), active)

    def item(out: ir.Value, source: ir.Value, begin: ir.Value, end: ir.Value) -> None:
        """The columns from ``begin`` to ``end``."""
        whole = columns - columns % lanes
        stop = build.select(build.icmp_signed("<", end, I64(whole)), end, I64(whole))
        wide = CHAINS * lanes
        with looped(build, begin, stop, wide) as first:
            block(out, source, first, CHAINS, None)
        short = build.and_(build.sub(stop, begin), I64(wide - 1))
        with looped(build, build.sub(stop, short), stop, lanes) as first:
            block(out, source, first, 1, None)
        if whole < columns:
            with build.if_then(build.icmp_signed("==", end, I64(columns))):
                block(out, source, I64(whole), 1, columns - whole)

    if batch == 1:
        item(out, source, begin, end)
    else:
        to, of = element_type(out_dtype), element_type(in_dtype)
        with looped(build, begin, end, 1) as b:
            here = build.gep(out, [build.mul(b, I64(columns))], source_etype=to)
            there = build.gep(source, [build.mul(b, I64(strides[0]))], source_etype=of)
            item(here, there, I64(0), I64(columns))
    build.ret_void()
    return str(module)
