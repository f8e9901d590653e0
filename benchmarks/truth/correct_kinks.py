"""Correct rules at kinks, ties and jumps, and at points that a finite step cannot tell from one.

At a kink the rule gives the minimum-norm subgradient; ties share evenly; clip lets the gradient
through at its bounds.
"""

import numpy as np

from .case import Array, Case, correct, fixed, scatter_add, scatter_set, windows

_NEAR = [1e-30, -1e-30, 1e-12, -1e-12, 1e-9, -1e-9, 1e-7, -1e-7, 1e-5, -1e-5, 1e-3, -1e-3]
_TIED_ROWS = [[1.0, 3, 3, 2], [0, 0, 0, 0], [5, 1, 2, 5]]
_CLOSE = [1.0, 1 + 1e-9, 1 - 1e-7, 1 + 1e-5, 1 - 1e-8]
_TARGET = np.array([1.0, -2, 0.5])
_LABELS = np.array([1.0, -1, 1, -1])


def _share_max(g: Array, x: Array) -> Array:
    mask = x == x.max(-1, keepdims=True)
    return g[..., None] * mask / mask.sum(-1, keepdims=True)


def _half(g: Array, first: Array, second: Array) -> Array:
    return np.where(first > second, g, np.where(first == second, g / 2, 0))


def _over(x: Array, norm: Array) -> Array:
    """x / norm, and 0 where the norm is 0."""
    return np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm))


def _norm(x: Array) -> Array:
    return np.sqrt((x * x).sum(-1, keepdims=True))


def _huber(x: Array) -> Array:
    size = np.abs(x)
    return np.where(size <= 1, 0.5 * x * x, size - 0.5)


def _sort_vjp(g: Array, x: Array) -> Array:
    return scatter_set(x.shape, np.argsort(x, kind="stable"), g)


def _median_vjp(g: Array, x: Array) -> Array:
    return scatter_set(x.shape, np.argsort(x)[x.size // 2], g)


def _pool_vjp(g: Array, x: Array) -> Array:
    starts = np.array([0, 2, 4])
    return scatter_add(x.shape, windows(x, 3, 2).argmax(-1) + starts, g)


def _top2(x: Array) -> Array:
    return np.argsort(-x, kind="stable")[:2]


AT_KINKS: tuple[Case, ...] = (
    correct(
        "relu at 0",
        lambda x: np.maximum(x, 0),
        lambda g, x: np.where(x > 0, g, 0),
        fixed([-1.0, -0.0, 0, 1]),
        "relu'(0) = 0, the least of the subgradients 0 … 1.",
    ),
    correct(
        "abs at 0",
        np.abs,
        lambda g, x: g * np.sign(x),
        fixed([-1.0, 0, -0.0, 2]),
        "|x|' = 0 at 0, between -1 and 1.",
    ),
    correct(
        "leaky relu at 0",
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda g, x: np.where(x > 0, g, 0.1 * g),
        fixed([-1.0, 0, 1]),
        "The subgradients are 0.1 … 1, the least is 0.1.",
    ),
    correct(
        "relu6 at both bounds",
        lambda x: np.minimum(np.maximum(x, 0), 6),
        lambda g, x: np.where((x > 0) & (x < 6), g, 0),
        fixed([0.0, 6, 3, -1, 7]),
        "0 at both kinks.",
    ),
    correct(
        "clip at its bounds",
        lambda x: np.clip(x, -1, 1),
        lambda g, x: np.where(np.abs(x) <= 1, g, 0),
        fixed([-1.0, 1, 0.5, 2, -3]),
        "The gradient passes at the bounds: 1, in 0 … 1.",
    ),
    correct(
        "max of rows with ties",
        lambda x: x.max(-1),
        _share_max,
        fixed(_TIED_ROWS),
        "Tied elements share g evenly.",
    ),
    correct(
        "max of seven equal values",
        lambda x: x.max(-1),
        _share_max,
        fixed(np.full(7, 0.3)),
        "Each gets g/7.",
    ),
    correct(
        "maximum of two equal arrays",
        np.maximum,
        lambda g, a, b: (_half(g, a, b), _half(g, b, a)),
        fixed([1.0, 2, -1], [1.0, 0, -1]),
        "Half each at ties.",
    ),
    correct(
        "minimum of two equal arrays",
        np.minimum,
        lambda g, a, b: (_half(g, b, a), _half(g, a, b)),
        fixed([1.0, 2, -1], [1.0, 0, -1]),
        "Half each at ties.",
    ),
    correct(
        "maximum of an array with itself",
        lambda x: np.maximum(x, x),
        lambda g, x: g.copy(),
        fixed([1.0, 0, -2]),
        "The function is the identity; there is no kink to see.",
    ),
    correct(
        "norm of the zero vector",
        lambda x: _norm(x)[..., 0],
        lambda g, x: g[..., None] * _over(x, _norm(x)),
        fixed(np.zeros(4)),
        "0, the centre of the unit ball of subgradients.",
    ),
    correct(
        "norm of rows, one of them zero",
        lambda x: _norm(x)[..., 0],
        lambda g, x: g[..., None] * _over(x, _norm(x)),
        fixed([[3.0, 4, 0], [0, 0, 0], [1e-3, 0, 0]]),
        "x/norm, and 0 for the zero row.",
    ),
    correct(
        "distance at an exact fit",
        lambda x: _norm(x - _TARGET)[..., 0],
        lambda g, x: g[..., None] * _over(x - _TARGET, _norm(x - _TARGET)),
        fixed(_TARGET),
        "The norm is taken at 0.",
    ),
    correct(
        "hypot at the origin and on the axes",
        np.hypot,
        lambda g, x, y: (g * _over(x, np.hypot(x, y)), g * _over(y, np.hypot(x, y))),
        fixed([0.0, 3, 0, -1], [0.0, 0, -2, 1]),
        "0 at the origin; on an axis hypot is smooth.",
    ),
    correct(
        "hinge loss exactly at the margin",
        lambda s: np.maximum(0, 1 - _LABELS * s),
        lambda g, s: np.where(_LABELS * s < 1, -g * _LABELS, 0),
        fixed([1.0, -1, 0.5, 2]),
        "0 at the margin.",
    ),
    correct(
        "standard deviation of a constant",
        lambda x: x.std(-1),
        lambda g, x: (
            g[..., None]
            * _over(x - x.mean(-1, keepdims=True), x.shape[-1] * x.std(-1, keepdims=True))
        ),
        fixed([[2.0, 2, 2, 2], [1, 2, 3, 5]]),
        "0 for the constant row.",
    ),
    correct(
        "L1 loss at an exact fit",
        lambda x: np.abs(x - _TARGET).sum(),
        lambda g, x: g * np.sign(x - _TARGET),
        fixed(_TARGET),
        "Every element is at its kink.",
    ),
    correct(
        "total variation of a flat signal",
        lambda x: np.abs(np.diff(x)).sum(),
        lambda g, x: g * -np.diff(np.sign(np.diff(x)), prepend=0, append=0),
        fixed([1.0, 1, 1, 2, 2]),
        "Flat stretches contribute 0.",
    ),
    correct(
        "largest magnitude of a zero vector",
        lambda x: np.abs(x).max(),
        lambda g, x: _share_max(g, np.abs(x)) * np.sign(x),
        fixed(np.zeros(3)),
        "A tie of kinks: 0.",
    ),
    correct(
        "max pooling over windows of zeros",
        lambda x: x.reshape(3, 2).max(-1),
        lambda g, x: _share_max(g, x.reshape(3, 2)).ravel(),
        fixed([0.0, 0, 0, 0, 1, 0]),
        "As after a relu: shared.",
    ),
    correct(
        "soft threshold at its threshold",
        lambda x: np.sign(x) * np.maximum(np.abs(x) - 1, 0),
        lambda g, x: np.where(np.abs(x) > 1, g, 0),
        fixed([1.0, -1, 0, 2, -2]),
        "0 at both kinks.",
    ),
    correct(
        "Huber loss at delta",
        _huber,
        lambda g, x: g * np.clip(x, -1, 1),
        fixed([1.0, -1, 0, 3]),
        "The slope is continuous there, its derivative is not.",
    ),
    correct(
        "x |x| at 0",
        lambda x: x * np.abs(x),
        lambda g, x: 2 * g * np.abs(x),
        fixed([0.0, 1e-9, -1e-4, 1]),
        "Once differentiable: 2 |x|.",
    ),
)

NEAR_KINKS: tuple[Case, ...] = (
    correct(
        "relu near 0",
        lambda x: np.maximum(x, 0),
        lambda g, x: np.where(x > 0, g, 0),
        fixed(_NEAR),
        "From 1e-30 to 1e-3 away: inside any step, yet smooth.",
    ),
    correct(
        "abs near 0",
        np.abs,
        lambda g, x: g * np.sign(x),
        fixed(_NEAR),
        "From 1e-30 to 1e-3 away.",
    ),
    correct(
        "clip near its bounds",
        lambda x: np.clip(x, -1, 1),
        lambda g, x: np.where(np.abs(x) <= 1, g, 0),
        fixed([1 - 1e-9, 1 + 1e-9, -1 + 1e-6, -1 - 1e-6, 1 - 1e-4, 1 + 1e-4]),
        "From 1e-9 to 1e-4 inside and outside.",
    ),
    correct(
        "max of nearly equal values",
        lambda x: x.max(-1),
        _share_max,
        fixed([_CLOSE, [2.0, 2 + 1e-12, 1, 0, 0]]),
        "The largest wins by 1e-5 and by 1e-12.",
    ),
    correct(
        "sort of nearly equal values",
        np.sort,
        _sort_vjp,
        fixed(_CLOSE),
        "Gaps from 1e-9: any usual step changes the order.",
    ),
    correct(
        "median of nearly equal values",
        np.median,
        _median_vjp,
        fixed(_CLOSE),
        "All of the gradient goes to the middle value.",
    ),
    correct(
        "top two of nearly equal values",
        lambda x: x[_top2(x)],
        lambda g, x: scatter_set(x.shape, _top2(x), g),
        fixed(_CLOSE),
        "Gaps from 1e-9.",
    ),
    correct(
        "overlapping max pooling of close values",
        lambda x: windows(x, 3, 2).max(-1),
        _pool_vjp,
        fixed([0.1, 0.5, 0.5 + 1e-7, 0.5 - 1e-9, 0.3, 0.3 + 1e-6, 0.3 - 1e-6]),
        "Windows of 3, 2 apart, with gaps of 1e-7.",
    ),
    correct(
        "norm of a tiny vector",
        lambda x: _norm(x)[..., 0],
        lambda g, x: g[..., None] * _over(x, _norm(x)),
        fixed([3e-9, -4e-9, 1e-10]),
        "1e-9 away from the kink at 0.",
    ),
    correct(
        "floor just above integers",
        np.floor,
        lambda g, x: np.zeros_like(x),
        fixed([2 + 1e-6, -1 + 1e-5, 3.5, 1e-4, 0.999]),
        "The gradient is 0; a jump lies 1e-6 away.",
    ),
    correct(
        "round near a half",
        np.round,
        lambda g, x: np.zeros_like(x),
        fixed([0.5 + 1e-6, 1.5 - 1e-5, -2.5 + 1e-4, 0.3]),
        "The gradient is 0; a jump lies 1e-6 away.",
    ),
    correct(
        "sign near 0",
        np.sign,
        lambda g, x: np.zeros_like(x),
        fixed([1e-6, -1e-6, 1e-3, -2]),
        "The gradient is 0; a jump of 2 lies 1e-6 away.",
    ),
    correct(
        "relu of a sharp bias",
        lambda x: np.maximum(1e3 * (x - 0.7), 0),
        lambda g, x: np.where(x > 0.7, 1e3 * g, 0),
        fixed([0.7 + 1e-7, 0.7 - 1e-7, 0.7 + 1e-4, 0.7 - 1e-4, 0]),
        "A kink with slopes 0 and 1000, 1e-7 away.",
    ),
    correct(
        "arctan2 beside its branch cut",
        np.arctan2,
        lambda g, y, x: (g * x / (x * x + y * y), -g * y / (x * x + y * y)),
        fixed([1e-6, -1e-6, 1e-3], [-1.0, -2, -1]),
        "A jump of 2 pi lies 1e-6 away, at y = 0.",
    ),
)
