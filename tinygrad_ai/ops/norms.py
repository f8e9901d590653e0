"""Logarithms of sums of exponentials, and lengths of vectors: reductions kept within range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import reduction
from tinygrad_ai.ops.elementwise import absolute, astype, exp, log, power, sqrt, square, where
from tinygrad_ai.ops.logic import isfinite
from tinygrad_ai.ops.lowering import Composite
from tinygrad_ai.ops.movement import reshape_
from tinygrad_ai.ops.reduce import (
    accumulator,
    amax,
    amax_,
    amin,
    quiet_of,
    shift,
    spread,
    sum,
    sum_,
)
from tinygrad_ai.ops.shapes import Axis, axes_of, count, kept_shape, on_arrays


def _floating(x: Any) -> Any:
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _logsumexp(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    x = _floating(x)
    if not count(x.shape, axis):
        return xp.full(xp.sum(x, axis=axis, keepdims=keepdims).shape, -math.inf, dtype=x.dtype)
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0).astype(x.dtype)
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=True, dtype=accumulator(x.dtype))
    result = (xp.log(total) + top).astype(x.dtype)
    return result if keepdims else xp.squeeze(result, axis=axis)


def _finite_or(x: Any, other: float) -> Any:
    return where(isfinite(x), x, other)


def _logsumexp_parts(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    top = _finite_or(amax_(x, axis=axis, keepdims=True), 0)
    result = log(sum_(exp(x - top), axis=axis, keepdims=True)) + top
    return result if keepdims else reshape_(result, shape=_dropped(x.shape, axis))


def _softmax_of(x: Any, y: Any, axis: tuple[int, ...]) -> Any:
    top = spread(y, x.shape, axis)
    return where(top == -math.inf, 0, exp(x - top))


logsumexp_ = reduction(
    "logsumexp",
    _logsumexp,
    vjp=lambda g, y, x, axis: spread(g, x.shape, axis) * _softmax_of(x, y, axis),
    quiet=quiet_of,
    batch=shift,
    lower=Composite(_logsumexp_parts),
    why="each element counts with its share of the sum of exponentials, its softmax",
)


def _dropped(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for k, n in enumerate(shape) if k not in axis)


def _norm(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """The root of the sum of squares; scaled by the largest where squares leave the range."""
    x = _floating(x)
    wide = x.astype(accumulator(x.dtype) or x.dtype, copy=False)
    flat = wide.reshape(-1)
    whole = len(axis) == x.ndim
    total = xp.dot(flat, flat) if whole else xp.sum(wide * wide, axis=axis, keepdims=True)
    limits = np.finfo(wide.dtype)
    if ((total > limits.tiny / limits.eps) & (total < math.inf)).all() or not x.size:
        result = xp.sqrt(total)
    else:
        size = xp.abs(wide)
        top = xp.max(size, axis=axis, keepdims=True)
        scale = xp.where((top == 0) | ~xp.isfinite(top), 1, top).astype(wide.dtype)
        size /= scale
        result = xp.sqrt(xp.sum(size * size, axis=axis, keepdims=True)) * scale
    shape = kept_shape(x.shape, axis) if keepdims else _dropped(x.shape, axis)
    return xp.reshape(result.astype(x.dtype), shape)


def _norm_parts(x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Always scaled: it costs less than to ask whether it must be."""
    top = amax_(absolute(x), axis=axis, keepdims=True)
    scale = where(top == 0, 1, _finite_or(top, 1))
    result = sqrt(sum_(square(x / scale), axis=axis, keepdims=True)) * scale
    return result if keepdims else reshape_(result, shape=_dropped(x.shape, axis))


def _norm_vjp(g: Any, y: Any, x: Any, axis: tuple[int, ...]) -> Any:
    length = spread(y, x.shape, axis)
    return where(length == 0, 0, spread(g, x.shape, axis) * (x / where(length == 0, 1, length)))


norm_ = reduction(
    "norm",
    _norm,
    vjp=lambda g, y, x, axis: _norm_vjp(g, y, x, axis),
    quiet=quiet_of,
    batch=shift,
    lower=Composite(_norm_parts),
    why="a length grows along its own direction x/‖x‖; at 0 the smallest subgradient is 0",
)

# --------------------------------------------------------------------------- the public faces


@on_arrays("x")
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log Σ exp over ``axis`` without overflow; -inf, with gradient 0, if all elements are."""
    return logsumexp_(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@on_arrays("x")
def norm(x: Any, ord: float | None = None, axis: Axis = None, keepdims: bool = False) -> Any:
    """The vector norm over ``axis`` (all elements without): 2 by default, or 1, 0, ±inf, p > 0.

    The 2-norm is scaled where it would overflow; its gradient at 0 is 0. ``ord`` with more than one
    axis means a matrix norm, as in NumPy: that is ``linalg.matrix_norm``, and here, like other
    values of ``ord``, it raises NotImplementedError.
    """
    axes = axes_of(axis, x.ndim)
    if isinstance(ord, str) or (ord is not None and len(axes) > 1):
        raise NotImplementedError(
            f"norm: ord={ord!r} over axes {axes} of shape {x.shape} is a matrix norm",
            "   help: linalg.matrix_norm has them; norm(x.flatten(), ord) is that of all elements",
        )
    if ord is None or ord == 2:
        return norm_(x, axis=axes, keepdims=keepdims)
    if ord == math.inf:
        return amax(absolute(x), axis, keepdims)
    if ord == -math.inf:
        return amin(absolute(x), axis, keepdims)
    if ord == 0:
        return sum(astype(x != 0, dtype=x.dtype), axis, keepdims)
    if ord == 1:
        return sum(absolute(x), axis, keepdims)
    if ord < 0:
        raise NotImplementedError(f"norm: ord={ord} is not supported; 0, 1, 2, p > 0 and ±inf are")
    return power(sum(power(absolute(x), ord), axis, keepdims), 1 / ord)
