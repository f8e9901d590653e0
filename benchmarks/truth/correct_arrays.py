"""Correct rules of reductions, matrices and memory layouts at hard points."""

import numpy as np

from .case import Array, Case, correct, fixed, logsumexp, sigmoid, softmax, softmax_vjp

_ONE_HOT = np.eye(4)[[1, 3]]
_COUNT = 10_000
_SCALES = np.array([[1e-9, 2e-9, 0], [1, -1, 3], [1e9, 0, 2e9]])
_SINGULAR = [[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]
_RANK_ONE = [[1.0, 2, 3], [2, 4, 6], [-1, -2, -3]]
_NEARLY = [[1.0, 1], [1, 1 + 1e-8]]


def _others(x: Array) -> Array:
    """The product of all other elements, from the left and the right: no division."""
    left = np.concatenate([[1], np.cumprod(x[:-1])])
    right = np.concatenate([np.cumprod(x[:0:-1])[::-1], [1]])
    return left * right


def _cumprod_vjp(g: Array, x: Array) -> Array:
    """u_i = g_i + x_{i+1} u_{i+1}: the gradient is u_i times the product before i."""
    u = np.zeros_like(x)
    tail = np.zeros_like(x[0])
    for i in reversed(range(x.size)):
        u[i] = tail = g[i] + (x[i + 1] * tail if i + 1 < x.size else 0)
    return u * np.concatenate([[1], np.cumprod(x[:-1])])


def _naive_variance(x: Array) -> Array:
    return (x * x).mean() - x.mean() ** 2


def _cofactors(a: Array) -> Array:
    """The gradient of a 3 × 3 determinant, defined for any rank: cross products of the rows."""
    return np.stack([np.cross(a[1], a[2]), np.cross(a[2], a[0]), np.cross(a[0], a[1])])


def _solve_vjp(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    u = np.linalg.solve(a.T, g)
    return -np.outer(u, np.linalg.solve(a, b)), u


def _inverse_vjp(g: Array, a: Array) -> Array:
    """-yᵀ g yᵀ with y from the adjugate, so that a condition of 4e8 costs no digits."""
    (p, q), (r, s) = a
    y = np.array([[s, -q], [-r, p]]) / (p * s - q * r)
    return -y.T @ g @ y.T


def _cholesky2(a: Array) -> Array:
    first = np.sqrt(a[0, 0])
    below = a[1, 0] / first
    return np.array([[first, 0 * first], [below, np.sqrt(a[1, 1] - below * below)]])


def _cholesky2_vjp(g: Array, a: Array) -> Array:
    """Backwards through the three formulas of `_cholesky2`; the upper triangle is not read."""
    (first, _), (below, last) = _cholesky2(a)
    corner = g[1, 1] / (2 * last)
    side = g[1, 0] - 2 * below * corner
    top = (g[0, 0] - side * below / first) / (2 * first)
    return np.array([[top, 0], [side / first, corner]])


def _reversed(rng: np.random.Generator) -> list[Array]:
    return [rng.standard_normal((3, 4))[::-1, ::-1], rng.standard_normal((8, 3))[::2]]


REDUCED: tuple[Case, ...] = (
    correct(
        "sum of ten thousand",
        lambda x: x.sum(),
        lambda g, x: np.broadcast_to(g, x.shape),
        lambda rng: [rng.standard_normal(_COUNT)],
        "The values' rounding hides a small step; the gradient is a read-only broadcast view.",
    ),
    correct(
        "mean of ten thousand squares",
        lambda x: (x * x).mean(),
        lambda g, x: 2 * g * x / _COUNT,
        lambda rng: [rng.standard_normal(_COUNT)],
        "Each element matters by 1e-4.",
    ),
    correct(
        "logsumexp of ten thousand",
        logsumexp,
        lambda g, x: g * softmax(x),
        lambda rng: [rng.standard_normal(_COUNT)],
        "Gradients of 1e-4 that add up to 1.",
    ),
    correct(
        "logsumexp with large offsets",
        logsumexp,
        lambda g, x: g[..., None] * softmax(x),
        fixed([[1e5, 1e5 + 1, 1e5 - 2], [-1e4, -1e4 + 3, -1e4]]),
        "Values of 1e5 carry an error of 1e-11.",
    ),
    correct(
        "logsumexp with an excluded entry",
        logsumexp,
        lambda g, x: g * softmax(x),
        fixed([0.0, 1, -1e30]),
        "A step relative to -1e30 changes nothing: its gradient is 0.",
    ),
    correct(
        "variance around a large mean",
        lambda x: x.var(),
        lambda g, x: 2 * g * (x - x.mean()) / x.size,
        fixed([1e6 + 1, 1e6 - 2, 1e6, 1e6 + 4]),
        "Steps relative to x are as large as the spread.",
    ),
    correct(
        "variance as mean square minus squared mean",
        _naive_variance,
        lambda g, x: 2 * g * (x - x.mean()) / x.size,
        fixed([1e3 + 1, 1e3 - 2, 1e3, 1e3 + 4]),
        "The rule is accurate; the values carry an error of 1e-10.",
    ),
    correct(
        "prod with one zero",
        np.prod,
        lambda g, x: g * _others(x),
        fixed([2.0, 0, -3, 0.5]),
        "Only the zero's own gradient is not 0.",
    ),
    correct(
        "prod with two zeros",
        np.prod,
        lambda g, x: g * _others(x),
        fixed([2.0, 0, -3, 0]),
        "All gradients are exactly 0.",
    ),
    correct(
        "cumprod with zeros",
        np.cumprod,
        _cumprod_vjp,
        fixed([2.0, 0, -3, 0.5, 0, 7]),
        "Division by x is no option.",
    ),
    correct(
        "sum of a softmax",
        lambda x: softmax(x).sum(-1),
        lambda g, x: np.zeros_like(x),
        fixed([[0.1, 2, -1], [5, 0, 0]]),
        "Constant but for rounding.",
    ),
    correct(
        "saturated softmax",
        softmax,
        lambda g, x: softmax_vjp(g, softmax(x)),
        fixed([[100.0, 0, -50], [30, 29, 0]]),
        "Off-diagonal slopes of 1e-44.",
    ),
    correct(
        "softmax at a temperature of 1e-3",
        lambda x: softmax(x / 1e-3),
        lambda g, x: softmax_vjp(g, softmax(x / 1e-3)) / 1e-3,
        fixed([0.5, 0.5003, 0.499, 0.4]),
        "Nearly an argmax, and steep.",
    ),
    correct(
        "cross-entropy at a perfect fit",
        lambda x: (logsumexp(x) - (x * _ONE_HOT).sum(-1)).mean(),
        lambda g, x: g * (softmax(x) - _ONE_HOT) / 2,
        fixed([[0.0, 50, 0, 0], [-20, 0, 0, 45]]),
        "The loss rounds to 0; the gradients are 1e-20 or cancel to 0.",
    ),
    correct(
        "cross-entropy of huge logits",
        lambda x: (logsumexp(x) - (x * _ONE_HOT).sum(-1)).mean(),
        lambda g, x: g * (softmax(x) - _ONE_HOT) / 2,
        fixed([[1e4, 0, -1e4, 3], [2e3, 2e3 + 1, 0, -1]]),
        "A loss of 1e4 with gradients between 0 and 1/2.",
    ),
    correct(
        "binary cross-entropy of saturated logits",
        lambda x: np.logaddexp(0, x) - x * np.array([1.0, 0, 1, 0]),
        lambda g, x: g * (sigmoid(x) - np.array([1.0, 0, 1, 0])),
        fixed([50.0, 50, -50, -50]),
        "Right and wrong predictions beyond doubt.",
    ),
)

MATRICES: tuple[Case, ...] = (
    correct(
        "inverse at condition 4e8",
        np.linalg.inv,
        _inverse_vjp,
        fixed(_NEARLY),
        "Gradients of 1e16; a step of 1e-8 meets the singular matrix.",
    ),
    correct(
        "determinant of a singular matrix",
        np.linalg.det,
        lambda g, a: g * _cofactors(a),
        fixed(_SINGULAR),
        "Rank 2: the cofactors are not 0, and there is no inverse.",
    ),
    correct(
        "determinant at rank one",
        np.linalg.det,
        lambda g, a: g * _cofactors(a),
        fixed(_RANK_ONE),
        "All cofactors are exactly 0.",
    ),
    correct(
        "solve at condition 4e6",
        np.linalg.solve,
        _solve_vjp,
        fixed([[1.0, 1], [1, 1 + 1e-6]], [1.0, 2]),
        "Solutions of 1e6, gradients of 1e12.",
    ),
    correct(
        "Cholesky close to singular",
        _cholesky2,
        _cholesky2_vjp,
        fixed([[1.0, 0.999999], [0.999999, 1]]),
        "A step of 1e-5 leaves the positive definite matrices.",
        domain=("positive definite",),
    ),
    correct(
        "log-determinant at condition 1e8",
        lambda a: np.linalg.slogdet(a)[1],
        lambda g, a: g * np.linalg.inv(a).T,
        fixed(np.diag([1e-4, 1, 1e4]) + 1e-5),
        "Gradients from 1e-4 to 1e4.",
    ),
    correct(
        "matrix product whose rows differ by eighteen decades",
        lambda x: _SCALES @ x,
        lambda g, x: _SCALES.T @ g,
        fixed([1.0, -2, 0.5]),
        "Outputs of 1e-9 and of 1e9.",
    ),
    correct(
        "matrix product over an empty axis",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ b.T, a.T @ g),
        fixed(np.zeros((3, 0)), np.zeros((0, 2))),
        "Values are 0, gradients empty.",
    ),
    correct(
        "matrix product of an empty batch",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ b.T, a.T @ g),
        fixed(np.zeros((0, 3)), np.ones((3, 2))),
        "The gradient of b is exactly 0.",
    ),
    correct(
        "transpose gives a view of its cotangent",
        lambda x: x.T.copy(),
        lambda g, x: g.T,
        lambda rng: [np.asfortranarray(rng.standard_normal((3, 4)))],
        "A Fortran-ordered input.",
    ),
    correct(
        "reshape passes its cotangent on",
        lambda x: x.reshape(6, 2),
        lambda g, x: g.reshape(3, 4),
        lambda rng: [rng.standard_normal((3, 4))],
        "The gradient is a view of the cotangent, as many libraries do.",
    ),
    correct(
        "matrix product of reversed and stepped views",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ b.T, a.T @ g),
        _reversed,
        "Inputs with negative and with doubled strides.",
    ),
    correct(
        "sine of a scalar",
        np.sin,
        lambda g, x: g * np.cos(x),
        fixed(0.7),
        "A 0-d input.",
    ),
    correct(
        "tanh of nothing",
        np.tanh,
        lambda g, x: g * (1 - np.tanh(x) ** 2),
        fixed(np.zeros((0, 3))),
        "A zero-size input.",
    ),
)
