"""What is read of an array put together of parts is read of the part, and zeros are not added.

A recurrent net stacks its outputs and uses the last; the gradient of that is zeros but for the
last step. Neither the stack nor the zeros need be made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from tinygrad_ai.jit.program import Equation, Program, Var
from tinygrad_ai.jit.slices import Slices
from tinygrad_ai.jit.views import AFFINE, View, contiguous
from tinygrad_ai.ops.elementwise import add
from tinygrad_ai.ops.movement import concatenate_, reshape_, unslice


class Box(NamedTuple):
    """From index ``low`` to ``high``, included, along every axis of an array."""

    low: tuple[int, ...]
    high: tuple[int, ...]

    def holds(self, other: Box) -> bool:
        """Whether all of ``other`` is inside."""
        pairs = zip(self.low, other.low, other.high, self.high, strict=True)
        return all(a <= b and c <= d for a, b, c, d in pairs)

    def meets(self, other: Box) -> bool:
        """Whether they share an element."""
        pairs = zip(self.low, self.high, other.low, other.high, strict=True)
        return all(a <= d and c <= b for a, b, c, d in pairs)


class Part(NamedTuple):
    """What stands in a box of a larger array."""

    box: Box
    var: Var


def with_parts_read(program: Program) -> Program:
    """``program`` in which whole parts are read where they were made."""
    views: dict[Var, View] = {}
    parts: dict[Var, list[Part]] = {}
    replaced: dict[Var, Any] = {}
    zeros: set[Var] = set()
    equations = []
    for e in program.equations:
        made = e
        if e.operation in AFFINE:
            (x,), (out,) = e.inputs, e.outputs
            seen = views.get(x, View.whole(x)).moved(e)
            if x in zeros:
                zeros.add(out)
            elif seen is not None:
                views[out] = seen
                root = _inner(seen, parts, views)
                if root is None:
                    zeros.add(out)
                elif root is not seen and root.is_whole(out.shape):
                    made = Equation(reshape_, (root.root,), {"shape": out.shape}, (out,), e.part_of)
        elif e.operation is add and all(isinstance(v, Var) for v in e.inputs):
            others = [v for v in e.inputs if v not in zeros and v.aval == e.outputs[0].aval]
            if len(others) == 1 and any(v in zeros for v in e.inputs):
                replaced[e.outputs[0]] = others[0]
        else:
            found = list(_parts(e))
            known = [p for p in found if p is not None and p.var.dtype == e.outputs[0].dtype]
            if found and len(known) == len(found):
                parts[e.outputs[0]] = known
        equations.append(made)
    return program.rewritten(replaced, equations)


def _parts(e: Equation) -> Iterator[Part | None]:
    """What an equation puts together; None for what is no box."""
    if e.operation is concatenate_:
        axis, at = e.params["axis"], 0
        for v in e.inputs:
            low = tuple(at if k == axis else 0 for k in range(v.ndim))
            yield Part(Box(low, tuple(a + n - 1 for a, n in zip(low, v.shape, strict=True))), v)
            at += v.shape[axis]
    elif e.operation is unslice or isinstance(e.operation, Slices):
        keys = e.operation.keys if isinstance(e.operation, Slices) else [e.params["key"]]
        for key, v in zip(keys, e.inputs, strict=True):
            box = _keyed(key, e.outputs[0].shape)
            yield None if box is None else Part(box, v)


def _keyed(key: tuple[Any, ...], shape: tuple[int, ...]) -> Box | None:
    low, high = [0] * len(shape), [n - 1 for n in shape]
    for k, (part, n) in enumerate(zip((p for p in key if p is not None), shape, strict=False)):
        if isinstance(part, slice):
            start, stop, step = part.indices(n)
            if step != 1:
                return None
            low[k], high[k] = start, stop - 1
        elif isinstance(part, int):
            low[k] = high[k] = part % n
        else:
            return None
    return Box(tuple(low), tuple(high))


def _inner(view: View, parts: dict[Var, list[Part]], views: dict[Var, View]) -> View | None:
    """The same elements as a view of the innermost part that holds them; None where all are 0."""
    while view.root in parts:
        known = _coordinates(view)
        if known is None:
            return view
        box, steps = known
        found = [p for p in parts[view.root] if p.box.meets(box)]
        if not found:
            return None
        (part, *more) = found
        if more or not part.box.holds(box):
            return view
        sizes = tuple(b - a + 1 for a, b in zip(*part.box, strict=True))
        inside = contiguous(sizes)
        start = _dot((b - a for a, b in zip(part.box.low, box.low, strict=True)), inside)
        root, seen = part.var, views.get(part.var)
        if seen is not None and seen.is_whole(root.shape):
            root = seen.root
        view = View(root, start, view.shape, tuple(_dot(s, inside) for s in steps))
    return view


def _coordinates(view: View) -> tuple[Box, list[list[int]]] | None:
    """The box that a view spans of its root, and its steps along the root's axes.

    None where a step leads over the end of an axis, or backwards.
    """
    shape = view.root.shape
    if min(view.strides, default=0) < 0 or not view.root.size or 0 in view.shape:
        return None
    low = _digits(view.offset, shape)
    strides = [s if n > 1 else 0 for s, n in zip(view.strides, view.shape, strict=True)]
    steps = [_digits(s, shape) for s in strides]
    high = list(low)
    for n, step in zip(view.shape, steps, strict=True):
        high = [h + (n - 1) * s for h, s in zip(high, step, strict=True)]
    if any(h >= n for h, n in zip(high, shape, strict=True)):
        return None
    return Box(tuple(low), tuple(high)), steps


def _digits(offset: int, shape: tuple[int, ...]) -> list[int]:
    """``offset`` into a contiguous array as steps along its axes."""
    digits = []
    for step in contiguous(shape):
        digits.append(offset // step)
        offset %= step
    return digits


def _dot(a: Iterable[int], b: Iterable[int]) -> int:
    return sum(x * y for x, y in zip(a, b, strict=True))
