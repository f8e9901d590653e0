"""Where large eager operations on NumPy arrays go to kernels, before their rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_ai import config

SMALL = 1 << 13  # elements of all inputs below which NumPy is as fast
ROWS = 1 << 17  # the same where lengths are part of the code, so that new ones are compiled for
MOST = 1 << 12  # kinds of calls that are remembered
FLOATS = frozenset(map(np.dtype, ("float32", "float64")))

#: A function of arrays, or None where NumPy is to do it.
Kernels = Callable[[Sequence[Any]], Any] | None
#: What makes kernels of ``(record, arrays, params)`` and of ``(node, i, [g, *residuals])``: the
#: compiler of steps, once it is imported.
compilers: tuple[Callable[..., Kernels], Callable[..., Kernels]] | None = None
_made: dict[Any, Kernels] = {}


def native(record: Any, arrays: Sequence[Any], params: dict[str, Any]) -> Any:
    """What CPU kernels make of NumPy arrays; None where the forward rule is to do it.

    That is so for small arrays, dtypes but float32 and float64 (beside which booleans and signed
    integers may stand), and with ``config.kernels`` False.
    It depends on shapes, dtypes and parameters alone, so that equal calls give equal bits.
    """
    if record.kernel == "pull" or _few(arrays):
        return None
    kinds = _kinds(record, arrays)
    if kinds is None:
        return None
    if record.kernel == "own":
        if not fitting(arrays):
            return None
        from tinygrad_ai.kernels.cpu.arrays import run  # noqa: PLC0415 - the compiler, when needed

        return run(record.name, arrays, params)
    key = (record.forward, *kinds, repr(params) if params else "")
    kernels = _found(key, 0, record, arrays, params)
    return None if kernels is None else kernels(arrays)


def pulled(node: Any, i: int, g: Any) -> Any:
    """What CPU kernels make of the cotangent ``g`` for input ``i`` of a node, or None.

    They do what ``autodiff.guarded`` does, the guard included.
    """
    record, edge, params = node.primitive, node.edges[i], node.params
    if record.kernel == "own" or not record.rule(i).sources:
        return None
    node.check_kept()
    if _few([g, *[saved[0] for saved in node.saved.values()]]):
        return None
    arrays = [g]
    for k in node.saved:
        arrays.append(node.residual(k)[0])
    kinds = _kinds(record, arrays, edge.shape)
    if kinds is None:
        return None
    key = (record.rule(i), edge.dtype, *node.saved, *kinds, repr(params) if params else "")
    kernels = _found(key, 1, node, i, arrays)
    return None if kernels is None else kernels(arrays)


def fitting(arrays: Sequence[Any]) -> bool:
    """Whether kernels know all dtypes, and real numbers among them decide the result's."""
    dtypes = {a.dtype for a in arrays if type(a) is np.ndarray}
    return not dtypes.isdisjoint(FLOATS) and all(d.kind in "bi" for d in dtypes - FLOATS)


def _few(arrays: Sequence[Any]) -> bool:
    """Whether there is too little work for kernels."""
    size = 0
    for a in arrays:
        if type(a) is np.ndarray:
            size += a.size
    return size < SMALL


def _kinds(record: Any, arrays: Sequence[Any], shape: Any = None) -> list[Any] | None:
    """What kernels depend on; None for other kinds of arrays, and few elements of known lengths.

    That is not the shape where an elementwise operation finds the same one everywhere.
    """
    size = 0
    alike = record.kind == "elementwise"
    kinds: list[Any] = []
    for a in arrays:
        if type(a) is np.ndarray and a.flags.aligned:
            size += a.size
            kinds.append(a.dtype)
            if shape is None:
                shape = a.shape
            elif a.shape != shape:
                alike = False
        elif type(a) in (int, float, bool) and record.kernel != "own":
            kinds.append(repr(a))
        else:
            return None
    if not config.uses_kernels():
        return None
    if not alike and record.kernel != "own":
        if size < ROWS:
            return None
        kinds.append(shape)
        kinds += [a.shape for a in arrays if type(a) is np.ndarray]
    return kinds


def _found(key: Any, which: int, *arguments: Any) -> Kernels:
    try:
        return _made[key]
    except KeyError:
        pass
    if compilers is None:
        return None
    if len(_made) >= MOST:
        _made.clear()
    found = _made[key] = compilers[which](*arguments)
    return found
