"""The CPU: NumPy, and the three functions it lacks."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.backend.base import Namespace, register_backend
from tinygrad_ai.backend.native import native, pulled
from tinygrad_ai.backend.scatter import scatter_add
from tinygrad_ai.backend.special import erf, erfc
from tinygrad_ai.errors import ValueRangeError


class _PublicErrorState:
    """The two calls that NumPy's own context variable offers, made of public functions."""

    def set(self, value: Any) -> Any:
        return np.seterr(all="ignore")

    def reset(self, before: Any) -> None:
        np.seterr(**before)


error_state: Any = _PublicErrorState()
SILENT: Any = None
try:  # np.errstate costs as much as a small operation; the variable behind it a tenth
    from numpy._core.umath import _extobj_contextvar, _make_extobj

    error_state, SILENT = _extobj_contextvar, _make_extobj(all="ignore")
except ImportError:
    pass


class NumpyBackend:
    """NumPy arrays on the CPU."""

    name = "numpy"
    array_type = np.ndarray
    xp = Namespace(np, erf=erf, erfc=erfc, scatter_add=scatter_add, native=native, pulled=pulled)

    def asarray(self, data: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
        """A fresh NumPy array with the values of ``data``, ValueRangeError for NaN as an integer.

        What is too large for a narrower floating-point dtype becomes infinite.
        """
        try:
            with np.errstate(over="ignore", invalid="raise"):
                return np.array(data, dtype=dtype)
        except FloatingPointError:
            raise ValueRangeError(f"NaN, infinite or too large for {np.dtype(dtype)}") from None

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """The array itself."""
        return np.asarray(array)

    def devices(self) -> list[str]:
        """``["cpu"]``."""
        return ["cpu"]

    def device_of(self, array: Any) -> str:
        """``"cpu"``."""
        return "cpu"


def keep_memory() -> None:
    """Have the C library keep the memory of large arrays for the next ones.

    glibc maps every block of 128 KiB or more anew, which costs a fault for each page, until it has
    seen a block of that size come and go: from then on it takes smaller ones from what it holds.
    It learns from blocks up to 32 MiB, its header included, so this one is a little smaller.
    """
    np.empty(31 << 20, np.uint8)


keep_memory()
NUMPY = NumpyBackend()
register_backend(NUMPY)
