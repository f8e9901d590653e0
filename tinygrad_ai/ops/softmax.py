"""Softmax, its logarithm, and the cross-entropy of class labels straight from logits.

Each is one record, so that one node and few passes do what exp, sum, log and index would do in
many. A row of which all elements are -inf has softmax 0 and gradient 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import opaque
from tinygrad_ai.ops.elementwise import exp, log, where
from tinygrad_ai.ops.logic import isfinite
from tinygrad_ai.ops.lowering import Composite
from tinygrad_ai.ops.movement import expand_dims, reshape_
from tinygrad_ai.ops.products import in_float32
from tinygrad_ai.ops.reduce import all_, amax_, sum_


def _shifted(xp: Any, x: Any, axis: int) -> Any:
    """``x`` minus its largest element along ``axis``, so that exp cannot overflow."""
    if not x.size:
        return x.copy()
    top = x.max(axis=axis, keepdims=True)
    return x - xp.where(xp.isfinite(top), top, 0).astype(x.dtype)


def _softmax(xp: Any, x: Any, axis: int) -> Any:
    e = _shifted(xp, x, axis)
    xp.exp(e, out=e)
    total = e.sum(axis=axis, keepdims=True)
    e /= xp.where(total == 0, 1, total).astype(e.dtype)
    return e


def _log_softmax(xp: Any, x: Any, axis: int) -> Any:
    shifted = _shifted(xp, x, axis)
    total = xp.exp(shifted).sum(axis=axis, keepdims=True)
    shifted -= xp.log(xp.where(total == 0, 1, total)).astype(x.dtype)
    return shifted


def _parts(x: Any, axis: int) -> tuple[Any, Any, Any]:
    """For code generation: ``x`` less its largest element, exp of that, and the sum, never 0."""
    top = amax_(x, axis=(axis,), keepdims=True)
    shifted = x - where(isfinite(top), top, 0)
    e = exp(shifted)
    total = sum_(e, axis=(axis,), keepdims=True)
    return shifted, e, where(total == 0, 1, total)


def _softmax_parts(x: Any, axis: int) -> Any:
    _, e, total = _parts(x, axis)
    return e * (1 / total)  # a division a row


def _log_softmax_parts(x: Any, axis: int) -> Any:
    shifted, _, total = _parts(x, axis)
    return shifted - log(total)


def _hits(x: Any, labels: Any) -> Any:
    """Where along the last axis of ``x`` its label stands."""
    return expand_dims(labels, -1) == np.arange(x.shape[-1])


def _cross_entropy_parts(x: Any, labels: Any, ignore: int) -> Any:
    last = x.ndim - 1
    shifted, _, total = _parts(x, last)
    picked = sum_(where(_hits(x, labels), shifted, 0), axis=(last,), keepdims=False)
    loss = reshape_(log(total), shape=x.shape[:-1]) - picked
    return where(labels == ignore, 0, loss)


def _excess_parts(x: Any, labels: Any, ignore: int) -> Any:
    y = _softmax_parts(x, x.ndim - 1)
    return where(_hits(x, where(labels == ignore, 0, labels)), y - 1, y)


def _softmax_product(g: Any, y: Any, axis: int) -> Any:
    """The Jacobian of softmax, diag(y) - y·yᵀ, times ``g``; it is symmetric."""
    return y * (g - sum_(g * y, axis=(axis,), keepdims=True))


def _sample(rng: Any) -> Any:
    return (3 * rng.standard_normal((2, 5)),), {"axis": int(rng.integers(2))}


softmax_ = opaque(
    "softmax",
    lambda xp, x, *, axis: in_float32(lambda x: _softmax(xp, x, axis), x),
    vjp=lambda g, y, axis: _softmax_product(g, y, axis),
    quiet=lambda g, axis: all_(g == 0, axis=(axis,), keepdims=True),
    batch=lambda size, axis: {"axis": axis + 1},
    lower=Composite(_softmax_parts),
    kernel="fused",
    sample=_sample,
    why="the shares add up to 1, so each gains what its gradient exceeds the weighted mean",
)
log_softmax_ = opaque(
    "log_softmax",
    lambda xp, x, *, axis: in_float32(lambda x: _log_softmax(xp, x, axis), x),
    vjp=lambda g, y, axis: g - exp(y) * sum_(g, axis=(axis,), keepdims=True),
    quiet=lambda g, axis: all_(g == 0, axis=(axis,), keepdims=True),
    batch=lambda size, axis: {"axis": axis + 1},
    lower=Composite(_log_softmax_parts),
    kernel="fused",
    sample=_sample,
    why="x - logsumexp(x): raising one element lowers all by its softmax",
)

# --------------------------------------------------------- cross-entropy of labels, last axis


def _place(xp: Any, x: Any, labels: Any, ignore: int) -> tuple[Any, Any, Any]:
    """``x`` as rows, and the row and column of each label (column 0 for one that is ignored)."""
    rows = x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))
    columns = xp.where(labels == ignore, 0, labels).reshape((-1,))
    return rows, xp.arange(rows.shape[0]), columns


def _cross_entropy(xp: Any, x: Any, labels: Any, ignore: int) -> Any:
    shifted = _shifted(xp, x, -1)
    rows, i, k = _place(xp, shifted, labels, ignore)
    picked = rows[i, k].reshape(labels.shape)
    total = xp.exp(shifted, out=shifted).sum(axis=-1)
    loss = xp.log(xp.where(total == 0, 1, total)) - picked
    return xp.where(labels == ignore, 0, loss).astype(x.dtype)


def _excess(xp: Any, x: Any, labels: Any, ignore: int) -> Any:
    rows, i, k = _place(xp, x, labels, ignore)
    y = _softmax(xp, rows, -1)
    y[i, k] -= 1
    return y.reshape(x.shape)


def _sample_labels(rng: Any) -> Any:
    return (rng.standard_normal((4, 3)), np.array([2, 0, -1, 1])), {"ignore": -1}


cross_entropy_ = opaque(
    "cross_entropy",
    lambda xp, x, labels, *, ignore: in_float32(lambda x: _cross_entropy(xp, x, labels, ignore), x),
    vjp=(
        lambda g, x, labels, ignore: (
            expand_dims(where(labels == ignore, 0, g), -1) * excess(x, labels, ignore=ignore)
        ),
        None,
    ),
    quiet=lambda g, labels, ignore: expand_dims((g == 0) | (labels == ignore), -1),
    batch=lambda size, ignore: {"ignore": ignore},
    lower=Composite(_cross_entropy_parts),
    kernel="fused",
    sample=_sample_labels,
    why="logsumexp(x) minus the logit of the label: each logit counts with its softmax, and the "
    "label's own with 1 less",
)
excess = opaque(
    "softmax_minus_one_hot",
    lambda xp, x, labels, *, ignore: in_float32(lambda x: _excess(xp, x, labels, ignore), x),
    vjp=(lambda g, x: _softmax_product(g, softmax_(x, axis=x.ndim - 1), x.ndim - 1), None),
    quiet=lambda g, in_shape: all_(g == 0, axis=(len(in_shape) - 1,), keepdims=True),
    batch=lambda size, ignore: {"ignore": ignore},
    lower=Composite(_excess_parts),
    kernel="fused",
    sample=_sample_labels,
    why="the one-hot labels are constant, so this is softmax's own rule",
)
