"""What every operation computes, written a second time: NumPy's own functions, textbook formulas
and plain loops, sharing nothing with the records. The forward rules are compared with these.

A reference takes the inputs and parameters of the record's forward rule, without ``xp``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Reference = Callable[..., Any]

erf = np.vectorize(math.erf, otypes=[float])
erfc = np.vectorize(math.erfc, otypes=[float])


def _softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


def _sigmoid(x: Array) -> Array:
    return np.exp(-_softplus(-x))


def _gelu_tanh(x: Array) -> Array:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def _bce(p: Array, t: Array) -> Array:
    log_p, log_q = (np.maximum(np.log(q), -100) for q in (p, 1 - p))
    return -(t * log_p + (1 - t) * log_q)


def _logsumexp(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.logaddexp.reduce(
        np.moveaxis(x, axis, range(len(axis))).reshape(-1, *_rest(x, axis)), axis=0
    ).reshape(np.sum(x, axis=axis, keepdims=keepdims).shape)


def _rest(x: Array, axis: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for k, n in enumerate(x.shape) if k not in axis)


def _norm(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
    return np.sqrt(np.sum(x**2, axis=axis, keepdims=keepdims))


def _softmax(x: Array, *, axis: int) -> Array:
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


def _cross_entropy(x: Array, labels: Array, *, ignore: int) -> Array:
    losses = np.zeros(labels.shape, x.dtype)
    for place in np.ndindex(labels.shape):
        if labels[place] != ignore:
            losses[place] = np.log(np.exp(x[place]).sum()) - x[place][labels[place]]
    return losses


def _softmax_minus_one_hot(x: Array, labels: Array, *, ignore: int) -> Array:
    # a row that is ignored counts as class 0 here; its gradient is masked where it is used
    return _softmax(x, axis=-1) - np.eye(x.shape[-1])[np.where(labels == ignore, 0, labels)]


def _sinc(x: Array, *, order: int) -> Array:
    """A derivative of sinc from its integral: ∫₀¹ (πt)ᵏ cos(πxt + kπ/2) dt, by Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = np.pi * (nodes + 1) / 2
    phases = np.multiply.outer(x, t) + order * np.pi / 2
    return (t**order * np.cos(phases) * weights / 2).sum(axis=-1)


def _put(shape: tuple[int, ...], key: Any, values: Array) -> Array:
    out = np.zeros(shape)
    np.add.at(out, key, values)
    return out


def _key(spec: tuple[Any, ...], arrays: tuple[Array, ...]) -> tuple[Any, ...]:
    rest = iter(arrays)
    return tuple(next(rest) if isinstance(part, str) else part for part in spec)


def _triangle(keep: Callable[[int, int], bool]) -> Reference:
    def kept(x: Array, *, k: int) -> Array:
        rows, columns = x.shape[-2:]
        return x * np.array([[keep(j - i, k) for j in range(columns)] for i in range(rows)])

    return kept


def _windows(x: Array, *, kernel: Any, stride: Any, dilation: Any) -> Array:
    places = _places(x.shape[-len(kernel) :], kernel, stride, dilation)
    out = np.zeros((*x.shape[: -len(kernel)], *kernel, *places))
    for k, p in itertools.product(np.ndindex(*kernel), np.ndindex(*places)):
        at: Any = (..., *k, *p)
        out[at] = x[(..., *_source(k, p, stride, dilation))]
    return out


def _overlap_add(x: Array, *, shape: Any, stride: Any, dilation: Any) -> Array:
    rank = len(shape)
    out = np.zeros((*x.shape[: -2 * rank], *shape))
    for k in np.ndindex(*x.shape[-2 * rank : -rank]):
        for p in np.ndindex(*x.shape[-rank:]):
            at: Any = (..., *_source(k, p, stride, dilation))
            out[at] += x[(..., *k, *p)]
    return out


def _framed(x: Array, fill: float, *, padding: Any, **geometry: Any) -> Array:
    rest = ((0, 0),) * (x.ndim - len(padding))
    return _windows(np.pad(x, (*rest, *padding), constant_values=fill), **geometry)


def _max_pool(x: Array, **geometry: Any) -> Array:
    rank = len(geometry["kernel"])
    return _framed(x, -np.inf, **geometry).max(tuple(range(-2 * rank, -rank)))


def _sum_pool(x: Array, **geometry: Any) -> Array:
    rank = len(geometry["kernel"])
    return _framed(x, 0.0, **geometry).sum(tuple(range(-2 * rank, -rank)))


def _unpooled(parts: Array, shape: Any, *, padding: Any, **geometry: Any) -> Array:
    """The windows ``parts`` added where they were seen, without the border."""
    whole = tuple(lo + n + hi for n, (lo, hi) in zip(shape, padding, strict=True))
    rest = {k: geometry[k] for k in ("stride", "dilation")}
    inner = tuple(slice(lo, lo + n) for n, (lo, _) in zip(shape, padding, strict=True))
    return _overlap_add(parts, shape=whole, **rest)[(..., *inner)]


def _max_pool_grad(g: Array, x: Array, **geometry: Any) -> Array:
    rank = len(geometry["kernel"])
    axes = tuple(range(-2 * rank, -rank))
    seen = _framed(x, -np.inf, **geometry)
    ties = seen == seen.max(axes, keepdims=True)
    shares = ties / ties.sum(axes, keepdims=True)
    return _unpooled(_apart(g, rank) * shares, x.shape[-rank:], **geometry)


def _apart(y: Array, rank: int) -> Array:
    return y.reshape(*y.shape[:-rank], *(1,) * rank, *y.shape[-rank:])


def _sum_pool_grad(g: Array, *, shape: Any, **geometry: Any) -> Array:
    rank = len(shape)
    ones = np.ones((*(1,) * (g.ndim - rank), *geometry["kernel"], *(1,) * rank))
    return _unpooled(_apart(g, rank) * ones, shape, **geometry)


def _places(size: Any, kernel: Any, stride: Any, dilation: Any) -> tuple[int, ...]:
    return tuple(
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True)
    )


def _source(k: Any, p: Any, stride: Any, dilation: Any) -> tuple[Any, ...]:
    return tuple(a * s + b * d for b, a, s, d in zip(k, p, stride, dilation, strict=True))


def _taps(
    x_shape: Any, weight_shape: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    """Every product that a convolution sums: (place in x, place in weight, place in y)."""
    size = [n + lo + hi for n, (lo, hi) in zip(x_shape[2:], padding, strict=True)]
    out, width, *kernel = weight_shape
    for o, c in itertools.product(range(out), range(width)):
        channel = o // (out // groups) * width + c
        for k in np.ndindex(*kernel):
            for p in np.ndindex(*_places(size, kernel, stride, dilation)):
                at = _source(k, p, stride, dilation)
                at = tuple(i - lo for i, (lo, _) in zip(at, padding, strict=True))
                if all(0 <= i < n for i, n in zip(at, x_shape[2:], strict=True)):
                    yield (slice(None), channel, *at), (o, c, *k), (slice(None), o, *p)


def _conv(x: Array, weight: Array, **geometry: Any) -> Array:
    kernel, padding = weight.shape[2:], geometry["padding"]
    size = [n + lo + hi for n, (lo, hi) in zip(x.shape[2:], padding, strict=True)]
    places = _places(size, kernel, geometry["stride"], geometry["dilation"])
    y = np.zeros((x.shape[0], weight.shape[0], *places))
    for i, j, k in _taps(x.shape, weight.shape, **geometry):
        y[k] += x[i] * weight[j]
    return y


def _conv_input_grad(dy: Array, weight: Array, *, shape: Any, **geometry: Any) -> Array:
    x = np.zeros((dy.shape[0], weight.shape[1] * geometry["groups"], *shape))
    for i, j, k in _taps(x.shape, weight.shape, **geometry):
        x[i] += dy[k] * weight[j]
    return x


def _conv_weight_grad(x: Array, dy: Array, *, kernel: Any, **geometry: Any) -> Array:
    weight = np.zeros((dy.shape[1], x.shape[1] // geometry["groups"], *kernel))
    for i, j, k in _taps(x.shape, weight.shape, **geometry):
        weight[j] += (x[i] * dy[k]).sum()
    return weight


def _minors(a: Array) -> Array:
    n = a.shape[-1]
    out = np.zeros((*a.shape, n - 1, n - 1))
    for i, j in np.ndindex(n, n):
        out[..., i, j, :, :] = np.delete(np.delete(a, i, -2), j, -1)
    return out


def _join_minors(g: Array) -> Array:
    n = g.shape[-3]
    out = np.zeros((*g.shape[:-4], n, n))
    for i, j in np.ndindex(n, n):
        rows, columns = (np.delete(np.arange(n), k) for k in (i, j))
        out[..., rows[:, None], columns] += g[..., i, j, :, :]
    return out


def _checker(x: Array) -> Array:
    return np.stack(
        [np.stack([x[..., i, j] * (-1) ** (i + j) for j in range(x.shape[-1])], -1)
         for i in range(x.shape[-2])], -2,
    )  # fmt: skip


def _half_tril(x: Array) -> Array:
    return x * (np.tri(x.shape[-1], k=-1) + np.eye(x.shape[-1]) / 2)


def _unit_rms(x: Array, *, axis: tuple[int, ...], eps: float) -> Array:
    return x / np.sqrt(np.mean(x**2, axis=axis, keepdims=True) + eps)


def _standardize(x: Array, *, axis: tuple[int, ...], eps: float) -> Array:
    squares = np.var(x, axis=axis, keepdims=True)
    return (x - np.mean(x, axis=axis, keepdims=True)) / np.sqrt(squares + eps)


#: Records whose reference is NumPy's function of the same name.
_NUMPY = """
    add subtract multiply divide floor_divide remainder power negative positive abs sign
    square reciprocal sqrt exp expm1 log log1p tanh maximum minimum where floor ceil
    trunc cbrt hypot exp2 log2 log10 logaddexp sin cos tan arcsin arccos arctan
    arctan2 sinh cosh arcsinh arccosh arctanh equal not_equal less less_equal
    greater greater_equal logical_and logical_or logical_xor logical_not bitwise_and
    bitwise_or bitwise_xor isnan isinf isfinite sum mean var std prod all any argmax
    argmin cumsum cumprod broadcast_to flip reshape matmul take
"""

#: Name of a record -> its reference.
REFERENCES: dict[str, Reference] = {
    **{name: getattr(np, name) for name in _NUMPY.split()},
    "zero": lambda x: np.zeros(x.shape),
    "clip": lambda x, low, high: np.clip(x, low, high),
    "round": np.round,
    "astype": lambda x, *, dtype: np.array(x, dtype=dtype),
    "bitwise_not": np.invert,
    "sigmoid": _sigmoid,
    "relu": lambda x: x * (x > 0),
    "rsqrt": lambda x: x**-0.5,
    "xlogy": lambda a, b: np.where(a == 0, 0, a * np.log(b)),
    "erf": erf,
    "erfc": erfc,
    "logsigmoid": lambda x: -_softplus(-x),
    "softplus": _softplus,
    "sinc": _sinc,
    "leaky_relu": lambda x, *, slope: x * np.where(x > 0, 1, slope),
    "elu": lambda x, *, alpha: np.where(x > 0, x, alpha * (np.exp(x) - 1)),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "gelu_tanh": _gelu_tanh,
    "binary_cross_entropy": _bce,
    "binary_cross_entropy_with_logits": lambda x, t, weight: (
        -weight * t * np.log(_sigmoid(x)) - (1 - t) * np.log(_sigmoid(-x))
    ),
    "amax": np.max,
    "amin": np.min,
    "logsumexp": _logsumexp,
    "norm": _norm,
    "slice": lambda x, *, key: x[key],
    "unslice": lambda g, *, key, shape: _put(shape, key, g),
    "softmax": _softmax,
    "log_softmax": lambda x, *, axis: np.log(_softmax(x, axis=axis)),
    "cross_entropy": _cross_entropy,
    "softmax_minus_one_hot": _softmax_minus_one_hot,
    "unit_rms": _unit_rms,
    "standardize": _standardize,
    "scale_and_shift": lambda x, scale, shift: x * scale + shift,
    "permute": lambda x, *, axes: np.einsum(x, list(range(x.ndim)), list(axes)),
    "pad": lambda x, *, widths: _put(
        tuple(n + lo + hi for n, (lo, hi) in zip(x.shape, widths, strict=True)),
        tuple(slice(lo, lo + n) for n, (lo, _) in zip(x.shape, widths, strict=True)),
        x,
    ),
    "concatenate": lambda *arrays, axis: np.concatenate(arrays, axis),
    "tril": _triangle(lambda offset, k: offset <= k),
    "triu": _triangle(lambda offset, k: offset >= k),
    "index": lambda x, *arrays, spec: x[_key(spec, arrays)],
    "scatter": lambda g, *arrays, spec, shape: _put(shape, _key(spec, arrays), g),
    "argsort": lambda x, *, axis: np.argsort(x, axis=axis, kind="stable"),
    "sort": np.sort,
    "argbest": lambda x, *, k, axis, largest: np.sort(
        np.take(np.argsort(-x if largest else x, axis=axis), range(k), axis), axis=axis
    ),
    "linear": lambda x, weight: np.einsum("...j,kj->...k", x, weight),
    "einsum": lambda a, b, *, spec: np.einsum(spec, a, b),
    "inv": np.linalg.inv,
    "solve": lambda a, b: np.linalg.inv(a) @ b,
    "checker": _checker,
    "minors": _minors,
    "join_minors": _join_minors,
    "cofactor": lambda a: _checker(np.linalg.det(_minors(a))),
    "det": np.linalg.det,
    "logabsdet": lambda a: np.log(abs(np.linalg.det(a))),
    "det_sign": lambda a: np.sign(np.linalg.det(a)),
    "half_tril": _half_tril,
    "cholesky": lambda a: np.linalg.cholesky((a + np.swapaxes(a, -1, -2)) / 2),
    "conv": _conv,
    "conv_input_grad": _conv_input_grad,
    "conv_weight_grad": _conv_weight_grad,
    "windows": _windows,
    "overlap_add": _overlap_add,
    "max_pool": _max_pool,
    "max_pool_grad": _max_pool_grad,
    "sum_pool": _sum_pool,
    "sum_pool_grad": _sum_pool_grad,
    "transfer": lambda x, *, source, target: x.copy(),
}
