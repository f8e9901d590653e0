"""Circular and hyperbolic functions, their inverses, and sinc."""

from __future__ import annotations

import math
from typing import Any

from tinygrad_ai.autodiff import POSITIVE, REAL, elementwise
from tinygrad_ai.ops.elementwise import sqrt, where
from tinygrad_ai.ops.special import hypot

UNIT = (-1.0, 1.0)

sin = elementwise(
    "sin",
    lambda xp, x: xp.sin(x),
    vjp=lambda g, x: g * cos(x),
    singular="cos x = 0",
    kernel="fused",
    why="sin' = cos",
)

cos = elementwise(
    "cos",
    lambda xp, x: xp.cos(x),
    vjp=lambda g, x: -(g * sin(x)),
    singular="sin x = 0",
    kernel="fused",
    why="cos' = -sin",
)

tan = elementwise(
    "tan",
    lambda xp, x: xp.tan(x),
    vjp=lambda g, y: g * (1 + y * y),
    domain=((-1.5, 1.5),),
    singular="x is infinite",
    why="tan' = 1 + tan²",
)

arcsin = elementwise(
    "arcsin",
    lambda xp, x: xp.arcsin(x),
    vjp=lambda g, x: g / sqrt((1 - x) * (1 + x)),
    domain=(UNIT,),
    singular="x = ±1",
    why="arcsin' = 1/√(1-x²)",
)

arccos = elementwise(
    "arccos",
    lambda xp, x: xp.arccos(x),
    vjp=lambda g, x: -(g / sqrt((1 - x) * (1 + x))),
    domain=(UNIT,),
    singular="x = ±1",
    why="arccos = π/2 - arcsin",
)

arctan = elementwise(
    "arctan",
    lambda xp, x: xp.arctan(x),
    vjp=lambda g, x: g / (1 + x * x),
    singular="x is infinite",
    why="arctan' = 1/(1+x²)",
)

arctan2 = elementwise(
    "arctan2",
    lambda xp, a, b: xp.arctan2(a, b),
    vjp=(
        lambda g, a, b: where((a == 0) & (b == 0), 0, g * (b / hypot(a, b)) / hypot(a, b)),
        lambda g, a, b: where((a == 0) & (b == 0), 0, -(g * (a / hypot(a, b)) / hypot(a, b))),
    ),
    domain=(REAL, POSITIVE),
    singular="a = b = 0",
    why="the angle turns by the sideways move over the distance",
)

sinh = elementwise(
    "sinh",
    lambda xp, x: xp.sinh(x),
    vjp=lambda g, x: g * cosh(x),
    singular="cosh overflows",
    why="sinh' = cosh",
)

cosh = elementwise(
    "cosh",
    lambda xp, x: xp.cosh(x),
    vjp=lambda g, x: g * sinh(x),
    singular="x = 0",
    why="cosh' = sinh",
)

arcsinh = elementwise(
    "arcsinh",
    lambda xp, x: xp.arcsinh(x),
    vjp=lambda g, x: g / hypot(x, 1),
    singular="x is infinite",
    why="arcsinh' = 1/√(x²+1)",
)

arccosh = elementwise(
    "arccosh",
    lambda xp, x: xp.arccosh(x),
    vjp=lambda g, x: g / (sqrt(x - 1) * sqrt(x + 1)),
    domain=((1.0, math.inf),),
    singular="x = 1",
    why="arccosh' = 1/√(x²-1)",
)

arctanh = elementwise(
    "arctanh",
    lambda xp, x: xp.arctanh(x),
    vjp=lambda g, x: g / ((1 - x) * (1 + x)),
    domain=(UNIT,),
    singular="x = ±1",
    why="arctanh' = 1/(1-x²)",
)


def _sinc(xp: Any, x: Any, *, order: int) -> Any:
    """Derivative ``order`` of sin(πx)/(πx): Taylor's series inside |x| < 1, outside the recurrence
    x·sₙ + n·sₙ₋₁ = πⁿ⁻¹ sin(πx + nπ/2), which is x·s = sin(πx)/π differentiated n times."""
    if not order:
        return xp.where(x == 0, 1, xp.sin(math.pi * x) / (math.pi * x))
    series = x * 0
    for k in reversed(range((order + 1) // 2, (order + 1) // 2 + 14)):
        falling = math.perm(2 * k, order)
        coefficient = (-1) ** k * math.pi ** (2 * k) * falling / math.factorial(2 * k + 1)
        series = series * (x * x) + coefficient
    series = series * x if order % 2 else series
    near = xp.abs(x) < 1
    far = xp.where(near, 1, x)
    s = xp.sin(math.pi * far) / (math.pi * far)
    for n in range(1, order + 1):
        shift = n * math.pi / 2
        s = (math.pi ** (n - 1) * xp.sin(math.pi * far + shift) - n * s) / far
    return xp.where(near, series, s)


sinc_ = elementwise(
    "sinc",
    _sinc,
    vjp=lambda g, x, order: g * sinc_(x, order=order + 1),
    singular="a maximum or minimum",
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"order": int(rng.integers(3))}),
    why="a derivative of sinc is of the same family, one order higher",
)


def sinc(x: Any) -> Any:
    """sin(πx)/(πx), and 1 at 0."""
    return sinc_(x, order=0)
