"""The layers of a Transformer beside attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai import functional as F
from tinygrad_ai.dtypes import probability
from tinygrad_ai.errors import ShapeError, ValueRangeError, whole_number
from tinygrad_ai.nn.attention import (
    MultiheadAttention,
    check_batch_first,
    check_mask,
    check_sequence,
)
from tinygrad_ai.nn.linear import Dropout, Linear
from tinygrad_ai.nn.module import Module
from tinygrad_ai.nn.norm import LayerNorm
from tinygrad_ai.tensor import Tensor

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {"relu": F.relu, "gelu": F.gelu}


class TransformerEncoderLayer(Module):
    """Self-attention and two linear maps, each added to what it was given, and normalised.

    ``norm_first=False``: x = norm1(x + attention(x)); x = norm2(x + maps(x)) (Vaswani et al.,
    2017). ``norm_first=True``: x = x + attention(norm1(x)); x = x + maps(norm2(x)), which trains
    without warm-up (Xiong et al., 2020). maps(x) = linear2(dropout(activation(linear1(x)))).

    Args:
        d_model: features of a position.
        nhead: heads of the attention; must divide ``d_model``.
        dim_feedforward: features between the two linear maps.
        dropout: probability, for the attention's weights, between the maps and after each part.
        activation: "relu" or "gelu".
        layer_norm_eps: eps of the two normalisations.
        bias: whether linear maps and normalisations have biases.
        batch_first: True, the only layout.

    Parameters have PyTorch's names, and values are those of its layer with ``batch_first=True``.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str = "relu",
        layer_norm_eps: float = 1e-5,
        norm_first: bool = False,
        bias: bool = True,
        *,
        batch_first: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        check_batch_first("TransformerEncoderLayer", batch_first)
        if activation not in ACTIVATIONS:
            raise ValueRangeError(
                f"TransformerEncoderLayer: activation must be 'relu' or 'gelu', not {activation!r}"
            )
        name = "TransformerEncoderLayer"
        sizes = {"d_model": d_model, "nhead": nhead, "dim_feedforward": dim_feedforward}
        for size in sizes:
            whole_number(name, size, sizes[size], 1)
        if d_model % nhead:
            raise ValueRangeError(f"{name}: nhead {nhead} does not divide d_model {d_model}")
        probability(dropout, f"{name}: dropout")
        place: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.activation = activation
        self.norm_first = norm_first
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, **place)
        self.linear1 = Linear(d_model, dim_feedforward, **place)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, **place)
        self.norm1 = LayerNorm(d_model, layer_norm_eps, **place)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, **place)
        self.dropout1 = Dropout(dropout)
        self.dropout2 = Dropout(dropout)

    def forward(
        self,
        src: Any,
        src_mask: Any = None,
        src_key_padding_mask: Any = None,
        is_causal: bool = False,
    ) -> Any:
        """(N, T, d_model) → (N, T, d_model).

        ``src_mask`` and ``src_key_padding_mask`` are the attention's ``attn_mask`` and
        ``key_padding_mask``: True is what is not attended to. Raises its errors.
        """
        name = "TransformerEncoderLayer"
        check_sequence(f"{name}: src", src, self.self_attn.embed_dim)
        *lead, time, _ = src.shape
        if src_mask is not None:
            per_head = math.prod(lead) * self.self_attn.num_heads, time, time
            check_mask(f"{name}: src_mask", src_mask, (time, time), per_head)
        if src_key_padding_mask is not None:
            check_mask(f"{name}: src_key_padding_mask", src_key_padding_mask, (*lead, time))
        masks = src_mask, src_key_padding_mask, is_causal
        if self.norm_first:
            x = src + self._attend(self.norm1(src), *masks)
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(src + self._attend(src, *masks))
        return self.norm2(x + self._feed_forward(x))

    def _attend(self, x: Any, mask: Any, padding: Any, is_causal: bool) -> Any:
        y, _ = self.self_attn(x, x, x, padding, False, mask, is_causal=is_causal)
        return self.dropout1(y)

    def _feed_forward(self, x: Any) -> Any:
        hidden = self.dropout(ACTIVATIONS[self.activation](self.linear1(x)))
        return self.dropout2(self.linear2(hidden))


class PositionalEncoding(Module):
    """Adds to each position sinusoids that tell where it stands (Vaswani et al., 2017, 3.5).

    PE[t, 2i] = sin(t/10000^(2i/d_model)) and PE[t, 2i+1] = cos(t/10000^(2i/d_model)).

    Args:
        d_model: features of a position.
        max_len: the longest sequence there may be.
        dropout: probability with which an element of the sum is dropped in training.

    The table is the buffer ``pe`` (max_len, d_model). It is not in the ``state_dict``: it can be
    computed again, and a model that was saved can be loaded into one with another ``max_len``.
    """

    def __init__(
        self,
        d_model: int,
        max_len: int = 5000,
        dropout: float = 0.0,
        *,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.d_model = whole_number("PositionalEncoding", "d_model", d_model, 1)
        self.max_len = whole_number("PositionalEncoding", "max_len", max_len, 1)
        column = np.arange(d_model)
        angle = np.arange(max_len)[:, None] / 10000 ** (column // 2 * 2 / d_model)
        table = np.where(column % 2, np.cos(angle), np.sin(angle))
        wanted = np.float32 if dtype is None else dtype
        self.register_buffer("pe", Tensor(table, dtype=wanted, device=device), persistent=False)
        self.dropout = Dropout(dropout)

    def forward(self, input: Any) -> Any:
        """(N, T, d_model) → (N, T, d_model); raises ShapeError if T exceeds ``max_len``."""
        check_sequence("PositionalEncoding: input", input, self.d_model)
        length = input.shape[-2]
        if length > self.max_len:
            raise ShapeError(
                f"PositionalEncoding: the sequence is {length} long, max_len is {self.max_len}",
                f"   help: PositionalEncoding({self.d_model}, max_len={length})",
            )
        return self.dropout(input + self.pe[:length])

    def extra_repr(self) -> str:
        return f"{self.d_model}, max_len={self.max_len}"
