"""Scaling to unit root mean square: what layer, batch and RMS normalisation share."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.autodiff import opaque
from tinygrad_ai.autodiff.lowering import Composite
from tinygrad_ai.ops.elementwise import sqrt, widened
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
    sample=lambda rng: (
        (rng.standard_normal((3, 4)) + np.float64(0.5),),
        {"axis": (1,), "eps": 0.1},
    ),
    why="x over its root mean square: what would only change the length is taken out of g",
)
