"""Which kernels an operation takes, one after another, on what: for compiled steps and eager calls.

A recipe knows shapes and dtypes alone. Its steps name their operands: a number for an input, "out"
for the result, a word for temporary memory that one step writes and the next one reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tinygrad_ai.kernels.cpu import conv, conv_weight
from tinygrad_ai.kernels.cpu.planes import window_places
from tinygrad_ai.kernels.cpu.pool import Pool, emit_pool, emit_pool_grad
from tinygrad_ai.kernels.cpu.scan import Scan, emit_scan, scan_units
from tinygrad_ai.kernels.cpu.scatter import Scatter, emit_scatter, scatter_units

Shape = tuple[int, ...]
Kind = tuple[Shape, str]  #: the shape and the name of the dtype of an array


@dataclass(frozen=True)
class Step:
    """``emit()`` gives the kernel for ``operands``; the first one is written.

    ``units`` of work may be split among threads if there is more than one; a last operand of
    ``scratch`` bytes for each thread is added if there are any.
    """

    name: str
    emit: partial[str]
    operands: tuple[int | str, ...]
    units: int
    scratch: int = 0


@dataclass(frozen=True)
class Recipe:
    """The steps to a result of shape ``out`` in the dtype of the first input, all contiguous.

    ``temporaries`` are numbers of elements, ``work`` counts multiply-adds (or elements moved), and
    ``indices`` are inputs, by number, whose elements point into an axis of that length.
    """

    out: Shape
    steps: tuple[Step, ...]
    work: int
    temporaries: dict[str, int] = field(default_factory=dict)
    indices: dict[int, int] = field(default_factory=dict)


def recipe(name: str, inputs: Sequence[Kind], params: dict[str, Any]) -> Recipe | None:
    """How the operation ``name`` is done; None where there are no kernels for these inputs."""
    if name not in RECIPES or any(0 in shape for shape, _ in inputs):
        return None
    kinds = {dtype for shape, dtype in inputs[:1] if shape}
    if kinds not in ({"float32"}, {"float64"}):
        return None
    found = RECIPES[name](inputs, **params)
    return None if found is None or 0 in found.out else found


# ---------------------------------------------------------------------------------- convolution


def _planar(shape: Sequence[int]) -> Shape:
    """A shape with two spatial axes: one axis is a plane of one row."""
    return tuple(shape) if len(shape) == 4 else (*shape[:2], 1, shape[2])


def _geometry(stride: Any, padding: Any, dilation: Any, groups: int) -> conv.Geometry:
    lone = len(stride) == 1
    return conv.Geometry(
        (1, *stride) if lone else stride,
        ((0, 0), *padding) if lone else padding,
        (1, *dilation) if lone else dilation,
        groups,
    )


def _fitting(inputs: Sequence[Kind], rank: int) -> bool:
    """Whether these are two arrays of one dtype with one or two spatial axes, without a batch."""
    (a, first), (b, second) = inputs
    return first == second and rank <= 2 and len(a) == len(b) == rank + 2


def _conv(inputs: Sequence[Kind], **given: Any) -> Recipe | None:
    ((x, dtype), (weight, _)), rank = inputs, len(given["stride"])
    groups = given["groups"]
    if not _fitting(inputs, rank) or x[1] != weight[1] * groups or weight[0] % groups:
        return None
    c = conv.forward(_planar(x), _planar(weight), _geometry(**given), dtype)
    if min(c.out) < 1:
        return None
    return _correlated(c, "conv", (x[0], weight[0], *c.out[2 - rank :]), math.prod(weight[1:]))


def _input_grad(inputs: Sequence[Kind], *, shape: Shape, **given: Any) -> Recipe | None:
    ((dy, dtype), (weight, _)), rank = inputs, len(given["stride"])
    if not _fitting(inputs, rank) or dy[1] != weight[0] or dy[1] % given["groups"]:
        return None
    x = dy[0], weight[1] * given["groups"], *shape
    c = conv.input_grad(_planar(x), _planar(weight), _geometry(**given), dtype)
    if c.size != _planar(dy)[2:]:
        return None
    work = math.prod(dy) * math.prod(weight[1:]) // math.prod(x)
    return _correlated(c, "conv_input_grad", x, work)


def _correlated(c: conv.Correlation, name: str, out: Shape, work: int) -> Recipe:
    steps = (
        Step("weights", partial(conv.emit_weights, c), ("packed", 1), 1),
        Step(
            name,
            partial(conv.emit_correlation, c),
            ("out", 0, "packed"),
            c.images,
            conv.correlation_scratch(c),
        ),
    )
    return Recipe(out, steps, math.prod(out) * work, {"packed": conv.packed_size(c)})


def _weight_grad(inputs: Sequence[Kind], *, kernel: Shape, **given: Any) -> Recipe | None:
    ((x, dtype), (dy, _)), rank = inputs, len(given["stride"])
    g = _geometry(**given)
    if not _fitting(inputs, rank) or x[0] != dy[0] or x[1] % g.groups or dy[1] % g.groups:
        return None
    kh, kw = kernel if rank == 2 else (1, *kernel)
    w = conv_weight.weight_grad(_planar(x), _planar(dy), (kh, kw), g, dtype)
    if w.places != g.places(w.size, w.kernel):
        return None
    partials = Step(
        "conv_weight_grad",
        partial(conv_weight.emit_partials, w),
        ("sums", 0, 1),
        w.slices,
        conv_weight.partial_scratch(w),
    )
    total = partial(conv_weight.emit_sum, w)
    steps = partials, Step("sum of slices", total, ("out", "sums"), conv_weight.sum_units(w))
    out = dy[1], x[1] // g.groups, *kernel
    return Recipe(
        out, steps, math.prod(dy) * w.depth, {"sums": w.slices * conv_weight.partial_size(w)}
    )


# -------------------------------------------------------------------------------------- pooling


def _pool(largest: bool, back: bool, inputs: Sequence[Kind], **given: Any) -> Recipe | None:
    rank = len(given["kernel"])
    shape, dtype = inputs[-1]
    if rank > 2 or len(shape) < rank:
        return None
    size = tuple(given["shape"]) if "shape" in given else shape[-rank:]
    geometry = (given[k] for k in ("kernel", "stride", "padding", "dilation"))
    kernel, stride, padding, dilation = geometry
    places = window_places(size, kernel, stride, padding, dilation)
    lead, one = shape[:-rank], (1,) * (2 - rank)
    small, large = (*lead, *places), (*lead, *size)
    expected = [small, large][: len(inputs)] if back else [large]
    if [s for s, _ in inputs] != expected or len({d for _, d in inputs}) > 1:
        return None
    p = Pool(
        math.prod(lead),
        (*one, *size),
        (*one, *places),
        (*one, *kernel),
        (*one, *stride),
        (*one, *dilation),
        (*(0 for _ in one), *(lo for lo, _ in padding)),
        largest,
        dtype,
    )
    name = f"{'max' if largest else 'sum'}_pool{'_grad' * back}"
    emit = partial(emit_pool_grad if back else emit_pool, p)
    scratch = p.back if back else p.scratch
    step = Step(name, emit, ("out", *range(len(inputs))), p.planes, scratch)
    return Recipe(large if back else small, (step,), math.prod(small) * math.prod(kernel))


# ------------------------------------------------------------------------------------ scattering


def _scatter(inputs: Sequence[Kind], *, spec: Any, shape: Shape) -> Recipe | None:
    if len(inputs) != 2:
        return None
    (g, dtype), (index, places) = inputs
    rows = spec[:1] == ("array",) and all(part == slice(None) for part in spec[1:])
    if not rows or places not in ("int32", "int64") or g != (*index, *shape[1:]) or 0 in shape:
        return None
    s = Scatter(math.prod(index), math.prod(shape[1:]), shape[0], places, dtype)
    step = Step("scatter", partial(emit_scatter, s), ("out", 0, 1), scatter_units(s))
    return Recipe(tuple(shape), (step,), math.prod(g), indices={1: shape[0]})


# ------------------------------------------------------------------------------------ running sums


def _scan(product: bool, inputs: Sequence[Kind], *, axis: int) -> Recipe:
    ((shape, dtype),) = inputs
    s = Scan(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), product, dtype)
    step = Step(
        "cumprod" if product else "cumsum", partial(emit_scan, s), ("out", 0), scan_units(s)
    )
    return Recipe(tuple(shape), (step,), math.prod(shape))


RECIPES: dict[str, Callable[..., Recipe | None]] = {
    "conv": _conv,
    "conv_input_grad": _input_grad,
    "conv_weight_grad": _weight_grad,
    "max_pool": partial(_pool, True, False),
    "sum_pool": partial(_pool, False, False),
    "max_pool_grad": partial(_pool, True, True),
    "sum_pool_grad": partial(_pool, False, True),
    "scatter": _scatter,
    "cumsum": partial(_scan, False),
    "cumprod": partial(_scan, True),
}
