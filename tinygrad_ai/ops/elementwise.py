"""The elementwise operations: forward and VJP side by side, as any calculus book has them.

``g`` is the cotangent, ``y`` the output; a rule names just what it reads. Forward rules use only
operators and functions that scalar expressions know too, so that kernels come from the same line.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import POSITIVE, REAL, elementwise
from tinygrad_ai.ops.shapes import on_arrays

LN2 = math.log(2)

zero = elementwise(
    "zero",
    lambda xp, x: xp.zeros_like(x),
    vjp=lambda g: zero(g),
    why="a constant changes with nothing",
)


add = elementwise(
    "add",
    lambda xp, a, b: a + b,
    vjp=(lambda g: g, lambda g: g),
    why="a sum changes by as much as each of its terms",
)
subtract = elementwise(
    "subtract",
    lambda xp, a, b: a - b,
    vjp=(lambda g: g, lambda g: -g),
    why="what is taken away counts with the opposite sign",
)
multiply = elementwise(
    "multiply",
    lambda xp, a, b: a * b,
    vjp=(lambda g, b: g * b, lambda g, a: g * a),
    singular="a factor is 0 or infinite",
    why="each factor is weighted by the other",
)
divide = elementwise(
    "divide",
    lambda xp, a, b: a / b,
    vjp=(lambda g, b: g / b, lambda g, y, b: -(g * y / b)),
    domain=(REAL, POSITIVE),
    singular="b = 0",
    why="(a/b)' is 1/b in a and -a/b² in b, and a/b² is the output over b",
)
floor_divide = elementwise(
    "floor_divide",
    lambda xp, a, b: a // b,
    vjp=(lambda g: zero(g), lambda g: zero(g)),
    domain=(REAL, POSITIVE),
    kinks=lambda a, b: a / b - round_(a / b),
    why="a staircase is flat between its steps",
)
remainder = elementwise(
    "remainder",
    lambda xp, a, b: a % b,
    vjp=(lambda g: g, lambda g, a, b: -(g * floor(a / b))),
    domain=(REAL, POSITIVE),
    kinks=lambda a, b: a / b - round_(a / b),
    singular="b = 0 or a is infinite",
    why="a % b = a - floor(a/b)·b, and the floor is flat",
)
power = elementwise(
    "power",
    lambda xp, a, b: a**b,
    vjp=(
        lambda g, a, b: where((a == 0) & (b == 0), 0, g * b * power(a, b - 1)),
        lambda g, y, a, b: where((a == 0) & (b >= 0), 0, g * y * log(a)),
    ),
    domain=(POSITIVE, REAL),
    singular="a = 0 or b = 0",
    why="(aᵇ)' is b·aᵇ⁻¹ in a and aᵇ·log a in b; at base 0 the exponent has no effect",
)
negative = elementwise("negative", lambda xp, x: -x, vjp=lambda g: -g, why="(-x)' = -1")
positive = elementwise("positive", lambda xp, x: +x, vjp=lambda g: g, why="(+x)' = 1")
absolute = elementwise(
    "abs",
    lambda xp, x: xp.abs(x),
    vjp=lambda g, x: g * sign(x),
    kinks=lambda x: x,
    singular="x = 0",
    why="|x|' is the sign of x, and 0, the smallest subgradient, at the kink",
)
sign = elementwise(
    "sign", lambda xp, x: xp.sign(x), vjp=lambda g: zero(g), kinks=lambda x: x, why="flat but for 0"
)
square = elementwise(
    "square",
    lambda xp, x: x * x,
    vjp=lambda g, x: 2 * g * x,
    singular="x is 0 or infinite",
    why="(x²)' = 2x",
)
reciprocal = elementwise(
    "reciprocal",
    lambda xp, x: 1 / x,
    vjp=lambda g, y: -(g * y * y),
    domain=(POSITIVE,),
    singular="x = 0",
    why="(1/x)' = -1/x², the output squared",
)
sqrt = elementwise(
    "sqrt",
    lambda xp, x: xp.sqrt(x),
    vjp=lambda g, y: g * 0.5 / y,
    domain=(POSITIVE,),
    singular="x = 0",
    why="(√x)' = 1/(2√x), so the output is all that backward needs",
)


exp = elementwise(
    "exp",
    lambda xp, x: xp.exp(x),
    vjp=lambda g, y: g * y,
    singular="exp underflows or overflows",
    kernel="fused",
    why="exp' = exp, so the output is all that backward needs",
)
expm1 = elementwise(
    "expm1",
    lambda xp, x: xp.expm1(x),
    vjp=lambda g, x: g * exp(x),
    singular="exp underflows or overflows",
    why="the 1 taken away changes nothing: the derivative is exp(x)",
)
log = elementwise(
    "log",
    lambda xp, x: xp.log(x),
    vjp=lambda g, x: g / x,
    domain=(POSITIVE,),
    singular="x = 0",
    why="log' = 1/x",
)
log1p = elementwise(
    "log1p",
    lambda xp, x: xp.log1p(x),
    vjp=lambda g, x: g / (1 + x),
    domain=((-1.0, math.inf),),
    singular="x = -1",
    why="log(1+x)' = 1/(1+x)",
)


tanh = elementwise(
    "tanh",
    lambda xp, x: xp.tanh(x),
    vjp=lambda g, y: g * (1 - y * y),
    singular="tanh x = ±1",
    kernel="pull",
    why="tanh' = 1 - tanh², so the output is all that backward needs",
)


def _sigmoid(xp: Any, x: Any) -> Any:
    e = xp.exp(-xp.abs(x))  # never overflows
    return xp.maximum(x >= 0, e) / (1 + e)  # e ≤ 1, so the numerator is 1 or e


sigmoid = elementwise(
    "sigmoid",
    _sigmoid,
    vjp=lambda g, y: g * y * (1 - y),
    singular="sigmoid x is 0 or 1",
    kernel="fused",
    why="σ' = σ·(1-σ), so the output is all that backward needs",
)
relu = elementwise(
    "relu",
    lambda xp, x: xp.maximum(x, 0),
    vjp=lambda g, y: where(y <= 0, 0, g),
    kinks=lambda x: x,
    kernel="fused",
    why="where relu lets the value through it lets the gradient through; 0 at the kink",
)


maximum = elementwise(
    "maximum",
    lambda xp, a, b: xp.maximum(a, b),
    vjp=(
        lambda g, a, b: where(a == b, g * 0.5, where((a > b) | (a != a), g, 0)),
        lambda g, a, b: where(a == b, g * 0.5, where((b > a) | (b != b), g, 0)),
    ),
    kinks=lambda a, b: a - b,
    kernel="fused",
    why="only the larger input counts; a tie is shared evenly",
)
minimum = elementwise(
    "minimum",
    lambda xp, a, b: xp.minimum(a, b),
    vjp=(
        lambda g, a, b: where(a == b, g * 0.5, where((a < b) | (a != a), g, 0)),
        lambda g, a, b: where(a == b, g * 0.5, where((b < a) | (b != b), g, 0)),
    ),
    kinks=lambda a, b: a - b,
    kernel="fused",
    why="only the smaller input counts; a tie is shared evenly",
)
clip = elementwise(
    "clip",
    lambda xp, x, low, high: xp.clip(x, low, high),
    vjp=(
        lambda g, x, low, high: where((x >= low) & (x <= high), g, 0),
        lambda g, x, low, high: where((x < low) & (low <= high), g, 0),
        lambda g, x, low, high: where((x > high) | (low > high), g, 0),
    ),
    kinks=lambda x, low, high: (x - low) * (x - high) * (low - high),
    kernel="fused",
    why="inside the bounds, and at them, the value passes through; outside the bound is the value",
)
where = elementwise(
    "where",
    lambda xp, condition, a, b: xp.where(condition, a, b),
    vjp=(
        None,
        lambda g, condition: where(condition, g, 0),
        lambda g, condition: where(condition, 0, g),
    ),
    kernel="fused",
    why="the gradient goes where the value came from",
)


@on_arrays("x")
def clip_between(x: Any, min: Any = None, max: Any = None) -> Any:
    """``x`` limited to ``min`` … ``max`` (None: no limit); gradient 1 at the bounds, 0 beyond."""
    if x.dtype.kind == "f":
        lowest, highest = -math.inf, math.inf
    else:
        lowest, highest = np.iinfo(x.dtype).min, np.iinfo(x.dtype).max
    return clip(x, lowest if min is None else min, highest if max is None else max)


floor = elementwise(
    "floor",
    lambda xp, x: xp.floor(x),
    vjp=lambda g: zero(g),
    kinks=lambda x: x - round_(x),
    why="a staircase is flat between its steps",
)
ceil = elementwise(
    "ceil",
    lambda xp, x: xp.ceil(x),
    vjp=lambda g: zero(g),
    kinks=lambda x: x - round_(x),
    why="a staircase is flat between its steps",
)
trunc = elementwise(
    "trunc",
    lambda xp, x: xp.trunc(x),
    vjp=lambda g: zero(g),
    kinks=lambda x: x - round_(x),
    why="a staircase is flat between its steps",
)
round_ = elementwise(
    "round",
    lambda xp, x: xp.rint(x),
    vjp=lambda g: zero(g),
    kinks=lambda x: x - floor(x) - 0.5,
    why="a staircase is flat between its steps",
)
astype = elementwise(
    "astype",
    lambda xp, x, *, dtype: x.astype(dtype),
    vjp=lambda g: g,
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"dtype": np.dtype(np.float64)}),
    why="another precision of the same number; the engine gives the gradient the input's dtype",
)


def widened(x: Any) -> Any:
    """``x``, in float32 if it has halves: sums and squares of halves lose digits and overflow."""
    return astype(x, dtype=np.dtype(np.float32)) if x.dtype == np.float16 else x


@on_arrays("x")
def round(x: Any, decimals: int = 0) -> Any:
    """``x`` rounded to ``decimals`` places, halves to the even neighbour; the dtype stays."""
    if x.dtype.kind in "iu" and decimals >= 0:
        return positive(x)
    if decimals >= 0:
        return round_(x * 10**decimals) / 10**decimals if decimals else round_(x)
    return astype(round_(x / 10**-decimals) * 10**-decimals, dtype=x.dtype)
