"""CPU code for a loop nest: explicit vectors through LLVM, called with addresses of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.backend.scalar import Expr, order, xp
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.jit.lower import (
    Aval,
    Nest,
    build_nest,
    elementwise_nest,
    identity_of,
    stride,
    vector_loop,
)
from tinygrad_ai.kernels.cpu import vmath
from tinygrad_ai.kernels.cpu.machine import Native
from tinygrad_ai.kernels.cpu.simd import I64, POINTER, Simd, element_type, host_lanes
from tinygrad_ai.ops.lowering import Fold

NAME = "kernel"


class CpuKernel:
    """A compiled nest, called with arrays of exactly its inputs' shapes and dtypes."""

    def __init__(self, nest: Nest, lanes: int | None = None) -> None:
        """Compile ``nest`` for vectors of ``lanes`` lanes (default: the host's registers)."""
        self.nest = nest
        reals = [a.dtype for a in nest.inputs + nest.outputs if a.dtype.kind == "f"]
        widest = max(reals, key=lambda dtype: dtype.itemsize, default=np.float32)
        self.lanes = lanes or host_lanes(widest)
        self.source = emit(nest, self.lanes)  #: LLVM IR
        self.native = Native(self.source, NAME, len(nest.outputs) + len(nest.inputs))

    def __call__(self, *arrays: np.ndarray[Any, Any]) -> Any:
        """Fresh outputs (one array, or a tuple where the function returned one)."""
        for k, (array, aval) in enumerate(zip(arrays, self.nest.inputs, strict=True)):
            if (array.shape, array.dtype) != aval:
                raise ShapeError(
                    f"kernel compiled for {aval.dtype} {aval.shape} was given "
                    f"{array.dtype} {array.shape} as input {k}"
                )
        inputs = [np.ascontiguousarray(a) for a in arrays]
        outputs = [np.empty(a.shape, a.dtype) for a in self.nest.outputs]
        self.native(*(a.ctypes.data for a in outputs + inputs))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def lower_cpu(
    primitive: Primitive,
    inputs: Sequence[Any],
    output: Aval,
    params: dict[str, Any] | None = None,
    lanes: int | None = None,
) -> CpuKernel:
    """The kernel of one primitive (see :func:`~tinygrad_ai.jit.lower.build_nest`)."""
    return CpuKernel(build_nest(primitive, inputs, output, params or {}), lanes)


def lower_elementwise(
    function: Callable[..., Any], inputs: Sequence[Any], lanes: int | None = None
) -> CpuKernel:
    """The fused kernel of a function of elements, e.g. a VJP rule or a whole activation."""
    return CpuKernel(elementwise_nest(function, inputs), lanes)


def emit(nest: Nest, lanes: int) -> str:
    """The LLVM IR of ``nest``: a function of the addresses of outputs, then inputs."""
    module = ir.Module(NAME)
    pointers = [POINTER] * (len(nest.outputs) + len(nest.inputs))
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), pointers), NAME)
    for argument in function.args[: len(nest.outputs)]:
        argument.add_attribute("noalias")
    _Writer(nest, lanes, function).write()
    return str(module)


class Evaluator:
    """Writes expressions as vectors, each once; leaves found in ``values`` are taken from there."""

    def __init__(
        self,
        simd: Simd,
        values: dict[Expr, ir.Value],
        load: Callable[[Evaluator, Expr], ir.Value] | None = None,
    ) -> None:
        self.simd, self.values, self.load = simd, values, load

    def __call__(self, *roots: Expr) -> list[ir.Value]:
        """The vectors of ``roots``."""
        for e in order(roots, enter=lambda e: e.op != "load" and e not in self.values):
            if e not in self.values:
                self.values[e] = self._write(e)
        return [self.values[root] for root in roots]

    def _write(self, e: Expr) -> ir.Value:
        if e.op == "const":
            return self.simd.constant(e.dtype, e.attr)
        if e.op == "load":
            assert self.load is not None
            return self.load(self, e)
        args = [self.values[a] for a in e.args]
        if e.op == "astype":
            return self.simd.cast(args[0], e.dtype)
        if e.op in vmath.FUNCTIONS and e.dtype.kind == "f":
            return vmath.FUNCTIONS[e.op](self.simd, *args)
        return getattr(self.simd, e.op)(*args)


class _Writer:
    """The loops of one nest, written into a function."""

    def __init__(self, nest: Nest, lanes: int, function: ir.Function) -> None:
        self.nest, self.function = nest, function
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.simd, self.one = Simd(self.builder, lanes), Simd(self.builder, 1)
        self.extents = nest.sizes + nest.folds
        self.vector = vector_loop(nest)
        self.across = self.vector >= len(nest.sizes)  # lanes are folded into each other
        self.counters: dict[int, ir.Value] = {}
        self.outputs = function.args[: len(nest.outputs)]
        self.inputs = function.args[len(nest.outputs) :]

    def write(self) -> None:
        body = self._folded if self.nest.fold else self._stored
        self._loops(range(len(self.nest.sizes)), body)
        self.builder.ret_void()

    # ------------------------------------------------------------------------------- loops

    @contextmanager
    def _loop(self, stop: int, step: int) -> Iterator[ir.Value]:
        """``for (i = 0; i < stop; i += step)``."""
        build, before = self.builder, self.builder.block
        head, body, done = (build.append_basic_block(n) for n in ("head", "body", "done"))
        build.branch(head)
        build.position_at_end(head)
        i = build.phi(I64)
        i.add_incoming(I64(0), before)
        build.cbranch(build.icmp_signed("<", i, I64(stop)), body, done)
        build.position_at_end(body)
        yield i
        i.add_incoming(build.add(i, I64(step)), build.block)
        build.branch(head)
        build.position_at_end(done)

    def _loops(self, loops: Sequence[int], body: Callable[[int | None], None]) -> None:
        """``body`` inside ``loops``; it gets the number of active lanes where not all are."""
        if not loops:
            return body(None)
        loop, inner = loops[0], loops[1:]
        extent = self.extents[loop]
        if loop != self.vector:
            with self._loop(extent, 1) as self.counters[loop]:
                self._loops(inner, body)
            return None
        # the vector loop is the innermost of the output's or of the folded ones
        whole = extent - extent % self.simd.lanes
        if whole:
            with self._loop(whole, self.simd.lanes) as self.counters[loop]:
                body(None)
        if whole < extent:
            self.counters[loop] = I64(whole)
            body(extent - whole)
        return None

    # -------------------------------------------------------------------------- evaluation

    def _evaluator(self, simd: Simd, active: int | None) -> Evaluator:
        values = {}
        for loop, counter in self.counters.items():
            value = simd.splat(counter)
            if loop == self.vector and simd.lanes > 1:
                value = simd.add(value, simd.iota())
            values[Expr("index", (), np.int64, loop)] = value

        def load(evaluator: Evaluator, e: Expr) -> ir.Value:
            pointer, (offset,) = self.inputs[e.attr], e.args
            step = stride(offset, self.vector)
            if simd.lanes > 1 and step not in (0, 1):
                return simd.gather(e.dtype, pointer, evaluator(offset)[0], active)
            (first,) = scalars(offset)
            first = self.builder.extract_element(first, ir.IntType(32)(0))
            if simd.lanes > 1 and step == 0:
                scalar = self.one.load(e.dtype, pointer, first)
                return simd.splat(self.builder.extract_element(scalar, ir.IntType(32)(0)))
            return simd.load(e.dtype, pointer, first, active)

        evaluator = Evaluator(simd, values, load)
        scalars = evaluator if simd.lanes == 1 else self._evaluator(self.one, None)
        return evaluator

    def _position(self) -> ir.Value:
        """The offset of the current element in the outputs."""
        position = I64(0)
        for loop, n in enumerate(self.nest.sizes):
            position = self.builder.add(self.builder.mul(position, I64(n)), self.counters[loop])
        return position

    def _stored(self, active: int | None) -> None:
        values = self._evaluator(self.simd, active)(*self.nest.results)
        for value, pointer in zip(values, self.outputs, strict=True):
            self.simd.store(value, pointer, self._position(), active)

    def _folded(self, active: int | None) -> None:
        """One vector of outputs (or, across lanes, one output), folded over the inner loops."""
        fold, simd = self.nest.fold, self.simd
        assert fold is not None
        first = [simd.constant(a.dtype, identity_of(fold, a.dtype)) for a in self.nest.outputs]
        cells = []
        for value in first:
            with self.builder.goto_entry_block():
                cells.append(self.builder.alloca(value.type))
            self.builder.store(value, cells[-1])

        def update(folding: int | None) -> None:
            values = self._evaluator(simd, folding if self.across else active)(*self.nest.results)
            for value, cell, none in zip(values, cells, first, strict=True):
                if folding is not None:
                    value = simd.where(simd.mask(folding), value, none)
                total = self.builder.load(cell, typ=value.type)
                self.builder.store(self._combine(simd, total, value), cell)

        self._loops(range(len(self.nest.sizes), len(self.extents)), update)
        for cell, aval, pointer in zip(cells, self.nest.outputs, self.outputs, strict=True):
            total = self.builder.load(cell, typ=ir.VectorType(element_type(aval.dtype), simd.lanes))
            final = self.one if self.across else simd
            total = simd.fold(total, self._combine) if self.across else total
            if fold.finish:
                acc = Expr("symbol", (), aval.dtype, "acc")
                result = fold.finish(xp, acc, math.prod(self.nest.folds))
                (total,) = Evaluator(final, {acc: total})(result.astype(aval.dtype))
            final.store(total, pointer, self._position(), None if self.across else active)

    def _combine(self, simd: Simd, a: ir.Value, b: ir.Value) -> ir.Value:
        assert self.nest.fold is not None
        return combined(self.nest.fold, simd, a, b, self.nest.outputs[0].dtype)


def combined(fold: Fold, simd: Simd, a: ir.Value, b: ir.Value, dtype: Any) -> ir.Value:
    """``fold.combine`` of two vectors."""
    acc, x = (Expr("symbol", (), dtype, name) for name in ("acc", "x"))
    return Evaluator(simd, {acc: a, x: b})(fold.combine(xp, acc, x))[0]
