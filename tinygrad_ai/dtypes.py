"""Names of dtypes, and what a Python value becomes: floats are float32 unless they say otherwise.

Promotion is NumPy's own (NEP 50): Python scalars are weak, arrays are strong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.errors import DTypeError, ValueRangeError

float16, float32, float64 = np.float16, np.float32, np.float64
int8, int16, int32, int64 = np.int8, np.int16, np.int32, np.int64
uint8, uint16, uint32, uint64 = np.uint8, np.uint16, np.uint32, np.uint64
bool_ = np.bool_

DEFAULT_FLOAT = np.dtype(np.float32)


def is_float(dtype: Any) -> bool:
    """Whether gradients can flow through values of this dtype."""
    return np.dtype(dtype).kind == "f"


def check(dtype: Any) -> np.dtype[Any]:
    """``dtype`` as a NumPy dtype; raises DTypeError for what the library does not hold.

    Real numbers of 16 to 64 bits, integers and booleans; no complex numbers, strings or objects.
    """
    try:
        found = None if dtype is None else np.dtype(dtype)
    except (TypeError, ValueError):
        raise DTypeError(
            f"{dtype!r} is not a dtype",
            "   help: a shape is one argument, as in zeros((2, 3))" * isinstance(dtype, int),
        ) from None
    if found is None or found.kind not in "fiub" or found.itemsize > 8:
        raise DTypeError(
            f"dtype {found} is not supported",
            "   help: use float16, float32, float64, an integer dtype or bool",
        )
    return found


def python_default(data: Any) -> np.dtype[Any] | None:
    """float32 for Python floats and nested lists of them; None where the data knows its dtype."""
    return DEFAULT_FLOAT if is_weak(data) and np.asarray(data).dtype == np.float64 else None


def is_weak(data: Any) -> bool:
    """Whether ``data`` is a Python number or a nested list of them: its dtype is only a default."""
    while isinstance(data, list | tuple) and data:
        data = data[0]
    return not hasattr(data, "dtype")


def real(value: Any, name: str) -> int | float:
    """``value`` (a number, or a tensor or array of one element) as a Python number.

    Raises DTypeError for anything else.
    """
    plain = value.item() if hasattr(value, "item") and value.size == 1 else value
    if not isinstance(plain, int | float):
        raise DTypeError(f"{name} must be a number, not {value!r}")
    return plain


def probability(value: Any, name: str) -> int | float:
    """``value`` as :func:`real` gives it; raises ValueRangeError unless it lies in [0, 1]."""
    plain = real(value, name)
    if not 0 <= plain <= 1:
        raise ValueRangeError(f"{name} must lie in [0, 1], got {value}")
    return plain
