"""The error functions, which NumPy lacks: polynomials over whole arrays, a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.kernels.fits import DOUBLE, SINGLE, TAYLOR

BLOCK = 32768  #: elements whose intermediate results stay in the cache


def erf(x: Any) -> Any:
    """The error function, elementwise, in the dtype of ``x``; at most 4 ulp."""
    return _in_blocks(x, _erf)


def erfc(x: Any) -> Any:
    """1 - erf(x) without cancellation, elementwise, in the dtype of ``x``; at most 6 ulp."""
    return _in_blocks(x, _erfc)


def _in_blocks(x: Any, function: Callable[[Any], Any]) -> Any:
    x = np.asarray(x)
    dtype = np.result_type(x.dtype, np.float16)
    flat = x.astype(np.result_type(dtype, np.float32), copy=False).reshape(-1)
    out = np.empty(flat.size, dtype)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        out[block] = function(flat[block])
    return out.reshape(x.shape)


def _erf(x: Any) -> Any:
    side, near, tail = _parts(x)
    return near + side * (tail - 1)


def _erfc(x: Any) -> Any:
    side, near, tail = _parts(x)
    return (1 - side * side) * (1 - near) + side * (side + 1 - tail)


def _parts(x: Any) -> tuple[Any, Any, Any]:
    """Where |x| < ½: 0, erf x and anything; elsewhere minus the sign of x, 0 and erfc|x|.

    The square in exp(-x²) is split into that of a short number, which is exact, and a small rest:
    rounded, it would cost as many ulps as it is large. Nothing here is chosen by a branch.
    """
    single = x.dtype == np.float32
    x = np.clip(x, -30, 30)  # beyond it erfc is 0
    a = np.abs(x)
    side = (x <= -0.5).astype(x.dtype) - (x >= 0.5)  # minus, so that erf(-0) is -0
    x *= 1 - side * side
    near = x * _polynomial(x * x, TAYLOR[:8] if single else TAYLOR)
    short = np.trunc(a * 16) * 0.0625
    tail = np.exp(-short * short) * np.exp((short - a) * (short + a))
    reciprocal = 1 / (a + 2)
    tail *= reciprocal * _polynomial(1 - 5 * reciprocal, SINGLE if single else DOUBLE)
    return side, near, tail


def _polynomial(x: Any, coefficients: Sequence[float]) -> Any:
    """Σ coefficients[k]·xᵏ by Horner's rule."""
    total = x * coefficients[-1]
    for c in coefficients[-2:0:-1]:
        total += c
        total *= x
    total += coefficients[0]
    return total
