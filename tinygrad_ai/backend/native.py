"""Where large eager operations on NumPy arrays go to kernels, before their forward rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai import config

SMALL = 1 << 14  # elements of all inputs below which no kernel could win


def native(name: str, arrays: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """What a CPU kernel makes of NumPy arrays; None where the forward rule is to do it.

    That is so for small arrays, dtypes but float32 and float64, and with ``config.kernels`` False.
    """
    held = all(type(a) is np.ndarray for a in arrays)
    if not (config.kernels and held and sum(a.size for a in arrays) >= SMALL):
        return None
    from tinygrad_ai.kernels.cpu.arrays import run  # noqa: PLC0415 - the compiler, when first needed

    return run(name, arrays, params)
