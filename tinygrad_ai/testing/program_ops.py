"""The operations of random programs: text that every framework runs, and what arguments fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class Digits:
    """Choices read off one integer, in mixed radix: 0 takes the first everywhere."""

    def __init__(self, code: int) -> None:
        self.code = code

    def pick(self, options: Sequence[Any]) -> Any:
        self.code, k = divmod(self.code, len(options))
        return options[k]


def _broadcast(*arrays: Array) -> bool:
    try:
        np.broadcast_shapes(*(x.shape for x in arrays))
    except ValueError:
        return False
    return True


def _nothing(digits: Digits, *arrays: Array) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Op:
    """An operation of programs.

    ``form`` is its expression: ``{0}``, ``{1}``, ``{2}`` are arguments, ``{xp}`` the framework,
    other names parameters, whose text ``params(digits, *arrays)`` chooses. ``fits`` says for the
    first arguments chosen so far whether they go together; ``distance`` gives how far each
    element is from the nearest kink.
    """

    form: str
    arity: int = 1
    params: Callable[..., dict[str, Any]] = _nothing
    fits: Callable[..., bool] = _broadcast
    distance: Callable[..., Array] | None = None
    other: dict[str, str] = field(default_factory=dict)  #: the form in dialects that differ


def _has_axes(*arrays: Array) -> bool:
    return arrays[0].ndim > 0 and arrays[0].size > 0


def _one_axis(digits: Digits, x: Array, *_: Array) -> dict[str, Any]:
    return {"axis": digits.pick(range(x.ndim))}


def _some_axes(digits: Digits, x: Array) -> dict[str, Any]:
    chosen = tuple(k for k in range(x.ndim) if digits.pick((True, False)))
    return {"axis": chosen or x.ndim - 1, "keepdims": digits.pick((False, True))}


def _gaps(x: Array, **_: Any) -> Array:
    """How far neighbours in size are apart: the largest along an axis is at least as far off."""
    return np.diff(np.sort(x, axis=None))


def _new_shape(digits: Digits, x: Array) -> dict[str, Any]:
    return {"shape": digits.pick([(x.size,), x.shape[::-1], (1, *x.shape), (*x.shape, 1)])}


def _wider(digits: Digits, x: Array) -> dict[str, Any]:
    return {"shape": (digits.pick((2, 1, 3)), *(2 if n == 1 else n for n in x.shape))}


def _permutation(digits: Digits, x: Array) -> dict[str, Any]:
    left = list(range(x.ndim))
    axes = []
    while left:
        axes.append(digits.pick(left[::-1]))
        left.remove(axes[-1])
    return {"axes": tuple(axes)}


def _key(digits: Digits, x: Array) -> dict[str, Any]:
    n = x.shape[0]
    part = digits.pick(["0", "-1", "1:", "::2", ":-1", "array", "mask", "None"])
    if part == "array":
        places = [digits.pick(range(-n, n)) for _ in range(digits.pick((3, 2, 1)))]
        part = f"np.array({places})"
    elif part == "mask":
        part = f"np.array({[digits.pick((True, False)) for _ in range(n)]})"
    return {"key": part + digits.pick(("", ", ...")) if x.ndim > 1 else part}


def _products(a: Array, b: Array | None = None) -> bool:
    if b is None:
        return a.ndim > 0
    inner = b.shape[-2] if b.ndim > 1 else len(b) if b.ndim else -1
    return a.shape[-1] == inner and (
        min(a.ndim, b.ndim) < 3 or _broadcast(a[..., 0, 0], b[..., 0, 0])
    )


def _same_shape(a: Array, b: Array | None = None) -> bool:
    return a.ndim > 0 and (b is None or a.shape == b.shape)


def _matrices(a: Array, b: Array | None = None) -> bool:
    return a.ndim == 2 and (b is None or (b.ndim == 2 and a.shape[1] == b.shape[1]))


def _vectors(*arrays: Array) -> bool:
    return all(x.ndim == 1 for x in arrays)


def _constant(digits: Digits, *_: Array) -> dict[str, Any]:
    return {"c": digits.pick((0, 0.5, -0.5, 1, -1))}


OPS: dict[str, Op] = {
    "scale": Op("0.5 * {0}"),
    "negative": Op("-{0}"),
    "add": Op("{0} + {1}", 2),
    "subtract": Op("{0} - {1}", 2),
    "multiply": Op("{0} * {1}", 2),
    "sin": Op("{xp}.sin({0})"),
    "cos": Op("{xp}.cos({0})"),
    "tanh": Op("{xp}.tanh({0})"),
    "exp": Op("{xp}.exp({0})"),
    "gauss": Op("{xp}.exp(-{0} * {0})"),
    "log": Op("{xp}.log(1 + {0} * {0})"),
    "sqrt": Op("{xp}.sqrt(1 + {0} * {0})"),
    "square": Op("{0} ** 2"),
    "reciprocal": Op("1 / (1 + {0} * {0})"),
    "sigmoid": Op("1 / (1 + {xp}.exp(-{0}))"),
    "arctan": Op("{xp}.arctan({0})"),
    "divide": Op("{0} / (1 + {1} * {1})", 2),
    "power": Op("(1 + {0} * {0}) ** {1}", 2),
    "arctan2": Op("{xp}.arctan2({0}, 1 + {1} * {1})", 2),
    "abs": Op("{xp}.abs({0})", distance=lambda x: abs(x)),
    "maximum": Op("{xp}.maximum({0}, {1})", 2, distance=lambda a, b: abs(a - b)),
    "minimum": Op("{xp}.minimum({0}, {1})", 2, distance=lambda a, b: abs(a - b)),
    "where": Op(
        "{xp}.where({0} > {c}, {1}, {2})", 3, _constant, distance=lambda x, a, b, c: abs(x - c)
    ),
    "sum": Op("{xp}.sum({0}, axis={axis}, keepdims={keepdims})", 1, _some_axes, _has_axes),
    "mean": Op("{xp}.mean({0}, axis={axis}, keepdims={keepdims})", 1, _some_axes, _has_axes),
    "amax": Op(
        "{xp}.amax({0}, axis={axis}, keepdims={keepdims})",
        1, _some_axes, _has_axes, _gaps,
    ),
    "amin": Op(
        "{xp}.amin({0}, axis={axis}, keepdims={keepdims})",
        1, _some_axes, _has_axes, _gaps,
    ),
    "prod": Op("{xp}.prod({0}, {axis})", 1, _one_axis, _has_axes),
    "cumsum": Op("{xp}.cumsum({0}, {axis})", 1, _one_axis, _has_axes),
    "reshape": Op("{xp}.reshape({0}, {shape})", 1, _new_shape),
    "broadcast_to": Op("{xp}.broadcast_to({0}, {shape})", 1, _wider),
    "permute": Op(
        "{xp}.permute_dims({0}, {axes})", 1, _permutation, _has_axes,
        other={"torch": "{xp}.permute({0}, {axes})"},
    ),
    "flip": Op("{xp}.flip({0}, ({axis},))", 1, _one_axis, _has_axes),
    "tril": Op("{xp}.tril({0})", 1, _nothing, lambda x: x.ndim > 1),
    "index": Op("{0}[{key}]", 1, _key, _has_axes),
    "concatenate": Op("{xp}.concatenate(({0}, {1}), {axis})", 2, _one_axis, _same_shape),
    "stack": Op("{xp}.stack(({0}, {1}), {axis})", 2, _one_axis, _same_shape),
    "matmul": Op("{0} @ {1}", 2, _nothing, _products),
    "outer": Op('{xp}.einsum("i,j->ij", {0}, {1})', 2, _nothing, _vectors),
    "gram": Op('{xp}.einsum("ij,kj->ik", {0}, {1})', 2, _nothing, _matrices),
}  # fmt: skip
NAMES = tuple(OPS)

#: The columns of a row and how many values each has: operation, arguments, parameters. Few columns,
#: because Hypothesis deletes up to five neighbouring choices at once: so it can delete a row.
CODE = (len(OPS), 16**3, 2**16)
