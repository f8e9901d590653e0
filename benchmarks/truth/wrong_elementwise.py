"""Wrong backwards of elementwise functions."""

import numpy as np

from .case import Array, Case, Cause, normal, positive, sigmoid, signed

_MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 0]], bool)


def _tied(rng: np.random.Generator) -> list[Array]:
    a = rng.standard_normal((3, 5))
    return [a, np.where(_MASK, a, a + 1)]


def _beyond_six(rng: np.random.Generator) -> list[Array]:
    x = rng.uniform(0.5, 5.5, (4, 7))
    x[:, 2] += 6
    return [x]


def _silu_slope(x: Array) -> Array:
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)))


def _gelu_tanh(x: Array) -> Array:
    return np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def _gelu_second_term(x: Array) -> Array:
    inner = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return 0.5 * x * (1 - _gelu_tanh(x) ** 2) * inner


def _tail_lost(g: Array, x: Array) -> Array:
    grad = np.zeros_like(x)
    whole = x.size // 8 * 8
    grad[:whole] = g[:whole] * np.cos(x[:whole])
    return grad


def _first_off(g: Array, x: Array) -> Array:
    grad = g * np.exp(x)
    grad.flat[0] *= 1.01
    return grad


ELEMENTWISE = (
    Case(
        "subtract gives g to both",
        lambda a, b: a - b,
        lambda g, a, b: (g.copy(), g.copy()),
        normal((3, 5), (3, 5)),
        Cause.SIGN,
        "autograd.defvjp",
        "The second gradient of a - b is -g.",
        detail="second argument",
        right=lambda g, a, b: (g.copy(), -g),
    ),
    Case(
        "cos without its minus",
        np.cos,
        lambda g, x: g * np.sin(x),
        normal((3, 5)),
        Cause.SIGN,
        "numpy",
        "cos' = -sin.",
        right=lambda g, x: -g * np.sin(x),
    ),
    Case(
        "divide adds the second gradient",
        lambda a, b: a / b,
        lambda g, a, b: (g / b, g * a / b**2),
        positive((3, 5), (3, 5)),
        Cause.SIGN,
        "jax.custom_vjp",
        "d(a/b)/db = -a/b².",
        domain=(None, "positive"),
        detail="second argument",
        right=lambda g, a, b: (g / b, -g * a / b**2),
    ),
    Case(
        "square without its two",
        np.square,
        lambda g, x: g * x,
        normal((4, 3)),
        Cause.FACTOR,
        "jax.custom_vjp",
        "(x²)' = 2x.",
        detail="1/2",
        right=lambda g, x: 2 * g * x,
    ),
    Case(
        "square in float32 without its two",
        np.square,
        lambda g, x: g * x,
        lambda rng: [rng.standard_normal((4, 3)).astype(np.float32)],
        Cause.FACTOR,
        "jax.custom_vjp",
        "(x²)' = 2x; the case is in float32 throughout.",
        dtype="float32",
        detail="1/2",
        right=lambda g, x: 2 * g * x,
    ),
    Case(
        "sqrt without its half",
        np.sqrt,
        lambda g, x: g / np.sqrt(x),
        positive((4, 3)),
        Cause.FACTOR,
        "torch.autograd.Function",
        "sqrt' = 1/(2 sqrt).",
        domain=("positive",),
        detail="2",
        right=lambda g, x: g / (2 * np.sqrt(x)),
    ),
    Case(
        "log10 as if it were log",
        np.log10,
        lambda g, x: g / x,
        positive((4, 3)),
        Cause.FACTOR,
        "tinygrad record",
        "log10' = 1/(x ln 10).",
        domain=("positive",),
        detail="ln 10",
        right=lambda g, x: g / (x * np.log(10)),
    ),
    Case(
        "log2 with ln 2 to three digits",
        np.log2,
        lambda g, x: g / (x * 0.693),
        positive((4, 3)),
        Cause.FACTOR,
        "tinygrad record",
        "log2' = 1/(x ln 2); the constant is 2e-4 off.",
        domain=("positive",),
        detail="ln 2 / 0.693",
        right=lambda g, x: g / (x * np.log(2)),
    ),
    Case(
        "sine of degrees with pi = 3.14",
        lambda x: np.sin(x * (np.pi / 180)),
        lambda g, x: g * np.cos(x * (np.pi / 180)) * (3.14 / 180),
        lambda rng: [rng.uniform(-90, 90, (3, 5))],
        Cause.FACTOR,
        "numpy",
        "The chain factor is pi/180; the one used is 5e-4 off.",
        detail="3.14/pi",
        right=lambda g, x: g * np.cos(x * (np.pi / 180)) * (np.pi / 180),
    ),
    Case(
        "tanh with x for y",
        np.tanh,
        lambda g, x: g * (1 - x * x),
        normal((3, 5)),
        Cause.STALE_VALUE,
        "torch.autograd.Function",
        "tanh' = 1 - y²; the input was saved instead of the output.",
        detail="x for y",
        right=lambda g, x: g * (1 - np.tanh(x) ** 2),
    ),
    Case(
        "sigmoid with x for y",
        sigmoid,
        lambda g, x: g * x * (1 - x),
        normal((3, 5)),
        Cause.STALE_VALUE,
        "jax.custom_vjp",
        "sigmoid' = y (1 - y); the residual is x.",
        detail="x for y",
        right=lambda g, x: g * sigmoid(x) * (1 - sigmoid(x)),
    ),
    Case(
        "silu saved after an in-place change",
        lambda x: x * sigmoid(x),
        lambda g, x: g * _silu_slope(x * sigmoid(x)),
        normal((3, 5)),
        Cause.STALE_VALUE,
        "torch.autograd.Function",
        "The slope s(1 + x(1 - s)) belongs at x; the saved tensor already held the output.",
        detail="y for x",
        right=lambda g, x: g * _silu_slope(x),
    ),
    Case(
        "gelu without the inner derivative",
        lambda x: 0.5 * x * (1 + _gelu_tanh(x)),
        lambda g, x: g * 0.5 * (1 + _gelu_tanh(x)),
        normal((3, 5)),
        Cause.MISSING_TERM,
        "torch.autograd.Function",
        "Product rule: the term x · d(tanh)/dx is missing.",
        right=lambda g, x: g * (0.5 * (1 + _gelu_tanh(x)) + _gelu_second_term(x)),
    ),
    Case(
        "softplus with a penalty forgotten",
        lambda x: np.log1p(np.exp(x)) + 5e-4 * x**2,
        lambda g, x: g * sigmoid(x),
        signed((3, 5), low=0.5),
        Cause.MISSING_TERM,
        "numpy",
        "The derivative is sigmoid(x) + 1e-3 x; the second term, about 1e-3, is missing.",
        right=lambda g, x: g * (sigmoid(x) + 1e-3 * x),
    ),
    Case(
        "exp(sin x) without cos",
        lambda x: np.exp(np.sin(x)),
        lambda g, x: g * np.exp(np.sin(x)),
        normal((3, 5)),
        Cause.MISSING_CHAIN,
        "autograd.defvjp",
        "The derivative is exp(sin x) cos x.",
        right=lambda g, x: g * np.exp(np.sin(x)) * np.cos(x),
    ),
    Case(
        "multiply keeps the wrong factor",
        lambda a, b: a * b,
        lambda g, a, b: (g * a, g * b),
        normal((3, 5), (3, 5)),
        Cause.SWAPPED_ARGUMENTS,
        "torch.autograd.Function",
        "The gradients are (g b, g a): ctx.saved_tensors was unpacked in the wrong order.",
        right=lambda g, a, b: (g * b, g * a),
    ),
    Case(
        "power returns its gradients in the wrong order",
        lambda a, b: a**b,
        lambda g, a, b: (g * a**b * np.log(a), g * b * a ** (b - 1)),
        positive((4, 3), (4, 3)),
        Cause.SWAPPED_ARGUMENTS,
        "autograd.defvjp",
        "The first gradient is g b a^(b-1), the second g a^b ln a.",
        domain=("positive", None),
        right=lambda g, a, b: (g * b * a ** (b - 1), g * a**b * np.log(a)),
    ),
    Case(
        "arctan2 takes x first",
        np.arctan2,
        lambda g, y, x: (-g * y / (x**2 + y**2), g * x / (x**2 + y**2)),
        positive((4, 3), (4, 3)),
        Cause.SWAPPED_ARGUMENTS,
        "tinygrad record",
        "d/dy = x/(x² + y²) comes first, d/dx = -y/(x² + y²) second.",
        right=lambda g, y, x: (g * x / (x**2 + y**2), -g * y / (x**2 + y**2)),
    ),
    Case(
        "where with its branches exchanged",
        lambda a, b: np.where(_MASK, a, b),
        lambda g, a, b: (np.where(_MASK, 0, g), np.where(_MASK, g, 0)),
        normal((3, 5), (3, 5)),
        Cause.SWAPPED_ARGUMENTS,
        "jax.custom_vjp",
        "a has g where the condition holds, b elsewhere.",
        right=lambda g, a, b: (np.where(_MASK, g, 0), np.where(_MASK, 0, g)),
    ),
    Case(
        "abs as the identity",
        np.abs,
        lambda g, x: g.copy(),
        signed((3, 5)),
        Cause.REGION,
        "numpy",
        "|x|' = sign(x): wrong for negative x only.",
        detail="x < 0",
        right=lambda g, x: g * np.sign(x),
    ),
    Case(
        "leaky relu that does not leak backwards",
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda g, x: np.where(x > 0, g, 0),
        signed((3, 5)),
        Cause.REGION,
        "torch.autograd.Function",
        "The slope for negative x is 0.1.",
        detail="x < 0",
        right=lambda g, x: np.where(x > 0, g, 0.1 * g),
    ),
    Case(
        "elu without alpha",
        lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0))),
        lambda g, x: np.where(x > 0, g, g * np.exp(np.minimum(x, 0))),
        signed((3, 5)),
        Cause.REGION,
        "jax.custom_vjp",
        "The slope for negative x is alpha exp(x), alpha = 0.5.",
        detail="x < 0",
        right=lambda g, x: np.where(x > 0, g, 0.5 * g * np.exp(np.minimum(x, 0))),
    ),
    Case(
        "relu6 with the mask of relu",
        lambda x: np.clip(x, 0, 6),
        lambda g, x: np.where(x > 0, g, 0),
        _beyond_six,
        Cause.REGION,
        "torch.autograd.Function",
        "The slope is 0 above 6, where one column of seven lies.",
        detail="x > 6",
        right=lambda g, x: np.where((x > 0) & (x < 6), g, 0),
    ),
    Case(
        "softplus linear too early",
        lambda x: np.log1p(np.exp(x)),
        lambda g, x: np.where(x > 1, g, g * sigmoid(x)),
        signed((3, 5), low=1.1, high=3),
        Cause.REGION,
        "torch.autograd.Function",
        "The slope is sigmoid(x) everywhere; the threshold of 20 was typed as 1.",
        detail="x > 1",
        right=lambda g, x: g * sigmoid(x),
    ),
    Case(
        "clip as a straight-through estimator",
        lambda x: np.clip(x, -1, 1),
        lambda g, x: g.copy(),
        lambda rng: [np.concatenate([rng.uniform(-0.9, 0.9, 9), rng.uniform(1.1, 3, 4)])],
        Cause.REGION,
        "torch.autograd.Function",
        "The gradient is 0 outside the bounds.",
        detail="x > 1",
        right=lambda g, x: np.where(np.abs(x) <= 1, g, 0),
    ),
    Case(
        "maximum gives g to both at ties",
        np.maximum,
        lambda g, a, b: (np.where(a >= b, g, 0), np.where(b >= a, g, 0)),
        _tied,
        Cause.TIE,
        "autograd.defvjp",
        "At a tie the two gradients must add up to g: half each.",
        right=lambda g, a, b: (
            np.where(a == b, g / 2, np.where(a > b, g, 0)),
            np.where(a == b, g / 2, np.where(b > a, g, 0)),
        ),
    ),
    Case(
        "stop_gradient around the whole rule",
        lambda x: x**3,
        lambda g, x: np.zeros_like(x),
        signed((3, 5)),
        Cause.ZERO,
        "jax.custom_vjp",
        "(x³)' = 3x².",
        right=lambda g, x: 3 * g * x**2,
    ),
    Case(
        "dropout without its scale",
        lambda x: np.where(_MASK, x / 0.6, 0),
        lambda g, x: np.where(_MASK, g, 0),
        normal((3, 5)),
        Cause.FACTOR,
        "tinygrad record",
        "The kept elements were divided by 1 - p = 0.6.",
        detail="1 - p",
        right=lambda g, x: np.where(_MASK, g / 0.6, 0),
    ),
    Case(
        "vectorised sine loses the tail",
        np.sin,
        _tail_lost,
        lambda rng: [rng.uniform(-1, 1, 257)],
        Cause.SINGLE_ELEMENT,
        "numpy",
        "g cos(x) in chunks of 8: of 257 elements the last is never written.",
        detail="last element",
        right=lambda g, x: g * np.cos(x),
    ),
    Case(
        "exp one per cent off at one element",
        np.exp,
        _first_off,
        lambda rng: [rng.uniform(-1, 1, (13, 11))],
        Cause.SINGLE_ELEMENT,
        "numpy",
        "g exp(x), but the first of 143 elements is 1 % too large.",
        detail="first element",
        right=lambda g, x: g * np.exp(x),
    ),
    Case(
        "polar to Cartesian ignores the second output",
        lambda r, a: (r * np.cos(a), r * np.sin(a)),
        lambda g, r, a: (g[0] * np.cos(a), -g[0] * r * np.sin(a)),
        positive((4, 3), (4, 3)),
        Cause.MISSING_TERM,
        "torch.autograd.Function",
        "Each gradient has one term an output; those of g[1] are missing.",
        detail="second output",
        right=lambda g, r, a: (
            g[0] * np.cos(a) + g[1] * np.sin(a),
            -g[0] * r * np.sin(a) + g[1] * r * np.cos(a),
        ),
    ),
)
