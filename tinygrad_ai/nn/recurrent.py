"""Recurrent layers over sequences (batch, time, features), with PyTorch's formulas and names."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai import functional as F
from tinygrad_ai.creation import asarray, ones
from tinygrad_ai.dtypes import probability
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError, warn_user, whole_number
from tinygrad_ai.functional import recurrent
from tinygrad_ai.functional.layers import count_up, examine
from tinygrad_ai.functional.recurrent import State
from tinygrad_ai.nn.attention import check_batch_first
from tinygrad_ai.nn.cells import RecurrentModule, simple_recurrence
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.ops.logic import less
from tinygrad_ai.ops.movement import concatenate, expand_dims, stack, unstack


class _Recurrent(RecurrentModule):
    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        name = type(self).__name__
        check_batch_first(name, batch_first)
        for setting, p in (("dropout", dropout), ("recurrent_dropout", recurrent_dropout)):
            probability(p, f"{name}: {setting}")
        self.num_layers = whole_number(name, "num_layers", num_layers, 1)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.bidirectional = bidirectional
        self.return_sequences = return_sequences
        if dropout and self.num_layers == 1:
            warn_user(
                f"{name}: dropout={dropout} acts between layers, and there is one; "
                "recurrent_dropout acts within a layer, nn.Dropout around it"
            )
        for layer in range(self.num_layers):
            width = self.input_size if layer == 0 else self.hidden_size * len(self._endings(0))
            for ending in self._endings(layer):
                self._start(width, ending, dtype, device)

    def _endings(self, layer: int) -> tuple[str, ...]:
        """What the names of a layer's parameters end in, for each direction."""
        return (f"_l{layer}", f"_l{layer}_reverse")[: 2 if self.bidirectional else 1]

    def forward(
        self, input: Any, initial_state: Any = None, *, lengths: Any = None, mask: Any = None
    ) -> tuple[Any, Any]:
        """Run over ``input`` (batch, time, input_size): ``(output, state)``.

        Args:
            initial_state: (layers·directions, batch, hidden_size), for an LSTM a pair (h, c) of
                such; zeros by default.
            lengths: (batch,) integers from 1 to time: how many first steps of each sequence count.
            mask: (batch, time) booleans: which steps count. Every other step carries the state
                over, and its output is 0.

        Returns the last layer's h of every step, (batch, time, directions·hidden_size), with
        ``return_sequences=False`` only where each direction ends, (batch, directions·hidden_size);
        and every layer's state after its last step, shaped as ``initial_state``.

        Raises ShapeError for inputs, states, lengths and masks that do not fit one another,
        DTypeError for lengths that are not integers and a mask that is not boolean,
        ValueRangeError for a length out of range and for lengths together with a mask.
        """
        x = self._checked(input, ["batch", "time"])
        batch, time, _ = x.shape
        if time == 0:
            raise ShapeError(f"{type(self).__name__}: there is no step in an input of {x.shape}")
        valid = self._valid(x, lengths, mask)
        x = _masked(x, valid)  # so that not even a NaN in the padding reaches the weights
        directions = len(self._endings(0))
        given = self._checked_state(
            initial_state, (self.num_layers * directions, batch, self.hidden_size), x
        )
        starts = list(zip(*(unstack(part) for part in given), strict=True))
        ends: list[State] = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            first = layer * directions
            runs = [
                self._run(x, start, ending, valid)
                for start, ending in zip(starts[first:], self._endings(layer), strict=False)
            ]
            ends += [end for _, end in runs]
            if layer + 1 < self.num_layers or self.return_sequences:
                x = concatenate([recurrent.joined(hidden) for hidden, _ in runs], -1)
                x = _masked(x, valid)
            else:
                x = concatenate([end[0] for _, end in runs], -1)
        state = tuple(stack(parts) for parts in zip(*ends, strict=True))
        return x, state if len(state) > 1 else state[0]

    def _run(self, x: Any, start: State, ending: str, valid: Any) -> tuple[list[Any], State]:
        """One direction of one layer, with a dropout mask of its own for the whole sequence."""
        kept = None
        if self.training and self.recurrent_dropout:
            kept = F.dropout(ones(start[0].shape, x.dtype, x.device), self.recurrent_dropout)
        return recurrent.scan(
            self.recurrence,
            x,
            start,
            self._weights(ending),
            reverse=ending.endswith("_reverse"),
            valid=valid,
            kept=kept,
        )

    def _valid(self, x: Any, lengths: Any, mask: Any) -> Any:
        """Which steps count, (batch, time, 1), or None where all do."""
        name, (batch, time) = type(self).__name__, x.shape[:2]
        if lengths is not None and mask is not None:
            raise ValueRangeError(f"{name}: lengths and mask both say which steps count; pass one")
        if lengths is not None:
            return expand_dims(self._within(x, lengths), -1)
        if mask is None:
            return None
        found = asarray(mask)
        if found.dtype.kind != "b":
            raise DTypeError(f"{name}: mask must hold booleans, not {found.dtype}")
        if found.shape != (batch, time):
            raise ShapeError(f"{name}: mask must be {(batch, time)}, got {found.shape}")
        return expand_dims(found.to(x.device), -1)

    def _within(self, x: Any, lengths: Any) -> Any:
        """(batch, time): whether a step stands before its sequence's end."""
        name, (batch, time) = type(self).__name__, x.shape[:2]
        found = asarray(lengths)
        if found.dtype.kind not in "iu":
            raise DTypeError(f"{name}: lengths must be integers, not {found.dtype}")
        if found.shape != (batch,):
            raise ShapeError(f"{name}: lengths must be {(batch,)}, got {found.shape}")
        examine(found.astype(np.int64) - 1, time, partial(_check_lengths, name, time))
        return less(count_up(x, time), expand_dims(found.to(x.device), 1))

    def extra_repr(self) -> str:
        usual = {
            "num_layers": 1, "bias": True, "dropout": 0.0, "bidirectional": False,
            "recurrent_dropout": 0.0, "return_sequences": True,
        }  # fmt: skip
        parts = [f"{self.input_size}, {self.hidden_size}"]
        parts += [f"{k}={getattr(self, k)!r}" for k, v in usual.items() if getattr(self, k) != v]
        return ", ".join(parts)


def _check_lengths(name: str, time: int, before: np.ndarray[Any, Any]) -> None:
    """Raise ValueRangeError unless the lengths, less 1, are in 0 … time-1."""
    wrong = before[(before < 0) | (before >= time)]
    if wrong.size:
        raise ValueRangeError(f"{name}: length {wrong[0] + 1} is not one of 1 to {time}")


def _masked(x: Any, valid: Any) -> Any:
    return x if valid is None else where(valid, x, 0)


class RNN(_Recurrent):
    """Simple recurrent net: h_t = tanh(W_hh·h_{t-1} + W_xh·x_t + b_h) at every step.

    Formula, parameters and their start are those of :class:`RNNCell`; their names end in ``_l0``,
    ``_l0_reverse``, ``_l1``… for each layer and direction, as in PyTorch.

    Args:
        input_size, hidden_size: features of x_t and of h_t.
        num_layers: layer k > 0 runs over the output of layer k - 1.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: whether there is a b_h.
        batch_first: True, the only layout.
        dropout: chance that an element of a layer's output is dropped on its way to the next.
        bidirectional: a second net walks from the last step to the first; outputs side by side.
        recurrent_dropout: chance that an element of h_{t-1} is dropped in W_hh·h_{t-1}, drawn once
            for a sequence and the same at every step (Gal and Ghahramani, 2016); what is kept is
            divided by 1 - p. Both kinds of dropout act in training only.
        return_sequences: whether the output has every step, or only where each direction ends.

    Raises DTypeError or ValueRangeError for settings out of range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.recurrence = simple_recurrence("RNN", nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            recurrent_dropout=recurrent_dropout,
            return_sequences=return_sequences,
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, nonlinearity={self.nonlinearity!r}"


class LSTM(_Recurrent):
    """Long short-term memory: the formula of :class:`LSTMCell` at every step.

    Arguments, names and errors as for :class:`RNN`, but for its nonlinearity; the state is a pair
    (h, c).
    """

    recurrence = recurrent.LSTM


class GRU(_Recurrent):
    """Gated recurrent units: the formula of :class:`GRUCell` at every step.

    Arguments, names and errors as for :class:`RNN`, but for its nonlinearity.
    """

    recurrence = recurrent.GRU
