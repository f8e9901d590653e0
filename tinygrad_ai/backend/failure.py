"""What went wrong in an operation, said with names, full shapes and a fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_ai.errors import (
    DeviceError,
    DTypeError,
    IndexRangeError,
    ShapeError,
    TinygradError,
    user_name,
)


def describe(
    primitive: Any, arrays: Sequence[Any], params: dict[str, Any], error: Exception
) -> Any:
    """The error to raise instead of ``error``, which ``primitive`` met on these arrays."""
    if isinstance(error, TinygradError):
        return error
    if isinstance(error, TypeError) and (wrong := _wrong_call(primitive, len(arrays), params)):
        return DTypeError(f"{primitive.name} {wrong}")
    labels = [_label(a, n) for a, n in zip(arrays, _names(primitive, arrays), strict=True)]
    listed = ", ".join(labels) + "".join(f", {k}={v!r}" for k, v in params.items())
    headline = f"{primitive.name}({listed}): {_first_line(error)}"
    if len({type(a) for a in arrays if hasattr(a, "dtype") and not np.isscalar(a)}) > 1:
        return DeviceError(f"{primitive.name}: arrays of two devices: {', '.join(labels)}")
    if primitive.kind == "elementwise" and isinstance(error, ValueError):
        return _broadcast_error(primitive, arrays, labels, headline)
    if isinstance(error, IndexError):
        return IndexRangeError(headline)
    if isinstance(error, TypeError):
        return DTypeError(headline)
    if isinstance(error, ValueError):
        return ShapeError(headline)
    return error


def _wrong_call(primitive: Any, given: int, params: dict[str, Any]) -> str:
    """What is wrong with the number of inputs or the names of parameters, if anything is."""
    if not primitive.variadic and given != primitive.arity:
        inputs = f"input{'s' * (primitive.arity != 1)} ({', '.join(primitive.inputs)})"
        return f"takes {primitive.arity} {inputs}, got {given}"
    parameters = primitive.__signature__.parameters.values()
    named = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY]
    if unknown := [k for k in params if k not in named]:
        return f"has no parameter {unknown[0]!r}"
    missing = [k for k in named if k not in params]
    return f"needs the parameter {missing[0]!r}" if missing else ""


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _names(primitive: Any, arrays: Sequence[Any]) -> list[str]:
    default = primitive.inputs if len(primitive.inputs) == len(arrays) else []
    return [
        user_name(a) or (default[k] if k < len(default) else f"input {k}")
        for k, a in enumerate(arrays)
    ]


def _label(array: Any, name: str) -> str:
    shape = getattr(array, "shape", None)
    return f"{name} {shape}" if shape is not None else repr(array)


def _broadcast_error(
    primitive: Any, arrays: Sequence[Any], labels: Sequence[str], headline: str
) -> ShapeError:
    shapes = [np.shape(a) for a in arrays]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        pass
    else:
        return ShapeError(headline)
    width = max(map(len, shapes))
    padded = [(1,) * (width - len(s)) + s for s in shapes]
    clash = next(k - width for k in reversed(range(width)) if len({s[k] for s in padded} - {1}) > 1)
    sizes = " and ".join(str(s[clash]) for s in padded if s[clash] != 1)
    return ShapeError(
        f"{primitive.name}: shapes do not broadcast: {' and '.join(labels)}",
        f"   axis {clash} has sizes {sizes}; they must be equal, or one of them 1",
    )
