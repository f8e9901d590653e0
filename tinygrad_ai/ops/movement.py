"""Operations that only move elements: nothing is computed, so gradients just move back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value, linear, movement, raw, unbroadcast
from tinygrad_ai.backend import NUMPY, namespaces, operands
from tinygrad_ai.dtypes import real
from tinygrad_ai.errors import DTypeError, ShapeError
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.ops.lowering import IndexMap
from tinygrad_ai.ops.shapes import (
    Axis,
    axes_of,
    broadcast_shapes,
    filled_shape,
    on_arrays,
    one_axis,
    shape_tuple,
    shifted,
)

_SHAPES = ((2, 3), (3, 1, 2), (4,), (), (0, 2))


def _sample(params: Any) -> Any:
    """A sampler: a random array of one of a few shapes, with ``params(rng, shape)``."""

    def draw(rng: Any) -> tuple[tuple[Any], dict[str, Any]]:
        shape = _SHAPES[rng.integers(len(_SHAPES))]
        return (rng.standard_normal(shape),), params(rng, shape)

    return draw


# ------------------------------------------------------------ where elements come from (``lower``)


def _refolded(i: Any, old: tuple[int, ...], *, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """The index in shape ``old`` of the element at ``i`` of ``shape``: as far along in C order.

    From the last axis on, axes of ``shape`` are taken up until they fill one of ``old``; only what
    is filled more than once costs a division.
    """
    source: list[Any] = []
    place: Any = 0
    size = 1
    axes = list(zip(i, shape, strict=True))
    for n in (max(n, 1) for n in reversed(old)):
        while size % n:
            k, extent = axes.pop()
            place, size = place + k * size, size * extent
        over = size > n
        source.insert(0, place % n if over else place)
        place, size = place // n if over else 0, size // n
    return tuple(source)


def _sliced(i: Any, shape: tuple[int, ...], *, key: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index, before slicing with ``key``, of the element at ``i``: ranges know the steps."""
    source: list[Any] = []
    rest = iter(i)
    for part in key:
        if part is None:
            next(rest)
        else:
            taken: Any = range(shape[len(source)])[part]
            fixed = isinstance(taken, int)
            source.append(taken if fixed else taken.start + taken.step * next(rest))
    return (*source, *rest)


def _within(i: Any, shape: tuple[int, ...], *, widths: tuple[tuple[int, int], ...]) -> Any:
    """Whether the element at ``i`` lies inside the border of ``widths``."""
    sides = [(k >= lo) & (k < lo + n) for k, (lo, _), n in zip(i, widths, shape, strict=True)]
    return reduce(and_, sides, True)


# --------------------------------------------------------------------------------- the records

reshape_ = movement(
    "reshape",
    lambda xp, x, *, shape: xp.reshape(x, shape),
    vjp=lambda g, in_shape: reshape_(g, shape=in_shape),
    batch=lambda size, shape: {"shape": (size, *shape)},
    lower=IndexMap(_refolded),
    sample=_sample(lambda rng, shape: {"shape": (*shape[::-1], 1)}),
    why="the elements stand in the same order, so the gradient is reshaped back",
)
permute = movement(
    "permute",
    lambda xp, x, *, axes: xp.transpose(x, axes),
    vjp=lambda g, axes: permute(g, axes=tuple(int(k) for k in np.argsort(axes))),
    batch=lambda size, axes: {"axes": (0, *shifted(axes))},
    lower=IndexMap(lambda i, shape, *, axes: tuple(i[axes.index(k)] for k in range(len(i)))),
    sample=_sample(lambda rng, shape: {"axes": tuple(rng.permutation(len(shape)).tolist())}),
    why="the axes go back by the inverse permutation",
)
broadcast_to_ = movement(
    "broadcast_to",
    lambda xp, x, *, shape: xp.broadcast_to(x, shape),
    vjp=lambda g, in_shape: unbroadcast(g, in_shape),
    batch=lambda size, shape: {"shape": (size, *shape)},
    lower=IndexMap(lambda i, old, *, shape: i[len(shape) - len(old) :]),
    sample=_sample(lambda rng, shape: {"shape": tuple(n if n != 1 else 3 for n in shape)}),
    why="an element that was copied collects the gradients of all its copies",
)
flip_ = movement(
    "flip",
    lambda xp, x, *, axis: xp.flip(x, axis),
    vjp=lambda g, axis: flip_(g, axis=axis),
    batch=lambda size, axis: {"axis": shifted(axis)},
    lower=IndexMap(
        lambda i, shape, *, axis: tuple(
            shape[k] - 1 - at if k in axis else at for k, at in enumerate(i)
        )
    ),
    sample=_sample(
        lambda rng, shape: {"axis": tuple(k for k in range(len(shape)) if rng.random() < 0.5)}
    ),
    why="flipping back is flipping again",
)
pad_ = linear(
    "pad",
    lambda xp, x, *, widths: _unslice(
        xp, x, key=_inner(widths, x.shape), shape=_padded(widths, x.shape)
    ),
    vjp=lambda g, in_shape, widths: slice_(g, key=_inner(widths, in_shape)),
    batch=lambda size, widths: {"widths": ((0, 0), *widths)},
    lower=IndexMap(
        lambda i, shape, *, widths: tuple(k - lo for k, (lo, _) in zip(i, widths, strict=True)),
        inside=_within,
    ),
    sample=_sample(lambda rng, shape: {"widths": tuple((int(rng.integers(3)), 1) for _ in shape)}),
    why="the border is constant, so the gradient is what lies inside it",
)


def _into_slice(total: Any, g: Any, key: tuple[Any, ...]) -> None:
    total[key] += g


slice_ = movement(
    "slice",
    lambda xp, x, *, key: x[key],
    vjp=lambda g, in_shape, key: unslice(g, key=key, shape=in_shape),
    into=_into_slice,  # a slice for each of n steps would else take n arrays of the size of all
    batch=lambda size, key: {"key": (slice(None), *key)},
    lower=IndexMap(_sliced),
    sample=_sample(lambda rng, shape: {"key": (slice(None, None, -2),) * min(len(shape), 1)}),
    why="the elements that were not taken get no gradient",
)


def _inner(widths: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of what a border of ``widths`` was put around."""
    return tuple(slice(lo, lo + n) for (lo, _), n in zip(widths, shape, strict=True))


def _padded(widths: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(lo + n + hi for (lo, hi), n in zip(widths, shape, strict=True))


def _unslice(xp: Any, g: Any, *, key: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    out = xp.zeros(shape, dtype=g.dtype)
    out[key] = g
    return out


unslice = linear(
    "unslice",
    _unslice,
    vjp=lambda g, key: slice_(g, key=key),
    batch=lambda size, key, shape: {"key": (slice(None), *key), "shape": (size, *shape)},
    sample=lambda rng: ((rng.standard_normal(3),), {"key": (slice(1, 4),), "shape": (5,)}),
    why="the transpose of a slice: back into place, zeros elsewhere",
)


def _section(g: Any, i: int, in_shape: tuple[int, ...], others: list[Any], axis: int) -> Any:
    start = sum(np.shape(other)[axis] for other in others[:i])
    key = (slice(None),) * axis + (slice(start, start + in_shape[axis]),)
    return slice_(g, key=key)


concatenate_ = linear(
    "concatenate",
    lambda xp, *arrays, axis: xp.concatenate(arrays, axis),
    vjp=_section,
    batch=lambda size, axis: {"axis": axis + 1},
    sample=lambda rng: (
        (rng.standard_normal((2, 3)), rng.standard_normal((2, 0)), rng.standard_normal((2, 2))),
        {"axis": 1},
    ),
    why="each part takes its own piece of the gradient",
)

# ---------------------------------------------------------------------------- the public faces


@on_arrays("x")
def reshape(x: Any, *shape: Any) -> Any:
    """``x`` with the same elements, in C order, in another shape; one size may be -1.

    Takes ``reshape(x, (2, 3))`` and ``reshape(x, 2, 3)``. Raises ShapeError if the sizes differ.
    """
    wanted = shape[0] if len(shape) == 1 else shape
    size = math.prod(x.shape)
    return reshape_(x, shape=filled_shape(wanted, size, x.shape))


@on_arrays("x")
def flatten(x: Any, start_axis: int = 0, end_axis: int = -1) -> Any:
    """``x`` with the axes from ``start_axis`` to ``end_axis`` joined into one (all by default)."""
    if x.ndim == 0:
        return reshape(x, 1)
    first, last = one_axis(start_axis, x.ndim), one_axis(end_axis, x.ndim)
    if first > last:
        raise ShapeError(f"flatten: start_axis {start_axis} stands after end_axis {end_axis}")
    joined = math.prod(x.shape[first : last + 1])
    return reshape(x, (*x.shape[:first], joined, *x.shape[last + 1 :]))


@on_arrays("x")
def transpose(x: Any, *axes: Any) -> Any:
    """The axes in the order ``axes``, as one tuple or one by one; reversed without."""
    listed = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    order = tuple(listed) if listed else tuple(range(x.ndim))[::-1]
    return permute_dims(x, order)


@on_arrays("x")
def permute_dims(x: Any, axes: Sequence[int]) -> Any:
    """The axes in the order ``axes``; raises ShapeError if that is not a permutation."""
    order = tuple(one_axis(a, x.ndim) for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"transpose: {tuple(axes)} is not a permutation of {x.ndim} axes")
    return permute(x, axes=order)


@on_arrays("x")
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """``x`` with two axes exchanged."""
    order = list(range(x.ndim))
    a, b = one_axis(axis1, x.ndim), one_axis(axis2, x.ndim)
    order[a], order[b] = order[b], order[a]
    return permute(x, axes=tuple(order))


@on_arrays("x")
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    """``x`` with the axes ``source`` moved to the places ``destination``."""
    src = [one_axis(a, x.ndim) for a in (source if isinstance(source, list | tuple) else [source])]
    dst = [
        one_axis(a, x.ndim)
        for a in (destination if isinstance(destination, list | tuple) else [destination])
    ]
    if len(src) != len(dst) or len(set(src)) != len(src) or len(set(dst)) != len(dst):
        raise ShapeError(f"moveaxis: {source} and {destination} must list as many distinct axes")
    order = [k for k in range(x.ndim) if k not in src]
    for place, axis in sorted(zip(dst, src, strict=True)):
        order.insert(place, axis)
    return permute(x, axes=tuple(order))


@on_arrays("x")
def expand_dims(x: Any, axis: Axis) -> Any:
    """``x`` with axes of size 1 put in so that they stand at ``axis`` in the result."""
    listed = axis if isinstance(axis, list | tuple) else (axis,)
    places = axes_of(tuple(listed), x.ndim + len(listed))
    rest = iter(x.shape)
    shape = tuple(1 if k in places else next(rest) for k in range(x.ndim + len(places)))
    return reshape_(x, shape=shape)


@on_arrays("x")
def squeeze(x: Any, axis: Axis = None) -> Any:
    """``x`` without the axes ``axis``, which must have size 1 (all such axes by default)."""
    if axis is None:
        return reshape_(x, shape=tuple(n for n in x.shape if n != 1))
    gone = axes_of(axis, x.ndim)
    if any(x.shape[k] != 1 for k in gone):
        raise ShapeError(f"squeeze: axis {axis} of shape {x.shape} has a size other than 1")
    return reshape_(x, shape=tuple(n for k, n in enumerate(x.shape) if k not in gone))


@on_arrays("x")
def broadcast_to(x: Any, shape: Any) -> Any:
    """``x`` repeated along new axes and axes of size 1 to fill ``shape``."""
    wanted = shape_tuple(shape)
    if broadcast_shapes(x.shape, wanted) != wanted:
        raise ShapeError(f"broadcast_to: shape {x.shape} does not fill {wanted}")
    aligned = (1,) * (len(wanted) - x.ndim) + tuple(x.shape)
    return broadcast_to_(x if x.shape == aligned else reshape_(x, shape=aligned), shape=wanted)


@on_arrays("x")
def flip(x: Any, axis: Axis = None) -> Any:
    """``x`` with the order of the elements reversed along ``axis`` (all axes by default)."""
    return flip_(x, axis=axes_of(axis, x.ndim))


@on_arrays("x")
def roll(x: Any, shift: Any, axis: Axis = None) -> Any:
    """``x`` with its elements moved on by ``shift`` places, round the end; flat without axis.

    Several shifts and axes are paired as NumPy broadcasts them.
    """
    if axis is None:
        return reshape(roll(reshape(x, -1), shift, 0), x.shape)
    try:
        pairs = np.broadcast(shift, axis)
    except ValueError:
        raise ShapeError(f"roll: shifts {shift} and axes {axis} differ in number") from None
    for s, a in pairs:
        k = one_axis(a, x.ndim)
        if x.shape[k]:
            cut = -shape_tuple(s)[0] % x.shape[k]
            before, after = split(x, [cut], k)
            x = concatenate_(after, before, axis=k)
    return x


@on_arrays("x")
def tile(x: Any, repetitions: Any) -> Any:
    """``x`` laid side by side ``repetitions`` times along each axis."""
    reps = shape_tuple(repetitions)
    if any(r < 0 for r in reps):
        raise ShapeError(f"tile: repetitions must not be negative, got {reps}")
    width = max(len(reps), x.ndim)
    reps = (1,) * (width - len(reps)) + reps
    shape = (1,) * (width - x.ndim) + tuple(x.shape)
    spread = [n for r, s in zip(reps, shape, strict=True) for n in (r, s)]
    thin = [n for s in shape for n in (1, s)]
    whole = broadcast_to_(reshape_(x, shape=tuple(thin)), shape=tuple(spread))
    return reshape_(whole, shape=tuple(r * s for r, s in zip(reps, shape, strict=True)))


def _listed(name: str, arrays: Any) -> list[Any]:
    """The arrays that ``name`` is to join, numbers and lists of numbers made arrays."""
    if not isinstance(arrays, Iterable):
        raise DTypeError(f"{name} needs a list of arrays, not {type(arrays).__name__}")
    parts = operands(name, (), list(arrays), numbers=False)
    if not parts:
        raise ShapeError(f"{name} needs at least one array")
    return parts


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """The arrays joined along an existing axis (flattened first if ``axis`` is None)."""
    parts = _listed("concatenate", arrays)
    if axis is None:
        parts, axis = [reshape(p, -1) for p in parts], 0
    return concatenate_(*parts, axis=one_axis(axis, parts[0].ndim))


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """The arrays, all of one shape, joined along a new axis."""
    parts = _listed("stack", arrays)
    if len({tuple(p.shape) for p in parts}) > 1:
        raise ShapeError(f"stack: shapes differ: {', '.join(str(p.shape) for p in parts)}")
    return concatenate([expand_dims(p, axis) for p in parts], axis)


@on_arrays("x")
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Any]:
    """``x`` cut along ``axis`` into equal sections (an int) or before the given indices."""
    k = one_axis(axis, x.ndim)
    n = x.shape[k]
    if np.ndim(indices_or_sections) == 0:
        (parts,) = shape_tuple(indices_or_sections)
        if parts < 1 or n % parts:
            raise ShapeError(f"split: axis {axis} of size {n} does not divide into {parts} parts")
        step = n // parts
        cuts = list(range(step, n, step)) if step else [0] * (parts - 1)
    else:
        cuts = list(shape_tuple(list(indices_or_sections)))
    bounds = zip([None, *cuts], [*cuts, None], strict=True)
    return [slice_(x, key=(slice(None),) * k + (slice(lo, hi),)) for lo, hi in bounds]


@on_arrays("x")
def unstack(x: Any, axis: int = 0) -> list[Any]:
    """The slices of ``x`` along ``axis``, without that axis."""
    k = one_axis(axis, x.ndim)
    lead, n = (slice(None),) * k, x.shape[k]
    if n <= 16:
        return [slice_(x, key=(*lead, i)) for i in range(n)]
    # By halves: a backward that is recorded puts each slice into zeros of the shape of its part.
    parts = slice_(x, key=(*lead, slice(n // 2))), slice_(x, key=(*lead, slice(n // 2, None)))
    return [piece for part in parts for piece in unstack(part, k)]


@on_arrays("x")
def pad(x: Any, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Any:
    """``x`` with a border: ``pad_width`` is an int, a pair, or a pair for each axis (NumPy's).

    Only ``mode="constant"`` with one value is supported; others raise NotImplementedError.
    """
    if mode != "constant" or np.size(constant_values) != 1:
        raise NotImplementedError(
            f"pad: mode {mode!r} with constant_values={constant_values!r} is not supported; "
            "mode 'constant' with one value is"
        )
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (x.ndim, 2))
    except ValueError:
        raise ShapeError(
            f"pad: pad_width {pad_width!r} does not fit the {x.ndim} axes of shape {x.shape}"
        ) from None
    if widths.dtype.kind not in "iu":
        raise DTypeError(f"pad: pad_width must hold integers, not {pad_width!r}")
    if (widths < 0).any():
        raise ShapeError(f"pad: widths must not be negative, got {pad_width!r}")
    pairs = tuple((int(lo), int(hi)) for lo, hi in widths)
    padded = pad_(x, widths=pairs)
    tracked = isinstance(constant_values, Value)
    border = constant_values if tracked else real(constant_values, "pad: constant_values")
    if not tracked and border == 0:
        return padded
    inside = namespaces.get(type(raw(x)), NUMPY.xp).zeros(padded.shape, dtype=bool)
    inside[_inner(pairs, x.shape)] = True
    return where(inside, padded, border)
