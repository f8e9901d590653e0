"""Products of NumPy arrays by the kernels of :mod:`~tinygrad_ai.kernels.cpu.gemm`, one call each.

A small product takes less time than Python needs to look at three arrays. So all that follows from
shapes and strides is kept with the code, and the rest is one native call on the arrays' objects: it
fetches their addresses, refuses an output that overlaps an operand, and runs the kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from ctypes import c_bool
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.kernels.cpu.gemm import emit_product, prepared
from tinygrad_ai.kernels.cpu.machine import Native
from tinygrad_ai.kernels.cpu.memory import DATA, is_array
from tinygrad_ai.kernels.cpu.pack import emit_pack
from tinygrad_ai.kernels.cpu.simd import LINE

FRAME = 32 << 10  # bytes of an operand's panels up to which they stand in the frame of the call
FLOATS = frozenset(map(np.dtype, ("float32", "float64")))
Array = np.ndarray[Any, Any]


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """``a @ b`` on one thread, for arrays (\\*batch, m, k) and (\\*batch, k, n) of any strides.

    float32 or float64 (both are taken to the wider), batches broadcast. The code is compiled at the
    first call with these shapes and strides, in about 0.1 s, and kept; a call costs 1.5 µs besides.
    Every element is summed in the order of k with fused multiply-adds, so the bits depend on no
    layout. 2·m·n·k FLOPs; reads (m·k + k·n) elements and writes m·n, per product.

    Args:
        out: (\\*batch, m, n), of the result's dtype; written and returned. It may overlap the
            operands.

    Raises:
        TypeError: what is no array, a dtype that is neither float32 nor float64, or another one of
            ``out``.
        ValueError: fewer than two axes, inner sizes that differ, batches that do not broadcast,
            or another shape of ``out``.
    """
    alike = type(a) is type(b) is np.ndarray and a.dtype is b.dtype and a.dtype in FLOATS
    if not (alike and a.flags.aligned and b.flags.aligned):
        a, b = _fitting(a, b)
    dtype = a.dtype
    code = _compiled(a.shape, a.strides, b.shape, b.strides, dtype)
    panels = [np.empty(size, dtype) for size in code.panels] if code.panels else ()
    if out is not None:
        if type(out) is not np.ndarray:
            _check_array(out)
        if out.dtype != dtype:
            raise TypeError(f"matmul: the result is {dtype}, but out {out.dtype}")
        if out.shape != code.shape:
            raise ValueError(f"matmul: the result is {code.shape}, but out {out.shape}")
        if out.flags.carray and code.run(id(out), id(a), id(b), *map(id, panels)):
            return out
    target = np.empty(code.shape, dtype)
    code.run(id(target), id(a), id(b), *map(id, panels))
    if out is None:
        return target
    np.copyto(out, target)
    return out


def _fitting(*given: Any) -> list[Array]:
    """What is given as whole elements of one native dtype; those that are so, themselves."""
    for x in given:
        _check_array(x)
    native = [x.dtype.newbyteorder("=") for x in given]
    if not FLOATS.issuperset(native):
        dtypes = " and ".join(str(x.dtype) for x in given)
        raise TypeError(f"matmul takes float32 and float64, not {dtypes}")
    dtype = np.promote_types(*native)
    return [x if x.dtype == dtype and x.flags.aligned else np.array(x, dtype) for x in given]


def _check_array(x: Any) -> None:
    if not is_array(x):
        raise TypeError(f"matmul takes NumPy arrays, not {type(x).__name__}")


class _Launch(NamedTuple):
    """A kernel, its units of work, and its operands' names."""

    kernel: Native
    units: int
    operands: list[str]


class _Code(NamedTuple):
    """What runs a product: the result's shape, the elements of panels to be passed, the call.

    ``run`` takes the objects of C, A, B and those panels; it is False where C overlaps A or B, and
    nothing was done. ``natives`` are what it calls.
    """

    shape: tuple[int, ...]
    panels: list[int]
    run: Callable[..., bool]
    natives: list[Native]


@lru_cache(512)
def _compiled(
    a: tuple[int, ...],
    a_strides: tuple[int, ...],
    b: tuple[int, ...],
    b_strides: tuple[int, ...],
    dtype: np.dtype[Any],
) -> _Code:
    """The code for operands of these shapes and strides (bytes)."""
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise ValueError(f"matmul: {a} @ {b}: not (…, m, k) and (…, k, n)")
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    shape = (*batch, a[-2], b[-1])

    def steps(sizes: tuple[int, ...], strides: tuple[int, ...]) -> tuple[int, ...]:
        view = np.lib.stride_tricks.as_strided(np.empty(0, dtype), sizes, strides)
        whole = np.broadcast_to(view, (*batch, *sizes[-2:]))
        return tuple(s // dtype.itemsize for s in whole.strides)

    product, packings = prepared(shape, a[-1], steps(a, a_strides), steps(b, b_strides), dtype.name)
    operands = ["c", "a", "b"]
    work: list[_Launch] = []
    sizes: dict[str, int] = {}  # of panels, in elements
    for number, packing in packings.items():
        panels = f"panels_of_{operands[number]}"
        sizes[panels] = math.prod(packing.batch) * packing.size
        kernel = Native(emit_pack(packing), "kernel", 4)
        work.append(_Launch(kernel, packing.units, [panels, operands[number]]))
        operands[number] = panels
    work.append(_Launch(Native(emit_product(product), "kernel", 4), product.units, operands))
    passed = [name for name, size in sizes.items() if size * dtype.itemsize > FRAME]
    objects = ["c", "a", "b", *passed]
    extents = {
        "c": (0, math.prod(shape) * dtype.itemsize),
        "a": _extent(a, a_strides, dtype.itemsize),
        "b": _extent(b, b_strides, dtype.itemsize),
    }
    framed = {x: size * dtype.itemsize for x, size in sizes.items() if x not in passed}
    entry = Native(_entry(objects, framed, extents, work), "entry", len(objects), c_bool)
    return _Code(shape, [sizes[x] for x in passed], entry.call, [entry, *(w.kernel for w in work)])


def _extent(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, int]:
    """Where an array's bytes begin and end, from its first element on; (0, 0) if it has none."""
    if 0 in shape:
        return 0, 0
    ways = [(n - 1) * step for n, step in zip(shape, strides, strict=True)]
    return sum(min(w, 0) for w in ways), sum(max(w, 0) for w in ways) + itemsize


def _entry(
    objects: list[str],
    framed: dict[str, int],
    extents: dict[str, tuple[int, int]],
    work: list[_Launch],
) -> str:
    """The LLVM IR of ``entry(*objects)``, which does the launches in order and returns 1.

    ``framed`` is memory in its own frame, in bytes. It returns 0 and does nothing where C overlaps
    A or B, whose bytes lie in ``extents`` from the first element on.
    """
    lines = [f"define i8 @entry({', '.join(f'ptr %{x}_object' for x in objects)}) {{"]
    for x in objects:
        lines += [
            f"  %{x}_field = getelementptr i8, ptr %{x}_object, i64 {DATA}",
            f"  %{x} = load ptr, ptr %{x}_field",
        ]
    for x, size in framed.items():
        lines.append(f"  %{x} = alloca [{size} x i8], align {LINE}")
    for k, launch in enumerate(work):
        lines.append(f"  %table{k} = alloca [{len(launch.operands)} x ptr]")
    for x, (low, high) in extents.items():
        lines += [
            f"  %{x}_low = getelementptr i8, ptr %{x}, i64 {low}",
            f"  %{x}_high = getelementptr i8, ptr %{x}, i64 {high}",
        ]
    for x in "ab":
        lines += [
            f"  %c_before_{x} = icmp ult ptr %c_low, %{x}_high",
            f"  %{x}_before_c = icmp ult ptr %{x}_low, %c_high",
            f"  %{x}_meets_c = and i1 %c_before_{x}, %{x}_before_c",
        ]
    lines += [
        "  %overlap = or i1 %a_meets_c, %b_meets_c",
        "  br i1 %overlap, label %refuse, label %go",
        "refuse:",
        "  ret i8 0",
        "go:",
    ]
    for k, (kernel, units, operands) in enumerate(work):
        for n, x in enumerate(operands):
            lines += [
                f"  %place{k}_{n} = getelementptr ptr, ptr %table{k}, i64 {n}",
                f"  store ptr %{x}, ptr %place{k}_{n}",
            ]
        lines += [
            f"  %kernel{k} = inttoptr i64 {kernel.address} to ptr",
            f"  call void %kernel{k}(ptr %table{k}, i64 0, i64 {units}, i64 0)",
        ]
    return "\n".join([*lines, "  ret i8 1", "}"])
