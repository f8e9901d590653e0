"""Random valid calls of an operation, derived from its record."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive

#: Groups of shapes that broadcast together: 0-d, zero-size, 1, primes, stretched axes.
SHAPES: tuple[tuple[tuple[int, ...], ...], ...] = (
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


def sample_call(record: Primitive, rng: np.random.Generator) -> tuple[list[Any], dict[str, Any]]:
    """Inputs (float64, or what the operation takes) and parameters of one valid call.

    Values lie inside the record's domain and away from its kinks.
    """
    if record.sample is not None:
        inputs, params = record.sample(rng)
        return [np.asarray(x) for x in inputs], params
    shapes = SHAPES[rng.integers(len(SHAPES))]
    if record.kind == "elementwise":
        return _away_from_kinks(record, shapes, rng), {}
    shape = shapes[0] if all(shapes[0]) and shapes[0] else (2, 3)
    return [_layout(rng.standard_normal(shape), rng)], _reduction_params(record, shape, rng)


def _reduction_params(
    record: Primitive, shape: tuple[int, ...], rng: np.random.Generator
) -> dict[str, Any]:
    axis = tuple(k for k in range(len(shape)) if rng.random() < 0.6)
    values = {
        "axis": axis if record.kind == "reduction" else int(rng.integers(max(len(shape), 1))),
        "keepdims": bool(rng.random() < 0.5),
        "ddof": 0,
    }
    return {k: values[k] for k in inspect.signature(record.forward).parameters if k in values}


def _away_from_kinks(
    record: Primitive, shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator
) -> list[Any]:
    while True:
        inputs = [_values(record, k, shapes[k], rng) for k in range(record.arity)]
        if record.kinks is None or bool((abs(record.kinks(*inputs)) > 0.02).all()):
            return inputs


def _values(record: Primitive, k: int, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    if record.name in BITS or (record.name in CONDITIONS and (record.name != "where" or k == 0)):
        return _layout(rng.random(shape) < 0.5, rng)
    low, high = record.domain[k]
    low, high = max(low, -2.0) if np.isfinite(low) else -2.0, high
    high = min(high, low + 4.0) if np.isfinite(high) else low + 4.0
    margin = 0.1 * (high - low)
    return _layout(rng.uniform(low + margin, high - margin, shape), rng)


def _layout(x: Any, rng: np.random.Generator) -> Any:
    """The same values in another memory layout: as is, reversed, transposed, stepped."""
    x = np.asarray(x)
    if x.ndim == 0:
        return x
    kind = rng.integers(4)
    if kind == 1:
        return np.flip(np.flip(x).copy())
    if kind == 2:
        return x.T.copy().T
    if kind == 3:
        wide = np.repeat(x, 2, axis=-1)
        return wide[..., ::2]
    return x
