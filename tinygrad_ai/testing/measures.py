"""What properties are made of: cotangents, gradients by position, comparison up to rounding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.testing.adapters import Adapter, CheckError

Array = np.ndarray[Any, Any]
Arrays = Sequence[Array]


def signed(rng: np.random.Generator, like: Array) -> Array:
    """Random numbers of both signs, none near 0, with the shape and dtype of ``like``."""
    x = rng.uniform(0.5, 1.5, like.shape) * rng.choice([-1.0, 1.0], like.shape)
    return np.asarray(x, dtype=like.dtype)


def sloped(arrays: Arrays) -> list[int]:
    """The positions of the floating-point arrays: those that have gradients."""
    return [k for k, x in enumerate(arrays) if x.dtype.kind == "f"]


def gradients(adapter: Adapter, f: Any, arrays: Arrays, v: Arrays) -> list[Array]:
    """The gradient of every floating-point input, zeros where none reaches it."""
    found = adapter.vjp(f, arrays, v)
    return [
        np.zeros_like(arrays[k]) if (g := found[k]) is None else np.asarray(g)
        for k in sloped(arrays)
    ]


def same(what: str, found: Arrays, expected: Arrays) -> None:
    """Assert that lists of arrays are equal but for rounding, relative to each one's largest.

    The tolerance is eps**0.6: 4e-10 in float64, 7e-5 in float32.
    """
    for k, (x, y) in enumerate(zip(found, expected, strict=True)):
        assert x.shape == y.shape, f"{what}: shape {x.shape} instead of {y.shape} (array {k})"
        if x.dtype.kind != "f" or not x.size:
            assert np.array_equal(x, y), f"{what}: {x!r} instead of {y!r} (array {k})"
            continue
        finite = abs(y[np.isfinite(y)])
        tolerance = float(np.finfo(x.dtype).eps) ** 0.6 * (1 + float(finite.max(initial=0)))
        with np.errstate(invalid="ignore"):
            good = (x == y) | ((x != x) & (y != y)) | (abs(x - y) <= tolerance)
        if not good.all():
            at = tuple(int(i) for i in np.argwhere(~good)[0])
            raise AssertionError(f"{what}: {x[at]!r} instead of {y[at]!r} at {at} of array {k}")


def smooth_outputs(adapter: Adapter, f: Any, arrays: Arrays) -> list[Array] | None:
    """The floating-point outputs, if there are any and some input is floating-point too."""
    if not sloped(arrays):
        return None
    try:
        return [np.asarray(y) for y in adapter.call(f, arrays)]
    except CheckError:
        return None


def moved(arrays: Arrays, direction: Arrays, t: float) -> list[Array]:
    """The inputs with the floating-point ones moved by ``t`` along ``direction``."""
    result = list(arrays)
    for k, d in zip(sloped(arrays), direction, strict=True):
        result[k] = np.asarray(arrays[k] + t * d, dtype=arrays[k].dtype)
    return result


def derivative(phi: Callable[[float], float]) -> tuple[float, float]:
    """d/dt phi(t) at 0 and an estimate of its error.

    Central differences with steps h, h/2, h/4, extrapolated twice (Richardson); the error is what
    the last extrapolation changed plus what rounding of phi can do.
    """
    steps = (2e-3, 1e-3, 5e-4)
    ends = [(phi(h), phi(-h)) for h in steps]
    wide, middle, narrow = ((a - b) / (2 * h) for (a, b), h in zip(ends, steps, strict=True))
    first, second = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
    slope = (16 * second - first) / 15
    size = max(abs(x) for pair in ends for x in pair)
    return slope, abs(slope - second) + 8 * np.finfo(np.float64).eps * (1 + size) / steps[-1]
