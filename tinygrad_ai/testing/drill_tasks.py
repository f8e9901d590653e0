"""The drills: functions in plain NumPy, their VJP rules, and the slips that learners make.

The source of these functions is what a learner sees, so it is written to be read. A slip is a rule
that is wrong in a common way; who writes one is told its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Task:
    """One function to differentiate. ``shapes`` names the axes of every input and of the output;
    ``sizes`` are the sizes to try, smallest first, an int for each letter. ``integer`` gives the
    largest value (a letter) of an input of whole numbers, which has no gradient."""

    forward: Callable[..., Array]
    rule: Callable[..., Any]
    level: int
    shapes: str
    sizes: tuple[dict[str, int], ...]
    hint: str
    slips: tuple[tuple[Callable[..., Any], str], ...] = ()
    note: str = ""
    integer: str = ""
    positive: bool = False
    special: tuple[Sequence[Any], ...] = ()


VECTORS = ({"n": 1}, {"n": 2}, {"n": 3})
MATRICES = (
    {"n": 1, "m": 1},
    {"n": 1, "m": 2},
    {"n": 2, "m": 1},
    {"n": 2, "m": 3},
    {"n": 3, "m": 2},
)


def add(a: Array, b: Array) -> Array:
    return a + b


def add_vjp(g: Array, y: Array, a: Array, b: Array) -> Any:
    return g, g


def multiply(a: Array, b: Array) -> Array:
    return a * b


def multiply_vjp(g: Array, y: Array, a: Array, b: Array) -> Any:
    return g * b, (g * a).sum(axis=0)


def exp(x: Array) -> Array:
    return np.exp(x)


def exp_vjp(g: Array, y: Array, x: Array) -> Any:
    return g * y


def log(x: Array) -> Array:
    return np.log(x)


def log_vjp(g: Array, y: Array, x: Array) -> Any:
    return g / x


def tanh(x: Array) -> Array:
    return np.tanh(x)


def tanh_vjp(g: Array, y: Array, x: Array) -> Any:
    return g * (1 - y**2)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def sigmoid_vjp(g: Array, y: Array, x: Array) -> Any:
    return g * y * (1 - y)


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def relu_vjp(g: Array, y: Array, x: Array) -> Any:
    return g * (x > 0)


def sum_(x: Array) -> Array:
    return x.sum(axis=0)


def sum_vjp(g: Array, y: Array, x: Array) -> Any:
    return np.broadcast_to(g, x.shape)


def mean(x: Array) -> Array:
    return x.mean(axis=1)


def mean_vjp(g: Array, y: Array, x: Array) -> Any:
    return np.repeat(g[:, None], x.shape[1], axis=1) / x.shape[1]


def max_(x: Array) -> Array:
    return x.max(axis=1)


def max_vjp(g: Array, y: Array, x: Array) -> Any:
    top = x == y[:, None]
    return g[:, None] * top / top.sum(axis=1, keepdims=True)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_vjp(g: Array, y: Array, x: Array) -> Any:
    return y * (g - (g * y).sum(axis=1, keepdims=True))


def log_softmax(x: Array) -> Array:
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def log_softmax_vjp(g: Array, y: Array, x: Array) -> Any:
    return g - np.exp(y) * g.sum(axis=1, keepdims=True)


def cross_entropy(x: Array, labels: Array) -> Array:
    x = x - x.max(axis=1, keepdims=True)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(x)), labels].mean()


def cross_entropy_vjp(g: Array, y: Array, x: Array, labels: Array) -> Any:
    p = softmax(x)
    p[np.arange(len(x)), labels] -= 1
    return g * p / len(x)


def matmul(a: Array, b: Array) -> Array:
    return a @ b


def matmul_vjp(g: Array, y: Array, a: Array, b: Array) -> Any:
    return g @ b.T, a.T @ g


def linear(x: Array, weight: Array, bias: Array) -> Array:
    return x @ weight.T + bias


def linear_vjp(g: Array, y: Array, x: Array, weight: Array, bias: Array) -> Any:
    return g @ weight, g.T @ x, g.sum(axis=0)


def layer_norm(x: Array) -> Array:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)


def layer_norm_vjp(g: Array, y: Array, x: Array) -> Any:
    scale = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    along = (g * y).mean(axis=1, keepdims=True)
    return scale * (g - g.mean(axis=1, keepdims=True) - y * along)


def attention(q: Array, k: Array, v: Array) -> Array:
    return softmax(q @ k.T / np.sqrt(q.shape[1])) @ v


def attention_vjp(g: Array, y: Array, q: Array, k: Array, v: Array) -> Any:
    root = np.sqrt(q.shape[1])
    p = softmax(q @ k.T / root)
    scores = softmax_vjp(g @ v.T, p, p) / root
    return scores @ k, scores.T @ q, p.T @ g


def conv1d(x: Array, weight: Array) -> Array:
    return np.lib.stride_tricks.sliding_window_view(x, len(weight)) @ weight


def conv1d_vjp(g: Array, y: Array, x: Array, weight: Array) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(x, len(weight))
    return np.convolve(g, weight), windows.T @ g


def embedding(weight: Array, ids: Array) -> Array:
    return weight[ids]


def embedding_vjp(g: Array, y: Array, weight: Array, ids: Array) -> Any:
    total = np.zeros_like(weight)
    np.add.at(total, ids, g)
    return total


def _overwritten(g: Array, y: Array, weight: Array, ids: Array) -> Array:
    total = np.zeros_like(weight)
    total[ids] = g
    return total


def _all_top(g: Array, y: Array, x: Array) -> Array:
    return g[:, None] * (x == y[:, None])


def _first_top(g: Array, y: Array, x: Array) -> Array:
    return g[:, None] * (np.arange(x.shape[1]) == x.argmax(axis=1)[:, None])


def _unscaled(g: Array, y: Array, q: Array, k: Array, v: Array) -> Any:
    dq, dk, dv = attention_vjp(g, y, q, k, v)
    return dq * np.sqrt(q.shape[1]), dk * np.sqrt(q.shape[1]), dv


def _correlated(g: Array, y: Array, x: Array, weight: Array) -> Any:
    return np.convolve(g, weight[::-1]), conv1d_vjp(g, y, x, weight)[1]


_WHOLE = "every output depends on every input of its row; some of those paths are missing"
_MEAN = "the mean weighs each of n elements by 1/n, and that weight is missing"

#: Name -> task, from easy to hard.
TASKS: dict[str, Task] = {
    "add": Task(add, add_vjp, 1, "a (n), b (n) -> (n)", VECTORS, "how much does y move if a does?"),
    "exp": Task(
        exp, exp_vjp, 1, "x (n) -> (n)", VECTORS, "what is the derivative of exp?",
        ((lambda g, y, x: g * x, "x stands where the derivative should: exp'(x) is not x"),),
    ),
    "log": Task(
        log, log_vjp, 1, "x (n) -> (n)", VECTORS, "what is the derivative of log?",
        ((lambda g, y, x: g / y, "you divide by the output; the derivative of log is in x"),),
        positive=True,
    ),
    "relu": Task(
        relu, relu_vjp, 1, "x (n) -> (n)", VECTORS, "where does a small change of x reach y?",
        ((lambda g, y, x: g * (x >= 0), "right but for x = 0"),
         (lambda g, y, x: np.maximum(g, 0), "it is x that decides what passes, not g"),
         (lambda g, y, x: g * y, "relu's slope is 0 or 1, not its value")),
        note="At the kink x = 0 the gradient is 0.", special=(([0.0, 2.0, 0.0],),),
    ),
    "tanh": Task(
        tanh, tanh_vjp, 2, "x (n) -> (n)", VECTORS, "write tanh' with the output y",
        ((lambda g, y, x: g * (1 - x**2), "the input stands where the output should"),
         (lambda g, y, x: g * (1 - y), "a power is missing")),
    ),
    "sigmoid": Task(
        sigmoid, sigmoid_vjp, 2, "x (n) -> (n)", VECTORS, "write the derivative with the output y",
        ((lambda g, y, x: g * x * (1 - x), "the input stands where the output should"),
         (lambda g, y, x: g * (1 - y**2), "that is the derivative of tanh"),
         (lambda g, y, x: g * (1 - y), "a factor is missing")),
    ),
    "multiply": Task(
        multiply, multiply_vjp, 2, "a (n, m), b (m) -> (n, m)", MATRICES,
        "b is used once in every row; where do all its gradients go?",
        ((lambda g, y, a, b: (g * a, (g * b).sum(axis=0)), "each factor has been given its own "
          "value where it should have the other's"),
         (lambda g, y, a, b: (g * b, (g * a).mean(axis=0)), "b is used in every row: add up, do "
          "not average")),
    ),
    "sum": Task(
        sum_, sum_vjp, 2, "x (n, m) -> (m)", MATRICES, "how often does each element count in y?",
        ((lambda g, y, x: np.broadcast_to(g, x.shape) / len(x), "that is the rule of the mean"),),
    ),
    "mean": Task(
        mean, mean_vjp, 2, "x (n, m) -> (n)", MATRICES, "by how much does one element move a mean?",
        ((lambda g, y, x: np.repeat(g[:, None], x.shape[1], 1), _MEAN),
         (lambda g, y, x: np.repeat(g[:, None], x.shape[1], 1) / len(x),
          "divided by the size of the wrong axis"),
         (lambda g, y, x: np.repeat(g[:, None], x.shape[1], 1) / x.size,
          "the mean is over one axis, not over all elements")),
    ),
    "max": Task(
        max_, max_vjp, 3, "x (n, m) -> (n)", MATRICES, "which elements of a row move its maximum?",
        ((_all_top, "right but for ties: the shares of a row must add up to its g"),
         (_first_top, "right but for ties: equal elements get equal shares")),
        note="Elements that tie for the maximum share the gradient evenly.",
        special=(([[1.0, 1.0]],), ([[2.0, 0.0, 2.0], [1.0, 1.0, 1.0]],)),
    ),
    "matmul": Task(
        matmul, matmul_vjp, 3, "a (n, k), b (k, m) -> (n, m)",
        ({"n": 1, "k": 1, "m": 1}, {"n": 1, "k": 2, "m": 1}, {"n": 2, "k": 2, "m": 2},
         {"n": 2, "k": 3, "m": 4}),
        "write y[i, j] as a sum and collect what multiplies a[i, k]; then let shapes guide you",
        ((lambda g, y, a, b: (g @ b, a @ g), "transposes are missing"),),
    ),
    "embedding": Task(
        embedding, embedding_vjp, 3, "weight (v, d), ids (n) -> (n, d)",
        ({"v": 2, "d": 1, "n": 1}, {"v": 2, "d": 1, "n": 3}, {"v": 3, "d": 2, "n": 5}),
        "a row of the weight may be looked up never, once, or many times",
        ((_overwritten, "a row that was looked up twice must get both gradients"),),
        integer="v",
    ),
    "linear": Task(
        linear, linear_vjp, 3, "x (n, i), weight (o, i), bias (o) -> (n, o)",
        ({"n": 1, "i": 1, "o": 1}, {"n": 1, "i": 2, "o": 1}, {"n": 2, "i": 1, "o": 1},
         {"n": 3, "i": 2, "o": 2}, {"n": 4, "i": 2, "o": 3}),
        "bias is broadcast over the rows; for the weight, shapes say what to multiply with what",
        ((lambda g, y, x, weight, bias: (g @ weight, g.T @ x, g.mean(axis=0)),
          "the bias is used in every row: add up, do not average"),),
    ),
    "softmax": Task(
        softmax, softmax_vjp, 4, "x (n, m) -> (n, m)", MATRICES,
        "the shares of a row add up to 1: raising one lowers the others",
        ((lambda g, y, x: g * y, _WHOLE),
         (lambda g, y, x: g * y * (1 - y), f"that is only the diagonal of the Jacobian: {_WHOLE}"),
         (lambda g, y, x: y * (g - (g * y).sum()), "each row is a softmax of its own; do not sum "
          "over rows"),
         (lambda g, y, x: y * (g - g.sum(axis=1, keepdims=True)), "the sum over the row lacks its "
          "weights"),
         (lambda g, y, x: np.zeros_like(x), "zero is what a cotangent of ones gives; others do "
          "not")),
    ),
    "log_softmax": Task(
        log_softmax, log_softmax_vjp, 4, "x (n, m) -> (n, m)", MATRICES,
        "differentiate x - log(sum(exp(x))) term by term",
        ((lambda g, y, x: g, "the logarithm of the sum depends on x too"),
         (lambda g, y, x: g - np.exp(y) * g, _WHOLE),
         (lambda g, y, x: g - y * g.sum(axis=1, keepdims=True), "the weights must be "
          "probabilities, and y holds their logarithms")),
    ),
    "cross_entropy": Task(
        cross_entropy, cross_entropy_vjp, 4, "x (n, c), labels (n) -> ()",
        ({"n": 1, "c": 1}, {"n": 1, "c": 2}, {"n": 2, "c": 2}, {"n": 3, "c": 4}),
        "compare the probabilities with what the labels ask for",
        ((lambda g, y, x, labels: cross_entropy_vjp(g, y, x, labels) * len(x), _MEAN),
         (lambda g, y, x, labels: g * softmax(x) / len(x), "the label itself is missing"),
         (lambda g, y, x, labels: cross_entropy_vjp(1.0, y, x, labels), "g is not used: the loss "
          "may be a part of a larger one")),
        note="The loss is a number, so g is one too.", integer="c",
    ),
    "conv1d": Task(
        conv1d, conv1d_vjp, 4, "x (n), weight (k) -> (n - k + 1)",
        ({"n": 1, "k": 1}, {"n": 2, "k": 1}, {"n": 3, "k": 2}, {"n": 5, "k": 3}),
        "in which windows does x[i] stand, and what multiplies it there?",
        ((_correlated, "the weight is the wrong way round for x"),),
    ),
    "layer_norm": Task(
        layer_norm, layer_norm_vjp, 5, "x (n, m) -> (n, m)", MATRICES,
        "mean and variance both depend on x: three paths lead from x to y",
        ((lambda g, y, x: g / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5),
          "mean and variance are taken as constants; both depend on x"),
         (lambda g, y, x: (g - g.mean(axis=1, keepdims=True))
          / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5),
          "the path through the variance is missing"),
         (lambda g, y, x: (g - y * (g * y).mean(axis=1, keepdims=True))
          / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5), "the path through the mean is missing")),
    ),
    "attention": Task(
        attention, attention_vjp, 5, "q (n, d), k (m, d), v (m, e) -> (n, e)",
        ({"n": 1, "d": 1, "m": 1, "e": 1}, {"n": 1, "d": 1, "m": 2, "e": 1},
         {"n": 2, "d": 4, "m": 3, "e": 2}),
        "walk back: from y to v and the weights, through softmax, then the scores to q and k",
        ((_unscaled, "right but for the scale of the scores"),),
    ),
}  # fmt: skip
