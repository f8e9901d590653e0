"""Copies between arrays with any strides: parts of a concatenation, arrays laid out anew.

Axes over which both arrays run on evenly are joined, so that most copies are a few long rows. Rows
are copied as vectors; where one side steps, it is gathered or scattered.

FLOPs: 0. Bytes: each element read once and written once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_ai.kernels.cpu.planes import (
    Opened,
    batch_offset,
    each_unit,
    each_vector,
    put_spaced,
    spaced,
)
from tinygrad_ai.kernels.cpu.simd import I64, host_lanes, looped

BLOCK = 4096  # elements that are zeroed as one unit

Ints = tuple[int, ...]


def joined(shape: Sequence[int], *strides: Sequence[int]) -> tuple[Ints, tuple[Ints, ...]]:
    """The same elements in the same order over as few axes as strides allow, at least one."""
    axes: list[tuple[int, Ints]] = []
    for n, *steps in zip(shape, *strides, strict=True):
        if n == 1:
            continue
        if axes and all(a == b * n for a, b in zip(axes[-1][1], steps, strict=True)):
            axes[-1] = axes[-1][0] * n, tuple(steps)
        else:
            axes.append((n, tuple(steps)))
    axes = axes or [(1, (1,) * len(strides))]
    return tuple(n for n, _ in axes), tuple(zip(*(s for _, s in axes), strict=True))


def copy_units(shape: Sequence[int], *strides: Sequence[int]) -> int:
    """Units of work of ``emit_copy``: rows."""
    return math.prod(joined(shape, *strides)[0][:-1])


def zeros_units(size: int) -> int:
    """Units of work of ``emit_zeros``: blocks of elements."""
    return -(-size // BLOCK)


def emit_zeros(size: int, dtype: Any, lanes: int | None = None) -> str:
    """``kernel`` on an array of ``size`` elements that become 0."""
    dtype = np.dtype(dtype)
    lanes = lanes or min(host_lanes(dtype), host_lanes(np.float32))
    kernel = Opened(dtype, 1, lanes)
    build, simd, (target,) = kernel.build, kernel.simd, kernel.operands
    none = simd.constant(dtype, 0)

    def block(number: Any, count: int) -> None:
        first = build.mul(number, I64(BLOCK))
        each_vector(
            build, count, lanes, lambda j, n: simd.store(none, target, build.add(first, j), n)
        )

    each_unit(build, kernel.begin, kernel.end, (size, BLOCK), block)
    return kernel.text()


def emit_copy(
    shape: Sequence[int],
    target: Sequence[int],
    source: Sequence[int],
    dtype: Any,
    lanes: int | None = None,
) -> str:
    """``kernel`` on target and source, arrays of ``shape`` with these strides (in elements)."""
    dtype = np.dtype(dtype)
    lanes = lanes or min(host_lanes(dtype), host_lanes(np.float32))
    kernel = Opened(dtype, 2, lanes)
    build, simd = kernel.build, kernel.simd
    (*outer, columns), (to_steps, from_steps) = joined(shape, target, source)
    with looped(build, kernel.begin, kernel.end, 1) as row:
        to, at = (batch_offset(build, row, outer, s[:-1]) for s in (to_steps, from_steps))

        def move(j: Any, active: int | None, to: Any = to, at: Any = at) -> None:
            first = build.add(at, build.mul(j, I64(from_steps[-1])))
            value = spaced(simd, dtype, kernel.operands[1], first, from_steps[-1], active)
            place = build.add(to, build.mul(j, I64(to_steps[-1])))
            put_spaced(simd, value, kernel.operands[0], place, to_steps[-1], active)

        each_vector(build, columns, lanes, move)
    return kernel.text()
