"""Losses, with PyTorch's names and defaults; each comes from a numerically stable form.

``reduction`` is "mean", "sum" or "none". Targets and weights take on the dtype of real predictions.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value
from tinygrad_ai.dtypes import probability
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError, warn_user
from tinygrad_ai.functional.layers import arrayed, examine, known
from tinygrad_ai.ops.activations import bce, bce_logits
from tinygrad_ai.ops.elementwise import absolute, astype, clip, exp, square, where, widened
from tinygrad_ai.ops.index import take, take_along_axis
from tinygrad_ai.ops.movement import expand_dims, moveaxis
from tinygrad_ai.ops.reduce import mean, sum
from tinygrad_ai.ops.softmax import cross_entropy_, log_softmax_, softmax_
from tinygrad_ai.ops.special import xlogy


def _reduced(name: str, losses: Any, reduction: str) -> Any:
    if reduction == "mean":
        return mean(losses)
    if reduction == "sum":
        return sum(losses)
    if reduction == "none":
        return losses
    raise ValueRangeError(f"{name}: reduction must be 'mean', 'sum' or 'none', not {reduction!r}")


def _weighted(name: str, losses: Any, weight: Any) -> Any:
    """Each loss times its weight, if there are weights."""
    if weight is None:
        return losses
    if tuple(np.shape(weight)) != tuple(losses.shape):
        raise ShapeError(f"{name}: weight {tuple(np.shape(weight))} for losses {losses.shape}")
    return losses * _like(losses, weight)


def _averaged(name: str, losses: Any, weight: Any, reduction: str) -> Any:
    """The weighted losses reduced, "mean" to the weighted mean."""
    weight = None if weight is None else _like(losses, weight)
    losses = _weighted(name, losses, weight)
    if weight is not None and reduction == "mean":
        return _mean_of(losses, weight)
    return _reduced(name, losses, reduction)


def _mean_of(losses: Any, shares: Any) -> Any:
    """The sum of the weighted losses over that of their weights, which halves cannot count."""
    total = sum(widened(losses)) / sum(widened(shares))
    return total if total.dtype == losses.dtype else astype(total, dtype=losses.dtype)


def _matched(name: str, input: Any, target: Any) -> Any:
    """``target`` in the dtype of ``input``; warns where broadcasting would pair all with all."""
    a, b = tuple(np.shape(input)), tuple(np.shape(target))
    if a != b and b != ():
        try:
            paired = np.broadcast_shapes(a, b)
        except ValueError:
            raise ShapeError(f"{name}: input {a} and target {b} differ in shape") from None
        fix = f"; target.reshape{a} pairs them one to one" if math.prod(a) == math.prod(b) else ""
        warn_user(
            f"{name}: input {a} and target {b} differ in shape and broadcast to {paired}, which is "
            f"rarely meant{fix}"
        )
    return _like(input, target)


def _like(input: Any, value: Any) -> Any:
    """``value`` in the dtype of ``input``, unless that holds integers, which have no fractions."""
    value = arrayed(value)
    integers = input.dtype.kind != "f"
    return value if integers or value.dtype == input.dtype else astype(value, dtype=input.dtype)


# ----------------------------------------------------------------------------------- regression


def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """The mean squared error 1/n·Σ(y - ŷ)², ŷ the input and y the target; "none": (y - ŷ)².

    With a ``weight`` w for each element it is Σw·(y - ŷ)²/Σw. Warns where shapes differ and
    broadcast.
    """
    losses = square(input - _matched("mse_loss", input, target))
    return _averaged("mse_loss", losses, weight, reduction)


def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Any:
    """The mean absolute error 1/n·Σ|y - ŷ|, with gradient 0 at 0; otherwise as mse_loss."""
    losses = absolute(input - _matched("l1_loss", input, target))
    return _averaged("l1_loss", losses, weight, reduction)


def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Any:
    """½r² for |r| ≤ δ, beyond that δ·(|r| - ½δ), with r = ŷ - y (Huber, 1964).

    The losses are multiplied by ``weight``, of their shape; "mean" divides by their number, as
    PyTorch's does. Warns where shapes differ and broadcast; ValueRangeError unless δ > 0.
    """
    if not delta > 0:
        raise ValueRangeError(f"huber_loss: delta must be positive, got {delta}")
    r = input - _matched("huber_loss", input, target)
    limited = clip(r, -delta, delta)
    losses = _weighted("huber_loss", limited * (r - 0.5 * limited), weight)
    return _reduced("huber_loss", losses, reduction)


# ---------------------------------------------------------------------------------- yes or no


def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Any:
    """-1/N·Σ[y·log ŷ + (1-y)·log(1-ŷ)] for probabilities ŷ; logarithms are cut off at -100.

    ``weight`` multiplies the losses. Raises ValueRangeError for an input or target outside [0, 1];
    warns where shapes differ and broadcast. From logits, ``binary_cross_entropy_with_logits`` is
    exact.
    """
    target = _matched("binary_cross_entropy", input, target)
    for value in (input, target):
        found = known(value)
        if found is not None and not ((found >= 0) & (found <= 1) | (found != found)).all():
            wrong = found[(found < 0) | (found > 1)].flat[0]
            raise ValueRangeError(
                f"binary_cross_entropy: {wrong} is not a probability: it must lie in [0, 1]",
                "   help: binary_cross_entropy_with_logits takes any real number as input",
            )
    losses = bce(input, target)
    losses = losses if weight is None else losses * _like(input, weight)
    return _reduced("binary_cross_entropy", losses, reduction)


def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
) -> Any:
    """-1/N·Σ[w·y·log ŷ + (1-y)·log(1-ŷ)] with ŷ = σ(x) for logits x, exact for large ones.

    ``pos_weight`` is w, the weight of the positive answers; ``weight`` multiplies the losses. Warns
    where shapes differ and broadcast.
    """
    t = _matched("binary_cross_entropy_with_logits", input, target)
    losses = bce_logits(input, t, 1 if pos_weight is None else _like(input, pos_weight))
    losses = losses if weight is None else losses * _like(input, weight)
    return _reduced("binary_cross_entropy_with_logits", losses, reduction)


# -------------------------------------------------------------------------------- many classes


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """-1/N·Σ log softmax(x)[y], y the class of each example, from logits x, without overflow.

    Args:
        input: logits (N, C), (C,) or (N, C, ...): classes on axis 1.
        target: integer labels of the input's shape without the class axis, or probabilities of its
            full shape (a float dtype).
        weight: (C,), a weight for each class; "mean" divides by the sum of the labels' weights.
        ignore_index: the label of examples that do not count.
        label_smoothing: ε: the target becomes (1-ε)·target + ε/C.

    Of two classes it is -1/N·Σ[y·log ŷ + (1-y)·log(1-ŷ)], ŷ the probability of class 1. The
    gradient is (softmax(x) - onehot)/N.

    Raises ValueRangeError for labels out of range, DTypeError for labels that are not integers,
    ShapeError for shapes that do not fit. Warns where the input looks like the output of softmax:
    its first row, then all, lie in [0, 1] and add up to 1 within 1e-4, or a softmax made it.
    """
    name = "cross_entropy"
    probability(label_smoothing, f"{name}: label_smoothing")
    x, weight = _classes_last(name, input), _class_weight(name, input, weight)
    _warn_of_softmax(input, x)
    target = arrayed(target)
    if target.dtype.kind == "f" and tuple(target.shape) == tuple(input.shape):
        shares = _classes_last(name, _like(input, target))
        losses = _soft_cross_entropy(x, shares, weight, label_smoothing)
        return _reduced(name, losses, reduction)
    labels, whole = _labels(name, target, input, x, ignore_index)
    losses = cross_entropy_(x, labels, ignore=ignore_index)
    if weight is None and whole and not label_smoothing:
        return _reduced(name, losses, reduction)
    shares = _shares(labels, weight, ignore_index, x.dtype)
    losses = losses * shares
    if label_smoothing:
        uniform = _soft_cross_entropy(x, 1 / x.shape[-1], weight, 0)
        uniform = where(labels == ignore_index, 0, uniform)
        losses = (1 - label_smoothing) * losses + label_smoothing * uniform
    return _mean_of(losses, shares) if reduction == "mean" else _reduced(name, losses, reduction)


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """Minus the log-probability of each label: ``cross_entropy`` after ``log_softmax``.

    Arguments and errors as for :func:`cross_entropy`, but for the probabilities.
    """
    x, weight = _classes_last("nll_loss", input), _class_weight("nll_loss", input, weight)
    labels, whole = _labels("nll_loss", target, input, x, ignore_index)
    inside = labels if whole else where(labels == ignore_index, 0, labels)
    losses = -take_along_axis(x, expand_dims(inside, -1), -1)[..., 0]
    if weight is None and whole:
        return _reduced("nll_loss", losses, reduction)
    shares = _shares(labels, weight, ignore_index, x.dtype)
    losses = losses * shares
    if reduction == "mean":
        return _mean_of(losses, shares)
    return _reduced("nll_loss", losses, reduction)


def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Any:
    """t·(log t - x) for log-probabilities x: how far x is from the distribution t.

    With ``log_target`` the target holds logarithms too. "batchmean" divides the sum by the length
    of the first axis, which is the divergence as defined; "mean" divides by all elements.
    """
    t = _matched("kl_div", input, target)
    losses = exp(t) * (t - input) if log_target else xlogy(t, t) - t * input
    if reduction == "batchmean":
        return sum(losses) / input.shape[0]
    return _reduced("kl_div", losses, reduction)


def _classes_last(name: str, input: Any) -> Any:
    if input.ndim == 0 or input.dtype.kind != "f":
        raise (DTypeError if input.ndim else ShapeError)(
            f"{name}: needs real numbers of shape (N, C), (C,) or (N, C, ...), got "
            f"{input.dtype} of shape {tuple(input.shape)}"
        )
    return moveaxis(input, 1, -1) if input.ndim > 2 else input


def _class_weight(name: str, input: Any, weight: Any) -> Any:
    """``weight`` checked, in the dtype of ``input``; None stays None."""
    if weight is None:
        return None
    classes = input.shape[min(1, input.ndim - 1)]
    if tuple(np.shape(weight)) != (classes,):
        raise ShapeError(f"{name}: weight {tuple(np.shape(weight))} for {classes} classes")
    return _like(input, weight)


def _soft_cross_entropy(x: Any, target: Any, weight: Any, smoothing: float) -> Any:
    """-Σ target·weight·log softmax(x) over the last axis."""
    if smoothing:
        target = (1 - smoothing) * target + smoothing / x.shape[-1]
    terms = log_softmax_(x, axis=x.ndim - 1) * target
    return -sum(terms if weight is None else terms * weight, -1)


def _shares(labels: Any, weight: Any, ignore: int, dtype: Any) -> Any:
    """How much each example counts: the weight of its class, 0 where it is ignored."""
    kept = astype(labels != ignore, dtype=dtype)
    return kept if weight is None else kept * take(weight, where(labels == ignore, 0, labels), 0)


def _labels(name: str, target: Any, input: Any, x: Any, ignore: int) -> tuple[Any, bool]:
    """The checked class labels, and whether it is sure that none is to be ignored."""
    labels = arrayed(target)
    classes, shape = x.shape[-1], tuple(x.shape[:-1])
    if labels.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: class labels must be integers, not {labels.dtype} of shape "
            f"{tuple(labels.shape)}",
            "   help: y.astype('int64') are labels; probabilities have the input's shape",
        )
    if tuple(labels.shape) != shape:
        one_hot = tuple(labels.shape) == tuple(input.shape)
        raise ShapeError(
            f"{name}: labels {tuple(labels.shape)} for input {tuple(input.shape)}; they must have "
            f"shape {shape}",
            "   help: one-hot rows are probabilities: y.astype(x.dtype)" if one_hot else "",
        )
    examine(labels, classes, partial(_check_classes, name, classes, ignore))
    found = known(labels)
    return labels, found is not None and found.size > 0 and not bool((found == ignore).any())


def _check_classes(name: str, classes: int, ignore: int, found: np.ndarray[Any, Any]) -> None:
    if not found.size or 0 <= found.min() <= found.max() < classes:
        return
    wrong = found[(found != ignore) & ((found < 0) | (found >= classes))]
    if wrong.size:
        raise ValueRangeError(
            f"{name}: label {wrong[0]} is out of range: there are {classes} classes, "
            f"0 to {classes - 1}"
        )


def _warn_of_softmax(input: Any, x: Any) -> None:
    node = input.node if isinstance(input, Value) else None
    if (node is not None and node.primitive is softmax_) or _looks_like_softmax(known(x)):
        warn_user(
            "cross_entropy: the input looks like the output of softmax; it takes logits, and "
            "softmax twice trains slowly: leave the last softmax out"
        )


def _looks_like_softmax(rows: Any) -> bool:
    if rows is None or not rows.size or rows.shape[-1] == 1:
        return False
    first = rows[(0,) * (rows.ndim - 1)]
    if not abs(first.sum() - 1) < 1e-4:
        return False
    return bool((rows >= 0).all() and (abs(rows.sum(axis=-1) - 1) < 1e-4).all())
