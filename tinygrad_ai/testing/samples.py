"""Random valid calls of an operation, derived from its record."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.ops.lowering import Fold

Shape = tuple[int, ...]

#: Groups of shapes that broadcast together: 0-d, zero-size, 1, primes, stretched axes.
SHAPES: tuple[tuple[Shape, ...], ...] = (
    ((), (), ()),
    ((3,), (3,), (3,)),
    ((2, 3), (3,), (2, 1)),
    ((3,), (), (2, 1)),
    ((1,), (5,), (1,)),
    ((2, 1, 3), (1, 2, 1), (3,)),
    ((0, 3), (3,), (1, 3)),
    ((1,), (0,), (1,)),
)
CONDITIONS = {"where", "logical_and", "logical_or", "logical_xor", "logical_not"}
BITS = {"bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"}


def _read_only(x: Any) -> Any:
    view = x.view()
    view.flags.writeable = False
    return view


#: The same values in another memory layout, by the layout's name.
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda x: x,
    "reversed": lambda x: np.flip(np.asarray(np.flip(x)).copy()) if x.ndim else x,
    "transposed": lambda x: x.T.copy().T,
    "stepped": lambda x: np.stack([x, x], -1)[..., 0],
    "read-only": _read_only,
}


def sample_call(
    record: Primitive, rng: Any, shapes: Sequence[Shape] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Inputs (float64, or what the operation takes) and parameters of one valid call.

    Values lie inside the record's domain and away from its kinks. ``rng`` is a
    ``numpy.random.Generator`` or what draws like one; ``shapes`` are shapes that broadcast
    together, one for each input (one of :data:`SHAPES` if not given). A record with a ``sample``
    of its own chooses shapes itself.
    """
    shapes = SHAPES[rng.integers(len(SHAPES))] if shapes is None else shapes
    while True:
        inputs, params = _call(record, rng, shapes)
        if record.kinks is None or record.kind == "reduction" or _clear(record.kinks(*inputs)):
            return inputs, params


def _clear(distance: Any) -> bool:
    return bool((abs(distance) > 0.02).all())


def _call(record: Primitive, rng: Any, shapes: Sequence[Shape]) -> tuple[list[Any], dict[str, Any]]:
    if record.sample is not None:
        inputs, params = record.sample(rng)
        return [_layout(np.asarray(x), rng) for x in inputs], params
    if record.kind == "elementwise":
        return [_values(record, k, shapes[k], rng) for k in range(record.arity)], {}
    shape = shapes[0] if _foldable(record, shapes[0]) else (2, 3)
    return [_layout(rng.standard_normal(shape), rng)], _reduction_params(record, shape, rng)


def _foldable(record: Primitive, shape: Shape) -> bool:
    """Whether there is an answer for every choice of axes: of no elements only a sum has one."""
    if record.kind != "reduction":
        return bool(shape) and all(shape)
    fold = record.lower
    sums = isinstance(fold, Fold) and math.isfinite(fold.identity) and not fold.finish
    return all(shape) or sums


def _reduction_params(record: Primitive, shape: Shape, rng: Any) -> dict[str, Any]:
    axis = tuple(k for k in range(len(shape)) if rng.random() < 0.6)
    values = {
        "axis": axis if record.kind == "reduction" else int(rng.integers(max(len(shape), 1))),
        "keepdims": bool(rng.random() < 0.5),
        "ddof": 0,
    }
    return {k: values[k] for k in inspect.signature(record.forward).parameters if k in values}


def _values(record: Primitive, k: int, shape: Shape, rng: Any) -> Any:
    if record.name in BITS or (record.name in CONDITIONS and (record.name != "where" or k == 0)):
        return _layout(rng.random(shape) < 0.5, rng)
    return _layout(uniform_in(record.domain[k], shape, rng), rng)


def uniform_in(domain: tuple[float, float], shape: Shape, rng: Any) -> Any:
    """Random float64 numbers well inside an interval, of which at most 4 units are used."""
    low, high = domain
    low = max(low, -2.0) if np.isfinite(low) else min(-2.0, high - 4.0)
    high = min(high, low + 4.0)
    margin = 0.1 * (high - low)
    return np.asarray(rng.uniform(low + margin, high - margin, shape))


def _layout(x: Any, rng: Any) -> Any:
    """The same values in a random one of :data:`LAYOUTS`."""
    return list(LAYOUTS.values())[rng.integers(len(LAYOUTS))](np.asarray(x))
