"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from tinygrad_ai import functional as F
from tinygrad_ai.creation import ones, zeros
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.nn.module import Module, Parameter
from tinygrad_ai.ops.shapes import shape_tuple


class _BatchNorm(Module):
    """(x - mean)/√(var + eps)·weight + bias for each channel; see ``functional.batch_norm``."""

    ranks: ClassVar[tuple[int, ...]]

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: str | None = None,
        dtype: Any = None,
        *,
        bias: bool = True,
    ) -> None:
        self.num_features = num_features
        self.eps = eps
        self.momentum = momentum
        self.affine = affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(ones(num_features, dtype, device)) if affine else None
        self.bias = Parameter(zeros(num_features, dtype, device)) if affine and bias else None
        tracked = track_running_stats
        counted = zeros((), np.int64, device)
        self.register_buffer(
            "running_mean", zeros(num_features, dtype, device) if tracked else None
        )
        self.register_buffer("running_var", ones(num_features, dtype, device) if tracked else None)
        self.register_buffer("num_batches_tracked", counted if tracked else None)

    def forward(self, input: Any) -> Any:
        if input.ndim not in self.ranks:
            raise ShapeError(
                f"{type(self).__name__} needs {' or '.join(map(str, self.ranks))} axes, got "
                f"{tuple(input.shape)}"
            )
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked[...] = self.num_batches_tracked + 1
            if momentum is None:  # the plain average over all batches so far
                momentum = 1 / self.num_batches_tracked.item()
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training or self.running_mean is None,
            0.0 if momentum is None else momentum,
            self.eps,
        )

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L).

    In training with the batch's own statistics, which the running ones follow by ``momentum``
    (None: their plain average); in evaluation with the running ones.
    """

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W); see :class:`BatchNorm1d`."""

    ranks = (4,)


class LayerNorm(Module):
    """(x - mean)/√(var + eps)·weight + bias over the last axes, whose sizes are given."""

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = shape = shape_tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype, device)) if affine else None
        self.bias = Parameter(zeros(shape, dtype, device)) if affine and bias else None

    def forward(self, input: Any) -> Any:
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )


class RMSNorm(Module):
    """x/√(mean(x²) + eps)·weight over the last axes, whose sizes are given.

    ``eps`` is the dtype's machine epsilon by default.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.normalized_shape = shape = shape_tuple(normalized_shape)
        self.eps = eps
        self.elementwise_affine = elementwise_affine
        self.weight = Parameter(ones(shape, dtype, device)) if elementwise_affine else None

    def forward(self, input: Any) -> Any:
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"
        )
