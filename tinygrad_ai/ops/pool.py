"""Windows that slide over the last axes, and the pooling layers that fold them.

``kernel``, ``stride`` and ``dilation`` of a record are tuples, an int for each spatial axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import linear, movement
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops.elementwise import zero
from tinygrad_ai.ops.movement import pad
from tinygrad_ai.ops.products import in_float32, label
from tinygrad_ai.ops.reduce import amax, mean
from tinygrad_ai.ops.reduce import sum as sum_over
from tinygrad_ai.ops.shapes import shape_tuple

Ints = tuple[int, ...]
Size = int | Sequence[int]


def reach(kernel: Sequence[int], dilation: Sequence[int]) -> Ints:
    """How many places a kernel spans."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def places_of(size: Sequence[int], reach: Ints, stride: Sequence[int]) -> Ints:
    """How many windows fit, for a padded input."""
    return tuple((n - r) // s + 1 for n, r, s in zip(size, reach, stride, strict=True))


def windows_of(xp: Any, x: Any, *, kernel: Ints, stride: Ints, dilation: Ints) -> Any:
    """A view (..., *K, *P) of ``x`` (..., *S): element (k, p) is x[p·stride + k·dilation]."""
    rank = len(kernel)
    lead, steps = x.strides[:-rank], x.strides[-rank:]
    places = places_of(x.shape[-rank:], reach(kernel, dilation), stride)
    inside = (step * d for step, d in zip(steps, dilation, strict=True))
    between = (step * s for step, s in zip(steps, stride, strict=True))
    return xp.lib.stride_tricks.as_strided(
        x, shape=(*x.shape[:-rank], *kernel, *places), strides=(*lead, *inside, *between)
    )


def overlap_added(xp: Any, x: Any, *, shape: Ints, stride: Ints, dilation: Ints) -> Any:
    """The transpose of :func:`windows_of`: ``x`` at (k, p) is added to p·stride + k·dilation.

    One addition of arrays for each place in the kernel; what no window reaches stays 0.
    """
    rank = len(shape)
    kernel, places = x.shape[-2 * rank : -rank], x.shape[-rank:]
    out = xp.zeros((*x.shape[: -2 * rank], *shape), dtype=x.dtype)
    for offset in product(*map(range, kernel)):
        starts = [k * d for k, d in zip(offset, dilation, strict=True)]
        reached = tuple(
            slice(lo, lo + p * s, s) for lo, p, s in zip(starts, places, stride, strict=True)
        )
        out[(..., *reached)] += x[(..., *offset, *(slice(None),) * rank)]
    return out


windows = movement(
    "windows",
    # a copy: folding a view whose windows lie across its rows costs twenty times as much
    lambda xp, x, **params: xp.ascontiguousarray(windows_of(xp, x, **params)),
    vjp=lambda g, in_shape, stride, dilation: overlap_add(
        g, shape=in_shape[-len(stride) :], stride=stride, dilation=dilation
    ),
    batch="leading",
    sample=lambda rng: (
        (rng.standard_normal((2, 7)),),
        {"kernel": (3,), "stride": (2,), "dilation": (1,)},
    ),
    why="an element collects the gradients of all the windows it stands in",
)
overlap_add = linear(
    "overlap_add",
    lambda xp, x, **params: in_float32(lambda x: overlap_added(xp, x, **params), x),
    vjp=lambda g, in_shape, stride, dilation: windows(
        g, kernel=in_shape[-2 * len(stride) : -len(stride)], stride=stride, dilation=dilation
    ),
    batch="leading",
    sample=lambda rng: (
        (rng.standard_normal((2, 3, 2)),),
        {"shape": (6,), "stride": (2,), "dilation": (1,)},
    ),
    why="the transpose of windows: what was added to a place reads its gradient from there",
)

# ---------------------------------------------------------------------------- the public faces


def per_axis(value: Size, rank: int, name: str, least: int) -> Ints:
    """``value`` as one int for each of ``rank`` spatial axes, none below ``least``."""
    sizes = shape_tuple(value)
    sizes = sizes * rank if len(sizes) == 1 else sizes
    if len(sizes) != rank:
        raise ShapeError(f"{name} must be an int or {rank} of them, got {value!r}")
    if any(n < least for n in sizes):
        raise ValueRangeError(f"{name} must be at least {least}, got {value!r}")
    return sizes


def check_reach(name: str, x: Any, padded: Ints, kernel: Ints, dilation: Ints) -> None:
    """Raise ShapeError where a kernel spans more than the padded input."""
    spans = reach(kernel, dilation)
    if any(r > n for r, n in zip(spans, padded, strict=True)):
        raise ShapeError(
            f"{name}: kernel {kernel} with dilation {dilation} spans {spans}, more than the "
            f"padded size {padded} of {label(x, 'x')}"
        )


def _pooled(
    name: str,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
    fill: float,
    beyond: float,
) -> tuple[Any, Any]:
    """The windows of ``x`` and the axes over which to fold them.

    ``fill`` pads it, and ``beyond`` is what the last windows of ``ceil_mode`` see after that.
    """
    rank = int(name[-2])
    if np.ndim(x) not in (rank + 1, rank + 2):
        raise ShapeError(
            f"{name}: needs x (N, C, ...) or (C, ...) with {rank} spatial axes, got {label(x, 'x')}"
        )
    kernel = per_axis(kernel_size, rank, f"{name}: kernel_size", 1)
    step = kernel if stride is None else per_axis(stride, rank, f"{name}: stride", 1)
    border = per_axis(padding, rank, f"{name}: padding", 0)
    spread = per_axis(dilation, rank, f"{name}: dilation", 1)
    if any(2 * p > r for p, r in zip(border, reach(kernel, spread), strict=True)):
        raise ShapeError(f"{name}: padding {border} is more than half of the kernel {kernel}")
    size = tuple(n + 2 * p for n, p in zip(x.shape[-rank:], border, strict=True))
    more = _overhang(size, reach(kernel, spread), step, border) if ceil_mode else (0,) * rank
    check_reach(name, x, tuple(map(sum, zip(size, more, strict=True))), kernel, spread)
    x = _bordered(x, tuple((p, p) for p in border), fill)
    x = _bordered(x, tuple((0, n) for n in more), beyond)
    seen = windows(x, kernel=kernel, stride=step, dilation=spread)
    return seen, tuple(range(-2 * rank, -rank))


def _bordered(x: Any, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    if not any(map(any, widths)):
        return x
    return pad(x, ((0, 0),) * (x.ndim - len(widths)) + widths, constant_values=value)


def _overhang(size: Ints, spans: Ints, stride: Ints, border: Ints) -> Ints:
    """What is missing at the ends for all windows that begin before the border there."""
    found = []
    for n, r, s, p in zip(size, spans, stride, border, strict=True):
        last = min(-((r - n) // s), (n - p - 1) // s) * s
        found.append(max(last + r - n, 0))
    return tuple(found)


def max_pool1d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Any:
    """The largest element of every window: input (N, C, L) or (C, L) → (..., P).

    P = ⌊(L + 2·padding - dilation·(kernel_size - 1) - 1)/stride⌋ + 1, with ``ceil_mode`` rounded up
    as long as the last window begins before the padding at the end; ``stride`` is the kernel's size
    unless given. Ties share the gradient evenly, NaN wins. Raises ShapeError for sizes that do not
    fit.
    """
    args = kernel_size, stride, padding, dilation, ceil_mode, -np.inf, -np.inf
    return amax(*_pooled("max_pool1d", input, *args))


def max_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Any:
    """:func:`max_pool1d` over two axes: input (N, C, H, W) or (C, H, W)."""
    args = kernel_size, stride, padding, dilation, ceil_mode, -np.inf, -np.inf
    return amax(*_pooled("max_pool2d", input, *args))


def avg_pool1d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of every window: input (N, C, L) or (C, L), sizes as for :func:`max_pool1d`.

    Zeros of the padding count unless ``count_include_pad`` is false; what ``ceil_mode`` adds after
    them never does.
    """
    args = kernel_size, stride, padding, ceil_mode, count_include_pad
    return _averaged("avg_pool1d", input, *args, None)


def avg_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """:func:`avg_pool1d` over two axes: input (N, C, H, W) or (C, H, W).

    ``divisor_override`` divides the sums of the windows instead of how many elements count.
    """
    args = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return _averaged("avg_pool2d", input, *args)


def _averaged(
    name: str,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    if divisor == 0:
        raise ValueRangeError(f"{name}: divisor_override must not be 0")
    args = kernel_size, stride, padding, 1, ceil_mode
    seen = _pooled(name, x, *args, 0.0, 0.0)
    if divisor is not None:
        return sum_over(*seen) / divisor
    if not ceil_mode and (count_include_pad or not np.any(padding)):
        return mean(*seen)
    return sum_over(*seen) / sum_over(
        *_pooled(name, zero(x) + 1, *args, float(count_include_pad), 0.0)
    )
