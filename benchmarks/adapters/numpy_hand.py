"""Plain NumPy, every gradient derived by hand; in float64 the reference of all others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.adapters.base import Contender, Framework, Unsupported
from benchmarks.workloads import BETA1, BETA2, EPS, LEARNING_RATE, Arrays, Case, Workload

#: a layer's output, and the pullback from its cotangent to its input's, which fills in gradients
Pulled = tuple[Any, Callable[[Any], Any]]


def linear(w: Arrays, g: Arrays, name: str, x: Any) -> Pulled:
    """x·Wᵀ + b."""
    weight = w[f"{name}.weight"]

    def pull(d: Any) -> Any:
        flat = d.reshape(-1, d.shape[-1])
        g[f"{name}.weight"] = flat.T @ x.reshape(-1, x.shape[-1])
        g[f"{name}.bias"] = flat.sum(0)
        return d @ weight

    return x @ weight.T + w[f"{name}.bias"], pull


def layer_norm(w: Arrays, g: Arrays, name: str, x: Any) -> Pulled:
    """Along the last axis, eps 1e-5."""
    gain = w[f"{name}weight"]
    centred = x - x.mean(-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    unit = centred * scale

    def pull(d: Any) -> Any:
        rows = tuple(range(d.ndim - 1))
        g[f"{name}weight"], g[f"{name}bias"] = (d * unit).sum(rows), d.sum(rows)
        d = d * gain
        along = (d * unit).mean(-1, keepdims=True)
        return scale * (d - d.mean(-1, keepdims=True) - unit * along)

    return unit * gain + w[f"{name}bias"], pull


def gelu(x: Any) -> Pulled:
    """½x(1 + tanh(√(2/π)(x + 0.044715x³)))."""
    c = math.sqrt(2 / math.pi)
    square = x * x
    t = np.tanh(c * x * (1 + 0.044715 * square))
    return 0.5 * x * (
        1 + t
    ), lambda d: d * (0.5 * (1 + t) + 0.5 * c * x * (1 - t * t) * (1 + 3 * 0.044715 * square))


def softmax(x: Any) -> Pulled:
    """Along the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, lambda d: y * (d - (d * y).sum(-1, keepdims=True))


def relu(x: Any) -> Pulled:
    """max(x, 0)."""
    return np.maximum(x, 0), lambda d: d * (x > 0)


def sigmoid(x: Any) -> Any:
    """1/(1 + exp(-x)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


# ---------------------------------------------------------------------------------------- losses


def cross_entropy(z: Any, y: Any) -> tuple[Any, Any]:
    """The mean over the batch, and its gradient."""
    rows = np.arange(len(y))
    z = z - z.max(-1, keepdims=True)
    e = np.exp(z)
    total = e.sum(-1, keepdims=True)
    d = e / total
    d[rows, y] -= 1
    return (np.log(total[:, 0]) - z[rows, y]).mean(), d / len(y)


def bce(z: Any, y: Any) -> tuple[Any, Any]:
    """Binary cross-entropy of logits, the mean over everything, and its gradient."""
    loss = np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))
    return loss.mean(), (sigmoid(z) - y) / z.size


# ---------------------------------------------------------------------------------------- models


def chain(x: Any, *layers: Callable[[Any], Pulled]) -> Pulled:
    """One after the other."""
    pulls = []
    for layer in layers:
        x, pull = layer(x)
        pulls.append(pull)

    def back(d: Any) -> Any:
        for pull in reversed(pulls):
            d = pull(d)
        return d

    return x, back


def mlp(w: Arrays, g: Arrays, x: Any, layers: tuple[int, ...], **sizes: Any) -> Pulled:
    """Fully connected layers with relu between."""
    steps: list[Callable[[Any], Pulled]] = []
    for k in range(len(layers) - 1):
        steps += [lambda x, k=k: linear(w, g, f"fc{k}", x), relu]
    return chain(x, *steps[:-1])


def rnn(w: Arrays, g: Arrays, x: Any, time: int, hidden: int, **sizes: Any) -> Pulled:
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), then a layer on the last h."""
    wi, wh = w["rnn.weight_ih_l0"], w["rnn.weight_hh_l0"]
    z = x @ wi.T + (w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"])
    hs = [np.zeros((len(x), hidden), x.dtype)]
    for t in range(time):
        hs.append(np.tanh(z[:, t] + hs[-1] @ wh.T))
    out, pull_out = linear(w, g, "out", hs[-1])

    def pull(d: Any) -> Any:
        d, dz = pull_out(d), np.empty_like(z)
        for t in reversed(range(time)):
            dz[:, t] = d * (1 - hs[t + 1] ** 2)
            d = dz[:, t] @ wh
        _recurrent_gradients(g, x, dz, hs)
        return d

    return out, pull


def lstm(w: Arrays, g: Arrays, x: Any, time: int, hidden: int, **sizes: Any) -> Pulled:
    """PyTorch's gates i, f, g, o, then a layer on the last h."""
    wi, wh = w["rnn.weight_ih_l0"], w["rnn.weight_hh_l0"]
    z = x @ wi.T + (w["rnn.bias_ih_l0"] + w["rnn.bias_hh_l0"])
    hs = [np.zeros((len(x), hidden), x.dtype)]
    c, kept = hs[0], []
    for t in range(time):
        a = z[:, t] + hs[-1] @ wh.T
        i, f, o = (sigmoid(a[:, k * hidden : (k + 1) * hidden]) for k in (0, 1, 3))
        u = np.tanh(a[:, 2 * hidden : 3 * hidden])
        before, c = c, f * c + i * u
        s = np.tanh(c)
        kept.append((i, f, u, o, before, s))
        hs.append(o * s)
    out, pull_out = linear(w, g, "out", hs[-1])

    def pull(d: Any) -> Any:
        d, dz, dc = pull_out(d), np.empty_like(z), 0.0
        for t in reversed(range(time)):
            i, f, u, o, before, s = kept[t]
            dc = dc + d * o * (1 - s * s)
            dz[:, t] = np.concatenate(
                [
                    dc * u * i * (1 - i),
                    dc * before * f * (1 - f),
                    dc * i * (1 - u * u),
                    d * s * o * (1 - o),
                ],
                -1,
            )
            d, dc = dz[:, t] @ wh, dc * f
        _recurrent_gradients(g, x, dz, hs)
        return d

    return out, pull


def _recurrent_gradients(g: Arrays, x: Any, dz: Any, hs: list[Any]) -> None:
    flat = dz.reshape(-1, dz.shape[-1])
    g["rnn.weight_ih_l0"] = flat.T @ x.reshape(-1, x.shape[-1])
    g["rnn.weight_hh_l0"] = flat.T @ np.stack(hs[:-1], 1).reshape(len(flat), -1)
    g["rnn.bias_ih_l0"] = g["rnn.bias_hh_l0"] = flat.sum(0)


def transformer(
    w: Arrays, g: Arrays, x: Any, time: int, width: int, heads: int, blocks: int, **sizes: Any
) -> Pulled:
    """Pre-norm blocks of causal attention and a GELU layer, the mean over time, a layer."""
    hidden = np.triu(np.ones((time, time), bool), 1)
    root = 1 / math.sqrt(width // heads)

    def attention(name: str, x: Any) -> Pulled:
        batch = len(x)
        z, pull_in = linear(w, g, f"{name}.qkv", x)
        q, k, v = z.reshape(batch, time, 3, heads, -1).transpose(2, 0, 3, 1, 4)
        scores = q @ k.swapaxes(-1, -2) * root
        scores[..., hidden] = -np.inf
        p, pull_p = softmax(scores)
        mixed = (p @ v).transpose(0, 2, 1, 3).reshape(batch, time, width)
        y, pull_out = linear(w, g, f"{name}.proj", mixed)

        def pull(d: Any) -> Any:
            d = pull_out(d).reshape(batch, time, heads, -1).transpose(0, 2, 1, 3)
            ds = pull_p(d @ v.swapaxes(-1, -2)) * root
            parts = np.stack([ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ d])
            return pull_in(parts.transpose(1, 3, 0, 2, 4).reshape(batch, time, 3 * width))

        return y, pull

    def beside(layers: Callable[[Any], Pulled]) -> Callable[[Any], Pulled]:
        def residual(x: Any) -> Pulled:
            y, pull = layers(x)
            return x + y, lambda d: d + pull(d)

        return residual

    def block(name: str) -> list[Callable[[Any], Pulled]]:
        norm1, norm2 = (
            lambda x, k=k: layer_norm(w, g, f"{name}.norm{k}.", x)  # type: ignore[misc]
            for k in (1, 2)
        )
        first = beside(lambda x: chain(x, norm1, lambda x: attention(name, x)))
        up, down = (lambda x, k=k: linear(w, g, f"{name}.{k}", x) for k in ("up", "down"))
        return [first, beside(lambda x: chain(x, norm2, up, gelu, down))]

    def mean(x: Any) -> Pulled:
        return x.mean(1), lambda d: np.broadcast_to(d[:, None] / x.dtype.type(time), x.shape)

    steps = [step for k in range(blocks) for step in block(f"blocks.{k}")]
    return chain(x, *steps, mean, lambda x: linear(w, g, "out", x))


def cnn(w: Arrays, g: Arrays, x: Any, channels: tuple[int, ...], **sizes: Any) -> Pulled:
    """Convolutions 3×3, relu, max pooling 2×2; a layer at the end. Pixels last in x."""
    steps: list[Callable[[Any], Pulled]] = []
    for k in range(len(channels) - 1):
        steps += [lambda x, k=k: convolution(w, g, f"conv{k}", x), relu, pool]

    def flat(x: Any) -> Pulled:
        return x.reshape(len(x), -1), lambda d: d.reshape(x.shape)

    return chain(x, *steps, flat, lambda x: linear(w, g, "out", x))


def convolution(w: Arrays, g: Arrays, name: str, x: Any) -> Pulled:
    """3×3 with a border of zeros, as a product with the matrix of all windows."""
    weight = w[f"{name}.weight"]
    outputs, inputs = weight.shape[:2]
    n, _, height, width = x.shape
    border = ((0, 0), (0, 0), (1, 1), (1, 1))
    windows = sliding_window_view(np.pad(x, border), (3, 3), (2, 3))  # n c h w 3 3
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, -1)
    y = columns @ weight.reshape(outputs, -1).T + w[f"{name}.bias"]

    def pull(d: Any) -> Any:
        flat = d.transpose(0, 2, 3, 1).reshape(-1, outputs)
        g[f"{name}.weight"] = (flat.T @ columns).reshape(weight.shape)
        g[f"{name}.bias"] = flat.sum(0)
        if name == "conv0":  # nobody asks for the images' gradient
            return None
        dc = (flat @ weight.reshape(outputs, -1)).reshape(n, height, width, inputs, 3, 3)
        padded = np.zeros((n, inputs, height + 2, width + 2), x.dtype)
        for i in range(3):
            for j in range(3):
                padded[:, :, i : i + height, j : j + width] += dc[..., i, j].transpose(0, 3, 1, 2)
        return padded[:, :, 1:-1, 1:-1]

    return y.reshape(n, height, width, outputs).transpose(0, 3, 1, 2), pull


def pool(x: Any) -> Pulled:
    """The largest of 2×2; equal ones share the gradient."""
    n, c, height, width = x.shape
    height, width = height // 2 * 2, width // 2 * 2
    tiles = x[:, :, :height, :width].reshape(n, c, height // 2, 2, width // 2, 2)
    y = tiles.max((3, 5))

    def pull(d: Any) -> Any:
        best = tiles == y[:, :, :, None, :, None]
        share = (d / best.sum((3, 5)))[:, :, :, None, :, None]
        found = np.zeros_like(x)
        found[:, :, :height, :width] = (best * share).astype(x.dtype).reshape(n, c, height, width)
        return found

    return y, pull


# ------------------------------------------------------------------------------------- functions


def transcendental(x: Any) -> Pulled:
    """sin(x)·exp(-x²) + tanh(x)·log(1 + x²)."""
    square = x * x
    e, t, q, s = np.exp(-square), np.tanh(x), np.log1p(square), np.sin(x)
    return (
        s * e + t * q,
        lambda d: d * (e * (np.cos(x) - 2 * x * s) + (1 - t * t) * q + t * 2 * x / (1 + square)),
    )


def arithmetic(x: Any, y: Any, z: Any) -> Pulled:
    """(x·y + z)·(x - y)/(1 + z²); the pullback gives three."""
    a, b, c = x * y + z, x - y, 1 / (1 + z * z)

    def pull(d: Any) -> Any:
        da, db = d * b * c, d * a * c
        return da * y + db, da * x - db, da - 2 * z * d * a * b * c * c

    return a * b * c, pull


MODELS: dict[str, Callable[..., Pulled]] = {
    "mlp": mlp, "rnn": rnn, "lstm": lstm, "transformer": transformer, "cnn": cnn,
}  # fmt: skip


class Hand(Contender):
    """Weights, gradients and moments as NumPy arrays of one dtype."""

    def __init__(self, w: Workload, case: Case, dtype: Any) -> None:
        self.w = w
        self.state = {name: np.array(a, dtype) for name, a in case.weights.items()}
        self.g: Arrays = {}
        self.moments = {k: (np.zeros_like(a), np.zeros_like(a)) for k, a in self.state.items()}
        self.count = 0
        cast = lambda a: a if a is None or a.dtype.kind != "f" else a.astype(dtype)  # noqa: E731
        self.x, self.y = cast(case.x), cast(case.y)
        if w.kind == "training":
            self.call = self._step  # type: ignore[method-assign]
        elif w.kind == "function":
            self.call = self._function  # type: ignore[method-assign]
        else:
            one = self.state["x"]
            self.call = lambda: one + one  # type: ignore[method-assign]

    def _step(self) -> Any:
        z, pull = MODELS[self.w.model](self.state, self.g, self.x, **self.w.sizes)
        loss, d = (bce if self.w.loss == "bce" else cross_entropy)(z, self.y)
        pull(d)
        self._adam()
        return loss

    def _adam(self) -> None:
        self.count += 1
        rate = LEARNING_RATE / (1 - BETA1**self.count)
        root = math.sqrt(1 - BETA2**self.count)
        for name, a in self.state.items():
            m, v = self.moments[name]
            g = self.g[name]
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            a -= rate * m / (np.sqrt(v) / root + EPS)

    def _function(self) -> Any:
        s = self.state
        if self.w.model == "arithmetic":
            y, pull = arithmetic(s["x"], s["y"], s["z"])
            self.g = dict(zip("xyz", pull(self.y), strict=True))
            return y
        if self.w.model == "layer_norm":
            y, pull = layer_norm(s, self.g, "", s["x"])
        else:
            single = {"gelu": gelu, "transcendental": transcendental, "softmax": softmax}
            y, pull = single[self.w.model](s["x"])
        self.g["x"] = pull(self.y)
        return y

    def gradients(self) -> Arrays:
        return dict(self.g)

    def weights(self) -> Arrays:
        return self.state if self.w.kind == "training" else {}


class Adapter(Framework):
    """NumPy."""

    version = np.__version__

    def __init__(self, dtype: Any = np.float32) -> None:
        self.dtype = dtype

    def contender(self, w: Workload, case: Case) -> Contender:
        if w.model == "add_tracked":
            raise Unsupported("records nothing")
        return Hand(w, case, self.dtype)
