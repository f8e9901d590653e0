"""Operations that have kernels of their own: convolution, pooling, concatenation, scattering.

:func:`covers` says whether an equation's shapes and dtypes are among those that the kernels hold,
:func:`lower` appends its launches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.jit.program import Equation, Var
from tinygrad_ai.jit.slices import Slices
from tinygrad_ai.jit.views import View, contiguous
from tinygrad_ai.kernels.cpu.copy import copy_units, emit_copy, emit_zeros, joined, zeros_units
from tinygrad_ai.kernels.cpu.recipes import Recipe, recipe
from tinygrad_ai.kernels.cpu.simd import ELEMENTS
from tinygrad_ai.ops.movement import concatenate_, reshape_, slice_, unslice

HELD = frozenset(map(np.dtype, ELEMENTS))  # the dtypes that kernels know


def held(e: Equation) -> bool:
    """Whether kernels hold all the dtypes of an equation, and there is something to hold."""
    return all(v.dtype in HELD and v.size for v in (*e.reads(), *e.outputs))


def covers(e: Equation) -> bool:
    """Whether there are kernels for this equation."""
    if _copies(e):
        return held(e) and len({v.dtype for v in (*e.reads(), *e.outputs)}) == 1
    found = _recipe(e)
    (out, *more) = e.outputs
    return found is not None and not more and found.out == out.shape


def lower(lowering: Any, e: Equation) -> None:
    """Append the launches of an equation that is covered."""
    if (copies := _copies(e)) is not None:
        copies(lowering, e)
        return
    found = _recipe(e)
    assert found is not None
    (out,) = e.outputs
    memory: dict[int | str, tuple[Var, int]] = {
        name: (Var((n,), out.dtype), 0) for name, n in found.temporaries.items()
    }
    memory["out"] = out, 0
    memory |= {k: _whole(lowering, v) for k, v in enumerate(e.reads())}
    for step in found.steps:
        placed = [memory[k] for k in step.operands]
        roots = [v for v, _ in placed]
        scratch = {len(roots): step.scratch} if step.scratch else {}
        lowering.native(
            step.name,
            step.emit,
            [*roots, *(Var((1,), out.dtype) for _ in scratch)],
            step.units,
            equations=[e] if step.name == e.name else (),
            offsets={k: at for k, (_, at) in enumerate(placed)},
            scratch=scratch,
            size=found.work if step.units > 1 else 0,
        )


def _recipe(e: Equation) -> Recipe | None:
    inputs = [(v.shape, v.dtype.name) for v in e.reads()]
    return recipe(e.name, inputs, e.params) if len(inputs) == len(e.inputs) else None


def _whole(lowering: Any, v: Var) -> tuple[Var, int]:
    """Where ``v`` stands, contiguous, and at which offset: copied there first if need be."""
    view = lowering.fused.views[v]
    steps = contiguous(v.shape)
    if all(n == 1 or a == b for n, a, b in zip(v.shape, view.strides, steps, strict=True)):
        return view.root, view.offset
    made = Var(v.shape, v.dtype)
    _copy(lowering, "copy", view, made, steps, 0, True)
    return made, 0


def _copy(
    lowering: Any, name: str, view: View, out: Var, steps: Any, offset: int, first: bool
) -> None:
    """A launch that copies what ``view`` sees to ``out``.

    One that is not the ``first`` to write there counts as reading it, so that it comes later.
    """
    lowering.native(
        name,
        partial(emit_copy, view.shape, steps, view.strides, out.dtype.name),
        [out, view.root],
        copy_units(view.shape, steps, view.strides),
        writes={0} if first else set(),
        offsets={0: offset, 1: view.offset},
        touched={0: math.prod(view.shape), 1: view.elements},
        size=out.size,
    )


def _concatenate(lowering: Any, e: Equation) -> None:
    (out,), axis = e.outputs, e.params["axis"]
    steps = contiguous(out.shape)
    offset = 0
    for v in e.reads():
        _copy(lowering, e.name, lowering.fused.views[v], out, steps, offset, offset == 0)
        offset += v.shape[axis] * steps[axis]


def _reshape(lowering: Any, e: Equation) -> None:
    (x,), (out,) = e.reads(), e.outputs
    _copy(lowering, e.name, lowering.fused.views[x], out, contiguous(x.shape), 0, True)


def in_pieces(view: View, columns: int) -> bool:
    """Whether rows of so many ``columns`` of its elements lie in several pieces of memory."""
    (*_, run), (_, (*_, step)) = joined(view.shape, contiguous(view.shape), view.strides)
    return step == 1 < run < columns


def _unslice(lowering: Any, e: Equation) -> None:
    _put_back(lowering, e, [e.params["key"]], False)


def _slices(lowering: Any, e: Equation) -> None:
    _put_back(lowering, e, e.operation.keys, e.operation.whole)


def _put_back(lowering: Any, e: Equation, keys: Sequence[Any], whole: bool) -> None:
    """Zeros, unless the slices are the ``whole`` array, and slices written over their places."""
    (out,) = e.outputs
    if not whole:
        zeros = partial(emit_zeros, out.size, out.dtype.name)
        lowering.native("zeros", zeros, [out], zeros_units(out.size), size=out.size)
    for k, (g, key) in enumerate(zip(e.reads(), keys, strict=True)):
        place = View.whole(out).moved(Equation(slice_, (out,), {"key": key}, (g,)))
        assert place is not None
        view, first = lowering.fused.views[g], whole and k == 0
        _copy(lowering, e.name, view, out, place.strides, place.offset, first)


def _copies(e: Equation) -> Callable[[Any, Equation], None] | None:
    """What appends the launches of an equation that only copies; None for others."""
    if isinstance(e.operation, Slices):
        return _slices
    return {concatenate_: _concatenate, unslice: _unslice, reshape_: _reshape}.get(e.operation)
