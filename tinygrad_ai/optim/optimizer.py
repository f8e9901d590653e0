"""Optimizer: parameters in groups, their slots, and one rule applied to each of them."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from tinygrad_ai import config
from tinygrad_ai.autodiff import mode
from tinygrad_ai.backend import backend_of, namespaces
from tinygrad_ai.backend.native import SMALL
from tinygrad_ai.errors import (
    DataError,
    DTypeError,
    GraphError,
    ShapeError,
    ValueRangeError,
    warn_user,
)
from tinygrad_ai.jit.eager import updated
from tinygrad_ai.nn.module import Parameter
from tinygrad_ai.tensor import Tensor

Group = dict[str, Any]
#: (the group's identity, the step) -> what rules read in it
Known = dict[tuple[int, int], dict[str, Any]]


class Optimizer:
    """Base of the optimisers: a rule of :mod:`tinygrad_ai.optim.rules` with its settings.

    Args:
        params: Tensors that require gradients, pairs of names and such Tensors, or dicts
            ``{"params": [...], "lr": ...}`` whose further entries are settings of their own group.
        defaults: the settings of groups that do not have their own.

    Raises ValueRangeError for an empty list and for settings out of range, DTypeError for what is
    no Tensor, GraphError for a tensor that is no leaf or that requires no gradient (a Parameter may
    be frozen: it is skipped).
    """

    rule: ClassVar[Callable[..., None]]

    def __init__(self, params: Any, **defaults: Any) -> None:
        self.defaults = defaults
        self.param_groups: list[Group] = []
        self.state: dict[Tensor, dict[str, Any]] = {}
        self._scratch: dict[Any, tuple[Any, Any]] = {}
        self._cleared = False
        self._last: tuple[Any, list[int]] | None = None
        given = [params] if isinstance(params, Tensor | dict) else params
        if not isinstance(given, Iterable):
            raise DTypeError(
                f"{self._name}: takes a list of parameters, not a {type(params).__name__}",
                "   help: model.parameters() has those of a model",
            )
        listed: list[Any] = list(given)
        if not listed:
            raise ValueRangeError(
                f"{self._name}: the list of parameters is empty",
                "   help: an iterator such as model.parameters() can be used only once",
            )
        for group in listed if isinstance(listed[0], dict) else [{"params": listed}]:
            self.add_param_group(group)

    @property
    def _name(self) -> str:
        return type(self).__name__

    # ------------------------------------------------------------------ what a subclass decides

    def slots(self, group: Group) -> dict[str, float]:
        """The names of the arrays kept for each parameter, and the numbers they start at."""
        raise NotImplementedError

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        """What the rule reads in its ``step``-th call (from 1): Python numbers."""
        return group

    def check(self, group: Group) -> None:
        """Raise DTypeError for what is no number, ValueRangeError for what is out of range."""
        for name, value in group.items():
            if name == "params":
                continue
            low, high = self.ranges.get(name, (0.0, np.inf))
            numbers = value if isinstance(value, tuple) else (value,)
            if not all(isinstance(n, Real) for n in numbers):
                raise DTypeError(f"{self._name}: {name} must be a number, got {value!r}")
            if not all(low <= n < high for n in numbers):
                bounds = "at least 0" if high == np.inf else f"in [{low:g}, {high:g})"
                raise ValueRangeError(f"{self._name}: {name} must be {bounds}, got {value}")

    #: settings that are not just at least 0
    ranges: ClassVar[dict[str, tuple[float, float]]] = {}

    # ----------------------------------------------------------------------------------- groups

    def add_param_group(self, group: Group) -> None:
        """Train further parameters: ``{"params": [...], **settings}``."""
        if "params" not in group:
            raise ValueRangeError(f"{self._name}: a group needs params, got {', '.join(group)}")
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        params = [p[1] if isinstance(p, tuple) and len(p) == 2 else p for p in params]
        known = {id(p) for p in self._all()}
        for k, p in enumerate(params):
            self._check_parameter(k, p)
            if id(p) in known:
                raise ValueRangeError(f"{self._name}: parameter {k} {p.shape} is listed twice")
            known.add(id(p))
        full = {**self.defaults, **group, "params": params}
        if unknown := full.keys() - self.defaults.keys() - {"params"}:
            raise ValueRangeError(
                f"{self._name}: unknown setting {', '.join(sorted(unknown))}; known: "
                f"{', '.join(self.defaults)}"
            )
        self.check(full)
        self.param_groups.append(full)
        self._scratch.clear()

    def _check_parameter(self, k: int, p: Any) -> None:
        if not isinstance(p, Tensor):
            raise DTypeError(f"{self._name}: parameter {k} is a {type(p).__name__}, not a Tensor")
        if not p.is_leaf:
            raise GraphError(
                f"{self._name}: parameter {k} {p.shape} is the result of an operation",
                "   help: only leaves can be trained, Tensor(data, requires_grad=True)",
            )
        if not p.requires_grad and not isinstance(p, Parameter):
            raise GraphError(
                f"{self._name}: parameter {k} {p.shape} does not require gradients",
                "   help: Tensor(data, requires_grad=True) does",
            )

    def _all(self) -> Iterator[Tensor]:
        return (p for group in self.param_groups for p in group["params"])

    @property
    def lr(self) -> float:
        """The learning rate of the first group; setting it sets that of all groups."""
        return self.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            self.check({"lr": value})
            group["lr"] = value

    # --------------------------------------------------------------------------------- the work

    def step(self) -> None:
        """Update every parameter that has a gradient, in place; what is frozen stays as it is."""
        with np.errstate(all="ignore"):
            large = config.uses_kernels() and sum(p.array.size for p in self._all()) >= SMALL
            known: Known = {}
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None and parameter.requires_grad:
                        self._update(parameter, group, large, known)
        if not self._cleared and mode.capture is None:
            self._watch()

    def _update(self, parameter: Tensor, group: Group, large: bool, known: Known) -> None:
        """One step of a parameter, by a kernel if there is ``large`` work to do."""
        if parameter not in self.state:
            self.state[parameter] = self._fresh(parameter.array, group)
        if mode.capture is not None:
            now = self._settings(group, self.state[parameter]["step"] + 1)
            advance = partial(self._next, parameter, group)
            return mode.capture.update(
                type(self).rule, parameter, lambda: self.state[parameter], advance, now
            )
        w, g = parameter.array, parameter.grad.array
        if w.dtype == np.float16:  # squares of gradients would underflow
            w, g = w.astype(np.float32), g.astype(np.float32)
        rule, slots = type(self).rule, self.state[parameter]
        numbers = self._next(parameter, group, known)
        if not (large and updated(rule, w, g, slots, numbers)):
            xp = backend_of(w).xp
            rule(xp, w, g, slots, numbers, *self._scratch_for(xp, w))
        if w is not parameter.array:
            parameter.array[...] = w
        parameter.version[0] += 1

    def _next(self, parameter: Tensor, group: Group, known: Known, by: int = 1) -> dict[str, Any]:
        """Count a step of ``parameter``, and what the rule reads in it; ``by=-1`` takes it back.

        What is ``known`` of the same step of another parameter of the group, this one reads too.
        """
        state = self.state[parameter]
        key = id(group), state["step"] + by
        if by > 0 and key not in known:
            known[key] = self._settings(group, key[1])
        state["step"] = key[1]
        return known.get(key, {})

    def _settings(self, group: Group, step: int) -> dict[str, Any]:
        """What the rule reads in a ``step``-th call, with Python's numbers for NumPy's."""
        found = self.numbers(group, step).items()
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in found if k != "params"}

    def _fresh(self, w: Any, group: Group) -> dict[str, Any]:
        xp, dtype = backend_of(w).xp, np.result_type(w.dtype, np.float32)
        slots = self.slots(group).items()
        return {"step": 0, **{name: xp.full(w.shape, at, dtype=dtype) for name, at in slots}}

    def _scratch_for(self, xp: Any, w: Any) -> tuple[Any, Any]:
        """Two arrays like ``w``: views of two buffers that all parameters of its dtype share."""
        found = self._scratch.get((w.dtype, w.shape))
        if found is None:
            buffers = self._scratch.get(w.dtype)
            if buffers is None:
                largest = max(p.size for p in self._all())
                buffers = tuple(xp.empty(largest, dtype=w.dtype) for _ in range(2))
                self._scratch[w.dtype] = buffers
            found = tuple(buffer[: w.size].reshape(w.shape) for buffer in buffers)
            self._scratch[w.dtype, w.shape] = found
        return found

    def _watch(self) -> None:
        """Warn, once, where a backward added to a gradient that the last step has used up.

        The version cell of a gradient is a new one after it was cleared, in whatever way.
        """
        grad = next((p.grad for p in self._all() if p.grad is not None), None)
        if grad is None:
            return
        if self._last and self._last[1] is grad.version and self._last[0]() is not grad:
            self._cleared = True
            warn_user(
                f"{self._name}.step: the gradients of the last step were never cleared, so they "
                "add up; call optimizer.zero_grad() after step()"
            )
        self._last = weakref.ref(grad), grad.version

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        self._cleared = True
        for parameter in self._all():
            parameter.grad = None

    # -------------------------------------------------------------------------- saving, loading

    def state_dict(self) -> dict[str, Any]:
        """Settings and slots (NumPy arrays), with parameters by their number, as in PyTorch."""
        number = {id(p): k for k, p in enumerate(self._all())}
        groups = [
            {**group, "params": [number[id(p)] for p in group["params"]]}
            for group in self.param_groups
        ]
        state = {
            number[id(p)]: {n: v if n == "step" else _host(v).copy() for n, v in slots.items()}
            for p, slots in self.state.items()
        }
        return {"state": state, "param_groups": copy.deepcopy(groups)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what ``state_dict`` returned, of an optimiser with the same parameters.

        Raises DataError for the state of another optimiser or of something else, ShapeError where
        groups or shapes differ, GraphError in a compiled step; then nothing has been loaded.
        """
        if mode.capture is not None:
            mode.capture.refuse("load_state_dict of an optimizer", "call it between the steps")
        groups, params = self._settings_in(state_dict), list(self._all())
        owners = [
            settings
            for group, settings in zip(self.param_groups, groups, strict=True)
            for _ in group["params"]
        ]
        state = {}
        for key, slots in state_dict["state"].items():
            if not str(key).isdecimal() or int(key) >= len(params):
                raise self._foreign(f"no parameter {key!r} among {len(params)}")
            parameter = params[int(key)]
            state[parameter] = self._slots_in(key, slots, parameter, owners[int(key)])
        self.state = state
        for group, settings in zip(self.param_groups, groups, strict=True):
            group.update(settings)

    def _settings_in(self, state_dict: Any) -> list[Group]:
        """The settings of every group in a state, checked."""
        try:
            groups = [dict(group) for group in state_dict["param_groups"]]
            theirs = [len(group["params"]) for group in groups]
            dict(state_dict["state"])
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise self._foreign(f"state and param_groups are not in it ({error!r})") from None
        mine = [len(group["params"]) for group in self.param_groups]
        if mine != theirs:
            raise ShapeError(
                f"{self._name}.load_state_dict: groups of {theirs} parameters in the state, of "
                f"{mine} here"
            )
        return [self._own_settings(group) for group in groups]

    def _own_settings(self, group: Group) -> Group:
        if missing := [name for name in self.defaults if name not in group]:
            raise self._foreign(f"it has no {', '.join(missing)}")
        settings = {name: copy.deepcopy(group[name]) for name in self.defaults}
        for name, default in self.defaults.items():
            if isinstance(default, tuple) and isinstance(settings[name], list):
                settings[name] = tuple(settings[name])  # as JSON has it
            if np.shape(settings[name]) != np.shape(default):
                raise self._foreign(f"{name} is {settings[name]!r}")
        try:
            self.check(settings)
        except (TypeError, ValueError) as error:
            raise self._foreign(str(error)) from None
        return settings

    def _slots_in(self, key: Any, slots: Any, parameter: Tensor, settings: Group) -> Group:
        """The slots of one parameter in a state, as arrays of their own."""
        names = ("step", *self.slots(settings))
        if not isinstance(slots, dict) or any(name not in slots for name in names):
            raise self._foreign(f"parameter {key} has not all of {', '.join(names)}")
        step = np.asarray(slots["step"])
        if step.ndim or step.dtype.kind not in "iuf" or not step >= 0 or step != np.floor(step):
            raise self._foreign(f"step of parameter {key} is {slots['step']!r}")
        found: Group = {"step": int(step)}
        xp, dtype = backend_of(parameter.array).xp, np.result_type(parameter.dtype, np.float32)
        for name in names[1:]:
            value = _host(slots[name])
            if value.dtype.kind != "f":
                raise self._foreign(f"{name} of parameter {key} holds {value.dtype}")
            if value.shape != parameter.shape:
                raise ShapeError(
                    f"{self._name}.load_state_dict: {name} of parameter {key} has shape "
                    f"{value.shape}, the parameter {parameter.shape}"
                )
            found[name] = xp.array(value, dtype=dtype)
        return found

    def _foreign(self, reason: str) -> DataError:
        return DataError(
            f"{self._name}.load_state_dict: this is no state of {self._name}: {reason}",
            "   nothing was loaded",
        )


def _host(value: Any) -> np.ndarray[Any, Any]:
    array = getattr(value, "array", value)
    known = isinstance(array, tuple(namespaces))
    return np.asarray(backend_of(array).to_numpy(array) if known else array)
