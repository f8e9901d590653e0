"""Matrix products with explicit vectors: C = A·B, any strides of A, a tile chosen per shape.

The innermost work is a *tile* of C, ``rows`` by ``vectors`` registers. For each k it loads a few
vectors of B's row and broadcasts as many elements of A's column; each pair is one fused
multiply-add. Broadcasts do not mind strides, so A may be transposed at no cost. B must be read
along its rows: it is, as it stands, or from panels (:mod:`~tinygrad_ai.kernels.cpu.pack`). Deep
products go through k in blocks, so that a panel stays in the second cache; a tile then starts from
what C holds, so that the order of summation over k, and every bit, is the same for every choice.

FLOPs: 2·M·N·K. Bytes: 4·(M·K + K·N + M·N) in float32 when everything is read once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from llvmlite import ir

from tinygrad_ai.kernels.cpu.pack import Packing
from tinygrad_ai.kernels.cpu.planes import Opened, batch_offset, each_unit
from tinygrad_ai.kernels.cpu.plans import MANY, Host, Plan, crowded, host, planned
from tinygrad_ai.kernels.cpu.simd import BIT, I64, POINTER, Simd, element_type, least, looped

BODY = 48  # multiply-adds in one pass through the inner loop, about


@dataclass(frozen=True)
class Product:
    """A batch of products; strides are in elements, those of the batch per batch axis.

    ``b_rows`` is the distance from one row of B to the next (its columns lie side by side), or
    None where B comes in panels; ``a`` is None where A does, transposed, a tile's rows side by
    side. C is contiguous. With ``plus``, D's steps per batch axis and from row to row, its elements
    are added to the sums; its columns lie side by side.
    """

    m: int
    n: int
    k: int
    a: tuple[int, int] | None
    b_rows: int | None
    plan: Plan
    batch: tuple[int, ...] = ()
    a_steps: tuple[int, ...] = ()
    b_steps: tuple[int, ...] = ()
    dtype: str = "float32"
    plus: tuple[int, ...] | None = None

    @property
    def units(self) -> int:
        """Units of work: a tile's rows by a block of columns, of every product of the batch."""
        return math.prod(self.batch) * math.prod(self.plan.blocks(self.m, self.n))


def prepared(
    shape: Sequence[int],
    k: int,
    a: Sequence[int],
    b: Sequence[int],
    dtype: str = "float32",
    plus: Sequence[int] | None = None,
    machine: Host | None = None,
) -> tuple[Product, dict[int, Packing]]:
    """The product of C's ``shape`` (\\*batch, m, n), and which operands are packed, and how.

    Operands have numbers: 1 is A, 2 is B. ``a`` and ``b`` are their strides in elements, 0 along
    axes that are repeated; ``plus`` are those of what is added, but for the columns'. B is packed
    where its columns do not lie side by side, either where steps of k are so far apart that they
    crowd into a few sets of the caches, if that is worth it. Matrices that the batch repeats are
    packed once.
    """
    *batch, m, n = shape
    machine = machine or host(dtype)
    b = b if n > 1 else (*b[:-1], 1)
    large_a, large_b = (x * k * machine.itemsize > machine.second for x in (m, n))
    crowded_a, crowded_b = (crowded(step, machine.itemsize, 2) for step in (a[-1], b[-2]))
    many = min(m, n) >= MANY
    turn_a = many and large_a and crowded_a and a[-1] != 1
    pack_b = b[-1] != 1 or (many and large_b and crowded_b)
    plan = planned(math.prod(batch), m, n, k, None if turn_a else (a[-2], a[-1]), machine)
    packings = {}
    steps = [tuple(a[:-2]), tuple(b[:-2])]
    if turn_a:
        lanes = plan.rows & -plan.rows
        packings[1] = Packing(k, m, (a[-1], a[-2]), plan.rows, lanes, *_own(batch, steps[0]), dtype)
    if pack_b:
        pair = b[-2], b[-1]
        packings[2] = Packing(k, n, pair, plan.width, plan.lanes, *_own(batch, steps[1]), dtype)
    for number, packing in packings.items():
        sizes = accumulate(packing.batch[:0:-1], int.__mul__, initial=packing.size)
        each = zip(packing.batch, reversed(list(sizes)), strict=False)
        steps[number - 1] = tuple(s if x > 1 else 0 for x, s in each)
    matrix = None if turn_a else (a[-2], a[-1])
    b_rows = None if pack_b else b[-2]
    cut = plan, tuple(batch), steps[0], steps[1]
    return Product(m, n, k, matrix, b_rows, *cut, dtype, plus and tuple(plus)), packings


def _own(batch: Sequence[int], steps: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The batch without what is repeated, and its steps."""
    return tuple(x if step else 1 for x, step in zip(batch, steps, strict=True)), steps


def emit_product(p: Product) -> str:
    """The LLVM IR of ``kernel`` on the operands C, A, B (or its panels), and D if there is one."""
    return _ProductWriter(p).write()


class _ProductWriter:
    def __init__(self, p: Product) -> None:
        self.p, self.plan = p, p.plan
        self.kernel = Opened(p.dtype, 3 if p.plus is None else 4, p.plan.lanes)
        self.tiles: dict[tuple[int, int], ir.Function] = {}

    def write(self) -> str:
        """The loops around the tiles: products with their blocks of columns, blocks of k."""
        p, plan, kernel = self.p, self.plan, self.kernel
        build, begin, end = kernel.build, kernel.begin, kernel.end
        c, a, b, *added = kernel.operands
        down, across = (max(1, x) for x in plan.blocks(p.m, p.n))
        last = build.sdiv(build.add(end, I64(down - 1)), I64(down))
        with looped(build, build.sdiv(begin, I64(down)), last, 1) as group:
            before = build.mul(group, I64(down))
            start, stop = (_clamp(build, build.sub(x, before), 0, down) for x in (begin, end))
            item, block = build.sdiv(group, I64(across)), build.srem(group, I64(across))
            here_c = kernel.at(c, build.mul(item, I64(p.m * p.n)))
            here_a = kernel.at(a, batch_offset(build, item, p.batch, p.a_steps))
            here_b = kernel.at(b, batch_offset(build, item, p.batch, p.b_steps))
            steps_d = (p.plus or ())[:-1]
            here_d = [kernel.at(d, batch_offset(build, item, p.batch, steps_d)) for d in added]
            steps = max(1, p.k) + plan.depth - 1  # without any k, C is written once too
            with looped(build, I64(0), I64(steps), plan.depth) as k:
                self._block((here_c, here_a, here_b, *here_d), block, k, start, stop)
        return kernel.text()

    def _block(
        self,
        operands: tuple[ir.Value, ...],
        block: ir.Value,
        k: ir.Value,
        start: ir.Value,
        stop: ir.Value,
    ) -> None:
        """The rows of tiles ``start`` to ``stop`` of a block of columns, from ``k`` on."""
        p, plan, kernel, build = self.p, self.plan, self.kernel, self.kernel.build
        c, a, b, *added = operands
        full, rest = divmod(p.n, plan.width)
        depth = least(build, build.sub(I64(p.k), k), I64(plan.depth))
        onto = build.icmp_signed(">", k, I64(0))
        last = build.icmp_signed(">=", build.add(k, depth), I64(p.k))
        a_k = self._step_of_a

        def column(j: ir.Value, columns: int) -> None:
            """The tiles below each other in the columns from ``j`` on."""
            if p.b_rows is None:
                wide = -(-columns // plan.lanes) * plan.lanes
                offset = build.add(build.mul(j, I64(p.k)), build.mul(k, I64(wide)))
            else:
                offset = build.add(j, build.mul(k, I64(p.b_rows)))
            here_b = kernel.at(b, offset)

            def tile(i: ir.Value, rows: int) -> None:
                row = build.mul(i, I64(plan.rows))
                here_c = kernel.at(c, build.add(build.mul(row, I64(p.n)), j))
                offsets = build.mul(row, I64(p.a[0] if p.a else p.k)), build.mul(k, I64(a_k(rows)))
                here_a = kernel.at(a, build.add(*offsets))
                if (rows, columns) not in self.tiles:
                    self.tiles[rows, columns] = self._tile(rows, columns)
                given = [here_c, here_a, here_b]
                for d in added:
                    given.append(kernel.at(d, build.add(build.mul(row, I64(p.plus[-1])), j)))
                build.call(self.tiles[rows, columns], [*given, depth, onto, last])

            each_unit(build, start, stop, (p.m, plan.rows), tile)

        if full:
            first = build.mul(block, I64(plan.panels))
            after = least(build, build.add(first, I64(plan.panels)), I64(full))
            with looped(build, first, after, 1) as panel:
                column(build.mul(panel, I64(plan.width)), plan.width)
        if rest:
            with build.if_then(build.icmp_signed("==", block, I64(full // plan.panels))):
                column(I64(full * plan.width), rest)

    def _step_of_a(self, rows: int) -> int:
        """From one step of k to the next in A, in a tile of so many rows."""
        lanes = self.plan.rows & -self.plan.rows
        return self.p.a[1] if self.p.a else -(-rows // lanes) * lanes

    def _tile(self, rows: int, columns: int) -> ir.Function:
        """``tile(C, A, B, D, depth, onto, last)``: ``rows`` by ``columns`` of C, ``depth`` steps.

        ``onto`` says that C holds the sums of earlier steps of k, ``last`` that none are left, so
        that D, if there is one, is added: it is fetched to the cache meanwhile.
        """
        p, lanes, kernel, dtype = self.p, self.plan.lanes, self.kernel, self.kernel.dtype
        kind = ir.FunctionType(ir.VoidType(), [POINTER] * len(kernel.operands) + [I64, BIT, BIT])
        function = ir.Function(kernel.module, kind, f"tile_{rows}_{columns}")
        function.linkage = "internal"
        function.attributes.add("noinline")
        c, a, b, *added, depth, onto, last = function.args
        build = ir.IRBuilder(function.append_basic_block("entry"))
        simd = Simd(build, lanes)
        active = [None] * (columns // lanes) + [columns % lanes] * (columns % lanes > 0)
        vectors = len(active)
        masked = [None] * vectors if p.b_rows is None else active
        b_rows = vectors * lanes if p.b_rows is None else p.b_rows
        places = [(r, v * lanes, active[v]) for r in range(rows) for v in range(vectors)]
        a_row, a_k = p.a[0] if p.a else 1, self._step_of_a(rows)

        for d in added:
            for r, v, _ in places:
                simd.prefetch(kernel.at(d, r * p.plus[-1] + v, build))
        entry = build.block
        with build.if_then(onto):
            old = [simd.load(dtype, c, I64(r * p.n + v), n) for r, v, n in places]
            loaded = build.block
        sums = []
        for value in old:
            sums.append(build.phi(value.type))
            sums[-1].add_incoming(simd.constant(dtype, 0.0), entry)
            sums[-1].add_incoming(value, loaded)

        def step(a: ir.Value, b: ir.Value, sums: list[ir.Value], u: int) -> list[ir.Value]:
            """Step ``u`` after the one that ``a`` and ``b`` point at."""
            line = [
                simd.load(dtype, b, I64(u * b_rows + v * lanes), masked[v]) for v in range(vectors)
            ]
            found = []
            for r in range(rows):
                at = kernel.at(a, u * a_k + r * a_row, build)
                spread = simd.splat(build.load(at, typ=element_type(dtype)))
                own = sums[r * vectors : (r + 1) * vectors]
                found += [simd.fma(spread, x, s) for x, s in zip(line, own, strict=True)]
            return found

        def steps(count: int) -> Callable[[list[ir.Value]], list[ir.Value]]:
            def body(state: list[ir.Value]) -> list[ir.Value]:
                a, b, *sums = state
                for u in range(count):
                    sums = step(a, b, sums, u)
                a = kernel.at(a, count * a_k, build)
                return [a, kernel.at(b, count * b_rows, build), *sums]

            return body

        unroll = _unroll(rows * vectors, p.k, self.plan.depth)
        whole = build.sub(depth, build.urem(depth, I64(unroll)))
        state = _repeated(build, I64(0), whole, unroll, [a, b, *sums], steps(unroll))
        if p.k % unroll or self.plan.depth % unroll:
            state = _repeated(build, whole, depth, 1, state, steps(1))
        totals = sums = state[2:]
        for d in added:
            before = build.block
            with build.if_then(last):
                more = [simd.load(dtype, d, I64(r * p.plus[-1] + v), n) for r, v, n in places]
                wholes = [simd.add(*pair) for pair in zip(sums, more, strict=True)]
                after = build.block
            totals = [build.phi(value.type) for value in sums]
            for total, part, whole in zip(totals, sums, wholes, strict=True):
                total.add_incoming(part, before)
                total.add_incoming(whole, after)
        for value, (r, v, n) in zip(totals, places, strict=True):
            simd.store(value, c, I64(r * p.n + v), n)
        build.ret_void()
        return function


def _unroll(accumulators: int, k: int, depth: int) -> int:
    """Steps of k in one pass: about BODY multiply-adds, without a rest where that costs little."""
    most = max(1, min(8, BODY // accumulators))
    whole = max(u for u in range(1, most + 1) if not (k % u or depth % u))
    return whole if 2 * whole > most else most


def _repeated(
    build: ir.IRBuilder,
    start: ir.Value,
    stop: ir.Value,
    step: int,
    state: list[ir.Value],
    body: Callable[[list[ir.Value]], list[ir.Value]],
) -> list[ir.Value]:
    """``for (i = start; i < stop; i += step) state = body(state)``."""
    before = build.block
    head, inside, done = (build.append_basic_block(n) for n in ("head", "body", "done"))
    build.branch(head)
    build.position_at_end(head)
    phis = [build.phi(x.type) for x in (start, *state)]
    build.cbranch(build.icmp_signed("<", phis[0], stop), inside, done)
    build.position_at_end(inside)
    after = [build.add(phis[0], I64(step)), *body(phis[1:])]
    for phi, first, again in zip(phis, (start, *state), after, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(again, build.block)
    build.branch(head)
    build.position_at_end(done)
    return phis[1:]


def _clamp(build: ir.IRBuilder, value: ir.Value, low: int, high: int) -> ir.Value:
    value = build.select(build.icmp_signed("<", value, I64(low)), I64(low), value)
    return least(build, value, I64(high))
