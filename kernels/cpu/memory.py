"""Where arrays stand in memory: all that kernels are told of them."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array's first element stands in memory."""
    try:  # six times as fast as what follows
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, empty, or not contiguous
        return array.__array_interface__["data"][0]
