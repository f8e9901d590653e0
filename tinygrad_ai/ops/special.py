"""Elementwise functions beyond the first evening: other bases, roots, error functions, log-sums."""

from __future__ import annotations

import math

from tinygrad_ai.autodiff import POSITIVE, REAL, elementwise
from tinygrad_ai.ops.elementwise import LN2, exp, log, sigmoid, where

LN10 = math.log(10)

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
    why="a length grows by the cosine of its angle to each side; at 0 the subgradient is 0",
)
exp2 = elementwise(
    "exp2",
    lambda xp, x: xp.exp2(x),
    vjp=lambda g, y: g * y * LN2,
    singular="2^x underflows or overflows",
    why="(2^x)' = 2^x·log 2",
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
logaddexp = elementwise(
    "logaddexp",
    lambda xp, a, b: xp.logaddexp(a, b),
    vjp=(
        lambda g, y, a, b: where(y == -math.inf, 0, g * sigmoid(a - b)),
        lambda g, y, a, b: where(y == -math.inf, 0, g * sigmoid(b - a)),
    ),
    singular="one term outweighs the other",
    kernel="fused",
    why="each term counts with its share of the sum of exponentials",
)
xlogy = elementwise(
    "xlogy",
    lambda xp, a, b: xp.where((a == 0) & (b == b), 0, a * xp.log(b)),
    vjp=(
        lambda g, b: g * log(b),
        lambda g, a, b: where((a == 0) & (b == 0), 0, g * a / b),
    ),
    domain=(REAL, POSITIVE),
    singular="b = 0",
    why="a·log b with 0·log 0 = 0",
)
erf = elementwise(
    "erf",
    lambda xp, x: xp.erf(x),
    vjp=lambda g, x: g * (2 / math.sqrt(math.pi)) * exp(-(x * x)),
    singular="exp(-x²) underflows",
    kernel="fused",
    why="erf is the integral of 2/√π·exp(-x²)",
)
erfc = elementwise(
    "erfc",
    lambda xp, x: xp.erfc(x),
    vjp=lambda g, x: -(g * (2 / math.sqrt(math.pi)) * exp(-(x * x))),
    singular="exp(-x²) underflows",
    kernel="fused",
    why="erfc = 1 - erf",
)
logsigmoid = elementwise(
    "logsigmoid",
    lambda xp, x: xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.abs(x))),
    vjp=lambda g, x: g * sigmoid(-x),
    singular="sigmoid(-x) underflows",
    kernel="fused",
    why="(log σ)' = σ'/σ = 1 - σ(x) = σ(-x)",
)
softplus = elementwise(
    "softplus",
    lambda xp, x: xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))),
    vjp=lambda g, x: g * sigmoid(x),
    singular="sigmoid x underflows",
    kernel="fused",
    why="log(1+eˣ)' = eˣ/(1+eˣ) = σ(x)",
)
