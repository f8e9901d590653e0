"""Views: where in memory the elements of a moved array stand, if strides can say it.

NumPy does the arithmetic, on arrays that have shapes and strides but no memory behind them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.jit.program import Equation, Var
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
        ghost = self._ghost()
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
        return self._after(ghost, after)

    def reshaped(self, shape: tuple[int, ...]) -> View | None:
        """The same elements in another shape; None where strides cannot say it."""
        ghost = self._ghost()
        after = ghost[...]
        try:
            after.shape = shape
        except AttributeError:
            return None
        return self._after(ghost, after)

    def broadcast(self, shape: tuple[int, ...]) -> View:
        """Broadcast to ``shape``."""
        ghost = self._ghost()
        return self._after(ghost, np.broadcast_to(ghost, shape))

    def is_whole(self, shape: tuple[int, ...]) -> bool:
        """Whether this is all of the root, in its own order, seen in ``shape``."""
        if self.offset or self.root.size != int(np.prod(shape)):
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

    def _ghost(self) -> np.ndarray[Any, Any]:
        return np.lib.stride_tricks.as_strided(_memory, self.shape, self.strides)

    def _after(self, ghost: np.ndarray[Any, Any], after: np.ndarray[Any, Any]) -> View:
        moved = after.__array_interface__["data"][0] - ghost.__array_interface__["data"][0]
        return View(self.root, self.offset + moved, after.shape, after.strides)


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides, in elements, of a C-contiguous array."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))
