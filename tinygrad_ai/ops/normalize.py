"""Scaling to mean 0 and unit root mean square: what layer, batch and RMS normalisation share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.autodiff import elementwise, opaque
from tinygrad_ai.ops.elementwise import sqrt, widened
from tinygrad_ai.ops.lowering import Composite
from tinygrad_ai.ops.products import in_float32
from tinygrad_ai.ops.reduce import all_, mean_
from tinygrad_ai.ops.shapes import count, shifted
from tinygrad_ai.ops.special import rsqrt


def _unit_rms(xp: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    total = xp.sum(x * x, axis=axis, keepdims=True)
    return x * (1 / xp.sqrt(total / max(count(x.shape, axis), 1) + eps)).astype(x.dtype)


def _unit_rms_parts(x: Any, axis: tuple[int, ...], eps: float) -> Any:
    return x * (1 / sqrt(mean_(x * x, axis=axis, keepdims=True) + eps))


def _along_sphere(g: Any, y: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    """The Jacobian (1 - y·yᵀ/n) / rms(x), which is symmetric, times ``g``."""
    g, y, x = widened(g), widened(y), widened(x)
    scale = rsqrt(mean_(x * x, axis=axis, keepdims=True) + eps)
    return (g - y * mean_(g * y, axis=axis, keepdims=True)) * scale


unit_rms = opaque(
    "unit_rms",
    lambda xp, x, *, axis, eps: in_float32(lambda x: _unit_rms(xp, x, axis, eps), x),
    vjp=_along_sphere,
    quiet=lambda g, axis: all_(g == 0, axis=axis, keepdims=True),
    batch=lambda size, axis, eps: {"axis": shifted(axis), "eps": eps},
    lower=Composite(_unit_rms_parts),
    kernel="fused",
    sample=lambda rng: (
        (rng.standard_normal((3, 4)) + np.float64(0.5),),
        {"axis": (1,), "eps": 0.1},
    ),
    why="x over its root mean square: what would only change the length is taken out of g",
)


def _standardized(xp: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    total = xp.sum(x, axis=axis, keepdims=True)
    return _unit_rms(xp, x - (total / max(count(x.shape, axis), 1)).astype(x.dtype), axis, eps)


def _standardized_parts(x: Any, axis: tuple[int, ...], eps: float) -> Any:
    return _unit_rms_parts(x - mean_(x, axis=axis, keepdims=True), axis, eps)


def _along_sphere_and_plane(g: Any, y: Any, x: Any, axis: tuple[int, ...], eps: float) -> Any:
    """The Jacobian (1 - 1/n - y·yᵀ/n) / std(x), which is symmetric, times ``g``."""
    g, x = widened(g), widened(x)
    g = g - mean_(g, axis=axis, keepdims=True)
    return _along_sphere(g, y, x - mean_(x, axis=axis, keepdims=True), axis, eps)


standardize = opaque(
    "standardize",
    lambda xp, x, *, axis, eps: in_float32(lambda x: _standardized(xp, x, axis, eps), x),
    vjp=_along_sphere_and_plane,
    quiet=lambda g, axis: all_(g == 0, axis=axis, keepdims=True),
    batch=lambda size, axis, eps: {"axis": shifted(axis), "eps": eps},
    lower=Composite(_standardized_parts),
    kernel="fused",
    sample=lambda rng: ((rng.standard_normal((3, 4)),), {"axis": (1,), "eps": 0.1}),
    why="x less its mean, over its standard deviation: what would only move or stretch x is taken "
    "out of g",
)
scale_and_shift = elementwise(
    "scale_and_shift",
    lambda xp, x, scale, shift: x * scale + shift,
    vjp=(lambda g, scale: g * scale, lambda g, x: g * x, lambda g: g),
    singular="a factor is 0 or infinite",
    kernel="fused",
    why="each factor is weighted by the other, and the shift counts as it is",
)
