"""Wrong backwards of reductions and scans."""

import numpy as np

from .case import Array, Case, Cause, Inputs, logsumexp, normal, positive, signed, softmax, spaced


def _rows_with_ties(rng: np.random.Generator) -> list[Array]:
    x = rng.uniform(-1, 1, (3, 5))
    x[0, 1] = x[0, 4] = 2
    return [x]


def _one_zero(*shape: int) -> Inputs:
    def make(rng: np.random.Generator) -> list[Array]:
        x = rng.uniform(0.5, 2, shape)
        x[..., 2] = 0
        return [x]

    return make


def _is_max(x: Array, axis: int | None = None) -> Array:
    return x == x.max(axis, keepdims=True)


def _others(x: Array) -> Array:
    """The product of all the other elements, at each element of a vector."""
    return np.array([np.prod(np.delete(x, i)) for i in range(x.size)])


def _cumprod_right(g: Array, x: Array) -> Array:
    """Row by row of the Jacobian: dy_j/dx_i is the product of x_0 … x_j without x_i, i <= j."""
    n = x.size
    return np.array([sum(g[j] * _others(x[: j + 1])[i] for j in range(i, n)) for i in range(n)])


def _quotient(g: Array, x: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0, g * np.prod(x) / x)


def _cumprod_quotient(g: Array, x: Array) -> Array:
    tail = np.cumsum((g * np.cumprod(x))[::-1])[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x == 0, 0, tail / x)


def _std_slope(x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / (x.shape[-1] * x.std(-1, keepdims=True))


def _reverse_cumsum(g: Array) -> Array:
    return np.cumsum(g[..., ::-1], -1)[..., ::-1].copy()


REDUCTIONS = (
    Case(
        "mean without 1/N",
        np.mean,
        lambda g, x: np.full_like(x, g),
        normal((3, 5)),
        Cause.FACTOR,
        "torch.autograd.Function",
        "Each element's gradient is g/N.",
        detail="N",
        also=(Cause.MEAN_VS_SUM,),
        right=lambda g, x: np.full_like(x, g / x.size),
    ),
    Case(
        "mean of rows divided by N",
        lambda x: x.mean(1),
        lambda g, x: np.repeat(g[:, None], 5, 1) / x.size,
        normal((3, 5)),
        Cause.FACTOR,
        "jax.custom_vjp",
        "Each gradient is g over the length of the axis, 5; not over all 15 elements.",
        detail="axis length / N",
        right=lambda g, x: np.repeat(g[:, None], 5, 1) / 5,
    ),
    Case(
        "mean over two axes divided by one",
        lambda x: x.mean((1, 2)),
        lambda g, x: np.broadcast_to(g[:, None, None], x.shape) / x.shape[1],
        normal((2, 3, 5)),
        Cause.FACTOR,
        "tinygrad record",
        "The divisor is 3 · 5, not 3.",
        detail="axis length",
        also=(Cause.MEAN_VS_SUM,),
        right=lambda g, x: np.broadcast_to(g[:, None, None], x.shape) / 15,
    ),
    Case(
        "var with ddof=1 divided by n",
        lambda x: x.var(-1, ddof=1),
        lambda g, x: 2 * g[:, None] * (x - x.mean(-1, keepdims=True)) / 5,
        normal((3, 5)),
        Cause.FACTOR,
        "torch.autograd.Function",
        "The forward divides by n - 1 = 4, so does the gradient.",
        detail="(n - 1)/n",
        right=lambda g, x: 2 * g[:, None] * (x - x.mean(-1, keepdims=True)) / 4,
    ),
    Case(
        "var without its mean",
        lambda x: x.var(-1),
        lambda g, x: 2 * g[:, None] * x / 5,
        normal((3, 5)),
        Cause.MISSING_TERM,
        "numpy",
        "The gradient is 2 (x - mean)/n.",
        right=lambda g, x: 2 * g[:, None] * (x - x.mean(-1, keepdims=True)) / 5,
    ),
    Case(
        "std without the root's derivative",
        lambda x: x.std(-1),
        lambda g, x: g[:, None] * (x - x.mean(-1, keepdims=True)) / 5,
        normal((3, 5)),
        Cause.MISSING_CHAIN,
        "torch.autograd.Function",
        "The gradient is (x - mean)/(n std): the division by std is missing.",
        right=lambda g, x: g[:, None] * _std_slope(x),
    ),
    Case(
        "norm of rows divided by the norm of all",
        lambda x: np.sqrt((x * x).sum(-1)),
        lambda g, x: g[:, None] * x / np.sqrt((x * x).sum()),
        normal((4, 5)),
        Cause.WRONG_AXIS,
        "jax.custom_vjp",
        "Each row is divided by its own norm.",
        right=lambda g, x: g[:, None] * x / np.sqrt((x * x).sum(-1, keepdims=True)),
    ),
    Case(
        "norm without the root's derivative",
        lambda x: np.sqrt((x * x).sum(-1)),
        lambda g, x: g[:, None] * x,
        normal((4, 5)),
        Cause.MISSING_CHAIN,
        "numpy",
        "The gradient is x/norm: the division by the norm is missing.",
        right=lambda g, x: g[:, None] * x / np.sqrt((x * x).sum(-1, keepdims=True)),
    ),
    Case(
        "max of rows gives g to every tie",
        lambda x: x.max(-1),
        lambda g, x: g[:, None] * _is_max(x, -1),
        _rows_with_ties,
        Cause.TIE,
        "autograd.defvjp",
        "The gradients of a row must add up to g: shared by the tied elements.",
        right=lambda g, x: g[:, None] * _is_max(x, -1) / _is_max(x, -1).sum(-1, keepdims=True),
    ),
    Case(
        "max of rows gives nothing at ties",
        lambda x: x.max(-1),
        lambda g, x: g[:, None] * _is_max(x, -1) * (_is_max(x, -1).sum(-1, keepdims=True) == 1),
        _rows_with_ties,
        Cause.TIE,
        "numpy",
        "The gradients of a row must add up to g, also where the maximum is not unique.",
        right=lambda g, x: g[:, None] * _is_max(x, -1) / _is_max(x, -1).sum(-1, keepdims=True),
    ),
    Case(
        "max of rows masked by the maximum of all",
        lambda x: x.max(-1),
        lambda g, x: g[:, None] * _is_max(x),
        spaced((4, 5)),
        Cause.WRONG_AXIS,
        "tinygrad record",
        "Each row has its own maximum; all rows but one get nothing.",
        right=lambda g, x: g[:, None] * _is_max(x, -1),
    ),
    Case(
        "min through max with one minus",
        lambda x: x.min(-1),
        lambda g, x: -g[:, None] * _is_max(-x, -1),
        spaced((4, 5)),
        Cause.SIGN,
        "tinygrad record",
        "min(x) = -max(-x): the two minus signs cancel in the gradient.",
        right=lambda g, x: g[:, None] * _is_max(-x, -1),
    ),
    Case(
        "prod by division, zero guarded",
        np.prod,
        _quotient,
        _one_zero(6),
        Cause.SINGLE_ELEMENT,
        "autograd.defvjp",
        "The gradient is the product of the others; at the zero itself it is not 0.",
        detail="x == 0",
        also=(Cause.REGION, Cause.ZERO),
        right=lambda g, x: g * _others(x),
    ),
    Case(
        "logsumexp of rows normalised by columns",
        logsumexp,
        lambda g, x: g[:, None] * softmax(x, 0),
        normal((4, 4)),
        Cause.WRONG_AXIS,
        "jax.custom_vjp",
        "The gradient is g times the softmax of each row.",
        right=lambda g, x: g[:, None] * softmax(x, -1),
    ),
    Case(
        "sum of rows expanded along the columns",
        lambda x: x.sum(1),
        lambda g, x: np.broadcast_to(g[None, :], x.shape).copy(),
        normal((4, 4)),
        Cause.WRONG_AXIS,
        "torch.autograd.Function",
        "g[i] belongs to row i; without keepdims it was broadcast to column i.",
        also=(Cause.TRANSPOSED,),
        right=lambda g, x: np.broadcast_to(g[:, None], x.shape).copy(),
    ),
    Case(
        "sum ignores the cotangent",
        lambda x: x.sum(0),
        lambda g, x: np.ones_like(x),
        normal((3, 5)),
        Cause.ONES_COTANGENT,
        "numpy",
        "Each column has g, not 1.",
        right=lambda g, x: np.broadcast_to(g, x.shape).copy(),
    ),
    Case(
        "sum of squares with the mean cotangent",
        lambda x: (x * x).sum(1),
        lambda g, x: 2 * x * g.mean(),
        normal((4, 5)),
        Cause.ONES_COTANGENT,
        "torch.autograd.Function",
        "Row i is 2 x g[i]; g was averaged over the rows.",
        detail="mean of g",
        right=lambda g, x: 2 * x * g[:, None],
    ),
    Case(
        "cumsum as its own backward",
        lambda x: np.cumsum(x, -1),
        lambda g, x: np.cumsum(g, -1),
        normal((3, 5)),
        Cause.TRANSPOSED,
        "autograd.defvjp",
        "The transpose of a cumulative sum runs from the end.",
        also=(Cause.PERMUTATION_NOT_INVERTED,),
        right=lambda g, x: _reverse_cumsum(g),
    ),
    Case(
        "cumsum backwards, exclusive",
        lambda x: np.cumsum(x, -1),
        lambda g, x: _reverse_cumsum(g) - g,
        normal((3, 5)),
        Cause.MISSING_TERM,
        "jax.custom_vjp",
        "The sum of g from i to the end includes g[i] itself.",
        right=lambda g, x: _reverse_cumsum(g),
    ),
    Case(
        "cumprod by division, zero guarded",
        np.cumprod,
        _cumprod_quotient,
        _one_zero(6),
        Cause.SINGLE_ELEMENT,
        "tinygrad record",
        "sum(g y)/x is right except at the zero, where the gradient is not 0.",
        detail="x == 0",
        also=(Cause.REGION, Cause.ZERO),
        right=_cumprod_right,
    ),
    Case(
        "weighted mean without the quotient rule",
        lambda x, w: (w * x).sum() / w.sum(),
        lambda g, x, w: (g * w / w.sum(), g * x / w.sum()),
        lambda rng: [rng.standard_normal(7) + 1, rng.uniform(0.5, 2, 7)],
        Cause.MISSING_TERM,
        "torch.autograd.Function",
        "The gradient of w is (x - mean)/sum(w): the denominator's term is missing.",
        domain=(None, "positive"),
        right=lambda g, x, w: (g * w / w.sum(), g * (x - (w * x).sum() / w.sum()) / w.sum()),
    ),
    Case(
        "mean and variance, the variance forgotten",
        lambda x: (x.mean(-1), x.var(-1)),
        lambda g, x: np.repeat(g[0][:, None] / 5, 5, 1),
        normal((3, 5)),
        Cause.MISSING_TERM,
        "jax.custom_vjp",
        "Two outputs: 2 (x - mean) g[1]/n is missing.",
        detail="second output",
        right=lambda g, x: (
            g[0][:, None] / 5 + 2 * g[1][:, None] * (x - x.mean(-1, keepdims=True)) / 5
        ),
    ),
    Case(
        "sum of absolute values, negative ones lost",
        lambda x: np.abs(x).sum(-1),
        lambda g, x: g[:, None] * (x > 0),
        signed((3, 5)),
        Cause.REGION,
        "numpy",
        "The gradient is g sign(x); (x > 0) was meant as its sign.",
        detail="x < 0",
        right=lambda g, x: g[:, None] * np.sign(x),
    ),
    Case(
        "sum over axis 0 keeps the axis",
        lambda x: x.sum(0),
        lambda g, x: g[None, :].copy(),
        normal((3, 5)),
        Cause.WRONG_DTYPE_OR_SHAPE,
        "tinygrad record",
        "g must be expanded to (3, 5); a gradient of shape (1, 5) is not one.",
        detail="shape",
        right=lambda g, x: np.broadcast_to(g, x.shape).copy(),
    ),
    Case(
        "geometric mean without the root's exponent",
        lambda x: np.exp(np.log(x).mean(-1)),
        lambda g, x: (g * np.exp(np.log(x).mean(-1)))[:, None] / x,
        positive((3, 7)),
        Cause.FACTOR,
        "numpy",
        "The gradient is y/(n x): n = 7 is missing.",
        domain=("positive",),
        detail="axis length",
        also=(Cause.MEAN_VS_SUM,),
        right=lambda g, x: (g * np.exp(np.log(x).mean(-1)))[:, None] / (7 * x),
    ),
)
