"""HIPS autograd: NumPy code differentiated on a tape; Adam by hand, in place."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

import autograd
import autograd.numpy as np
from autograd.core import VJPNode
from autograd.tracer import new_box, trace_stack

from benchmarks.adapters.base import Contender, Framework
from benchmarks.workloads import BETA1, BETA2, EPS, LEARNING_RATE, Arrays, Case, Workload

Weights = dict[str, Any]


def linear(w: Weights, name: str, x: Any) -> Any:
    """x·Wᵀ + b."""
    return np.dot(x, w[f"{name}.weight"].T) + w[f"{name}.bias"]


def relu(x: Any) -> Any:
    """max(x, 0)."""
    return np.maximum(x, 0)


def mlp(w: Weights, x: Any, layers: tuple[int, ...], **sizes: Any) -> Any:
    """Fully connected layers with relu between."""
    for k in range(len(layers) - 2):
        x = relu(linear(w, f"fc{k}", x))
    return linear(w, f"fc{len(layers) - 2}", x)


def _projected(w: Weights, x: Any) -> Any:
    return np.dot(x, w["rnn.weight_ih_l0"].T) + (w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"])


def rnn(w: Weights, x: Any, time: int, hidden: int, **sizes: Any) -> Any:
    """A tanh layer over time, then a linear one on the last state."""
    z, h = _projected(w, x), np.zeros((len(x), hidden), x.dtype)
    recurrent = w["rnn.weight_hh_l0"].T
    for t in range(time):
        h = np.tanh(z[:, t] + np.dot(h, recurrent))
    return linear(w, "out", h)


def sigmoid(x: Any) -> Any:
    """1/(1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def lstm(w: Weights, x: Any, time: int, hidden: int, **sizes: Any) -> Any:
    """PyTorch's gates, then a linear layer on the last state."""
    z = _projected(w, x)
    h = c = np.zeros((len(x), hidden), x.dtype)
    recurrent = w["rnn.weight_hh_l0"].T
    for t in range(time):
        i, f, g, o = np.split(z[:, t] + np.dot(h, recurrent), 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
    return linear(w, "out", h)


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    """Along the last axis, eps 1e-5."""
    centred = x - np.mean(x, axis=-1, keepdims=True)
    scale = np.sqrt(np.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
    return centred / scale * weight + bias


def softmax(x: Any) -> Any:
    """Along the last axis."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def gelu(x: Any) -> Any:
    """½x(1 + tanh(√(2/π)(x + 0.044715x³)))."""
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def transformer(w: Weights, x: Any, heads: int, blocks: int, **sizes: Any) -> Any:
    """Pre-norm blocks, the mean over time, a linear layer."""
    batch, time, width = x.shape
    hidden = np.triu(np.full((time, time), -np.inf, x.dtype), 1)
    for k in range(blocks):
        at = f"blocks.{k}"
        norms = [[w[f"{at}.norm{n}.{part}"] for part in ("weight", "bias")] for n in (1, 2)]
        z = linear(w, f"{at}.qkv", layer_norm(x, *norms[0]))
        z = np.transpose(np.reshape(z, (batch, time, 3, heads, -1)), (2, 0, 3, 1, 4))
        scores = np.matmul(z[0], np.swapaxes(z[1], -1, -2)) * (1 / math.sqrt(width // heads))
        a = np.matmul(softmax(scores + hidden), z[2])
        mixed = np.reshape(np.transpose(a, (0, 2, 1, 3)), (batch, time, width))
        x = x + linear(w, f"{at}.proj", mixed)
        up = gelu(linear(w, f"{at}.up", layer_norm(x, *norms[1])))
        x = x + linear(w, f"{at}.down", up)
    return linear(w, "out", np.mean(x, axis=1))


def cnn(w: Weights, x: Any, channels: tuple[int, ...], **sizes: Any) -> Any:
    """Convolutions as products with nine shifted images, relu, max pooling; a linear layer."""
    x = np.transpose(x, (0, 2, 3, 1))
    for k in range(len(channels) - 1):
        n, height, width, _ = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), "constant")
        shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        kernel = np.transpose(w[f"conv{k}.weight"], (2, 3, 1, 0))
        kernel = np.reshape(kernel, (-1, channels[k + 1]))
        x = relu(np.dot(np.concatenate(shifted, axis=-1), kernel) + w[f"conv{k}.bias"])
        tiles = np.reshape(x, (n, height // 2, 2, width // 2, 2, -1))
        x = np.max(np.max(tiles, axis=4), axis=2)
    return linear(w, "out", np.reshape(np.transpose(x, (0, 3, 1, 2)), (len(x), -1)))


def cross_entropy(z: Any, y: Any) -> Any:
    """The mean over the batch."""
    z = z - np.max(z, axis=-1, keepdims=True)
    chosen = z[np.arange(len(y)), y]
    return np.mean(np.log(np.sum(np.exp(z), axis=-1)) - chosen)


def bce(z: Any, y: Any) -> Any:
    """Binary cross-entropy of logits."""
    return np.mean(np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))))


def transcendental(x: Any) -> Any:
    """sin(x)·exp(-x²) + tanh(x)·log(1 + x²)."""
    square = x * x
    return np.sin(x) * np.exp(-square) + np.tanh(x) * np.log1p(square)


MODELS: dict[str, Callable[..., Any]] = {
    "mlp": mlp, "rnn": rnn, "lstm": lstm, "transformer": transformer, "cnn": cnn,
}  # fmt: skip
LOSSES = {"cross_entropy": cross_entropy, "bce": bce}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "transcendental": transcendental,
    "arithmetic": lambda x, y, z: (x * y + z) * (x - y) / (1 + z * z),
    "softmax": softmax,
    "layer_norm": layer_norm,
}


class Training(Contender):
    """value_and_grad, then Adam on the arrays."""

    def __init__(self, w: Workload, case: Case) -> None:
        self.state = {k: a.copy() for k, a in case.weights.items()}
        self.moments = {k: (np.zeros_like(a), np.zeros_like(a)) for k, a in self.state.items()}
        self.count, self.found = 0, {}
        model, loss = MODELS[w.model], LOSSES[w.loss]
        both = autograd.value_and_grad(lambda s: loss(model(s, case.x, **w.sizes), case.y))
        self.both = lambda: both(self.state)

    def call(self) -> Any:
        loss, self.found = self.both()
        self.count += 1
        rate = LEARNING_RATE / (1 - BETA1**self.count)
        root = math.sqrt(1 - BETA2**self.count)
        for name, a in self.state.items():
            (m, v), g = self.moments[name], self.found[name]
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            a -= rate * m / (np.sqrt(v) / root + EPS)
        return loss

    def gradients(self) -> Arrays:
        return dict(self.found)

    def weights(self) -> Arrays:
        return self.state


class Function(Contender):
    """make_vjp, and the pullback."""

    def __init__(self, w: Workload, case: Case) -> None:
        f, names = FUNCTIONS[w.model], list(case.weights)
        self.given, self.y = tuple(case.weights.values()), case.y
        self.names, self.found = names, ()
        self.vjp = autograd.make_vjp(lambda given: f(*given))

    def call(self) -> Any:
        pull, y = self.vjp(self.given)
        self.found = pull(self.y)
        return y

    def gradients(self) -> Arrays:
        return dict(zip(self.names, self.found, strict=True))


class Operation(Contender):
    """One operation, on an array or on a box of the tape."""

    def __init__(self, case: Case, tracked: bool) -> None:
        x = case.weights["x"]
        if tracked:
            with trace_stack.new_trace() as trace:
                x = new_box(x, trace, VJPNode.new_root())
        self.call = lambda: np.add(x, x)  # type: ignore[method-assign]

    def value(self, result: Any) -> Any:
        return getattr(result, "_value", result)


class Adapter(Framework):
    """HIPS autograd."""

    version = importlib.metadata.version("autograd")

    def contender(self, w: Workload, case: Case) -> Contender:
        if w.kind == "operation":
            return Operation(case, w.model == "add_tracked")
        return (Training if w.kind == "training" else Function)(w, case)
