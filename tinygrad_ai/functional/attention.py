"""Scaled dot-product attention, which every attention layer is made of."""

from __future__ import annotations

import math
from typing import Any

from tinygrad_ai.errors import DTypeError, ShapeError
from tinygrad_ai.functional.activations import dropout, softmax
from tinygrad_ai.functional.layers import count_up
from tinygrad_ai.ops import products
from tinygrad_ai.ops.elementwise import astype, where
from tinygrad_ai.ops.movement import expand_dims
from tinygrad_ai.ops.shapes import broadcast_shapes, on_arrays


@on_arrays("query", "key", "value")
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    need_weights: bool = False,
) -> Any:
    """softmax(Q·Kᵀ·scale + mask)·V (Vaswani et al., 2017, equation 1), scale 1/√E unless given.

    Args:
        query, key, value: (..., L, E), (..., S, E), (..., S, V), whose leading axes broadcast; the
            result is (..., L, V).
        attn_mask: broadcasts to (..., L, S); booleans say which keys take part, real numbers are
            added to the scores, in their dtype. A query with no key left gets zeros, and gradient
            0.
        dropout_p: dropout of the weights, always on: pass 0 outside training.
        is_causal: query i sees keys 0 … i, of those that the mask leaves.
        need_weights: return (result, weights), where weights (..., L, S) are what the values were
            multiplied with: after dropout.

    Raises ShapeError for shapes that do not fit, DTypeError for integers and for other masks.
    """
    shape = _scores_shape(query, key, value)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = products.matmul(query * factor, products.matrix_transpose(key))
    if is_causal:
        seen = count_up(scores, shape[-1]) <= expand_dims(count_up(scores, shape[-2]), -1)
        scores = where(seen, scores, -math.inf)
    if attn_mask is not None:
        scores = _masked(scores, attn_mask)
    weights = dropout(softmax(scores), dropout_p)
    y = products.matmul(weights, value)
    return (y, weights) if need_weights else y


def _scores_shape(query: Any, key: Any, value: Any) -> tuple[int, ...]:
    """(..., L, S); raises unless the three are real and their shapes fit."""
    q, k, v = (tuple(x.shape) for x in (query, key, value))
    if not min(len(q), len(k), len(v)) >= 2 or not q[-1] == k[-1] >= 1 or k[-2] != v[-2]:
        raise ShapeError(
            "attention: needs query (..., L, E), key (..., S, E) and value (..., S, V) with E ≥ 1, "
            f"got {q}, {k} and {v}"
        )
    kinds = [str(x.dtype) for x in (query, key, value) if x.dtype.kind != "f"]
    if kinds:
        raise DTypeError(f"attention: needs floating-point numbers, got {kinds[0]}")
    try:
        return (*broadcast_shapes(q[:-2], k[:-2], v[:-2]), q[-2], k[-2])
    except ShapeError:
        raise ShapeError(
            f"attention: the leading axes of query {q}, key {k} and value {v} do not broadcast"
        ) from None


def _masked(scores: Any, mask: Any) -> Any:
    chosen = is_choice("attention: attn_mask", mask)
    pairs = zip(mask.shape[::-1], scores.shape[::-1], strict=False)
    if mask.ndim > scores.ndim or any(m not in (1, n) for m, n in pairs):
        raise ShapeError(
            f"attention: mask {tuple(mask.shape)} does not broadcast to the scores "
            f"(..., L, S) = {tuple(scores.shape)}"
        )
    if chosen:
        return where(mask, scores, -math.inf)
    return scores + astype(mask, dtype=scores.dtype)


def is_choice(name: str, mask: Any) -> bool:
    """Whether a mask holds booleans; raises DTypeError unless these or real numbers."""
    kind = getattr(mask, "dtype", type(mask).__name__)
    if getattr(kind, "kind", None) not in ("b", "f"):
        raise DTypeError(f"{name} must hold booleans or real numbers, not {kind}")
    return mask.dtype.kind == "b"
