"""tinygrad on its CPU device: TinyJit around the whole step (its second call captures)."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from tinygrad import Context, Device, Tensor, TinyJit
from tinygrad.nn.optim import Adam

from benchmarks.adapters.base import Contender, Framework, Unsupported
from benchmarks.workloads import BETA1, LEARNING_RATE, Arrays, Case, Workload

Weights = dict[str, Any]


def linear(w: Weights, name: str, x: Any) -> Any:
    """x·Wᵀ + b, stored, and its cotangent too.

    Fused into the products around it, either is computed again for every element that needs it: an
    autoencoder's step took a hundred times as long.
    """
    z = x.linear(w[f"{name}.weight"].T, w[f"{name}.bias"])
    return z.contiguous().contiguous_backward()


def mlp(w: Weights, x: Any, layers: tuple[int, ...], **sizes: Any) -> Any:
    """Fully connected layers with relu between."""
    for k in range(len(layers) - 2):
        x = linear(w, f"fc{k}", x).relu()
    return linear(w, f"fc{len(layers) - 2}", x)


def _projected(w: Weights, x: Any) -> Any:
    return x.linear(w["rnn.weight_ih_l0"].T, w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"])


def rnn(w: Weights, x: Any, time: int, hidden: int, **sizes: Any) -> Any:
    """A tanh layer over time, then a linear one on the last state."""
    z, h = _projected(w, x).contiguous(), Tensor.zeros(x.shape[0], hidden)
    for t in range(time):
        h = (z[:, t] + h @ w["rnn.weight_hh_l0"].T).tanh().contiguous()
    return linear(w, "out", h)


def lstm(w: Weights, x: Any, time: int, hidden: int, **sizes: Any) -> Any:
    """PyTorch's gates, then a linear layer on the last state."""
    z, h = _projected(w, x).contiguous(), Tensor.zeros(x.shape[0], hidden)
    c = h
    for t in range(time):
        i, f, g, o = (z[:, t] + h @ w["rnn.weight_hh_l0"].T).chunk(4, dim=-1)
        c = (f.sigmoid() * c + i.sigmoid() * g.tanh()).contiguous()
        h = (o.sigmoid() * c.tanh()).contiguous()
    return linear(w, "out", h)


def transformer(w: Weights, x: Any, heads: int, blocks: int, **sizes: Any) -> Any:
    """Pre-norm blocks, the mean over time, a linear layer."""
    batch, time, width = x.shape
    for k in range(blocks):
        at = f"blocks.{k}"
        norms = [[w[f"{at}.norm{n}.{part}"] for part in ("weight", "bias")] for n in (1, 2)]
        z = linear(w, f"{at}.qkv", x.layernorm() * norms[0][0] + norms[0][1])
        q, key, v = z.reshape(batch, time, 3, heads, width // heads).permute(2, 0, 3, 1, 4).chunk(3)
        a = q[0].scaled_dot_product_attention(key[0], v[0], is_causal=True)
        x = x + linear(w, f"{at}.proj", a.transpose(1, 2).reshape(batch, time, width))
        up = linear(w, f"{at}.up", x.layernorm() * norms[1][0] + norms[1][1]).gelu()
        x = x + linear(w, f"{at}.down", up)
    return linear(w, "out", x.mean(1))


def cnn(w: Weights, x: Any, channels: tuple[int, ...], **sizes: Any) -> Any:
    """Convolutions 3×3, relu, max pooling; a linear layer."""
    for k in range(len(channels) - 1):
        x = x.conv2d(w[f"conv{k}.weight"], w[f"conv{k}.bias"], padding=1).relu().max_pool2d(2)
    return linear(w, "out", x.flatten(1))


MODELS: dict[str, Callable[..., Any]] = {
    "mlp": mlp, "rnn": rnn, "lstm": lstm, "transformer": transformer, "cnn": cnn,
}  # fmt: skip
LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "cross_entropy": lambda z, y: z.sparse_categorical_crossentropy(y),
    "bce": lambda z, y: z.binary_crossentropy_logits(y),
}
C = math.sqrt(2 / math.pi)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": lambda x: x.gelu(),
    "transcendental": lambda x: x.sin() * (-x * x).exp() + x.tanh() * (1 + x * x).log(),
    "arithmetic": lambda x, y, z: (x * y + z) * (x - y) / (1 + z * z),
    "softmax": lambda x: x.softmax(-1),
    "layer_norm": lambda x, weight, bias: x.layernorm() * weight + bias,
}


class Jitted(Contender):
    """What was realised is waited for on the device."""

    def wait(self, result: Any) -> None:
        Device[Device.DEFAULT].synchronize()

    def value(self, result: Any) -> Any:
        return result.numpy()


class Training(Jitted):
    """One step under TinyJit."""

    def __init__(self, w: Workload, case: Case) -> None:
        self.state = {k: Tensor(a).realize() for k, a in case.weights.items()}
        x, y = Tensor(case.x).realize(), Tensor(case.y).realize()
        adam = self.adam = Adam(list(self.state.values()), lr=LEARNING_RATE)
        model, loss_of = MODELS[w.model], LOSSES[w.loss]

        @TinyJit
        def step() -> Any:
            adam.zero_grad()
            loss = loss_of(model(self.state, x, **w.sizes), y).backward()
            return loss.realize(*adam.schedule_step())

        self.call = Context(TRAINING=1)(step)

    def gradients(self) -> Arrays:
        """Adam's first moment after the first step is (1 - beta1) of the gradient."""
        pairs = zip(self.state, self.adam.m, strict=True)
        return {k: m.numpy() / np.float32(1 - BETA1) for k, m in pairs}

    def weights(self) -> Arrays:
        return {k: p.numpy() for k, p in self.state.items()}


class Function(Jitted):
    """Value and gradients under TinyJit."""

    def __init__(self, w: Workload, case: Case) -> None:
        given = {k: Tensor(a).realize() for k, a in case.weights.items()}
        cotangent, f = Tensor(case.y).realize(), FUNCTIONS[w.model]
        self.names = list(given)

        @TinyJit
        def both() -> Any:
            y = f(*given.values())
            found = y.gradient(*given.values(), gradient=cotangent)
            return y.realize(*found), *found

        self.call = both

    def wait(self, result: Any) -> None:
        super().wait(result)
        self.found = result[1:]

    def value(self, result: Any) -> Any:
        return result[0].numpy()

    def gradients(self) -> Arrays:
        return {k: g.numpy() for k, g in zip(self.names, self.found, strict=True)}


class Operation(Jitted):
    """One operation, scheduled, compiled (once) and run."""

    def __init__(self, case: Case) -> None:
        x = Tensor(case.weights["x"]).realize()
        self.call = lambda: (x + x).realize()


class Adapter(Framework):
    """tinygrad."""

    version = importlib.metadata.version("tinygrad")

    def contender(self, w: Workload, case: Case) -> Contender:
        if w.model == "add_tracked":
            raise Unsupported("tracks everything: see the untracked line")
        if w.kind == "operation":
            return Operation(case)
        return (Training if w.kind == "training" else Function)(w, case)
