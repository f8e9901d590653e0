"""Activations and dropout; those not defined here are the records themselves."""

from __future__ import annotations

from typing import Any

from tinygrad_ai import random
from tinygrad_ai.dtypes import probability
from tinygrad_ai.errors import DTypeError, ValueRangeError
from tinygrad_ai.ops import special
from tinygrad_ai.ops.activations import elu_, gelu_erf, gelu_tanh, leaky_relu_, silu
from tinygrad_ai.ops.elementwise import relu, sigmoid, tanh
from tinygrad_ai.ops.shapes import one_axis
from tinygrad_ai.ops.softmax import log_softmax_, softmax_

__all__ = [
    "dropout",
    "elu",
    "gelu",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]

# Klambauer et al., "Self-normalizing neural networks" (2017), equation 14: with these two, mean 0
# and variance 1 are a fixed point.
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """``input`` where positive, else ``negative_slope`` times it, which is the slope at 0 too."""
    return leaky_relu_(input, slope=negative_slope)


def elu(input: Any, alpha: float = 1.0) -> Any:
    """``input`` where positive, else α·(eˣ - 1) (Clevert et al., 2016)."""
    return elu_(input, alpha=alpha)


def selu(input: Any) -> Any:
    """ELU scaled so that activations stay normalised (Klambauer et al., 2017)."""
    return SELU_SCALE * elu_(input, alpha=SELU_ALPHA)


def gelu(input: Any, approximate: str = "none") -> Any:
    """x·Φ(x) with the normal distribution Φ (Hendrycks and Gimpel, 2016).

    ``approximate="tanh"`` is their ½x·(1 + tanh(√(2/π)·(x + 0.044715x³))). ValueRangeError for
    other values.
    """
    if approximate not in ("none", "tanh"):
        raise ValueRangeError(f"gelu: approximate must be 'none' or 'tanh', not {approximate!r}")
    return gelu_erf(input) if approximate == "none" else gelu_tanh(input)


def softplus(input: Any, beta: float = 1.0) -> Any:
    """log(1 + e^(βx))/β, a smooth relu, without overflow.

    Exact for large x too, so there is no threshold beyond which it becomes x.
    """
    return special.softplus(input) if beta == 1 else special.softplus(input * beta) / beta


def softmax(input: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """eˣ/Σeˣ along ``axis``: positive shares that add up to 1; all zeros where all are -inf.

    The last axis without; ``dim`` is PyTorch's name for it. Raises DTypeError for integers,
    ValueRangeError where both names are used.
    """
    return softmax_(input, axis=_float_axis("softmax", input, axis, dim))


def log_softmax(input: Any, axis: int | None = None, *, dim: int | None = None) -> Any:
    """x - log Σeˣ along ``axis``, with the arguments and errors of :func:`softmax`."""
    return log_softmax_(input, axis=_float_axis("log_softmax", input, axis, dim))


def axis_of(name: str, axis: int | None, dim: int | None) -> int:
    """The axis given under one of its two names, else the last; ValueRangeError for both."""
    if axis is not None and dim is not None:
        raise ValueRangeError(f"{name}: axis={axis} and dim={dim} are two names for one argument")
    axis = dim if axis is None else axis
    return -1 if axis is None else axis


def _float_axis(name: str, input: Any, axis: int | None, dim: int | None) -> int:
    found = axis_of(name, axis, dim)
    if input.dtype.kind != "f":
        raise DTypeError(
            f"{name}: needs floating-point numbers, got {input.dtype}",
            "   help: x.astype('float32') has them",
        )
    return one_axis(found, input.ndim)


def dropout(input: Any, p: float = 0.5, training: bool = True) -> Any:
    """In training each element is 0 with probability ``p`` and else divided by 1 - p.

    So the expected value stays, and nothing is done otherwise (Srivastava et al., 2014). Draws from
    ``tinygrad_ai.random``. Raises ValueRangeError unless 0 ≤ p ≤ 1.
    """
    probability(p, "dropout: p")
    if not training or p == 0:
        return input
    kept = random.bernoulli(1 - p, input.shape, input.dtype, input.device)
    return input * (kept / (1 - p) if p < 1 else kept)
