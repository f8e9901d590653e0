"""Attention layers. In a mask of booleans True means *not* attended to, as in PyTorch's layers.

(``functional.scaled_dot_product_attention`` has it the other way round, as PyTorch's has.)
"""

from __future__ import annotations

import math
from typing import Any

from tinygrad_ai import functional as F
from tinygrad_ai.creation import zeros
from tinygrad_ai.dtypes import probability
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError, whole_number
from tinygrad_ai.functional.attention import is_choice
from tinygrad_ai.nn.init import xavier_uniform_
from tinygrad_ai.nn.linear import Linear, uniform_parameter
from tinygrad_ai.nn.module import Module, Parameter
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.ops.movement import reshape, split, swapaxes
from tinygrad_ai.ops.products import matmul
from tinygrad_ai.ops.reduce import mean
from tinygrad_ai.ops.shapes import broadcast_shapes


class MultiheadAttention(Module):
    """Attention in ``num_heads`` subspaces at once (Vaswani et al., 2017, section 3.2.2).

    Queries, keys and values are mapped to ``embed_dim`` features, of which each head attends with
    its own embed_dim/num_heads; the heads' results, side by side, are mapped once more.

    Args:
        embed_dim: features of queries and results; ``num_heads`` must divide it.
        dropout: probability with which a weight is dropped in training.
        bias: whether the four maps have biases (they start at 0).
        kdim, vdim: features of keys and values, ``embed_dim`` unless given.
        batch_first: True, the only layout.

    Parameters have PyTorch's names: ``in_proj_weight`` (3·embed_dim, embed_dim) holds the maps of
    queries, keys and values, one below the other; where kdim or vdim differ they are
    ``q_proj_weight``, ``k_proj_weight``, ``v_proj_weight``. Then ``in_proj_bias`` and ``out_proj``.
    Values are those of PyTorch's layer with ``batch_first=True``.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        *,
        batch_first: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        name = "MultiheadAttention"
        check_batch_first(name, batch_first)
        self.embed_dim = whole_number(name, "embed_dim", embed_dim, 1)
        self.num_heads = whole_number(name, "num_heads", num_heads, 1)
        self.kdim = embed_dim if kdim is None else whole_number(name, "kdim", kdim, 1)
        self.vdim = embed_dim if vdim is None else whole_number(name, "vdim", vdim, 1)
        if embed_dim % num_heads:
            raise ValueRangeError(f"{name}: {num_heads} heads do not divide embed_dim {embed_dim}")
        probability(dropout, f"{name}: dropout")
        self.dropout = dropout

        def started(rows: int, columns: int) -> Parameter:
            return Parameter(xavier_uniform_(zeros((rows, columns), dtype, device)))

        if self.kdim == self.vdim == embed_dim:
            self.in_proj_weight = started(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = started(embed_dim, embed_dim)
            self.k_proj_weight = started(embed_dim, self.kdim)
            self.v_proj_weight = started(embed_dim, self.vdim)
        self.in_proj_bias = Parameter(zeros(3 * embed_dim, dtype, device)) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        if self.out_proj.bias is not None:
            self.out_proj.bias = Parameter(zeros(embed_dim, dtype, device))

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Any, Any]:
        """(result, weights), or (result, None) unless ``need_weights``.

        Args:
            query, key, value: (N, L, embed_dim), (N, S, kdim), (N, S, vdim), or the same without N;
                the result is (N, L, embed_dim).
            key_padding_mask: (N, S), for all heads and queries; booleans are True where a key is
                padding, which nobody attends to, and real numbers are added to the scores.
            attn_mask: (L, S) or (N·num_heads, L, S): as above, for each query (and head).
            average_attn_weights: weights are (N, L, S), the heads' mean; else (N, heads, L, S).
            is_causal: query i sees keys 0 … i, with or without masks (PyTorch wants the mask too).

        A query with no key left gets zeros from every head (PyTorch: NaN if weights are needed).
        Raises ShapeError for other shapes and empty sequences.
        """
        inputs = {
            "query": (query, self.embed_dim), "key": (key, self.kdim), "value": (value, self.vdim)
        }  # fmt: skip
        for name, (x, features) in inputs.items():
            check_sequence(f"MultiheadAttention: {name}", x, features)
        _check_together(query, key, value)
        maps = zip((query, key, value), *self._projections(), strict=True)
        q, k, v = (self._by_head(F.linear(x, weight, bias)) for x, weight, bias in maps)
        p = self.dropout if self.training else 0.0
        mask = self._mask(q, k, key_padding_mask, attn_mask)
        y, weights = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal, need_weights=True)
        y = swapaxes(y, -3, -2)
        y = self.out_proj(reshape(y, (*y.shape[:-2], self.embed_dim)))
        if not need_weights:
            return y, None
        return y, mean(weights, -3) if average_attn_weights else weights

    def _projections(self) -> tuple[list[Any], list[Any]]:
        """Weights and biases of the maps of queries, keys and values."""
        if "in_proj_weight" in vars(self):
            weights = split(self.in_proj_weight, 3)
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        return weights, [None] * 3 if self.in_proj_bias is None else split(self.in_proj_bias, 3)

    def _by_head(self, x: Any) -> Any:
        """(..., T, embed_dim) → (..., heads, T, embed_dim/heads)."""
        width = self.embed_dim // self.num_heads
        return swapaxes(reshape(x, (*x.shape[:-1], self.num_heads, width)), -3, -2)

    def _mask(self, q: Any, k: Any, key_padding_mask: Any, attn_mask: Any) -> Any:
        """Both masks as one to be added to the scores; None without any."""
        *lead, heads, queries, _ = q.shape
        keys = k.shape[-2]
        total = None
        if key_padding_mask is not None:
            named = "MultiheadAttention: key_padding_mask"
            padding = additive(named, key_padding_mask, (*lead, keys))
            total = reshape(padding, (*lead, 1, 1, keys))
        if attn_mask is not None:
            per_head = math.prod(lead) * heads, queries, keys
            named = "MultiheadAttention: attn_mask"
            mask = additive(named, attn_mask, (queries, keys), per_head)
            mask = mask if mask.ndim == 2 else reshape(mask, (*q.shape[:-1], keys))
            total = mask if total is None else total + mask
        return total

    def extra_repr(self) -> str:
        return f"{self.embed_dim}, {self.num_heads}"


class BilinearAttention(Module):
    """Every position of a sequence looks at all of them, by bilinear scores of the features.

    a_ij = exp(s(v_iᵀ W_1 v_j, …, v_iᵀ W_k v_j)) / Σ_j exp(s(v_iᵀ W_1 v_j, …, v_iᵀ W_k v_j)), and
    position i becomes Σ_j a_ij·v_j, where s is a linear map of the k = ``heads`` scores to one
    number. Hence s(v_iᵀ W_1 v_j, …) = v_iᵀ (Σ_k s_k·W_k) v_j, which is how it is computed: the
    matrices are added up first, and there is one product of matrices however many heads there are.

    Args:
        dim: features of a position.
        heads: the number of bilinear forms.

    Parameters: ``W`` (heads, dim, dim), uniform in ±1/√dim at the start, and ``s``, a
    Linear(heads, 1) without bias, which would cancel in the quotient.
    """

    def __init__(
        self, dim: int, heads: int = 1, *, device: str | None = None, dtype: Any = None
    ) -> None:
        self.dim = whole_number("BilinearAttention", "dim", dim, 1)
        self.heads = whole_number("BilinearAttention", "heads", heads, 1)
        self.W = uniform_parameter((heads, dim, dim), dim, dtype, device)
        self.s = Linear(heads, 1, False, device=device, dtype=dtype)

    def forward(self, input: Any, key_padding_mask: Any = None, need_weights: bool = False) -> Any:
        """(N, T, dim) → (N, T, dim), or the pair (result, weights (N, T, T)) with ``need_weights``.

        ``key_padding_mask`` (N, T) is True where a position is padding, which nobody looks at; real
        numbers are added to the scores. N may be missing. In a sequence of nothing but padding all
        results are 0. Raises ShapeError for other shapes and empty sequences.
        """
        check_sequence("BilinearAttention: input", input, self.dim)
        form = reshape(self.s.weight @ reshape(self.W, (self.heads, -1)), (self.dim, self.dim))
        query, mask = matmul(input, form), None
        if key_padding_mask is not None:
            *lead, length, _ = input.shape
            named = "BilinearAttention: key_padding_mask"
            mask = additive(named, key_padding_mask, (*lead, length))
            mask = reshape(mask, (*lead, 1, length))
        return F.scaled_dot_product_attention(
            query, input, input, mask, scale=1.0, need_weights=need_weights
        )

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}"


def check_batch_first(name: str, batch_first: Any) -> None:
    """Raise ValueRangeError unless ``batch_first``, an argument of PyTorch's layers, is True."""
    if batch_first is not True:
        raise ValueRangeError(
            f"{name}: sequences are (batch, time, features): batch_first must be True, "
            f"not {batch_first!r}"
        )


def check_sequence(name: str, x: Any, features: int) -> None:
    """Raise ShapeError unless ``x`` is (..., T, features) with T ≥ 1, DTypeError for no array."""
    if not hasattr(x, "dtype"):
        raise DTypeError(f"{name} must be a tensor, not {type(x).__name__}")
    shape = tuple(x.shape)
    if len(shape) < 2 or shape[-1] != features:
        raise ShapeError(f"{name} must be (batch, time, {features}), got {shape}")
    if shape[-2] == 0:
        raise ShapeError(f"{name} is an empty sequence: {shape} is (batch, time, features)")


def _check_together(query: Any, key: Any, value: Any) -> None:
    """Raise ShapeError unless there are as many values as keys, and batches are as long."""
    q, k, v = (tuple(x.shape) for x in (query, key, value))
    if k[-2] != v[-2]:
        raise ShapeError(f"MultiheadAttention: key {k} and value {v} differ in time")
    try:
        broadcast_shapes(q[:-2], k[:-2], v[:-2])
    except ShapeError:
        raise ShapeError(
            f"MultiheadAttention: query {q}, key {k} and value {v} differ in batch"
        ) from None


def check_mask(name: str, mask: Any, *shapes: tuple[int, ...]) -> bool:
    """Whether ``mask`` holds booleans.

    Raises DTypeError unless it does or holds real numbers, ShapeError unless it has one of
    ``shapes``.
    """
    chosen = is_choice(name, mask)
    if tuple(mask.shape) not in shapes:
        wanted = " or ".join(map(str, dict.fromkeys(shapes)))
        raise ShapeError(f"{name} must have shape {wanted}, got {tuple(mask.shape)}")
    return chosen


def additive(name: str, mask: Any, *shapes: tuple[int, ...]) -> Any:
    """``mask`` as numbers to be added to scores: booleans become -inf where True and 0 elsewhere.

    Raises what :func:`check_mask` does.
    """
    return where(mask, -math.inf, 0.0) if check_mask(name, mask, *shapes) else mask
