"""What may stand where an array does: arrays as they are, numbers, and lists of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_ai.backend.base import namespaces
from tinygrad_ai.dtypes import check, is_weak
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError

#: The types that operations take as they are; :func:`operands` adds each kind of array it meets.
known: set[type] = {bool, int, float, np.ndarray}


def operands(
    where: str, names: Sequence[str], args: Sequence[Any], numbers: bool = True
) -> list[Any]:
    """``args`` with lists of numbers made arrays of the kind of the arrays beside them.

    Numbers alone stay what they are, or with ``numbers=False`` become arrays too. A list is as weak
    as the numbers in it: beside float32 arrays, floats become float32. Raises DTypeError for what
    is no number, ShapeError for nested lists of unequal lengths.
    """
    arrays = [a for a in args if _is_array(a)]
    kept = bool | int | float if numbers else ()
    return [
        a
        if _is_array(a) or isinstance(a, kept)
        else as_array(where, names[k] if k < len(names) else f"input {k}", a, arrays)
        for k, a in enumerate(args)
    ]


def _is_array(value: Any) -> bool:
    if not isinstance(getattr(value, "dtype", None), np.dtype):
        return False
    check(value.dtype)
    known.add(type(value))
    return True


def as_array(where: str, name: str, data: Any, beside: Sequence[Any] = ()) -> Any:
    """A number or nested list as an array fit to stand beside other arrays (see operands)."""
    if holds_values(data):
        raise DTypeError(
            f"{where}: {name} is a list of Tensors, which would cut their gradients",
            "   help: stack([…]) or concatenate([…]) joins Tensors",
        )
    try:
        array = (
            np.asarray(data)
            if isinstance(data, bool | int | float | list | tuple | range)
            else None
        )
    except ValueError as error:
        raise ShapeError(f"{where}: {name}: nested lists of unequal lengths: {error}") from None
    if array is None or array.dtype.kind not in "fiub":
        raise DTypeError(
            f"{where}: {name} must be a tensor, an array or numbers, not {type(data).__name__}"
        )
    if not beside:
        return array
    wanted, raw = array.dtype, beside[0]
    if wanted.kind in "fi" and is_weak(data):
        weak = 0.0 if wanted.kind == "f" else 0
        wanted = np.result_type(*(a.dtype for a in beside), weak)
    while hasattr(raw, "array"):
        raw = raw.array
    try:
        return namespaces.get(type(raw), np).asarray(np.asarray(data, dtype=wanted))
    except OverflowError as error:
        raise ValueRangeError(f"{where}: {name}: {error}") from None


def holds_values(data: Any) -> bool:
    """Whether a nested list holds Tensors."""
    return isinstance(data, list | tuple) and any(
        hasattr(item, "requires_grad") or holds_values(item) for item in data
    )
