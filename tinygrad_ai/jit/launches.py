"""From a fused group to something that can be launched: native code, or a call of NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.jit.cache import compiled
from tinygrad_ai.jit.fuse import Fused, Rows, Single
from tinygrad_ai.jit.library import lower
from tinygrad_ai.jit.lower_columns import CHAINS, emit_columns
from tinygrad_ai.jit.lower_rows import emit_rows
from tinygrad_ai.jit.patterns import Alike, Pattern
from tinygrad_ai.jit.products import Plus
from tinygrad_ai.jit.program import WATCH, Equation, Var
from tinygrad_ai.jit.rows import RowProgram, fold_key
from tinygrad_ai.jit.views import View
from tinygrad_ai.kernels.cpu.gemm import emit_product, prepared
from tinygrad_ai.kernels.cpu.machine import Native
from tinygrad_ai.kernels.cpu.pack import Packing, emit_pack
from tinygrad_ai.kernels.cpu.simd import host_lanes
from tinygrad_ai.ops.products import linear_

MOST_ALONE = 1 << 15  # elements that one thread does sooner than several


@dataclass(eq=False)
class Work:
    """What is done to ``operands``: the arithmetic of ``equations``, or a copy for others.

    ``writes`` are the operands that nothing has written before; if there are none, it goes on
    writing to the first. ``touched`` counts elements of operands that are not used as a whole.
    """

    name: str
    equations: list[Equation]
    operands: list[Var]
    writes: set[int]
    touched: dict[int, int]

    def reads(self) -> Iterator[Var]:
        """The roots that are read."""
        return (v for k, v in enumerate(self.operands) if k not in self.writes)

    def makes(self) -> Iterator[Var]:
        """The roots that are written."""
        return (v for k, v in enumerate(self.operands) if k in self.writes)

    def moved(self) -> tuple[int, int]:
        """The bytes read and written: what is touched of each root, once."""
        read: dict[Var, int] = {}
        written: dict[Var, int] = {}
        for k, v in enumerate(self.operands):
            of = written if k in (self.writes or {0}) else read
            size = self.touched.get(k, v.size) * v.dtype.itemsize
            of[v] = min(of.get(v, 0) + size, v.nbytes)
        return sum(read.values()), sum(written.values())


@dataclass(eq=False)
class Launch(Work):
    """Native code: ``total`` units of work, divided at multiples of ``grain``.

    ``scratch`` operands belong to this launch alone: their bytes for each thread. ``offsets`` say
    where operands begin, in elements.
    """

    native: Native
    source: Callable[[], str]  #: the LLVM IR
    total: int
    grain: int
    offsets: dict[int, int]
    scratch: dict[int, int]


@dataclass(eq=False)
class Call(Work):
    """A Python function that reads and writes arrays; ``reason`` says why it is not native."""

    run: Callable[[], None]
    reason: str


class Lowering:
    """The launches of a fused program, in order."""

    def __init__(self, fused: Fused, memory: dict[Var, Any]) -> None:
        self.fused, self.memory = fused, memory
        self.launches: list[Launch | Call] = []
        self.packed: dict[Any, Var] = {}
        self.known: dict[Any, Alike] = {}
        for kernel in fused.kernels:
            self.add(kernel)

    def add(self, kernel: Rows | Single) -> None:
        """Lower one group."""
        if isinstance(kernel, Rows):
            self._rows(kernel)
        elif kernel.kind == "columns":
            self._columns(kernel.equation)
        elif kernel.kind == "matmul":
            self._product(kernel.equation)
        elif kernel.kind == "library":
            lower(self, kernel.equation)
        else:
            self.launches.append(_call(self.fused, kernel, self.memory))

    def native(
        self,
        name: str,
        emit: partial[str],
        operands: list[Var],
        total: int,
        *,
        equations: Sequence[Equation] = (),
        key: str | None = None,
        writes: set[int] | None = None,
        offsets: dict[int, int] | None = None,
        touched: dict[int, int] | None = None,
        scratch: dict[int, int] | None = None,
        size: int = 0,
        unit: int = 1,
    ) -> None:
        """Append a launch of the kernel whose IR ``emit()`` gives.

        It does the arithmetic of ``equations``. ``key`` tells its code apart, by default the
        arguments of ``emit``. It writes its first operand unless ``writes`` says otherwise;
        ``size`` elements say whether threads share the work, in multiples of ``unit``.
        """
        assert not emit.keywords  # they would not be in the key
        code = compiled(f"{emit.func.__name__} {key or emit.args}", emit)
        grain = unit if size > MOST_ALONE else 0
        writes = {0} if writes is None else writes
        scratch = scratch or {}
        touched = (touched or {}) | dict.fromkeys(scratch, 0)
        what = name, list(equations), operands, writes, touched
        self.launches.append(Launch(*what, code, emit, total, grain, offsets or {}, scratch))

    def _product(self, e: Equation) -> None:
        """A matrix product, after operands have been copied to panels where that has to be."""
        (out,), (a, b, *added) = e.outputs, (self.fused.views[v] for v in e.reads())
        product, shape = e.operation, out.shape
        if isinstance(product, Plus):
            product, shape = product.product, product.shape
        batch, (m, k), n = shape[:-2], a.shape[-2:], shape[-1]
        if product is linear_:
            b = b._replace(
                shape=(*b.shape[:-2], k, n), strides=(*b.strides[:-2], *b.strides[:-3:-1])
            )
        a, b = a.broadcast((*batch, m, k)), b.broadcast((*batch, k, n))
        more = [d.broadcast(out.shape).reshaped(shape) for d in added]
        views = [a, b, *(d for d in more if d is not None)]
        assert len(views) == 2 + len(added)
        apart = views[2].strides[:-1] if added else None
        p, packings = prepared(shape, k, a.strides, b.strides, out.dtype.name, apart)
        operands = [out, *(v.root for v in views)]
        offsets = {number: v.offset for number, v in enumerate(views, 1)}
        touched = {number: v.elements for number, v in enumerate(views, 1)}
        for number, packing in packings.items():
            operands[number] = self._panels(views[number - 1], packing)
            offsets[number], touched[number] = 0, operands[number].size
        self.native(
            e.name,
            partial(emit_product, p),
            operands,
            p.units,
            equations=[e],
            offsets=offsets,
            touched=touched,
            size=out.size * k // 16,
        )

    def _panels(self, b: View, p: Packing) -> Var:
        """An operand in panels, made once for all products that want the same."""
        key = b, p
        if key not in self.packed:
            panels = self.packed[key] = Var((math.prod(p.batch), p.size), np.dtype(p.dtype))
            self.native(
                "pack",
                partial(emit_pack, p),
                [panels, b.root],
                p.units,
                offsets={1: b.offset},
                touched={1: b.elements},
                size=panels.size,
            )
        return self.packed[key]

    def _rows(self, kernel: Rows) -> None:
        """A fused kernel, divided by rows, or where it has none by vectors."""
        pattern = Pattern.of(self.fused, kernel)
        known = self.known.get(pattern.key)
        if known is None:
            known = Alike(RowProgram(self.fused, kernel), pattern.places)
            self.known[pattern.key] = known
        operands, offsets = known.operands(pattern.places)
        program = known.program
        flat = kernel.outer is None
        self.native(
            "+".join(dict.fromkeys(e.label for e in kernel.equations if e.outputs)) or WATCH.name,
            partial(emit_rows, program, known.lanes),
            operands,
            kernel.size if flat else kernel.rows,
            equations=kernel.equations,
            key=known.key,
            writes=program.writes,
            offsets=offsets,
            touched=program.touched,
            scratch=program.scratch_bytes(),
            size=kernel.size,
            unit=host_lanes() if flat else 1,
        )

    def _columns(self, e: Equation) -> None:
        """A reduction along leading axes, divided by the batch or by vectors of columns."""
        view, (out,), fold = self.fused.matrices(e), e.outputs, e.operation.lower
        assert view is not None
        batch, _, columns = view.shape
        dtypes = out.dtype, view.root.dtype
        self.native(
            e.name,
            partial(emit_columns, fold, view.shape, view.strides[:2], dtypes),
            [out, view.root],
            batch if batch > 1 else columns,
            key=f"{fold_key(fold, out.dtype)} {view.shape} {view.strides[:2]} {dtypes}",
            equations=[e],
            offsets={1: view.offset},
            touched={1: view.elements},
            size=view.root.size,
            unit=1 if batch > 1 else CHAINS * host_lanes(out.dtype),
        )


def _call(fused: Fused, single: Single, memory: dict[Var, Any]) -> Call:
    e = single.equation
    views = [fused.views[v] if isinstance(v, Var) else v for v in e.inputs]

    def run() -> None:
        given = [v.array(memory[v.root]) if hasattr(v, "root") else v for v in views]
        found = e.evaluate(given)
        for out, value in zip(e.outputs, found, strict=True):
            np.copyto(memory[out], value)

    seen = [v for v in views if isinstance(v, View)]
    operands = [*e.outputs, *(v.root for v in seen)]
    writes = set(range(len(e.outputs)))
    touched = {k: v.elements for k, v in enumerate(seen, start=len(writes))}
    return Call(e.name, [e], operands, writes, touched, run, single.reason)
