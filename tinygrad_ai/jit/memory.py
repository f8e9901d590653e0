"""Memory while a function is captured: what is read after an assignment is what was assigned.

Variables have no memory, but those that stand for an array from outside, and the views of them that
the function takes, know the array that an eager run would have (``base``). NumPy so decides what is
a view, and which of its elements an assignment has changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.autodiff.graph import owner
from tinygrad_ai.jit.program import Var
from tinygrad_ai.ops.elementwise import where
from tinygrad_ai.ops.index import take_
from tinygrad_ai.ops.movement import reshape_
from tinygrad_ai.tensor import Tensor

Array = np.ndarray[Any, Any]


class Assignment(NamedTuple):
    """The elements of ``array`` became those of ``value``."""

    array: Array
    value: Var


class Held(NamedTuple):
    """What a variable's memory holds after ``seen`` assignments; ``root`` is whose memory it is."""

    root: Any
    seen: int
    content: Var


class Memory:
    """The assignments of a capture in order, and what the variables hold after them."""

    def __init__(self) -> None:
        self.log: dict[int, list[Assignment]] = {}  # by the array that owns the memory
        self.held: dict[Var, Held] = {}
        self._still = False

    @contextmanager
    def still(self) -> Iterator[None]:
        """Within it variables are what they are, not what became of their memory."""
        outer, self._still = self._still, True
        try:
            yield
        finally:
            self._still = outer

    def place(self, var: Var, array: Array, root: Any = None, seen: int = 0) -> None:
        """``var`` stands for ``array`` as it is after ``seen`` assignments."""
        var.base = array
        self.held[var] = Held(root, seen, var)

    def follow(self, primitive: Primitive, source: Var | None, out: Var, params: Any) -> None:
        """``out`` was made of ``source``: if it is a view of its memory, it stands there too."""
        if self._still or primitive.kind != "movement" or source is None or source.base is None:
            return
        array = primitive.evaluate([source.base], params)
        if owner(array) is owner(source.base):
            self.place(out, array, self.held[source].root, len(self._assignments(array)))

    def now(self, var: Var) -> Var:
        """What the memory of ``var`` holds after all assignments until now."""
        if self._still or var.base is None:
            return var
        assignments = self._assignments(var.base)
        root, seen, content = self.held[var]
        with self.still():
            for array, value in assignments[seen:]:
                content = _after(content, var.base, array, value)
        self.held[var] = Held(root, len(assignments), content)
        return content

    def assign(self, array: Array, value: Var) -> None:
        """``array`` holds ``value`` from here on."""
        self.log.setdefault(id(owner(array)), []).append(Assignment(array, value))

    def sharing(self, array: Array) -> list[Var]:
        """The variables that stand for some of the memory of ``array``, but not for the whole."""
        home = owner(array)
        return [v for v in self.held if v.base is not array and owner(v.base) is home]

    def forget(self) -> None:
        """Keep nothing alive."""
        for var in self.held:
            var.base = None
        self.held.clear()
        self.log.clear()

    def _assignments(self, array: Array) -> list[Assignment]:
        return self.log.get(id(owner(array)), [])


def _after(content: Var, base: Array, array: Array, value: Var) -> Var:
    """``content``, which stands for ``base``, after ``array`` was assigned ``value``."""
    if facts(base) == facts(array):
        return value
    found = _sources(base, array)
    if (found < 0).all():
        return content
    flat = reshape_(Tensor.box(value), shape=(value.size,))
    new = take_(flat, np.maximum(found, 0), axis=0)
    return (where(found >= 0, new, Tensor.box(content)) if (found < 0).any() else new).array


def facts(array: Array) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """Where ``array`` lies, and how."""
    return array.__array_interface__["data"][0], array.shape, array.strides


def _sources(base: Array, array: Array) -> Array:
    """For each element of ``base`` its number in ``array``, in C order; -1 for one not in it."""
    low, high = np.lib.array_utils.byte_bounds(owner(base))
    spots = np.full((high - low) // base.itemsize, -1)

    def elements(view: Array) -> Array:
        start, shape, strides = facts(view)
        steps = [s // base.itemsize * spots.itemsize for s in strides]
        first = (start - low) // base.itemsize
        return np.lib.stride_tricks.as_strided(spots[first:], shape, steps)

    elements(array)[...] = np.arange(array.size).reshape(array.shape)
    return elements(base).copy()
