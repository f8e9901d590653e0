"""Affine maps, tables, and the layers that only reshape or drop."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np

from tinygrad_ai import functional as F
from tinygrad_ai import random
from tinygrad_ai.dtypes import probability
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.nn.module import Module, Parameter
from tinygrad_ai.ops.movement import flatten


def uniform_parameter(shape: tuple[int, ...], fan_in: int, dtype: Any, device: Any) -> Parameter:
    """Uniform in ±1/√fan_in, PyTorch's default for weights and biases."""
    bound = 1 / math.sqrt(max(fan_in, 1))
    return Parameter(random.uniform(-bound, bound, shape, dtype, device or "cpu"))


class Linear(Module):
    """``x @ weight.T + bias``: (..., in_features) → (..., out_features).

    ``weight`` is (out_features, in_features), ``bias`` (out_features,); both start uniform in
    ±1/√in_features.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if in_features < 0 or out_features < 0:
            raise ValueRangeError(f"Linear({in_features}, {out_features}): sizes are negative")
        self.in_features = in_features
        self.out_features = out_features
        args = in_features, dtype, device
        self.weight = uniform_parameter((out_features, in_features), *args)
        self.bias = uniform_parameter((out_features,), *args) if bias else None

    def forward(self, input: Any) -> Any:
        return F.linear(input, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Embedding(Module):
    """A row of ``weight`` (num_embeddings, embedding_dim) for each integer: (...) → (..., dim).

    Rows start standard normal, and row ``padding_idx`` at 0, where it stays.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueRangeError(
                f"Embedding: padding_idx {padding_idx} is not one of {num_embeddings} rows"
            )
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = padding_idx if padding_idx is None else padding_idx % num_embeddings
        rows = random.normal(0.0, 1.0, (num_embeddings, embedding_dim), dtype, device or "cpu")
        if padding_idx is not None:
            rows[padding_idx] = 0
        self.weight = Parameter(rows)

    @classmethod
    def from_pretrained(
        cls, embeddings: Any, freeze: bool = True, padding_idx: int | None = None
    ) -> Self:
        """A table of the rows of ``embeddings`` (num, dim), copied; ``freeze`` keeps them as is.

        Raises ShapeError unless there are two axes.
        """
        if np.ndim(embeddings) != 2:
            raise ShapeError(f"Embedding: rows need two axes, got shape {np.shape(embeddings)}")
        rows, width = np.shape(embeddings)
        table = cls(rows, width, padding_idx)
        table.weight = Parameter(embeddings, requires_grad=not freeze)
        return table

    def forward(self, input: Any) -> Any:
        return F.embedding(input, self.weight, self.padding_idx)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class Dropout(Module):
    """Sets elements to 0 with probability ``p`` in training, and scales the others by 1/(1-p)."""

    def __init__(self, p: float = 0.5) -> None:
        probability(p, "Dropout: p")
        self.p = p

    def forward(self, input: Any) -> Any:
        return F.dropout(input, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Flatten(Module):
    """Axes ``start_axis`` to ``end_axis`` made one; by default all but the batch axis."""

    def __init__(self, start_axis: int = 1, end_axis: int = -1) -> None:
        self.start_axis = start_axis
        self.end_axis = end_axis

    def forward(self, input: Any) -> Any:
        return flatten(input, self.start_axis, self.end_axis)

    def extra_repr(self) -> str:
        return f"start_axis={self.start_axis}, end_axis={self.end_axis}"
