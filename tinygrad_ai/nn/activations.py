"""Activations as modules, for ``Sequential``; the formulas are in ``functional``."""

from __future__ import annotations

from typing import Any

from tinygrad_ai import functional as F
from tinygrad_ai.functional.activations import axis_of
from tinygrad_ai.nn.module import Module


class ReLU(Module):
    """max(x, 0), with gradient 0 at 0."""

    def forward(self, input: Any) -> Any:
        return F.relu(input)


class LeakyReLU(Module):
    """x where positive, else ``negative_slope`` times x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, input: Any) -> Any:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x where positive, else α·(eˣ - 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, input: Any) -> Any:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SELU(Module):
    """The ELU that keeps mean 0 and variance 1."""

    def forward(self, input: Any) -> Any:
        return F.selu(input)


class GELU(Module):
    """x·Φ(x); ``approximate="tanh"`` for the approximation."""

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = approximate

    def forward(self, input: Any) -> Any:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x·σ(x)."""

    def forward(self, input: Any) -> Any:
        return F.silu(input)


class Sigmoid(Module):
    """1/(1 + e⁻ˣ)."""

    def forward(self, input: Any) -> Any:
        return F.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Any) -> Any:
        return F.tanh(input)


class Softplus(Module):
    """log(1 + e^(βx))/β."""

    def __init__(self, beta: float = 1.0) -> None:
        self.beta = beta

    def forward(self, input: Any) -> Any:
        return F.softplus(input, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta}"


class Softmax(Module):
    """eˣ/Σeˣ along ``axis``, the last one by default (``dim`` is PyTorch's name for it)."""

    def __init__(self, axis: int | None = None, *, dim: int | None = None) -> None:
        self.axis = axis_of("Softmax", axis, dim)

    def forward(self, input: Any) -> Any:
        return F.softmax(input, self.axis)

    def extra_repr(self) -> str:
        return f"axis={self.axis}"


class LogSoftmax(Softmax):
    """x - log Σeˣ along ``axis`` (``dim`` is PyTorch's name for it)."""

    def forward(self, input: Any) -> Any:
        return F.log_softmax(input, self.axis)
