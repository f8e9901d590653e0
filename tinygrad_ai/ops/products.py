"""Products of matrices and vectors, and what is said when their sizes do not fit.

They work on the last axes, and the leading ones broadcast. Halves are multiplied and summed in
float32 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import contraction
from tinygrad_ai.errors import ShapeError, user_name
from tinygrad_ai.ops.index import diagonal
from tinygrad_ai.ops.lowering import Contract
from tinygrad_ai.ops.movement import expand_dims, moveaxis, permute, reshape, swapaxes
from tinygrad_ai.ops.reduce import sum as sum_over
from tinygrad_ai.ops.shapes import on_arrays, one_axis


def in_float32(compute: Callable[..., Any], *arrays: Any) -> Any:
    """``compute(*arrays)``, where halves alone are computed in float32 and rounded at the end."""
    if arrays[0].dtype.char == "e" and all(a.dtype.char == "e" for a in arrays):
        return compute(*(a.astype(np.float32) for a in arrays)).astype(np.float16)
    return compute(*arrays)


@on_arrays("x")
def matrix_transpose(x: Any) -> Any:
    """``x`` with its last two axes exchanged."""
    return swapaxes(x, -1, -2)


def _pair(left: tuple[int, ...], right: tuple[int, ...]) -> Callable[..., Any]:
    """A sampler of two random matrices."""
    return lambda rng: ((rng.standard_normal(left), rng.standard_normal(right)), {})


matmul_ = contraction(
    "matmul",
    lambda xp, a, b: in_float32(xp.matmul, a, b),
    vjp=(
        lambda g, b: matmul_(g, matrix_transpose(b)),
        lambda g, a: matmul_(matrix_transpose(a), g),
    ),
    batch="leading",
    lower=Contract("ij,jk->ik"),
    sample=_pair((2, 3, 4), (4, 5)),
    why="y_ik = Σ a_ij·b_jk, so a_ij collects g_ik·b_jk over k, and b_jk collects a_ij·g_ik over i",
)
linear_ = contraction(
    "linear",
    lambda xp, x, weight: in_float32(lambda a, w: xp.matmul(a, xp.swapaxes(w, -1, -2)), x, weight),
    vjp=(
        lambda g, weight: matmul_(g, weight),
        lambda g, x: matmul_(matrix_transpose(g), x),
    ),
    batch="leading",
    lower=Contract("ij,kj->ik"),
    sample=_pair((3, 4), (2, 4)),
    why="the rows of the weight are what each output listens to, so its gradient is gᵀ @ x",
)


@on_arrays("a", "b")
def matmul(a: Any, b: Any) -> Any:
    """``a @ b``: (..., M, K) and (..., K, N) give (..., M, N); leading axes broadcast.

    A 1-D operand is a row on the left, a column on the right, and its axis goes from the result.
    Raises ShapeError for 0-d operands and for sizes that do not fit.
    """
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        raise ShapeError(
            f"matmul: operands need at least one axis: {label(a, 'a')} @ {label(b, 'b')}",
            "   help: * multiplies by a number",
        )
    if a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise _inner_sizes(a, b)
    if b.ndim == 1:
        y = matmul(a, reshape(b, (-1, 1)))
        return reshape(y, y.shape[:-1])
    if a.ndim == 1:
        y = matmul(reshape(a, (1, -1)), b)
        return reshape(y, y.shape[:-2] + y.shape[-1:])
    if b.ndim == 2 and a.ndim > 2:  # one product of large matrices is faster than many small ones
        return reshape(matmul_(_rows(a), b), (*a.shape[:-1], b.shape[-1]))
    if a.ndim > 2 and product_shape(a.shape, b.shape) is None:
        raise ShapeError(
            f"matmul: leading axes do not broadcast: {label(a, 'a')} @ {label(b, 'b')}"
        )
    return matmul_(a, b)


@on_arrays("x", "weight")
def linear(x: Any, weight: Any) -> Any:
    """``x @ weight.T``: x (..., in) and weight (out, in) give (..., out).

    The gradient of the weight is one product of matrices. Raises ShapeError for other shapes.
    """
    if np.ndim(weight) != 2 or np.ndim(x) == 0 or x.shape[-1] != weight.shape[1]:
        raise _linear_sizes(x, weight)
    if x.ndim == 2:
        return linear_(x, weight)
    return reshape(linear_(_rows(x), weight), (*x.shape[:-1], weight.shape[0]))


def _rows(x: Any) -> Any:
    return reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def product_shape(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...] | None:
    """The shape of a @ b for two shapes of at least one axis; None if they do not fit."""
    left, right = (1, *a)[-2:], (*b, 1)[:2] if len(b) == 1 else tuple(b[-2:])
    if left[1] != right[0]:
        return None
    try:
        lead = np.broadcast_shapes(tuple(a[:-2]), tuple(b[:-2]))
    except ValueError:
        return None
    return (*lead, *left[:1][: len(a) - 1], *right[1:][: len(b) - 1])


def _name(value: Any, default: str) -> str:
    return user_name(value) or default


def label(value: Any, default: str) -> str:
    return f"{_name(value, default)} {np.shape(value)}"


def _picture(a: str, b: str, left: Sequence[int], right: Sequence[int], i: int, j: int) -> str:
    """The two shapes side by side, with carets under the sizes that must be equal."""
    first, second = f"   {a}  ", f"          {b}  "

    def caret(shape: Sequence[int], axis: int) -> tuple[int, int]:
        start = 1 + sum(len(str(n)) + 2 for n in shape[:axis])
        return start, len(str(shape[axis]))

    from_left, wide_left = caret(left, i % len(left))
    from_right, wide_right = caret(right, j % len(right))
    width = len(str(tuple(left))) - from_left - wide_left + len(second) + from_right
    marks = " " * (len(first) + from_left) + "^" * wide_left + "must equal".center(width)
    return f"{first}{tuple(left)}{second}{tuple(right)}\n{marks}{'^' * wide_right}"


def _inner_sizes(a: Any, b: Any) -> ShapeError:
    """The error for ``a @ b``, with the first rearrangement that fits."""
    m, n, s, t = _name(a, "a"), _name(b, "b"), tuple(a.shape), tuple(b.shape)
    fixes = (
        (n, t, f"{m} @ {_flipped(n, t)}", s, _turned(t)),
        (m, s, f"{_flipped(m, s)} @ {n}", _turned(s), t),
        (None, (), f"{n} @ {m}", t, s),
    )
    return ShapeError(
        f"matmul: inner sizes differ: {m} {s} @ {n} {t}",
        _picture(m, n, s, t, -1, -2 if len(t) > 1 else 0),
        next(filter(None, (_help(*fix) for fix in fixes)), ""),
    )


def _help(
    name: str | None, old: tuple, expression: str, left: tuple[int, ...], right: tuple[int, ...]
) -> str:
    """The line that proposes ``expression``, or nothing if its shapes do not fit either."""
    result = product_shape(left, right)
    if result is None or (name is not None and len(old) < 2):
        return ""
    turned = f"{_flipped(name, old)} has shape {_turned(old)}; " if name is not None else ""
    return f"   help: {turned}{expression} works and gives {result}"


def _flipped(name: str, shape: tuple[int, ...]) -> str:
    return f"{name}.T" if len(shape) <= 2 else f"swapaxes({name}, -1, -2)"


def _turned(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:-2] + shape[-2:][::-1]


def _linear_sizes(x: Any, weight: Any) -> ShapeError:
    m, n, s, t = _name(x, "x"), _name(weight, "weight"), np.shape(x), np.shape(weight)
    if len(t) != 2 or not s:
        return ShapeError(
            f"linear: needs x (..., in) and weight (out, in), got {m} {s} and {n} {t}"
        )
    fits = f"   help: {n}.T has shape {t[::-1]}; linear({m}, {n}.T) works and gives "
    return ShapeError(
        f"linear: input sizes differ: {m} {s} and {n} {t}",
        _picture(m, n, s, t, -1, -1),
        f"{fits}{(*s[:-1], t[1])}" if s[-1] == t[0] else "",
    )


@on_arrays("a", "b")
def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    """Sums of products over ``axes``: the last n of ``a`` and first n of ``b``, or a pair of lists.

    The result has the other axes of ``a``, then those of ``b``. ShapeError where sizes differ.
    """
    if isinstance(axes, list | tuple):
        left, right = (list(k) if isinstance(k, list | tuple) else [k] for k in axes)
    else:
        left, right = list(range(-axes, 0)), list(range(axes))
    i = [one_axis(k, a.ndim) for k in left]
    j = [one_axis(k, b.ndim) for k in right]
    if [a.shape[k] for k in i] != [b.shape[k] for k in j] or len({*i}) + len({*j}) != 2 * len(i):
        raise ShapeError(
            f"tensordot: axes {tuple(i)} of {label(a, 'a')} do not fit axes {tuple(j)} of "
            f"{label(b, 'b')}"
        )
    rows = [k for k in range(a.ndim) if k not in i]
    columns = [k for k in range(b.ndim) if k not in j]
    kept = [a.shape[k] for k in rows], [b.shape[k] for k in columns]
    summed = math.prod(a.shape[k] for k in i)
    flat = matmul_(
        reshape(permute(a, axes=(*rows, *i)), (math.prod(kept[0]), summed)),
        reshape(permute(b, axes=(*j, *columns)), (summed, math.prod(kept[1]))),
    )
    return reshape(flat, (*kept[0], *kept[1]))


@on_arrays("a", "b")
def dot(a: Any, b: Any) -> Any:
    """NumPy's dot: a product with a number, an inner product, or sums over the last axis of ``a``
    and the last but one of ``b`` (its only one if it is a vector)."""
    if np.ndim(a) == 0 or np.ndim(b) == 0:
        return a * b
    if b.ndim == 1 or (a.ndim <= 2 and b.ndim == 2):
        return matmul(a, b)
    return tensordot(a, b, (-1, -2))


@on_arrays("a", "b")
def outer(a: Any, b: Any) -> Any:
    """The products of every element of ``a`` (flattened) with every one of ``b``: (M, N)."""
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


@on_arrays("a", "b")
def vecdot(a: Any, b: Any, axis: int = -1) -> Any:
    """Inner products along ``axis``; the other axes broadcast."""
    a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(f"vecdot: sizes along axis {axis} differ: {a.shape[-1]}, {b.shape[-1]}")
    y = matmul(expand_dims(a, -2), expand_dims(b, -1))
    return reshape(y, y.shape[:-2])


@on_arrays("x")
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The sum of a diagonal of the planes of two axes (NumPy's defaults: the first two)."""
    return sum_over(diagonal(x, offset, axis1, axis2), -1)
