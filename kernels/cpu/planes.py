"""What kernels over images share: vectors of elements that lie apart, and planes with a border.

Elements ``step`` apart are taken from one wide load by a shuffle where the step is 1, 2 or 4 (no
processor gathers as fast), and by a gather or a scatter otherwise. Loads never pass the last
element that is asked for, so rows may end where their array ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import (
    BYTE,
    I64,
    KERNEL,
    POINTER,
    Simd,
    element_type,
    least,
    looped,
    operands_of,
)

SHUFFLED = (1, 2, 4)  # steps for which one wide access and a shuffle do
I32 = ir.IntType(32)
Pair = tuple[int, int]


class Opened:
    """A function ``kernel`` being written: its builder, vectors and operands' addresses.

    With ``scratch``, so many bytes for each thread, one more operand is memory for them.
    """

    def __init__(self, dtype: Any, operands: int, lanes: int, scratch: int = 0) -> None:
        self.module = ir.Module("kernel")
        function = ir.Function(self.module, KERNEL, "kernel")
        table, self.begin, self.end, part = function.args
        self.build = build = ir.IRBuilder(function.append_basic_block("entry"))
        self.dtype, self.lanes = np.dtype(dtype), lanes
        self.simd = Simd(build, lanes)
        self.operands = operands_of(build, table, operands + (scratch > 0))
        self.scratch = self.operands.pop() if scratch else ir.Constant(POINTER, None)
        if scratch:
            self.scratch = self.scratch_at(build.mul(part, I64(scratch)))

    def at(self, base: ir.Value, offset: Any, build: ir.IRBuilder | None = None) -> ir.Value:
        """The address of ``base[offset]``."""
        return (build or self.build).gep(base, [i64(offset)], source_etype=element_type(self.dtype))

    def scratch_at(self, offset: Any) -> ir.Value:
        """The address in scratch memory, so many bytes further on."""
        return self.build.gep(self.scratch, [i64(offset)], source_etype=BYTE)

    def text(self) -> str:
        """The finished LLVM IR."""
        self.build.ret_void()
        return str(self.module)


def i64(value: Any) -> ir.Value:
    """A Python int as a constant; what is a value already stays."""
    return I64(value) if isinstance(value, int) else value


def line_bytes(count: int, dtype: Any) -> int:
    """The bytes of ``count`` elements, rounded up to whole cache lines."""
    return -(-count * np.dtype(dtype).itemsize // 64) * 64


def pieces(count: int, lanes: int) -> list[tuple[int, int | None]]:
    """Vectors that cover ``count`` elements: where each begins, and how many lanes count."""
    whole = [(j, None) for j in range(0, count - count % lanes, lanes)]
    rest: list[tuple[int, int | None]] = [(count - count % lanes, count % lanes)]
    return [*whole, *(rest if count % lanes else [])]


def blocks_of(
    build: ir.IRBuilder, count: int, size: int, body: Callable[[ir.Value, int], None]
) -> None:
    """``body(first, length)`` for blocks of ``size`` and what is left."""
    whole = count - count % size
    if whole > size:
        with looped(build, I64(0), I64(whole), size) as first:
            body(first, size)
    elif whole:
        body(I64(0), size)
    if whole < count:
        body(I64(whole), count - whole)


def each_vector(
    build: ir.IRBuilder, count: int, lanes: int, body: Callable[[ir.Value, int | None], None]
) -> None:
    """``body(offset, active)`` for vectors that cover ``count`` elements: a loop, and the rest."""
    blocks_of(build, count, lanes, lambda j, n: body(j, None if n == lanes else n))


def each_unit(
    build: ir.IRBuilder,
    begin: ir.Value,
    end: ir.Value,
    parts: tuple[int, int],
    body: Callable[[ir.Value, int], None],
) -> None:
    """``body(number, length)`` for units ``begin`` to ``end``, where ``parts`` = (count, size).

    Units are blocks of ``size``; the last one has what is left of ``count``.
    """
    whole, rest = divmod(*parts)
    if whole:
        with looped(build, begin, least(build, end, I64(whole)), 1) as number:
            body(number, parts[1])
    if rest:
        with build.if_then(build.icmp_signed(">", end, I64(whole))):
            body(I64(whole), rest)


def batch_offset(
    build: ir.IRBuilder, item: ir.Value, batch: Sequence[int], steps: Sequence[int]
) -> ir.Value:
    """Where number ``item`` of an array of shape ``batch`` begins, in elements."""
    offset: ir.Value = I64(0)
    for n, step in zip(reversed(batch), reversed(steps), strict=True):
        offset = build.add(offset, build.mul(build.urem(item, I64(n)), I64(step)))
        item = build.udiv(item, I64(n))
    return offset


def spaced(
    simd: Simd, dtype: Any, base: ir.Value, offset: ir.Value, step: int, active: int | None
) -> ir.Value:
    """Lanes from ``base[offset]``, ``base[offset + step]`` …; past the first ``active`` lanes 0."""
    if step == 1:
        return simd.load(dtype, base, offset, active)
    if step in SHUFFLED:
        wide = Simd(simd.builder, simd.lanes * step)
        line = wide.load(dtype, base, offset, ((active or simd.lanes) - 1) * step + 1)
        return _chosen(simd.builder, line, line, range(0, simd.lanes * step, step))
    return simd.gather(dtype, base, _apart(simd, offset, step), active)


def put_spaced(
    simd: Simd, value: ir.Value, base: ir.Value, offset: ir.Value, step: int, active: int | None
) -> None:
    """Write lanes to ``base[offset]``, ``base[offset + step]`` …, the first ``active`` ones."""
    if step == 1:
        simd.store(value, base, offset, active)
    else:
        simd.scatter(value, base, _apart(simd, offset, step), active)


def put_interleaved(
    simd: Simd, values: Sequence[ir.Value], base: ir.Value, offset: ir.Value, active: int | None
) -> None:
    """Write the first lanes of all ``values``, then their second lanes, and so on, side by side."""
    step = len(values)
    if step not in SHUFFLED:
        for k, value in enumerate(values):
            put_spaced(simd, value, base, simd.builder.add(offset, I64(k)), step, active)
        return
    count = None if active is None else active * step
    line = _interleaved(simd, values)
    Simd(simd.builder, simd.lanes * step).store(line, base, offset, count)


def _interleaved(simd: Simd, values: Sequence[ir.Value]) -> ir.Value:
    """The lanes of a power of 2 of vectors, one of each in turn."""
    line = list(values)
    while len(line) > 1:  # first with the one half the steps away: 0 2 and 1 3, then 0 1 2 3
        half = len(line) // 2
        n = line[0].type.count
        order = [k // 2 + n * (k % 2) for k in range(2 * n)]
        line = [_chosen(simd.builder, line[k], line[k + half], order) for k in range(half)]
    return line[0]


def _apart(simd: Simd, offset: ir.Value, step: int) -> ir.Value:
    steps = ir.Constant(ir.VectorType(I64, simd.lanes), [k * step for k in range(simd.lanes)])
    return simd.builder.add(simd.splat(offset), steps)


def _chosen(build: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: Sequence[int]) -> ir.Value:
    return build.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes)))


def fill(kernel: Opened, base: ir.Value, count: int, value: float) -> None:
    """``count`` elements from ``base`` on set to ``value``."""
    simd = kernel.simd
    line = simd.constant(kernel.dtype, value)
    each_vector(kernel.build, count, kernel.lanes, lambda j, n: simd.store(line, base, j, n))


def copy_planes(
    kernel: Opened,
    source: tuple[ir.Value, int, int],
    target: tuple[ir.Value, int, int],
    sizes: tuple[int, int, int],
) -> None:
    """``planes`` × ``rows`` × ``columns`` elements copied between planes with other borders.

    ``source`` and ``target`` are an address and the steps from plane to plane and row to row.
    """
    build, simd = kernel.build, kernel.simd
    planes, rows, columns = sizes
    with looped(build, I64(0), I64(planes), 1) as plane:
        reads, writes = (
            kernel.at(base, build.mul(plane, I64(step))) for base, step, _ in (source, target)
        )
        with looped(build, I64(0), I64(rows), 1) as row:
            before, after = (build.mul(row, I64(step)) for *_, step in (source, target))

            def move(j: ir.Value, n: int | None, before: Any = before, after: Any = after) -> None:
                value = simd.load(kernel.dtype, reads, build.add(before, j), n)
                simd.store(value, writes, build.add(after, j), n)

            each_vector(build, columns, kernel.lanes, move)


def window_places(
    size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[tuple[int, int]],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """How many windows there are along each axis."""
    return tuple(
        (n + lo + hi - d * (k - 1) - 1) // s + 1
        for n, k, s, (lo, hi), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


class Bordered:
    """Planes of ``size`` with the border that ``reads`` (the extremes of what is read) need."""

    def __init__(self, size: Pair, lowest: Pair, highest: Pair) -> None:
        self.before = max(0, -lowest[0]), max(0, -lowest[1])
        self.rows = self.before[0] + max(size[0], highest[0] + 1)
        self.columns = self.before[1] + max(size[1], highest[1] + 1)
        self.needed = (self.rows, self.columns) != size
        self.size = size

    @classmethod
    def of_windows(
        cls, size: Pair, places: Pair, kernel: Pair, stride: Pair, dilation: Pair, before: Pair
    ) -> Bordered:
        """The planes that windows read, the first of which begins ``before`` the plane does."""
        rows, columns = (
            (n - 1) * s + (k - 1) * d - b
            for n, s, k, d, b in zip(places, stride, kernel, dilation, before, strict=True)
        )
        return cls(size, (-before[0], -before[1]), (rows, columns))

    def offset(self, row: int, column: int) -> int:
        """Where an element stands in its plane."""
        return (row + self.before[0]) * self.columns + column + self.before[1]

    def load(self, kernel: Opened, source: ir.Value, scratch: ir.Value, planes: int) -> ir.Value:
        """The planes from ``source`` on with their border, which has been filled already."""
        if not self.needed:
            return source
        area = self.size[0] * self.size[1]
        inner = kernel.at(scratch, self.offset(0, 0))
        copy_planes(
            kernel,
            (source, area, self.size[1]),
            (inner, self.rows * self.columns, self.columns),
            (planes, *self.size),
        )
        return scratch
