"""JAX: one jitted step with donated weights and moments, scans for recurrent layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from benchmarks.adapters.base import Contender, Framework, Unsupported
from benchmarks.workloads import BETA1, BETA2, EPS, LEARNING_RATE, Arrays, Case, Workload

#: time steps in one turn of a scan's loop: the fastest of 1, 5, 20 on these workloads
UNROLL = {"rnn": 5, "lstm": 1}
Weights = dict[str, Any]


def linear(w: Weights, name: str, x: Any) -> Any:
    """x·Wᵀ + b."""
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def mlp(w: Weights, x: Any, layers: tuple[int, ...], **sizes: Any) -> Any:
    """Fully connected layers with relu between."""
    for k in range(len(layers) - 2):
        x = nn.relu(linear(w, f"fc{k}", x))
    return linear(w, f"fc{len(layers) - 2}", x)


def _projected(w: Weights, x: Any) -> Any:
    z = x @ w["rnn.weight_ih_l0"].T + (w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"])
    return z.swapaxes(0, 1)


def rnn(w: Weights, x: Any, hidden: int, **sizes: Any) -> Any:
    """A tanh layer over time, then a linear one on the last state."""
    recurrent = w["rnn.weight_hh_l0"].T

    def cell(h: Any, z: Any) -> tuple[Any, None]:
        return jnp.tanh(z + h @ recurrent), None

    h, _ = lax.scan(cell, jnp.zeros((len(x), hidden)), _projected(w, x), unroll=UNROLL["rnn"])
    return linear(w, "out", h)


def lstm(w: Weights, x: Any, hidden: int, **sizes: Any) -> Any:
    """PyTorch's gates, then a linear layer on the last state."""
    recurrent = w["rnn.weight_hh_l0"].T

    def cell(state: Any, z: Any) -> tuple[Any, None]:
        h, c = state
        i, f, g, o = jnp.split(z + h @ recurrent, 4, -1)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        return (nn.sigmoid(o) * jnp.tanh(c), c), None

    zero = jnp.zeros((len(x), hidden))
    (h, _), _ = lax.scan(cell, (zero, zero), _projected(w, x), unroll=UNROLL["lstm"])
    return linear(w, "out", h)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    """Along the last axis, eps 1e-5."""
    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


def transformer(w: Weights, x: Any, heads: int, blocks: int, **sizes: Any) -> Any:
    """Pre-norm blocks, the mean over time, a linear layer."""
    batch, time, width = x.shape
    seen = jnp.tril(jnp.ones((time, time), bool))
    for k in range(blocks):
        at = f"blocks.{k}"
        norms = [[w[f"{at}.norm{n}.{part}"] for part in ("weight", "bias")] for n in (1, 2)]
        z = linear(w, f"{at}.qkv", layer_norm(x, *norms[0])).reshape(batch, time, 3, heads, -1)
        q, key, v = (z[:, :, n] for n in range(3))
        scores = jnp.einsum("bthd,bshd->bhts", q, key) / math.sqrt(width // heads)
        a = nn.softmax(jnp.where(seen, scores, -jnp.inf))
        mixed = jnp.einsum("bhts,bshd->bthd", a, v).reshape(batch, time, width)
        x = x + linear(w, f"{at}.proj", mixed)
        up = nn.gelu(linear(w, f"{at}.up", layer_norm(x, *norms[1])), approximate=True)
        x = x + linear(w, f"{at}.down", up)
    return linear(w, "out", x.mean(1))


def cnn(w: Weights, x: Any, channels: tuple[int, ...], **sizes: Any) -> Any:
    """Convolutions 3×3, relu, max pooling; a linear layer. Channels last inside: it is faster."""
    x = x.transpose(0, 2, 3, 1)
    for k in range(len(channels) - 1):
        kernel = w[f"conv{k}.weight"].transpose(2, 3, 1, 0)
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = nn.relu(x + w[f"conv{k}.bias"])
        n, height, width, c = x.shape
        x = x.reshape(n, height // 2, 2, width // 2, 2, c).max((2, 4))
    return linear(w, "out", x.transpose(0, 3, 1, 2).reshape(len(x), -1))


def cross_entropy(z: Any, y: Any) -> Any:
    """The mean over the batch."""
    return -jnp.take_along_axis(nn.log_softmax(z), y[:, None], 1).mean()


def bce(z: Any, y: Any) -> Any:
    """Binary cross-entropy of logits."""
    return (jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z)))).mean()


MODELS: dict[str, Callable[..., Any]] = {
    "mlp": mlp, "rnn": rnn, "lstm": lstm, "transformer": transformer, "cnn": cnn,
}  # fmt: skip
LOSSES = {"cross_entropy": cross_entropy, "bce": bce}


def transcendental(x: Any) -> Any:
    """sin(x)·exp(-x²) + tanh(x)·log(1 + x²)."""
    square = x * x
    return jnp.sin(x) * jnp.exp(-square) + jnp.tanh(x) * jnp.log1p(square)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": partial(nn.gelu, approximate=True),
    "transcendental": transcendental,
    "arithmetic": lambda x, y, z: (x * y + z) * (x - y) / (1 + z * z),
    "softmax": nn.softmax,
    "layer_norm": layer_norm,
}


class Training(Contender):
    """One step, jitted whole, its state donated."""

    def __init__(self, w: Workload, case: Case) -> None:
        def loss_of(weights: Weights, x: Any, y: Any) -> Any:
            return LOSSES[w.loss](MODELS[w.model](weights, x, **w.sizes), y)

        def step(weights: Weights, m: Weights, v: Weights, count: Any, x: Any, y: Any) -> Any:
            loss, g = jax.value_and_grad(loss_of)(weights, x, y)
            count = count + 1
            m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
            v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
            one, two = 1 - BETA1**count, 1 - BETA2**count
            weights = jax.tree.map(
                lambda p, m, v: p - LEARNING_RATE * (m / one) / (jnp.sqrt(v / two) + EPS),
                weights, m, v,
            )  # fmt: skip
            return loss, (weights, m, v, count)

        self.step = jax.jit(step, donate_argnums=(0, 1, 2, 3))
        zeros = [{k: jnp.zeros(a.shape) for k, a in case.weights.items()} for _ in range(2)]
        start = {k: jnp.array(a) for k, a in case.weights.items()}
        self.state = (start, *zeros, jnp.zeros(()))
        self.x, self.y = jnp.asarray(case.x), jnp.asarray(case.y)

    def call(self) -> Any:
        loss, self.state = self.step(*self.state, self.x, self.y)
        return loss

    def wait(self, result: Any) -> None:
        jax.block_until_ready((result, self.state))

    def gradients(self) -> Arrays:
        """Adam's first moment after the first step is (1 - beta1) of the gradient."""
        return {k: np.asarray(m) / np.float32(1 - BETA1) for k, m in self.state[1].items()}

    def weights(self) -> Arrays:
        return {k: np.asarray(p) for k, p in self.state[0].items()}


class Function(Contender):
    """Value and pullback under one jit."""

    def __init__(self, w: Workload, case: Case) -> None:
        f = FUNCTIONS[w.model]
        self.names = list(case.weights)

        def both(given: Any, cotangent: Any) -> Any:
            y, pull = jax.vjp(f, *given)
            return y, pull(cotangent)

        compiled = jax.jit(both)
        given, cotangent = [jnp.array(a) for a in case.weights.values()], jnp.array(case.y)
        self.call = lambda: compiled(given, cotangent)  # type: ignore[method-assign]

    def wait(self, result: Any) -> None:
        self.result = jax.block_until_ready(result)

    def value(self, result: Any) -> Any:
        return np.asarray(result[0])

    def gradients(self) -> Arrays:
        return dict(zip(self.names, map(np.asarray, self.result[1]), strict=True))


class Operation(Contender):
    """One operation, dispatched."""

    def __init__(self, case: Case) -> None:
        x = jnp.array(case.weights["x"])
        self.call = lambda: x + x  # type: ignore[method-assign]

    def wait(self, result: Any) -> None:
        result.block_until_ready()


class Adapter(Framework):
    """JAX."""

    version = jax.__version__

    def contender(self, w: Workload, case: Case) -> Contender:
        if w.model == "add_tracked":
            raise Unsupported("has no tape")
        if w.kind == "operation":
            return Operation(case)
        return (Training if w.kind == "training" else Function)(w, case)
