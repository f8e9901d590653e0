"""The kernels on NumPy arrays, for eager calls: compiled at the first call with given shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_ai.kernels.cpu.machine import Native
from tinygrad_ai.kernels.cpu.memory import address
from tinygrad_ai.kernels.cpu.recipes import Recipe, recipe

#: Least work for which a kernel is compiled: below, NumPy is done before a compiler would be.
WORTH = {
    "conv": 1 << 22,
    "conv_input_grad": 1 << 22,
    "conv_weight_grad": 1 << 22,
    "max_pool": 1 << 18,
    "max_pool_grad": 1 << 18,
    "sum_pool": 1 << 18,
    "sum_pool_grad": 1 << 18,
    "scatter": 1 << 18,
}
_known: dict[Any, tuple[Recipe, list[Native]] | None] = {}


def run(
    name: str,
    arrays: Sequence[np.ndarray[Any, Any]],
    params: dict[str, Any],
    least: int | None = None,
) -> np.ndarray[Any, Any] | None:
    """What the operation ``name`` makes of ``arrays``, on one thread; None if NumPy is to do it.

    NumPy is where there is no kernel, or less work than :data:`WORTH` (``least``) says. The choice
    depends on shapes and dtypes alone, so equal calls give equal bits; but where an index points
    outside its axis, it is for NumPy to raise.
    """
    kinds = tuple((a.shape, a.dtype.name) for a in arrays)
    key = name, kinds, repr(params), least
    if key not in _known:
        _known[key] = _compiled(name, kinds, params, WORTH[name] if least is None else least)
    found = _known[key]
    if found is None:
        return None
    plan, kernels = found
    if any(arrays[k].min() < -n or arrays[k].max() >= n for k, n in plan.indices.items()):
        return None
    dtype = arrays[0].dtype
    out = np.empty(plan.out, dtype)
    memory: dict[int | str, Any] = {k: np.ascontiguousarray(a) for k, a in enumerate(arrays)}
    memory |= {k: np.empty(n, dtype) for k, n in plan.temporaries.items()}
    memory["out"] = out
    for step, kernel in zip(plan.steps, kernels, strict=True):
        placed = [memory[k] for k in step.operands]
        placed += [_aligned(step.scratch)] if step.scratch else []
        kernel.launch(placed, 0, step.units)
    return out


def _compiled(
    name: str, kinds: Any, params: dict[str, Any], least: int
) -> tuple[Recipe, list[Native]] | None:
    found = recipe(name, kinds, params)
    if found is None or found.work < least:
        return None
    return found, [Native(step.emit(), "kernel", 4) for step in found.steps]


def _aligned(size: int) -> np.ndarray[Any, Any]:
    """Bytes that begin at a cache line."""
    room = np.empty(size + 64, np.uint8)
    return room[-address(room) % 64 :]
