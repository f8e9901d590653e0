"""Addition at indices, where repeated ones accumulate: ``np.add.at``, but by whole rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WIDE = 8  #: shorter rows are not worth their sorting


def scatter_add(target: Any, index: tuple[Any, ...], values: Any) -> None:
    """``target[index] += values`` in place, where repeated indices accumulate.

    Integer arrays that stand side by side pick rows of the other axes; rows of one place are summed
    first, in an order that only the indices decide.
    """
    picked = [k for k, part in enumerate(index) if _is_integers(part)]
    first, n = (picked[0], len(picked)) if picked else (0, 0)
    rest = index[:first] + index[first + n :]
    outer, sizes, inner = (
        target.shape[:first], target.shape[first : first + n], target.shape[first + n :]
    )  # fmt: skip
    width = math.prod(outer + inner)
    whole = n > 0 and not any(_is_integers(part) or part != slice(None) for part in rest)
    if not whole or 1 < width < WIDE:
        np.add.at(target, index, values)
        return
    places = np.arange(math.prod(sizes)).reshape(sizes)[index[first : first + n]]
    values = np.broadcast_to(values, (*outer, *places.shape, *inner))
    if width == 1 and target.flags.c_contiguous:  # NumPy has a fast loop for this
        np.add.at(target.reshape(-1), places.reshape(-1), values.reshape(-1))
        return
    rows = np.moveaxis(values, range(first, first + places.ndim), range(places.ndim))
    at, sums = _summed(places.reshape(-1), rows.reshape(places.size, width))
    view = np.moveaxis(target, range(first, first + n), range(n))
    view[np.unravel_index(at, sizes)] += sums.reshape(at.size, *outer, *inner)


def _summed(places: Any, rows: Any) -> tuple[Any, Any]:
    """Each place once, and the sum of its rows: neighbours are added until each has one left."""
    rows = rows.copy()
    order = places.argsort(kind="stable")
    at = places[order]
    while True:
        starts = np.diff(at, prepend=-1) != 0
        if starts.all():
            return at, rows[order]
        number = np.arange(at.size)
        odd = (number - np.maximum.accumulate(number * starts)) % 2 == 1
        right = np.flatnonzero(odd)
        rows[order[right - 1]] += rows[order[right]]
        order, at = order[~odd], at[~odd]


def _is_integers(part: Any) -> bool:
    return isinstance(part, np.ndarray) and part.dtype.kind in "iu"
