"""The corner cases' functions under each framework's own names, and how it differentiates."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinygrad_ai import functional
from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.ops import (
    conv,
    einsum,
    elementwise,
    index,
    linalg,
    movement,
    norms,
    pool,
    reduce,
    scan,
    special,
    trigonometry,
)
from tinygrad_ai.tensor import Tensor


class Framework:
    """A framework that can run the corner cases: ``name``, ``functions`` (a namespace with the
    names the cases use), and :meth:`differentiate`. Subclass it and call
    :func:`register_framework` to run them on another one."""

    name: str
    functions: SimpleNamespace

    def differentiate(self, f: Callable[..., Any], case: Any) -> tuple[Any, list[Any]]:
        """The value of ``f`` at ``case.inputs`` as an array, and its gradients for the cotangent
        ``case.v`` (with ``case.order`` 2 the gradients of their sum; None where there is none)."""
        raise NotImplementedError


class Ours(Framework):
    """This library."""

    name = "tinygrad_ai"
    functions = SimpleNamespace(
        abs=elementwise.absolute,
        amax=reduce.amax,
        bce_logits=lambda a, b: functional.binary_cross_entropy_with_logits(a, b, reduction="none"),
        clip=elementwise.clip,
        concat=movement.concatenate,
        conv1d=conv.conv1d,
        cumprod=scan.cumprod,
        det=linalg.det,
        einsum=einsum.einsum,
        expm1=elementwise.expm1,
        floor=elementwise.floor,
        inv=linalg.inv,
        layer_norm=lambda a, eps: functional.layer_norm(a, a.shape, eps=eps),
        log=elementwise.log,
        log_softmax=functional.log_softmax,
        logaddexp=special.logaddexp,
        logsigmoid=special.logsigmoid,
        logsumexp=norms.logsumexp,
        maximum=elementwise.maximum,
        maxpool1d=pool.max_pool1d,
        mean=reduce.mean,
        norm=linalg.norm,
        pow=elementwise.power,
        prod=reduce.prod,
        roll=movement.roll,
        sigmoid=elementwise.sigmoid,
        sinc=trigonometry.sinc,
        sort=index.sort,
        sqrt=elementwise.sqrt,
        std=reduce.std,
        sum=reduce.sum,
        take=index.take,
        take_along_axis=index.take_along_axis,
        tanh=elementwise.tanh,
        var=reduce.var,
        where=elementwise.where,
        xlogy=special.xlogy,
    )

    def leaves(self, case: Any) -> list[Tensor]:
        """The inputs of ``case`` as leaves."""
        return [Tensor(x, requires_grad=True) for x in case.inputs]

    def differentiate(self, f: Callable[..., Any], case: Any) -> tuple[Any, list[Any]]:
        leaves = self.leaves(case)
        out = f(*leaves)
        out.backward(case.v, create_graph=case.order == 2)
        grads = [x.grad for x in leaves]
        if case.order == 2:
            for x in leaves:
                x.grad = None
            sum(g.sum() for g in grads).backward()
            grads = [x.grad for x in leaves]
        return out.numpy(), [None if g is None else g.numpy() for g in grads]


class Torch(Framework):
    """PyTorch on the CPU."""

    name = "torch"

    def __init__(self) -> None:
        import torch  # noqa: PLC0415  (an optional peer)

        t, nn = torch, torch.nn.functional
        self.torch = torch
        names = (
            "abs einsum expm1 floor log logaddexp maximum pow roll sigmoid sinc sqrt tanh where "
            "xlogy"
        )
        self.functions = SimpleNamespace(
            **{name: getattr(t, name) for name in names.split()},
            amax=lambda a, axis=(): t.amax(a, axis),
            bce_logits=lambda a, b: nn.binary_cross_entropy_with_logits(a, b, reduction="none"),
            clip=t.clamp,
            concat=t.cat,
            conv1d=nn.conv1d,
            cumprod=lambda a: t.cumprod(a, 0),
            det=t.linalg.det,
            inv=t.linalg.inv,
            layer_norm=lambda a, eps: nn.layer_norm(a, a.shape, eps=eps),
            log_softmax=lambda a: t.log_softmax(a, -1),
            logsigmoid=nn.logsigmoid,
            logsumexp=lambda a: t.logsumexp(a, -1),
            maxpool1d=nn.max_pool1d,
            mean=lambda a, axis=(): t.mean(a, axis),
            norm=t.linalg.vector_norm,
            prod=lambda a, axis=None: t.prod(a) if axis is None else t.prod(a, axis),
            sort=lambda a: t.sort(a).values,
            std=lambda a, ddof: t.std(a, correction=ddof),
            sum=t.sum,
            take=lambda a, indices: a[t.tensor(indices)],
            take_along_axis=lambda a, i, axis: t.take_along_dim(a, t.tensor(i), axis),
            var=lambda a, ddof: t.var(a, correction=ddof),
        )

    def differentiate(self, f: Callable[..., Any], case: Any) -> tuple[Any, list[Any]]:
        leaves = [self.torch.tensor(x, requires_grad=True) for x in case.inputs]
        out = f(*leaves)
        options = {"allow_unused": True, "create_graph": case.order == 2}
        grads = self.torch.autograd.grad(out, leaves, self.torch.tensor(case.v), **options)
        if case.order == 2:
            total = self.torch.stack([g.sum() for g in grads]).sum()
            grads = self.torch.autograd.grad(total, leaves)
        return out.detach().numpy(), [None if g is None else g.numpy() for g in grads]


class _Traced(Framework):
    """What JAX and HIPS autograd share: ``_vjp(f, inputs) -> value, pullback`` nests."""

    def _vjp(self, f: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
        raise NotImplementedError

    def differentiate(self, f: Callable[..., Any], case: Any) -> tuple[Any, list[Any]]:
        value, pullback = self._vjp(f, case.inputs)
        grads = pullback(case.v)
        if case.order == 2:
            total = lambda *x: sum(g.sum() for g in self._vjp(f, x)[1](case.v))  # noqa: E731
            grads = self._vjp(total, case.inputs)[1](np.ones((), case.dtype))
        return np.asarray(value), [np.asarray(g) for g in grads]


_NUMPY_NAMES = (
    "abs concatenate cumprod einsum expm1 floor log logaddexp maximum mean prod roll sinc sort "
    "sqrt std sum take tanh var where clip"
)


def _from_numpy(np_like: Any) -> dict[str, Any]:
    """The functions that are under NumPy's names in ``np_like``."""
    found = {n: getattr(np_like, n) for n in _NUMPY_NAMES.split() if hasattr(np_like, n)}
    return found | {
        "amax": np_like.max,
        "concat": np_like.concatenate,
        "det": np_like.linalg.det,
        "inv": np_like.linalg.inv,
        "layer_norm": lambda a, eps: (a - np_like.mean(a)) / np_like.sqrt(np_like.var(a) + eps),
        "norm": np_like.linalg.norm,
        "pow": np_like.power,
        "take": lambda a, i: a[np.array(i)],
    }


class Jax(_Traced):
    """JAX on the CPU, in double precision."""

    name = "jax"

    def __init__(self) -> None:
        import jax  # noqa: PLC0415  (an optional peer)

        jnp, nn, lax = jax.numpy, jax.nn, jax.lax
        self.jax = jax
        self.functions = SimpleNamespace(
            **_from_numpy(jnp)
            | {
                "bce_logits": lambda a, b: -b * nn.log_sigmoid(a) - (1 - b) * nn.log_sigmoid(-a),
                "conv1d": lambda a, b, stride, padding: lax.conv_general_dilated(
                    a, b, (stride,), [(padding, padding)]
                ),
                "log_softmax": nn.log_softmax,
                "logsigmoid": nn.log_sigmoid,
                "logsumexp": nn.logsumexp,
                "maxpool1d": lambda a, size, stride: lax.reduce_window(
                    a, -np.inf, lax.max, (1, 1, size), (1, 1, stride), "VALID"
                ),
                "sigmoid": nn.sigmoid,
                "take_along_axis": lambda a, i, k: jnp.take_along_axis(a, np.array(i), k),
                "xlogy": jax.scipy.special.xlogy,
            }
        )

    def _vjp(self, f: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
        return self.jax.vjp(f, *map(self.jax.numpy.asarray, inputs))

    def differentiate(self, f: Callable[..., Any], case: Any) -> tuple[Any, list[Any]]:
        before = self.jax.config.read("jax_enable_x64")
        self.jax.config.update("jax_enable_x64", True)
        try:
            return super().differentiate(f, case)
        finally:
            self.jax.config.update("jax_enable_x64", before)


class Autograd(_Traced):
    """HIPS autograd."""

    name = "autograd"

    def __init__(self) -> None:
        core, anp, special_functions = (
            importlib.import_module(f"autograd.{name}")
            for name in ("core", "numpy", "scipy.special")
        )
        self.core, self.builtins = core, importlib.import_module("autograd.builtins")
        self.functions = SimpleNamespace(
            **_from_numpy(anp)
            | {
                "logsumexp": special_functions.logsumexp,
                "sigmoid": special_functions.expit,
            }
        )

    def _vjp(self, f: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[Any, Any]:
        pullback, value = self.core.make_vjp(lambda xs: f(*xs), self.builtins.tuple(inputs))
        return value, pullback


_FRAMEWORKS: dict[str, Callable[[], Framework]] = {
    kind.name: kind for kind in (Ours, Torch, Jax, Autograd)
}
_made: dict[str, Framework] = {}


def register_framework(made: Framework) -> None:
    """Makes the corner cases run on ``made`` under its name."""
    _FRAMEWORKS[made.name] = lambda: made
    _made.pop(made.name, None)


def framework_names() -> list[str]:
    """The names of the frameworks known, installed or not."""
    return list(_FRAMEWORKS)


def framework(name: str) -> Framework:
    """The framework ``name``; ValueRangeError if it is unknown, ImportError if not installed."""
    if name not in _FRAMEWORKS:
        raise ValueRangeError(f"no framework {name!r}", f"   there are {', '.join(_FRAMEWORKS)}")
    if name not in _made:
        _made[name] = _FRAMEWORKS[name]()
    return _made[name]
