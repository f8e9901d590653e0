"""What is added to a loss to keep weights small, and limits for gradients."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import mode, no_grad
from tinygrad_ai.backend import backend_of
from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.ops.elementwise import absolute, maximum, minimum, square
from tinygrad_ai.ops.reduce import amax
from tinygrad_ai.ops.reduce import sum as sum_over
from tinygrad_ai.tensor import Tensor


def l1_penalty(params: Tensor | Iterable[Tensor], lam: float) -> Tensor:
    """λ·Σ|w|, λ = ``lam``, to be added to a loss; its gradient is λ·sign(w), and 0 at 0."""
    return _penalty(params, lam, absolute)


def l2_penalty(params: Tensor | Iterable[Tensor], lam: float) -> Tensor:
    """λ·Σw², λ = ``lam``, to be added to a loss; its gradient is 2λ·w."""
    return _penalty(params, lam, square)


def _penalty(
    params: Tensor | Iterable[Tensor], lam: float, size: Callable[[Tensor], Tensor]
) -> Tensor:
    terms = [sum_over(size(p)) for p in _listed(params)]
    if not terms:
        raise ValueRangeError("the list of parameters is empty")
    return lam * functools.reduce(operator.add, terms)


def _listed(params: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [params] if isinstance(params, Tensor) else list(params)


def _with_gradients(params: Tensor | Iterable[Tensor]) -> list[Tensor]:
    return [p for p in _listed(params) if p.grad is not None]


def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Any:
    """Scale all gradients together so that their norm is at most ``max_norm``; return the norm.

    The norm is that of all elements as one vector, before scaling; the factor is
    max_norm/(norm + 1e-6) where that is below 1 (Pascanu et al., 2013). A norm that is infinite or
    NaN raises ValueRangeError with ``error_if_nonfinite``. In a compiled step the norm is a tensor
    of float64, and that check, which would read it, raises GraphError.
    """
    if not max_norm >= 0 or not norm_type > 0:
        raise ValueRangeError(
            f"clip_grad_norm_: needs max_norm ≥ 0 and norm_type > 0, got {max_norm}, {norm_type}"
        )
    held = _with_gradients(parameters)
    with no_grad():
        norm = _norm_of([p.grad for p in held], norm_type)
        if error_if_nonfinite and not np.isfinite(float(norm)):
            raise ValueRangeError(f"clip_grad_norm_: the norm of the gradients is {norm}")
        factor = max_norm / (norm + 1e-6)
        if isinstance(norm, Tensor):
            share = minimum(factor, 1.0)
            for p in held:
                p.grad = p.grad * share.astype(p.grad.dtype)
        elif not factor >= 1:
            for p in held:
                p.grad.array *= factor
                p.grad.version[0] += 1
    return norm


def _norm_of(grads: list[Any], order: float) -> Any:
    """The norm of all elements, a number; in a compiled step a tensor of float64."""
    if not grads:
        return 0.0
    if mode.capture is None:
        return float(np.linalg.norm([_norm(g.array, order) for g in grads], order))
    wide = [absolute(g.astype(np.float64)) for g in grads]
    if order == np.inf:
        return functools.reduce(maximum, [amax(g) for g in wide])
    return functools.reduce(operator.add, [sum_over(g**order) for g in wide]) ** (1 / order)


def _norm(array: Any, order: float) -> float:
    xp = backend_of(array).xp
    with np.errstate(all="ignore"):  # squares of float32 gradients would leave its range
        return float(xp.linalg.norm(array.astype(np.float64).ravel(), order))


def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of the gradients to ±``clip_value``, in place."""
    if not clip_value >= 0:
        raise ValueRangeError(f"clip_grad_value_: clip_value must be ≥ 0, got {clip_value}")
    if mode.capture is not None:
        for p in _with_gradients(parameters):
            p.grad = p.grad.clip(-clip_value, clip_value)
        return
    for p in _with_gradients(parameters):
        array = p.grad.array
        backend_of(array).xp.clip(array, -clip_value, clip_value, out=array)
        p.grad.version[0] += 1
