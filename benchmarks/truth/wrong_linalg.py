"""Wrong backwards of products, einsum, inverses and factorisations."""

import numpy as np

from .case import Array, Case, Cause, normal


def _regular(rng: np.random.Generator) -> list[Array]:
    return [rng.uniform(-0.5, 0.5, (3, 3)) + np.diag([2.0, 3.0, 4.0])]


def _system(rng: np.random.Generator) -> list[Array]:
    return [*_regular(rng), rng.standard_normal(3)]


def _spd(rng: np.random.Generator) -> list[Array]:
    b = rng.uniform(-0.5, 0.5, (3, 3))
    return [b @ b.T + np.diag([1.0, 2.0, 3.0])]


def _cholesky(a: Array) -> Array:
    """Cholesky–Banachiewicz; reads the lower triangle only, as LAPACK does."""
    n = len(a)
    low = np.zeros_like(a)
    for i in range(n):
        for j in range(i + 1):
            rest = a[i, j] - low[i, :j] @ low[j, :j]
            low[i, j] = np.sqrt(rest) if i == j else rest / low[j, j]
    return low


def _cholesky_symmetric(g: Array, a: Array) -> Array:
    """Murray (2016), equation 9: L^-T Φ(L^T g) L^-1 symmetrised, Φ halving the diagonal."""
    low = _cholesky(a)
    phi = np.tril(low.T @ np.tril(g))
    phi[np.diag_indices(len(a))] /= 2
    inverse = np.linalg.inv(low)
    s = inverse.T @ phi @ inverse
    return s + s.T


def _cholesky_right(g: Array, a: Array) -> Array:
    s = _cholesky_symmetric(g, a)
    return np.tril(s) - np.diag(np.diag(s)) / 2


def _solve_grads(g: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """The gradients of b and of a, in this order."""
    grad_b = np.linalg.solve(a.T, g)
    return grad_b, -np.outer(grad_b, np.linalg.solve(a, b))


def _single(x: Array) -> Array:
    return x.astype(np.float32)


LINALG = (
    Case(
        "matmul without the transpose",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ b, a.T @ g),
        normal((4, 4), (4, 4)),
        Cause.TRANSPOSED,
        "torch.autograd.Function",
        "The gradient of a is g bᵀ.",
        detail="first argument",
        right=lambda g, a, b: (g @ b.T, a.T @ g),
    ),
    Case(
        "matmul with its gradients exchanged",
        lambda a, b: a @ b,
        lambda g, a, b: (a.T @ g, g @ b.T),
        normal((4, 4), (4, 4)),
        Cause.SWAPPED_ARGUMENTS,
        "tinygrad record",
        "g bᵀ comes first.",
        right=lambda g, a, b: (g @ b.T, a.T @ g),
    ),
    Case(
        "matrix times vector, outer product transposed",
        lambda a, x: a @ x,
        lambda g, a, x: (np.outer(x, g), a.T @ g),
        normal((4, 4), (4,)),
        Cause.TRANSPOSED,
        "numpy",
        "The gradient of a is g xᵀ.",
        detail="first argument",
        right=lambda g, a, x: (np.outer(g, x), a.T @ g),
    ),
    Case(
        "matmul in float32",
        lambda a, b: a @ b,
        lambda g, a, b: (
            (_single(g) @ _single(b).T).astype(np.float64),
            (_single(a).T @ _single(g)).astype(np.float64),
        ),
        normal((4, 5), (5, 3)),
        Cause.LOW_PRECISION,
        "torch.autograd.Function",
        "Autocast inside the backward: g bᵀ and aᵀ g, right to 1e-7 only.",
        right=lambda g, a, b: (g @ b.T, a.T @ g),
    ),
    Case(
        "batched matmul, shared matrix not summed over the batch",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ b.T, np.swapaxes(a, 1, 2) @ g),
        normal((2, 3, 4), (4, 5)),
        Cause.NO_UNBROADCAST,
        "autograd.defvjp",
        "b has one matrix for the whole batch: sum over axis 0.",
        also=(Cause.WRONG_DTYPE_OR_SHAPE,),
        right=lambda g, a, b: (g @ b.T, (np.swapaxes(a, 1, 2) @ g).sum(0)),
    ),
    Case(
        "batched matmul, shared matrix gets the first of the batch",
        lambda a, b: a @ b,
        lambda g, a, b: (g @ np.swapaxes(b, 1, 2), (np.swapaxes(a, 1, 2) @ g)[:1]),
        normal((2, 3, 4), (1, 4, 5)),
        Cause.NO_UNBROADCAST,
        "jax.custom_vjp",
        "The shape is right, but the batch axis must be summed.",
        right=lambda g, a, b: (
            g @ np.swapaxes(b, 1, 2),
            (np.swapaxes(a, 1, 2) @ g).sum(0, keepdims=True),
        ),
    ),
    Case(
        "linear layer with its square weight not transposed",
        lambda x, w, b: x @ w + b,
        lambda g, x, w, b: (g @ w, x.T @ g, g.sum(0)),
        normal((5, 3), (3, 3), (3,)),
        Cause.TRANSPOSED,
        "numpy",
        "The gradient of x is g wᵀ; right for a symmetric w.",
        detail="first argument",
        right=lambda g, x, w, b: (g @ w.T, x.T @ g, g.sum(0)),
    ),
    Case(
        "linear layer with the weight averaged over the batch",
        lambda x, w, b: x @ w + b,
        lambda g, x, w, b: (g @ w.T, x.T @ g / len(x), g.sum(0)),
        normal((5, 3), (3, 2), (2,)),
        Cause.FACTOR,
        "numpy",
        "The gradient of w is xᵀ g; the mean over the batch is the loss's affair.",
        detail="1/axis length",
        also=(Cause.MEAN_VS_SUM,),
        right=lambda g, x, w, b: (g @ w.T, x.T @ g, g.sum(0)),
    ),
    Case(
        "einsum bhqd,bhkd->bhqk with the keys' gradient transposed",
        lambda q, k: np.einsum("bhqd,bhkd->bhqk", q, k),
        lambda g, q, k: (
            np.einsum("bhqk,bhkd->bhqd", g, k),
            np.einsum("bhkq,bhqd->bhkd", g, q),
        ),
        normal((2, 2, 3, 4), (2, 2, 3, 4)),
        Cause.TRANSPOSED,
        "jax.custom_vjp",
        "The second is bhqk,bhqd->bhkd; with as many keys as queries the shapes agree.",
        detail="second argument",
        right=lambda g, q, k: (
            np.einsum("bhqk,bhkd->bhqd", g, k),
            np.einsum("bhqk,bhqd->bhkd", g, q),
        ),
    ),
    Case(
        "einsum ij,kj->i with a broadcast letter forgotten",
        lambda a, b: np.einsum("ij,kj->i", a, b),
        lambda g, a, b: (
            np.einsum("i,kj->ij", g, b),
            np.eye(len(b), 1) * (g @ a),
        ),
        normal((3, 4), (5, 4)),
        Cause.REGION,
        "numpy",
        "k is summed away in the forward, so every row of b gets g a; only the first does.",
        detail="rows after the first",
        right=lambda g, a, b: (
            np.einsum("i,kj->ij", g, b),
            np.ones((len(b), 1)) * (g @ a),
        ),
    ),
    Case(
        "bilinear form with the second use forgotten",
        lambda x, a: np.einsum("i,ij,j->", x, a, x),
        lambda g, x, a: (g * (a @ x), g * np.outer(x, x)),
        normal((4,), (4, 4)),
        Cause.MISSING_TERM,
        "autograd.defvjp",
        "x appears twice: the gradient is (a + aᵀ) x. Half of it for a symmetric a.",
        detail="second use",
        also=(Cause.OVERWRITE,),
        right=lambda g, x, a: (g * ((a + a.T) @ x), g * np.outer(x, x)),
    ),
    Case(
        "inverse without the transposes",
        np.linalg.inv,
        lambda g, a: -np.linalg.inv(a) @ g @ np.linalg.inv(a),
        _regular,
        Cause.TRANSPOSED,
        "torch.autograd.Function",
        "The gradient is -yᵀ g yᵀ; right for a symmetric a.",
        right=lambda g, a: -np.linalg.inv(a).T @ g @ np.linalg.inv(a).T,
    ),
    Case(
        "inverse without its minus",
        np.linalg.inv,
        lambda g, a: np.linalg.inv(a).T @ g @ np.linalg.inv(a).T,
        _regular,
        Cause.SIGN,
        "jax.custom_vjp",
        "The gradient is -yᵀ g yᵀ.",
        right=lambda g, a: -np.linalg.inv(a).T @ g @ np.linalg.inv(a).T,
    ),
    Case(
        "determinant without the transpose",
        np.linalg.det,
        lambda g, a: g * np.linalg.det(a) * np.linalg.inv(a),
        _regular,
        Cause.TRANSPOSED,
        "autograd.defvjp",
        "The gradient is det(a) a⁻ᵀ.",
        right=lambda g, a: g * np.linalg.det(a) * np.linalg.inv(a).T,
    ),
    Case(
        "determinant with the gradient of its logarithm",
        np.linalg.det,
        lambda g, a: g * np.linalg.inv(a).T,
        _regular,
        Cause.MISSING_CHAIN,
        "jax.custom_vjp",
        "a⁻ᵀ is the gradient of log det; the factor det(a) is missing.",
        detail="det",
        also=(Cause.FACTOR,),
        right=lambda g, a: g * np.linalg.det(a) * np.linalg.inv(a).T,
    ),
    Case(
        "solve with the outer product transposed",
        np.linalg.solve,
        lambda g, a, b: (_solve_grads(g, a, b)[1].T, _solve_grads(g, a, b)[0]),
        _system,
        Cause.TRANSPOSED,
        "torch.autograd.Function",
        "The gradient of a is -(a⁻ᵀ g) xᵀ.",
        detail="first argument",
        right=lambda g, a, b: _solve_grads(g, a, b)[::-1],
    ),
    Case(
        "solve with the wrong system for b",
        np.linalg.solve,
        lambda g, a, b: (_solve_grads(g, a, b)[1], np.linalg.solve(a, g)),
        _system,
        Cause.TRANSPOSED,
        "jax.custom_vjp",
        "The gradient of b solves the transposed system aᵀ u = g.",
        detail="second argument",
        right=lambda g, a, b: _solve_grads(g, a, b)[::-1],
    ),
    Case(
        "Cholesky with the diagonal counted twice",
        _cholesky,
        lambda g, a: np.tril(_cholesky_symmetric(g, a)),
        _spd,
        Cause.REGION,
        "numpy",
        "Only the lower triangle is read: s + sᵀ folded onto it counts the diagonal once.",
        domain=("positive definite",),
        detail="diagonal",
        right=_cholesky_right,
    ),
    Case(
        "trace spread over the whole matrix",
        np.trace,
        lambda g, a: np.full_like(a, g),
        normal((4, 4)),
        Cause.REGION,
        "tinygrad record",
        "The gradient is g on the diagonal and 0 off it.",
        detail="off the diagonal",
        right=lambda g, a: g * np.eye(4),
    ),
    Case(
        "Gram matrix with the second use overwritten",
        lambda x: x @ x.T,
        lambda g, x: g.T @ x,
        normal((4, 3)),
        Cause.OVERWRITE,
        "tinygrad record",
        "x is used twice: (g + gᵀ) x. Only the second contribution is left.",
        detail="second use",
        also=(Cause.MISSING_TERM,),
        right=lambda g, x: (g + g.T) @ x,
    ),
)
