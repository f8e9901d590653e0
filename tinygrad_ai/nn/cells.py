"""Recurrent cells: one step, with PyTorch's formulas and names. The layers repeat the same step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_ai.creation import asarray, zeros
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError, whole_number
from tinygrad_ai.functional import recurrent
from tinygrad_ai.functional.recurrent import Recurrence, State, Weights
from tinygrad_ai.nn.linear import uniform_parameter
from tinygrad_ai.nn.module import Module

NONLINEARITIES = {"tanh": recurrent.TANH, "relu": recurrent.RELU}


class RecurrentModule(Module):
    """What cells and layers share: sizes, parameters, and the checks of inputs and states."""

    recurrence: Recurrence

    def __init__(self, input_size: int, hidden_size: int, bias: bool) -> None:
        name = type(self).__name__
        self.input_size = whole_number(name, "input_size", input_size, 1)
        self.hidden_size = whole_number(name, "hidden_size", hidden_size, 1)
        self.bias = bias

    def _start(self, inputs: int, ending: str, dtype: Any, device: str | None) -> None:
        """Parameters named with ``ending``, uniform in ±1/√hidden_size."""
        rows = self.recurrence.gates * self.hidden_size
        shapes = (rows, inputs), (rows, self.hidden_size), (rows,), (rows,)
        for name, shape in zip(self._names(ending), shapes, strict=False):
            setattr(self, name, uniform_parameter(shape, self.hidden_size, dtype, device))

    def _names(self, ending: str) -> list[str]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if self.bias else 2]
        return [name + ending for name in names]

    def _weights(self, ending: str = "") -> Weights:
        return Weights(*(getattr(self, name) for name in self._names(ending)))

    def _checked(self, input: Any, axes: Sequence[str]) -> Any:
        """``input`` as a tensor of real numbers with ``axes`` and input_size features."""
        name = type(self).__name__
        x = asarray(input)
        if x.ndim != len(axes) + 1 or x.shape[-1] != self.input_size:
            raise ShapeError(
                f"{name}: input must be ({', '.join(axes)}, {self.input_size}), got {x.shape}"
            )
        if x.dtype.kind != "f":
            raise DTypeError(
                f"{name}: input needs floating-point numbers, got {x.dtype}",
                "   help: nn.Embedding makes vectors of integers",
            )
        return x

    def _checked_state(self, given: Any, shape: tuple[int, ...], like: Any) -> State:
        """The state that a user gave, as tensors of ``shape``; zeros where he gave none."""
        name, count = type(self).__name__, self.recurrence.states
        if given is None:
            return (zeros(shape, like.dtype, like.device),) * count
        parts = tuple(given) if isinstance(given, tuple | list) else (given,)
        if len(parts) != count:
            wanted = "a pair (h, c), each" if count > 1 else "one array h"
            raise DTypeError(f"{name}: the initial state must be {wanted} of shape {shape}")
        state = tuple(map(asarray, parts))
        for letter, part in zip("hc", state, strict=False):
            if part.shape != shape:
                raise ShapeError(f"{name}: initial {letter} must be {shape}, got {part.shape}")
            if part.dtype.kind != "f":
                raise DTypeError(
                    f"{name}: initial {letter} needs floating-point numbers, got {part.dtype}"
                )
        return state


class _Cell(RecurrentModule):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        self._start(self.input_size, "", dtype, device)

    def _step(self, input: Any, state: Any) -> State:
        x = self._checked(input, ["batch"])
        start = self._checked_state(state, (x.shape[0], self.hidden_size), x)
        return recurrent.step(self.recurrence, x, start, self._weights())

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(_Cell):
    """h_t = tanh(W_hh·h_{t-1} + W_xh·x_t + b_h): (batch, input_size) → (batch, hidden_size).

    The simple recurrent net of Elman (1990), with relu in tanh's place for
    ``nonlinearity="relu"``. W_xh is ``weight_ih`` (hidden_size, input_size), W_hh ``weight_hh``
    (hidden_size, hidden_size), and b_h the sum of ``bias_ih`` and ``bias_hh`` (hidden_size,), which
    PyTorch keeps apart; all start uniform in ±1/√hidden_size.

    Raises ShapeError and DTypeError for inputs and states that do not fit, ValueRangeError for
    another nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.recurrence = simple_recurrence("RNNCell", nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)

    def forward(self, input: Any, state: Any = None) -> Any:
        """h_t of x_t (batch, input_size) and h_{t-1} (batch, hidden_size), by default zeros."""
        return self._step(input, state)[0]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


class LSTMCell(_Cell):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000).

    (i, f, g, o) = W_ih·x_t + b_ih + W_hh·h_{t-1} + b_hh, cut in four;
    c_t = σ(f)·c_{t-1} + σ(i)·tanh(g); h_t = σ(o)·tanh(c_t).

    ``weight_ih`` is (4·hidden_size, input_size), ``weight_hh`` (4·hidden_size, hidden_size), both
    biases (4·hidden_size,); all start uniform in ±1/√hidden_size. Errors as for :class:`RNNCell`.
    """

    recurrence = recurrent.LSTM

    def forward(self, input: Any, state: Any = None) -> tuple[Any, Any]:
        """(h_t, c_t) of x_t (batch, input_size) and (h_{t-1}, c_{t-1}), by default zeros."""
        h, c = self._step(input, state)
        return h, c


class GRUCell(_Cell):
    """The gated recurrent unit (Cho et al., 2014), as PyTorch has it.

    r, z = σ(W_ih·x_t + b_ih + W_hh·h_{t-1} + b_hh), the first two blocks of rows; with the third,
    n = tanh(W_in·x_t + b_in + r·(W_hn·h_{t-1} + b_hn)); h_t = (1 - z)·n + z·h_{t-1}.

    ``weight_ih`` is (3·hidden_size, input_size), ``weight_hh`` (3·hidden_size, hidden_size), both
    biases (3·hidden_size,); all start uniform in ±1/√hidden_size. Errors as for :class:`RNNCell`.
    """

    recurrence = recurrent.GRU

    def forward(self, input: Any, state: Any = None) -> Any:
        """h_t of x_t (batch, input_size) and h_{t-1} (batch, hidden_size), by default zeros."""
        return self._step(input, state)[0]


def simple_recurrence(caller: str, nonlinearity: str) -> Recurrence:
    """The step of a simple recurrent net; raises ValueRangeError unless tanh or relu is asked."""
    if nonlinearity not in NONLINEARITIES:
        raise ValueRangeError(
            f"{caller}: nonlinearity must be 'tanh' or 'relu', not {nonlinearity!r}"
        )
    return NONLINEARITIES[nonlinearity]
