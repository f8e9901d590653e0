"""Views: where in memory the elements of a moved array stand, if strides can say it.

NumPy does the arithmetic, on arrays that have shapes and strides but no memory behind them.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.jit.program import Equation, Program, Var
from tinygrad_ai.ops.elementwise import positive
from tinygrad_ai.ops.movement import broadcast_to_, flip_, permute, reshape_, slice_
from tinygrad_ai.ops.transfer import transfer

AFFINE = {broadcast_to_, flip_, permute, reshape_, slice_, positive, transfer}
_memory = np.zeros(1, np.int8)


class View(NamedTuple):
    """Element ``index`` stands at ``offset + Σ index·strides`` of ``root`` (in elements)."""

    root: Var
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def whole(cls, root: Var) -> View:
        """The array itself, C-contiguous."""
        return cls(root, 0, root.shape, contiguous(root.shape))

    def moved(self, e: Equation) -> View | None:
        """What the movement ``e`` makes of this view; None where that takes a copy."""
        ghost = _ghost(self.shape, self.strides)
        try:
            if e.operation is reshape_:
                after = ghost[...]
                after.shape = e.params["shape"]
            elif e.operation in (positive, transfer):
                after = ghost
            elif e.operation is slice_:  # with ..., for a single element is no array otherwise
                after = ghost[*e.params["key"], ...]
            else:
                after = e.operation.forward(np, ghost, **e.params)
        except AttributeError:
            return None
        moved = after.__array_interface__["data"][0] - ghost.__array_interface__["data"][0]
        return View(self.root, self.offset + moved, after.shape, after.strides)

    def reshaped(self, shape: tuple[int, ...]) -> View | None:
        """The same elements in another shape; None where strides cannot say it."""
        strides = _reshaped(self.shape, self.strides, shape)
        return None if strides is None else View(self.root, self.offset, shape, strides)

    def broadcast(self, shape: tuple[int, ...]) -> View:
        """Broadcast to ``shape``."""
        return View(self.root, self.offset, shape, _broadcast(self.shape, self.strides, shape))

    @property
    def elements(self) -> int:
        """How many elements of the root it shows, each counted once."""
        seen = (n for n, step in zip(self.shape, self.strides, strict=True) if step or not n)
        return min(math.prod(seen), self.root.size)

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        """Whether this is all of the root, in its own order, seen in ``shape``."""
        if self.offset or self.root.size != math.prod(shape):
            return False
        steps = zip(shape, self.strides, contiguous(shape), strict=True)
        return all(n == 1 or a == b for n, a, b in steps)

    def array(self, memory: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The view of ``memory``, the root's array."""
        size = memory.itemsize
        steps = [s * size for s in self.strides]
        if self.offset or min(steps, default=0) < 0 or 0 in self.shape:
            flat = memory.reshape(-1)[self.offset :]
            return np.lib.stride_tricks.as_strided(flat, self.shape, steps)
        return np.ndarray(self.shape, memory.dtype, memory, 0, steps)  # the same, sooner


Shape = tuple[int, ...]


def _ghost(shape: Shape, strides: Shape) -> np.ndarray[Any, Any]:
    return np.lib.stride_tricks.as_strided(_memory, shape, strides)


@lru_cache(maxsize=1 << 12)  # a step unrolled in time asks the same for every moment
def _reshaped(shape: Shape, strides: Shape, new: Shape) -> Shape | None:
    after = _ghost(shape, strides)[...]
    try:
        after.shape = new
    except AttributeError:
        return None
    return after.strides


@lru_cache(maxsize=1 << 12)
def _broadcast(shape: Shape, strides: Shape, new: Shape) -> Shape:
    return np.broadcast_to(_ghost(shape, strides), new).strides


@lru_cache(maxsize=1 << 12)
def contiguous(shape: Shape) -> Shape:
    """The strides, in elements, of a C-contiguous array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def without_idle_moves(program: Program) -> Program:
    """Reshapes to the shape that is there are left out, as a rule makes where nothing broadcast."""
    idle = {
        e.outputs[0]: e.inputs[0]
        for e in program.equations
        if e.operation is reshape_ and e.inputs[0].shape == e.outputs[0].shape
    }
    return program.rewritten(
        idle, (e for e in program.equations if idle.keys().isdisjoint(e.outputs))
    )
