"""Pooling: the largest element or the sum of every window, and the gradients of both.

Planes (an image's channels) are the units of work. A vector holds windows side by side: the
elements at one place of the kernel stand ``stride`` apart. Planes with a border are copied once
into scratch memory, so no load asks whether it is inside.

Backward, a window finds the elements that are its maximum again and divides its cotangent by how
many they are: ties share evenly, and NaN counts as largest. Windows that lie side by side without
overlap write their elements at once; others add to what stands there, window by window in order.

FLOPs: one comparison or addition for each element of each window. Bytes in float32: forward 4·(S +
P) a plane, backward 4·(2·S + P).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.planes import (
    Bordered,
    Opened,
    Pair,
    add_spaced,
    copy_planes,
    each_vector,
    fill,
    line_bytes,
    put_interleaved,
    spaced,
)
from tinygrad_ai.kernels.cpu.simd import I64, host_lanes, looped


@dataclass(frozen=True)
class Pool:
    """``planes`` of ``size`` and the ``places`` of windows; ``before`` is the border's beginning.

    ``largest`` says whether a window gives its maximum (of a border of -inf) or its sum.
    """

    planes: int
    size: Pair
    places: Pair
    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair
    largest: bool
    dtype: str = "float32"

    @property
    def side_by_side(self) -> bool:
        """Whether windows neither overlap nor leave gaps, and need no border."""
        return self.kernel == self.stride and self.dilation == (1, 1) and not self.border.needed

    @property
    def border(self) -> Bordered:
        """The plane that windows read from."""
        windows = self.places, self.kernel, self.stride, self.dilation, self.before
        return Bordered.of_windows(self.size, *windows)

    @property
    def scratch(self) -> int:
        """Bytes of one plane with its border, 0 where there is none."""
        area = self.border.rows * self.border.columns
        return line_bytes(area, self.dtype) if self.border.needed else 0

    def taps(self, border: Bordered) -> list[list[int]]:
        """The offsets of a kernel's places from where its window begins, row by row."""
        down, across = self.dilation
        return [
            [i * down * border.columns + j * across for j in range(self.kernel[1])]
            for i in range(self.kernel[0])
        ]


def emit_pool(p: Pool, lanes: int | None = None) -> str:
    """``kernel`` on the result, the input and scratch; units are planes."""
    kernel = Opened(p.dtype, 2, lanes or host_lanes(np.dtype(p.dtype)), p.scratch)
    build, simd = kernel.build, kernel.simd
    (out, source), scratch = kernel.operands, kernel.scratch
    border = p.border
    taps = [t for line in p.taps(border) for t in line]
    if border.needed:
        area = border.rows * border.columns
        fill(kernel, scratch, area, -np.inf if p.largest else 0.0)
    with looped(build, kernel.begin, kernel.end, 1) as plane:
        x = kernel.at(source, build.mul(plane, I64(p.size[0] * p.size[1])))
        x = border.load(kernel, x, scratch, 1)
        y = kernel.at(out, build.mul(plane, I64(p.places[0] * p.places[1])))

        def windows(at: ir.Value, place: ir.Value, active: int | None) -> None:
            seen = [_seen(p, kernel, x, at, t, active) for t in taps]
            total = reduce(simd.maximum if p.largest else simd.add, seen)
            simd.store(total, y, place, active)

        _each_place(p, kernel, border, windows)
    return kernel.text()


def emit_pool_grad(p: Pool, lanes: int | None = None) -> str:
    """``kernel`` on the input's gradient and the cotangent; for a maximum, the input too.

    After them comes scratch: the input with its border, and its gradient.
    """
    given = 3 if p.largest else 2
    lanes = lanes or host_lanes(np.dtype(p.dtype))
    kernel = Opened(p.dtype, given, lanes, 2 * p.scratch)
    build, border = kernel.build, p.border
    out, dy, *rest = kernel.operands
    scratch = kernel.scratch
    inner, area = p.size[0] * p.size[1], border.rows * border.columns
    sums = kernel.scratch_at(p.scratch)
    if border.needed:
        fill(kernel, scratch, area, -np.inf)
    with looped(build, kernel.begin, kernel.end, 1) as plane:
        begin = build.mul(plane, I64(p.places[0] * p.places[1]))
        result = kernel.at(out, build.mul(plane, I64(inner)))
        target = sums if border.needed else result
        x = None
        if p.largest:
            x = kernel.at(rest[0], build.mul(plane, I64(inner)))
            x = border.load(kernel, x, scratch, 1)
        covered = tuple(n * s for n, s in zip(p.places, p.stride, strict=True)) == p.size
        if not (p.side_by_side and covered):
            fill(kernel, target, area, 0.0)
        _windows_back(p, kernel, border, (target, kernel.at(dy, begin), x))
        if border.needed:
            origin = kernel.at(target, border.offset(0, 0))
            copy_planes(kernel, (origin, 0, border.columns), (result, 0, p.size[1]), (1, *p.size))
    return kernel.text()


def _windows_back(p: Pool, kernel: Opened, border: Bordered, given: tuple[Any, ...]) -> None:
    """The shares of all windows of a plane, written or added to the target."""
    build, simd, dtype = kernel.build, kernel.simd, kernel.dtype
    target, dy, x = given
    taps = p.taps(border)
    step = p.stride[1]
    none, unit = simd.constant(dtype, 0.0), simd.constant(dtype, 1.0)

    def windows(at: ir.Value, place: ir.Value, active: int | None) -> None:
        g = simd.load(dtype, dy, place, active)
        shares = {t: g for line in taps for t in line}
        if p.largest:
            seen = {t: _seen(p, kernel, x, at, t, active) for t in shares}
            top = reduce(simd.maximum, seen.values())
            ties = {
                t: simd.bitwise_or(simd.equal(e, top), simd.not_equal(e, e))
                for t, e in seen.items()
            }
            count = none
            for tie in ties.values():
                count = simd.add(count, simd.where(tie, unit, none))
            share = simd.divide(g, count)
            shares = {t: simd.where(tie, share, none) for t, tie in ties.items()}
        for line in taps:
            if p.side_by_side:
                put_interleaved(
                    simd, [shares[t] for t in line], target, build.add(at, I64(line[0])), active
                )
                continue
            for t in line:
                here = build.add(at, I64(t))
                add_spaced(simd, shares[t], target, here, step, active)

    _each_place(p, kernel, border, windows)


def _seen(p: Pool, kernel: Opened, x: Any, at: Any, tap: int, active: int | None) -> ir.Value:
    """The elements at one place of the kernel."""
    first = kernel.build.add(at, I64(tap))
    return spaced(kernel.simd, kernel.dtype, x, first, p.stride[1], active)


def _each_place(p: Pool, kernel: Opened, border: Bordered, body: Any) -> None:
    """``body(at, place, active)``: where vectors of windows begin, and the windows' place."""
    build = kernel.build
    with looped(build, I64(0), I64(p.places[0]), 1) as row:
        above = build.mul(row, I64(p.stride[0] * border.columns))
        before = build.mul(row, I64(p.places[1]))

        def vector(j: Any, active: int | None) -> None:
            at = build.add(above, build.mul(j, I64(p.stride[1])))
            body(at, build.add(before, j), active)

        each_vector(build, p.places[1], kernel.lanes, vector)
