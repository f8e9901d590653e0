"""NumPy's functions on tensors: the operators are ours, for all others there is a better way."""

from __future__ import annotations

import sys
from typing import Any

from tinygrad_ai.errors import DTypeError
from tinygrad_ai.ops import elementwise, linalg, logic

_BINARY = (
    *(elementwise.add, elementwise.subtract, elementwise.multiply, elementwise.divide),
    *(elementwise.floor_divide, elementwise.remainder, elementwise.power, linalg.matmul),
    *(logic.equal, logic.not_equal, logic.less, logic.less_equal, logic.greater),
    *(logic.greater_equal, logic.bitwise_and, logic.bitwise_or, logic.bitwise_xor),
)
#: What the operators of NumPy's arrays call, by NumPy's names.
OPERATORS: dict[str, Any] = {record.__name__: record for record in _BINARY}


def array_ufunc(tensor: Any, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
    """``array + tensor`` and the like; raises DTypeError for NumPy's functions, naming ours."""
    called = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
    if called in OPERATORS and not keywords:
        return OPERATORS[called](*inputs)
    ours = method == "__call__" and hasattr(sys.modules["tinygrad_ai"], called)
    raise DTypeError(
        f"np.{called} does not take tensors, nor put them into arrays",
        f"   help: tinygrad_ai.{called} does, and gradients flow through it" if ours else "",
        f"   help: np.{called}(x.numpy(), …) gives a NumPy array, without gradients",
    )
