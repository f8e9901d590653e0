"""The gradient of a convolution's weights: result[k, o] = Σ window[k, p]·dy[o, p] over all images.

Vectors lie along the outputs o: the elements of dy are transposed image by image, and windows are
read as broadcasts from planes with a border, where a tap is nothing but an offset. So no window is
ever copied. Images are divided into *slices*, whose number depends on the shapes alone; each has a
sum of its own, and a last kernel adds the slices up in order. So every split of the work among
threads gives the same bits.

With so few outputs a group that most lanes would idle (depthwise convolutions have one), vectors
lie along the places instead: each sum is a vector, whose lanes the last kernel adds up too.

FLOPs: 2·N·O·(C/groups)·taps·P. Bytes in float32 when everything is read once: 4·(N·C·S + N·O·P +
slices·O·C/groups·taps).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_ai.kernels.cpu.conv import Geometry
from tinygrad_ai.kernels.cpu.pack import transposed
from tinygrad_ai.kernels.cpu.planes import (
    Bordered,
    Opened,
    blocks_of,
    each_vector,
    fill,
    line_bytes,
    put_spaced,
    spaced,
)
from tinygrad_ai.kernels.cpu.plans import host
from tinygrad_ai.kernels.cpu.simd import I64, Simd, host_lanes, looped
from tinygrad_ai.kernels.cpu.tiles import Products, Rows

SLICES = 16  # sums, so also the most threads that share one gradient
PARTIAL = 1 << 23  # bytes of all of them at most, but for the first
FEW = 4  # so many times fewer outputs a group than lanes: along the places


@dataclass(frozen=True)
class WeightGrad:
    """x (images, channels, *size), dy (images, outputs·groups, *places), a kernel of taps."""

    images: int
    inputs: int  #: channels a group
    outputs: int  #: outputs a group
    size: tuple[int, int]
    places: tuple[int, int]
    kernel: tuple[int, int]
    geometry: Geometry
    dtype: str = "float32"

    @property
    def depth(self) -> int:
        """Rows of the result: channels and taps."""
        return self.inputs * self.kernel[0] * self.kernel[1]

    @property
    def slices(self) -> int:
        """How many sums there are."""
        size = 2 * self.geometry.groups * self.depth * self.outputs * 8
        return max(1, min(SLICES, self.images, PARTIAL // size))


def weight_grad(
    x: Sequence[int], dy: Sequence[int], kernel: tuple[int, int], g: Geometry, dtype: str
) -> WeightGrad:
    """The gradient of weights (O, C / groups, *kernel) for x (N, C, H, W), dy (N, O, P, Q)."""
    (n, channels, h, w), (_, out, p, q) = x, dy
    sizes = n, channels // g.groups, out // g.groups
    return WeightGrad(*sizes, (h, w), (p, q), kernel, g, dtype)


def partial_size(w: WeightGrad, lanes: int | None = None) -> int:
    """Elements of one slice's sum."""
    return w.geometry.groups * w.depth * _padded(w, lanes or host_lanes(np.dtype(w.dtype)))


def _along_places(w: WeightGrad, lanes: int) -> bool:
    return w.outputs * FEW <= lanes


def _padded(w: WeightGrad, lanes: int) -> int:
    """Elements for the outputs of one channel and tap."""
    return w.outputs * lanes if _along_places(w, lanes) else -(-w.outputs // lanes) * lanes


def _border(w: WeightGrad) -> Bordered:
    g = w.geometry
    before = g.padding[0][0], g.padding[1][0]
    return Bordered.of_windows(w.size, w.places, w.kernel, g.stride, g.dilation, before)


def partial_scratch(w: WeightGrad, lanes: int | None = None) -> int:
    """Bytes of scratch memory that ``emit_partials``'s kernel needs for each thread."""
    return sum(_scratch(w, lanes or host_lanes(np.dtype(w.dtype))))


def _scratch(w: WeightGrad, lanes: int) -> tuple[int, int]:
    border = _border(w)
    planes = w.geometry.groups * w.inputs * border.rows * border.columns if border.needed else 0
    turned = 0 if _along_places(w, lanes) else _padded(w, lanes)
    columns = w.places[0] * w.places[1] * turned
    return line_bytes(planes, w.dtype), line_bytes(columns, w.dtype)


def emit_partials(w: WeightGrad, lanes: int | None = None) -> str:
    """``kernel`` on the slices' sums, x, dy and scratch; units are slices."""
    lanes = lanes or host_lanes(np.dtype(w.dtype))
    border, groups = _border(w), w.geometry.groups
    parts = _scratch(w, lanes)
    kernel = Opened(w.dtype, 3, lanes, sum(parts))
    build = kernel.build
    (out, x, dy), planes = kernel.operands, kernel.scratch
    turned = kernel.scratch_at(parts[0])
    products = Products(kernel, lanes)
    channels, area = groups * w.inputs, border.rows * border.columns
    places, padded = w.places[0] * w.places[1], _padded(w, lanes)
    if border.needed:
        fill(kernel, planes, channels * area, 0.0)
    with looped(build, kernel.begin, kernel.end, 1) as number:
        sums = kernel.at(out, build.mul(number, I64(partial_size(w, lanes))))
        fill(kernel, sums, partial_size(w, lanes), 0.0)
        first, last = (
            build.sdiv(build.mul(n, I64(w.images)), I64(w.slices))
            for n in (number, build.add(number, I64(1)))
        )
        with looped(build, first, last, 1) as image:
            source = kernel.at(x, build.mul(image, I64(channels * w.size[0] * w.size[1])))
            source = border.load(kernel, source, planes, channels)
            cotangents = kernel.at(dy, build.mul(image, I64(groups * w.outputs * places)))
            with looped(build, I64(0), I64(groups), 1) as group:
                rows = kernel.at(cotangents, build.mul(group, I64(w.outputs * places)))
                windows = kernel.at(source, build.mul(group, I64(w.inputs * area)))
                target = kernel.at(sums, build.mul(group, I64(w.depth * padded)))
                if _along_places(w, lanes):
                    _add_along(w, border, kernel, (target, windows, rows))
                else:
                    _turn(kernel, rows, turned, w.outputs, places, padded)
                    _add_image(w, border, products, target, windows, turned)
    return kernel.text()


def _taps(w: WeightGrad, border: Bordered) -> list[int]:
    """Where the kernel's places stand, from where its window begins."""
    g = w.geometry
    return [
        border.offset(i * g.dilation[0] - g.padding[0][0], j * g.dilation[1] - g.padding[1][0])
        for i in range(w.kernel[0])
        for j in range(w.kernel[1])
    ]


def _add_along(
    w: WeightGrad, border: Bordered, kernel: Opened, memory: tuple[Any, Any, Any]
) -> None:
    """``target`` (channel, tap, o) += window·dy of one image and group, each a vector of sums."""
    build, simd, (target, windows, rows) = kernel.build, kernel.simd, memory
    taps, (down, across) = _taps(w, border), w.geometry.stride
    area, places = border.rows * border.columns, w.places[0] * w.places[1]
    most = host().registers - 6  # sums at a time
    with (
        looped(build, I64(0), I64(w.inputs), 1) as channel,
        looped(build, I64(0), I64(w.outputs), 1) as o,
    ):
        plane = kernel.at(windows, build.mul(channel, I64(area)))
        dy = kernel.at(rows, build.mul(o, I64(places)))
        first = build.add(build.mul(channel, I64(len(taps) * w.outputs)), o)
        for some in (taps[k : k + most] for k in range(0, len(taps), most)):
            start = build.add(first, I64(taps.index(some[0]) * w.outputs))
            cells = []
            for n in range(len(some)):
                at = build.mul(build.add(start, I64(n * w.outputs)), I64(kernel.lanes))
                old = simd.load(kernel.dtype, target, at)
                with build.goto_entry_block():
                    cells.append((build.alloca(old.type), at))
                build.store(old, cells[-1][0])

            def row_of(row: Any, some: Any = some, cells: Any = cells) -> None:
                above, before = (
                    build.mul(row, I64(n)) for n in (down * border.columns, w.places[1])
                )

                def vector(j: Any, n: int | None) -> None:
                    g = simd.load(kernel.dtype, dy, build.add(before, j), n)
                    here = build.add(above, build.mul(j, I64(across)))
                    for tap, (cell, _) in zip(some, cells, strict=True):
                        x = spaced(simd, kernel.dtype, plane, build.add(here, I64(tap)), across, n)
                        build.store(simd.fma(x, g, build.load(cell, typ=g.type)), cell)

                each_vector(build, w.places[1], kernel.lanes, vector)

            with looped(build, I64(0), I64(w.places[0]), 1) as row:
                row_of(row)
            for cell, at in cells:
                simd.store(build.load(cell, typ=simd.constant(kernel.dtype, 0).type), target, at)


def _add_image(
    w: WeightGrad, border: Bordered, products: Products, target: Any, windows: Any, turned: Any
) -> None:
    """``target`` (k, o) += windows·dy of one image and group, tile by tile."""
    kernel = products.kernel
    build, lanes, g = kernel.build, products.lanes, w.geometry
    padded, area = _padded(w, lanes), border.rows * border.columns
    taps = _taps(w, border)
    width = min(2 * lanes, padded)
    most = (host().registers - 1) * lanes // width - 1
    together = max(1, min(w.inputs, most // len(taps)))  # channels in one tile
    parts = -(-len(taps) // most)
    sizes = -(-len(taps) // parts)

    def channels(first: Any, count: int) -> None:
        a = kernel.at(windows, build.mul(first, I64(area)))
        for start in range(0, len(taps), sizes):
            some = taps[start : start + sizes]
            offsets = tuple(c * area + t for c in range(count) for t in some)
            rows = Rows(
                offsets, g.stride[1], padded, w.places[0], g.stride[0] * border.columns,
                w.places[1] * padded,
            )  # fmt: skip
            k = build.add(build.mul(first, I64(len(taps))), I64(start))
            c = kernel.at(target, build.mul(k, I64(padded)))

            def columns(o: Any, count: int, rows: Rows = rows, c: Any = c) -> None:
                to, b = kernel.at(c, o), kernel.at(turned, o)
                products.call(to, a, b, rows, count, padded, w.places[1], onto=True)

            blocks_of(build, padded, width, columns)

    blocks_of(build, w.inputs, together, channels)


def _turn(kernel: Opened, source: Any, target: Any, rows: int, columns: int, padded: int) -> None:
    """``target`` (columns, padded) = ``source`` (rows, columns) transposed, zeros beside it."""
    build, simd, lanes = kernel.build, kernel.simd, kernel.lanes
    none = simd.constant(kernel.dtype, 0)

    def square(first: Any, height: int, column: Any, width: int) -> None:
        lines = []
        for r in range(lanes):
            at = build.add(build.mul(build.add(first, I64(r)), I64(columns)), column)
            active = None if width == lanes else width
            lines.append(simd.load(kernel.dtype, source, at, active) if r < height else none)
        for n, line in enumerate(transposed(build, lines)[:width]):
            place = build.mul(build.add(column, I64(n)), I64(padded))
            simd.store(line, target, build.add(place, first))

    blocks_of(
        build,
        rows,
        lanes,
        lambda first, height: blocks_of(
            build, columns, lanes, lambda column, width: square(first, height, column, width)
        ),
    )


def sum_units(w: WeightGrad) -> int:
    """Units of work of ``emit_sum``: rows k of every group."""
    return w.geometry.groups * w.depth


def emit_sum(w: WeightGrad, lanes: int | None = None) -> str:
    """``kernel`` on the weights' gradient and the slices' sums, which it adds up in order."""
    lanes = lanes or host_lanes(np.dtype(w.dtype))
    kernel = Opened(w.dtype, 2, lanes)
    build, simd, (out, sums) = kernel.build, kernel.simd, kernel.operands
    one = Simd(build, 1)
    padded, size = _padded(w, lanes), partial_size(w, lanes)
    with looped(build, kernel.begin, kernel.end, 1) as unit:
        group, k = build.sdiv(unit, I64(w.depth)), build.srem(unit, I64(w.depth))
        target = kernel.at(out, build.add(build.mul(group, I64(w.outputs * w.depth)), k))
        along = _along_places(w, lanes)
        for o in range(0, w.outputs, 1 if along else lanes):
            at = build.add(build.mul(unit, I64(padded)), I64(o * lanes if along else o))
            total = simd.load(kernel.dtype, sums, at)
            for s in range(1, w.slices):
                other = simd.load(kernel.dtype, sums, build.add(at, I64(s * size)))
                total = simd.add(total, other)
            if along:
                total = simd.fold(total, lambda s, a, b: s.add(a, b))
                one.store(total, target, I64(o * w.depth))
            else:
                active = min(lanes, w.outputs - o)
                put_spaced(simd, total, target, I64(o * w.depth), w.depth, active)
    return kernel.text()
