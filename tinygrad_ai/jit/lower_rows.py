"""CPU code for a fused kernel: rows, and in each row loops of vectors over the columns.

The function is ``kernel(table, begin, end, part)``: the addresses of the operands, the rows (or,
where there are no rows, the elements) to work on, and the number of the thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.backend.scalar import Expr, order, xp
from tinygrad_ai.jit.lower import identity_of, index, stride
from tinygrad_ai.jit.lower_cpu import Evaluator, combined
from tinygrad_ai.jit.rows import Folding, Phase, RowProgram
from tinygrad_ai.kernels.cpu import vmath
from tinygrad_ai.kernels.cpu.simd import BYTE, I64, KERNEL, Simd, host_lanes, looped, operands_of

Values = dict[Expr, ir.Value]
I32 = ir.IntType(32)
LANES_OF_A_MASK = 16  # in a register of bits


def emit_rows(program: RowProgram, lanes: int) -> str:
    """The LLVM IR of a fused kernel."""
    module = ir.Module("rows")
    RowWriter(program, lanes, ir.Function(module, KERNEL, "kernel")).write()
    return str(module)


def row_lanes(program: RowProgram) -> int:
    """The lanes of a fused kernel on this host: a register of its widest real numbers."""
    reals = [v.dtype for v in program.operands if v.dtype.kind == "f" and v.size > 1]
    return host_lanes(max(reals, key=lambda d: d.itemsize, default=np.dtype(np.float32)))


def side_by_side(roots: Sequence[Expr], rows: bool) -> int:
    """How many vectors of elements to work on at once, so that no unit waits for a result.

    Each step of a polynomial waits for the one before. The processor looks ahead over one or two
    functions to the next vector; in longer chains the work on other vectors must stand beside it.
    In ``rows`` places and values of rows need registers too, so there long chains get fewer. The
    numbers are measured.
    """
    functions = sum(e.op in vmath.FUNCTIONS for e in order(roots))
    none, few, many = (1, 4, 2) if rows else (2, 4, 8)
    return none if not functions else few if functions <= 4 else many


class RowWriter:
    """The loops of one kernel, written into a function."""

    def __init__(self, program: RowProgram, lanes: int, function: ir.Function) -> None:
        self.program = program
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.simd, self.one = Simd(self.builder, lanes), Simd(self.builder, 1)
        table, self.begin, self.end, self.part = function.args
        self.operands = operands_of(self.builder, table, len(program.operands))
        for k, size in program.scratch_bytes().items():  # a row for each thread
            start = self.builder.mul(self.part, I64(size))
            self.operands[k] = self.builder.gep(self.operands[k], [start], source_etype=BYTE)
        self.column = len(program.shape) - 1
        self.roots = [e for phase in program.phases for e in phase.elements()]
        self.fixed: dict[int, Values] = {lanes: {}, 1: {}}
        if program.flag is not None:
            self.seen = self.builder.alloca(I64)  # bits of the lanes that were NaN
            self.builder.store(I64(0), self.seen)

    def write(self) -> None:
        """The whole function."""
        if self.program.outer is None:
            self._flat()
        else:
            for lanes in {simd.lanes for p in self.program.phases for simd in self._widths(p)}:
                self._hoist_constants(Simd(self.builder, lanes))
            with looped(self.builder, self.begin, self.end, 1) as row:
                self._row(row)
        if self.program.flag is not None:
            some = self.builder.icmp_unsigned("!=", self.builder.load(self.seen, typ=I64), I64(0))
            with self.builder.if_then(some, likely=False):
                self.builder.store(I64(1), self.operands[self.program.flag])
        self.builder.ret_void()

    # ------------------------------------------------------------------------------------- loops

    def _flat(self) -> None:
        """Elements ``begin`` to ``end``: several vectors at once, one, and one by one the rest."""
        (phase,) = self.program.phases[1:]
        several = Simd(self.builder, side_by_side(self.roots, False) * self.simd.lanes)
        self._hoist_constants(self.simd)
        self._hoist_constants(several)
        self.fixed[1] = {}
        count, start = self.builder.sub(self.end, self.begin), self.begin
        for simd in (several, self.simd, self.one):
            stop = self.builder.sub(self.end, self.builder.and_(count, I64(simd.lanes - 1)))
            with looped(self.builder, start, stop, simd.lanes) as at:
                self._store(simd, phase, {self.column: at}, {}, None)
            start = stop

    def _row(self, row: ir.Value) -> None:
        counters = self._decoded(row)
        symbols: Values = {}
        for phase in self.program.phases:
            cells = [(f, *self._cell(f)) for f in phase.folds]
            if phase.stores or cells or phase.watches:
                self._columns(phase, counters, symbols, cells)
            for folding, cell, _ in cells:
                symbols[folding.symbol] = self._finished(folding, cell)
            for symbol, expr in phase.row_values:
                evaluate = self._evaluator(self.one, counters, symbols, None)
                (symbols[symbol],) = evaluate(expr)
            for number, symbol in phase.row_stores:
                self.one.store(symbols[symbol], self.operands[number], row)
            for symbol in phase.row_watches:
                self._watch(self.one, symbols[symbol], None)

    def _decoded(self, row: ir.Value) -> dict[int, ir.Value]:
        """The indices of the outer axes."""
        counters, rest = {}, row
        outer = self.program.outer or ()
        for k in reversed(range(len(outer))):
            counters[k] = self.builder.urem(rest, I64(outer[k])) if k else rest
            rest = self.builder.udiv(rest, I64(outer[k])) if k else rest
        return counters

    def _columns(
        self, phase: Phase, counters: dict[int, ir.Value], symbols: Values, cells: list[Any]
    ) -> None:
        """A row of ``phase``: several vectors at once, then one, and of the last its part."""
        columns, start = self.program.columns, 0
        for simd in self._widths(phase):
            whole = columns - columns % simd.lanes
            rest = columns - whole if simd is self.simd else 0
            if start == whole and not rest:
                continue
            before = dict(self.fixed[simd.lanes])
            wide = {s: self._splat(simd, v) for s, v in symbols.items()}
            known = {**self._evaluator(simd, counters, wide, None).values, **wide}
            into = self.fixed[simd.lanes]
            self._hoist(simd, into, phase.elements(), self._moves, known, counters)
            if start < whole:
                with looped(self.builder, I64(start), I64(whole), simd.lanes) as at:
                    self._vector(simd, phase, {**counters, self.column: at}, wide, cells, None)
            if rest:
                here = {**counters, self.column: I64(whole)}
                self._vector(simd, phase, here, wide, cells, rest)
            self.fixed[simd.lanes] = before
            start = whole

    def _widths(self, phase: Phase) -> list[Simd]:
        """Several vectors, as far as a row has them, and one."""
        beside = side_by_side(phase.elements(), True)
        while beside > 1 and beside * self.simd.lanes > self.program.columns:
            beside //= 2
        several = [Simd(self.builder, beside * self.simd.lanes)] if beside > 1 else []
        return [*several, self.simd]

    def _vector(
        self,
        simd: Simd,
        phase: Phase,
        counters: dict[int, ir.Value],
        symbols: Values,
        cells: list[Any],
        active: int | None,
    ) -> None:
        self._store(simd, phase, counters, symbols, active)
        self._fold(cells, active)

    def _moves(self, e: Expr) -> bool:
        return e.op == "index" and e.attr == self.column

    def _splat(self, simd: Simd, value: ir.Value) -> ir.Value:
        return simd.splat(self.builder.extract_element(value, I32(0)))

    # -------------------------------------------------------------------------------- evaluation

    def _hoist_constants(self, simd: Simd) -> None:
        into = self.fixed[simd.lanes] = {}
        self._hoist(simd, into, self.roots, lambda e: e.op == "index")

    def _hoist(
        self,
        simd: Simd,
        into: Values,
        roots: Sequence[Expr],
        varies: Callable[[Expr], bool],
        known: Values | None = None,
        counters: dict[int, ir.Value] | None = None,
    ) -> None:
        """Evaluate now what does not depend on what ``varies``, or on symbols not ``known``."""
        moving: set[Expr] = set()
        constant = []
        for e in order(roots):
            unknown = e.op == "symbol" and e not in (known or {})
            if varies(e) or unknown or any(a in moving for a in e.args):
                moving.add(e)
            elif e.op not in ("const", "index", "symbol"):
                constant.append(e)
        outermost = [e for e in constant if e.dtype.kind == "f"]
        values = self._evaluator(simd, counters or {}, known or {}, None)
        for e in outermost:
            (into[e],) = values(e)

    def _evaluator(
        self, simd: Simd, counters: dict[int, ir.Value], symbols: Values, active: int | None
    ) -> Evaluator:
        values = {**self.fixed[simd.lanes], **symbols}
        for loop, counter in counters.items():
            value = simd.splat(counter)
            if loop == self.column and simd.lanes > 1:
                value = simd.add(value, simd.iota())
            values[index(loop)] = value

        def load(evaluator: Evaluator, e: Expr) -> ir.Value:
            number, (offset,) = e.attr, e.args
            pointer, dtype = self.operands[number], e.dtype
            step = stride(offset, self.column)
            if simd.lanes > 1 and step not in (0, 1):
                return simd.gather(dtype, pointer, evaluator(offset)[0], active)
            (first,) = scalars(offset)
            first = self.builder.extract_element(first, ir.IntType(32)(0))
            if simd.lanes > 1 and step == 0:
                scalar = self.one.load(dtype, pointer, first)
                return simd.splat(self.builder.extract_element(scalar, ir.IntType(32)(0)))
            return simd.load(dtype, pointer, first, active)

        evaluator = Evaluator(simd, values, load)
        single = simd.lanes == 1
        scalars = evaluator if single else self._evaluator(self.one, counters, {}, None)
        return evaluator

    def _store(
        self,
        simd: Simd,
        phase: Phase,
        counters: dict[int, ir.Value],
        symbols: Values,
        active: int | None,
    ) -> None:
        """The elements at the counters, all evaluated before the first is written."""
        evaluate = self._evaluator(simd, counters, symbols, active)
        values = evaluate(*(e for _, e in phase.stores))
        for value in evaluate(*phase.watches):
            self._watch(simd, value, active)
        for (number, _), value in zip(phase.stores, values, strict=True):
            place = counters[self.column]
            if number not in self.program.scratch:
                place = self._position(counters)
            simd.store(value, self.operands[number], place, active)
        self._last = evaluate

    def _watch(self, simd: Simd, value: ir.Value, active: int | None) -> None:
        """Remember whether a lane is NaN."""
        bits = simd.compare("!=", value, value)
        if active is not None:
            bits = self.builder.and_(bits, simd.mask(active))
        while bits.type.count > LANES_OF_A_MASK:
            half = bits.type.count // 2
            bits = self.builder.or_(self._part(bits, 0, half), self._part(bits, half, half))
        word = self.builder.bitcast(bits, ir.IntType(bits.type.count))
        before = self.builder.load(self.seen, typ=I64)
        self.builder.store(self.builder.or_(before, self.builder.zext(word, I64)), self.seen)

    def _part(self, value: ir.Value, first: int, count: int) -> ir.Value:
        """So many lanes of a vector, from ``first`` on."""
        lanes = ir.Constant(ir.VectorType(I32, count), list(range(first, first + count)))
        return self.builder.shuffle_vector(value, value, lanes)

    def _position(self, counters: dict[int, ir.Value]) -> ir.Value:
        position = counters[0]
        for loop, n in enumerate(self.program.shape[1:], start=1):
            position = self.builder.add(self.builder.mul(position, I64(n)), counters[loop])
        return position

    # ------------------------------------------------------------------------------------- folds

    def _cell(self, folding: Folding) -> tuple[ir.Value, ir.Value]:
        """Where a reduction adds up, and its identity."""
        dtype = folding.symbol.dtype
        none = self.simd.constant(dtype, identity_of(folding.fold, dtype))
        with self.builder.goto_entry_block():
            cell = self.builder.alloca(none.type)
        self.builder.store(none, cell)
        return cell, none

    def _fold(self, cells: list[Any], active: int | None) -> None:
        """Add what :meth:`_store` has evaluated to the cells, one vector after the other."""
        if not cells:
            return
        values = self._last(*(folding.element for folding, *_ in cells))
        for (folding, cell, none), value in zip(cells, values, strict=True):
            if active is not None:
                value = self.simd.where(self.simd.mask(active), value, none)
            for k in range(0, value.type.count, none.type.count):
                piece = self._part(value, k, none.type.count)
                total = self.builder.load(cell, typ=none.type)
                dtype = folding.symbol.dtype
                self.builder.store(combined(folding.fold, self.simd, total, piece, dtype), cell)

    def _finished(self, folding: Folding, cell: ir.Value) -> ir.Value:
        fold, dtype = folding.fold, folding.symbol.dtype
        none = self.simd.constant(dtype, 0)
        total = self.builder.load(cell, typ=none.type)
        total = self.simd.fold(total, lambda s, a, b: combined(fold, s, a, b, dtype))
        if fold.finish is None:
            return total
        acc = Expr("symbol", (), dtype, "acc")
        result = fold.finish(xp, acc, self.program.columns).astype(dtype)
        return Evaluator(self.one, {acc: total})(result)[0]
