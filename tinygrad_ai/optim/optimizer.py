"""Optimizer: parameters in groups, their slots, and one rule applied to each of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np

from tinygrad_ai.backend import backend_of
from tinygrad_ai.errors import DTypeError, GraphError, ShapeError, ValueRangeError, warn_user
from tinygrad_ai.optim import rules
from tinygrad_ai.tensor import Tensor


class Optimizer:
    """Base of the optimisers: a rule of :mod:`tinygrad_ai.optim.rules` with its settings.

    Args:
        params: Tensors that require gradients, or dicts ``{"params": [...], "lr": ...}`` whose
            further entries are settings of their own group.
        defaults: the settings of groups that do not have their own.

    Raises ValueRangeError for an empty list and for settings out of range, DTypeError for what is
    no Tensor, GraphError for a tensor that is no leaf that requires gradients.
    """

    rule: ClassVar[Callable[..., None]]

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._scratch: dict[Any, list[Any]] = {}
        self._stale: dict[Tensor, list[int]] = {}
        self._cleared = False
        listed = [params] if isinstance(params, Tensor) else list(params)
        if not listed:
            raise ValueRangeError(
                f"{type(self).__name__}: the list of parameters is empty",
                "   help: an iterator such as model.parameters() can be used only once",
            )
        groups = listed if isinstance(listed[0], dict) else [{"params": listed}]
        for group in groups:
            self.add_param_group(group)

    # ------------------------------------------------------------------ what a subclass decides

    def slots(self, group: dict[str, Any]) -> dict[str, float]:
        """The names of the arrays kept for each parameter, and the numbers they start at."""
        raise NotImplementedError

    def numbers(self, group: dict[str, Any], step: int) -> dict[str, Any]:
        """What the rule reads at its call number ``step`` (from 1): Python numbers."""
        return group

    def check(self, group: dict[str, Any]) -> None:
        """Raise ValueRangeError for settings out of range."""
        for name in ("lr", "eps", "weight_decay", "momentum", "lr_decay"):
            value = group.get(name, 0)
            if not value >= 0:
                raise ValueRangeError(f"{type(self).__name__}: {name} must be ≥ 0, got {value}")

    # --------------------------------------------------------------------------------- the work

    def step(self) -> None:
        """Update every parameter that has a gradient, once."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        self._watch()

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state = self.state.get(parameter)
        xp = backend_of(parameter.array).xp
        w, g = parameter.array, parameter.grad.array
        half = w.dtype == np.float16  # squares of gradients would underflow
        if half:
            w, g = w.astype(np.float32), g.astype(np.float32)
        if state is None:
            state = {"step": 0} | {
                name: xp.full(w.shape, start, dtype=w.dtype)
                for name, start in self.slots(group).items()
            }
            self.state[parameter] = state
        state["step"] += 1
        key = type(w), w.shape, w.dtype
        if key not in self._scratch:
            self._scratch[key] = [xp.empty_like(w), xp.empty_like(w)]
        with np.errstate(all="ignore"):
            numbers = self.numbers(group, state["step"])
            type(self).rule(xp, w, g, state, numbers, *self._scratch[key])
        if half:
            parameter.array[...] = w
        parameter.version[0] += 1

    def _watch(self) -> None:
        """Warn if a backward has added to gradients that a step used, and nothing was cleared."""
        if self._cleared:
            return
        before = self._stale
        self._stale = {
            p: p.grad.version for group in self.param_groups for p in group["params"] if p.grad
        }
        del before

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        self._cleared = True
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None
