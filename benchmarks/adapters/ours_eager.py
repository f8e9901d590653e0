"""tinygrad_ai, eager: modules and optimisers as a user writes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_ai as ta
from benchmarks.adapters.base import Contender, Framework
from benchmarks.workloads import LEARNING_RATE, Arrays, Case, Workload
from tinygrad_ai import nn

F = nn.functional


class Recurrent(nn.Module):
    """A recurrent layer and a linear one on its last output."""

    def __init__(self, kind: Any, width: int, hidden: int, classes: int, **sizes: Any) -> None:
        self.rnn = kind(width, hidden)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(x)[0][:, -1])


class Block(nn.Module):
    """Pre-norm: causal attention, then a GELU layer."""

    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        batch, time, width = x.shape
        z = self.qkv(self.norm1(x)).reshape(batch, time, 3, self.heads, width // self.heads)
        z = z.transpose(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(z[0], z[1], z[2], is_causal=True)
        x = x + self.proj(a.transpose(0, 2, 1, 3).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Blocks, the mean over time, a linear layer."""

    def __init__(self, width: int, heads: int, blocks: int, classes: int, **sizes: Any) -> None:
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.out = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        return self.out(self.blocks(x).mean(1))


def mlp(layers: tuple[int, ...], **sizes: Any) -> nn.Module:
    """Fully connected layers with relu between."""
    found: dict[str, nn.Module] = {}
    for k, (a, b) in enumerate(itertools.pairwise(layers)):
        found |= {f"fc{k}": nn.Linear(a, b), f"relu{k}": nn.ReLU()}
    found.popitem()
    return nn.Sequential(found)


def cnn(channels: tuple[int, ...], side: int, classes: int, **sizes: Any) -> nn.Module:
    """Convolutions 3×3, relu, max pooling; a linear layer."""
    found: dict[str, nn.Module] = {}
    for k, (a, b) in enumerate(itertools.pairwise(channels)):
        found[f"conv{k}"] = nn.Conv2d(a, b, 3, padding=1)
        found |= {f"relu{k}": nn.ReLU(), f"pool{k}": nn.MaxPool2d(2)}
        side //= 2
    found |= {"flatten": nn.Flatten(), "out": nn.Linear(channels[-1] * side * side, classes)}
    return nn.Sequential(found)


MODELS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "rnn": lambda **sizes: Recurrent(nn.RNN, **sizes),
    "lstm": lambda **sizes: Recurrent(nn.LSTM, **sizes),
    "transformer": Transformer,
}
LOSSES = {"cross_entropy": F.cross_entropy, "bce": F.binary_cross_entropy_with_logits}


def transcendental(x: Any) -> Any:
    """sin(x)·exp(-x²) + tanh(x)·log(1 + x²)."""
    square = x * x
    return ta.sin(x) * ta.exp(-square) + ta.tanh(x) * ta.log1p(square)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "transcendental": transcendental,
    "arithmetic": lambda x, y, z: (x * y + z) * (x - y) / (1 + z * z),
    "softmax": F.softmax,
    "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
    "add": lambda x: x + x,
    "add_tracked": lambda x: x + x,
}


class Training(Contender):
    """One step of a model; ``compiled`` makes of the whole step what is called."""

    def __init__(self, w: Workload, case: Case, compiled: Callable[[Any], Any]) -> None:
        model = self.model = MODELS[w.model](**w.sizes)
        model.load_state_dict(case.weights)
        adam = ta.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        loss_of = LOSSES[w.loss]

        def step(x: Any, y: Any) -> Any:
            adam.zero_grad()
            loss = loss_of(model(x), y)
            loss.backward()
            adam.step()
            return loss

        self.step = compiled(step)
        self.x, self.y = ta.Tensor(case.x), ta.Tensor(case.y)

    def call(self) -> Any:
        return self.step(self.x, self.y)

    def gradients(self) -> Arrays:
        return {k: np.asarray(p.grad) for k, p in self.model.named_parameters()}

    def weights(self) -> Arrays:
        return {k: np.asarray(p.detach()) for k, p in self.model.named_parameters()}

    def value(self, result: Any) -> Any:
        return np.asarray(result.detach())


class Function(Contender):
    """Value and gradients of a function; the value alone of an operation."""

    def __init__(self, w: Workload, case: Case, compiled: Callable[[Any], Any]) -> None:
        tracked = w.model != "add"
        self.inputs = {k: ta.Tensor(a, requires_grad=tracked) for k, a in case.weights.items()}
        given, f = list(self.inputs.values()), FUNCTIONS[w.model]
        self.step = compiled(lambda: f(*given))
        if w.kind == "function":
            cotangent = ta.Tensor(case.y)

            def both() -> Any:
                for x in given:
                    x.grad = None
                y = f(*given)
                y.backward(cotangent)
                return y

            self.step = compiled(both)
        self.call = self.step  # type: ignore[method-assign]

    def value(self, result: Any) -> Any:
        return np.asarray(result.detach())

    def gradients(self) -> Arrays:
        return {k: np.asarray(x.grad) for k, x in self.inputs.items() if x.grad is not None}


class Adapter(Framework):
    """tinygrad_ai."""

    version = ta.__version__

    def compiled(self, f: Any) -> Any:
        """What is called in the place of ``f``."""
        return f

    def contender(self, w: Workload, case: Case) -> Contender:
        made = Training if w.kind == "training" else Function
        return made(w, case, self.compiled)
