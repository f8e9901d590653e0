"""Operations in forms that kernels have: what each is written as where its own has none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.jit.program import Equation, Var
from tinygrad_ai.jit.views import AFFINE, View
from tinygrad_ai.ops.elementwise import astype, where
from tinygrad_ai.ops.index import ARRAY, index, scatter, take_
from tinygrad_ai.ops.lowering import Fold
from tinygrad_ai.ops.movement import broadcast_to_, permute, reshape_
from tinygrad_ai.ops.products import linear_, matmul_, matrix_transpose
from tinygrad_ai.ops.reduce import sum_

LARGE, FEW = 1 << 15, 16  # elements for which it matters, and rows too few for threads to share
LONGEST, LEAST = LARGE // FEW, 64  # elements of a piece of a row: then pieces are never too few


class Form(NamedTuple):
    """``body(*inputs, **params)`` is what an operation is written as."""

    body: Callable[..., Any]
    inputs: Sequence[Any]


def other_form(e: Equation, makers: Mapping[Var, Equation]) -> Form | None:
    """How ``e`` is better written; None where its own form is good. ``makers`` are known so far."""
    thin = e.operation in (matmul_, linear_) and 1 in (
        e.inputs[0].shape[-1],
        e.outputs[0].shape[-1],
    )
    if thin and e.outputs[0].dtype.kind == "f":  # sums of integers would be wider
        return Form(_thin if e.operation is matmul_ else _thin_linear, e.inputs)
    if isinstance(getattr(e.operation, "lower", None), Fold):
        return _fold(e, makers)
    if e.operation in (index, scatter):
        return _indexed(e)
    return None


# ---------------------------------------------------------------------------------------- products


def _thin(a: Any, b: Any) -> Any:
    """A product with a vector, or of two: no tile would be full."""
    if a.shape[-1] == 1:
        return a * b
    column = matrix_transpose(b)
    return sum_(a * column, axis=(max(a.ndim, b.ndim) - 1,), keepdims=True)


def _thin_linear(x: Any, weight: Any) -> Any:
    return _thin(x, matrix_transpose(weight))


# -------------------------------------------------------------------------------------- reductions


def _fold(e: Equation, makers: Mapping[Var, Equation]) -> Form | None:
    (x,), axes = e.inputs, e.params["axis"]
    maker = makers.get(x)
    if maker is not None and maker.operation is broadcast_to_ and e.operation is sum_:
        (y,) = maker.inputs
        single = (1,) * (x.ndim - y.ndim) + y.shape
        if any(single[k] != x.shape[k] for k in axes):
            return Form(partial(_counted, single, x.shape), (y,))
    view = _seen(x, makers)
    order = _order(view)
    if order != sorted(order) and not _in_rows(view, axes):
        return Form(partial(_before, e.operation, order, x.shape), (view.root,))
    if len(_runs(x.shape, axes)) > 1:
        return Form(partial(_twice, e.operation), e.inputs)
    pieces = _pieces(x.shape, axes)
    if pieces is not None and view.reshaped(pieces) is not None:
        return Form(partial(_by_pieces, e.operation, pieces), e.inputs)
    return None


def _seen(x: Var, makers: Mapping[Var, Equation]) -> View:
    """``x`` as a view of what movements made it from."""
    moves: list[Equation] = []
    while (e := makers.get(x)) is not None and e.operation in AFFINE:
        moves.append(e)
        (x,) = e.reads()
    view = View.whole(x)
    for e in reversed(moves):
        view = view.moved(e) or View.whole(e.outputs[0])
    return view


def _order(view: View) -> list[int]:
    """The axes in which all of the root lies, the outermost first; as they are if it does not."""
    order = sorted(range(len(view.shape)), key=lambda k: (-view.strides[k], k))
    shape, strides = (tuple(x[k] for k in order) for x in (view.shape, view.strides))
    whole = View(view.root, view.offset, shape, strides).is_whole(shape)
    return order if whole else sorted(order)


def _in_rows(view: View, axes: tuple[int, ...]) -> bool:
    """Whether rows and columns lead through a view, and ``axes`` are the columns."""
    first = len(view.shape) - len(axes)
    columns = math.prod(view.shape[first:])
    trailing = axes == tuple(range(first, len(view.shape)))
    return trailing and view.reshaped((*view.shape[:first], columns)) is not None


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


def _pieces(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """``shape`` as (rows, pieces, elements) where few long rows are folded; None elsewhere."""
    first = min(axes, default=0)
    rows, size = math.prod(shape[:first]), math.prod(shape)
    trailing = all(n == 1 or k in axes for k, n in enumerate(shape) if k >= first)
    if not trailing or size <= LARGE or rows >= FEW:
        return None
    piece = 1
    for n in reversed(shape[first:]):
        part = max(k for k in range(1, min(n, LONGEST // piece) + 1) if n % k == 0)
        piece *= part
        if part < n or piece >= LEAST:
            break
    return (rows, size // (rows * piece), piece) if piece >= LEAST else None


def _by_pieces(
    fold: Any, pieces: tuple[int, ...], x: Any, axis: tuple[int, ...], keepdims: bool
) -> Any:
    """Reductions of pieces of rows, by all threads and with smaller errors, then of the results.

    Pieces are equally long, so a mean is that of their means.
    """
    part = fold(reshape_(x, shape=pieces), axis=(2,), keepdims=False)
    whole = fold(part, axis=(1,), keepdims=False)
    kept = tuple(1 if k in axis else n for k, n in enumerate(x.shape))
    return reshape_(whole, shape=kept if keepdims else _without(x.shape, axis))


def _twice(fold: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """A reduction along the last group of axes, then along the others; of means the mean."""
    last = _runs(x.shape, axis)[-1]
    part = fold(x, axis=tuple(last), keepdims=True)
    whole = fold(part, axis=tuple(k for k in axis if k not in last), keepdims=True)
    return whole if keepdims else reshape_(whole, shape=_without(x.shape, axis))


def _before(
    fold: Any,
    order: list[int],
    shape: tuple[int, ...],
    y: Any,
    axis: tuple[int, ...],
    keepdims: bool,
) -> Any:
    """A reduction of ``y``, of which ``shape``'s axes in this order are, before they are moved."""
    y = reshape_(y, shape=tuple(shape[k] for k in order))
    whole = fold(y, axis=tuple(k for k, n in enumerate(order) if n in axis), keepdims=True)
    moved = permute(whole, axes=tuple(map(order.index, range(len(order)))))
    return moved if keepdims else reshape_(moved, shape=_without(shape, axis))


def _counted(
    single: tuple[int, ...], shape: tuple[int, ...], y: Any, axis: tuple[int, ...], keepdims: bool
) -> Any:
    """The sum of ``y`` broadcast to ``shape``, where each element counts as often as it stands."""
    times = math.prod(shape[k] // max(single[k], 1) for k in axis)
    kept = tuple(single[k] if k in axis else n for k, n in enumerate(shape))
    y = broadcast_to_(reshape_(y, shape=single), shape=kept)
    return sum_(y, axis=axis, keepdims=keepdims) * times


def _without(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for k, n in enumerate(shape) if k not in axes)


# ---------------------------------------------------------------------------------------- indices


def _indexed(e: Equation) -> Form | None:
    """Index arrays of neighbouring axes, with whole axes around them, as one index array.

    Kernels know ``take``, and ``scatter`` to rows.
    """
    spec, taken = e.params["spec"], e.operation is index
    shape = e.inputs[0].shape if taken else e.params["shape"]
    places = [k for k, part in enumerate(spec) if isinstance(part, str)]
    if Ellipsis in spec:
        k = spec.index(Ellipsis)
        whole = (slice(None),) * (len(shape) - len(spec) + 1)
        spec = (*spec[:k], *whole, *spec[k + 1 :])
        places = [k for k, part in enumerate(spec) if isinstance(part, str)]
    first, count = places[0], len(places)
    plain = all(part == slice(None) for part in spec if not isinstance(part, str))
    integers = all(v.dtype.kind == "i" for v in e.inputs[1:])
    if not plain or not integers or places != list(range(first, first + count)):
        return None
    if not taken and (first, count) == (0, 1):
        return None
    return Form(partial(_taken if taken else _put, first, count, shape), e.inputs)


def _joined(arrays: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Indices of some axes, none out of range, as one of these axes joined."""
    if len(arrays) == 1:
        return arrays[0]
    wide = [astype(at, dtype=np.int64) for at in arrays]
    each = [where(at < 0, at + n, at) for at, n in zip(wide, sizes, strict=True)]
    return reduce(lambda flat, step: flat * step[1] + step[0], zip(each, sizes, strict=True), 0)


def _taken(first: int, count: int, shape: tuple[int, ...], x: Any, *arrays: Any, spec: Any) -> Any:
    sizes = shape[first : first + count]
    joined = reshape_(x, shape=(*shape[:first], math.prod(sizes), *shape[first + count :]))
    return take_(joined, _joined(arrays, sizes), axis=first)


def _put(
    first: int, count: int, whole: tuple[int, ...], g: Any, *arrays: Any, spec: Any, shape: Any
) -> Any:
    """Rows of a table whose first axes are the indexed ones, brought back to their places."""
    sizes, before, after = whole[first : first + count], whole[:first], whole[first + count :]
    at = _joined(arrays, sizes)
    front = [*range(first, first + at.ndim), *range(first), *range(first + at.ndim, g.ndim)]
    rows = permute(g, axes=tuple(front))
    table = scatter(rows, at, spec=(ARRAY,), shape=(math.prod(sizes), *before, *after))
    table = reshape_(table, shape=(*sizes, *before, *after))
    back = [*range(count, count + first), *range(count), *range(count + first, len(whole))]
    return permute(table, axes=tuple(back))
