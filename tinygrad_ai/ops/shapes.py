"""What the public faces of operations share: reading their arguments, and shape arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from inspect import signature
from operator import index
from typing import Any, ParamSpec, TypeVar

from tinygrad_ai.backend import operands
from tinygrad_ai.errors import DTypeError, ShapeError

Axis = int | Sequence[int] | None
P = ParamSpec("P")
R = TypeVar("R")


def on_arrays(*names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a face whose first parameters, ``names``, are arrays: numbers and lists become some.

    DTypeError for anything else, such as None or a string.
    """

    def decorate(face: Callable[P, R]) -> Callable[P, R]:
        called, count = signature(face), len(names)

        @wraps(face)
        def taking(*args: P.args, **keywords: P.kwargs) -> R:
            for x in args[:count]:
                if not hasattr(x, "dtype"):
                    break
            else:
                if len(args) >= count:
                    return face(*args, **keywords)
            bound = called.bind_partial(*args, **keywords)
            given = {k: bound.arguments[k] for k in names if k in bound.arguments}
            found = operands(face.__name__, list(given), list(given.values()), numbers=False)
            bound.arguments.update(zip(given, found, strict=True))
            return face(*bound.args, **bound.kwargs)

        return taking

    return decorate


def one_axis(axis: Any, ndim: int, name: str = "axis") -> int:
    """``axis`` counted from 0; raises ShapeError where there is no such axis."""
    try:
        k = index(axis)
    except TypeError:
        raise DTypeError(f"{name} must be an integer, not {axis!r}") from None
    if not -ndim <= k < ndim:
        raise ShapeError(f"{name} {k} is out of bounds for an array of {ndim} dimensions")
    return k % ndim


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """``axis`` as a sorted tuple of axes counted from 0; None means all of them."""
    if axis is None:
        return tuple(range(ndim))
    listed = axis if isinstance(axis, list | tuple) else (axis,)
    found = sorted(one_axis(a, ndim) for a in listed)
    if len(set(found)) != len(found):
        raise ShapeError(f"axis {axis!r} names an axis twice")
    return tuple(found)


def kept_shape(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with size 1 at the axes."""
    return tuple(1 if k in axis else n for k, n in enumerate(shape))


def count(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    """How many elements a reduction over ``axis`` folds into one."""
    return math.prod(shape[k] for k in axis)


def shifted(axis: tuple[int, ...]) -> tuple[int, ...]:
    """The same axes after a batch axis has been put in front."""
    return tuple(k + 1 for k in axis)


def shape_tuple(shape: Any) -> tuple[int, ...]:
    """A shape given as an int or a sequence of ints."""
    listed = shape if isinstance(shape, list | tuple) else (shape,)
    try:
        return tuple(index(n) for n in listed)
    except TypeError:
        raise DTypeError(f"a shape is an int or a sequence of ints, not {shape!r}") from None


def sizes(shape: Any) -> tuple[int, ...]:
    """A shape as :func:`shape_tuple` reads it; raises ShapeError for a negative size."""
    found = shape_tuple(shape)
    if any(n < 0 for n in found):
        raise ShapeError(f"a shape has no negative sizes, got {found}")
    return found


def filled_shape(shape: Any, size: int, old: tuple[int, ...]) -> tuple[int, ...]:
    """``shape`` with a -1 worked out from ``size``; raises ShapeError where it cannot be."""
    new = shape_tuple(shape)
    if new.count(-1) > 1 or any(n < -1 for n in new):
        raise ShapeError(f"reshape: {new} may hold one -1 and no other negative size")
    rest = math.prod(n for n in new if n != -1)
    if -1 in new and rest and size % rest == 0:
        new = tuple(size // rest if n == -1 else n for n in new)
    if -1 in new or math.prod(new) != size:
        raise ShapeError(
            f"reshape: {size} elements of shape {old} do not fit into shape {shape_tuple(shape)}"
        )
    return new


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape; raises ShapeError with the axis that clashes."""
    width = max(map(len, shapes), default=0)
    padded = [(1,) * (width - len(s)) + tuple(s) for s in shapes]
    result = []
    for k in range(width):
        sizes = {s[k] for s in padded} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"shapes do not broadcast: {' and '.join(map(str, shapes))}",
                f"   axis {k - width} has sizes {' and '.join(map(str, sorted(sizes)))}; "
                "they must be equal, or one of them 1",
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)
