"""Initialisers: they fill a tensor in place, from ``tinygrad_ai.random``, and return it.

fan_in is the number of inputs that one output element sums over, fan_out the number of outputs
that one input element reaches: for a weight (out, in, *kernel) they are in·Πkernel and out·Πkernel.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import no_grad
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.tensor import Tensor


def _fill(tensor: Tensor, values: Any) -> Tensor:
    with no_grad():
        tensor[...] = values
    return tensor


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform numbers in [a, b)."""
    return _fill(tensor, random.uniform(a, b, tensor.shape, tensor.dtype, tensor.device))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal numbers of this mean and standard deviation."""
    return _fill(tensor, random.normal(mean, std, tensor.shape, tensor.dtype, tensor.device))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere."""
    return _fill(tensor, val)


def zeros_(tensor: Tensor) -> Tensor:
    """Zeros."""
    return _fill(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Ones."""
    return _fill(tensor, 1)


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in, *kernel); ShapeError with fewer than two axes."""
    if tensor.ndim < 2:
        raise ShapeError(f"fan_in and fan_out need two axes or more, got shape {tensor.shape}")
    kernel = math.prod(tensor.shape[2:])
    return tensor.shape[1] * kernel, tensor.shape[0] * kernel


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor that keeps the variance through an activation, as PyTorch has them.

    1 for linear maps, convolutions and sigmoid, 5/3 for tanh, √2 for relu, √(2/(1+a²)) for
    leaky_relu with slope a = ``param`` (0.01), 3/4 for selu. ValueRangeError for other names.
    """
    slope = 0.01 if param is None else param
    gains = {
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 0.75,
    }
    if nonlinearity.startswith(("linear", "conv")):
        return 1.0
    if nonlinearity not in gains:
        raise ValueRangeError(
            f"no gain is known for {nonlinearity!r}; known: linear, {', '.join(gains)}"
        )
    return gains[nonlinearity]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform in ±gain·√(6/(fan_in + fan_out)) (Glorot and Bengio, 2010, equation 16)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with standard deviation gain·√(2/(fan_in + fan_out)) (Glorot and Bengio, 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Uniform in ±gain·√(3/fan) (He et al., 2015); ``a`` is the slope of a leaky relu.

    ``mode="fan_in"`` keeps the variance of values, "fan_out" that of gradients.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound)


def kaiming_normal_(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Normal with standard deviation gain/√fan (He et al., 2015, equation 10)."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueRangeError(f"mode must be 'fan_in' or 'fan_out', not {mode!r}")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fan, 1))


def orthogonal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """``gain`` times a random matrix with orthonormal rows or columns, whichever are fewer.

    Axes after the first are taken as one. It is the Q of a normal matrix's QR decomposition, with
    the signs of R's diagonal, which makes it uniform (Saxe et al., 2014; Mezzadri, 2007).
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_ needs two axes or more, got shape {tensor.shape}")
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    tall = random.normal(size=(max(rows, columns), min(rows, columns)), dtype=np.float64).numpy()
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    values = gain * (q if rows >= columns else q.T).reshape(tensor.shape)
    return _fill(tensor, Tensor(values, dtype=tensor.dtype, device=tensor.device))
