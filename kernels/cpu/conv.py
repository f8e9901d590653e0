"""Convolution and its input's gradient with explicit vectors: products of windows never stored.

Both are sums of products over (channel, tap), a *tap* being one place of the kernel, and work
through one image after another: its planes are copied once into scratch memory with their border
of zeros, where a tap is nothing but an offset.

- result[o, p] = Σ weight[o, k]·window[k, p] with k = (channel, tap). For a chunk of output rows
  the windows are copied into a *panel* of rows, side by side as the outputs are, small enough for
  the second cache; then it is a product of matrices, vectors along p, tiles as in ``gemm``. Taps
  below each other share a row of the panel, where one is some lines after the other (unless a
  stride leads past every other line). The weights are brought into the order of the tiles by a
  kernel of their own. The panel costs a load and a store where each of its elements meets O
  multiply-adds, of every tap below each other.
- The gradient of the input is the same thing with the weights transposed and the taps mirrored.
  With a stride, each remainder of the position by the stride has taps of its own, so it takes
  several correlations (:class:`Phase`), none of which multiplies by inserted zeros.
- The gradient of the weights sums over images and places: see ``conv_weight``.

Units of work are images, and a sum runs over k in order whatever the tile, so every split gives the
same bits. FLOPs: 2·N·O·(C/groups)·taps·P each. Bytes in float32 when everything is read once:
4·(N·C·S + O·C/groups·taps + N·O·P).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.planes import (
    Bordered,
    Opened,
    Pair,
    blocks_of,
    each_vector,
    fill,
    line_bytes,
    put_spaced,
    spaced,
    window_places,
)
from tinygrad_ai.kernels.cpu.plans import host, tile_for
from tinygrad_ai.kernels.cpu.simd import I64, host_lanes, looped
from tinygrad_ai.kernels.cpu.tiles import Products, Rows

PANEL = 1 << 18  # bytes of windows at a time: half of a small second cache
Tap = tuple[int, int, int]  #: rows and columns from a place to what is read, the weight's offset


@dataclass(frozen=True)
class Phase:
    """A correlation over ``places``, written from ``start`` on.

    Taps are all pairs of some rows and some columns.
    """

    places: Pair
    start: Pair
    taps: tuple[Tap, ...]


@dataclass(frozen=True)
class Correlation:
    """``images`` with ``groups`` of ``inputs`` and ``outputs`` channels each, all contiguous.

    Place (i, j) reads from (i·step[0], j·step[1]) of planes of ``size``, zeros outside, and is
    written to (i·spread[0], j·spread[1]) of planes of ``out``. ``weight`` are the steps of the
    weights, in elements, from group to group, output to output, and input to input.
    """

    images: int
    groups: int
    inputs: int
    outputs: int
    size: Pair
    out: Pair
    step: Pair
    spread: Pair
    phases: tuple[Phase, ...]
    weight: tuple[int, int, int]
    dtype: str = "float32"


def forward(x: Sequence[int], weight: Sequence[int], g: Geometry, dtype: str) -> Correlation:
    """The convolution of x (N, C, H, W) with weight (O, C / groups, KH, KW)."""
    (n, _, *size), (out, inputs, kh, kw) = x, weight
    taps = tuple(
        (i * g.dilation[0] - g.padding[0][0], j * g.dilation[1] - g.padding[1][0], i * kw + j)
        for i in range(kh)
        for j in range(kw)
    )
    places = g.places((size[0], size[1]), (kh, kw))
    outputs, area = out // g.groups, kh * kw
    return Correlation(
        n, g.groups, inputs, outputs, (size[0], size[1]), places, g.stride, (1, 1),
        (Phase(places, (0, 0), taps),), (outputs * inputs * area, inputs * area, area), dtype,
    )  # fmt: skip


def input_grad(x: Sequence[int], weight: Sequence[int], g: Geometry, dtype: str) -> Correlation:
    """The gradient of x (N, C, H, W): dy correlated with the mirrored weights, phase by phase."""
    (n, _, *size), (out, inputs, kh, kw) = x, weight
    phases = []
    for a in range(min(g.stride[0], size[0])):
        for b in range(min(g.stride[1], size[1])):
            rows, columns = (
                [(k, (start + lo - k * d) // s) for k in range(n) if (start + lo - k * d) % s == 0]
                for start, (lo, _), d, s, n in zip(
                    (a, b), g.padding, g.dilation, g.stride, (kh, kw), strict=True
                )
            )
            taps = tuple((i, j, p * kw + q) for p, i in rows for q, j in columns)
            places = tuple(
                -(-(n - start) // s) for n, start, s in zip(size, (a, b), g.stride, strict=True)
            )
            phases.append(Phase((places[0], places[1]), (a, b), taps))
    outputs, area = out // g.groups, kh * kw
    return Correlation(
        n, g.groups, outputs, inputs, g.places((size[0], size[1]), (kh, kw)), (size[0], size[1]),
        (1, 1), g.stride, tuple(phases), (outputs * inputs * area, area, inputs * area), dtype,
    )  # fmt: skip


@dataclass(frozen=True)
class Geometry:
    """Stride, padding (before, after), dilation over two axes, and groups."""

    stride: Pair
    padding: tuple[Pair, Pair]
    dilation: Pair
    groups: int = 1

    def places(self, size: Pair, kernel: Pair) -> Pair:
        """How many windows there are."""
        given = kernel, self.stride, self.padding, self.dilation
        rows, columns = window_places(size, *given)
        return rows, columns


def _border(c: Correlation) -> Bordered:
    reads = [
        ((di, (p.places[0] - 1) * c.step[0] + di), (dj, (p.places[1] - 1) * c.step[1] + dj))
        for p in c.phases
        for di, dj, _ in p.taps
    ] or [((0, 0), (0, 0))]
    rows, columns = zip(*reads, strict=True)
    low = min(r[0] for r in rows), min(r[0] for r in columns)
    high = max(r[1] for r in rows), max(r[1] for r in columns)
    return Bordered(c.size, low, high)


# ------------------------------------------------------------------------------------ correlation


class _Panel:
    """The windows of some ``rows`` of places at a time, row by row of the panel.

    Each row holds a run of taps: those below each other, ``lift`` lines of places apart.
    """

    def __init__(self, c: Correlation, phase: Phase, lanes: int) -> None:
        rows, self.columns = phase.places
        self.runs, self.lift = _runs(phase.taps, c.step[0])
        self.lines, self.steps = c.inputs * len(self.runs), len(self.runs[0]) if self.runs else 1
        self.depth = self.lines * self.steps
        self.more = (self.steps - 1) * self.lift  #: lines of places, beside the rows
        line = self.lines * self.columns * np.dtype(c.dtype).itemsize
        fitting = PANEL // max(line, 1) - self.more
        chunks = -(-rows // max(1, min(fitting, rows)))
        self.rows = -(-rows // chunks)
        size = (self.rows + self.more) * self.columns
        self.apart = (-(-size // lanes) + 1 | 1) * lanes  # odd: not all in one set of the cache
        machine = replace(host(c.dtype), lanes=lanes)
        self.tile = tile_for(c.outputs, self.rows * self.columns, max(self.depth, 1), machine)

    @property
    def taps(self) -> list[Tap]:
        """All taps, in the order of the steps."""
        return [tap for run in self.runs for tap in run]

    def steps_of(self, height: int) -> tuple[Rows, int]:
        """How a tile of ``height`` outputs walks through weights and panel, and steps in a run."""
        offsets = tuple(range(height))
        if self.steps == 1:
            return Rows(offsets, height, self.apart), self.depth
        run = self.lines, self.steps * height, self.apart
        return Rows(offsets, height, self.lift * self.columns, *run), self.steps


def _runs(taps: Sequence[Tap], step: int) -> tuple[list[list[Tap]], int]:
    """Taps below each other in runs, and how many lines lie between two; else each by itself."""
    columns: dict[int, list[Tap]] = {}
    for tap in sorted(taps):
        columns.setdefault(tap[1], []).append(tap)
    gaps = {b[0] - a[0] for run in columns.values() for a, b in pairwise(run)}
    if step == 1 and len(gaps) == 1:
        return list(columns.values()), gaps.pop()
    return [[tap] for tap in taps], 0


def packed_size(c: Correlation) -> int:
    """Elements of the weights in the order of the tiles."""
    return max(1, c.groups * c.inputs * c.outputs * sum(len(p.taps) for p in c.phases))


def emit_weights(c: Correlation, lanes: int | None = None) -> str:
    """``kernel`` on the packed weights and the weights; one unit, for one thread.

    A phase's weights stand group by group, in blocks of a tile's rows, k by k.
    """
    width = lanes or host_lanes(np.dtype(c.dtype))
    kernel = Opened(c.dtype, 2, 1)
    at = 0
    for number, phase in enumerate(c.phases):
        panel = _Panel(c, phase, width)
        _pack_phase(c, kernel, panel, _table(kernel, number, [w for *_, w in panel.taps]), at)
        at += c.groups * c.outputs * panel.depth
    return kernel.text()


def _pack_phase(c: Correlation, kernel: Opened, panel: _Panel, table: Any, start: int) -> None:
    """The weights of one phase, packed from element ``start`` on."""
    build, (out, source) = kernel.build, kernel.operands
    taps = panel.depth // c.inputs
    with looped(build, I64(0), I64(c.groups), 1) as group:
        first = build.add(build.mul(group, I64(c.outputs * panel.depth)), I64(start))
        target, origin = (
            kernel.at(out, first),
            kernel.at(source, build.mul(group, I64(c.weight[0]))),
        )

        def block(first: Any, rows: int) -> None:
            to = kernel.at(target, build.mul(first, I64(panel.depth)))
            begin = kernel.at(origin, build.mul(first, I64(c.weight[1])))
            with (
                looped(build, I64(0), I64(c.inputs), 1) as channel,
                looped(build, I64(0), I64(taps), 1) as tap,
            ):
                here = kernel.at(begin, build.mul(channel, I64(c.weight[2])))
                base = kernel.at(
                    here, build.load(build.gep(table, [tap], source_etype=I64), typ=I64)
                )
                k = build.add(build.mul(channel, I64(taps)), tap)
                for r in range(rows):
                    value = kernel.simd.load(kernel.dtype, base, I64(r * c.weight[1]))
                    put = build.add(build.mul(k, I64(rows)), I64(r))
                    kernel.simd.store(value, to, put)

        blocks_of(build, c.outputs, panel.tile.rows, block)


def _table(kernel: Opened, number: int, offsets: list[int]) -> Any:
    """Constants that the code reads by number: offsets of taps."""
    kind = ir.ArrayType(I64, max(1, len(offsets)))
    table = ir.GlobalVariable(kernel.module, kind, f"taps{number}")
    table.initializer, table.global_constant = ir.Constant(kind, offsets or [0]), True
    return table


def correlation_scratch(c: Correlation, lanes: int | None = None) -> int:
    """Bytes of scratch memory that ``emit_correlation``'s kernel needs for each thread."""
    return sum(_scratch(c, lanes or host_lanes(np.dtype(c.dtype))))


def _scratch(c: Correlation, lanes: int) -> tuple[int, int, int]:
    """Bytes of the bordered planes, of the panel, and of results that are not side by side."""
    border, panels = _border(c), [_Panel(c, p, lanes) for p in c.phases]
    planes = c.groups * c.inputs * border.rows * border.columns if border.needed else 0
    panel = max(p.lines * p.apart for p in panels)
    results = 0 if c.spread == (1, 1) else max(c.outputs * p.apart for p in panels)
    first, second, third = (line_bytes(n, c.dtype) for n in (planes, panel, results))
    return first, second, third


def emit_correlation(c: Correlation, lanes: int | None = None) -> str:
    """``kernel`` on the result, the input, the packed weights and scratch; units are images."""
    lanes = lanes or host_lanes(np.dtype(c.dtype))
    writer = _CorrelationWriter(c, lanes)
    return writer.write()


class _CorrelationWriter:
    def __init__(self, c: Correlation, lanes: int) -> None:
        self.c, self.lanes, self.border = c, lanes, _border(c)
        parts = _scratch(c, lanes)
        self.kernel = k = Opened(c.dtype, 3, lanes, sum(parts))
        self.out, self.source, self.weights = k.operands
        self.planes = k.scratch
        self.panel, self.results = k.scratch_at(parts[0]), k.scratch_at(parts[0] + parts[1])
        self.products = Products(k, self.lanes)

    def write(self) -> str:
        c, kernel, build = self.c, self.kernel, self.kernel.build
        inputs = c.groups * c.inputs
        area, out = self.border.rows * self.border.columns, c.out[0] * c.out[1]
        if self.border.needed:
            fill(kernel, self.planes, inputs * area, 0.0)
        with looped(build, kernel.begin, kernel.end, 1) as image:
            source = kernel.at(self.source, build.mul(image, I64(inputs * c.size[0] * c.size[1])))
            source = self.border.load(kernel, source, self.planes, inputs)
            target = kernel.at(self.out, build.mul(image, I64(c.groups * c.outputs * out)))
            at = 0
            for number, phase in enumerate(c.phases):
                panel = _Panel(c, phase, self.lanes)
                offsets = [self.border.offset(i, j) for (i, j, _), *_ in panel.runs]
                table = _table(kernel, number, offsets)
                with looped(build, I64(0), I64(c.groups), 1) as group:
                    reads = kernel.at(source, build.mul(group, I64(c.inputs * area)))
                    start = build.add(build.mul(group, I64(c.outputs * panel.depth)), I64(at))
                    weights = kernel.at(self.weights, start)
                    writes = kernel.at(target, build.mul(group, I64(c.outputs * out)))
                    given = phase, panel, table, reads, weights, writes
                    blocks_of(build, phase.places[0], panel.rows, partial(self._chunk, *given))
                at += c.groups * c.outputs * panel.depth
        return kernel.text()

    def _chunk(
        self, phase: Phase, panel: _Panel, table: Any, reads: Any, weights: Any, writes: Any,
        first: Any, rows: int,
    ) -> None:  # fmt: skip
        """The windows of ``rows`` rows of places from ``first`` on, and their products."""
        c, kernel, build = self.c, self.kernel, self.kernel.build
        columns = phase.places[1]
        origin = build.mul(first, I64(c.step[0] * self.border.columns))
        self._gather(panel, table, kernel.at(reads, origin), rows + panel.more)
        side_by_side = c.spread == (1, 1)
        target, apart = self.results, panel.apart
        if side_by_side:
            target = kernel.at(writes, build.mul(first, I64(columns)))
            apart = c.out[0] * c.out[1]
        width = panel.tile.vectors * self.lanes

        def down(j: Any, count: int) -> None:
            """The tiles below each other in ``count`` columns from ``j`` on."""

            def tile(row: Any, height: int) -> None:
                a = kernel.at(weights, build.mul(row, I64(panel.depth)))
                b = kernel.at(self.panel, j)
                to = kernel.at(target, build.add(build.mul(row, I64(apart)), j))
                rows_of, steps = panel.steps_of(height)
                self.products.call(to, a, b, rows_of, count, apart, steps)

            blocks_of(build, c.outputs, panel.tile.rows, tile)

        blocks_of(build, rows * columns, width, down)
        if not side_by_side:
            self._spread(phase, panel, writes, first, rows)

    def _gather(self, panel: _Panel, table: Any, reads: Any, rows: int) -> None:
        """The panel: for each channel and run of taps what ``rows`` rows of places read.

        Vectors are stored whole, in order: what stands too far right is written over by the next
        row, or is in the space between the panel's rows.
        """
        c, kernel, build, simd = self.c, self.kernel, self.kernel.build, self.kernel.simd
        runs, line = len(panel.runs), self.border.columns
        with looped(build, I64(0), I64(c.inputs), 1) as channel:
            plane = kernel.at(reads, build.mul(channel, I64(self.border.rows * line)))
            with looped(build, I64(0), I64(runs), 1) as run:
                place = build.load(build.gep(table, [run], source_etype=I64), typ=I64)
                base = kernel.at(plane, place)
                k = build.add(build.mul(channel, I64(runs)), run)
                to = kernel.at(self.panel, build.mul(k, I64(panel.apart)))
                with looped(build, I64(0), I64(rows), 1) as row:
                    old = build.mul(row, I64(c.step[0] * line))
                    new = build.mul(row, I64(panel.columns))

                    def move(j: Any, n: int | None, old: Any = old, new: Any = new) -> None:
                        at = build.add(old, build.mul(j, I64(c.step[1])))
                        value = spaced(simd, kernel.dtype, base, at, c.step[1], n)
                        simd.store(value, to, build.add(new, j))

                    each_vector(build, panel.columns, self.lanes, move)

    def _spread(self, phase: Phase, panel: _Panel, writes: Any, first: Any, rows: int) -> None:
        """The results of a phase, brought to every ``spread``-th place."""
        c, kernel, build, simd = self.c, self.kernel, self.kernel.build, self.kernel.simd
        with looped(build, I64(0), I64(c.outputs), 1) as channel:
            old = kernel.at(self.results, build.mul(channel, I64(panel.apart)))
            new = kernel.at(writes, build.mul(channel, I64(c.out[0] * c.out[1])))
            with looped(build, I64(0), I64(rows), 1) as row:
                place = build.mul(build.add(row, first), I64(c.spread[0] * c.out[1]))
                place = build.add(place, I64(phase.start[0] * c.out[1] + phase.start[1]))
                before = build.mul(row, I64(phase.places[1]))

                def move(j: Any, n: int | None, place: Any = place, before: Any = before) -> None:
                    value = simd.load(kernel.dtype, old, build.add(before, j), n)
                    at = build.add(place, build.mul(j, I64(c.spread[1])))
                    put_spaced(simd, value, new, at, c.spread[1], n)

                each_vector(build, phase.places[1], self.lanes, move)
