"""The CPU: NumPy, and the three functions it lacks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.backend.base import Namespace, register_backend

# libm's erf, one element at a time: exact, and the kernels have a vectorised one where it matters.
_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def erf(x: Any) -> Any:
    """The error function, elementwise, in the dtype of ``x``."""
    x = np.asarray(x)
    return np.asarray(_erf(x)).astype(np.result_type(x.dtype, np.float16))


def erfc(x: Any) -> Any:
    """1 - erf(x) without cancellation, elementwise, in the dtype of ``x``."""
    x = np.asarray(x)
    return np.asarray(_erfc(x)).astype(np.result_type(x.dtype, np.float16))


def scatter_add(target: Any, index: Any, values: Any) -> None:
    """``target[index] += values`` in place, where repeated indices accumulate."""
    np.add.at(target, index, values)


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
except ImportError:
    pass
else:
    error_state, SILENT = _extobj_contextvar, _make_extobj(all="ignore")


class NumpyBackend:
    """NumPy arrays on the CPU."""

    name = "numpy"
    array_type = np.ndarray
    xp = Namespace(np, erf=erf, erfc=erfc, scatter_add=scatter_add)

    def asarray(self, data: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
        """A fresh NumPy array with the values of ``data``."""
        return np.array(data, dtype=dtype)

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """The array itself."""
        return np.asarray(array)

    def devices(self) -> list[str]:
        """``["cpu"]``."""
        return ["cpu"]

    def device_of(self, array: Any) -> str:
        """``"cpu"``."""
        return "cpu"


NUMPY = NumpyBackend()
register_backend(NUMPY)
