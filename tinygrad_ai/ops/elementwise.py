"""The elementwise operations: forward and VJP side by side, as any calculus book has them.

``g`` is the cotangent, ``y`` the output; a rule names just what it reads. Forward rules use only
operators and functions that scalar expressions know too, so that kernels come from the same line.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import POSITIVE, REAL, elementwise

UNIT = (-1.0, 1.0)
LN2, LN10 = math.log(2), math.log(10)

zero = elementwise(
    "zero",
    lambda xp, x: xp.zeros_like(x),
    vjp=lambda g: zero(g),
    why="a constant changes with nothing",
)

# ------------------------------------------------------------------------------ arithmetic

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
    why="a % b = a - floor(a/b)·b, and the floor is flat",
)
power = elementwise(
    "power",
    lambda xp, a, b: a**b,
    vjp=(
        lambda g, a, b: where(b == 0, 0, g * b * power(a, b - 1)),
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
rsqrt = elementwise(
    "rsqrt",
    lambda xp, x: 1 / xp.sqrt(x),
    vjp=lambda g, y, x: g * -0.5 * y / x,
    domain=(POSITIVE,),
    singular="x = 0",
    why="(x^-½)' = -½·x^-½ / x",
)
cbrt = elementwise(
    "cbrt",
    lambda xp, x: xp.cbrt(x),
    vjp=lambda g, y: g / (3 * y * y),
    domain=(POSITIVE,),
    singular="x = 0",
    why="(x^⅓)' = 1/(3·x^⅔)",
)
hypot = elementwise(
    "hypot",
    lambda xp, a, b: xp.hypot(a, b),
    vjp=(
        lambda g, y, a: where(y == 0, 0, g * a / y),
        lambda g, y, b: where(y == 0, 0, g * b / y),
    ),
    singular="a = b = 0",
    why="a length grows by the cosine of the angle to each side; at 0 the smallest subgradient is 0",
)

# ------------------------------------------------------------------- exponentials, logarithms

exp = elementwise(
    "exp",
    lambda xp, x: xp.exp(x),
    vjp=lambda g, y: g * y,
    singular="exp underflows or overflows",
    why="exp' = exp, so the output is all that backward needs",
)
exp2 = elementwise(
    "exp2",
    lambda xp, x: xp.exp2(x),
    vjp=lambda g, y: g * y * LN2,
    singular="2^x underflows or overflows",
    why="(2^x)' = 2^x·log 2",
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
log2 = elementwise(
    "log2",
    lambda xp, x: xp.log2(x),
    vjp=lambda g, x: g / (x * LN2),
    domain=(POSITIVE,),
    singular="x = 0",
    why="log₂ x = log x / log 2",
)
log10 = elementwise(
    "log10",
    lambda xp, x: xp.log10(x),
    vjp=lambda g, x: g / (x * LN10),
    domain=(POSITIVE,),
    singular="x = 0",
    why="log₁₀ x = log x / log 10",
)
log1p = elementwise(
    "log1p",
    lambda xp, x: xp.log1p(x),
    vjp=lambda g, x: g / (1 + x),
    domain=((-1.0, math.inf),),
    singular="x = -1",
    why="log(1+x)' = 1/(1+x)",
)
logaddexp = elementwise(
    "logaddexp",
    lambda xp, a, b: xp.logaddexp(a, b),
    vjp=(
        lambda g, y, a, b: where(y == -math.inf, 0, g * sigmoid(a - b)),
        lambda g, y, a, b: where(y == -math.inf, 0, g * sigmoid(b - a)),
    ),
    singular="one term outweighs the other",
    why="each term counts with its share of the sum of exponentials",
)
xlogy = elementwise(
    "xlogy",
    lambda xp, a, b: xp.where((a == 0) & (b == b), 0, a * xp.log(b)),
    vjp=(lambda g, b: g * log(b), lambda g, a, b: where(a == 0, 0, g * a / b)),
    domain=(REAL, POSITIVE),
    singular="b = 0",
    why="a·log b with 0·log 0 = 0",
)

# ------------------------------------------------------------------------------- trigonometry

sin = elementwise(
    "sin",
    lambda xp, x: xp.sin(x),
    vjp=lambda g, x: g * cos(x),
    singular="cos x = 0",
    why="sin' = cos",
)
cos = elementwise(
    "cos",
    lambda xp, x: xp.cos(x),
    vjp=lambda g, x: -(g * sin(x)),
    singular="sin x = 0",
    why="cos' = -sin",
)
tan = elementwise(
    "tan",
    lambda xp, x: xp.tan(x),
    vjp=lambda g, y: g * (1 + y * y),
    domain=((-1.5, 1.5),),
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
tanh = elementwise(
    "tanh",
    lambda xp, x: xp.tanh(x),
    vjp=lambda g, y: g * (1 - y * y),
    singular="tanh x = ±1",
    why="tanh' = 1 - tanh², so the output is all that backward needs",
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


# ------------------------------------------------------------------------ sigmoids and errors

erf = elementwise(
    "erf",
    lambda xp, x: xp.erf(x),
    vjp=lambda g, x: g * (2 / math.sqrt(math.pi)) * exp(-(x * x)),
    singular="exp(-x²) underflows",
    why="erf is the integral of 2/√π·exp(-x²)",
)
erfc = elementwise(
    "erfc",
    lambda xp, x: xp.erfc(x),
    vjp=lambda g, x: -(g * (2 / math.sqrt(math.pi)) * exp(-(x * x))),
    singular="exp(-x²) underflows",
    why="erfc = 1 - erf",
)


def _sigmoid(xp: Any, x: Any) -> Any:
    e = xp.exp(-xp.abs(x))  # never overflows
    return xp.where(x >= 0, 1, e) / (1 + e)


sigmoid = elementwise(
    "sigmoid",
    _sigmoid,
    vjp=lambda g, y: g * y * (1 - y),
    singular="sigmoid x is 0 or 1",
    why="σ' = σ·(1-σ), so the output is all that backward needs",
)
logsigmoid = elementwise(
    "logsigmoid",
    lambda xp, x: xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x))),
    vjp=lambda g, x: g * sigmoid(-x),
    singular="sigmoid(-x) underflows",
    why="(log σ)' = σ'/σ = 1 - σ(x) = σ(-x)",
)
softplus = elementwise(
    "softplus",
    lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))),
    vjp=lambda g, x: g * sigmoid(x),
    singular="sigmoid x underflows",
    why="log(1+eˣ)' = eˣ/(1+eˣ) = σ(x)",
)
relu = elementwise(
    "relu",
    lambda xp, x: xp.maximum(x, 0),
    vjp=lambda g, y: where(y > 0, g, 0),
    kinks=lambda x: x,
    why="where relu lets the value through it lets the gradient through; 0 at the kink",
)

# ------------------------------------------------------------------------ choosing, rounding

maximum = elementwise(
    "maximum",
    lambda xp, a, b: xp.maximum(a, b),
    vjp=(
        lambda g, a, b: where(a == b, g * 0.5, where((a > b) | (a != a), g, 0)),
        lambda g, a, b: where(a == b, g * 0.5, where((b > a) | (b != b), g, 0)),
    ),
    kinks=lambda a, b: a - b,
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
    why="only the smaller input counts; a tie is shared evenly",
)
clip = elementwise(
    "clip",
    lambda xp, x, low, high: xp.minimum(xp.maximum(x, low), high),
    vjp=(
        lambda g, x, low, high: where((x >= low) & (x <= high), g, 0),
        lambda g, x, low, high: where((x < low) & (low <= high), g, 0),
        lambda g, x, low, high: where((x > high) | (low > high), g, 0),
    ),
    kinks=lambda x, low, high: (x - low) * (x - high) * (low - high),
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
    why="the gradient goes where the value came from",
)


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



def round(x: Any, decimals: int = 0) -> Any:
    """``x`` rounded to ``decimals`` places, halves to the even neighbour."""
    return round_(x * 10**decimals) / 10**decimals if decimals else round_(x)


# ------------------------------------------------------- comparisons and logic: no gradients

NO_SLOPE = "true or false: there is no slope to follow"
equal = elementwise("equal", lambda xp, a, b: a == b, why=NO_SLOPE)
not_equal = elementwise("not_equal", lambda xp, a, b: a != b, why=NO_SLOPE)
less = elementwise("less", lambda xp, a, b: a < b, why=NO_SLOPE)
less_equal = elementwise("less_equal", lambda xp, a, b: a <= b, why=NO_SLOPE)
greater = elementwise("greater", lambda xp, a, b: a > b, why=NO_SLOPE)
greater_equal = elementwise("greater_equal", lambda xp, a, b: a >= b, why=NO_SLOPE)
logical_and = elementwise("logical_and", lambda xp, a, b: xp.logical_and(a, b), why=NO_SLOPE)
logical_or = elementwise("logical_or", lambda xp, a, b: xp.logical_or(a, b), why=NO_SLOPE)
logical_xor = elementwise("logical_xor", lambda xp, a, b: xp.logical_xor(a, b), why=NO_SLOPE)
logical_not = elementwise("logical_not", lambda xp, x: xp.logical_not(x), why=NO_SLOPE)
bitwise_and = elementwise("bitwise_and", lambda xp, a, b: a & b, why=NO_SLOPE)
bitwise_or = elementwise("bitwise_or", lambda xp, a, b: a | b, why=NO_SLOPE)
bitwise_xor = elementwise("bitwise_xor", lambda xp, a, b: a ^ b, why=NO_SLOPE)
bitwise_not = elementwise("bitwise_not", lambda xp, x: ~x, why=NO_SLOPE)
isnan = elementwise("isnan", lambda xp, x: xp.isnan(x), why=NO_SLOPE)
isinf = elementwise("isinf", lambda xp, x: xp.isinf(x), why=NO_SLOPE)
isfinite = elementwise("isfinite", lambda xp, x: xp.isfinite(x), why=NO_SLOPE)
