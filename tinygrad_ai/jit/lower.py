"""From an operation's record to a loop nest: what the CPU and the CUDA code generator share.

All kinds become one thing. A :class:`Nest` has loops over the output and loops that are folded,
and one scalar expression for each result, whose leaves are constants, loop ``index``es and
``load``s of an operand at an offset (in elements) that is an integer expression of the indices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.backend.scalar import INT, Expr, cast, const, order, where
from tinygrad_ai.ops.lowering import Contract, Fold, IndexMap


class Aval(NamedTuple):
    """What is known of an array without its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, value: Any) -> Any:
        """The aval of an array; Python numbers stay what they are (weak constants)."""
        return cls(value.shape, value.dtype) if hasattr(value, "dtype") else value


@dataclass(frozen=True)
class Nest:
    """Loops ``0 … len(sizes)-1`` over the output, then ``len(folds)`` folded ones inside them.

    ``results[k]`` is the element written to, or with ``fold`` folded into, output ``k``. Operands
    and outputs are C-contiguous; ``sizes`` may merge or drop axes of the output's shape.
    """

    inputs: tuple[Aval, ...]
    outputs: tuple[Aval, ...]
    sizes: tuple[int, ...]
    results: tuple[Expr, ...]
    folds: tuple[int, ...] = ()
    fold: Fold | None = None


def index(loop: int) -> Expr:
    """The index of a loop."""
    return Expr("index", (), INT, loop)


def stride(offset: Expr, loop: int) -> int | None:
    """By how much ``offset`` grows with each step of ``loop``; None if that is not constant."""
    if offset.op == "index":
        return int(offset.attr == loop)
    parts = [stride(a, loop) for a in offset.args]
    if not any(p != 0 for p in parts):
        return 0
    if offset.op in ("add", "subtract") and None not in parts:
        a, b = parts
        return a + b if offset.op == "add" else a - b  # type: ignore[operator]
    if offset.op == "multiply":
        for part, other in zip(parts, reversed(offset.args), strict=True):
            if other.op == "const" and part is not None:
                return part * other.attr
    return None


def vector_loop(nest: Nest) -> int:
    """The loop whose steps become lanes: the innermost of the output, or of the folded ones.

    The one along which every load is contiguous or constant; else that of the output.
    """
    extents = nest.sizes + nest.folds
    output = len(nest.sizes) - 1
    offsets = [e.args[0] for e in order(nest.results) if e.op == "load"]
    for loop in (output, len(extents) - 1):
        if extents[loop] != 1 and all(stride(e, loop) in (0, 1) for e in offsets):
            return loop
    return output


def build_nest(primitive: Primitive, inputs: Sequence[Any], output: Aval, params: dict) -> Nest:
    """The loops of one primitive on ``inputs`` (avals, or Python numbers if elementwise).

    ``output`` is the aval of what the forward rule returns. Raises NotImplementedError for a
    record without lowering.
    """
    if isinstance(primitive.lower, Fold):
        return _reduction(primitive.lower, inputs[0], output, params["axis"])
    if isinstance(primitive.lower, Contract):
        return _contraction(primitive.lower, inputs, output, params)
    if isinstance(primitive.lower, IndexMap):
        return _movement(primitive.lower, inputs, output, params)
    if primitive.kind == "elementwise":
        return elementwise_nest(partial(primitive, **params), inputs)
    raise NotImplementedError(f"{primitive.name}: its record does not say how to lower it")


def elementwise_nest(function: Callable[..., Any], inputs: Sequence[Any]) -> Nest:
    """The one fused loop of a function made of elementwise primitives and operators.

    ``function`` takes and returns one element or a tuple; ``inputs`` are avals, which broadcast,
    and Python numbers.
    """
    arrays = [a for a in inputs if isinstance(a, Aval)]
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    sizes, steps = _merge(shape, [_strides(a.shape, len(shape)) for a in arrays])
    loops = [index(k) for k in range(len(sizes))]
    loads = iter([load(k, a, dot(loops, steps[k])) for k, a in enumerate(arrays)])
    found = function(*(next(loads) if isinstance(a, Aval) else a for a in inputs))
    results = tuple(
        r if isinstance(r, Expr) else cast(r, np.asarray(r).dtype)
        for r in (found if isinstance(found, tuple) else (found,))
    )
    outputs = tuple(Aval(shape, r.dtype) for r in results)
    return Nest(tuple(arrays), outputs, sizes, results)


def load(operand: int, aval: Aval, offset: Expr) -> Expr:
    return Expr("load", (offset,), aval.dtype, operand)


def _strides(shape: Sequence[int], ndim: int) -> list[int]:
    """Strides in elements, aligned to the right in ``ndim`` axes; 0 where an axis broadcasts."""
    steps = [math.prod(shape[k + 1 :]) if n != 1 else 0 for k, n in enumerate(shape)]
    return [0] * (ndim - len(shape)) + steps


def _merge(
    sizes: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], list[list[int]]]:
    """Loops merged where every operand walks through two of them as through one."""
    merged: list[tuple[int, list[int]]] = []
    for k, n in enumerate(sizes):
        here = [s[k] for s in strides]
        if n == 1:
            continue
        if merged and all(o == i * n for o, i in zip(merged[-1][1], here, strict=True)):
            n *= merged.pop()[0]
        merged.append((n, here))
    merged = merged or [(1, [0] * len(strides))]
    return tuple(n for n, _ in merged), [list(s) for s in zip(*(s for _, s in merged), strict=True)]


def dot(indices: Sequence[Any], strides: Sequence[int]) -> Expr:
    """Σ index·stride, without the terms that are 0."""
    pairs = zip(indices, strides, strict=True)
    terms = [cast(i if s == 1 else i * s, INT) for i, s in pairs if s]
    return reduce(lambda a, b: a + b, terms) if terms else const(0, INT)


def _reduction(fold: Fold, aval: Aval, output: Aval, axes: tuple[int, ...]) -> Nest:
    steps = _strides(aval.shape, len(aval.shape))
    parts = []
    for axes_of in ([k for k in range(len(aval.shape)) if k not in axes], axes):
        parts.append(_merge([aval.shape[k] for k in axes_of], [[steps[k] for k in axes_of]]))
    (sizes, (kept,)), (folds, (folded,)) = parts
    loops = [index(k) for k in range(len(sizes + folds))]
    element = load(0, aval, dot(loops, kept + folded))
    return Nest((aval,), (output,), sizes, (cast(element, output.dtype),), folds, fold)


def _contraction(
    contract: Contract, inputs: Sequence[Aval], output: Aval, params: dict[str, Any]
) -> Nest:
    terms, result = contract.of(**params).split("->")
    letters = [list(term) for term in terms.split(",")]

    def named(term: list[str], aval: Aval) -> list[Any]:
        """A name for each axis: its letter, or for a batch axis its distance to the letters."""
        return [*range(len(term) - len(aval.shape), 0), *term]

    walks = [named(term, a) for term, a in zip(letters, inputs, strict=True)]
    kept = named(list(result), output) or [0]  # a 0-d output is a loop of one step
    loops = kept + sorted(set().union(*walks) - set(kept))
    extent = dict.fromkeys(loops, 1)
    for walk, aval in zip(walks, inputs, strict=True):
        for letter, n in zip(walk, aval.shape, strict=True):
            extent[letter] = n if extent[letter] == 1 else extent[letter]
    factors = []
    for k, (walk, aval) in enumerate(zip(walks, inputs, strict=True)):
        at = [index(loops.index(name)) for name in walk]
        offset = dot(at, _strides(aval.shape, len(walk)))
        factors.append(cast(load(k, aval, offset), output.dtype))
    sizes = tuple(extent[c] for c in loops)
    product = reduce(lambda a, b: a * b, factors)
    return Nest(tuple(inputs), (output,), sizes[: len(kept)], (product,), sizes[len(kept) :], SUM)


def identity_of(fold: Fold, dtype: np.dtype[Any]) -> float:
    """The identity in ``dtype``: an integer's extreme stands for infinity."""
    if dtype.kind == "i" and math.isinf(fold.identity):
        limits = np.iinfo(dtype)
        return int(limits.max if fold.identity > 0 else limits.min)
    if dtype.kind == "b" and math.isinf(fold.identity):
        return fold.identity > 0
    return dtype.type(fold.identity).item()


SUM = Fold(lambda xp, acc, x: acc + x, 0.0)


class Operand:
    """A further input of a movement as its index map sees it: ``operand[index]`` loads."""

    def __init__(self, shape: tuple[int, ...], load: Callable[[Sequence[Any]], Expr]) -> None:
        self.shape, self.ndim, self.load = shape, len(shape), load

    def __getitem__(self, at: Sequence[Any]) -> Expr:
        return cast(self.load(at), INT)


def moved_element(
    rule: IndexMap,
    at: Sequence[Any],
    params: dict[str, Any],
    dtype: np.dtype[Any],
    moved: Operand,
    others: Sequence[Operand],
) -> Expr:
    """The element at ``at`` of a movement's output; never read from outside its input."""
    source, guards = [], []
    nothing = const(0, dtype)
    missing = const(math.nan, dtype) if dtype.kind == "f" else nothing
    for i, n in zip(rule.source(at, moved.shape, *others, **params), moved.shape, strict=True):
        i = cast(i, INT)
        if any(e.op == "load" for e in order([i])):
            i = where(i < 0, i + n, i)
            guards.append(((i >= 0) & (i < n), missing))
        source.append(i)
    if rule.inside:
        guards.append((rule.inside(at, moved.shape, *others, **params), nothing))
    for condition, _ in guards:  # read somewhere valid, and do not use it
        source = [where(condition, i, 0) for i in source]
    element = moved.load(source) if math.prod(moved.shape) else nothing
    for condition, value in guards:
        element = where(condition, element, value)
    return element


def _movement(rule: IndexMap, inputs: Sequence[Aval], output: Aval, params: dict) -> Nest:
    def operand(k: int, aval: Aval) -> Operand:
        steps = _strides(aval.shape, len(aval.shape))
        return Operand(aval.shape, lambda at: load(k, aval, dot(at, steps)))

    moved, *others = (operand(k, a) for k, a in enumerate(inputs))
    at = tuple(index(k) for k in range(len(output.shape)))
    element = moved_element(rule, at, params, output.dtype, moved, others)
    return Nest(tuple(inputs), (output,), output.shape or (1,), (element,))
