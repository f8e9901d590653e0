"""CUDA GPUs through CuPy, imported when a CUDA device is first named.

Never executed on a GPU so far: see README.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.backend.base import Backend, Namespace, register_loader
from tinygrad_ai.errors import DeviceError


class CupyBackend:
    """CuPy arrays; ``module`` is cupy, ``special`` is cupyx.scipy.special."""

    name = "cupy"

    def __init__(self, module: Any, special: Any) -> None:
        self.cupy = module
        self.array_type = module.ndarray

        def scatter_add(target: Any, index: Any, values: Any) -> None:
            module.add.at(target, index, values)

        self.xp = Namespace(module, erf=special.erf, erfc=special.erfc, scatter_add=scatter_add)

    def asarray(self, data: Any, dtype: Any = None) -> Any:
        """A fresh CuPy array with the values of ``data``."""
        return self.cupy.array(data, dtype=dtype)

    def to_numpy(self, array: Any) -> np.ndarray[Any, Any]:
        """The values copied to the host, which waits for the GPU."""
        return self.cupy.asnumpy(array)

    def devices(self) -> list[str]:
        """``["cuda", "cuda:0"]``: the current device."""
        return ["cuda", "cuda:0"]

    def device_of(self, array: Any) -> str:
        """``"cuda:0"`` for an array on the first GPU."""
        return f"cuda:{array.device.id}"


def load() -> Backend:
    """The CuPy backend; raises DeviceError where CuPy or a GPU is missing."""
    try:
        import cupy  # noqa: PLC0415  (an extra, and heavy)
        from cupyx.scipy import special  # noqa: PLC0415
    except ImportError:
        raise DeviceError(
            "device 'cuda' needs CuPy, which is not installed",
            "   help: pip install 'tinygrad_ai[gpu]'",
        ) from None
    if not cupy.is_available():
        raise DeviceError(
            "device 'cuda' is not there: CuPy finds no CUDA GPU or no driver",
            "   help: run on the CPU with device='cpu'",
        )
    return CupyBackend(cupy, special)


register_loader("cuda", load)
