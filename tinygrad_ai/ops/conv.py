"""Convolution over any number of spatial axes, channels first.

A convolution and its two gradients are three records that are each other's rules: all three sum
the same products x·weight·dy over windows, and each is linear in the two arrays it is given. So
gradients of every order exist. The work is one product of matrices: the windows of the input, laid
out as columns, and the kernels, laid out as rows.

Shapes: x (N, C, *S), weight (O, C / groups, *K), result (N, O, *P) with
P = (S + padding on both sides - dilation·(K - 1) - 1) // stride + 1. Leading axes before these
broadcast, which is how ``vmap`` batches them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import contraction
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops.movement import expand_dims, reshape
from tinygrad_ai.ops.pool import (
    Ints,
    Pairs,
    Size,
    check_reach,
    framed,
    framed_size,
    inside,
    overlap_added,
    per_axis,
    reach,
    windows_of,
)
from tinygrad_ai.ops.products import in_float32, label


def _padded_windows(
    xp: Any, x: Any, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints
) -> Any:
    x = framed(xp, x, padding, 0)
    return windows_of(xp, x, kernel=kernel, stride=stride, dilation=dilation)


def _rows(xp: Any, weight: Any, rank: int, groups: int) -> Any:
    """``weight`` (..., O, C/G, *K) as (..., 1, G, O/G, C/G·K)."""
    lead, out, width = (
        weight.shape[: -rank - 2],
        weight.shape[-rank - 2],
        math.prod(weight.shape[-rank - 1 :]),
    )
    return xp.reshape(weight, (*lead, 1, groups, out // groups, width))


def _grouped(xp: Any, dy: Any, rank: int, groups: int) -> Any:
    """``dy`` (..., N, O, *P) as (..., N, G, O/G, P)."""
    channels = dy.shape[-rank - 1] // groups
    return xp.reshape(dy, (*dy.shape[: -rank - 1], groups, channels, math.prod(dy.shape[-rank:])))


def _conv(
    xp: Any, x: Any, weight: Any, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Any:
    rank = len(stride)
    seen = _padded_windows(xp, x, weight.shape[-rank:], stride, padding, dilation)
    places = seen.shape[-rank:]
    rows = _rows(xp, weight, rank, groups)
    columns = xp.reshape(seen, (*x.shape[: -rank - 1], groups, rows.shape[-1], math.prod(places)))
    result = xp.matmul(rows, columns)
    return xp.reshape(result, (*result.shape[:-3], weight.shape[-rank - 2], *places))


def _input_grad(
    xp: Any,
    dy: Any,
    weight: Any,
    shape: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
) -> Any:
    rank = len(stride)
    rows = _rows(xp, weight, rank, groups)
    columns = xp.matmul(xp.swapaxes(rows, -1, -2), _grouped(xp, dy, rank, groups))
    channels = weight.shape[-rank - 1] * groups
    seen = xp.reshape(
        columns, (*columns.shape[:-3], channels, *weight.shape[-rank:], *dy.shape[-rank:])
    )
    size = framed_size(shape, padding)
    whole = overlap_added(xp, seen, shape=size, stride=stride, dilation=dilation)
    return whole[(..., *inside(shape, padding))]


def _weight_grad(
    xp: Any,
    x: Any,
    dy: Any,
    kernel: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
) -> Any:
    rank = len(stride)
    seen = _padded_windows(xp, x, kernel, stride, padding, dilation)
    lead, (n, channels) = x.shape[: -rank - 2], x.shape[-rank - 2 : -rank]
    seen = xp.moveaxis(seen, len(lead), -rank - 1)  # one product over samples and places together
    width = channels // groups * math.prod(kernel)
    columns = xp.reshape(seen, (*lead, groups, width, n * math.prod(dy.shape[-rank:])))
    rows = xp.moveaxis(_grouped(xp, dy, rank, groups), -4, -2)
    rows = xp.reshape(rows, (*rows.shape[:-2], columns.shape[-1]))
    result = xp.matmul(rows, xp.swapaxes(columns, -1, -2))
    return xp.reshape(
        result, (*result.shape[:-3], dy.shape[-rank - 1], channels // groups, *kernel)
    )


def _sample(shapes: tuple[Ints, Ints], **params: Any) -> Any:
    """A sampler of a convolution with everything: stride, padding, dilation, groups."""
    geometry = {"stride": (2,), "padding": ((1, 2),), "dilation": (2,), "groups": 2}
    return lambda rng: (tuple(rng.standard_normal(s) for s in shapes), {**params, **geometry})


_X, _WEIGHT, _DY = (2, 4, 8), (6, 2, 3), (2, 6, 4)

conv_ = contraction(
    "conv",
    lambda xp, x, weight, *, stride, padding, dilation, groups: in_float32(
        lambda x, weight: _conv(xp, x, weight, stride, padding, dilation, groups), x, weight
    ),
    vjp=(
        lambda g, weight, in_shape, stride, padding, dilation, groups: conv_input_grad(
            g,
            weight,
            shape=in_shape[-len(stride) :],
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        ),
        lambda g, x, in_shape, stride, padding, dilation, groups: conv_weight_grad(
            x,
            g,
            kernel=in_shape[-len(stride) :],
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        ),
    ),
    batch="leading",
    sample=_sample((_X, _WEIGHT)),
    kernel="own",
    why="every output is a sum of products over its window, so each factor collects the other one",
)
conv_input_grad = contraction(
    "conv_input_grad",
    lambda xp, dy, weight, *, shape, stride, padding, dilation, groups: in_float32(
        lambda dy, weight: _input_grad(xp, dy, weight, shape, stride, padding, dilation, groups),
        dy,
        weight,
    ),
    vjp=(
        lambda g, weight, stride, padding, dilation, groups: conv_(
            g, weight, stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
        lambda g, dy, in_shape, stride, padding, dilation, groups: conv_weight_grad(
            g,
            dy,
            kernel=in_shape[-len(stride) :],
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        ),
    ),
    batch="leading",
    sample=_sample((_DY, _WEIGHT), shape=(8,)),
    kernel="own",
    why="the transpose of a convolution in its input, so the rule is the convolution itself",
)
conv_weight_grad = contraction(
    "conv_weight_grad",
    lambda xp, x, dy, *, kernel, stride, padding, dilation, groups: in_float32(
        lambda x, dy: _weight_grad(xp, x, dy, kernel, stride, padding, dilation, groups), x, dy
    ),
    vjp=(
        lambda g, dy, in_shape, stride, padding, dilation, groups: conv_input_grad(
            dy,
            g,
            shape=in_shape[-len(stride) :],
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        ),
        lambda g, x, stride, padding, dilation, groups: conv_(
            x, g, stride=stride, padding=padding, dilation=dilation, groups=groups
        ),
    ),
    batch="leading",
    sample=_sample((_X, _DY), kernel=(3,)),
    kernel="own",
    why="the transpose of a convolution in its weight, so the rule is the convolution itself",
)


# ---------------------------------------------------------------------------- the public faces


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of input (N, C, L) or (C, L), weight (O, C / groups, K): (N, O, P).

    ``padding`` is a number of zeros at both ends, "valid" (none) or "same" (P = L, stride 1).
    ``bias`` (O,) is added. Raises ShapeError with names and shapes where sizes do not fit.
    """
    return _convolved("conv1d", input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Any:
    """Over two axes: input (N, C, H, W) or (C, H, W), weight (O, C / groups, KH, KW).

    Otherwise as :func:`conv1d`.
    """
    return _convolved("conv2d", input, weight, bias, stride, padding, dilation, groups)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Any:
    """The transpose of :func:`conv2d`: (N, C, H, W) or (C, H, W) and (C, O / groups, KH, KW).

    Sizes become (H - 1)·stride - 2·padding + dilation·(KH - 1) + 1 + output_padding, where
    ``output_padding`` is smaller than the stride. PyTorch's arguments and their order.
    """
    name = "conv_transpose2d"
    _check_ranks(name, input, weight, 2)
    steps, spread, border, more = (
        per_axis(stride, 2, f"{name}: stride", 1),
        per_axis(dilation, 2, f"{name}: dilation", 1),
        per_axis(padding, 2, f"{name}: padding", 0),
        per_axis(output_padding, 2, f"{name}: output_padding", 0),
    )
    if any(extra >= s for extra, s in zip(more, steps, strict=True)):
        raise NotImplementedError(
            f"{name}: output_padding {more} must be smaller than the stride {steps}"
        )
    channels = input.shape[-3]
    if groups < 1 or channels != weight.shape[0] or channels % groups:
        raise ShapeError(
            f"{name}: channels do not fit: {label(input, 'x')} has {channels}, "
            f"{label(weight, 'weight')} takes {weight.shape[0]}, in groups={groups}"
        )
    spans = reach(weight.shape[2:], spread)
    shape = tuple(
        (n - 1) * s - 2 * p + r + extra
        for n, s, p, r, extra in zip(input.shape[-2:], steps, border, spans, more, strict=True)
    )
    if any(n < 1 for n in shape):
        raise ShapeError(f"{name}: padding {border} leaves nothing: the size would be {shape}")
    result = conv_input_grad(
        input if input.ndim == 4 else expand_dims(input, 0),
        weight,
        shape=shape,
        stride=steps,
        padding=tuple((p, p) for p in border),
        dilation=spread,
        groups=groups,
    )
    return _with_bias(name, result, bias, input.ndim)


def _convolved(
    name: str,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Size,
    padding: Size | str,
    dilation: Size,
    groups: int,
) -> Any:
    rank = int(name[-2])
    _check_ranks(name, x, weight, rank)
    kernel = tuple(weight.shape[2:])
    steps = per_axis(stride, rank, f"{name}: stride", 1)
    spread = per_axis(dilation, rank, f"{name}: dilation", 1)
    border = _border(name, padding, kernel, steps, spread)
    channels, out, taken = x.shape[-rank - 1], weight.shape[0], weight.shape[1] * groups
    if groups < 1 or channels % groups or out % groups:
        raise ShapeError(
            f"{name}: groups={groups} must divide the {channels} channels of {label(x, 'x')} and "
            f"the {out} outputs of {label(weight, 'weight')}"
        )
    if channels != taken:
        raise ShapeError(
            f"{name}: channels differ: {label(x, 'x')} has {channels}, {label(weight, 'weight')} "
            f"with groups={groups} takes {taken}"
        )
    check_reach(name, x, framed_size(x.shape[-rank:], border), kernel, spread)
    result = conv_(
        x if x.ndim == rank + 2 else expand_dims(x, 0),
        weight,
        stride=steps,
        padding=border,
        dilation=spread,
        groups=groups,
    )
    return _with_bias(name, result, bias, x.ndim)


def _check_ranks(name: str, x: Any, weight: Any, rank: int) -> None:
    if np.ndim(x) not in (rank + 1, rank + 2) or np.ndim(weight) != rank + 2:
        raise ShapeError(
            f"{name}: needs x with {rank + 2} axes (or {rank + 1}, one sample) and weight with "
            f"{rank + 2}, got {label(x, 'x')} and {label(weight, 'weight')}"
        )


def _border(name: str, padding: Size | str, kernel: Ints, stride: Ints, dilation: Ints) -> Pairs:
    """The zeros before and after each axis; "same" puts an odd one after, as PyTorch does."""
    if padding == "same":
        if any(s != 1 for s in stride):
            raise ValueRangeError(f"{name}: padding 'same' needs stride 1, got {stride}")
        return tuple(((r - 1) // 2, r // 2) for r in reach(kernel, dilation))
    if isinstance(padding, str) and padding != "valid":
        raise ValueRangeError(f"{name}: padding must be ints, 'same' or 'valid', not {padding!r}")
    sizes = 0 if isinstance(padding, str) else padding
    return tuple((p, p) for p in per_axis(sizes, len(kernel), f"{name}: padding", 0))


def _with_bias(name: str, y: Any, bias: Any, ndim: int) -> Any:
    """``y`` (N, O, *P) plus ``bias`` (O,), without the first axis if the input had none."""
    if bias is not None:
        if tuple(np.shape(bias)) != (y.shape[1],):
            raise ShapeError(
                f"{name}: bias must have shape ({y.shape[1]},), one for each output channel, got "
                f"{label(bias, 'bias')}"
            )
        y = y + reshape(bias, (-1,) + (1,) * (y.ndim - 2))
    return y if y.ndim == ndim else reshape(y, y.shape[1:])
