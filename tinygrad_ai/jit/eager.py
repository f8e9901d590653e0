"""Kernels for eager calls: a rule on large arrays, traced and fused like a captured step.

The rule of a record, or of an optimiser, is all there is: run on variables once for each kind of
arguments it gives a program, and that the kernels that compiled steps have too.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Node, Primitive, guarded, mode, no_grad
from tinygrad_ai.backend import native
from tinygrad_ai.jit.capture import Capture
from tinygrad_ai.jit.plan import simplified
from tinygrad_ai.jit.program import Equation, Input, Program, Var
from tinygrad_ai.jit.update import VARYING, Update
from tinygrad_ai.kernels.cpu.memory import address
from tinygrad_ai.tensor import Tensor

Array = np.ndarray[Any, Any]


def forward_kernels(
    record: Primitive, arrays: Sequence[Any], params: dict[str, Any]
) -> Kernels | None:
    """The kernels of ``record`` for arrays like these; None where NumPy has to do a part of it."""
    return _kernels(record, lambda *inputs: record(*inputs, **params), arrays)


def backward_kernels(node: Node, i: int, arrays: Sequence[Any]) -> Kernels | None:
    """The kernels of the rule of input ``i``, guard included, on the cotangent and residuals."""

    def pull(g: Any, *residuals: Any) -> Any:
        saved = {
            k: (r.array if isinstance(r, Tensor) else r, None, 0)
            for k, r in zip(node.saved, residuals, strict=True)
        }
        twin = Node(node.primitive, node.edges, node.params, saved, node.shape, node.dtype)
        return guarded(twin, i, g, lift=True)

    return _kernels(node.primitive, pull, arrays, node.edges[i].shape)


def _kernels(
    record: Primitive, function: Callable[..., Any], arrays: Sequence[Any], *shapes: Any
) -> Kernels | None:
    from tinygrad_ai.jit.fuse import Fused, Rows  # noqa: PLC0415 - LLVM loads slowly
    from tinygrad_ai.jit.launches import Call, Lowering  # noqa: PLC0415

    program = traced(function, arrays) if native.fitting(arrays) else None
    if program is None:
        return None
    fused = Fused(program, together=True)
    (out,) = program.outputs
    launches = Lowering(fused, {}).launches
    if fused.views[out].root is not out or any(isinstance(each, Call) for each in launches):
        return None
    shapes = *shapes, *(a.shape for a in arrays if hasattr(a, "dtype"))
    if record.kind == "elementwise" and len(set(shapes)) == 1:  # one kernel for all shapes
        flat = [isinstance(each, Rows) and each.outer is None for each in fused.kernels]
        return Kernels(program, launches, None) if flat == [True] else None
    return Kernels(program, launches, out.shape)


def traced(function: Callable[..., Any], arrays: Sequence[Any]) -> Program | None:
    """The program of ``function``, whose inputs are the arrays, by position; None if it has none.

    That is where the result is made without any of them.
    """
    capture = Capture({})
    given = [
        Tensor.box(capture.input("argument", lambda: None, a, k)) if hasattr(a, "dtype") else a
        for k, a in enumerate(arrays)
    ]
    outer = mode.interpreter, mode.capture
    mode.interpreter = mode.capture = capture
    try:
        with no_grad():
            found = function(*given)
    finally:
        mode.interpreter, mode.capture = outer
    if not isinstance(found.array, Var):
        return None
    return simplified(Program(capture.inputs, capture.equations, [found.array]))


class Kernels:
    """The launches of a program, and where their operands are; called with the arguments.

    The result has ``shape``, or if that is None the shape that all the arguments have.
    """

    def __init__(
        self, program: Program, launches: Sequence[Any], shape: tuple[int, ...] | None
    ) -> None:
        (out,) = program.outputs
        self.shape, self.dtype = shape, out.dtype
        self.arguments = [i.key for i in program.inputs if i.kind == "argument"]
        constants = [i for i in program.inputs if i.kind == "constant"]
        self.constants = [i.fetch() for i in constants]
        order = [i.var for i in program.inputs if i.kind == "argument"]
        order += [*(i.var for i in constants), out]
        place = {v: n for n, v in enumerate(order)}
        self.sizes: list[int] = []  # bytes of the memory between launches
        self.uses: list[tuple[int, int]] = []  # which array, and how many bytes into it
        self.work = []
        for launch in launches:
            self.work.append((launch.native, 8 * len(self.uses), launch.total))
            for k, v in enumerate(launch.operands):
                if v not in place or k in launch.scratch:
                    place[v] = len(place)
                    self.sizes.append(launch.scratch.get(k, v.nbytes))
                self.uses.append((place[v], launch.offsets.get(k, 0) * v.dtype.itemsize))
        self.table = ctypes.c_void_p * len(self.uses)

    def __call__(self, arguments: Sequence[Any]) -> Array:
        """The result in fresh memory, on one thread: those of NumPy's BLAS would be in the way."""
        held = [np.ascontiguousarray(arguments[k]) for k in self.arguments]
        out = np.empty(held[0].shape if self.shape is None else self.shape, self.dtype)
        held += self.constants
        held.append(out)
        for size in self.sizes:
            held.append(np.empty(size, np.uint8))
        places = list(map(address, held))
        table = self.table(*[places[k] + skip for k, skip in self.uses])
        first = ctypes.addressof(table)
        for kernel, start, total in self.work:
            kernel(first + start, 0, out.size if self.shape is None else total, 0)
        return out


class UpdateKernel:
    """The rule of an optimiser as one kernel that changes weights and slots in place."""

    def __init__(self, operation: Update, dtype: np.dtype[Any]) -> None:
        from tinygrad_ai.jit.fuse import Fused  # noqa: PLC0415 - LLVM loads slowly
        from tinygrad_ai.jit.launches import Launch, Lowering  # noqa: PLC0415

        self.varying = operation.varying
        arrays = [Var((native.SMALL,), dtype) for _ in range(2 + len(operation.slots))]
        settings = [Var((), np.dtype(np.float64)) for _ in self.varying]
        written = [arrays[0], *arrays[2:]]
        outputs = [Var(v.shape, v.dtype) for v in written]
        given = [*arrays, *settings]
        inputs = [Input(v, "argument", lambda: None, k) for k, v in enumerate(given)]
        equation = Equation(operation, tuple(given), {}, tuple(outputs))
        (launch,) = Lowering(Fused(Program(inputs, [equation], outputs)), {}).launches
        assert isinstance(launch, Launch)
        self.kernel = launch.native
        home = dict(zip(outputs, written, strict=True))
        self.settings = ctypes.c_double * len(self.varying)
        self.order = [given.index(home.get(v, v)) for v in launch.operands]
        self.table = ctypes.c_void_p * len(self.order)

    def __call__(self, arrays: Sequence[Array], numbers: dict[str, Any]) -> None:
        """Apply the rule to ``[w, g, *slots]``, all contiguous."""
        settings = self.settings(*[numbers[name] for name in self.varying])
        first = ctypes.addressof(settings)
        places = list(map(address, arrays))
        places += range(first, first + 8 * len(settings), 8)
        table = self.table(*[places[k] for k in self.order])
        self.kernel(ctypes.addressof(table), 0, arrays[0].size, 0)


_updates: dict[Any, UpdateKernel | None] = {}  # None where NumPy has to do it


def updated(
    rule: Callable[..., None], w: Any, g: Any, slots: dict[str, Any], numbers: dict[str, Any]
) -> bool:
    """Whether the weights ``w`` and ``slots`` were updated in place, by a kernel made of ``rule``.

    They are if all are NumPy arrays of one dtype, float32 or float64, and the rule can be traced.
    Code is made for the truth of numbers, and for the values of other settings.
    """
    names = [name for name in slots if name != "step"]
    held = [w, g, *map(slots.__getitem__, names)]
    dtype = w.dtype
    for a in held:
        if type(a) is not np.ndarray or a.dtype != dtype or not a.flags.carray or not a.size:
            return False
    settings = [bool(v) if type(v) in VARYING else (type(v), v) for v in numbers.values()]
    key = rule, dtype, *names, *numbers, *settings
    try:
        kernel = _updates[key]
    except TypeError:  # a setting without a hash
        return False
    except KeyError:
        operation = Update(rule, names, numbers)
        known = dtype in native.FLOATS and operation.has_code(dtype)
        kernel = _updates[key] = UpdateKernel(operation, dtype) if known else None
    if kernel is None:
        return False
    kernel(held, numbers)
    return True
