"""Recurrences: the step of each recurrent net, written as its formula, and the walk over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from math import isqrt
from typing import Any, NamedTuple

from tinygrad_ai.functional.layers import linear
from tinygrad_ai.ops import products
from tinygrad_ai.ops.elementwise import relu, sigmoid, tanh, where, zero
from tinygrad_ai.ops.movement import concatenate, reshape, split, stack, unstack
from tinygrad_ai.transforms import custom_vjp

#: The state between two steps: (h,) or (h, c), each (batch, hidden).
State = tuple[Any, ...]


class Recurrence(NamedTuple):
    """A step, and the layout of its weights, whose rows are PyTorch's blocks of ``hidden`` rows."""

    #: (x, u, state, bias) → state, where x = W_ih·x_t + its biases and u = W_hh·h_{t-1}
    step: Callable[[Any, Any, State, Any], State]
    gates: int = 1  #: blocks of rows in weight_ih and weight_hh
    states: int = 1  #: 2 where there is a cell state c
    late: int = 0  #: last blocks of bias_hh that the step adds itself, since the formula needs it


class Weights(NamedTuple):
    """weight_ih (gates·H, input), weight_hh (gates·H, H), both biases (gates·H,) or None."""

    ih: Any
    hh: Any
    bias_ih: Any = None
    bias_hh: Any = None


def _tanh_step(x: Any, u: Any, state: State, bias: Any) -> State:
    return (tanh(x + u),)


def _relu_step(x: Any, u: Any, state: State, bias: Any) -> State:
    return (relu(x + u),)


def _lstm_step(x: Any, u: Any, state: State, bias: Any) -> State:
    i, f, g, o = split(x + u, 4, -1)
    c = sigmoid(f) * state[1] + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_step(x: Any, u: Any, state: State, bias: Any) -> State:
    (h,) = state
    cut = [2 * h.shape[-1]]
    x_rz, x_n = split(x, cut, -1)
    u_rz, u_n = split(u, cut, -1)
    r, z = split(sigmoid(x_rz + u_rz), 2, -1)
    n = tanh(x_n + r * (u_n if bias is None else u_n + bias))
    return (n + z * (h - n),)


TANH = Recurrence(_tanh_step)
RELU = Recurrence(_relu_step)
LSTM = Recurrence(_lstm_step, gates=4, states=2)
GRU = Recurrence(_gru_step, gates=3, late=1)


def project(recurrence: Recurrence, x: Any, weights: Weights) -> tuple[Any, Any]:
    """What the inputs (..., input) bring to all steps, (..., gates·H), in one product.

    Both biases are in it, but for the last blocks of bias_hh, which are returned beside it.
    """
    if weights.bias_ih is None:
        return linear(x, weights.ih), None
    bias, late = weights.bias_hh, None
    if recurrence.late:
        early = bias.shape[0] // recurrence.gates * (recurrence.gates - recurrence.late)
        bias, late = split(bias, [early])
        bias = concatenate([bias, zero(late)])
    return linear(x, weights.ih, weights.bias_ih + bias), late


def step(recurrence: Recurrence, x: Any, state: State, weights: Weights) -> State:
    """One step: x (batch, input) and the state before → the state after."""
    projected, late = project(recurrence, x, weights)
    return recurrence.step(projected, products.linear(state[0], weights.hh), state, late)


def scan(
    recurrence: Recurrence,
    x: Any,
    state: State,
    weights: Weights,
    *,
    reverse: bool = False,
    valid: Any = None,
    kept: Any = None,
) -> tuple[list[Any], State]:
    """Step after step over x (batch, time, input): every h, in the order of time, and the end.

    Args:
        state: the state before the first step.
        reverse: walk from the last step to the first.
        valid: (batch, time, 1) booleans; a step where it is False carries the state over.
        kept: (batch, H), multiplied with h_{t-1} in every product with weight_hh.
    """
    projected, late = project(recurrence, x, weights)
    masks = repeat(None) if valid is None else unstack(valid, 1)
    steps = list(zip(_unstacked(projected), masks, strict=False))
    hidden = []
    for x_t, valid_t in reversed(steps) if reverse else steps:
        h = state[0] if kept is None else state[0] * kept
        new = recurrence.step(x_t, products.linear(h, weights.hh), state, late)
        state = (
            new
            if valid_t is None
            else tuple(where(valid_t, a, b) for a, b in zip(new, state, strict=True))
        )
        hidden.append(state[0])
    return hidden[::-1] if reverse else hidden, state


@custom_vjp
def _unstacked(x: Any) -> tuple[list[Any], Callable[[Any], Any]]:
    """The steps of x (batch, time, …), with a rule that writes the gradient of each step once.

    That of ``unstack`` puts each into zeros of the size of many and adds them up.
    """
    return unstack(x, 1), lambda g: stack(g, 1)


def joined(steps: Sequence[Any]) -> Any:
    """Steps (batch, H) as (batch, time, H).

    By groups: the rule of ``concatenate`` looks at every part for each part, which for all steps at
    once would be time².
    """
    n = isqrt(len(steps))
    groups = [concatenate(steps[k : k + n], 1) for k in range(0, len(steps), n)]
    batch, features = steps[0].shape
    return reshape(concatenate(groups, 1), (batch, len(steps), features))
