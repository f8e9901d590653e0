"""Composite operations replaced by the simpler ones they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import mode
from tinygrad_ai.autodiff.lowering import Composite, Fold
from tinygrad_ai.jit.capture import Capture
from tinygrad_ai.jit.program import Equation, Program, Var
from tinygrad_ai.ops.products import linear_, matmul_, matrix_transpose
from tinygrad_ai.ops.reduce import mean_, sum_
from tinygrad_ai.tensor import Tensor


def expanded(program: Program) -> Program:
    """``program`` with every composite (of dtypes that kernels hold) written out.

    A sum or mean over axes with others between them becomes several, one group of axes at a time.
    """
    inputs = list(program.inputs)
    equations: list[Equation] = []
    replaced: dict[Var, Any] = {}
    for e in program.equations:
        body = _body(e)
        if body is None:
            equations.append(e)
            continue
        given = [replaced.get(v, v) if isinstance(v, Var) else v for v in e.inputs]
        capture = Capture({})
        out = _captured(capture, body, given, e.params)
        inputs += capture.inputs
        equations += expanded(Program([], capture.equations, [out])).equations
        replaced[e.outputs[0]] = out
    whole = program.rewritten(replaced, equations)
    return Program(inputs, whole.equations, whole.outputs)


def _body(e: Equation) -> Callable[..., Any] | None:
    lower = getattr(e.operation, "lower", None)
    held = all(v.dtype in (np.float32, np.float64) for v in e.outputs)
    if isinstance(lower, Composite) and held:
        return lower.body
    if (
        e.operation in (matmul_, linear_)
        and held
        and 1 in (e.inputs[0].shape[-1], e.outputs[0].shape[-1])
    ):
        return _thin if e.operation is matmul_ else _thin_linear
    apart = isinstance(lower, Fold) and len(_runs(next(e.reads()).shape, e.params["axis"])) > 1
    if apart and held and e.operation in (sum_, mean_):
        return _twice if e.operation is sum_ else _mean_twice
    return None


def _thin(a: Any, b: Any) -> Any:
    """A product with a vector, or of two: no tile would be full."""
    if a.shape[-1] == 1:
        return a * b
    column = matrix_transpose(b)
    return sum_(a * column, axis=(max(a.ndim, b.ndim) - 1,), keepdims=True)


def _thin_linear(x: Any, weight: Any) -> Any:
    return _thin(x, matrix_transpose(weight))


def _runs(shape: tuple[int, ...], axes: tuple[int, ...]) -> list[list[int]]:
    """The axes in groups that lie side by side; those of size 1 do not count."""
    runs: list[list[int]] = []
    apart = True
    for k in (k for k, n in enumerate(shape) if n != 1):
        if k in axes and not apart:
            runs[-1].append(k)
        elif k in axes:
            runs.append([k])
        apart = k not in axes
    return runs


def _twice(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """A sum along the last group of axes, then along the others."""
    last = _runs(x.shape, axis)[-1]
    part = sum_(x, axis=tuple(last), keepdims=True)
    whole = sum_(part, axis=tuple(k for k in axis if k not in last), keepdims=True)
    return whole if keepdims else whole.reshape([n for k, n in enumerate(x.shape) if k not in axis])


def _mean_twice(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    return _twice(x, axis, keepdims) / int(np.prod([x.shape[k] for k in axis]))


def _captured(
    capture: Capture, body: Callable[..., Any], given: list[Any], params: dict[str, Any]
) -> Var:
    outer = mode.interpreter, mode.capture
    mode.interpreter = mode.capture = capture
    try:
        boxed = [Tensor.box(v) if isinstance(v, Var) else v for v in given]
        return body(*boxed, **params).array
    finally:
        mode.interpreter, mode.capture = outer
