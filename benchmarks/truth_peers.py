"""The gradient checkers of other projects, applied to one case of the truth corpora.

Each case is a NumPy function and its rule; here the pair is wrapped in the way its project tells
users to wrap foreign code. Tolerances and steps are the checkers' own defaults, inputs are float64
(the only dtype they are meant for), and only first-order reverse mode is asked for, because a NumPy
rule has nothing else. A checker says "wrong" by raising.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import autograd.extend
import autograd.test_util
import jax
import jax.test_util
import numpy as np
import torch

from .truth.case import Array, Case

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_cpu_enable_async_dispatch", False)  # callbacks may wait for each other


def _tuple(y: Any) -> tuple[Any, ...]:
    return y if isinstance(y, tuple) else (y,)


def _alone(ys: tuple[Any, ...]) -> Any:
    return ys[0] if len(ys) == 1 else ys


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array, order="C"))  # torch has no negative strides


def torch_gradcheck(case: Case, arrays: list[Array], fast: bool) -> None:
    """torch.autograd.gradcheck on a torch.autograd.Function around the pair."""

    class Pair(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: torch.Tensor) -> Any:
            ctx.save_for_backward(*inputs)
            ys = _tuple(case.f(*(x.detach().numpy() for x in inputs)))
            return _alone(tuple(_tensor(y.copy()) for y in ys))

        @staticmethod
        def backward(ctx: Any, *cotangents: torch.Tensor) -> Any:
            g = _alone(tuple(v.numpy() for v in cotangents))
            return _alone(tuple(map(_tensor, case.vjp(g, *(x.numpy() for x in ctx.saved_tensors)))))

    torch.manual_seed(0)
    inputs = [torch.empty(a.shape, dtype=torch.float64).copy_(torch.tensor(a)) for a in arrays]
    for x in inputs:  # made by torch, because gradcheck refuses the strides of NumPy's empty arrays
        x.requires_grad_()
    torch.autograd.gradcheck(Pair.apply, inputs, fast_mode=fast)


def jax_check_grads(case: Case, arrays: list[Array]) -> None:
    """jax.test_util.check_grads on a jax.custom_vjp whose both sides are pure callbacks."""

    def like(values: Any) -> Any:
        return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), values)

    def numpy(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: function(*jax.tree.map(np.asarray, args))

    results = like(case.f(*(a.copy() for a in arrays)))

    @jax.custom_vjp
    def pair(*inputs: jax.Array) -> Any:
        return jax.pure_callback(numpy(case.f), results, *inputs)

    def backward(inputs: Any, g: Any) -> Any:
        return jax.pure_callback(numpy(case.vjp), like(tuple(inputs)), g, *inputs)

    pair.defvjp(lambda *inputs: (pair(*inputs), inputs), backward)
    jax.test_util.check_grads(pair, [jax.numpy.asarray(a) for a in arrays], 1, modes=["rev"])


def hips_check_grads(case: Case, arrays: list[Array]) -> None:
    """autograd.test_util.check_grads on a primitive with defvjp, all arguments together."""
    pair = autograd.extend.primitive(case.f)

    def rule(k: int, ans: Any, *inputs: Array) -> Callable[[Any], Array]:
        return lambda g: case.vjp(g, *inputs)[k]

    positions = range(len(arrays))
    autograd.extend.defvjp(pair, *(functools.partial(rule, k) for k in positions))
    np.random.seed(0)
    which = 0 if len(arrays) == 1 else tuple(positions)
    autograd.test_util.check_grads(pair, which, modes=["rev"], order=1)(*arrays)


PEERS: dict[str, Callable[[Case, list[Array]], None]] = {
    "torch gradcheck, slow": functools.partial(torch_gradcheck, fast=False),
    "torch gradcheck, fast": functools.partial(torch_gradcheck, fast=True),
    "jax check_grads": jax_check_grads,
    "autograd check_grads": hips_check_grads,
}
