"""Wrong backwards of movement and indexing."""

import numpy as np

from .case import Array, Case, Cause, Inputs, normal, scatter_add, scatter_set

_DUPLICATES = np.array([2, 0, 2, 4, 2, 0])
_DISTINCT = np.array([3, 0, 5])
_LOWER = np.tril(np.ones((4, 4), bool))


def _scatter(base: Array, source: Array) -> Array:
    out = base.copy()
    out[_DISTINCT] = source
    return out


def _order(*leading: int) -> Inputs:
    """Vectors whose sorting permutation is a 5-cycle, so that it is not its own inverse."""
    cycle = np.array([0.4, 1.6, 2.2, 3.1, 0.1])
    return lambda rng: [cycle + rng.uniform(0, 0.2, (*leading, 5))]


def _top(x: Array) -> Array:
    return np.argsort(-x, -1)[..., :2]


def _diff_inner_only(g: Array, x: Array) -> Array:
    grad = np.zeros_like(x)
    grad[1:-1] = g[:-1] - g[1:]
    grad[-1] = g[-1]
    return grad


MOVEMENT = (
    Case(
        "flip not undone",
        lambda x: x[::-1].copy(),
        lambda g, x: g.copy(),
        normal((5,)),
        Cause.PERMUTATION_NOT_INVERTED,
        "autograd.defvjp",
        "The gradient is g flipped back; a ones cotangent cannot tell.",
        detail="flip",
        right=lambda g, x: g[::-1].copy(),
    ),
    Case(
        "roll in the same direction",
        lambda x: np.roll(x, 2),
        lambda g, x: np.roll(g, 2),
        normal((7,)),
        Cause.PERMUTATION_NOT_INVERTED,
        "jax.custom_vjp",
        "The gradient is g rolled by -2.",
        detail="roll",
        right=lambda g, x: np.roll(g, -2),
    ),
    Case(
        "permute with the same permutation",
        lambda x: np.transpose(x, (1, 2, 0)).copy(),
        lambda g, x: np.transpose(g, (1, 2, 0)).copy(),
        normal((3, 3, 3)),
        Cause.PERMUTATION_NOT_INVERTED,
        "tinygrad record",
        "The inverse of (1, 2, 0) is (2, 0, 1); on a cube the shapes agree.",
        detail="permute",
        right=lambda g, x: np.transpose(g, (2, 0, 1)).copy(),
    ),
    Case(
        "transpose passed through",
        lambda x: x.T.copy(),
        lambda g, x: g.copy(),
        normal((4, 4)),
        Cause.TRANSPOSED,
        "numpy",
        "The gradient is gᵀ.",
        also=(Cause.PERMUTATION_NOT_INVERTED,),
        right=lambda g, x: g.T.copy(),
    ),
    Case(
        "reshape back in Fortran order",
        lambda x: x.reshape(6, 2),
        lambda g, x: g.reshape(x.shape, order="F"),
        normal((3, 4)),
        Cause.PERMUTATION_NOT_INVERTED,
        "numpy",
        "The gradient is g reshaped in C order, as the forward was.",
        detail="reshape order",
        right=lambda g, x: g.reshape(x.shape).copy(),
    ),
    Case(
        "pad cropped from the start",
        lambda x: np.pad(x, (2, 1)),
        lambda g, x: g[: x.size].copy(),
        normal((5,)),
        Cause.PERMUTATION_NOT_INVERTED,
        "torch.autograd.Function",
        "The gradient is g[2:7]; g[0:5] is shifted by the padding.",
        detail="shift",
        right=lambda g, x: g[2:7].copy(),
    ),
    Case(
        "concatenate with its pieces exchanged",
        lambda a, b: np.concatenate([a, b]),
        lambda g, a, b: (g[len(b) :].copy(), g[: len(b)].copy()),
        normal((3, 2), (3, 2)),
        Cause.SWAPPED_ARGUMENTS,
        "autograd.defvjp",
        "The first piece of g belongs to a.",
        right=lambda g, a, b: (g[:3].copy(), g[3:].copy()),
    ),
    Case(
        "tile with the first copy only",
        lambda x: np.tile(x, 3),
        lambda g, x: g[: x.size].copy(),
        normal((4,)),
        Cause.NO_UNBROADCAST,
        "tinygrad record",
        "x is used in three copies: their cotangents add up.",
        also=(Cause.MISSING_TERM, Cause.OVERWRITE),
        right=lambda g, x: g.reshape(3, 4).sum(0),
    ),
    Case(
        "repeat summed like tile",
        lambda x: np.repeat(x, 3),
        lambda g, x: g.reshape(3, x.size).sum(0),
        normal((3,)),
        Cause.WRONG_AXIS,
        "numpy",
        "Copies stand next to each other: reshape(3, 3).sum(1), not sum(0).",
        right=lambda g, x: g.reshape(3, 3).sum(1),
    ),
    Case(
        "diff loses the first element",
        np.diff,
        _diff_inner_only,
        normal((40,)),
        Cause.SINGLE_ELEMENT,
        "numpy",
        "The gradient of x[0] is -g[0].",
        detail="first element",
        right=lambda g, x: np.concatenate([[0], g]) - np.concatenate([g, [0]]),
    ),
    Case(
        "tril not masked backwards",
        np.tril,
        lambda g, x: g.copy(),
        normal((4, 4)),
        Cause.REGION,
        "jax.custom_vjp",
        "The gradient above the diagonal is 0.",
        detail="above the diagonal",
        right=lambda g, x: np.where(_LOWER, g, 0),
    ),
    Case(
        "nearest upsampling averaged",
        lambda x: x.repeat(2, 0).repeat(2, 1),
        lambda g, x: g.reshape(3, 2, 4, 2).mean((1, 3)),
        normal((3, 4)),
        Cause.MEAN_VS_SUM,
        "torch.autograd.Function",
        "Each pixel went to four places: their cotangents add up.",
        detail="1/4",
        also=(Cause.FACTOR,),
        right=lambda g, x: g.reshape(3, 2, 4, 2).sum((1, 3)),
    ),
    Case(
        "gather with duplicates overwritten",
        lambda x: x[_DUPLICATES],
        lambda g, x: scatter_set(x.shape, _DUPLICATES, g),
        normal((5, 3)),
        Cause.OVERWRITE,
        "numpy",
        "An index that occurs three times gets the sum of three cotangents.",
        right=lambda g, x: scatter_add(x.shape, _DUPLICATES, g),
    ),
    Case(
        "embedding with the first occurrence only",
        lambda w: w[_DUPLICATES.reshape(2, 3)],
        lambda g, w: scatter_set(w.shape, _DUPLICATES[::-1], g.reshape(6, 2)[::-1]),
        normal((5, 2)),
        Cause.OVERWRITE,
        "torch.autograd.Function",
        "Occurrences of a token add up.",
        also=(Cause.MISSING_TERM,),
        right=lambda g, w: scatter_add(w.shape, _DUPLICATES, g.reshape(6, 2)),
    ),
    Case(
        "scatter leaves the overwritten base its gradient",
        _scatter,
        lambda g, base, source: (g.copy(), g[_DISTINCT]),
        normal((7,), (3,)),
        Cause.REGION,
        "jax.custom_vjp",
        "Where source was written, base has gradient 0.",
        detail="written positions",
        right=lambda g, base, source: (_scatter(g, np.zeros(3)), g[_DISTINCT]),
    ),
    Case(
        "scatter-add without a gradient for its base",
        lambda base, source: base + np.eye(5)[:, _DUPLICATES] @ source,
        lambda g, base, source: (np.zeros_like(base), g[_DUPLICATES]),
        normal((5,), (6,)),
        Cause.ZERO,
        "tinygrad record",
        "base is only added to: its gradient is g.",
        detail="first argument",
        right=lambda g, base, source: (g.copy(), g[_DUPLICATES]),
    ),
    Case(
        "sort gathers instead of scattering",
        np.sort,
        lambda g, x: g[np.argsort(x)],
        _order(),
        Cause.PERMUTATION_NOT_INVERTED,
        "autograd.defvjp",
        "y = x[p], so the gradient is g[p⁻¹].",
        detail="sort",
        right=lambda g, x: g[np.argsort(np.argsort(x))],
    ),
    Case(
        "top-k scattered to the first k places",
        lambda x: np.take_along_axis(x, _top(x), -1),
        lambda g, x: np.concatenate([g, np.zeros((3, 3))], -1),
        _order(3),
        Cause.PERMUTATION_NOT_INVERTED,
        "jax.custom_vjp",
        "g goes back to where the largest values were.",
        detail="indices ignored",
        right=lambda g, x: scatter_set(x.shape, (np.arange(3)[:, None], _top(x)), g),
    ),
)
