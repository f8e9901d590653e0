"""Windows that slide over the last axes, and the pooling layers that fold them.

``kernel``, ``stride`` and ``dilation`` of a record are tuples, an int for each spatial axis.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import linear, movement, opaque
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops.elementwise import where, zero
from tinygrad_ai.ops.logic import not_equal
from tinygrad_ai.ops.lowering import IndexMap
from tinygrad_ai.ops.movement import pad
from tinygrad_ai.ops.products import in_float32, label
from tinygrad_ai.ops.reduce import amax
from tinygrad_ai.ops.reduce import sum as sum_over
from tinygrad_ai.ops.shapes import shape_tuple

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
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
    for offset, key in _taps(kernel, places, stride, dilation):
        out[key] += x[(..., *offset, *(slice(None),) * rank)]
    return out


def _taps(kernel: Ints, places: Ints, stride: Ints, dilation: Ints) -> Iterator[tuple[Any, Any]]:
    """Each place in the kernel, and the index of what all windows see there."""
    for offset in product(*map(range, kernel)):
        starts = [k * d for k, d in zip(offset, dilation, strict=True)]
        seen = (
            slice(lo, lo + (p - 1) * s + 1, s)
            for lo, p, s in zip(starts, places, stride, strict=True)
        )
        yield offset, (..., *seen)


def framed(xp: Any, x: Any, padding: Pairs, value: Any) -> Any:
    """``x`` with a border of ``value`` around its last axes."""
    if not any(map(any, padding)):
        return x
    size = x.shape[-len(padding) :]
    shape = *x.shape[: -len(padding)], *framed_size(size, padding)
    # fresh memory is zero: full would write it all once more
    out = xp.full(shape, value, dtype=x.dtype) if value else xp.zeros(shape, dtype=x.dtype)
    out[(..., *inside(size, padding))] = x
    return out


def framed_size(size: Sequence[int], padding: Pairs) -> Ints:
    """The size of the last axes with their border."""
    return tuple(lo + n + hi for n, (lo, hi) in zip(size, padding, strict=True))


def inside(size: Sequence[int], padding: Pairs) -> tuple[slice, ...]:
    """Where within its border an array lies whose last axes have this size."""
    return tuple(slice(lo, lo + n) for n, (lo, _) in zip(size, padding, strict=True))


def _lowest(dtype: Any) -> Any:
    if dtype.kind == "f":
        return -np.inf
    return np.iinfo(dtype).min if dtype.kind in "iu" else False


def _max_pool(
    xp: Any, x: Any, *, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints
) -> Any:
    x = framed(xp, x, padding, _lowest(x.dtype))
    places = places_of(x.shape[-len(kernel) :], reach(kernel, dilation), stride)
    (_, first), *rest = _taps(kernel, places, stride, dilation)
    out = x[first].copy()
    for _, key in rest:
        xp.maximum(out, x[key], out=out)
    return out


def _max_pool_grad(
    xp: Any, g: Any, x: Any, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints
) -> Any:
    rank = len(kernel)
    whole = framed(xp, x, padding, -np.inf)
    frame = {"kernel": kernel, "stride": stride, "dilation": dilation}
    top = _max_pool(xp, whole, padding=((0, 0),) * rank, **frame)
    taps = list(_taps(kernel, top.shape[-rank:], stride, dilation))
    ties = [(whole[key] == top) | (whole[key] != whole[key]) for _, key in taps]
    share = g / sum(tie.astype(g.dtype) for tie in ties)
    out = xp.zeros((*share.shape[:-rank], *whole.shape[-rank:]), dtype=g.dtype)
    for (_, key), tie in zip(taps, ties, strict=True):
        out[key] += xp.where(tie, share, 0)
    return out[(..., *inside(x.shape[-rank:], padding))]


def _picked(h: Any, x: Any, padding: Pairs, **params: Any) -> Any:
    """The transpose of the gradient of ``max_pool``: each window's mean of ``h`` over its ties."""
    rank = len(padding)
    axes = tuple(range(-2 * rank, -rank))
    seen = windows(_bordered(x, padding, -np.inf), **params)
    ties = (seen == amax(seen, axes, keepdims=True)) | not_equal(seen, seen)
    shares = where(ties, windows(_bordered(h, padding, 0.0), **params), 0)
    return sum_over(shares, axes) / sum_over(where(ties, zero(shares) + 1, 0), axes)


def _sum_pool(xp: Any, x: Any, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Any:
    x = framed(xp, x, padding, 0)
    places = places_of(x.shape[-len(kernel) :], reach(kernel, dilation), stride)
    return sum(x[key] for _, key in _taps(kernel, places, stride, dilation))


def _sum_pool_grad(
    xp: Any, g: Any, shape: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints
) -> Any:
    rank = len(shape)
    out = xp.zeros((*g.shape[:-rank], *framed_size(shape, padding)), dtype=g.dtype)
    for _, key in _taps(kernel, g.shape[-rank:], stride, dilation):
        out[key] += g
    return out[(..., *inside(shape, padding))]


def _window_index(i: Any, kernel: Ints, stride: Ints, dilation: Ints) -> tuple[Any, ...]:
    """Where the element at ``i`` of the windows comes from."""
    rank = len(kernel)
    inside, places = i[-2 * rank : -rank], i[-rank:]
    steps = zip(places, stride, inside, dilation, strict=True)
    return *i[: -2 * rank], *(p * s + k * d for p, s, k, d in steps)


windows = movement(
    "windows",
    # a copy: folding a view whose windows lie across its rows costs twenty times as much
    lambda xp, x, **params: xp.ascontiguousarray(windows_of(xp, x, **params)),
    vjp=lambda g, in_shape, stride, dilation: overlap_add(
        g, shape=in_shape[-len(stride) :], stride=stride, dilation=dilation
    ),
    batch="leading",
    lower=IndexMap(lambda i, shape, **params: _window_index(i, **params)),
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


_GEOMETRY: dict[str, Any] = {
    "kernel": (3,), "stride": (2,), "padding": ((1, 0),), "dilation": (1,)
}  # fmt: skip


def _apart(rng: Any) -> Any:
    """Different numbers, none near another: a tie would be a kink."""
    return rng.permutation(14).reshape(2, 7) / 4 - 1.5


max_pool = opaque(
    "max_pool",
    _max_pool,
    vjp=lambda g, x, kernel, stride, padding, dilation: max_pool_grad(
        g, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation
    ),
    batch="leading",
    sample=lambda rng: ((_apart(rng),), _GEOMETRY),
    kernel="own",
    why="only the largest element of a window counts; ties share evenly",
)
max_pool_grad = opaque(
    "max_pool_grad",
    lambda xp, g, x, *, kernel, stride, padding, dilation: in_float32(
        lambda g, x: _max_pool_grad(xp, g, x, kernel, stride, padding, dilation), g, x
    ),
    vjp=(
        lambda h, x, kernel, stride, padding, dilation: _picked(
            h, x, padding, kernel=kernel, stride=stride, dilation=dilation
        ),
        None,
    ),
    batch="leading",
    sample=lambda rng: (
        (rng.standard_normal((2, 3)), _apart(rng)),
        _GEOMETRY,
    ),
    kernel="own",
    why="linear in the cotangent; which element is the largest jumps, so it has no slope",
)
sum_pool = linear(
    "sum_pool",
    lambda xp, x, **params: in_float32(lambda x: _sum_pool(xp, x, **params), x),
    vjp=lambda g, in_shape, kernel, stride, padding, dilation: sum_pool_grad(
        g,
        shape=in_shape[-len(kernel) :],
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
    ),
    batch="leading",
    sample=lambda rng: ((rng.standard_normal((2, 7)),), _GEOMETRY),
    kernel="own",
    why="an element collects the gradients of all the windows it stands in",
)
sum_pool_grad = linear(
    "sum_pool_grad",
    lambda xp, g, **params: in_float32(lambda g: _sum_pool_grad(xp, g, **params), g),
    vjp=lambda h, kernel, stride, padding, dilation: sum_pool(
        h, kernel=kernel, stride=stride, padding=padding, dilation=dilation
    ),
    batch="leading",
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"shape": (7,), **_GEOMETRY}),
    kernel="own",
    why="the transpose of the sums of windows, so the rule is that sum itself",
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


def _geometry(
    name: str,
    x: Any,
    kernel_size: Size,
    stride: Size | None,
    padding: Size,
    dilation: Size,
    ceil_mode: bool,
) -> tuple[dict[str, Any], Pairs]:
    """The parameters of a pooling record, and what ``ceil_mode`` adds to the ends of the axes."""
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
    widths = tuple((p, p + n) for p, n in zip(border, more, strict=True))
    params = {"kernel": kernel, "stride": step, "padding": widths, "dilation": spread}
    return params, tuple((0, n) for n in more)


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
    params, _ = _geometry("max_pool1d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return max_pool(input, **params)


def max_pool2d(
    input: Any,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
) -> Any:
    """:func:`max_pool1d` over two axes: input (N, C, H, W) or (C, H, W)."""
    params, _ = _geometry("max_pool2d", input, kernel_size, stride, padding, dilation, ceil_mode)
    return max_pool(input, **params)


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
    params, more = _geometry(name, x, kernel_size, stride, padding, 1, ceil_mode)
    total = sum_pool(x, **params)
    if divisor is not None:
        return total / divisor
    if not np.any(more) and (count_include_pad or not np.any(padding)):
        return total / math.prod(params["kernel"])
    ones = zero(x) + 1
    if count_include_pad:  # the border counts, but not what ceil_mode adds after it
        border = tuple(
            (lo, hi - n) for (lo, hi), (_, n) in zip(params["padding"], more, strict=True)
        )
        ones, params = _bordered(ones, border, 1.0), {**params, "padding": more}
    return total / sum_pool(ones, **params)
