"""Wrong backwards of losses."""

import numpy as np

from .case import Array, Case, Cause, logsumexp, normal, positive, sigmoid, signed, softmax

_ONE_HOT = np.eye(5)[[2, 0, 3]]
_TARGET = np.linspace(-1, 1, 15).reshape(3, 5)
_BITS = np.array([1.0, 0, 0, 1, 1, 0, 1])


def _cross_entropy(x: Array) -> Array:
    return (logsumexp(x) - (x * _ONE_HOT).sum(-1)).mean()


def _cosine(a: Array, b: Array) -> Array:
    return a @ b / np.sqrt((a @ a) * (b @ b))


def _cosine_grads(g: Array, a: Array, b: Array, second: bool) -> tuple[Array, Array]:
    norms, y = np.sqrt((a @ a) * (b @ b)), _cosine(a, b) * second
    return g * (b / norms - y * a / (a @ a)), g * (a / norms - y * b / (b @ b))


def _huber(x: Array) -> Array:
    size = np.abs(x)
    return np.where(size <= 1, 0.5 * x * x, size - 0.5)


def _margins(rng: np.random.Generator) -> list[Array]:
    """Scores on both sides of their margin: 1 - t s is 0.5 … 2 or -2 … -0.5."""
    return [(1 - signed((7,), low=0.5)(rng)[0]) * (2 * _BITS - 1)]


def _hinge_grad(g: Array, s: Array) -> Array:
    return g * -(2 * _BITS - 1) / 7


LOSSES = (
    Case(
        "cross-entropy without 1/N",
        _cross_entropy,
        lambda g, x: g * (softmax(x) - _ONE_HOT),
        normal((3, 5)),
        Cause.FACTOR,
        "torch.autograd.Function",
        "The loss is a mean over 3 rows.",
        detail="N",
        also=(Cause.MEAN_VS_SUM,),
        right=lambda g, x: g * (softmax(x) - _ONE_HOT) / 3,
    ),
    Case(
        "cross-entropy as target minus prediction",
        _cross_entropy,
        lambda g, x: g * (_ONE_HOT - softmax(x)) / 3,
        normal((3, 5)),
        Cause.SIGN,
        "numpy",
        "The gradient is (softmax(x) - target)/N.",
        right=lambda g, x: g * (softmax(x) - _ONE_HOT) / 3,
    ),
    Case(
        "cross-entropy with softmax applied twice",
        _cross_entropy,
        lambda g, x: g * (softmax(softmax(x)) - _ONE_HOT) / 3,
        normal((3, 5)),
        Cause.STALE_VALUE,
        "torch.autograd.Function",
        "The saved tensor already held the probabilities, and softmax was taken again.",
        detail="softmax(x) for x",
        right=lambda g, x: g * (softmax(x) - _ONE_HOT) / 3,
    ),
    Case(
        "mean squared error ignores the cotangent",
        lambda x: ((x - _TARGET) ** 2).mean(),
        lambda g, x: 2 * (x - _TARGET) / x.size,
        normal((3, 5)),
        Cause.ONES_COTANGENT,
        "torch.autograd.Function",
        "A loss is not always the last function: 2 (x - t)/N times g.",
        right=lambda g, x: 2 * g * (x - _TARGET) / 15,
    ),
    Case(
        "squared error without its two",
        lambda x: ((x - _TARGET) ** 2).mean(),
        lambda g, x: g * (x - _TARGET) / x.size,
        normal((3, 5)),
        Cause.FACTOR,
        "numpy",
        "The derivative of d² is 2 d; the rule belongs to d²/2.",
        detail="1/2",
        right=lambda g, x: 2 * g * (x - _TARGET) / 15,
    ),
    Case(
        "binary cross-entropy of logits as target minus prediction",
        lambda x: (np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0) - x * _BITS).mean(),
        lambda g, x: g * (_BITS - sigmoid(x)) / 7,
        signed((7,)),
        Cause.SIGN,
        "jax.custom_vjp",
        "The gradient is (sigmoid(x) - t)/N.",
        right=lambda g, x: g * (sigmoid(x) - _BITS) / 7,
    ),
    Case(
        "Huber loss without its linear part",
        _huber,
        lambda g, x: g * x,
        lambda rng: [np.concatenate([rng.uniform(-0.9, 0.9, 8), signed((6,), low=1.1)(rng)[0]])],
        Cause.REGION,
        "torch.autograd.Function",
        "Beyond |x| = 1 the slope is sign(x), not x.",
        detail="|x| > 1",
        right=lambda g, x: g * np.clip(x, -1, 1),
    ),
    Case(
        "hinge loss without its mask",
        lambda s: np.maximum(0, 1 - (2 * _BITS - 1) * s).mean(),
        _hinge_grad,
        _margins,
        Cause.REGION,
        "numpy",
        "Scores beyond the margin have gradient 0.",
        detail="beyond the margin",
        right=lambda g, s: _hinge_grad(g, s) * ((2 * _BITS - 1) * s < 1),
    ),
    Case(
        "Kullback–Leibler divergence without the logarithm's term",
        lambda p, q: (p * np.log(p / q)).sum(),
        lambda g, p, q: (g * np.log(p / q), -g * p / q),
        positive((6,), (6,)),
        Cause.MISSING_TERM,
        "autograd.defvjp",
        "d(p log p)/dp = log p + 1: the 1 is missing.",
        domain=("positive", "positive"),
        detail="first argument",
        right=lambda g, p, q: (g * (np.log(p / q) + 1), -g * p / q),
    ),
    Case(
        "cosine similarity with constant norms",
        _cosine,
        lambda g, a, b: _cosine_grads(g, a, b, second=False),
        normal((5,), (5,)),
        Cause.MISSING_TERM,
        "torch.autograd.Function",
        "The norms depend on a and b: - y a/|a|² and - y b/|b|² are missing.",
        right=lambda g, a, b: _cosine_grads(g, a, b, second=True),
    ),
    Case(
        "triplet loss with positive and negative exchanged",
        lambda a, p, n: ((a - p) ** 2).sum(-1) - ((a - n) ** 2).sum(-1),
        lambda g, a, p, n: (
            2 * g[:, None] * (n - p),
            2 * g[:, None] * (a - n),
            2 * g[:, None] * (p - a),
        ),
        normal((3, 4), (3, 4), (3, 4)),
        Cause.SWAPPED_ARGUMENTS,
        "jax.custom_vjp",
        "The gradients of p and n are 2 (p - a) g and 2 (a - n) g, in this order.",
        detail="second and third argument",
        right=lambda g, a, p, n: (
            2 * g[:, None] * (n - p),
            2 * g[:, None] * (p - a),
            2 * g[:, None] * (a - n),
        ),
    ),
)
