"""Names of dtypes, and what a Python value becomes: floats are float32 unless they say otherwise.

Promotion is NumPy's own (NEP 50): Python scalars are weak, arrays are strong.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.errors import DTypeError

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
    result = np.dtype(dtype)
    if result.kind not in "fiub" or result.itemsize > 8:
        raise DTypeError(
            f"dtype {result} is not supported",
            "   help: use float16, float32, float64, an integer dtype or bool",
        )
    return result


def python_default(data: Any) -> np.dtype[Any] | None:
    """float32 for Python floats and nested lists of them; None where the data knows its dtype."""
    leaf = data
    while isinstance(leaf, list | tuple) and leaf:
        leaf = leaf[0]
    if isinstance(leaf, np.ndarray | np.generic) or hasattr(leaf, "dtype"):
        return None
    return DEFAULT_FLOAT if np.asarray(data).dtype == np.float64 else None
