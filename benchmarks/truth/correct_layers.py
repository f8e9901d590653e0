"""Correct rules of layers, of several outputs, and of float32 functions at hard points."""

import numpy as np

from .case import Array, Case, correct, fixed, logsumexp, scatter_add, softmax, softmax_vjp, windows

_DUPLICATES = np.array([2, 0, 2, 3, 2])
_MASK = np.array([[0, -1e30, -1e30], [0, 0, -1e30], [0, 0, 0]])


def _normalise(x: Array) -> tuple[Array, Array]:
    centred = x - x.mean(-1, keepdims=True)
    inverse = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * inverse, inverse


def _layer_norm_vjp(g: Array, x: Array) -> Array:
    hat, inverse = _normalise(x)
    centred = g - g.mean(-1, keepdims=True)
    return inverse * (centred - hat * (g * hat).mean(-1, keepdims=True))


def _strided(x: Array, w: Array) -> Array:
    return windows(x, 3, 3) @ w


def _strided_vjp(g: Array, x: Array, w: Array) -> tuple[Array, Array]:
    grad = np.zeros_like(x)
    grad[: 3 * g.size] = np.outer(g, w).ravel()
    return grad, windows(x, 3, 3).T @ g


def _attention(q: Array, k: Array, v: Array) -> Array:
    return softmax(q @ k.T + _MASK) @ v


def _attention_vjp(g: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
    p = softmax(q @ k.T + _MASK)
    scores = softmax_vjp(g @ v.T, p)
    return scores @ k, scores.T @ q, p.T @ g


LAYERS: tuple[Case, ...] = (
    correct(
        "gather with duplicates",
        lambda x: x[_DUPLICATES],
        lambda g, x: scatter_add(x.shape, _DUPLICATES, g),
        lambda rng: [rng.standard_normal((5, 2))],
        "Duplicates accumulate, rows 1 and 4 are never read.",
    ),
    correct(
        "convolution with stride 3 and a remainder",
        _strided,
        _strided_vjp,
        lambda rng: [rng.standard_normal(11), rng.standard_normal(3)],
        "The last two elements are reached by no window: gradient 0.",
    ),
    correct(
        "layer norm of a constant row",
        lambda x: _normalise(x)[0],
        _layer_norm_vjp,
        fixed([[3.0, 3, 3, 3], [1, 2, 3, 4]]),
        "Only eps = 1e-5 keeps it finite: slopes of 316 that change within 3e-3.",
    ),
    correct(
        "layer norm of a nearly constant row",
        lambda x: _normalise(x)[0],
        _layer_norm_vjp,
        fixed([[1e3 + 1e-3, 1e3 - 1e-3, 1e3, 1e3]]),
        "A spread of 1e-3 around 1e3.",
    ),
    correct(
        "causal attention masked by -1e30",
        _attention,
        _attention_vjp,
        lambda rng: [rng.standard_normal((3, 2)) for _ in range(3)],
        "Masked scores have weight and gradient exactly 0.",
    ),
    correct(
        "x² and 1e9 x³ as two outputs",
        lambda x: (x * x, 1e9 * x**3),
        lambda g, x: 2 * x * g[0] + 3e9 * x * x * g[1],
        fixed([1.0, -2, 1e-3]),
        "Nine decades between the outputs.",
    ),
    correct(
        "Cartesian to polar",
        lambda x, y: (np.hypot(x, y), np.arctan2(y, x)),
        lambda g, x, y: (
            g[0] * x / np.hypot(x, y) - g[1] * y / np.hypot(x, y) ** 2,
            g[0] * y / np.hypot(x, y) + g[1] * x / np.hypot(x, y) ** 2,
        ),
        fixed([1e-6, 3, 0], [0.0, 1e-6, 2]),
        "Two outputs; the angle turns fast near the origin.",
    ),
    correct(
        "weights and offsets of very different scale",
        lambda w, b: np.tanh(1e-8 * w + b).sum(),
        lambda g, w, b: (
            1e-8 * g / np.cosh(1e-8 * w + b) ** 2,
            g * (1 / np.cosh(1e-8 * w + b) ** 2).sum(),
        ),
        fixed([1e7, -2e7, 3e6], 0.1),
        "w of 1e7 and b of 0.1 move the output alike.",
    ),
    correct(
        "Boltzmann factor at low temperature",
        lambda energy, t: np.exp(-energy / t),
        lambda g, energy, t: (
            -g * np.exp(-energy / t) / t,
            (g * np.exp(-energy / t) * energy).sum() / t**2,
        ),
        fixed([0.0, 0.01, 0.1], 1e-3),
        "Values from 1e-44 to 1, and a 0-d argument.",
        domain=(None, "positive"),
    ),
)

SINGLE: tuple[Case, ...] = (
    correct(
        "tanh in float32",
        np.tanh,
        lambda g, x: g * (1 - np.tanh(x) ** 2),
        fixed([5.0, -4, 1e-3, 0.5], dtype="float32"),
        "1 - y² as everybody writes it: right to an ulp of 1, not of the slope at 5.",
        dtype="float32",
    ),
    correct(
        "exp of float32 over forty decades",
        np.exp,
        lambda g, x: g * np.exp(x),
        fixed([-20.0, 0, 3, 60], dtype="float32"),
        "From 2e-9 to 1e26, each slope its own value.",
        dtype="float32",
    ),
    correct(
        "softmax in float32",
        softmax,
        lambda g, x: softmax_vjp(g, softmax(x)),
        fixed([[3.0, -2, 0.1], [12, 11, -4]], dtype="float32"),
        "A difference that cancels.",
        dtype="float32",
    ),
    correct(
        "logsumexp of large float32 values",
        logsumexp,
        lambda g, x: g * softmax(x),
        fixed([1000.0, 1001, 990], dtype="float32"),
        "A value of 1001 carries an error of 6e-5.",
        dtype="float32",
    ),
    correct(
        "matrix product in float32",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ b.T, a.T @ g),
        lambda rng: [rng.standard_normal(s).astype(np.float32) for s in ((4, 32), (32, 3))],
        "Sums of 32 signed terms.",
        dtype="float32",
    ),
    correct(
        "mean square in float32",
        lambda x: (x * x).mean(),
        lambda g, x: g * x * np.float32(2 / x.size),
        lambda rng: [rng.standard_normal(257).astype(np.float32)],
        "Each element matters by 1/257 of a rounded value.",
        dtype="float32",
    ),
    correct(
        "layer norm in float32",
        lambda x: _normalise(x)[0],
        _layer_norm_vjp,
        fixed([[1.0, 2, 4, -3, 0.5], [10, 11, 12, 10.5, 11]], dtype="float32"),
        "Three terms that nearly cancel.",
        dtype="float32",
    ),
    correct(
        "relu in float32 at and near 0",
        lambda x: np.maximum(x, 0),
        lambda g, x: np.where(x > 0, g, 0),
        fixed([0.0, 1e-7, -1e-7, 1e-4, -1e-4, 2], dtype="float32"),
        "Kinks inside any float32 step.",
        dtype="float32",
    ),
    correct(
        "square root near 0 in float32",
        np.sqrt,
        lambda g, x: g / (2 * np.sqrt(x)),
        fixed([1e-6, 1e-3, 4], dtype="float32"),
        "Steep where float32 steps are coarse.",
        domain=("positive",),
        dtype="float32",
    ),
)
