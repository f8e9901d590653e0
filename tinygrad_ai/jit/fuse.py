"""Fusion: which equations become one kernel.

A kernel works through *rows*: a space of ``rows`` (one or more outer axes) times ``columns``. What
is computed from the same element, from the row's own results (a reduction along it), or from
arrays that earlier kernels have finished, can be in it; everything else starts a kernel of its own.
So softmax, or a layer's normalisation, is one pass over rows that stay in the cache, and a chain of
elementwise operations is one loop.

Equations are taken in the program's order; each joins the newest kernel that it fits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinygrad_ai.jit.forms import FEW, LARGE
from tinygrad_ai.jit.library import HELD, covers, held, in_pieces
from tinygrad_ai.jit.products import Plus
from tinygrad_ai.jit.program import WATCH, Equation, Program, Var
from tinygrad_ai.jit.update import Update
from tinygrad_ai.jit.views import AFFINE, View
from tinygrad_ai.ops.lowering import Fold, IndexMap
from tinygrad_ai.ops.movement import reshape_
from tinygrad_ai.ops.products import linear_, matmul_

SHORT = 64  # columns below which a row is no work to speak of
MOST_OPERATIONS = 60  # in one kernel: more would spill registers

# why an equation joins no kernel
FROM_SINGLE = "it reads what a kernel of a single operation makes"
UNRELATED = "it shares no array with an earlier kernel"
OTHER_ORDER = "it needs what the kernel makes or reads in another order"


@dataclass(eq=False)
class Rows:
    """A fused kernel: equations over ``outer`` axes times ``columns``.

    ``reason`` says why the first of them joined no earlier kernel.
    """

    outer: tuple[int, ...] | None  #: None while any shape of ``size`` elements will do
    columns: int
    size: int
    equations: list[Equation] = field(default_factory=list)
    made: dict[Var, str] = field(default_factory=dict)  #: what it computes: "full" or "row"
    near: set[Var] = field(default_factory=set)  #: the roots that it reads
    folds: bool = False
    reason: str = ""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.size // max(self.columns, 1)


@dataclass(eq=False)
class Single:
    """An equation that is a kernel (or a call) of its own: ``kind`` says which, ``reason`` why."""

    equation: Equation
    kind: str  #: "matmul", "columns", "library" or "call"
    reason: str

    @property
    def equations(self) -> list[Equation]:
        """Itself."""
        return [self.equation]


class Fused:
    """The kernels of ``program`` in order, and how their operands are reached.

    ``stored`` are the variables that have memory of their own. ``views`` says for a variable that a
    movement makes where it stands in one that has. ``flag`` is what a NaN that is seen raises.
    """

    def __init__(self, program: Program, together: bool = False) -> None:
        """``together``: equations share a kernel too that have nothing in common but the end."""
        self.program, self.together = program, together
        self.views: dict[Var, View] = {i.var: View.whole(i.var) for i in program.inputs}
        self.kernels: list[Rows | Single] = []
        self.place: dict[Var, int] = {i.var: -1 for i in program.inputs}  # root -> its kernel
        self.inputs: set[Var] = {i.var for i in program.inputs}
        self.flag = Var((1,), np.dtype(np.int64))
        for e in program.equations:
            self._add(e)
        self.stored = self._stored()

    # -------------------------------------------------------------------------------- grouping

    def _add(self, e: Equation) -> None:
        if e.operation is WATCH:
            self._watch(e)
            return
        view = self._view(e)
        if view is not None:
            self.views[e.outputs[0]] = view
            return
        for v in e.outputs:
            self.views[v] = View.whole(v)
        space = self._space(e)
        if space is None:
            self._start(self._single(e), e)
            return
        if isinstance(e.operation, Update):  # nothing else is done on the way
            floor, reason = len(self.kernels), "an optimiser's update, done in place"
        else:
            floor, reason = max((self.place[self.views[v].root] for v in e.reads()), default=-1), ""
        for k in range(len(self.kernels) - 1, max(floor, 0) - 1, -1):
            kernel = self.kernels[k]
            if isinstance(kernel, Rows):
                refusal = self._join(kernel, k, e, space)
                if refusal is None:
                    self.place.update(dict.fromkeys(e.outputs, k))
                    return
                reason = reason or refusal
        if self.kernels:
            reason = reason or (FROM_SINGLE if floor >= 0 else UNRELATED)
        kernel = Rows(None, space.columns, math.prod(space.shape), reason=reason)
        fits = self._join(kernel, len(self.kernels), e, space) is None
        self._start(kernel if fits else self._single(e), e)  # not a fold of a transposed view

    def _watch(self, e: Equation) -> None:
        """Look at an array where it is made; where that is no fused loop, in one of its own."""
        root = self.views[next(e.reads())].root
        k = self.place[root]
        if k < 0 or not isinstance(self.kernels[k], Rows):
            k = len(self.kernels)
            self.kernels.append(Rows(None, root.shape[-1] if root.ndim else 1, root.size))
        self.kernels[k].equations.append(Equation(WATCH, (root,), {}, ()))

    def _view(self, e: Equation) -> View | None:
        """The output as a view of what is there already, if it is one."""
        if e.operation in AFFINE:
            return self.views[next(e.reads())].moved(e)
        if isinstance(getattr(e.operation, "lower", None), Fold):  # along axes of size 1
            (x,), (y,) = e.reads(), e.outputs
            if x.dtype == y.dtype and x.size == y.size:
                return self.views[x].reshaped(y.shape)
        return None

    def _single(self, e: Equation) -> Single:
        arrays = *e.reads(), *e.outputs
        if covers(e):
            return Single(e, "library", "an operation that has its own kernel")
        if not held(e):
            others = " or ".join(sorted({v.dtype.name for v in arrays if v.dtype not in HELD}))
            why = f"no kernel holds {others}" if others else "it has no elements"
            return Single(e, "call", why)
        if e.operation in (matmul_, linear_) or isinstance(e.operation, Plus):
            kinds = sorted({v.dtype.name for v in arrays})
            if len(kinds) == 1 and e.outputs[0].dtype.kind == "f":
                return Single(e, "matmul", "a product of matrices")
            return Single(e, "call", f"a product of {' and '.join(kinds)}")
        folds = isinstance(getattr(e.operation, "lower", None), Fold)
        if folds and self.matrices(e) is not None:
            return Single(e, "columns", "a reduction over leading axes")
        if isinstance(e.operation, Update):
            return Single(e, "call", "its rule runs on whole arrays only")
        if folds or e.operation.kind == "elementwise":
            return Single(e, "call", "no rows and columns lead through its operand as it lies")
        return Single(e, "call", "its record does not say how to lower it")

    def matrices(self, e: Equation) -> View | None:
        """The operand of a reduction along neighbouring axes as (batch, rows, columns).

        None where it is none of that kind, or where the columns do not lie side by side.
        """
        (x,) = e.reads()
        axes = [k for k in e.params["axis"] if x.shape[k] != 1]
        if not axes:  # nothing to add up, but another dtype
            return None
        between = x.shape[axes[0] : axes[-1] + 1]
        if math.prod(x.shape[k] for k in axes) != math.prod(between):
            return None
        rows, batch = math.prod(between), math.prod(x.shape[: axes[0]])
        seen = self.views[x].reshaped((batch, rows, x.size // (batch * rows)))
        return seen if seen is not None and seen.strides[2] == 1 else None

    def _start(self, kernel: Rows | Single, e: Equation) -> None:
        self.place.update(dict.fromkeys(e.outputs, len(self.kernels)))
        self.kernels.append(kernel)

    def _space(self, e: Equation) -> Space | None:
        """The shape an equation loops over; None for what is no fused loop."""
        lower = getattr(e.operation, "lower", None)
        if not held(e):
            return None
        if isinstance(lower, IndexMap):
            shape = e.outputs[0].shape
            if e.operation is reshape_ and in_pieces(self.views[next(e.reads())], shape[-1]):
                return None  # in a loop over its columns each element would be looked for
            return Space(shape, shape[-1] if shape else 1, False)
        if isinstance(e.operation, Update) and not e.operation.has_code(e.outputs[0].dtype):
            return None
        if e.operation.kind == "elementwise":
            return Space(e.outputs[0].shape, self._columns(e), False)
        if isinstance(lower, Fold):
            (x,) = e.reads()
            axes = [k for k in e.params["axis"] if x.shape[k] != 1]
            kept = [k for k in range(x.ndim) if k not in axes and x.shape[k] != 1]
            if not axes or (kept and max(kept) > min(axes)):
                return None  # not along the last axes
            return Space(x.shape, math.prod(x.shape[k] for k in axes), True)
        return None

    def _columns(self, e: Equation) -> int:
        """The last axis of an elementwise equation; if that is short, with axes before it.

        So a channel's bias is added along all of a small picture.
        """
        (out,) = e.outputs[:1]
        columns, rest = 1, list(out.shape)
        while rest and columns < SHORT:
            *rest, last = rest
            shape = (*rest, columns * last)
            if columns > 1 and any(v.reshaped(shape) is None for v in self._aligned(e, out.shape)):
                break
            columns *= last
        return columns

    def _join(self, kernel: Rows, k: int, e: Equation, space: Space) -> str | None:
        """Put ``e`` into ``kernel``, the k-th, if its space and its operands fit there.

        None if they do, else why not: nothing where the two have nothing in common.
        """
        if kernel.equations and not (self.together or self._related(kernel, e)):
            return ""
        if len(kernel.equations) >= MOST_OPERATIONS:
            return f"a kernel holds at most {MOST_OPERATIONS} operations"
        size = math.prod(space.shape)
        if size == kernel.size:
            columns = space.columns if kernel.outer is None else kernel.columns
            if space.folds and columns != space.columns:
                return "it reduces rows of another length"
            if space.folds and kernel.equations and size > LARGE and size < FEW * columns:
                return "its rows are too few for threads to share"
            named = [kernel.outer] if kernel.outer is not None else _outers(space.shape, columns)
            outer = next(
                (o for o in named if self._fits(k, kernel, e, space.shape, o, columns)), None
            )
            if outer is None:
                return OTHER_ORDER
            if space.folds or self._needs_rows(e, space):
                kernel.outer, kernel.columns = outer, columns
            level = "row" if space.folds else "full"
        elif kernel.folds and not space.folds and size == kernel.rows:
            if not self._row_fits(k, kernel, e, space.shape):
                return OTHER_ORDER
            level = "row"
        else:
            return "it loops over another number of elements"
        kernel.equations.append(e)
        kernel.near.update(self.views[v].root for v in e.reads())
        kernel.folds |= space.folds
        kernel.made.update(dict.fromkeys(e.outputs, level))
        return None

    def _related(self, kernel: Rows, e: Equation) -> bool:
        """Whether the equation has something to do with what is in the kernel."""
        return any(
            self.views[v].root in kernel.made or (v.size > 1 and self.views[v].root in kernel.near)
            for v in e.reads()
        )

    def _needs_rows(self, e: Equation, space: Space) -> bool:
        """Whether an operand is read other than straight through."""
        if isinstance(getattr(e.operation, "lower", None), IndexMap):
            return True
        return any(
            not (view.is_whole(space.shape) or view.root.size == 1)
            for view in self._aligned(e, space.shape)
        )

    def _aligned(self, e: Equation, shape: tuple[int, ...]) -> Iterator[View]:
        """The operands of an elementwise equation or a fold as views of ``shape``."""
        for v in e.reads():
            yield self.views[v].broadcast(shape)

    def _fits(
        self, k: int, kernel: Rows, e: Equation, shape: Any, outer: tuple[int, ...], columns: int
    ) -> bool:
        """Whether ``e``, which loops over ``shape``, can be seen over these rows and columns."""
        if isinstance(getattr(e.operation, "lower", None), IndexMap):
            named = shape[:-1] or (1,)
            return outer == named and all(self.place[self.views[v].root] != k for v in e.reads())
        for view in self._aligned(e, shape):
            seen = view.reshaped((*outer, columns))
            if seen is None:
                return False
            level = kernel.made.get(view.root)
            if level == "full" and not seen.is_whole(seen.shape):
                return False
            if level == "row" and not _is_row(seen, outer):
                return False
        return True

    def _row_fits(self, k: int, kernel: Rows, e: Equation, shape: tuple[int, ...]) -> bool:
        """Whether ``e`` has one element for each row."""
        if isinstance(getattr(e.operation, "lower", None), IndexMap):
            return False
        outer = kernel.outer or ()
        for view in self._aligned(e, shape):
            seen = view.reshaped(outer)
            level = kernel.made.get(view.root)
            if seen is None or level == "full" or (level and not seen.is_whole(outer)):
                return False
        return True

    # ------------------------------------------------------------------------------ what is kept

    def _stored(self) -> set[Var]:
        """Roots that need memory: read by another kernel than the one that makes them, or handed
        out."""
        kept = {self.views[v].root for v in self.program.outputs}
        for k, kernel in enumerate(self.kernels):
            for e in kernel.equations:
                if isinstance(kernel, Single):
                    kept.update(e.outputs)
                for v in e.reads():
                    root = self.views[v].root
                    if self.place[root] != k:
                        kept.add(root)
        return kept - self.inputs


@dataclass(frozen=True)
class Space:
    """What an equation loops over."""

    shape: tuple[int, ...]
    columns: int
    folds: bool


def _is_row(view: View, outer: tuple[int, ...]) -> bool:
    """Whether a view over rows and columns is the same along the columns, one element a row."""
    rows = View(view.root, view.offset, outer, view.strides[:-1])
    flat = view.shape[-1] == 1 or view.strides[-1] == 0
    return flat and rows.is_whole(outer)


def _outers(shape: tuple[int, ...], columns: int) -> list[tuple[int, ...]]:
    """Ways to name the rows of ``shape``: as one axis, as its own, or with those of size 1."""
    rows = math.prod(shape) // columns
    own: list[int] = []
    for n in shape:
        if math.prod(own) == rows:
            break
        own.append(n)
    names = dict.fromkeys([(rows,), tuple(own), shape[:-1]])
    return [name for name in names if name and math.prod(name) == rows]
