"""What layers compute: affine maps, normalisation, embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Value, mode, no_grad
from tinygrad_ai.backend import NUMPY, namespaces
from tinygrad_ai.errors import DTypeError, IndexRangeError, ShapeError
from tinygrad_ai.ops import products
from tinygrad_ai.ops.elementwise import astype, square, where, widened
from tinygrad_ai.ops.index import take
from tinygrad_ai.ops.logic import equal
from tinygrad_ai.ops.movement import expand_dims, reshape
from tinygrad_ai.ops.normalize import scale_and_shift, standardize, unit_rms
from tinygrad_ai.ops.reduce import mean
from tinygrad_ai.ops.shapes import count, shape_tuple
from tinygrad_ai.ops.special import rsqrt
from tinygrad_ai.tensor import Tensor


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``input @ weight.T + bias``: input (..., in), weight (out, in), bias (out,) → (..., out)."""
    y = products.linear(input, weight)
    if bias is None:
        return y
    if tuple(bias.shape) != (weight.shape[0],):
        raise ShapeError(f"linear: bias {tuple(bias.shape)} for weight {tuple(weight.shape)}")
    return y + bias


# ------------------------------------------------------------------------------- normalisation


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """(x - mean)/√(var + eps)·weight + bias for each channel (Ioffe and Szegedy, 2015).

    Args:
        input: (N, C) or (N, C, ...); all axes but 1 are averaged over.
        running_mean, running_var: (C,), used when not training; in training the statistics are the
            batch's, and the running ones (if given) move towards them by ``momentum``, the variance
            as n/(n-1) times the batch's.
        weight, bias: (C,) or None.

    Raises ShapeError for other shapes, without running statistics outside training, and for one
    value per channel in training.
    """
    channels = input.shape[1] if input.ndim > 1 else None
    given = {
        "running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias
    }  # fmt: skip
    for name, v in given.items():
        if channels is None or (v is not None and tuple(v.shape) != (channels,)):
            shape = "" if v is None else f" and {name} {tuple(v.shape)}"
            raise ShapeError(f"batch_norm: needs (N, C, ...) and (C,), got {input.shape}{shape}")

    def per_channel(v: Any) -> Any:
        return reshape(v, (-1,) + (1,) * (input.ndim - 2))

    if not training:
        if running_mean is None or running_var is None:
            raise ShapeError("batch_norm: outside training it needs running_mean and running_var")
        scale = rsqrt(running_var + eps)
        scale = scale if weight is None else scale * weight
        shift = -running_mean * scale
        shift = shift if bias is None else shift + bias
        return input * per_channel(scale) + per_channel(shift)
    axes = (0, *range(2, input.ndim))
    n = count(input.shape, axes)
    if n == 1:
        raise ShapeError(f"batch_norm: one value per channel in training: input {input.shape}")
    centre = mean(input, axes, keepdims=True)
    centred = input - centre
    with no_grad():
        if running_mean is not None:
            _move(running_mean, reshape(centre, (channels,)), momentum)
        if running_var is not None:
            variance = mean(square(widened(centred)), axes) * (n / max(n - 1, 1))
            _move(running_var, variance, momentum)
    y = unit_rms(centred, axis=axes, eps=eps)
    y = y if weight is None else y * per_channel(weight)
    return y if bias is None else y + per_channel(bias)


def _move(running: Any, batch: Any, momentum: float) -> None:
    running[...] = (1 - momentum) * running + momentum * batch


def layer_norm(
    input: Any,
    normalized_shape: int | Sequence[int],
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """(x - mean)/√(var + eps)·weight + bias over the last axes (Ba et al., 2016).

    ``normalized_shape`` says which: it is the end of the input's shape, and the shape of ``weight``
    and ``bias``. Raises ShapeError where it is not.
    """
    axes = _last_axes("layer_norm", input, normalized_shape, weight, bias)
    y = standardize(input, axis=axes, eps=eps)
    if weight is not None and bias is not None:
        return scale_and_shift(y, weight, bias)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def rms_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """x/√(mean(x²) + eps)·weight over the last axes (Zhang and Sennrich, 2019).

    ``eps`` is the dtype's machine epsilon by default; shapes as for :func:`layer_norm`. Raises
    DTypeError for integers.
    """
    if input.dtype.kind != "f":
        raise DTypeError(f"rms_norm: needs floating-point numbers, got {input.dtype}")
    axes = _last_axes("rms_norm", input, normalized_shape, weight)
    y = unit_rms(input, axis=axes, eps=float(np.finfo(input.dtype).eps) if eps is None else eps)
    return y if weight is None else y * weight


def _last_axes(name: str, input: Any, normalized_shape: Any, *params: Any) -> tuple[int, ...]:
    shape = shape_tuple(normalized_shape)
    fits = all(p is None or tuple(p.shape) == shape for p in params)
    if not shape or tuple(input.shape[-len(shape) :]) != shape or not fits:
        given = ", ".join(str(tuple(p.shape)) for p in params if p is not None)
        raise ShapeError(
            f"{name}: normalized_shape {shape} must be the end of the input's shape "
            f"{tuple(input.shape)}"
            + (f" and the shape of weight and bias: {given}" if given else "")
        )
    return tuple(range(input.ndim - len(shape), input.ndim))


# --------------------------------------------------------------------------------------- tables


def arrayed(value: Any) -> Any:
    """``value`` itself, or a list as an array."""
    return value if hasattr(value, "dtype") else np.asarray(value)


def known(value: Any) -> np.ndarray[Any, Any] | None:
    """The elements of ``value`` if they can be looked at for free.

    They cannot be inside a trace or a batch, and on a GPU a look would make the host wait.
    """
    array = value.array if isinstance(value, Value) else value
    return array if mode.interpreter is None and isinstance(array, np.ndarray) else None


def examine(value: Any, size: int, exact: Callable[[np.ndarray[Any, Any]], None]) -> None:
    """Have ``exact`` refuse the integers of ``value`` if need be, now or in every compiled call.

    It raises for what is out of range, and not if all are in 0 … size-1. What cannot be looked at
    is let through.
    """
    found = known(value)
    if found is not None:
        exact(found)
    elif mode.capture is not None and isinstance(value, Value):
        mode.capture.examine(value.array, size, exact)


def _listed(what: str, size: int, things: str, found: np.ndarray[Any, Any]) -> None:
    if found.size and not 0 <= found.min() <= found.max() < size:
        wrong = found[(found < 0) | (found >= size)].flat[0]
        raise IndexRangeError(f"{what} {wrong} is out of range: there are {size} {things}")


def embedding(input: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """Row ``input[...]`` of ``weight`` for each index: (...) and (V, D) → (..., D).

    The row ``padding_idx`` gets no gradient. Raises DTypeError unless the input has integers,
    IndexRangeError (an IndexError) for one that is not a row.
    """
    input = arrayed(input)
    if input.dtype.kind not in "iu":
        raise DTypeError(f"embedding: indices must be integers, not {input.dtype}")
    rows = weight.shape[0]
    examine(input, rows, partial(_listed, "embedding: index", rows, "rows"))
    y = take(weight, input, 0)
    if padding_idx is None or not isinstance(y, Tensor):
        return y
    return where(expand_dims(input == padding_idx % rows, -1), y.detach(), y)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """1 at the label and 0 elsewhere: labels (...) → int64 (..., num_classes).

    Without ``num_classes`` it is the largest label + 1. Raises DTypeError unless the labels are
    integers, IndexRangeError where one is out of range.
    """
    tensor = arrayed(tensor)
    if tensor.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: labels must be integers, not {tensor.dtype}")
    classes = int(tensor.max()) + 1 if num_classes < 0 else num_classes
    examine(tensor, classes, partial(_listed, "one_hot: label", classes, "classes"))
    hits = equal(expand_dims(tensor, -1), count_up(tensor, classes))
    return astype(hits, dtype=np.dtype(np.int64))


def count_up(like: Any, n: int) -> Any:
    """0 … n-1 where the elements of ``like`` live."""
    array = like.array if isinstance(like, Value) else like
    return namespaces.get(type(array), NUMPY.xp).arange(n)
