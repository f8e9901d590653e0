"""torch, eager: fused Adam, gradients set to None, the library's own layers."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.adapters.base import Contender, Framework
from benchmarks.workloads import LEARNING_RATE, Arrays, Case, Workload


class Recurrent(nn.Module):
    """A recurrent layer and a linear one on its last output."""

    def __init__(self, kind: Any, width: int, hidden: int, classes: int, **sizes: Any) -> None:
        super().__init__()
        self.rnn = kind(width, hidden, batch_first=True)
        self.out = nn.Linear(hidden, classes)

    def forward(self, x: Any) -> Any:
        return self.out(self.rnn(x)[0][:, -1])


class Block(nn.Module):
    """Pre-norm: causal attention, then a GELU layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        batch, time, width = x.shape
        z = self.qkv(self.norm1(x)).view(batch, time, 3, self.heads, -1)
        q, k, v = z.permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(batch, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Transformer(nn.Module):
    """Blocks, the mean over time, a linear layer."""

    def __init__(self, width: int, heads: int, blocks: int, classes: int, **sizes: Any) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(blocks)))
        self.out = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        return self.out(self.blocks(x).mean(1))


def mlp(layers: tuple[int, ...], **sizes: Any) -> nn.Module:
    """Fully connected layers with relu between."""
    found: OrderedDict[str, nn.Module] = OrderedDict()
    for k, (a, b) in enumerate(itertools.pairwise(layers)):
        found |= {f"fc{k}": nn.Linear(a, b), f"relu{k}": nn.ReLU()}
    found.popitem()
    return nn.Sequential(found)


def cnn(channels: tuple[int, ...], side: int, classes: int, **sizes: Any) -> nn.Module:
    """Convolutions 3×3, relu, max pooling; a linear layer."""
    found: OrderedDict[str, nn.Module] = OrderedDict()
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
    return torch.sin(x) * torch.exp(-square) + torch.tanh(x) * torch.log1p(square)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "transcendental": transcendental,
    "arithmetic": lambda x, y, z: (x * y + z) * (x - y) / (1 + z * z),
    "softmax": lambda x: F.softmax(x, -1),
    "layer_norm": lambda x, weight, bias: F.layer_norm(x, weight.shape, weight, bias),
    "add": lambda x: x + x,
    "add_tracked": lambda x: x + x,
}


class Training(Contender):
    """One step of a model; ``compiled`` makes of model and loss what is called."""

    def __init__(self, w: Workload, case: Case, compiled: Callable[[Any], Any]) -> None:
        self.model = MODELS[w.model](**w.sizes)
        self.model.load_state_dict({k: torch.from_numpy(a) for k, a in case.weights.items()})
        self.x, self.y = torch.from_numpy(case.x), torch.from_numpy(case.y)
        self.adam = torch.optim.Adam(self.model.parameters(), lr=LEARNING_RATE, fused=True)
        loss = LOSSES[w.loss]
        self.loss = compiled(lambda x, y: loss(self.model(x), y))

    def call(self) -> Any:
        self.adam.zero_grad(set_to_none=True)
        loss = self.loss(self.x, self.y)
        loss.backward()
        self.adam.step()
        return loss

    def value(self, result: Any) -> Any:
        return result.detach().numpy()

    def gradients(self) -> Arrays:
        return {k: p.grad.numpy() for k, p in self.model.named_parameters()}

    def weights(self) -> Arrays:
        return {k: p.detach().numpy() for k, p in self.model.named_parameters()}


class Function(Contender):
    """Value and gradients of a function; the value alone of an operation."""

    def __init__(self, w: Workload, case: Case, compiled: Callable[[Any], Any]) -> None:
        tracked = w.model != "add"
        self.inputs = {
            k: torch.from_numpy(a.copy()).requires_grad_(tracked) for k, a in case.weights.items()
        }
        given, f = list(self.inputs.values()), compiled(FUNCTIONS[w.model])
        self.call = lambda: f(*given)  # type: ignore[method-assign]
        if w.kind == "function":
            cotangent = torch.from_numpy(case.y)

            def both() -> Any:
                for x in given:
                    x.grad = None
                y = f(*given)
                y.backward(cotangent)
                return y

            self.call = both  # type: ignore[method-assign]

    def value(self, result: Any) -> Any:
        return result.detach().numpy()

    def gradients(self) -> Arrays:
        return {k: x.grad.numpy() for k, x in self.inputs.items() if x.grad is not None}


class Adapter(Framework):
    """torch."""

    version = torch.__version__

    def compiled(self, f: Any) -> Any:
        """What is called in the place of ``f``."""
        return f

    def contender(self, w: Workload, case: Case) -> Contender:
        made = Training if w.kind == "training" else Function
        return made(w, case, self.compiled)
