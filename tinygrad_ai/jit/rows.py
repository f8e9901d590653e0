"""What a fused kernel computes, as expressions: for each row, loops over its columns in phases.

Within a phase elements are independent. A reduction along the row ends a phase: what reads its
result comes in a later one, where cheap values are computed again and others read back.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinygrad_ai.backend.scalar import Expr, cast, const, order, xp
from tinygrad_ai.jit.fuse import Fused, Rows
from tinygrad_ai.jit.lower import Operand, dot, index, load, moved_element
from tinygrad_ai.jit.program import WATCH, Equation, Var
from tinygrad_ai.jit.update import Update
from tinygrad_ai.jit.views import View
from tinygrad_ai.kernels.cpu.simd import padded
from tinygrad_ai.ops.lowering import Fold, IndexMap

CHEAP = {"add", "subtract", "multiply", "maximum", "minimum", "negative", "absolute", "where"}


@dataclass
class Folding:
    """A reduction along the row: ``element`` folded, its result known as ``symbol``."""

    fold: Fold
    element: Expr
    symbol: Expr


@dataclass
class Phase:
    """One loop over the columns, and what is computed of its reductions for each row."""

    stores: list[tuple[int, Expr]] = field(default_factory=list)
    folds: list[Folding] = field(default_factory=list)
    row_values: list[tuple[Expr, Expr]] = field(default_factory=list)  # symbol, expression
    row_stores: list[tuple[int, Expr]] = field(default_factory=list)
    watches: list[Expr] = field(default_factory=list)  # elements that must not be NaN
    row_watches: list[Expr] = field(default_factory=list)  # symbols

    def elements(self) -> list[Expr]:
        """What the loop computes."""
        return [*(e for _, e in self.stores), *(f.element for f in self.folds), *self.watches]


class RowProgram:
    """The phases of a kernel; ``operands`` are the arrays it reads and writes, in order.

    The first phase has no loop: it holds what rows need beforehand. ``scratch`` are operands that
    live for one row only; ``flag`` is the operand that a NaN raises, if there is one. Loops are
    numbered: the outer axes, then the columns.
    """

    def __init__(self, fused: Fused, kernel: Rows) -> None:
        self.fused, self.kernel = fused, kernel
        self.outer = kernel.outer
        self.columns = kernel.columns if kernel.outer is not None else kernel.size
        self.shape = (*(self.outer or ()), self.columns)
        self.operands: list[Var] = []
        self.offsets: dict[int, int] = {}  # where operands begin: not part of the code
        self.scratch: set[int] = set()
        self.writes: set[int] = set()
        self.touched: dict[int, int] = {}  # elements, of operands that are read in part
        self.maker = {v: e for e in kernel.equations for v in e.outputs}
        self.phase: dict[Var, int] = {}
        made = [e for e in kernel.equations if e.operation is not WATCH]
        for e in made:
            self.phase.update(dict.fromkeys(e.outputs, self._phase(e)))
        count = max(self.phase.values(), default=1) + 1
        self.phases = [Phase() for _ in range(count)]
        self._built: dict[tuple[Var, int], Expr] = {}
        for e in made:
            self._place(e)
        for e in kernel.equations:
            if e.operation is WATCH:
                self._watch(e.inputs[0])
        self.flag = self._number(fused.flag) if len(made) < len(kernel.equations) else None

    def key(self) -> str:
        """All that the code depends on, as text."""
        size = "flat" if self.outer is None else (self.outer[1:], self.columns)
        lines = [f"rows {size} {[v.dtype.name for v in self.operands]} {sorted(self.scratch)}"]
        for phase in self.phases:
            roots = [*phase.elements(), *(e for _, e in phase.row_values)]
            named = {e: k for k, e in enumerate(order(roots))}
            lines += [f"{e.op} {e.attr!r} {e.dtype} {[named[a] for a in e.args]}" for e in named]
            lines.append(f"stores {[(k, named[e]) for k, e in phase.stores]}")
            for f in phase.folds:
                lines.append(f"fold {f.symbol.attr} {named[f.element]} {described(f)}")
            lines.append(f"values {[(s.attr, named[e]) for s, e in phase.row_values]}")
            lines.append(f"row stores {[(k, s.attr) for k, s in phase.row_stores]}")
            lines.append(f"watches {[named[e] for e in phase.watches]} to {self.flag}")
            lines.append(f"row watches {[s.attr for s in phase.row_watches]}")
        return "\n".join(lines)

    def scratch_bytes(self) -> dict[int, int]:
        """The bytes of each scratch operand: a row."""
        return {k: padded(self.columns * self.operands[k].dtype.itemsize) for k in self.scratch}

    # ------------------------------------------------------------------------------------ phases

    def _phase(self, e: Equation) -> int:
        """The phase after which (rows) or in which (elements) the equation's value is there."""
        first = 0 if self._level(e.outputs[0]) == "row" and not _folds(e) else 1
        for v in e.reads():
            root = self.fused.views[v].root
            if root in self.maker:
                row = self._level(root) == "row"
                element = self._level(e.outputs[0]) == "full" or _folds(e)
                first = max(first, self.phase[root] + (row and element))
        return first

    def _level(self, v: Var) -> str:
        return self.kernel.made[v]

    def _place(self, e: Equation) -> None:
        """Note where the values of ``e`` are computed, folded and stored."""
        phase = self.phases[self.phase[e.outputs[0]]]
        if _folds(e):
            (out,) = e.outputs
            element = cast(self._operand(e, 0, self.phase[out]), out.dtype)
            phase.folds.append(Folding(e.operation.lower, element, self._symbol(out)))
        elif self._level(e.outputs[0]) == "row":
            for v, expr in zip(e.outputs, self._results(e, -1), strict=True):
                phase.row_values.append((self._symbol(v), expr))
        for v in e.outputs:
            if v in self.fused.stored:
                if self._level(v) == "row":
                    phase.row_stores.append((self._number(v, True), self._symbol(v)))
                else:
                    phase.stores.append((self._number(v, True), self._value(v, self.phase[v])))

    def _watch(self, v: Var) -> None:
        """Note where an array is looked at: where it is made, or where it can be read."""
        if v not in self.maker:
            whole = View.whole(v).reshaped(self.shape)
            assert whole is not None
            element = self._load(whole, [index(k) for k in range(len(self.shape))])
            self.phases[1].watches.append(element)
        elif self._level(v) == "row":
            self.phases[self.phase[v]].row_watches.append(self._symbol(v))
        else:
            self.phases[self.phase[v]].watches.append(self._value(v, self.phase[v]))

    # ------------------------------------------------------------------------------ expressions

    def _symbol(self, v: Var) -> Expr:
        rows = [u for u in self.maker if self._level(u) == "row"]
        return Expr("symbol", (), v.dtype, f"row{rows.index(v)}")

    def _number(self, v: Var, written: bool = False, offset: int = 0) -> int:
        for number, known in enumerate(self.operands):
            if known is v and self.offsets.get(number, 0) == offset:
                break
        else:
            number = len(self.operands)
            self.operands.append(v)
            self.offsets |= {number: offset} if offset else {}
        if written:
            self.writes.add(number)
        return number

    def _value(self, v: Var, phase: int) -> Expr:
        """The element of ``v``, a value made here, for use in ``phase``."""
        if self._level(v) == "row":
            return self._symbol(v)
        made = self.phase[v]
        if phase > made and (v in self.fused.stored or not self._is_cheap(v)):
            if v not in self.fused.stored and v not in self.operands:
                self.scratch.add(self._number(v, True))
                self.phases[made].stores.append((self._number(v), self._value(v, made)))
            at = [index(k) for k in range(len(self.shape))]
            whole = View.whole(v).reshaped(self.shape)
            assert whole is not None
            return self._load(whole, at)
        key = v, phase
        if key not in self._built:
            e = self.maker[v]
            for out, expr in zip(e.outputs, self._results(e, phase), strict=True):
                self._built[out, phase] = expr
        return self._built[key]

    def _is_cheap(self, v: Var) -> bool:
        e = self.maker[v]
        return e.name in CHEAP

    def _results(self, e: Equation, phase: int) -> tuple[Expr, ...]:
        lower = getattr(e.operation, "lower", None)
        if isinstance(lower, IndexMap):
            return (self._moved(lower, e),)
        given = [
            self._operand(e, k, phase) if isinstance(v, Var) else v for k, v in enumerate(e.inputs)
        ]
        if isinstance(e.operation, Update):
            return e.operation.scalar(*given)
        found = e.operation(*given, **e.params)
        return (found if isinstance(found, Expr) else const(found, e.outputs[0].dtype),)

    def _operand(self, e: Equation, k: int, phase: int) -> Expr:
        """Input ``k`` of an elementwise equation (or a fold) at the current element or row."""
        v = e.inputs[k]
        view = self.fused.views[v]
        if view.root in self.maker:
            return self._value(view.root, phase)
        row = self._level(e.outputs[0]) == "row" and not _folds(e)
        over = v.shape if _folds(e) else e.outputs[0].shape
        shape = (self.outer or ()) if row else self.shape
        seen = view.broadcast(over).reshaped(shape)
        assert seen is not None
        return self._load(seen, [index(n) for n in range(len(shape))])

    def _moved(self, rule: IndexMap, e: Equation) -> Expr:
        def operand(v: Var) -> Operand:
            view = self.fused.views[v]
            return Operand(v.shape, lambda at: self._load(view, at))

        moved, *others = map(operand, e.reads())
        (out,) = e.outputs
        first = len(self.shape) - out.ndim
        at = tuple(index(first + n) for n in range(out.ndim))
        return moved_element(rule, at, e.params, out.dtype, moved, others)

    def _load(self, view: View, at: Sequence[Any]) -> Expr:
        number = self._number(view.root, offset=view.offset)
        seen = min(view.elements, math.prod(self.shape))
        self.touched[number] = max(seen, self.touched.get(number, 0))
        if number in self.scratch:
            return load(number, view.root.aval, index(len(self.shape) - 1))
        return load(number, view.root.aval, dot(at, view.strides))


def described(folding: Folding) -> str:
    """A fold as text: what it combines, from what, to what."""
    return fold_key(folding.fold, folding.symbol.dtype)


def fold_key(fold: Fold, dtype: Any) -> str:
    """A fold of ``dtype`` as text."""
    acc, x = (Expr("symbol", (), dtype, name) for name in ("acc", "x"))
    finish = fold.finish and repr(fold.finish(xp, acc, 2).astype(dtype))
    return f"{fold.combine(xp, acc, x)!r} from {fold.identity} to {finish}"


def _folds(e: Equation) -> bool:
    return isinstance(getattr(e.operation, "lower", None), Fold)
