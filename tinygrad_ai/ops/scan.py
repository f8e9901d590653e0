"""Running sums and products, with gradients that are exact where factors are 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import linear, opaque
from tinygrad_ai.ops.elementwise import widened
from tinygrad_ai.ops.movement import flip_, pad, reshape, slice_
from tinygrad_ai.ops.shapes import on_arrays, one_axis


def _along(axis: int, ndim: int, pair: tuple[int, int]) -> list[tuple[int, int]]:
    return [pair if k == axis else (0, 0) for k in range(ndim)]


def before(x: Any, axis: int) -> Any:
    """The product of all elements before each one along ``axis``."""
    shorter = slice_(x, key=(slice(None),) * axis + (slice(0, -1),))
    return cumprod_(pad(shorter, _along(axis, x.ndim, (1, 0)), constant_values=1), axis=axis)


def _running(accumulate: Callable[..., Any], x: Any, axis: int) -> Any:
    if x.dtype == np.float16:
        return accumulate(x, axis=axis, dtype=np.float32).astype(x.dtype)
    return accumulate(x, axis=axis)


cumsum_ = linear(
    "cumsum",
    lambda xp, x, *, axis: _running(xp.cumsum, x, axis),
    vjp=lambda g, axis: flip_(cumsum_(flip_(g, axis=(axis,)), axis=axis), axis=(axis,)),
    batch=lambda size, axis: {"axis": axis + 1},
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"axis": 1}),
    why="an element stands in every later sum, so gradients are summed from the end",
)


def _cumprod_vjp(g: Any, x: Any, axis: int) -> Any:
    """before_i · r_i with r_i = g_i + x_{i+1}·r_{i+1}, a recurrence solved by doubling.

    Pairs (a, b) stand for r ↦ a·r + b; composing each with the one ``step`` places on doubles the
    reach, so log₂ n rounds do, without a division: exact where factors are 0.
    """
    n = x.shape[axis]
    g, x = widened(g), widened(x)

    def later(v: Any, step: int) -> Any:
        tail = slice_(v, key=(slice(None),) * axis + (slice(step, None),))
        return pad(tail, _along(axis, v.ndim, (0, step)))

    a, b = later(x, 1) if n else x, g
    step = 1
    while step < n:
        a, b = a * later(a, step), b + a * later(b, step)
        step *= 2
    return before(x, axis) * b if n else g


cumprod_ = opaque(
    "cumprod",
    lambda xp, x, *, axis: _running(xp.cumprod, x, axis),
    vjp=_cumprod_vjp,
    quiet=lambda g, axis: flip_(cumsum_(flip_(g != 0, axis=(axis,)), axis=axis), axis=(axis,)) == 0,
    batch=lambda size, axis: {"axis": axis + 1},
    sample=lambda rng: ((rng.standard_normal((2, 5)) * (rng.random((2, 5)) < 0.8),), {"axis": 1}),
    why="an element is a factor of every later product",
)


@on_arrays("x")
def cumsum(x: Any, axis: int | None = None) -> Any:
    """Running sums along ``axis`` (of the flat array without)."""
    if axis is None:
        return cumsum_(reshape(x, -1), axis=0)
    return cumsum_(x, axis=one_axis(axis, x.ndim))


@on_arrays("x")
def cumprod(x: Any, axis: int | None = None) -> Any:
    """Running products along ``axis`` (of the flat array without); exact gradients at zeros."""
    if axis is None:
        return cumprod_(reshape(x, -1), axis=0)
    return cumprod_(x, axis=one_axis(axis, x.ndim))
