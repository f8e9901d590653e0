"""What is timed, in words of no framework: sizes, weights and data from a seeded NumPy generator.

A *training* workload is one step: forward, loss, backward, Adam. A *function* is its value and
its gradients with respect to all its weights under a given cotangent; an *operation* is the value
alone. Weights have PyTorch's names and layouts: (out, in), convolutions (out, in, height, width),
sequences (batch, time, features), images (batch, channels, height, width).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray[Any, Any]]
#: of every optimiser; betas and eps are the defaults of all frameworks
LEARNING_RATE, BETA1, BETA2, EPS = 1e-3, 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Case:
    """Float32 ``weights``; the input ``x``; ``y``: labels, targets or the cotangent."""

    weights: Arrays
    x: np.ndarray[Any, Any] | None
    y: np.ndarray[Any, Any] | None


@dataclass(frozen=True)
class Workload:
    """``model`` names the computation that every adapter implements, ``sizes`` its parameters."""

    name: str
    title: str
    kind: str  #: training, function or operation
    model: str
    sizes: Mapping[str, Any]
    loss: str = "cross_entropy"  #: or bce (with logits)

    def case(self, seed: int = 0) -> Case:
        """The same arrays for everybody: uniform weights in ±1/√(inputs), normal data."""
        rng = np.random.default_rng(seed)
        if self.kind != "training":
            return self._function(rng)
        shapes = SHAPES[self.model](**self.sizes)
        weights = {name: start(rng, name, shape) for name, shape in shapes.items()}
        x = rng.standard_normal(inputs(self), np.float32)
        if self.loss == "bce":
            x = rng.random(inputs(self), np.float32)
            return Case(weights, x, x)
        return Case(weights, x, rng.integers(0, self.classes, len(x)))

    def _function(self, rng: np.random.Generator) -> Case:
        shape = self.sizes["shape"]
        names = {"arithmetic": "xyz"}.get(self.model, "x")
        weights = {name: rng.standard_normal(shape, np.float32) for name in names}
        if self.model == "layer_norm":
            weights |= {k: rng.standard_normal(shape[-1:], np.float32) for k in ("weight", "bias")}
        y = rng.standard_normal(shape, np.float32) if self.kind == "function" else None
        return Case(weights, None, y)

    @property
    def classes(self) -> int:
        """The number of outputs that a cross-entropy chooses from."""
        return self.sizes["layers"][-1] if self.model == "mlp" else self.sizes["classes"]

    def sized(self, **sizes: Any) -> Workload:
        """The same with other sizes."""
        return replace(self, sizes={**self.sizes, **sizes})


def inputs(w: Workload) -> tuple[int, ...]:
    """The shape of a training workload's x."""
    s = w.sizes
    if w.model == "mlp":
        return s["batch"], s["layers"][0]
    if w.model == "cnn":
        return s["batch"], s["channels"][0], s["side"], s["side"]
    return s["batch"], s["time"], s["width"]


def start(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Norms near the identity, everything else uniform in ±1/√(inputs)."""
    if "norm" in name:
        centre = float(name.endswith("weight"))
        return (centre + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    bound = 1 / math.sqrt(math.prod(shape[1:]) or 1)
    return rng.uniform(-bound, bound, shape).astype(np.float32)


# ------------------------------------------------------------------------- the shapes of weights

Shapes = dict[str, tuple[int, ...]]


def linear(name: str, inputs: int, outputs: int) -> Shapes:
    """A fully connected layer."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _mlp(layers: tuple[int, ...], batch: int) -> Shapes:
    shapes: Shapes = {}
    for k, (a, b) in enumerate(itertools.pairwise(layers)):
        shapes |= linear(f"fc{k}", a, b)
    return shapes


def _recurrent(gates: int, width: int, hidden: int, classes: int) -> Shapes:
    rows = gates * hidden
    return {
        "rnn.weight_ih_l0": (rows, width),
        "rnn.weight_hh_l0": (rows, hidden),
        "rnn.bias_ih_l0": (rows,),
        "rnn.bias_hh_l0": (rows,),
        **linear("out", hidden, classes),
    }


def _transformer(width: int, blocks: int, classes: int, **rest: Any) -> Shapes:
    shapes: Shapes = {}
    for k in range(blocks):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{k}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for name, a, b in (("qkv", 1, 3), ("proj", 1, 1), ("up", 1, 4), ("down", 4, 1)):
            shapes |= linear(f"blocks.{k}.{name}", a * width, b * width)
    return shapes | linear("out", width, classes)


def _cnn(channels: tuple[int, ...], side: int, classes: int, **rest: Any) -> Shapes:
    shapes: Shapes = {}
    for k, (a, b) in enumerate(itertools.pairwise(channels)):
        shapes |= {f"conv{k}.weight": (b, a, 3, 3), f"conv{k}.bias": (b,)}
        side //= 2
    return shapes | linear("out", channels[-1] * side * side, classes)


SHAPES: dict[str, Any] = {
    "mlp": _mlp,
    "rnn": lambda width, hidden, classes, **rest: _recurrent(1, width, hidden, classes),
    "lstm": lambda width, hidden, classes, **rest: _recurrent(4, width, hidden, classes),
    "transformer": _transformer,
    "cnn": _cnn,
}

# ------------------------------------------------------------------------------------ the choice

SEQUENCE = {"batch": 128, "time": 100, "width": 64, "hidden": 64, "classes": 10}
ATTENTION = {"batch": 32, "time": 64, "width": 128, "heads": 4, "blocks": 2, "classes": 10}
IMAGES = {"batch": 64, "channels": (1, 16, 32), "side": 28, "classes": 10}
MILLION = {"shape": (1 << 20,)}
ROWS = {"shape": (4096, 256)}
ONE = {"shape": (1,)}

WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        Workload("mlp", "MLP 784-128-10, batch 128", "training", "mlp",
                 {"layers": (784, 128, 10), "batch": 128}),
        Workload("mlp-small", "MLP 784-64-64-10, batch 32", "training", "mlp",
                 {"layers": (784, 64, 64, 10), "batch": 32}),
        Workload("autoencoder", "autoencoder 784-256-784, batch 256", "training", "mlp",
                 {"layers": (784, 256, 784), "batch": 256}, "bce"),
        Workload("rnn", "tanh RNN, T=100, D=H=64, batch 128", "training", "rnn", SEQUENCE),
        Workload("lstm", "LSTM, T=100, D=H=64, batch 128", "training", "lstm", SEQUENCE),
        Workload("transformer", "Transformer, 2 layers, D=128, 4 heads, T=64, batch 32",
                 "training", "transformer", ATTENTION),
        Workload("cnn", "CNN 16-32, 3×3, 28×28, batch 64", "training", "cnn", IMAGES),
        Workload("gelu", "tanh-GELU, forward + backward, 1M", "function", "gelu", MILLION),
        Workload("transcendental", "sin(x)·exp(-x²) + tanh(x)·log(1+x²), forward + backward, 1M",
                 "function", "transcendental", MILLION),
        Workload("arithmetic", "(x·y+z)·(x-y)/(1+z²), forward + backward, 1M", "function",
                 "arithmetic", MILLION),
        Workload("softmax", "softmax of 4096×256, forward + backward", "function", "softmax", ROWS),
        Workload("layer-norm", "layer norm of 4096×256, forward + backward", "function",
                 "layer_norm", ROWS),
        Workload("add", "x + x on one element", "operation", "add", ONE),
        Workload("add-tracked", "x + x on one element, recorded for backward", "operation",
                 "add_tracked", ONE),
    )
}  # fmt: skip


def tiny() -> Iterator[Workload]:
    """Every workload at sizes at which all frameworks answer at once, for tests."""
    small: dict[str, Mapping[str, Any]] = {
        "mlp": {"layers": (7, 5, 4), "batch": 3},
        "rnn": {"batch": 3, "time": 4, "width": 5, "hidden": 6, "classes": 3},
        "transformer": {
            "batch": 2, "time": 5, "width": 8, "heads": 2, "blocks": 2, "classes": 3,
        },
        "cnn": {"batch": 2, "channels": (1, 3, 4), "side": 8, "classes": 3},
    }  # fmt: skip
    small["lstm"] = small["rnn"]
    for w in WORKLOADS.values():
        sizes = small.get(
            w.model, {"shape": (3, 5) if len(w.sizes.get("shape", ())) == 2 else (7,)}
        )
        if w.loss == "bce":
            sizes = {"layers": (7, 5, 7), "batch": 3}
        yield w.sized(**sizes) if w.kind != "operation" else w
