"""Running sums and products along an axis.

Units of work are vectors of columns that lie side by side (single elements where the axis is the
last one); each runs down its axis in order, so every split of the units gives the same bits.

FLOPs: one operation for each element. Bytes: each element read and written once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.kernels.cpu.planes import Opened, each_unit
from tinygrad_ai.kernels.cpu.simd import I64, host_lanes, looped


@dataclass(frozen=True)
class Scan:
    """(batch, steps, width), contiguous: along the steps, the sums or the products so far."""

    batch: int
    steps: int
    width: int
    product: bool
    dtype: str = "float32"


def _lanes(s: Scan, lanes: int | None) -> int:
    """A vector's lanes: no more than are side by side, a power of 2."""
    most = lanes or host_lanes(np.dtype(s.dtype))
    return min(most, 1 << (s.width.bit_length() - 1))


def scan_units(s: Scan, lanes: int | None = None) -> int:
    """Units of work: vectors of columns, of each of the batch."""
    return s.batch * -(-s.width // _lanes(s, lanes))


def emit_scan(s: Scan, lanes: int | None = None) -> str:
    """``kernel`` on the result and the input."""
    lanes = _lanes(s, lanes)
    kernel = Opened(s.dtype, 2, lanes)
    build, simd, (out, source) = kernel.build, kernel.simd, kernel.operands
    across = -(-s.width // lanes)
    combine = simd.multiply if s.product else simd.add
    first = simd.constant(kernel.dtype, 1.0 if s.product else -0.0)  # 0 + -0 would be 0
    with build.goto_entry_block():
        cell = build.alloca(first.type)

    with looped(build, kernel.begin, kernel.end, 1) as unit:
        item = build.sdiv(unit, I64(across))
        origin = build.mul(item, I64(s.steps * s.width))
        column = build.srem(unit, I64(across))

        def run(number: Any, active: int) -> None:
            at = build.add(origin, build.mul(number, I64(lanes)))
            n = None if active == lanes else active
            build.store(first, cell)
            with looped(build, I64(0), I64(s.steps), 1) as k:
                here = build.add(at, build.mul(k, I64(s.width)))
                value = simd.load(kernel.dtype, source, here, n)
                total = combine(build.load(cell, typ=first.type), value)
                build.store(total, cell)
                simd.store(total, out, here, n)

        each_unit(build, column, build.add(column, I64(1)), (s.width, lanes), run)
    return kernel.text()
