"""Where arrays stand in memory: all that kernels are told of them."""

from __future__ import annotations

from ctypes import c_void_p
from typing import Any

import numpy as np

#: Bytes from an array's object to its pointer to the first element: that is the first field of the
#: struct which NumPy's C API lays down for every extension module, behind CPython's own header.
DATA = object.__basicsize__


def is_array(x: Any) -> bool:
    """Whether ``x`` is such an object itself: a proxy says ``isinstance`` of what it stands for."""
    return issubclass(type(x), np.ndarray)


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array's first element stands in memory.

    Raises:
        TypeError: what is not an array (a NumPy scalar has no such field).
    """
    if not is_array(array):
        raise TypeError(f"an array stands in memory, not {type(array).__name__}")
    return c_void_p.from_address(id(array) + DATA).value or 0
