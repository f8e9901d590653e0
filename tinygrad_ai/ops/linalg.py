"""Linear algebra of square matrices: inverses, determinants, solutions, Cholesky factors, norms.

Everything works on the last two axes and is repeated over the leading ones. Halves are computed
in float32 and rounded once. The rules are those of M. Giles, *Collected matrix derivative results
for forward and reverse mode algorithmic differentiation* (2008), and for Cholesky of I. Murray,
*Differentiation of the Cholesky decomposition* (2016). The products are in ``products``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.autodiff import Primitive, opaque
from tinygrad_ai.autodiff import linear as linear_record
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops.elementwise import absolute
from tinygrad_ai.ops.movement import broadcast_to, expand_dims, reshape
from tinygrad_ai.ops.norms import norm
from tinygrad_ai.ops.products import (
    dot,
    in_float32,
    label,
    linear,
    matmul,
    matmul_,
    matrix_transpose,
    outer,
    product_shape,
    tensordot,
    trace,
    vecdot,
)
from tinygrad_ai.ops.reduce import amax, amin
from tinygrad_ai.ops.reduce import sum as sum_over
from tinygrad_ai.ops.shapes import axes_of, on_arrays


def _solved(name: str, compute: Callable[..., Any], complaint: str) -> Callable[..., Any]:
    """``compute`` in float32 for halves; a LAPACK failure is the error ``name: … complaint``."""

    def forward(*arrays: Any) -> Any:
        try:
            return in_float32(compute, *arrays)
        except np.linalg.LinAlgError:
            raise ValueRangeError(f"{name}: {label(arrays[0], 'a')} {complaint}") from None

    return forward


def _well_posed(n: int, *more: int) -> Callable[..., Any]:
    """A sampler of a batch of two matrices far from singular (and a right-hand side)."""

    def draw(rng: Any) -> Any:
        a = rng.uniform(-1, 1, (2, n, n)) + 4 * np.eye(n)  # strictly diagonally dominant
        return (a, *(rng.standard_normal((2, n, m)) for m in more)), {}

    return draw


inv_ = opaque(
    "inv",
    lambda xp, a: _solved("inv", xp.linalg.inv, "is singular")(a),
    vjp=lambda g, y: -matmul_(matmul_(matrix_transpose(y), g), matrix_transpose(y)),
    batch="leading",
    sample=_well_posed(3),
    why="A·A⁻¹ = 1 stays 1, so d(A⁻¹) = -A⁻¹·dA·A⁻¹",
)
solve_ = opaque(
    "solve",
    lambda xp, a, b: _solved("solve", xp.linalg.solve, "is singular")(a, b),
    vjp=(
        lambda g, y, a: -matmul_(solve_(matrix_transpose(a), g), matrix_transpose(y)),
        lambda g, a: solve_(matrix_transpose(a), g),
    ),
    batch="leading",
    sample=_well_posed(3, 2),
    why="A·y = b: what y wants, u = A⁻ᵀ·g, is what b gets, and A gets -u·yᵀ",
)


# Derivatives of the determinant. The gradient of det A is its matrix of cofactors, and a cofactor
# is, up to its sign, the determinant of a minor: rules of every order are exact, also where A is
# singular and A⁻¹ does not exist.


def _minor_index(xp: Any, n: int) -> tuple[Any, ...]:
    """Index arrays (n, n, n-1, n-1) of the minors: row i and column j left out."""
    keep = np.array([[k for k in range(n) if k != i] for i in range(n)], dtype=np.intp)
    keep = xp.asarray(keep.reshape(n, max(n - 1, 0)))
    return Ellipsis, keep[:, None, :, None], keep[None, :, None, :]


def _join_minors(xp: Any, g: Any) -> Any:
    n = g.shape[-3]
    out = xp.zeros((*g.shape[:-4], n, n), dtype=g.dtype)
    xp.scatter_add(out, _minor_index(xp, n), g)
    return out


checker = linear_record(
    "checker",
    lambda xp, x: x * (1 - 2 * (xp.indices(x.shape[-2:]).sum(axis=0) % 2)).astype(x.dtype),
    vjp=lambda g: checker(g),
    batch="leading",
    sample=lambda rng: ((rng.standard_normal((2, 3, 3)),), {}),
    why="signs that change like a chessboard's colours are their own inverse",
)
minors = linear_record(
    "minors",
    lambda xp, a: a[_minor_index(xp, a.shape[-1])],
    vjp=lambda g: join_minors(g),
    batch="leading",
    sample=lambda rng: ((rng.standard_normal((2, 3, 3)),), {}),
    why="an element stands in every minor that leaves out neither its row nor its column",
)
join_minors = linear_record(
    "join_minors",
    _join_minors,
    vjp=lambda g: minors(g),
    batch="leading",
    sample=lambda rng: ((rng.standard_normal((2, 3, 3, 2, 2)),), {}),
    why="the transpose of taking minors: every element goes back to its place",
)


def _cofactor(xp: Any, a: Any) -> Any:
    """With A = U·diag(s)·Vᵀ: det(U)·det(V)·U·diag(products of the other s)·Vᵀ, without division."""
    finite = xp.isfinite(a).all(axis=(-2, -1), keepdims=True)
    u, s, vt = xp.linalg.svd(xp.where(finite, a, 0))
    one = xp.ones_like(s[..., :1])
    before = xp.concatenate((one, xp.cumprod(s, axis=-1)), axis=-1)[..., : s.shape[-1]]
    after = xp.concatenate((one, xp.cumprod(s[..., ::-1], axis=-1)), axis=-1)[..., : s.shape[-1]]
    others = before * after[..., ::-1]
    handed = xp.linalg.det(u) * xp.linalg.det(vt)
    return xp.where(
        finite, handed[..., None, None] * xp.matmul(u * others[..., None, :], vt), xp.nan
    )


cofactor = opaque(
    "cofactor",
    lambda xp, a: in_float32(lambda a: _cofactor(xp, a).astype(a.dtype), a),
    vjp=lambda g, a: join_minors(expand_dims(checker(g), (-2, -1)) * cofactor(minors(a))),
    batch="leading",
    sample=_well_posed(3),
    why="a cofactor is the signed determinant of a minor, whose gradient is the minor's cofactors",
)
det_ = opaque(
    "det",
    lambda xp, a: in_float32(xp.linalg.det, a),
    vjp=lambda g, a: expand_dims(g, (-2, -1)) * cofactor(a),
    batch="leading",
    sample=_well_posed(3),
    why="expanding along a row, each element is weighted by its cofactor (also if A is singular)",
)
logabsdet = opaque(
    "logabsdet",
    lambda xp, a: in_float32(lambda a: xp.linalg.slogdet(a)[1], a),
    vjp=lambda g, a: expand_dims(g, (-2, -1)) * matrix_transpose(inv_(a)),
    batch="leading",
    sample=_well_posed(3),
    why="(log|det A|)' is the matrix of cofactors over the determinant, which is A⁻ᵀ",
)
det_sign = opaque(
    "det_sign",
    lambda xp, a: in_float32(lambda a: xp.linalg.slogdet(a)[0], a),
    batch="leading",
    sample=_well_posed(3),
    why="a sign jumps: there is no slope to follow",
)
half_tril = linear_record(
    "half_tril",
    lambda xp, x: xp.tril(x) * (1 - xp.eye(x.shape[-1], dtype=x.dtype) / 2),
    vjp=lambda g: half_tril(g),
    batch="leading",
    sample=lambda rng: ((rng.standard_normal((2, 3, 3)),), {}),
    why="weights 1 below the diagonal, ½ on it and 0 above stay where they are",
)


def _symmetric(x: Any) -> Any:
    return (x + matrix_transpose(x)) / 2


def _cholesky_vjp(g: Any, y: Any) -> Any:
    turned = matrix_transpose(y)
    left = solve_(turned, half_tril(matmul_(turned, g)))
    return _symmetric(solve_(turned, matrix_transpose(left)))


cholesky_ = opaque(
    "cholesky",
    lambda xp, a: _solved(
        "cholesky",
        lambda a: xp.linalg.cholesky((a + xp.swapaxes(a, -1, -2)) / 2),
        "is not positive definite",
    )(a),
    vjp=_cholesky_vjp,
    batch="leading",
    sample=lambda rng: ((np.eye(3) * 3 + rng.uniform(-0.5, 0.5, (2, 3, 3)),), {}),
    why="A = L·Lᵀ: the gradient is L⁻ᵀ·Φ(Lᵀ·g)·L⁻¹ made symmetric, Φ the half-weighted lower part",
)

# ------------------------------------------------------------------------------ the public faces


def _square(name: str, record: Primitive, a: Any) -> Any:
    if np.ndim(a) < 2 or a.shape[-1] != a.shape[-2]:
        raise ShapeError(f"{name}: needs square matrices (..., n, n), got {label(a, 'a')}")
    return record(a)


@on_arrays("a")
def inv(a: Any) -> Any:
    """The inverses of square matrices (..., n, n); ValueRangeError if one is singular."""
    return _square("inv", inv_, a)


@on_arrays("a")
def det(a: Any) -> Any:
    """The determinants (...) of square matrices (..., n, n).

    Gradients of every order are exact, at singular matrices too; the first costs an SVD.
    """
    return _square("det", det_, a)


class SlogdetResult(NamedTuple):
    """``sign`` and ``logabsdet``, each of shape (...): det = sign · exp(logabsdet)."""

    sign: Any
    logabsdet: Any


@on_arrays("a")
def slogdet(a: Any) -> SlogdetResult:
    """Sign and log of the absolute value of the determinants of (..., n, n)."""
    return SlogdetResult(_square("slogdet", det_sign, a), _square("slogdet", logabsdet, a))


@on_arrays("a", "b")
def solve(a: Any, b: Any) -> Any:
    """The ``y`` with ``a @ y = b`` for a (..., n, n) and b (..., n, k), or one vector b (n,).

    Leading axes broadcast. Raises ValueRangeError if a matrix is singular.
    """
    if b.ndim == 1:
        y = solve(a, reshape(b, (-1, 1)))
        return reshape(y, y.shape[:-1])
    fits = a.ndim >= 2 and b.ndim >= 2 and a.shape[-2] == a.shape[-1] == b.shape[-2]
    if not fits or product_shape(a.shape, b.shape) is None:
        raise ShapeError(
            f"solve: needs a (..., n, n) and b (..., n, k) or (n,), got {label(a, 'a')} and "
            f"{label(b, 'b')}"
        )
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return solve_(_with_lead(a, lead), _with_lead(b, lead))


def _with_lead(x: Any, lead: tuple[int, ...]) -> Any:
    return x if x.shape[:-2] == lead else broadcast_to(x, (*lead, *x.shape[-2:]))


@on_arrays("a")
def cholesky(a: Any, upper: bool = False) -> Any:
    """The lower triangular L with ``L @ L.T = a`` (or its transpose) for a (..., n, n).

    Only the symmetric part of ``a`` is read, so its gradient is symmetric. Raises ValueRangeError
    if a matrix is not positive definite.
    """
    y = _square("cholesky", cholesky_, a)
    return matrix_transpose(y) if upper else y


@on_arrays("x")
def matrix_norm(x: Any, ord: Any = "fro", keepdims: bool = False) -> Any:
    """Norms of matrices (..., m, n): 'fro', 1 (-1) or inf (-inf), the largest (smallest) column or
    row sum of absolute values. The spectral ones (2, -2, 'nuc') raise NotImplementedError."""
    if np.ndim(x) < 2:
        raise ShapeError(f"matrix_norm: needs matrices (..., m, n), got {label(x, 'x')}")
    if ord == "fro":
        return norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord not in (1, -1, math.inf, -math.inf):
        raise NotImplementedError(f"matrix_norm: ord={ord!r} is not supported; 'fro', ±1, ±inf are")
    extreme = amax if ord > 0 else amin
    first, second = axes_of((-2, -1), x.ndim)
    summed, compared = (first, second) if abs(ord) == 1 else (second, first)
    y = extreme(sum_over(absolute(x), summed, keepdims=True), compared, keepdims=True)
    return y if keepdims else reshape(y, y.shape[:-2])


__all__ = [
    "SlogdetResult",
    "cholesky",
    "det",
    "dot",
    "inv",
    "linear",
    "matmul",
    "matrix_norm",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "tensordot",
    "trace",
    "vecdot",
]
