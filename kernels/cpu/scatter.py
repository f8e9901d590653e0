"""Rows added to a table at indices: the gradient of an embedding.

The table is zeroed, then the rows are added one after another in the order of the indices, a vector
of columns at a time. Units of work are vectors of columns: two threads never add to the same
element, and each element's sum has the order of the indices however the work is split.

A negative index counts from the end. What an index outside the table would add is left out; the
forward rule, which reads with the same indices, has given NaN for it (eager mode raises there).

FLOPs: one addition for each element of the rows. Bytes: the table once, each row once, and for each
of them a row of the table read and written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.kernels.cpu.planes import Opened, each_unit
from tinygrad_ai.kernels.cpu.simd import I64, Simd, host_lanes, looped


@dataclass(frozen=True)
class Scatter:
    """``rows`` rows of ``width`` elements, added to a table of ``size`` rows; all contiguous."""

    rows: int
    width: int
    size: int
    index: str = "int64"
    dtype: str = "float32"


def scatter_units(s: Scatter, lanes: int | None = None) -> int:
    """Units of work: vectors of columns."""
    return -(-s.width // (lanes or host_lanes(np.dtype(s.dtype))))


def emit_scatter(s: Scatter, lanes: int | None = None) -> str:
    """``kernel`` on the table, the rows and the indices."""
    dtype = np.dtype(s.dtype)
    lanes = lanes or host_lanes(dtype)
    kernel = Opened(dtype, 3, lanes)
    build, simd, one = kernel.build, kernel.simd, Simd(kernel.build, 1)
    table, rows, indices = kernel.operands
    none = simd.constant(dtype, 0.0)

    def each_column(body: Any) -> None:
        """``body(column, active)`` for the vectors of this call."""

        def vector(unit: Any, n: int) -> None:
            body(build.mul(unit, I64(lanes)), None if n == lanes else n)

        each_unit(build, kernel.begin, kernel.end, (s.width, lanes), vector)

    with looped(build, I64(0), I64(s.size), 1) as row:
        start = build.mul(row, I64(s.width))
        each_column(lambda j, n: simd.store(none, table, build.add(start, j), n))
    with looped(build, I64(0), I64(s.rows), 1) as row:
        loaded = one.cast(one.load(np.dtype(s.index), indices, row), np.int64)
        given = build.extract_element(loaded, I64(0))
        negative = build.icmp_signed("<", given, I64(0))
        place = build.select(negative, build.add(given, I64(s.size)), given)
        with build.if_then(build.icmp_unsigned("<", place, I64(s.size))):
            source, target = (build.mul(k, I64(s.width)) for k in (row, place))

            def add(j: Any, n: int | None) -> None:
                value = simd.load(dtype, rows, build.add(source, j), n)
                old = simd.load(dtype, table, build.add(target, j), n)
                simd.store(simd.add(old, value), table, build.add(target, j), n)

            each_column(add)
    return kernel.text()
