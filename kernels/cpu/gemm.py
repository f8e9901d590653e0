"""Matrix products with explicit vectors: C = A·B, any strides of A, a tile chosen per shape.

The innermost work is a *tile* of C, ``rows`` by ``vectors`` registers. For each k it loads a few
vectors of B's row and broadcasts as many elements of A's column; each pair is one fused
multiply-add. Broadcasts do not mind strides, so A may be transposed at no cost. B must be read
along its rows: it is, as it stands, or from *panels* into which :func:`emit_pack` copies it, column
block by column block (transposed on the way, where it has to be). Large products go through k in
blocks, so that a panel stays in the first cache; a tile then starts from what C holds, so that the
order of summation over k is the same for every choice.

FLOPs: 2·M·N·K. Bytes: 4·(M·K + K·N + M·N) in float32 when everything is read once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import (
    I64,
    KERNEL,
    POINTER,
    Simd,
    element_type,
    host_lanes,
    looped,
)

UNROLL = 4  # steps of k in one pass through the inner loop
BLOCK = 384  # steps of k while a panel stays in the first cache
LARGE = 1 << 26  # multiply-adds from which blocks pay


@dataclass(frozen=True)
class Product:
    """A batch of products; strides are in elements, those of the batch per batch axis.

    ``b_rows`` is the distance from one row of B to the next (its columns lie side by side), or
    None where B comes in panels.
    """

    m: int
    n: int
    k: int
    a: tuple[int, int]
    b_rows: int | None
    batch: tuple[int, ...] = ()
    a_batch: tuple[int, ...] = ()
    b_batch: tuple[int, ...] = ()
    dtype: str = "float32"


@dataclass(frozen=True)
class Tile:
    """Rows and vectors of C that are in registers at a time."""

    rows: int
    vectors: int


@cache
def registers() -> int:
    """How many vector registers the host has."""
    return 32 if llvm.get_host_cpu_features().get("avx512f") or _is_arm() else 16


def _is_arm() -> bool:
    return "aarch64" in llvm.get_process_triple() or "arm64" in llvm.get_process_triple()


@cache
def tile_for(m: int, n: int, k: int, lanes: int) -> Tile:
    """The tile with the least time by a model: multiply-adds, loads, and the edges' waste."""
    spare = registers() - 1
    fitting = [Tile(r, v) for v in range(1, 5) for r in range(1, 29) if r * v + v <= spare]
    return min(fitting, key=lambda t: (_cycles(t, m, n, k, lanes), -t.rows * t.vectors))


def _cycles(tile: Tile, m: int, n: int, k: int, lanes: int) -> float:
    """Estimated cycles: two multiply-adds and two loads a cycle, four cycles' latency."""
    columns = -(-n // lanes)
    total = 0.0
    for rows, times in ((tile.rows, m // tile.rows), (m % tile.rows, 1)):
        for vectors, across in (
            (tile.vectors, columns // tile.vectors),
            (columns % tile.vectors, 1),
        ):
            if rows and vectors and times and across:
                step = max(rows * vectors / 2, (rows + vectors) / 2 * 0.95, 4.0)
                total += times * across * (k * step + 2.0 * rows * vectors + 12)
    return total


def panel_columns(p: Product) -> int:
    """The width of B's panels: that of the tile."""
    lanes = host_lanes(np.dtype(p.dtype))
    return tile_for(p.m, p.n, p.k, lanes).vectors * lanes


def panel_size(p: Product) -> int:
    """Elements of all panels of one B."""
    lanes = host_lanes(np.dtype(p.dtype))
    return -(-p.n // lanes) * lanes * p.k


def units(p: Product) -> int:
    """Units of work: blocks of a tile's rows, of every product of the batch."""
    lanes = host_lanes(np.dtype(p.dtype))
    return math.prod(p.batch) * -(-p.m // tile_for(p.m, p.n, p.k, lanes).rows)


def emit_product(p: Product) -> str:
    """The LLVM IR of ``kernel`` on the operands C, A, B (or its panels); see :func:`units`."""
    module = ir.Module("product")
    function = ir.Function(module, KERNEL, "kernel")
    _ProductWriter(p, module, function).write()
    return str(module)


class _ProductWriter:
    def __init__(self, p: Product, module: ir.Module, function: ir.Function) -> None:
        self.p, self.module, self.function = p, module, function
        self.dtype = np.dtype(p.dtype)
        self.element = element_type(self.dtype)
        self.lanes = host_lanes(self.dtype)
        self.tile = tile_for(p.m, p.n, p.k, self.lanes)
        self.width = self.tile.vectors * self.lanes
        blocked = p.m * p.n * p.k >= LARGE and p.k > BLOCK
        self.block = BLOCK if blocked else p.k
        self.tiles: dict[Any, ir.Function] = {}

    def write(self) -> None:
        p, rows = self.p, self.tile.rows
        table, begin, end, _ = self.function.args
        build = ir.IRBuilder(self.function.append_basic_block("entry"))
        c, a, b = (
            build.load(build.gep(table, [I64(k)], source_etype=POINTER), typ=POINTER)
            for k in range(3)
        )
        blocks = -(-p.m // rows)
        first, last = build.sdiv(begin, I64(blocks)), build.sub(end, I64(1))
        last = build.add(build.sdiv(last, I64(blocks)), I64(1))
        with looped(build, first, last, 1) as item:
            base = build.mul(item, I64(blocks))
            start = _clamp(build, build.sub(begin, base), 0, blocks)
            stop = _clamp(build, build.sub(end, base), 0, blocks)
            here_c = self._at(build, c, build.mul(item, I64(p.m * p.n)))
            here_a = self._at(build, a, self._batch(build, item, p.a_batch))
            here_b = self._at(build, b, self._batch(build, item, p.b_batch))
            for k0 in range(0, p.k, self.block):
                self._rows_of_tiles(build, here_c, here_a, here_b, start, stop, k0)
        build.ret_void()

    def _at(self, build: ir.IRBuilder, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return build.gep(pointer, [offset], source_etype=self.element)

    def _batch(self, build: ir.IRBuilder, item: ir.Value, strides: Sequence[int]) -> ir.Value:
        """The offset of a product's operand."""
        offset: ir.Value = I64(0)
        rest = item
        for n, step in zip(reversed(self.p.batch), reversed(strides), strict=True):
            offset = build.add(offset, build.mul(build.urem(rest, I64(n)), I64(step)))
            rest = build.udiv(rest, I64(n))
        return offset

    def _rows_of_tiles(
        self,
        build: ir.IRBuilder,
        c: ir.Value,
        a: ir.Value,
        b: ir.Value,
        start: ir.Value,
        stop: ir.Value,
        k0: int,
    ) -> None:
        """All columns of the row blocks ``start`` to ``stop``, for one block of k."""
        p, rows = self.p, self.tile.rows
        depth = min(self.block, p.k - k0)
        full, rest = divmod(p.n, self.width)
        a = self._at(build, a, I64(k0 * p.a[1]))

        def column(j: ir.Value, width: int) -> None:
            """The tiles below each other in the columns from ``j`` on."""
            if p.b_rows is None:
                panel = build.add(build.mul(j, I64(p.k)), I64(k0 * _padded(width, self.lanes)))
            else:
                panel = build.add(j, I64(k0 * p.b_rows))
            start_b = self._at(build, b, panel)
            whole = p.m // rows
            top = _clamp(build, stop, 0, whole)
            with looped(build, start, top, 1) as i:
                row = build.mul(i, I64(rows))
                self._call(build, c, a, start_b, row, j, rows, width, depth, k0 > 0)
            if p.m % rows:
                with build.if_then(build.icmp_signed(">", stop, I64(whole))):
                    row = I64(whole * rows)
                    self._call(build, c, a, start_b, row, j, p.m % rows, width, depth, k0 > 0)

        if full:
            with looped(build, I64(0), I64(full), 1) as j:
                column(build.mul(j, I64(self.width)), self.width)
        if rest:
            column(I64(full * self.width), rest)

    def _call(
        self,
        build: ir.IRBuilder,
        c: ir.Value,
        a: ir.Value,
        b: ir.Value,
        row: ir.Value,
        j: ir.Value,
        rows: int,
        width: int,
        depth: int,
        onto: bool,
    ) -> None:
        key = rows, width, depth, onto
        if key not in self.tiles:
            self.tiles[key] = self._tile(*key)
        here_c = self._at(build, c, build.add(build.mul(row, I64(self.p.n)), j))
        here_a = self._at(build, a, build.mul(row, I64(self.p.a[0])))
        build.call(self.tiles[key], [here_c, here_a, b])

    def _tile(self, rows: int, width: int, depth: int, onto: bool) -> ir.Function:
        """``tile(C, A, B)``: ``rows`` by ``width`` elements of C, over ``depth`` steps of k."""
        p, lanes = self.p, self.lanes
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * 3)
        name = f"tile_{rows}_{width}_{depth}_{int(onto)}"
        function = ir.Function(self.module, kind, name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        c, a, b = function.args
        build = ir.IRBuilder(function.append_basic_block("entry"))
        simd = Simd(build, lanes)
        vectors = -(-width // lanes)
        active = [None] * vectors
        if width % lanes:
            active[-1] = width % lanes
        masked = [None] * vectors if p.b_rows is None else active
        b_rows = vectors * lanes if p.b_rows is None else p.b_rows
        places = [[I64(r * p.n + v * lanes) for v in range(vectors)] for r in range(rows)]

        def loaded(r: int, v: int) -> ir.Value:
            if onto:
                return simd.load(self.dtype, c, places[r][v], active[v])
            return simd.constant(self.dtype, 0.0)

        sums = [[loaded(r, v) for v in range(vectors)] for r in range(rows)]

        def step(k: ir.Value, sums: list[list[ir.Value]]) -> list[list[ir.Value]]:
            row = build.mul(k, I64(b_rows))
            loads = [
                simd.load(self.dtype, b, build.add(row, I64(v * lanes)), masked[v])
                for v in range(vectors)
            ]
            column = build.mul(k, I64(p.a[1]))
            found = []
            for r in range(rows):
                at = build.add(column, I64(r * p.a[0]))
                pointer = build.gep(a, [at], source_etype=self.element)
                spread = simd.splat(build.load(pointer, typ=self.element))
                found.append([simd.fma(spread, x, y) for x, y in zip(loads, sums[r], strict=True)])
            return found

        whole = depth - depth % UNROLL
        if whole:
            entry = build.block
            body, done = (function.append_basic_block(n) for n in ("body", "done"))
            build.branch(body)
            build.position_at_end(body)
            k = build.phi(I64)
            k.add_incoming(I64(0), entry)
            phis = [[build.phi(s.type) for s in line] for line in sums]
            for line, starts in zip(phis, sums, strict=True):
                for phi, begin in zip(line, starts, strict=True):
                    phi.add_incoming(begin, entry)
            now = phis
            for u in range(UNROLL):
                now = step(build.add(k, I64(u)), now)
            after = build.add(k, I64(UNROLL))
            k.add_incoming(after, body)
            for line, ends in zip(phis, now, strict=True):
                for phi, value in zip(line, ends, strict=True):
                    phi.add_incoming(value, body)
            build.cbranch(build.icmp_signed("<", after, I64(whole)), body, done)
            build.position_at_end(done)
            sums = now
        for k in range(whole, depth):
            sums = step(I64(k), sums)
        for r in range(rows):
            for v in range(vectors):
                simd.store(sums[r][v], c, places[r][v], active[v])
        build.ret_void()
        return function


def _clamp(build: ir.IRBuilder, value: ir.Value, low: int, high: int) -> ir.Value:
    value = build.select(build.icmp_signed("<", value, I64(low)), I64(low), value)
    return build.select(build.icmp_signed(">", value, I64(high)), I64(high), value)


def _padded(width: int, lanes: int) -> int:
    return -(-width // lanes) * lanes


# ---------------------------------------------------------------------------------------- packing


@dataclass(frozen=True)
class Packing:
    """Panels of matrices (k, n) with ``strides``, ``width`` columns each; see ``Product``."""

    k: int
    n: int
    strides: tuple[int, int]
    width: int
    batch: tuple[int, ...] = ()
    b_batch: tuple[int, ...] = ()
    dtype: str = "float32"


def packing_units(p: Packing) -> int:
    """Units of work: vectors of columns, of every matrix."""
    lanes = host_lanes(np.dtype(p.dtype))
    return math.prod(p.batch) * -(-p.n // lanes)


def emit_pack(p: Packing) -> str:
    """The LLVM IR of ``kernel`` on the operands panels, B.

    A matrix that lies along k is transposed in squares of a register's length; the other elements
    of a last vector are zeros.
    """
    module = ir.Module("pack")
    function = ir.Function(module, KERNEL, "kernel")
    table, begin, end, _ = function.args
    build = ir.IRBuilder(function.append_basic_block("entry"))
    dtype = np.dtype(p.dtype)
    lanes, element = host_lanes(dtype), element_type(dtype)
    simd = Simd(build, lanes)
    out, source = (
        build.load(build.gep(table, [I64(k)], source_etype=POINTER), typ=POINTER) for k in range(2)
    )
    blocks = -(-p.n // lanes)
    size = blocks * lanes * p.k
    vectors = p.width // lanes

    def offset_of(item: ir.Value) -> ir.Value:
        offset: ir.Value = I64(0)
        rest = item
        for n, step in zip(reversed(p.batch), reversed(p.b_batch), strict=True):
            offset = build.add(offset, build.mul(build.urem(rest, I64(n)), I64(step)))
            rest = build.udiv(rest, I64(n))
        return offset

    def column(block: ir.Value, target: ir.Value, base: ir.Value, active: int) -> None:
        """All k of one vector of columns; it stands in the panel ``block // vectors``."""
        panel = build.sdiv(block, I64(vectors))
        inside = build.srem(block, I64(vectors))
        last = build.icmp_signed("==", panel, I64(blocks // vectors))
        row = build.select(last, I64(blocks % vectors * lanes or p.width), I64(p.width))
        start = build.add(build.mul(panel, I64(p.k * p.width)), build.mul(inside, I64(lanes)))
        first = build.add(base, build.mul(block, I64(lanes * p.strides[1])))

        def put(k: ir.Value, value: ir.Value) -> None:
            simd.store(value, target, build.add(start, build.mul(k, row)))

        none = simd.constant(dtype, 0)
        if p.strides[1] == 1:
            partial = None if active == lanes else active
            with looped(build, I64(0), I64(p.k), 1) as k:
                at = build.add(first, build.mul(k, I64(p.strides[0])))
                put(k, simd.load(dtype, source, at, partial))
            return

        def square(k: ir.Value, count: int) -> None:
            partial = None if count == lanes else count
            lines = []
            for n in range(lanes):
                at = build.add(
                    build.add(first, I64(n * p.strides[1])), build.mul(k, I64(p.strides[0]))
                )
                lines.append(simd.load(dtype, source, at, partial) if n < active else none)
            for n, line in enumerate(_transposed(build, lines)[:count]):
                put(build.add(k, I64(n)), line)

        if p.strides[0] == 1:
            whole = p.k - p.k % lanes
            with looped(build, I64(0), I64(whole), lanes) as k:
                square(k, lanes)
            if whole < p.k:
                square(I64(whole), p.k - whole)
            return
        with looped(build, I64(0), I64(p.k), 1) as k:
            at = build.add(first, build.mul(k, I64(p.strides[0])))
            steps = ir.Constant(ir.VectorType(I64, lanes), [n * p.strides[1] for n in range(lanes)])
            offsets = build.add(simd.splat(at), steps)
            put(k, simd.gather(dtype, source, offsets, None if active == lanes else active))

    with looped(build, begin, end, 1) as unit:
        item, block = build.sdiv(unit, I64(blocks)), build.srem(unit, I64(blocks))
        target = build.gep(out, [build.mul(item, I64(size))], source_etype=element)
        base = offset_of(item)
        if p.n % lanes:
            with build.if_else(build.icmp_signed("==", block, I64(blocks - 1))) as (then, other):
                with then:
                    column(block, target, base, p.n % lanes)
                with other:
                    column(block, target, base, lanes)
        else:
            column(block, target, base, lanes)
    build.ret_void()
    return str(module)


def _transposed(build: ir.IRBuilder, lines: list[ir.Value]) -> list[ir.Value]:
    """A square of registers transposed: halves of ever smaller blocks are exchanged (Eklundh)."""
    lanes = len(lines)
    i32 = ir.IntType(32)
    step = lanes // 2
    while step:
        low = [c if not c & step else lanes + c - step for c in range(lanes)]
        high = [c + step if not c & step else lanes + c for c in range(lanes)]
        after = list(lines)
        for n in range(lanes):
            if not n & step:
                pair = lines[n], lines[n + step]
                for place, chosen in ((n, low), (n + step, high)):
                    mask = ir.Constant(ir.VectorType(i32, lanes), chosen)
                    after[place] = build.shuffle_vector(*pair, mask)
        lines, step = after, step // 2
    return lines
