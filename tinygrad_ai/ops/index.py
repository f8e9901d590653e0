"""Indexing with arrays: gather along one or more axes, and its transpose, scatter with addition.

``spec`` describes an index in NumPy's sense, with :data:`ARRAY` where an index array stands; the
arrays are inputs of the record, so that transformations and compiled code see them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index as as_int
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value, linear, mode, opaque
from tinygrad_ai.backend import operands
from tinygrad_ai.errors import DTypeError, GraphError, IndexRangeError, ShapeError
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.ops.logic import isnan
from tinygrad_ai.ops.lowering import IndexMap
from tinygrad_ai.ops.movement import (
    broadcast_to,
    broadcast_to_,
    expand_dims,
    flip,
    permute_dims,
    reshape,
    reshape_,
    slice_,
)
from tinygrad_ai.ops.reduce import any as any_of
from tinygrad_ai.ops.reduce import mean
from tinygrad_ai.ops.shapes import Axis, axes_of, count, on_arrays, one_axis

#: Stands in a ``spec`` for "the next index array".
ARRAY = "array"


def _key(xp: Any, spec: Sequence[Any], arrays: Sequence[Any]) -> tuple[Any, ...]:
    rest = iter(arrays)
    return tuple(xp.asarray(next(rest)) if part is ARRAY else part for part in spec)


def _scatter(xp: Any, g: Any, *arrays: Any, spec: Sequence[Any], shape: tuple[int, ...]) -> Any:
    wide = np.float32 if g.dtype == np.float16 else g.dtype
    out = xp.zeros(shape, dtype=wide)
    xp.scatter_add(out, _key(xp, spec, arrays), g.astype(wide))
    return out.astype(g.dtype)


def _sample_index(rng: Any) -> Any:
    return (rng.standard_normal((4, 3)), np.array([[0, 3], [-1, 0]])), {"spec": (ARRAY,)}


index = linear(
    "index",
    lambda xp, x, *arrays, spec: x[_key(xp, spec, arrays)],
    vjp=lambda g, in_shape, others, spec: scatter(g, *others[1:], spec=spec, shape=in_shape),
    sample=_sample_index,
    why="an element that was taken twice gets both gradients, one not taken none",
)
scatter = linear(
    "scatter",
    _scatter,
    vjp=lambda g, others, spec: index(g, *others[1:], spec=spec),
    sample=lambda rng: (
        (rng.standard_normal((3, 2)), np.array([1, 0, 1])),
        {"spec": (ARRAY,), "shape": (4, 2)},
    ),
    kernel="own",
    why="the transpose of index: what was put somewhere is read from there",
)
_at = index  # for the functions that have an argument of that name, as PyTorch's do
take_ = linear(
    "take",
    lambda xp, x, indices, *, axis: xp.take(x, xp.asarray(indices), axis=axis),
    vjp=(
        lambda g, indices, in_shape, axis: scatter(
            g, indices, spec=(slice(None),) * axis + (ARRAY,), shape=in_shape
        ),
        None,
    ),
    lower=IndexMap(
        lambda i, shape, at, *, axis: (
            *i[:axis],
            at[i[axis : axis + at.ndim]],
            *i[axis + at.ndim :],
        )
    ),
    sample=lambda rng: ((rng.standard_normal((3, 4)), rng.integers(-4, 4, (2, 2))), {"axis": 1}),
    why="an element that was taken twice gets both gradients, one not taken none",
)
sort_ = opaque(
    "sort",
    lambda xp, x, *, axis: xp.sort(x, axis=axis),
    vjp=lambda g, x, axis: scatter(
        g, *_grids(argsort_(x, axis=axis), axis), spec=(ARRAY,) * x.ndim, shape=x.shape
    ),
    batch=lambda size, axis: {"axis": axis + 1},
    sample=lambda rng: ((rng.standard_normal((2, 5)),), {"axis": int(rng.integers(2))}),
    why="elements carry their gradients to where they came from",
)
argbest = opaque(
    "argbest",
    lambda xp, x, *, k, axis, largest: _argbest(xp, x, k, axis, largest),
    batch=lambda size, k, axis, largest: {"k": k, "axis": axis + 1, "largest": largest},
    sample=lambda rng: ((rng.standard_normal((2, 5)),), {"k": 2, "axis": 1, "largest": True}),
    why="an order jumps: there is no slope to follow",
)
argsort_ = opaque(
    "argsort",
    lambda xp, x, *, axis: xp.argsort(x, axis=axis, kind="stable"),
    batch=lambda size, axis: {"axis": axis + 1},
    why="an order jumps: there is no slope to follow",
)


def _argbest(xp: Any, x: Any, k: int, axis: int, largest: bool) -> Any:
    """The indices of the ``k`` largest (or smallest) elements along ``axis``, ascending."""
    n = x.shape[axis]
    if 0 < k < n:
        found = xp.argpartition(x, n - k if largest else k - 1, axis=axis)
    else:
        found = xp.argsort(x, axis=axis)
    part = slice(n - k, None) if largest else slice(k)
    return xp.sort(found[(slice(None),) * axis + (part,)], axis=axis)


# ---------------------------------------------------------------------------- the public faces


def getitem(x: Any, key: Any) -> Any:
    """``x[key]`` with NumPy's rules: integers, slices, None, ``...``, boolean and integer arrays.

    Basic indexing gives a view, array indexing a copy. Raises IndexError as NumPy does.
    """
    parts = tuple(_part(p) for p in (key if isinstance(key, tuple) else (key,)))
    if any(_is_array(p) for p in parts):
        spec, arrays = [], []
        for part in _without_masks(parts, x):
            spec.append(ARRAY if _is_array(part) else part)
            if _is_array(part):
                arrays.append(part)
        return index(x, *arrays, spec=tuple(spec))
    return slice_(x, key=_full_key(parts, x))


def _part(part: Any) -> Any:
    """One part of an index, with lists made arrays and integer-likes made ints."""
    if isinstance(part, list):
        part = np.asarray(part, dtype=None if part else np.intp)
    if isinstance(part, bool | np.bool_):
        return np.asarray(part)
    if part is None or part is Ellipsis or isinstance(part, slice | int):
        return part
    if hasattr(part, "dtype"):
        if part.dtype.kind not in "iub":
            raise DTypeError(f"indices must be integers or booleans, not {part.dtype}")
        return int(part) if part.ndim == 0 and part.dtype.kind != "b" and _known(part) else part
    return as_int(part)


def _known(part: Any) -> bool:
    """Whether the number can be read now (not inside a batch or a trace)."""
    return isinstance(part, np.ndarray | np.generic) or isinstance(
        getattr(part, "array", None), np.ndarray
    )


def _is_array(part: Any) -> bool:
    return hasattr(part, "dtype")


def _without_masks(parts: Sequence[Any], x: Any) -> list[Any]:
    """Boolean masks replaced by the positions of their true elements.

    Raises IndexRangeError for a mask of another shape than the axes of ``x`` that it stands for.
    """
    found: list[Any] = []
    axis = 0
    for part, n in zip(parts, _axes_taken(parts, x.ndim), strict=True):
        if _is_array(part) and part.dtype.kind == "b" and part.ndim:
            if tuple(part.shape) != tuple(x.shape[axis : axis + n]):
                raise IndexRangeError(
                    f"a boolean index of shape {part.shape} at axis {axis} does not fit shape "
                    f"{x.shape}"
                )
            found.extend(nonzero(part))
        else:
            found.append(part)
        axis += n
    return found


def _axes_taken(parts: Sequence[Any], ndim: int) -> list[int]:
    """How many axes each part of an index stands for: a mask for its own, ``...`` for the rest."""
    taken = [
        0
        if part is None or part is Ellipsis
        else part.ndim
        if _is_array(part) and part.dtype.kind == "b"
        else 1
        for part in parts
    ]
    rest = ndim - sum(taken)
    return [rest if part is Ellipsis else n for part, n in zip(parts, taken, strict=True)]


def _full_key(parts: tuple[Any, ...], x: Any) -> tuple[Any, ...]:
    """Basic index parts with ``...`` written out; raises IndexError where they do not fit."""
    used = sum(p is not None and p is not Ellipsis for p in parts)
    if sum(p is Ellipsis for p in parts) > 1:
        raise IndexRangeError("an index can hold only one ellipsis ('...')")
    if used > x.ndim:
        raise IndexRangeError(f"too many indices: {used} for shape {x.shape}")
    if Ellipsis in parts:
        k = parts.index(Ellipsis)
        parts = parts[:k] + (slice(None),) * (x.ndim - used) + parts[k + 1 :]
    return parts


@on_arrays("x")
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """The elements of ``x`` at ``indices`` along ``axis`` (of the flat array without)."""
    if axis is None:
        return take(reshape(x, -1), indices, 0)
    where_to = _indices(indices)
    return take_(x, where_to, axis=one_axis(axis, x.ndim))


def _indices(indices: Any) -> Any:
    found = indices if hasattr(indices, "dtype") else np.asarray(indices)
    if found.size == 0 and found.dtype.kind == "f" and not hasattr(indices, "dtype"):
        found = found.astype(np.intp)
    if found.dtype.kind not in "iu":
        raise DTypeError(f"indices must be integers, not {found.dtype}")
    return found


@on_arrays("x")
def index_select(x: Any, axis: int, index: Any) -> Any:
    """``take`` with PyTorch's argument order."""
    return take(x, index, axis)


def _grids(indices: Any, axis: int) -> list[Any]:
    """Index arrays that stay in place along every axis but ``axis``."""
    shape = indices.shape
    return [
        indices
        if k == axis
        else np.arange(n).reshape([n if j == k else 1 for j in range(len(shape))])
        for k, n in enumerate(shape)
    ]


@on_arrays("x")
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Any:
    """For each place of ``indices`` the element of ``x`` at that index along ``axis``.

    ``indices`` has as many axes as ``x``; along the others sizes are equal or broadcast.
    """
    if axis is None:
        return take_along_axis(reshape(x, -1), reshape(_indices(indices), -1), 0)
    found = _indices(indices)
    k = one_axis(axis, x.ndim)
    if found.ndim != x.ndim:
        raise ShapeError(
            f"take_along_axis: indices {found.shape} and x {x.shape} differ in number of axes"
        )
    shape = tuple(n if j == k else max(n, found.shape[j]) for j, n in enumerate(x.shape))
    if any(a != b and 1 not in (a, b) for a, b in zip(shape, x.shape, strict=True)):
        raise ShapeError(f"take_along_axis: indices {found.shape} do not fit x {x.shape}")
    shape = tuple(found.shape[j] if j == k else n for j, n in enumerate(shape))
    full = broadcast_to(x, tuple(x.shape[j] if j == k else n for j, n in enumerate(shape)))
    spread = found if found.shape == shape else broadcast_to(found, shape)
    return index(full, *_grids(spread, k), spec=(ARRAY,) * x.ndim)


@on_arrays("x")
def gather(x: Any, axis: int, index: Any) -> Any:
    """PyTorch's gather: ``out[i][j] = x[index[i][j]][j]`` for axis 0; index may be smaller."""
    found, k = _like_torch("gather", x, axis, index)
    return _at(x, *_grids(found, k), spec=(ARRAY,) * x.ndim)


def scatter_add(x: Any, axis: int, index: Any, src: Any) -> Any:
    """A copy of ``x`` with ``src`` added at ``index`` along ``axis``; duplicates accumulate."""
    x, src = operands("scatter_add", ("x", "src"), (x, src), numbers=False)
    found, k = _like_torch("scatter_add", x, axis, index)
    if found.ndim != src.ndim or any(a > b for a, b in zip(found.shape, src.shape, strict=True)):
        raise ShapeError(f"scatter_add: index {found.shape} is larger than src {src.shape}")
    part = slice_(src, key=tuple(slice(0, n) for n in found.shape))
    return x + scatter(part, *_grids(found, k), spec=(ARRAY,) * x.ndim, shape=x.shape)


def _like_torch(name: str, x: Any, axis: int, index: Any) -> tuple[Any, int]:
    found, k = _indices(index), one_axis(axis, x.ndim)
    fits = found.ndim == x.ndim and all(
        j == k or n <= x.shape[j] for j, n in enumerate(found.shape)
    )
    if not fits:
        raise ShapeError(f"{name}: index {found.shape} does not fit x {x.shape} along axis {axis}")
    return found, k


@on_arrays("x")
def nonzero(x: Any) -> tuple[Any, ...]:
    """The indices of the elements that are not 0, an integer array for each axis."""
    array = x.array if isinstance(x, Value) else x
    if mode.one_of_many and not _known(x):
        raise GraphError(
            "nonzero and boolean indices inside vmap: each example would have another shape",
            "   help: where(mask, x, 0) keeps the shape",
        )
    found = array.nonzero()
    return tuple(x.box(k) for k in found) if isinstance(x, Value) else tuple(found)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    """``x`` with ``value`` where ``mask`` is true."""
    return where(mask, value, x)


@on_arrays("x")
def argsort(x: Any, axis: int | None = -1, descending: bool = False) -> Any:
    """The order that sorts ``x`` along ``axis``; stable, NaN last."""
    if axis is None:
        return argsort(reshape(x, -1), 0, descending)
    k = one_axis(axis, x.ndim)
    if not descending:
        return argsort_(x, axis=k)
    return flip((x.shape[k] - 1) - argsort_(flip(x, k), axis=k), k)


@on_arrays("x")
def sort(x: Any, axis: int | None = -1, descending: bool = False) -> Any:
    """The elements in ascending order along ``axis``; each carries its gradient with it."""
    if axis is None:
        return sort(reshape(x, -1), 0, descending)
    k = one_axis(axis, x.ndim)
    if not descending:
        return sort_(x, axis=k)
    return flip(sort_(flip(x, k), axis=k), k)  # equal elements stay in order, as in argsort


@on_arrays("x")
def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The ``k`` largest (or smallest) elements along ``axis``, best first, and their indices.

    NaN counts as largest. Of equal elements the first comes first, but if not all have a place any
    may be taken.
    """
    j = one_axis(axis, x.ndim)
    if not 0 <= k <= x.shape[j]:
        raise ShapeError(f"topk: k={k} of an axis with {x.shape[j]} elements")
    found = argbest(x, k=k, axis=j, largest=largest)
    order = argsort(take_along_axis(x, found, j), j, descending=largest)
    best = take_along_axis(found, order, j)
    return take_along_axis(x, best, j), best


@on_arrays("x")
def median(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """The middle element over ``axis``, the mean of the two middle ones; NaN if there is one."""
    axes = axes_of(axis, x.ndim)
    rest = [k for k in range(x.ndim) if k not in axes]
    kept, n = tuple(x.shape[k] for k in rest), count(x.shape, axes)
    if not n and math.prod(kept):
        raise ShapeError(f"median of no elements: shape {x.shape}, axis {axis}")
    ordered = sort(reshape(permute_dims(x, (*rest, *axes)), (*kept, n)), -1)
    middle = getitem(ordered, (..., slice((n - 1) // 2, n // 2 + 1)))
    last = getitem(ordered, (..., slice(-1, None)))
    found = where(any_of(isnan(last), -1), np.nan, mean(middle, -1))
    return (
        reshape(found, [1 if k in axes else m for k, m in enumerate(x.shape)])
        if keepdims
        else found
    )


@on_arrays("x")
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Any:
    """Each element repeated ``repeats`` times in place along ``axis`` (flat without)."""
    if axis is None:
        return repeat(reshape(x, -1), repeats, 0)
    k = one_axis(axis, x.ndim)
    counts = np.asarray(repeats.array if isinstance(repeats, Value) else repeats)
    if counts.dtype.kind not in "iu" or (counts < 0).any():
        raise ShapeError(f"repeat: repeats must be integers of at least 0, got {repeats!r}")
    if counts.ndim > 1 or counts.size not in (1, x.shape[k]):
        raise ShapeError(f"repeat: {counts.size} repeats for axis {axis} of shape {x.shape}")
    if counts.size > 1:
        return take_(x, np.repeat(np.arange(x.shape[k]), counts), axis=k)
    times, (before, after) = int(counts.reshape(())), (x.shape[: k + 1], x.shape[k + 1 :])
    copies = broadcast_to_(expand_dims(x, k + 1), shape=(*before, times, *after))
    return reshape_(copies, shape=(*x.shape[:k], x.shape[k] * times, *after))


@on_arrays("x")
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """The diagonal ``offset`` of the planes of two axes, as the last axis."""
    a, b = one_axis(axis1, x.ndim, "axis1"), one_axis(axis2, x.ndim, "axis2")
    if a == b:
        raise ShapeError(f"diagonal: axis1 and axis2 are both {axis1}")
    rest = [k for k in range(x.ndim) if k not in (a, b)]
    moved = x.transpose(*rest, a, b)
    rows, columns = x.shape[a], x.shape[b]
    n = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    i = np.arange(n)
    key = (slice(None),) * len(rest) + (ARRAY, ARRAY)
    return index(moved, i - min(offset, 0), i + max(offset, 0), spec=key)


@on_arrays("x")
def diag(x: Any, k: int = 0) -> Any:
    """The diagonal of a matrix, or the matrix with the given diagonal."""
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(f"diag takes 1 or 2 axes, got shape {x.shape}")
    n = x.shape[0] + abs(k)
    i = np.arange(x.shape[0])
    return scatter(x, i - min(k, 0), i + max(k, 0), spec=(ARRAY, ARRAY), shape=(n, n))
