"""Wrong treatment of the cotangent, of memory, of shapes and types; broadcasting."""

import numpy as np

from .case import Array, Case, Cause, normal, signed

_MASK = np.array([[1, 0, 1, 1, 0], [0, 1, 1, 0, 1], [1, 1, 0, 1, 0]], bool)
_NOISE = np.random.default_rng(7)
_WORKSPACE = np.empty((3, 5))


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


CALLING = (
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
