"""Wrong backwards of elementwise functions, broadcasting, and of the calling convention."""

import numpy as np

from .case import Array, Case, Cause, normal, positive, sigmoid, signed

_MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 0]], bool)
_NOISE = np.random.default_rng(7)
_WORKSPACE = np.empty((3, 5))


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


def _log_space(g: Array, x: Array) -> Array:
    return np.exp(np.log(np.abs(g) + 1e-300) + x)


def _shared_buffer(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    grad_a = np.multiply(g, b, out=_WORKSPACE)
    grad_b = np.multiply(g, a, out=_WORKSPACE)
    return grad_a, grad_b


def _tanh_in_place(g: Array, x: Array) -> Array:
    g *= 1 - np.tanh(x) ** 2
    return g.copy()


def _relu_in_place(g: Array, x: Array) -> Array:
    x[x < 0] = 0
    return g * np.sign(x)


def _exp_in_place(x: Array) -> Array:
    return np.exp(x, out=x).copy()


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
        "exp of the cotangent's logarithm",
        np.exp,
        _log_space,
        normal((3, 5)),
        Cause.ABS_COTANGENT,
        "jax.custom_vjp",
        "The rule is g exp(x); computed in log space it loses the sign of g.",
        also=(Cause.NONLINEAR_IN_G,),
        right=lambda g, x: g * np.exp(x),
    ),
    Case(
        "guided relu",
        lambda x: np.maximum(x, 0),
        lambda g, x: np.where(x > 0, np.maximum(g, 0), 0),
        signed((3, 5)),
        Cause.ABS_COTANGENT,
        "torch.autograd.Function",
        "The rule is g where x > 0; guided backpropagation drops negative g.",
        also=(Cause.NONLINEAR_IN_G,),
        right=lambda g, x: np.where(x > 0, g, 0),
    ),
    Case(
        "sine with gradient clipping inside",
        np.sin,
        lambda g, x: np.clip(g, -1, 1) * np.cos(x),
        normal((3, 5)),
        Cause.NONLINEAR_IN_G,
        "torch.autograd.Function",
        "The rule is g cos(x); right as long as |g| <= 1, so for every unit cotangent.",
        detail="|g| > 1",
        right=lambda g, x: g * np.cos(x),
    ),
    Case(
        "sine with a normalised cotangent",
        np.sin,
        lambda g, x: g / max(np.sqrt((g * g).sum()), 1e-12) * np.cos(x),
        normal((3, 5)),
        Cause.NONLINEAR_IN_G,
        "jax.custom_vjp",
        "The rule is g cos(x); right for cotangents of norm 1 only, so for every unit cotangent.",
        right=lambda g, x: g * np.cos(x),
    ),
    Case(
        "weight decay inside the backward",
        lambda x: 3 * x,
        lambda g, x: 3 * g + 0.01 * x,
        normal((3, 5)),
        Cause.NONLINEAR_IN_G,
        "torch.autograd.Function",
        "The rule is 3 g; the added 0.01 x stays when g is 0.",
        detail="not 0 at g = 0",
        right=lambda g, x: 3 * g,
    ),
    Case(
        "exp in float32",
        np.exp,
        lambda g, x: g * np.exp(x.astype(np.float32)).astype(np.float64),
        normal((3, 5)),
        Cause.LOW_PRECISION,
        "torch.autograd.Function",
        "g exp(x) of a float64 x, computed through float32: right to 1e-7 only.",
        right=lambda g, x: g * np.exp(x),
    ),
    Case(
        "sine returns float32",
        np.sin,
        lambda g, x: (g * np.cos(x)).astype(np.float32),
        normal((3, 5)),
        Cause.WRONG_DTYPE_OR_SHAPE,
        "jax.custom_vjp",
        "The gradient g cos(x) has the dtype of x, float64.",
        detail="dtype",
        also=(Cause.LOW_PRECISION,),
        right=lambda g, x: g * np.cos(x),
    ),
    Case(
        "sine returns a column",
        np.sin,
        lambda g, x: (g * np.cos(x))[:, None],
        normal((5,)),
        Cause.WRONG_DTYPE_OR_SHAPE,
        "numpy",
        "The gradient g cos(x) has the shape of x, (5,), not (5, 1).",
        detail="shape",
        right=lambda g, x: g * np.cos(x),
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
        "tanh scales the cotangent in place",
        np.tanh,
        _tanh_in_place,
        normal((3, 5)),
        Cause.MUTATES_INPUT,
        "torch.autograd.Function",
        "The numbers are right, g (1 - y²), but they are written into g itself.",
        detail="cotangent",
        right=lambda g, x: g * (1 - np.tanh(x) ** 2),
    ),
    Case(
        "relu zeroes its saved input",
        lambda x: np.maximum(x, 0),
        _relu_in_place,
        signed((3, 5)),
        Cause.MUTATES_INPUT,
        "numpy",
        "The numbers are right, g where x > 0, but x itself is changed.",
        detail="input, in the backward",
        right=lambda g, x: np.where(x > 0, g, 0),
    ),
    Case(
        "exp writes over its input",
        _exp_in_place,
        lambda g, x: g * np.exp(x),
        normal((3, 5)),
        Cause.MUTATES_INPUT,
        "numpy",
        "g exp(x) is right for the x that went in, which the forward has destroyed.",
        detail="input, in the forward",
        right=lambda g, x: g * np.exp(x),
    ),
    Case(
        "sine with a workspace kept between calls",
        np.sin,
        lambda g, x: np.multiply(g, np.cos(x), out=_WORKSPACE),
        normal((3, 5)),
        Cause.ALIASING,
        "numpy",
        "g cos(x), until the next call writes over it.",
        detail="with the next result",
        right=lambda g, x: g * np.cos(x),
    ),
    Case(
        "multiply with one buffer for two gradients",
        lambda a, b: a * b,
        _shared_buffer,
        normal((3, 5), (3, 5)),
        Cause.ALIASING,
        "numpy",
        "g b is overwritten by g a before it is read.",
        detail="between the gradients",
        right=lambda g, a, b: (g * b, g * a),
    ),
    Case(
        "dropout with a new mask",
        lambda x: np.where(_MASK, x / 0.6, 0),
        lambda g, x: np.where(_NOISE.random(x.shape) < 0.6, g / 0.6, 0),
        normal((3, 5)),
        Cause.RANDOM,
        "torch.autograd.Function",
        "The mask of the forward must be used again: g/0.6 where it kept x.",
        right=lambda g, x: np.where(_MASK, g / 0.6, 0),
    ),
    Case(
        "square with noise of one in a thousand",
        np.square,
        lambda g, x: 2 * g * x * (1 + 1e-3 * _NOISE.standard_normal(x.shape)),
        signed((3, 5)),
        Cause.RANDOM,
        "numpy",
        "2 g x, with another relative error of about 1e-3 at each call.",
        right=lambda g, x: 2 * g * x,
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
        normal((13, 11)),
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

BROADCASTING = (
    Case(
        "bias gradient not summed",
        lambda x, b: x + b,
        lambda g, x, b: (g.copy(), g.copy()),
        normal((4, 3), (3,)),
        Cause.NO_UNBROADCAST,
        "autograd.defvjp",
        "The gradient of a broadcast b is g summed over axis 0.",
        also=(Cause.WRONG_DTYPE_OR_SHAPE,),
        right=lambda g, x, b: (g.copy(), g.sum(0)),
    ),
    Case(
        "bias gradient from the first row",
        lambda x, b: x + b,
        lambda g, x, b: (g.copy(), g[0].copy()),
        normal((4, 3), (3,)),
        Cause.NO_UNBROADCAST,
        "numpy",
        "The shape is right, but g must be summed over axis 0.",
        right=lambda g, x, b: (g.copy(), g.sum(0)),
    ),
    Case(
        "scale of channels summed over one axis of two",
        lambda x, s: x * s,
        lambda g, x, s: (g * s, (g * x).sum(0, keepdims=True)[:, :1]),
        normal((4, 3, 5), (1, 1, 5)),
        Cause.NO_UNBROADCAST,
        "tinygrad record",
        "s is broadcast over axes 0 and 1; axis 1 is cut instead of summed.",
        detail="axis 1",
        right=lambda g, x, s: (g * s, (g * x).sum((0, 1), keepdims=True)),
    ),
    Case(
        "bias gradient averaged",
        lambda x, b: x + b,
        lambda g, x, b: (g.copy(), g.mean(0)),
        normal((7, 3), (3,)),
        Cause.MEAN_VS_SUM,
        "jax.custom_vjp",
        "The gradient of b is the sum over axis 0, not the mean.",
        detail="1/axis length",
        also=(Cause.FACTOR,),
        right=lambda g, x, b: (g.copy(), g.sum(0)),
    ),
    Case(
        "column factor summed over the rows",
        lambda x, c: x * c,
        lambda g, x, c: (g * c, (g * x).sum(0)[:, None]),
        normal((4, 4), (4, 1)),
        Cause.WRONG_AXIS,
        "autograd.defvjp",
        "c is broadcast along axis 1, so that is the axis to sum over.",
        right=lambda g, x, c: (g * c, (g * x).sum(1, keepdims=True)),
    ),
    Case(
        "outer sum with the axes exchanged",
        lambda a, b: np.sin(a[:, None] + b[None, :]),
        lambda g, a, b: (
            (g * np.cos(a[:, None] + b)).sum(0),
            (g * np.cos(a[:, None] + b)).sum(1),
        ),
        normal((4,), (4,)),
        Cause.WRONG_AXIS,
        "numpy",
        "a is broadcast along axis 1, b along axis 0; the sums are exchanged.",
        also=(Cause.SWAPPED_ARGUMENTS,),
        right=lambda g, a, b: (
            (g * np.cos(a[:, None] + b)).sum(1),
            (g * np.cos(a[:, None] + b)).sum(0),
        ),
    ),
    Case(
        "scalar factor averaged",
        lambda x, s: x * s,
        lambda g, x, s: (g * s, (g * x).mean()),
        normal((3, 5), ()),
        Cause.MEAN_VS_SUM,
        "torch.autograd.Function",
        "The gradient of a 0-d factor is the sum of g x over all 15 elements.",
        detail="1/N",
        also=(Cause.FACTOR,),
        right=lambda g, x, s: (g * s, (g * x).sum()),
    ),
)
