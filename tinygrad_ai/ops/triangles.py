"""The triangles of matrices: what stands above or below a diagonal set to 0."""

from __future__ import annotations

from typing import Any

from tinygrad_ai.autodiff import linear
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.ops.lowering import IndexMap
from tinygrad_ai.ops.shapes import on_arrays

tril_ = linear(
    "tril",
    lambda xp, x, *, k: xp.tril(x, k),
    vjp=lambda g, k: tril_(g, k=k),
    batch="leading",
    lower=IndexMap(lambda i, shape, *, k: i, inside=lambda i, shape, *, k: i[-1] <= i[-2] + k),
    sample=lambda rng: ((rng.standard_normal((3, 4)),), {"k": int(rng.integers(-1, 2))}),
    why="what was set to 0 gets no gradient",
)
triu_ = linear(
    "triu",
    lambda xp, x, *, k: xp.triu(x, k),
    vjp=lambda g, k: triu_(g, k=k),
    batch="leading",
    lower=IndexMap(lambda i, shape, *, k: i, inside=lambda i, shape, *, k: i[-1] >= i[-2] + k),
    sample=lambda rng: ((rng.standard_normal((3, 4)),), {"k": int(rng.integers(-1, 2))}),
    why="what was set to 0 gets no gradient",
)


@on_arrays("x")
def tril(x: Any, k: int = 0) -> Any:
    """``x`` with zeros above diagonal ``k`` of its last two axes."""
    return tril_(_matrices(x, "tril"), k=k)


@on_arrays("x")
def triu(x: Any, k: int = 0) -> Any:
    """``x`` with zeros below diagonal ``k`` of its last two axes."""
    return triu_(_matrices(x, "triu"), k=k)


def _matrices(x: Any, name: str) -> Any:
    if x.ndim < 2:
        raise ShapeError(f"{name} needs at least 2 axes, got shape {x.shape}")
    return x
