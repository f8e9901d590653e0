"""Pooling: the largest element or the sum of every window, and the gradients of both.

Planes (an image's channels) are the units of work. A vector holds windows side by side: the
elements at one place of the kernel stand ``stride`` apart. Planes with a border are copied once
into scratch memory, so no load asks whether it is inside.

Backward, a window finds the elements that are its maximum again and divides its cotangent by how
many they are: ties share evenly, and NaN counts as largest. Windows that lie side by side without
overlap write their elements at once. Others leave their maximum and their share in scratch memory,
and each element then adds up the shares of the windows around it that it is the maximum of, so
nothing is written twice.

FLOPs: one comparison or addition for each element of each window, two backward where they overlap.
Bytes in float32: forward 4·(S + P) a plane, backward 4·(2·S + P).
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
    def tiled(self) -> bool:
        """Whether every element is in just one window."""
        covered = tuple(n * s for n, s in zip(self.places, self.stride, strict=True)) == self.size
        return self.side_by_side and covered

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

    @property
    def margin(self) -> Pair:
        """How far before the first window those begin that an element looks at."""
        down, across = (
            (k - 1) * d // s
            for k, d, s in zip(self.kernel, self.dilation, self.stride, strict=True)
        )
        return down, across

    @property
    def around(self) -> Pair:
        """Rows and columns of places, with all that elements look at."""
        rows, columns = (
            m + max(places, (n - 1 + b) // s + 1)
            for m, places, n, b, s in zip(
                self.margin, self.places, self.size, self.before, self.stride, strict=True
            )
        )
        return rows, columns

    @property
    def around_bytes(self) -> int:
        """Bytes of one such array."""
        return line_bytes(self.around[0] * self.around[1], self.dtype)

    @property
    def back(self) -> int:
        """Bytes of scratch memory that the gradient needs."""
        if self.tiled:
            return 0
        return self.scratch + self.around_bytes * (1 + self.largest)

    def where(self, kernel: Opened, row: ir.Value, column: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where the window at a place begins in the bordered plane, and its number."""
        build = kernel.build
        above = build.mul(row, I64(self.stride[0] * self.border.columns))
        at = build.add(above, build.mul(column, I64(self.stride[1])))
        return at, build.add(build.mul(row, I64(self.places[1])), column)

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

        def windows(row: ir.Value, j: ir.Value, active: int | None) -> None:
            at, place = p.where(kernel, row, j)
            seen = [_seen(p, kernel, x, at, t, active) for t in taps]
            total = reduce(simd.maximum if p.largest else simd.add, seen)
            simd.store(total, y, place, active)

        _each_place(p, kernel, windows)
    return kernel.text()


def emit_pool_grad(p: Pool, lanes: int | None = None) -> str:
    """``kernel`` on the input's gradient and the cotangent; for a maximum, the input too.

    After them comes scratch, where it is needed: the input with its border, shares and maxima.
    """
    kernel = Opened(p.dtype, 3 if p.largest else 2, lanes or host_lanes(np.dtype(p.dtype)), p.back)
    build, border = kernel.build, p.border
    out, dy, *rest = kernel.operands
    around = _Around(p, kernel)
    if border.needed and p.largest:
        fill(kernel, kernel.scratch, border.rows * border.columns, -np.inf)
    if not p.tiled:
        around.clear()
    with looped(build, kernel.begin, kernel.end, 1) as plane:
        at = build.mul(plane, I64(p.size[0] * p.size[1]))
        result, given = kernel.at(out, at), [kernel.at(x, at) for x in rest]
        shares = kernel.at(dy, build.mul(plane, I64(p.places[0] * p.places[1])))
        seen = [border.load(kernel, x, kernel.scratch, 1) for x in given]
        _windows_back(p, kernel, (shares, *seen), result if p.tiled else around)
        if not p.tiled:
            around.gather(result, given)
    return kernel.text()


def _windows_back(
    p: Pool, kernel: Opened, given: tuple[ir.Value, ...], target: ir.Value | _Around
) -> None:
    """What every window of a plane gives: to its elements at once, or to be gathered by them."""
    build, simd, dtype = kernel.build, kernel.simd, kernel.dtype
    dy, *x = given
    taps = p.taps(p.border)
    none, unit = simd.constant(dtype, 0.0), simd.constant(dtype, 1.0)

    def windows(row: ir.Value, j: ir.Value, active: int | None) -> None:
        at, place = p.where(kernel, row, j)
        share = simd.load(dtype, dy, place, active)
        top: ir.Value | None = None
        ties: dict[int, ir.Value] = {}
        if p.largest:
            seen = {t: _seen(p, kernel, x[0], at, t, active) for line in taps for t in line}
            top = reduce(simd.maximum, seen.values())
            ties = {t: _is_top(simd, e, top) for t, e in seen.items()}
            count = none
            for tie in ties.values():
                count = simd.add(count, simd.where(tie, unit, none))
            share = simd.divide(share, count)
        if isinstance(target, _Around):
            target.put(row, j, share, top, active)
            return
        for line in taps:
            shares = [simd.where(ties[t], share, none) if ties else share for t in line]
            put_interleaved(simd, shares, target, build.add(at, I64(line[0])), active)

    _each_place(p, kernel, windows)


def _is_top(simd: Any, element: ir.Value, top: ir.Value) -> ir.Value:
    return simd.bitwise_or(simd.equal(element, top), simd.not_equal(element, element))


class _Around:
    """What windows leave for their elements: arrays of places with a margin, where shares are 0."""

    def __init__(self, p: Pool, kernel: Opened) -> None:
        self.p, self.kernel = p, kernel
        self.margin = p.margin
        self.columns = p.around[1]
        self.shares = kernel.scratch_at(p.scratch)
        self.tops = kernel.scratch_at(p.scratch + p.around_bytes)

    def clear(self) -> None:
        """Set everything to 0: the margins stay so."""
        area = self.p.around_bytes // self.kernel.dtype.itemsize
        for memory in (self.shares, self.tops)[: 1 + self.p.largest]:
            fill(self.kernel, memory, area, 0.0)

    def _at(self, row: ir.Value, column: ir.Value, shift: Pair) -> ir.Value:
        build = self.kernel.build
        start = (self.margin[0] - shift[0]) * self.columns + self.margin[1] - shift[1]
        return build.add(build.add(build.mul(row, I64(self.columns)), column), I64(start))

    def put(
        self, row: ir.Value, column: ir.Value, share: ir.Value, top: Any, active: int | None
    ) -> None:
        """The shares of windows side by side, and their maxima."""
        at = self._at(row, column, (0, 0))
        self.kernel.simd.store(share, self.shares, at, active)
        if top is not None:
            self.kernel.simd.store(top, self.tops, at, active)

    def gather(self, out: ir.Value, x: list[ir.Value]) -> None:
        """The gradient of a plane: rows, and columns, that are a stride apart have equal taps."""
        build, (height, width), down = self.kernel.build, self.p.size, self.p.stride[0]
        for first in range(min(down, height)):
            with looped(build, I64(0), I64(-(-(height - first) // down)), 1) as t:
                start = build.mul(build.add(build.mul(t, I64(down)), I64(first)), I64(width))

                self._row(out, x, first, t, start)

    def _row(self, out: ir.Value, x: list[ir.Value], first: int, t: ir.Value, start: Any) -> None:
        """The row at ``start``: a stride of columns side by side, and what is left of one."""
        build, simd, across = self.kernel.build, self.kernel.simd, self.p.stride[1]
        whole, rest = divmod(self.p.size[1], across)

        def group(u: Any, n: int | None) -> None:
            values = [self._element(x, (first, c), (t, u), start, n) for c in range(across)]
            put_interleaved(simd, values, out, build.add(start, build.mul(u, I64(across))), n)

        each_vector(build, whole, self.kernel.lanes, group)
        for c in range(rest):
            value = self._element(x, (first, c), (t, I64(whole)), start, 1)
            simd.store(value, out, build.add(start, I64(whole * across + c)), 1)

    def _element(
        self, x: list[ir.Value], first: Pair, steps: tuple[Any, Any], start: Any, n: int | None
    ) -> ir.Value:
        """Gradients at columns ``first[1] + steps[1]·stride`` and on, of the row at ``start``."""
        p, build, simd, dtype = self.p, self.kernel.build, self.kernel.simd, self.kernel.dtype
        ends = [f + b for f, b in zip(first, p.before, strict=True)]
        shifts = [
            [k * d // s - e // s for k in range(size) if k * d % s == e % s]
            for size, d, s, e in zip(p.kernel, p.dilation, p.stride, ends, strict=True)
        ]
        total = none = simd.constant(dtype, 0.0)
        element = None
        if x:
            at = build.add(build.mul(steps[1], I64(p.stride[1])), I64(first[1]))
            element = spaced(simd, dtype, x[0], build.add(start, at), p.stride[1], n)
        for i in shifts[0]:
            for j in shifts[1]:
                at = self._at(*steps, (i, j))
                share = simd.load(dtype, self.shares, at, n)
                if element is not None:
                    tie = _is_top(simd, element, simd.load(dtype, self.tops, at, n))
                    share = simd.where(tie, share, none)
                total = simd.add(total, share)
        return total


def _seen(p: Pool, kernel: Opened, x: Any, at: Any, tap: int, active: int | None) -> ir.Value:
    """The elements at one place of the kernel."""
    first = kernel.build.add(at, I64(tap))
    return spaced(kernel.simd, kernel.dtype, x, first, p.stride[1], active)


def _each_place(p: Pool, kernel: Opened, body: Any) -> None:
    """``body(row, column, active)`` for vectors of windows side by side."""
    with looped(kernel.build, I64(0), I64(p.places[0]), 1) as row:
        each_vector(kernel.build, p.places[1], kernel.lanes, lambda j, n: body(row, j, n))
