"""New tensors: NumPy's creation functions, with float32 where nothing else is said."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_ai.backend import backend_for
from tinygrad_ai.dtypes import DEFAULT_FLOAT, check, real
from tinygrad_ai.errors import ShapeError, ValueRangeError, whole_number
from tinygrad_ai.ops.shapes import sizes
from tinygrad_ai.tensor import Tensor


def _made(
    name: str, device: str | None, requires_grad: bool, *args: Any, **keywords: Any
) -> Tensor:
    xp = backend_for(device or "cpu").xp
    try:
        with np.errstate(over="ignore"):
            tensor = Tensor.box(getattr(xp, name)(*args, **keywords))
    except ValueError as error:
        raise ShapeError(f"{name}: {error}") from None
    if requires_grad:
        tensor.requires_grad = True
    return tensor


def _float(dtype: Any) -> np.dtype[Any]:
    return check(DEFAULT_FLOAT if dtype is None else dtype)


def zeros(
    shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros, float32 by default."""
    return _made("zeros", device, requires_grad, sizes(shape), dtype=_float(dtype))


def ones(
    shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of ones, float32 by default."""
    return _made("ones", device, requires_grad, sizes(shape), dtype=_float(dtype))


def empty(
    shape: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """A tensor whose values are not set, float32 by default."""
    return _made("empty", device, requires_grad, sizes(shape), dtype=_float(dtype))


def full(
    shape: Any,
    fill_value: Any,
    dtype: Any = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor of one value (or of an array that broadcasts), in the value's dtype by default."""
    filled = Tensor(fill_value, dtype=dtype, device=device)
    return _made(
        "full", filled.device, requires_grad, sizes(shape), filled.array, dtype=filled.dtype
    )


def _like(x: Any, dtype: Any, device: str | None) -> tuple[Any, Any, str]:
    tensor = x if isinstance(x, Tensor) else Tensor(x)
    return tensor.shape, tensor.dtype if dtype is None else dtype, device or tensor.device


def zeros_like(
    x: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Zeros in the shape, dtype and device of ``x``."""
    return zeros(*_like(x, dtype, device), requires_grad)


def ones_like(
    x: Any, dtype: Any = None, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Ones in the shape, dtype and device of ``x``."""
    return ones(*_like(x, dtype, device), requires_grad)


def full_like(
    x: Any,
    fill_value: Any,
    dtype: Any = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """One value in the shape, dtype and device of ``x``."""
    shape, kind, place = _like(x, dtype, device)
    return full(shape, fill_value, kind, place, requires_grad)


def eye(
    n: int, m: int | None = None, k: int = 0, dtype: Any = None, device: str | None = None
) -> Tensor:
    """Ones on diagonal ``k`` of an n × m matrix (square by default), zeros elsewhere."""
    rows, columns = (*sizes(n), *sizes(n if m is None else m))
    return _made("eye", device, False, rows, columns, k=k, dtype=_float(dtype))


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """start, start + step, … before ``stop``; int64 if all are integers, else float32."""
    start, stop = (0, start) if stop is None else (start, stop)
    steps = real(start, "arange: start"), real(stop, "arange: stop"), real(step, "arange: step")
    if steps[2] == 0:
        raise ValueRangeError("arange: step must not be 0")
    whole = all(isinstance(v, int) for v in steps)
    chosen = check(np.int64 if whole else DEFAULT_FLOAT) if dtype is None else check(dtype)
    return _made("arange", device, False, *steps, dtype=chosen)


def linspace(
    start: float,
    stop: float,
    num: int = 50,
    endpoint: bool = True,
    dtype: Any = None,
    device: str | None = None,
) -> Tensor:
    """``num`` evenly spaced numbers from ``start`` to ``stop``, float32 by default."""
    low, high = real(start, "linspace: start"), real(stop, "linspace: stop")
    n = whole_number("linspace", "num", num, 0)
    return _made("linspace", device, False, low, high, n, endpoint=endpoint, dtype=_float(dtype))


def asarray(data: Any, dtype: Any = None, device: str | None = None) -> Tensor:
    """``data`` as a tensor: itself if it is one of that dtype and device, else a copy."""
    if isinstance(data, Tensor):
        moved = data if device is None else data.to(device)
        return moved if dtype is None else moved.astype(dtype)
    return Tensor(data, dtype=dtype, device=device)
