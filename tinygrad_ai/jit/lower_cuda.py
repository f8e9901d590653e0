"""CUDA C for a loop nest: a grid-stride loop over the output, folds in one thread each.

The source has one ``extern "C"`` kernel whose parameters are the addresses of outputs, then inputs;
sizes are written into it. It is valid for NVRTC, which has no ``INFINITY``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.backend.scalar import Expr, cast, order, xp
from tinygrad_ai.jit.lower import Aval, Nest, build_nest, elementwise_nest, identity_of
from tinygrad_ai.kernels import C_FUNCTIONS, C_NAMES

TYPES = {
    "float32": "float",
    "float64": "double",
    "int32": "int",
    "int64": "long long",
    "bool": "bool",
}
OPERATORS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "quotient": "/",
    "bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^", "equal": "==", "not_equal": "!=",
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=",
}  # fmt: skip
ROUNDINGS = frozenset(("sqrt", "floor", "ceil", "trunc", "rint", "copysign"))
#: Patterns for the rest; {t} is the type.
PATTERNS = {
    "where": "{0} ? {1} : {2}",
    "negative": "-{0}",
    "astype": "({t}){0}",
    "maximum": "{0} > {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} < {1} || {0} != {0} ? {0} : {1}",
}


def lower_cuda(
    primitive: Primitive, inputs: Sequence[Any], output: Aval, params: dict[str, Any] | None = None
) -> str:
    """The CUDA C source of one primitive (see :func:`~tinygrad_ai.jit.lower.build_nest`)."""
    return emit(build_nest(primitive, inputs, output, params or {}))


def lower_elementwise(function: Callable[..., Any], inputs: Sequence[Any]) -> str:
    """The CUDA C source of the fused kernel of a function of elements."""
    return emit(elementwise_nest(function, inputs))


def emit(nest: Nest, name: str = "kernel") -> str:
    """The source of ``nest``."""
    return _Writer(nest, name).source()


def type_name(dtype: Any) -> str:
    """The C type of a dtype; raises TypeError for one that kernels do not hold."""
    name = np.dtype(dtype).name
    if name not in TYPES:
        raise TypeError(f"kernels hold {', '.join(TYPES)}, not {name}")
    return TYPES[name]


def literal(value: float, dtype: np.dtype[Any]) -> str:
    """A constant as C writes it."""
    if dtype.kind == "b":
        return str(value).lower()
    if dtype.kind == "i":  # C has no literal for the smallest integer
        digits = f"{value}LL" if value > -(2**63) else f"{2**63}ULL"
        return f"({type_name(dtype)}){digits}"
    if math.isfinite(value):
        return f"{value!r}{'f' if dtype.itemsize == 4 else ''}"
    if dtype.itemsize == 4:
        return f"__int_as_float({np.float32(value).view(np.int32):#x})"
    return f"__longlong_as_double({np.float64(value).view(np.int64):#x}LL)"


def operation(e: Expr, args: Sequence[str]) -> str:
    """One expression in C, of the names of its arguments."""
    real = e.args[0].dtype.kind == "f"
    if e.op in OPERATORS:
        return f"{args[0]} {OPERATORS[e.op]} {args[1]}"
    if e.op in PATTERNS:
        return PATTERNS[e.op].format(*args, t=type_name(e.dtype))
    if e.op == "invert":
        return ("!" if e.dtype.kind == "b" else "~") + args[0]
    if not real and e.op in ("fmod", "absolute"):
        return (
            f"{args[0]} % {args[1]}"
            if e.op == "fmod"
            else f"{args[0]} < 0 ? -{args[0]} : {args[0]}"
        )
    function = C_NAMES.get(e.op, e.op)
    if not real or function not in C_FUNCTIONS | ROUNDINGS | {"fabs"}:
        raise NotImplementedError(f"no CUDA code is written for {e.op} of {e.args[0].dtype}")
    return f"{function}{'f' if e.dtype.itemsize == 4 else ''}({', '.join(args)})"


class _Writer:
    def __init__(self, nest: Nest, name: str) -> None:
        self.nest, self.name = nest, name
        self.lines: list[str] = []
        self.depth = 0
        self.names = (f"v{k}" for k in count())

    def line(self, text: str) -> None:
        self.lines.append("  " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        self.line(head + " {")
        self.depth += 1
        yield
        self.depth -= 1
        self.line("}")

    def source(self) -> str:
        """The whole kernel."""
        nest = self.nest
        parameters = [
            *(f"{type_name(a.dtype)}* __restrict__ out{k}" for k, a in enumerate(nest.outputs)),
            *(f"const {type_name(a.dtype)}* __restrict__ in{k}" for k, a in enumerate(nest.inputs)),
        ]
        size = math.prod(nest.sizes)
        with self.block(f'extern "C" __global__ void {self.name}({", ".join(parameters)})'):
            self.line("const long long start = (long long)blockIdx.x * blockDim.x + threadIdx.x;")
            self.line("const long long step = (long long)gridDim.x * blockDim.x;")
            with self.block(f"for (long long at = start; at < {size}LL; at += step)"):
                self._indices()
                self._folded() if nest.fold else self._write(self._values(nest.results, {}))
        return "\n".join(self.lines) + "\n"

    def _indices(self) -> None:
        """The index of each output loop from the position of the element."""
        inner = 1
        for loop in reversed(range(len(self.nest.sizes))):
            size = max(self.nest.sizes[loop], 1)  # the loop of an empty output never runs
            divided = f"at / {inner}LL" if inner > 1 else "at"
            self.line(f"const long long i{loop} = {divided}{f' % {size}LL' if loop else ''};")
            inner *= size

    def _values(self, roots: Sequence[Expr], known: dict[Expr, str]) -> list[str]:
        """Statements that compute ``roots``, each subexpression once; their names."""
        for e in order(roots):
            if e in known:
                continue
            if e.op == "const":
                known[e] = literal(e.attr, e.dtype)
                continue
            if e.op == "index":
                known[e] = f"i{e.attr}"
                continue
            args = [known[a] for a in e.args]
            text = f"in{e.attr}[{args[0]}]" if e.op == "load" else operation(e, args)
            known[e] = next(self.names)
            self.line(f"const {type_name(e.dtype)} {known[e]} = {text};")
        return [known[root] for root in roots]

    def _write(self, values: Sequence[str]) -> None:
        for k, value in enumerate(values):
            self.line(f"out{k}[at] = {value};")

    def _folded(self) -> None:
        nest = self.nest
        assert nest.fold is not None
        accs = [Expr("symbol", (), a.dtype, f"acc{k}") for k, a in enumerate(nest.outputs)]
        for acc in accs:
            start = literal(identity_of(nest.fold, acc.dtype), acc.dtype)
            self.line(f"{type_name(acc.dtype)} {acc.attr} = {start};")
        depth = self.depth
        for k, n in enumerate(nest.folds, len(nest.sizes)):
            self.line(f"for (long long i{k} = 0; i{k} < {n}LL; ++i{k}) {{")
            self.depth += 1
        known = {acc: acc.attr for acc in accs}
        combined = [nest.fold.combine(xp, a, x) for a, x in zip(accs, nest.results, strict=True)]
        for acc, value in zip(accs, self._values(combined, known), strict=True):
            self.line(f"{acc.attr} = {value};")
        while self.depth > depth:
            self.depth -= 1
            self.line("}")
        finish = nest.fold.finish or (lambda xp, acc, n: acc)
        n = math.prod(nest.folds)
        results = [cast(finish(xp, acc, n), acc.dtype) for acc in accs]
        self._write(self._values(results, {acc: acc.attr for acc in accs}))
