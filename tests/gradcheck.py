"""Gradients against central differences in float64, for the tests of single operations.

The function is called on Tensors. The cotangent is random and signed, so that what a sum of ones
cannot see (a flip not undone, a softmax backward of zeros) is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import pull_back
from tinygrad_ai.tensor import Tensor

PER_ELEMENT = 300  #: up to as many elements each gets a difference of its own
DIRECTIONS = 12  #: random directions beyond that
STEPS = 1e-3, 1e-5  #: of a difference, relative to the element


def check(
    f: Callable[..., Any],
    *arrays: Any,
    order: int = 1,
    rtol: float = 1e-6,
    atol: float | None = None,
    seed: int = 0,
) -> None:
    """Assert that the VJP of ``f`` is right at ``arrays``, and with ``order=2`` the VJP's VJP too.

    ``f`` takes Tensors (arrays that are not floating-point are passed as they are) and returns one
    Tensor. ``order=2`` differentiates ⟨w, pullback(v)⟩ with random w in the inputs and in v.
    ``atol`` is ``rtol`` unless given; both are relative to the largest gradient.
    """
    rng = np.random.default_rng(seed)
    inputs = [np.asarray(a) for a in arrays]
    inputs = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs]
    out = _call(f, inputs)[0]
    v = signed(rng, out.array.shape)
    _first_order(f, inputs, v, rtol, rtol if atol is None else atol, rng)
    if order > 1:
        weights = [signed(rng, a.shape) for a in inputs]
        check(_pullback(f, weights), v, *inputs, order=order - 1, rtol=rtol, atol=atol, seed=seed)


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of both signs, none of them near 0."""
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


def gradients(f: Callable[..., Any], arrays: Sequence[Any], v: Any) -> list[np.ndarray]:
    """The VJP of ``f`` at ``arrays`` for the cotangent ``v``: an array for each float input."""
    out, tensors = _call(f, arrays)
    nodes = [t.node for t in tensors if isinstance(t, Tensor)]
    found = pull_back({out.node: np.asarray(v, out.array.dtype)}, nodes) if out.node else {}
    return [found.get(node, np.zeros(node.shape, node.dtype)) for node in nodes]


def _call(f: Callable[..., Any], arrays: Sequence[Any]) -> tuple[Any, list[Any]]:
    tensors = [Tensor(a, requires_grad=True) if a.dtype.kind == "f" else a for a in arrays]
    return f(*tensors), tensors


def _pullback(f: Callable[..., Any], weights: list[np.ndarray]) -> Callable[..., Any]:
    def paired(v: Any, *inputs: Any) -> Any:
        nodes = [x.node if isinstance(x, Tensor) else None for x in inputs]
        found = pull_back({f(*inputs).node: v}, [n for n in nodes if n], lift=True, retain=True)
        return sum(
            ((found[n] * w).sum() for n, w in zip(nodes, weights, strict=True) if n in found),
            Tensor(0.0, dtype=np.float64),
        )

    return paired


def _first_order(
    f: Callable[..., Any],
    inputs: list[np.ndarray],
    v: np.ndarray,
    rtol: float,
    atol: float,
    rng: np.random.Generator,
) -> None:
    def paired(arrays: Sequence[Any]) -> float:
        return float(np.sum(v * _call(f, arrays)[0].array))

    floats = [k for k, a in enumerate(inputs) if a.dtype.kind == "f"]
    before = [a.copy() for a in inputs]
    found = gradients(f, inputs, v)
    largest = max((float(np.abs(g).max(initial=0)) for g in found), default=0.0)
    for k, g in zip(floats, found, strict=True):
        x = inputs[k]
        assert g.shape == x.shape, f"gradient {k} has shape {g.shape}, its input {x.shape}"
        assert g.dtype == x.dtype, f"gradient {k} has dtype {g.dtype}, its input {x.dtype}"
        for direction in _directions(x.shape, rng):
            actual = float(np.sum(g * direction))
            near = float(np.linalg.norm(g * direction))
            for step in STEPS:  # a kink, or a pole, may stand nearer than the wider one
                expected = _difference(
                    lambda a, k=k: paired([*inputs[:k], a, *inputs[k + 1 :]]), x, direction, step
                )
                allowed = rtol * max(abs(expected), near) + atol * largest + 1e-10
                if abs(actual - expected) <= allowed:
                    break
            else:
                raise AssertionError(
                    f"input {k} along {_where(direction)}: gradient {actual!r}, "
                    f"central difference {expected!r}"
                )
    for a, b in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(a, b, err_msg="an input was changed")


def _directions(shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    size = int(np.prod(shape))
    if size > PER_ELEMENT:
        return [rng.choice([-1.0, 1.0], shape) for _ in range(DIRECTIONS)]
    return np.eye(size).reshape(size, *shape)


def _difference(
    phi: Callable[[Any], float], x: np.ndarray, direction: np.ndarray, step: float
) -> float:
    """d/dt phi(x + t·direction) at 0, by central differences extrapolated once (Richardson)."""
    h = step * max(1.0, float(np.abs(x[direction != 0]).max(initial=0)))
    wide, narrow = ((phi(x + t * direction) - phi(x - t * direction)) / (2 * t) for t in (h, h / 2))
    return (4 * narrow - wide) / 3


def _where(direction: np.ndarray) -> str:
    hits = np.argwhere(direction)
    return f"element {tuple(map(int, hits[0]))}" if len(hits) == 1 else "a random direction"
