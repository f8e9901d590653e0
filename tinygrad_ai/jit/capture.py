"""Capture: a function runs once with variables in the place of arrays, and leaves a program.

While it runs, every primitive (backward's too, whose rules run on tensors then) becomes an
equation. What the function does to tensors, gradients, optimisers and the generator is noted as an
effect instead of being done. Reading values is an error that names the user's line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import Primitive, Value, mode
from tinygrad_ai.backend import NUMPY, register_backend
from tinygrad_ai.config import without_kernels
from tinygrad_ai.errors import GraphError
from tinygrad_ai.jit.lower import Aval
from tinygrad_ai.jit.program import Equation, Input, Var, frozen, where_called
from tinygrad_ai.jit.update import Update
from tinygrad_ai.tensor import Tensor


class _Symbolic:
    """The backend of variables: they live where NumPy's arrays do, and have no values."""

    name = "capture"
    array_type = Var
    xp = NUMPY.xp

    def devices(self) -> list[str]:
        """None of its own."""
        return []

    def device_of(self, array: Var) -> str:
        """The host."""
        return "cpu"

    def asarray(self, data: Any, dtype: Any = None) -> Any:
        """``data`` in another dtype."""
        boxed = Tensor.box(data)
        return (boxed if dtype is None else boxed.astype(dtype)).array

    def to_numpy(self, array: Var) -> Any:
        """There are no values: raises GraphError."""
        raise GraphError(
            f"the values of a tensor {array.shape} are not known while a step is captured: item(), "
            f"numpy(), bool() and print need them{where_called()}",
            "   help: return the tensor and read it outside; choose with where(condition, a, b)",
            "   help: jit(f, debug=True) runs eagerly, so that print and a debugger work",
        )


register_backend(_Symbolic())  # variables are a kind of array


class Effects:
    """What a captured function does besides returning: variables by what they are written to."""

    def __init__(self) -> None:
        self.writes: dict[int, tuple[Callable[[], Any], Var]] = {}  # of a tensor's array, or a slot
        self.touched: dict[int, list[int]] = {}  # version cells of tensors that are written to
        self.updates: list[Callable[[], dict[str, Any]]] = []  # advance an optimiser's step count


class Capture:
    """The interpreter of primitives that writes a program instead of computing.

    ``owners`` are the tensors by the identity of their arrays, from which their present arrays can
    be had at every call; an array without an owner is a constant.
    """

    def __init__(self, owners: dict[int, Callable[[], Any]]) -> None:
        self.owners = owners
        self.inputs: list[Input] = []
        self.equations: list[Equation] = []
        self.current: dict[int, Var] = {}  # array identity -> what it now holds
        self.kept: list[Any] = []  # arrays whose identities are in use
        self.effects = Effects()
        self.cleared: set[int] = set()  # leaves whose gradients were forgotten
        self.asked: set[int] = set()  # leaves whose gradients were looked at before that

    # ------------------------------------------------------------------------ as an interpreter

    def __call__(
        self, primitive: Primitive, args: Sequence[Any], arrays: list[Any], params: dict[str, Any]
    ) -> Any:
        """The output of ``primitive`` as a variable; of plain arrays alone, as a plain array."""
        if not any(isinstance(a, Value | Var) for a in args):
            return primitive.evaluate(arrays, params)
        inputs = tuple(
            self.read(array, arg) if hasattr(array, "dtype") else array
            for arg, array in zip(args, arrays, strict=True)
        )
        known = tuple(v.aval if isinstance(v, Var) else v for v in inputs)
        out = Var(*infer(primitive, known, params))
        self.equations.append(Equation(primitive, inputs, params, (out,)))
        return out

    def read(self, array: Any, owner: Any = None) -> Var:
        """What ``array`` holds at this point of the function."""
        if isinstance(array, Var):
            return array
        key = id(array)
        if key not in self.current:
            if isinstance(owner, Value) and not owner.is_leaf and mode.grad:
                raise GraphError(
                    "jit: the function reads a tensor that was computed outside of it and "
                    f"through which gradients flow{where_called()}",
                    "   help: pass it as an argument, or detach() it",
                )
            self.kept.append(array)
            if key in self.owners:
                self.current[key] = self.input("state", self.owners[key], np.asarray(array), key)
            else:
                fixed = np.array(array)
                self.current[key] = self.input("constant", lambda: fixed, fixed, fixed.tobytes())
        return self.current[key]

    def input(self, kind: str, fetch: Callable[[], Any], like: Any, key: Any = None) -> Var:
        """A new variable that ``fetch`` gives at every call."""
        var = Var(tuple(like.shape), like.dtype)
        self.inputs.append(Input(var, kind, fetch, key))
        return var

    def note_read(self, leaf: Value) -> None:
        """Somebody looks at the gradient of ``leaf``: whether there is one may matter."""
        if id(leaf) not in self.cleared:
            self.asked.add(id(leaf))

    # --------------------------------------------------------------------------------- effects

    def draw(self, make: Callable[[], np.ndarray[Any, Any]]) -> Var:
        """Random numbers: drawn at every call, in the order of the captured run."""
        generator = random.generator()
        before = generator.state_dict()
        like = make()
        generator.load_state_dict(before)
        return self.input("draw", make, like)

    def assign(self, tensor: Value, key: Any, value: Any) -> None:
        """``tensor`` holds ``value`` from here on, and after the step."""
        if not (key is Ellipsis or (isinstance(key, slice) and key == slice(None))):
            raise GraphError(
                f"jit: only a whole tensor can be assigned to, x[...] = y, not x[{key!r}]"
                + where_called(),
                "   help: where(mask, new, x) gives a tensor that can be assigned as a whole",
            )
        if isinstance(tensor.array, Var):
            raise GraphError(
                "jit: assignment to a tensor that was computed in the captured function"
                + where_called(),
                "   help: where(mask, new, x) gives a new one",
            )
        old = self.read(tensor.array, tensor)
        given = value.array if isinstance(value, Value) else value
        fitting = Tensor.box(
            self.read(np.asarray(given) if isinstance(given, float | int) else given)
        )
        if fitting.dtype != old.dtype:
            fitting = fitting.astype(old.dtype)
        if fitting.shape != old.shape:
            fitting = fitting + Tensor.box(np.zeros(old.shape, old.dtype))
        self._write(tensor.array, fitting.array)
        self.effects.touched[id(tensor.version)] = tensor.version

    def _write(self, array: Any, value: Var) -> None:
        key = id(array)
        self.current[key] = value
        self.effects.writes[key] = self.owners.get(key, lambda: array), value

    def update(
        self,
        rule: Callable[..., None],
        parameter: Value,
        slots: Callable[[], dict[str, Any]],
        numbers: Callable[[], dict[str, Any]],
        now: dict[str, Any],
    ) -> None:
        """An optimiser's step for one parameter.

        ``slots()`` are its arrays at a call, ``numbers()`` advances its step count and gives the
        settings, of which ``now`` are those of this moment.
        """
        names = [k for k in slots() if k != "step"]
        for name in names:
            array = slots()[name]
            self.owners.setdefault(id(array), partial(_slot, slots, name))
        operation = Update(rule, names, now)
        held = [slots()[name] for name in names]
        cells = [self.read(parameter.array, parameter), self.read(parameter.grad.array)]
        cells += [self.read(array) for array in held]
        place = len(self.effects.updates)
        self.effects.updates.append(numbers)
        zero = np.zeros(())
        for name in operation.varying:
            cells.append(self.input("number", lambda: 0.0, zero, (place, name)))
        outputs = tuple(Var(v.shape, v.dtype) for v in (cells[0], *cells[2 : 2 + len(names)]))
        self.equations.append(Equation(operation, tuple(cells), {}, outputs))
        for array, value in zip([parameter.array, *held], outputs, strict=True):
            self._write(array, value)
        self.effects.touched[id(parameter.version)] = parameter.version


# ------------------------------------------------------------------------------------------- avals

_inferred: dict[Any, Aval] = {}


def infer(primitive: Primitive, inputs: Sequence[Any], params: dict[str, Any]) -> Aval:
    """Shape and dtype of ``primitive``'s output, from its forward rule on harmless arrays."""
    kinds = tuple(a if isinstance(a, Aval) else (type(a), a) for a in inputs)
    key = (primitive, kinds, frozen(params))
    found = _inferred.get(key)
    if found is None:
        shapes = [a.shape for a in inputs if isinstance(a, Aval)]
        small = primitive.kind == "elementwise"
        shape = np.broadcast_shapes(*shapes) if small else None
        with without_kernels():  # nothing is to be compiled for the sake of a shape
            out = primitive.evaluate([_example(a, small) for a in inputs], params)
        out = np.asarray(out)
        found = _inferred[key] = Aval(tuple(out.shape) if shape is None else shape, out.dtype)
    return found


def _slot(slots: Callable[[], dict[str, Any]], name: str) -> Any:
    return slots()[name]


def _example(a: Any, small: bool) -> Any:
    """An array that no operation refuses: zeros of integers, or a well-conditioned matrix."""
    if not isinstance(a, Aval):
        return a
    shape = (1,) * len(a.shape) if small else a.shape
    if a.dtype.kind != "f":
        return np.zeros(shape, a.dtype)
    ones = np.ones(shape, a.dtype)
    square = len(shape) > 1 and shape[-1] == shape[-2] and shape[-1] < 512
    return ones + np.eye(shape[-1], dtype=a.dtype) if square else ones
