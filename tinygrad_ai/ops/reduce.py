"""Reductions: many elements folded into one, and the gradient spread back over them."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import opaque, reduction
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.ops.elementwise import astype, sqrt, square, where, widened
from tinygrad_ai.ops.logic import not_equal
from tinygrad_ai.ops.lowering import Composite, Fold
from tinygrad_ai.ops.movement import (
    broadcast_to_,
    flip_,
    reshape,
    reshape_,
)
from tinygrad_ai.ops.scan import before
from tinygrad_ai.ops.shapes import Axis, axes_of, count, kept_shape, on_arrays, one_axis, shifted


def spread(g: Any, shape: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """A reduced ``g`` laid out again over the axes that were folded."""
    return broadcast_to_(reshape_(g, shape=kept_shape(shape, axis)), shape=shape)


def quiet_of(g: Any, in_shape: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    """Where the elements were folded into one whose cotangent is exactly 0."""
    return spread(g == 0, in_shape, axis)


def accumulator(dtype: Any) -> Any:
    """The dtype in which to accumulate: float32 for halves."""
    return np.float32 if dtype == np.float16 else None


def shift(size: int, axis: tuple[int, ...], **rest: Any) -> dict[str, Any]:
    return {"axis": shifted(axis), **rest}


# -------------------------------------------------------------------------------- sum and mean

sum_ = reduction(
    "sum",
    lambda xp, x, *, axis, keepdims: _sum(xp, x, axis, keepdims),
    vjp=lambda g, in_shape, axis: spread(g, in_shape, axis),
    jvp="linear",
    batch=shift,
    lower=Fold(lambda xp, total, x: total + x, 0.0),
    why="every term counts once, so each gets the whole gradient",
)


def _sum(xp: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    wide = accumulator(x.dtype)
    total = xp.sum(x, axis=axis, keepdims=keepdims, dtype=wide)
    return total if wide is None else total.astype(x.dtype)


def _mean(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    dtype = x.dtype if x.dtype.kind == "f" else np.float64
    total = xp.sum(x, axis=axis, keepdims=keepdims, dtype=accumulator(dtype) or dtype)
    return (total / count(x.shape, axis)).astype(dtype)


mean_ = reduction(
    "mean",
    _mean,
    vjp=lambda g, in_shape, axis: spread(widened(g) / count(in_shape, axis), in_shape, axis),
    jvp="linear",
    batch=shift,
    lower=Fold(lambda xp, total, x: total + x, 0.0, lambda xp, total, n: total / n),
    why="every term counts 1/n",
)


def _variance(xp: Any, x: Any, axis: tuple[int, ...], keepdims: bool, ddof: float) -> Any:
    """The variance, of halves in float32."""
    dtype = accumulator(x.dtype) or (x.dtype if x.dtype.kind == "f" else np.float64)
    centred = x - _mean(xp, x.astype(dtype, copy=False), axis=axis, keepdims=True)
    centred -= _mean(xp, centred, axis=axis, keepdims=True)  # see _centred
    centred *= centred
    return xp.sum(centred, axis=axis, keepdims=keepdims) / max(count(x.shape, axis) - ddof, 0)


def _rounded(y: Any, x: Any) -> Any:
    return y.astype(x.dtype) if x.dtype.kind == "f" else y


def _centred(x: Any, axis: tuple[int, ...]) -> Any:
    """``x`` minus its mean, twice: the second mean is what the first one's rounding left.

    So equal elements, 0.1 say, are at exactly 0 though their mean is not exactly theirs.
    """
    x = widened(x)
    x = x - mean_(x, axis=axis, keepdims=True)
    return x - mean_(x, axis=axis, keepdims=True)


def _variance_parts(x: Any, axis: tuple[int, ...], keepdims: bool, ddof: float) -> Any:
    squares = square(_centred(x, axis))
    return sum_(squares, axis=axis, keepdims=keepdims) / max(count(x.shape, axis) - ddof, 0)


var_ = reduction(
    "var",
    lambda xp, x, *, axis, keepdims, ddof: _rounded(_variance(xp, x, axis, keepdims, ddof), x),
    vjp=lambda g, x, axis, ddof: (
        spread(g, x.shape, axis) * (2 * _centred(x, axis) / max(count(x.shape, axis) - ddof, 0))
    ),
    quiet=quiet_of,
    batch=shift,
    lower=Composite(_variance_parts),
    why="moving x moves the mean too, but deviations add up to 0, so 2·(x - mean)/(n - ddof) stays",
)
std_ = reduction(
    "std",
    lambda xp, x, *, axis, keepdims, ddof: _rounded(
        xp.sqrt(_variance(xp, x, axis, keepdims, ddof)), x
    ),
    vjp=lambda g, y, x, axis, ddof: _std_vjp(g, y, x, axis, ddof),
    quiet=quiet_of,
    batch=shift,
    lower=Composite(lambda x, **params: sqrt(_variance_parts(x, **params))),
    kinks=lambda x: x - mean_(x, axis=tuple(range(x.ndim)), keepdims=True),
    why="√var, with the smallest subgradient 0 where all elements are equal",
)


def _std_vjp(g: Any, y: Any, x: Any, axis: tuple[int, ...], ddof: float) -> Any:
    deviation = spread(widened(y), x.shape, axis)
    slope = _centred(x, axis) / where(deviation == 0, 1, deviation)
    weight = max(count(x.shape, axis) - ddof, 0)
    return where(deviation == 0, 0, spread(g, x.shape, axis) * (slope / weight))


# ------------------------------------------------------------------------- extremes and products


def _extreme_vjp(g: Any, y: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """The gradient shared evenly by the elements equal to the extreme (by NaNs, if it is NaN)."""
    ties = (x == spread(y, x.shape, axis)) | not_equal(x, x)
    shares = astype(ties, dtype=np.result_type(x.dtype, np.float32))  # halves cannot count so far
    shares = shares / sum_(shares, axis=axis, keepdims=True)
    return where(ties, spread(g, x.shape, axis) * shares, 0)


amax_ = reduction(
    "amax",
    lambda xp, x, *, axis, keepdims: xp.max(x, axis=axis, keepdims=keepdims),
    vjp=lambda g, y, x, axis: _extreme_vjp(g, y, x, axis),
    batch=shift,
    lower=Fold(lambda xp, top, x: xp.maximum(x, top), -math.inf),
    why="only the largest element counts; ties share evenly",
)
amin_ = reduction(
    "amin",
    lambda xp, x, *, axis, keepdims: xp.min(x, axis=axis, keepdims=keepdims),
    vjp=lambda g, y, x, axis: _extreme_vjp(g, y, x, axis),
    batch=shift,
    lower=Fold(lambda xp, low, x: xp.minimum(x, low), math.inf),
    why="only the smallest element counts; ties share evenly",
)


def _prod_vjp(g: Any, x: Any, axis: tuple[int, ...]) -> Any:
    (k,) = axis
    after = flip_(before(flip_(x, axis=axis), k), axis=axis)
    return spread(g, x.shape, axis) * (before(x, k) * after) if x.shape[k] else x


def _prod(xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """The product; where it overflows or underflows, smallest factors are paired with largest."""
    plain = xp.prod(x, axis=axis, keepdims=True, dtype=accumulator(x.dtype))
    if x.dtype.kind == "f":
        doubtful = ~xp.isfinite(plain) | (plain == 0)
        if doubtful.any():
            last = tuple(range(-len(axis), 0))
            rows = xp.moveaxis(x, axis, last)[xp.squeeze(doubtful, axis=axis)]
            rows = rows.reshape(-1, count(x.shape, axis)).astype(plain.dtype)
            plain[doubtful] = _paired_product(xp, rows)
        plain = plain.astype(x.dtype)
    return plain if keepdims else xp.squeeze(plain, axis=axis)


def _paired_product(xp: Any, rows: Any) -> Any:
    """The product of each row, of numbers that may overflow or underflow on the way."""
    odd = (rows == 0) | ~xp.isfinite(rows)
    decided = odd.any(axis=-1)  # the other factors only give the sign
    signs = xp.prod(xp.where(odd, rows, xp.sign(rows)), axis=-1)
    rest = rows[~decided]
    while rest.shape[-1] > 1:
        rest = xp.take_along_axis(rest, xp.argsort(xp.abs(rest), axis=-1), axis=-1)
        half = rest.shape[-1] // 2
        pairs = rest[..., :half] * rest[..., ::-1][..., :half]
        rest = xp.concatenate([pairs, rest[..., half : rest.shape[-1] - half]], axis=-1)
    signs[~decided] = xp.prod(rest, axis=-1)
    return signs


prod_ = reduction(
    "prod",
    _prod,
    vjp=lambda g, x, axis: _prod_vjp(g, x, axis),
    quiet=quiet_of,
    batch=shift,
    lower=Fold(lambda xp, total, x: total * x, 1.0),
    sample=lambda rng: (
        (rng.standard_normal((2, 3)) * (rng.random((2, 3)) < 0.8),),
        {"axis": (1,), "keepdims": False},
    ),
    why="each factor is weighted by the product of all the others, without dividing by it",
)


# ------------------------------------------------------------------------ without gradients

NO_SLOPE = "an answer that jumps: there is no slope to follow"
all_ = reduction(
    "all",
    lambda xp, x, *, axis, keepdims: xp.all(x, axis=axis, keepdims=keepdims),
    batch=shift,
    lower=Fold(lambda xp, all, x: xp.minimum(all, x), math.inf),
    why=NO_SLOPE,
)
any_ = reduction(
    "any",
    lambda xp, x, *, axis, keepdims: xp.any(x, axis=axis, keepdims=keepdims),
    batch=shift,
    lower=Fold(lambda xp, any, x: xp.maximum(any, x), -math.inf),
    why=NO_SLOPE,
)


def _first_equal(extreme: Any, x: Any, axis: int, keepdims: bool) -> Any:
    """The first position of the extreme along ``axis``, or of a NaN."""
    hit = (x == extreme(x, axis=(axis,), keepdims=True)) | not_equal(x, x)
    n = x.shape[axis]
    at = np.arange(n).reshape([n if k == axis else 1 for k in range(x.ndim)])
    return amin_(where(hit, at, n), axis=(axis,), keepdims=keepdims)


argmax_ = opaque(
    "argmax",
    lambda xp, x, *, axis, keepdims: xp.argmax(x, axis=axis, keepdims=keepdims),
    batch=lambda size, axis, keepdims: {"axis": axis + 1, "keepdims": keepdims},
    lower=Composite(partial(_first_equal, amax_)),
    why=NO_SLOPE,
)
argmin_ = opaque(
    "argmin",
    lambda xp, x, *, axis, keepdims: xp.argmin(x, axis=axis, keepdims=keepdims),
    batch=lambda size, axis, keepdims: {"axis": axis + 1, "keepdims": keepdims},
    lower=Composite(partial(_first_equal, amin_)),
    why=NO_SLOPE,
)

# --------------------------------------------------------------------------- the public faces


@on_arrays("x")
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The sum over ``axis`` (an int, a tuple, or None for all); halves are summed in float32."""
    return sum_(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@on_arrays("x")
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The arithmetic mean over ``axis``; NaN where there is nothing to average."""
    return mean_(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@on_arrays("x")
def var(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """The variance over ``axis``, divided by n - ``ddof``; NaN where that is not positive."""
    return var_(x, axis=axes_of(axis, x.ndim), ddof=ddof, keepdims=keepdims)


@on_arrays("x")
def std(x: Any, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Any:
    """The standard deviation over ``axis``; its gradient at equal elements is 0."""
    return std_(x, axis=axes_of(axis, x.ndim), ddof=ddof, keepdims=keepdims)


@on_arrays("x")
def amax(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The largest element over ``axis``, NaN if there is one; ties share the gradient evenly."""
    return amax_(x, axis=_nonempty(x, axis, "amax"), keepdims=keepdims)


@on_arrays("x")
def amin(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The smallest element over ``axis``, NaN if there is one; ties share the gradient evenly."""
    return amin_(x, axis=_nonempty(x, axis, "amin"), keepdims=keepdims)


@on_arrays("x")
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The product over ``axis``; the gradient is exact where factors are 0."""
    axes = axes_of(axis, x.ndim)
    if not axes:  # the product, or the sum, of each element alone; small integers become int64
        return sum_(x, axis=(), keepdims=keepdims)
    for k in reversed(axes):
        x = prod_(x, axis=(k,), keepdims=keepdims)
    return x


@on_arrays("x")
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all elements over ``axis`` are true (not 0)."""
    return all_(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@on_arrays("x")
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether any element over ``axis`` is true (not 0)."""
    return any_(x, axis=axes_of(axis, x.ndim), keepdims=keepdims)


@on_arrays("x")
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the first largest element along ``axis`` (of the flat array without)."""
    return _arg(argmax_, x, axis, keepdims)


@on_arrays("x")
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """The position of the first smallest element along ``axis`` (of the flat array without)."""
    return _arg(argmin_, x, axis, keepdims)


def _arg(record: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    _nonempty(x, axis, record.name)
    if axis is not None:
        return record(x, axis=one_axis(axis, x.ndim), keepdims=keepdims)
    found = record(reshape(x, -1), axis=0, keepdims=False)
    return reshape(found, (1,) * x.ndim) if keepdims else found


def _nonempty(x: Any, axis: Axis, name: str) -> tuple[int, ...]:
    axes = axes_of(axis, x.ndim)
    if not count(x.shape, axes) and math.prod(n for k, n in enumerate(x.shape) if k not in axes):
        raise ShapeError(f"{name} of no elements: shape {x.shape}, axis {axis}")
    return axes
