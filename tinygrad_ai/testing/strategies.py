"""Hypothesis strategies for what array functions take.

Structure (shapes, axes, indices, layouts, which values are special) is drawn by Hypothesis, so that
it shrinks; bulk values come from a drawn seed. Needs the extra ``test``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from hypothesis import currently_in_test_context, target
from hypothesis import strategies as st

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.testing.programs import CODE, Program, decode, disagreement
from tinygrad_ai.testing.samples import LAYOUTS, Shape, sample_call, uniform_in

Draw = st.DrawFn
SIZES = (1, 2, 3, 5, 7, 0)  #: 1 broadcasts, primes fit no block, 0 is the empty case
REAL = (-math.inf, math.inf)
seeds = st.integers(0, 2**31 - 1)  #: of bulk values; 0 is the simplest


# ------------------------------------------------------------------------------------- shapes


def shapes(max_dims: int = 3, sizes: Sequence[int] = SIZES, max_size: int = 30) -> Any:
    """Shapes with up to ``max_dims`` axes and ``max_size`` elements, 0-d the simplest."""
    return st.lists(st.sampled_from(sizes), max_size=max_dims).map(
        lambda shape: _within(tuple(shape), max_size)
    )


def _within(shape: Shape, max_size: int) -> Shape:
    while math.prod(shape) > max_size:
        shape = shape[:-1]
    return shape


@st.composite
def broadcastable(draw: Draw, count: int, **limits: Any) -> tuple[Shape, ...]:
    """``count`` shapes that broadcast together; ``limits`` as in :func:`shapes`.

    Each is the common shape with leading axes left out and some others stretched from 1.
    """
    common = draw(shapes(**limits))

    def part() -> Shape:
        kept = common[draw(st.integers(0, len(common))) :]
        return tuple(1 if draw(st.booleans()) else n for n in kept)

    return tuple(part() for _ in range(count))


@st.composite
def axes(draw: Draw, ndim: int, single: bool = False) -> Any:
    """A valid ``axis`` of an array with ``ndim`` axes: None, an int, or a tuple of distinct ints.

    Negative ones too; ``single`` leaves out None and tuples (and needs ``ndim`` ≥ 1).
    """
    one = st.integers(-ndim, ndim - 1)
    if single:
        return draw(one)
    several = st.lists(one, unique_by=lambda k: k % ndim, max_size=ndim).map(tuple)
    return draw(st.none() | one | several if ndim else st.sampled_from([None, ()]))


# ------------------------------------------------------------------------------ values, layouts


def special_values(dtype: Any = np.float64) -> dict[str, tuple[float, ...]]:
    """The special values of a floating-point dtype, by kind."""
    facts = np.finfo(dtype)
    tiny = (float(facts.smallest_subnormal), float(facts.tiny))
    huge = (float(facts.max), math.sqrt(float(facts.max)))
    return {
        "zero": (0.0, -0.0),
        "tiny": (*tiny, *(-x for x in tiny)),
        "huge": (*huge, *(-x for x in huge)),
        "inf": (math.inf, -math.inf),
        "nan": (math.nan,),
    }


@st.composite
def values(
    draw: Draw,
    shape: Shape,
    domain: tuple[float, float] = REAL,
    specials: Sequence[str] = (),
    dtype: Any = np.float64,
) -> Any:
    """An array of numbers inside the open interval ``domain``.

    Up to three elements take special values of the kinds named (see :func:`special_values`) that
    lie in the interval; a NaN always may.
    """
    x = uniform_in(domain, shape, np.random.default_rng(draw(seeds))).astype(dtype)
    allowed = [
        v
        for kind in specials
        for v in special_values(dtype)[kind]
        if math.isnan(v) or domain == REAL or domain[0] < v < domain[1]
    ]
    if allowed and x.size:
        chosen = st.tuples(st.integers(0, x.size - 1), st.sampled_from(allowed))
        for place, value in draw(st.lists(chosen, max_size=3)):
            x.flat[place] = value
    return x


@st.composite
def layouts(draw: Draw, array: Any) -> Any:
    """``array`` in some memory layout: as is, reversed, transposed, stepped or read-only."""
    return LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](np.asarray(array))


@st.composite
def arrays(draw: Draw, shape: Shape | None = None, **facts: Any) -> Any:
    """An array in some memory layout, at times a read-only broadcast one (strides of 0).

    ``shape`` is drawn if not given; ``facts`` are the keywords of :func:`values`.
    """
    shape = draw(shapes()) if shape is None else shape
    stretched = {k for k in range(len(shape)) if draw(st.booleans())}
    narrow = tuple(1 if k in stretched else n for k, n in enumerate(shape))
    x = draw(layouts(draw(values(narrow, **facts))))
    return np.broadcast_to(x, shape) if stretched else x


# -------------------------------------------------------------------------------------- indices


@st.composite
def indices(draw: Draw, shape: Shape, advanced: bool = True) -> Any:
    """A valid key for an array of this shape.

    Integers, slices (with negative steps), None, an ellipsis; with ``advanced`` also either
    integer arrays of one common shape or a boolean array over one or more axes.
    """
    style = draw(st.sampled_from(["basic", "integers", "mask"] if advanced else ["basic"]))
    common = draw(shapes(max_dims=2, sizes=(1, 2, 3, 0)))
    rng = np.random.default_rng(draw(seeds))
    key: list[Any] = []
    axis, stop = 0, draw(st.integers(0, len(shape)))
    masked = False
    while axis < stop:
        if draw(st.integers(0, 4)) == 4:
            key.append(None)
        if style == "mask" and not masked and draw(st.booleans()):
            width = draw(st.integers(1, stop - axis))
            key.append(rng.random(shape[axis : axis + width]) < 0.5)
            axis, masked = axis + width, True
            continue
        if style == "integers" and shape[axis] and draw(st.booleans()):
            key.append(rng.integers(-shape[axis], shape[axis], common))
        else:
            key.append(draw(_basic(shape[axis])))
        axis += 1
    if draw(st.booleans()):
        if stop == len(shape):
            key.insert(draw(st.integers(0, len(key))), Ellipsis)
        else:
            key.append(Ellipsis)
    return key[0] if len(key) == 1 and draw(st.booleans()) else tuple(key)


def _basic(size: int) -> Any:
    bound = st.none() | st.integers(-size - 1, size + 1)
    step = st.none() | st.sampled_from([1, 2, -1, -2])
    parts = st.builds(slice, bound, bound, step)
    return parts | st.integers(-size, size - 1) if size else parts


# --------------------------------------------------------------------- einsum and convolution


class EinsumCall(NamedTuple):
    """A specification and the shapes of its operands."""

    spec: str
    shapes: tuple[Shape, ...]


@st.composite
def einsum_calls(draw: Draw, max_operands: int = 3) -> EinsumCall:
    """Calls of ``einsum``: repeated letters, ``...``, letters of one operand only, both forms."""
    size = {letter: draw(st.sampled_from((1, 2, 3, 0))) for letter in "abcd"}
    batches: tuple[Shape, ...] = ((), (2,), (3, 1))
    batch = draw(st.sampled_from(batches))
    words, operands = [], []
    for _ in range(draw(st.integers(1, max_operands))):
        letters = draw(st.lists(st.sampled_from("abcd"), max_size=3))
        lead = batch[draw(st.integers(0, len(batch))) :]
        dots = "..." if lead or (bool(batch) and draw(st.booleans())) else ""
        words.append(dots + "".join(letters))
        operands.append((*lead, *(size[k] for k in letters)))
    spec = ",".join(words)
    if draw(st.booleans()):
        used = sorted({k for k in spec if k.isalpha()})
        chosen = draw(st.lists(st.sampled_from(used), unique=True)) if used else []
        spec += "->" + ("..." if "..." in spec else "") + "".join(chosen)
    return EinsumCall(spec, tuple(operands))


class ConvCall(NamedTuple):
    """A convolution: ``x`` (N, C, *sizes), ``weight`` (O, C / groups, *kernel), and its geometry.

    ``stride``, ``padding`` (zeros on both sides) and ``dilation`` have one int for each axis.
    """

    x: Shape
    weight: Shape
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int


@st.composite
def conv_calls(draw: Draw, max_rank: int = 3) -> ConvCall:
    """Valid convolutions over 1 to ``max_rank`` axes, with input columns that no window reaches."""
    rank = draw(st.integers(1, max_rank))

    def each(low: int, high: int) -> Shape:
        return tuple(draw(st.integers(low, high)) for _ in range(rank))

    kernel, stride, padding, dilation = each(1, 3), each(1, 3), each(0, 2), each(1, 2)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    sizes = tuple(
        max(r - 2 * p, 1) + extra for r, p, extra in zip(reach, padding, each(0, 3), strict=True)
    )
    groups, taken, made = (draw(st.integers(1, 2)) for _ in range(3))
    x = (draw(st.integers(1, 2)), groups * taken, *sizes)
    return ConvCall(x, (groups * made, taken, *kernel), stride, padding, dilation, groups)


# ------------------------------------------------------------------------ operations, programs


class Drawn:
    """A random generator whose single numbers Hypothesis draws, and so can shrink.

    Arrays come from one drawn seed. Any ``sample(rng)`` written for ``numpy.random.Generator`` runs
    on it.
    """

    def __init__(self, draw: Draw) -> None:
        self.draw = draw
        self.bulk = np.random.default_rng(draw(seeds))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.bulk, name)

    def integers(self, low: int, high: int | None = None, size: Any = None) -> Any:
        """As ``Generator.integers``."""
        if size is not None:
            return self.bulk.integers(low, high, size)
        low, high = (0, low) if high is None else (low, high)
        return self.draw(st.integers(low, high - 1))

    def random(self, size: Any = None) -> Any:
        """As ``Generator.random``; a single number is the middle of one of 16 equal parts."""
        return self.bulk.random(size) if size is not None else (self.integers(16) + 0.5) / 16


class Call(NamedTuple):
    """The inputs and keyword parameters of a call of a primitive."""

    inputs: list[Any]
    params: dict[str, Any]


@st.composite
def calls(draw: Draw, record: Primitive) -> Call:
    """Valid calls of any registered operation: inside its domain and away from its kinks."""
    group = None if record.sample else draw(broadcastable(max(record.arity, 1)))
    return Call(*sample_call(record, Drawn(draw), group))


@st.composite
def programs(draw: Draw, max_steps: int = 12, max_inputs: int = 3) -> Program:
    """Random valid :class:`~tinygrad_ai.testing.programs.Program`, shrinking to the shortest."""
    group = draw(st.integers(1, max_inputs).flatmap(lambda n: broadcastable(n, sizes=(1, 2, 3, 5))))
    code = st.tuples(*(st.integers(0, high - 1) for high in CODE))
    return decode(group, draw(seeds), draw(st.lists(code, min_size=1, max_size=max_steps)))


def agree(program: Program, a: Any, b: Any, rtol: float = 1e-9) -> None:
    """Assert that two adapters agree on a program, in its value and its gradients.

    Within a Hypothesis test the error is its target: the search climbs towards the worst program.
    Raises AssertionError with the program in both frameworks' code.
    """
    error = disagreement(program, a, b)
    if currently_in_test_context():
        shown = min(max(error, 1e-300), 1e300)
        target(math.log10(shown), label=f"log10 error, {a.name} and {b.name}")
    assert error <= rtol, (
        f"{a.name} and {b.name} differ by {error:.3g} on a program of {len(program.steps)} steps\n"
        f"{program.source(a.name)}\n{program.source(b.name)}"
    )
