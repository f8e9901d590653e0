"""What code generation must know of a record beyond its kind: the values of ``lower``.

The functions in them run on integer and floating-point *scalar expressions*
(:mod:`tinygrad_ai.backend.scalar`): ordinary operators, and a namespace ``xp`` where they need one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Fold:
    """How a reduction folds: ``combine`` over the elements, started from ``identity``.

    ``combine(xp, acc, x)`` must be associative and commutative, because lanes are folded apart and
    then combined with each other; ``combine(xp, acc, identity)`` must be ``acc``. An infinite
    identity stands for the extreme of an integer dtype. ``finish(xp, acc, n)`` makes the result of
    the folded value and the number of folded elements (a Python int). Elements are converted to
    the output's dtype before they are combined. The record has parameters ``axis`` (a sorted tuple
    of non-negative ints) and ``keepdims``.

    >>> Fold(lambda xp, acc, x: acc + x, 0.0)
    >>> Fold(lambda xp, acc, x: xp.maximum(x, acc), -math.inf)
    """

    combine: Callable[..., Any]
    identity: float
    finish: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Contract:
    """The index specification of a contraction, in einsum's explicit form without ``...``.

    ``spec`` is a string such as ``"ij,jk->ik"``, or a function of the call's keyword parameters
    that gives one. Axes of operands and output before those named are batch axes: they stand
    leftmost in the output, aligned to the right, and broadcast.
    """

    spec: str | Callable[..., str]

    def of(self, **params: Any) -> str:
        """The specification of a call with these parameters."""
        return self.spec if isinstance(self.spec, str) else self.spec(**params)


@dataclass(frozen=True)
class IndexMap:
    """Where each output element of a movement comes from.

    ``source(index, shape, *operands, **params)`` gives the index in the first input, as a tuple of
    integer expressions or ints: ``index`` holds one integer expression per output axis, ``shape``
    is the first input's shape, ``params`` are the call's keyword parameters. Each further input is
    an operand with ``shape``, ``ndim`` and ``operand[index]``, the loaded element.
    ``inside(index, shape, *operands, **params)`` says, where given, which output elements come from
    the input at all; the others are 0. A negative loaded index counts from the end; one outside
    its axis gives NaN (0 for integers), never a read outside the array.

    >>> permute = IndexMap(lambda i, shape, *, axes: tuple(i[axes.index(k)] for k in range(len(i))))
    >>> broadcast_to = IndexMap(lambda i, old, *, shape: i[len(shape) - len(old):])  # 1 broadcasts
    >>> sliced = IndexMap(lambda i, shape, *, start, step:
    ...                   tuple(s + t * k for s, t, k in zip(start, step, i)))
    >>> take = IndexMap(lambda i, shape, at, *, axis:
    ...                 (*i[:axis], at[i[axis:axis + at.ndim]], *i[axis + at.ndim:]))

    On an axis of size 1 the source index is 0 whatever the map says, so broadcasting needs no care.
    """

    source: Callable[..., Any]
    inside: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Composite:
    """The same function written with other operations, which are lowered in its place.

    ``body(*values, **params)`` takes what the record's forward rule takes.
    """

    body: Callable[..., Any]
