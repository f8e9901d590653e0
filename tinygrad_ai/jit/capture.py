"""Capture: a function runs once with variables in the place of arrays, and leaves a program.

While it runs, every primitive (backward's too, whose rules run on tensors then) becomes an
equation. What the function does to tensors, gradients, optimisers and the generator is noted as an
effect instead of being done. Reading values is an error that names the user's line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.autodiff import Primitive, Value, mode
from tinygrad_ai.backend import NUMPY, register_backend
from tinygrad_ai.config import without_kernels
from tinygrad_ai.errors import GraphError, IndexRangeError, ShapeError
from tinygrad_ai.jit.guards import fetch
from tinygrad_ai.jit.lower import Aval
from tinygrad_ai.jit.memory import Memory
from tinygrad_ai.jit.program import Equation, Input, Var, where_called
from tinygrad_ai.jit.ranges import Check, exact_of, operands
from tinygrad_ai.jit.update import Update
from tinygrad_ai.ops.lowering import Composite
from tinygrad_ai.ops.movement import broadcast_to, reshape
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.tree import flatten

TRACED = (Value, Var)


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
        raise _not_known(array)


register_backend(_Symbolic())  # variables are a kind of array


def _not_known(array: Any) -> GraphError:
    return GraphError(
        f"the values of a tensor {array.shape} are not known while a step is captured: item(), "
        f"numpy(), bool(), print, copies and files need them{where_called()}",
        "   help: return the tensor and read it outside; choose with where(condition, a, b)",
        "   help: jit(f, debug=True) runs eagerly, so that print and a debugger work",
    )


class Effects:
    """What a captured function does besides returning: variables by what they are written to."""

    def __init__(self) -> None:
        self.writes: dict[int, Callable[[], Any]] = {}  # what array, of a tensor or a slot
        self.touched: dict[int, tuple[list[int], int]] = {}  # version cells, and what they were
        #: what advances an optimiser's step count for a parameter, and the update that follows
        self.updates: list[tuple[Callable[..., dict[str, Any]], Update]] = []


class Later:
    """The operation that calls ``function`` with tensors at ``places`` among ``fixed`` leaves."""

    kind = "opaque"

    def __init__(
        self,
        function: Callable[..., Any],
        fixed: Sequence[Any],
        places: Sequence[int],
        rebuild: Callable[[list[Any]], Any],
    ) -> None:
        self.function, self.fixed, self.places, self.rebuild = function, fixed, places, rebuild
        self.name = function.__name__
        self.lower = Composite(self._on)

    def _on(self, *values: Any) -> Any:
        leaves = list(self.fixed)
        for place, value in zip(self.places, values, strict=True):
            leaves[place] = value
        return self.function(*self.rebuild(leaves))

    def evaluate(self, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
        """The result, by NumPy."""
        return np.asarray(self._on(*map(Tensor.box, arrays)).array)


class NeedsTensor(BaseException):
    """The function does to an argument what can be done only to a tensor that is always the same.

    It assigns to it, or looks at a gradient that it has already. (No Exception, which the function
    might catch.)
    """

    def __init__(self, argument: int) -> None:
        self.argument = argument


class Written(NamedTuple):
    """The array ``place()`` becomes ``var``; it was ``old``, and ``beside`` share its memory."""

    var: Var
    place: Callable[[], Any]
    old: Var
    beside: list[Var]


class Capture:
    """The interpreter of primitives that writes a program instead of computing.

    ``owners`` are the tensors by the identity of their arrays, from which their present arrays can
    be had at every call; an array without an owner is a constant.
    """

    def __init__(self, owners: dict[int, Callable[[], Any]]) -> None:
        self.owners = owners
        self.inputs: list[Input] = []
        self.equations: list[Equation] = []
        self.unowned: dict[int, tuple[Value, Any]] = {}  # other tensors, and their gradients
        self.reached: set[int] = set()  # those of them that got a gradient
        self.met: dict[int, Var] = {}  # array identity -> what it held when the function began
        self.memory = Memory()
        self.kept: list[Any] = []  # arrays whose identities are in use
        self.effects = Effects()
        self.cleared: set[int] = set()  # leaves whose gradients were forgotten
        self.checks: list[Check] = []
        self.draws: dict[Any, Var] = {}
        self.arguments: set[int] = set()  # the tensors that stand for arguments
        self.asked: set[int] = set()  # leaves whose gradients were looked at before that

    # ------------------------------------------------------------------------ as an interpreter

    def __call__(
        self, primitive: Primitive, args: Sequence[Any], arrays: list[Any], params: dict[str, Any]
    ) -> Any:
        """The output of ``primitive`` as a variable; of plain arrays alone, as a plain array."""
        if not any(isinstance(a, TRACED) for a in args):
            return primitive.evaluate(arrays, params)
        inputs = [
            self.read(array, arg) if hasattr(array, "dtype") else array
            for arg, array in zip(args, arrays, strict=True)
        ]
        known = tuple([v.aval if isinstance(v, Var) else v for v in inputs])
        e = Equation(primitive, tuple(inputs), params, ())
        out = Var(*infer(primitive, known, params, e.static))
        e.outputs = (out,)
        self.equations.append(e)
        for k, size in operands(primitive, known, params):
            if isinstance(inputs[k], Var):
                exact = exact_of(primitive, known, params, k, size)
                self.examine(inputs[k], size, exact, -size)
        self.memory.follow(primitive, self._known(arrays[0]), out, params)
        return out

    def later(self, function: Callable[..., Any], args: Sequence[Any]) -> Tensor:
        """``function(*args)``, true or false for each element of the first tensor, as one equation.

        It is written out when the program turns out to need it.
        """
        leaves, rebuild = flatten(tuple(args))
        places = [k for k, x in enumerate(leaves) if isinstance(x, Value)]
        inputs = tuple(self.read(leaves[k].array, leaves[k]) for k in places)
        out = Var(inputs[0].shape, np.dtype(np.bool_))
        fixed = [None if k in places else x for k, x in enumerate(leaves)]
        operation = Later(function, fixed, places, rebuild)
        self.equations.append(Equation(operation, inputs, {}, (out,)))
        return Tensor.box(out)

    def read(self, array: Any, owner: Any = None) -> Var:
        """What ``array`` holds at this point of the function."""
        if isinstance(array, Var):
            return self.memory.now(array)
        key = id(array)
        if key not in self.met:
            if isinstance(owner, Value) and not owner.is_leaf and mode.grad:
                raise GraphError(
                    "jit: the function reads a tensor that was computed outside of it and "
                    f"through which gradients flow{where_called()}",
                    "   help: pass it as an argument, or detach() it",
                )
            self.kept.append(array)
            if key in self.owners:
                self.met[key] = self.input("state", self.owners[key], np.asarray(array), key)
            else:
                if isinstance(owner, Value):
                    self.unowned[key] = owner, owner._grad
                fixed = np.array(array)
                self.met[key] = self.input("constant", lambda: fixed, fixed, fixed.tobytes())
            if isinstance(array, np.ndarray):
                self.memory.place(self.met[key], array, key)
        return self.memory.now(self.met[key])

    def _known(self, array: Any) -> Var | None:
        """The variable that stands for ``array``."""
        return array if isinstance(array, Var) else self.met.get(id(array))

    def input(self, kind: str, fetch: Callable[[], Any], like: Any, key: Any = None) -> Var:
        """A new variable that ``fetch`` gives at every call."""
        var = Var(tuple(like.shape), like.dtype)
        self.inputs.append(Input(var, kind, fetch, key))
        return var

    def adopt(self, other: Capture) -> list[Value]:
        """Tensors without an owner that ``other`` met too were there before: states, no constants.

        The arrays of one capture live as long as it does, so none of another can be taken for them.
        """
        found = {key: t for key, (t, _) in self.unowned.items() if key in other.unowned}
        for t in found.values():
            if id(t) in self.reached:
                raise GraphError(
                    f"jit: gradients reach a tensor {t.array.shape} that the function gets in a way"
                    " that cannot be followed (a weak reference, a context variable)",
                    "   help: pass it, or what it belongs to, as an argument",
                )
        kinds = {self.met[key]: (fetch(t), key) for key, t in found.items()}
        for k, source in enumerate(self.inputs):
            if source.var in kinds:
                self.inputs[k] = Input(source.var, "state", *kinds[source.var])
        return list(found.values())

    def take_back(self) -> None:
        """Leave no gradient without values in tensors without an owner."""
        for tensor, gradient in self.unowned.values():
            if tensor._grad is not gradient:
                self.reached.add(id(tensor))
                tensor._grad = gradient

    def examine(self, array: Any, size: int, exact: Callable[[Any], None], low: int = 0) -> None:
        """``exact`` is to refuse the integers that are not all in low … size-1, at every call."""
        if isinstance(array, Var | np.ndarray):
            self.checks.append(Check(self.read(array), low, size, exact, where_called()))

    def refuse(self, what: str, instead: str) -> NoReturn:
        """Raise GraphError for what a compiled step could not do again."""
        raise GraphError(
            f"jit: {what} in the function that is compiled{where_called()}",
            f"   help: {instead}",
        )

    def look(self, tensor: Value) -> None:
        """Somebody wants values: raises GraphError for a tensor that changes between calls."""
        if isinstance(tensor.array, Var) or id(tensor.array) in self.owners:
            raise _not_known(tensor.array)

    def note_read(self, leaf: Value, adding: bool = False) -> None:
        """Somebody looks at the gradient of ``leaf``: whether there is one may matter.

        Nobody sees to what backward adds in an argument: it is added after the call.
        """
        if id(leaf) not in self.cleared and not (adding and id(leaf) in self.arguments):
            self.asked.add(id(leaf))

    # --------------------------------------------------------------------------------- effects

    def draw(self, make: Callable[[], np.ndarray[Any, Any]]) -> Var:
        """Random numbers: drawn at every call, in the order of the captured run.

        What is drawn again from the same place of the stream, as a checkpoint does, is the same.
        """
        place = tuple(random.generator().state_dict().values())
        like = make()
        key = place, like.shape, like.dtype, like.tobytes()
        if key not in self.draws:
            self.draws[key] = self.input("draw", make, like)
        return self.draws[key]

    def assign(self, tensor: Value, key: Any, value: Any) -> None:
        """``tensor[key]`` holds ``value`` from here on, and after the step."""
        if not isinstance(tensor.array, Var):
            self.read(tensor.array, tensor)
        var = self._known(tensor.array)
        root = self.memory.held[var].root if var in self.memory.held else None
        if isinstance(root, NeedsTensor):
            raise root
        if var is None or root is None:
            raise GraphError(
                "jit: assignment to a tensor that was computed in the captured function, or to an "
                f"argument that is a NumPy array{where_called()}",
                "   help: where(mask, new, x) gives a new one",
            )
        place = _part(var.base, key)
        given = value.array if isinstance(value, Value) else value
        fitting = Tensor.box(self.read(given if hasattr(given, "dtype") else np.asarray(given)))
        with self.memory.still():
            extra = max(fitting.ndim - place.ndim, 0)
            if extra and set(fitting.shape[:extra]) == {1}:  # NumPy leaves them out
                fitting = reshape(fitting, fitting.shape[extra:])
            fitting = fitting.astype(place.dtype)
            if fitting.shape != place.shape:
                fitting = broadcast_to(fitting, place.shape)
        self._write(place, fitting.array, root)
        self._touch(tensor)

    def _write(self, array: Any, value: Var, root: int) -> None:
        """``array``, a part of the array ``root``, holds ``value``."""
        self.memory.assign(array, value)
        unowned = self.unowned.get(root)
        made_here = fetch(unowned[0]) if unowned is not None else lambda: array
        self.effects.writes.setdefault(root, self.owners.get(root, made_here))

    def _touch(self, tensor: Value) -> None:
        cell = tensor.version
        self.effects.touched.setdefault(id(cell), (cell, cell[0]))
        cell[0] += 1

    def written(self) -> list[Written]:
        """What the function has changed, as it stands in the end."""
        memory, found = self.memory, self.effects.writes.items()
        olds = [(self.met[key], place) for key, place in found]
        return [Written(memory.now(v), place, v, memory.sharing(v.base)) for v, place in olds]

    def update(
        self,
        rule: Callable[..., None],
        parameter: Value,
        slots: Callable[[], dict[str, Any]],
        numbers: Callable[..., dict[str, Any]],
        now: dict[str, Any],
    ) -> None:
        """An optimiser's step for one parameter.

        ``slots()`` are its arrays at a call, ``numbers(known)`` advances its step count and gives
        the settings, of which ``now`` are those of this moment.
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
        self.effects.updates.append((numbers, operation))
        zero = np.zeros(())
        for name in operation.varying:
            cells.append(self.input("number", lambda: 0.0, zero, (place, name)))
        outputs = tuple(Var(v.shape, v.dtype) for v in (cells[0], *cells[2 : 2 + len(names)]))
        self.equations.append(Equation(operation, tuple(cells), {}, outputs))
        for array, value in zip([parameter.array, *held], outputs, strict=True):
            self._write(array, value, id(array))
        self._touch(parameter)


# ------------------------------------------------------------------------------------------- avals

_inferred: dict[Any, Aval] = {}


def infer(primitive: Primitive, inputs: Sequence[Any], params: dict[str, Any], static: Any) -> Aval:
    """Shape and dtype of ``primitive``'s output, from its forward rule on harmless arrays.

    ``static`` is ``params`` as a key.
    """
    kinds = tuple([a if isinstance(a, Aval) else (type(a), a) for a in inputs])
    key = (primitive, kinds, static)
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


def _part(array: Any, key: Any) -> Any:
    """The view ``array[key]``."""
    parts = key if isinstance(key, tuple) else (key,)
    whole = () if any(p is Ellipsis for p in parts) else (...,)
    if not array.flags.writeable:
        raise ShapeError(f"x[{key!r}] = …: the tensor is read-only{where_called()}")
    basic = all(p is None or p is ... or isinstance(p, slice | int | np.integer) for p in parts)
    if not basic or any(isinstance(p, bool) for p in parts):
        raise GraphError(
            "jit: only slices can be assigned to, x[1:] = y, not what a mask or indices pick"
            + where_called(),
            "   help: x[...] = where(mask, new, x) assigns to the elements of a mask",
        )
    try:
        return array[(*parts, *whole)]
    except IndexError as error:
        raise IndexRangeError(f"x[{key!r}] = …: {error}") from None


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
