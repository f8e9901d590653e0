"""vmap: a function of one example made into a function of a batch, operation by operation.

Inside, a tensor holds a :class:`Batched`: the whole batch with its axis in front, which shows the
shape of one example. What an operation does with it follows from its kind.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_ai.autodiff import Primitive, Value, mode
from tinygrad_ai.errors import DTypeError, GraphError, ShapeError
from tinygrad_ai.ops.movement import broadcast_to_, moveaxis, reshape_, slice_, stack
from tinygrad_ai.ops.shapes import one_axis
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms.reverse import as_tensor
from tinygrad_ai.transforms.tree import flatten

_looped: set[str] = set()


class Batched:
    """The arrays of all examples, batch axis first, in the shape of one."""

    __slots__ = ("array", "level")

    def __init__(self, array: Any, level: Level) -> None:
        self.array = array
        self.level = level

    shape = property(lambda self: self.array.shape[1:])
    dtype = property(lambda self: self.array.dtype)
    ndim = property(lambda self: self.array.ndim - 1)

    @property
    def size(self) -> int:
        return self.array.size // max(self.level.size, 1)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise GraphError(
            "assignment inside vmap would change every example's tensor",
            "   help: where(mask, new, x) gives a new one",
        )

    def copy(self) -> Batched:
        """Itself: a batch is never written to."""
        return self


class Level:
    """One vmap at work: the interpreter that evaluates primitives on its batches."""

    def __init__(self, size: int, parent: Callable[..., Any] | None) -> None:
        self.size = size
        self.parent = parent

    def __call__(
        self, primitive: Primitive, args: Sequence[Any], arrays: list[Any], params: dict[str, Any]
    ) -> Any:
        """Evaluate ``primitive``; other levels' batches and plain arrays are left to the parent."""
        own = [isinstance(a, Batched) and a.level is self for a in arrays]
        mode.interpreter = self.parent
        try:
            if any(own):
                inputs = [a.array if o else x for o, a, x in zip(own, arrays, args, strict=True)]
                return Batched(self._apply(primitive, inputs, own, params), self)
            if self.parent is not None:
                return self.parent(primitive, args, arrays, params)
            return primitive.evaluate(arrays, params)
        finally:
            mode.interpreter = self

    def _apply(
        self, primitive: Primitive, inputs: list[Any], own: list[bool], params: dict[str, Any]
    ) -> Any:
        if primitive.kind == "elementwise" or primitive.batch == "leading":
            return primitive(*self._aligned(inputs, own), **params)
        if callable(primitive.batch):
            whole = [self._whole(x, o) for x, o in zip(inputs, own, strict=True)]
            return primitive(*whole, **primitive.batch(self.size, **params))
        if primitive.name not in _looped:
            _looped.add(primitive.name)
            warnings.warn(
                f"vmap: {primitive.name} has no batching rule; it runs once per example",
                stacklevel=4,
            )
        if not self.size:
            raise ShapeError(f"vmap: {primitive.name} runs once per example, but there are none")
        results = []
        for k in range(self.size):
            one = [slice_(x, key=(k,)) if o else x for x, o in zip(inputs, own, strict=True)]
            results.append(primitive(*one, **params))
        return stack(results)

    @staticmethod
    def _aligned(inputs: list[Any], own: list[bool]) -> list[Any]:
        """Axes of size 1 put in behind the batch axis, so that examples broadcast as they do."""
        width = max(getattr(x, "ndim", 0) - o for x, o in zip(inputs, own, strict=True))
        aligned = []
        for x, o in zip(inputs, own, strict=True):
            if o and x.ndim - 1 < width:
                x = reshape_(x, shape=(x.shape[0], *(1,) * (width - x.ndim + 1), *x.shape[1:]))
            aligned.append(x)
        return aligned

    def _whole(self, x: Any, own: bool) -> Any:
        """An input that does not vary, repeated for every example."""
        return x if own else broadcast_to_(x, shape=(self.size, *x.shape))


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0) -> Callable[..., Any]:
    """``f`` over a batch of examples at once.

    Args:
        f: a function of one example; takes and returns nested tuples, lists and dicts.
        in_axes: the batch axis of every argument, or a tuple with one for each argument (None:
            the same for all examples).
        out_axes: where the batch axis stands in the results.

    Raises ShapeError if the batch sizes differ or there is no batch axis. Operations without a
    batching rule run once per example and say so once.
    """

    for axis in in_axes if isinstance(in_axes, tuple | list) else [in_axes]:
        if not (axis is None or isinstance(axis, int)):
            raise DTypeError(
                f"vmap: in_axes is an integer, None, or a tuple of them with one for each "
                f"argument, not {in_axes!r}"
            )
    if not isinstance(out_axes, int):
        raise DTypeError(f"vmap: out_axes is one integer for all results, not {out_axes!r}")

    @functools.wraps(f)
    def over_batch(*args: Any, **keywords: Any) -> Any:
        if keywords:
            raise DTypeError(
                f"vmap: pass {min(keywords)!r} by position, as in_axes counts the arguments"
            )
        axes = in_axes if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
        if len(axes) != len(args):
            raise ShapeError(f"vmap: {len(axes)} in_axes for {len(args)} arguments")
        sizes = {
            _batch_size(leaf, axis)
            for arg, axis in zip(args, axes, strict=True)
            if axis is not None
            for leaf in flatten(arg)[0]
        }
        if len(sizes) != 1:
            raise ShapeError(
                f"vmap: batch sizes differ: {sorted(sizes)}" if sizes else "vmap: no batch axis"
            )
        level = Level(sizes.pop(), mode.interpreter)
        inside = [_enter(arg, axis, level) for arg, axis in zip(args, axes, strict=True)]
        outside = mode.one_of_many
        mode.interpreter, mode.one_of_many = level, True
        try:
            out = f(*inside)
        finally:
            mode.interpreter, mode.one_of_many = level.parent, outside
        leaves, rebuild = flatten(out)
        return rebuild([_leave(leaf, out_axes, level) for leaf in leaves])

    return over_batch


def _batch_size(leaf: Any, axis: int) -> int:
    tensor = as_tensor(leaf)
    if not isinstance(tensor, Tensor):
        raise DTypeError(f"vmap: {type(leaf).__name__} has no batch axis; in_axes=None shares it")
    return tensor.shape[one_axis(axis, tensor.ndim, "vmap: in_axes")]


def _enter(arg: Any, axis: int | None, level: Level) -> Any:
    if axis is None:
        return arg
    leaves, rebuild = flatten(arg)
    return rebuild([Tensor.box(Batched(moveaxis(as_tensor(t), axis, 0), level)) for t in leaves])


def _leave(leaf: Any, axis: int, level: Level) -> Any:
    tensor = as_tensor(leaf)
    if not isinstance(tensor, Tensor):
        raise DTypeError(f"vmap of a function that returns {type(leaf).__name__}, not tensors")
    inner = tensor.array
    if isinstance(inner, Batched) and inner.level is level:
        out = inner.array if isinstance(inner.array, Value) else Tensor.box(inner.array)
    else:
        out = broadcast_to_(tensor, shape=(level.size, *tensor.shape))
    return moveaxis(out, 0, axis) if axis else out
