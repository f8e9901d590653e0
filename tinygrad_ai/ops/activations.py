"""Elementwise records of neural networks: activations, and the terms of the binary losses."""

from __future__ import annotations

import math
from typing import Any

from tinygrad_ai.autodiff import POSITIVE, REAL, elementwise
from tinygrad_ai.ops.elementwise import exp, log, log1p, maximum, minimum, sigmoid, tanh, where
from tinygrad_ai.ops.special import erfc, softplus

UNIT = (0.0, 1.0)
ROOT_HALF = math.sqrt(0.5)
DENSITY = 1 / math.sqrt(2 * math.pi)
TANH_SCALE, TANH_CUBE = math.sqrt(2 / math.pi), 0.044715

leaky_relu_ = elementwise(
    "leaky_relu",
    lambda xp, x, *, slope: xp.where(x > 0, x, slope * x),
    vjp=lambda g, x, slope: where(x > 0, g, slope * g),
    kinks=lambda x: x,
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"slope": 0.1}),
    why="slope 1 on the right, a small one on the left, so that no unit dies",
)
elu_ = elementwise(
    "elu",
    lambda xp, x, *, alpha: xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))),
    vjp=lambda g, x, alpha: where(x > 0, g, g * alpha * exp(minimum(x, 0))),
    kinks=lambda x: x,
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"alpha": 1.5}),
    why="slope 1 on the right; on the left α·(eˣ - 1) has slope α·eˣ, which fades out",
)
silu = elementwise(
    "silu",
    lambda xp, x: x * sigmoid.forward(xp, x),
    vjp=lambda g, y, x: g * (sigmoid(x) + y * sigmoid(-x)),
    singular="a minimum, or x is infinite",
    why="(x·σ)' = σ + x·σ·(1-σ), where x·σ is the output and 1-σ(x) is σ(-x)",
)
gelu_erf = elementwise(
    "gelu",
    lambda xp, x: 0.5 * x * xp.erfc(-ROOT_HALF * x),
    vjp=lambda g, x: g * (0.5 * erfc(-ROOT_HALF * x) + DENSITY * x * exp(-0.5 * x * x)),
    singular="a minimum, or x is infinite",
    why="(x·Φ)' = Φ + x·φ, with the normal distribution Φ and its density φ",
)


def _tanh_argument(x: Any) -> Any:
    return TANH_SCALE * (x + TANH_CUBE * x * x * x)


def _gelu_tanh_vjp(g: Any, x: Any) -> Any:
    t = tanh(_tanh_argument(x))
    slope = TANH_SCALE * (1 + 3 * TANH_CUBE * x * x)
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


gelu_tanh = elementwise(
    "gelu_tanh",
    lambda xp, x: 0.5 * x * (1 + xp.tanh(_tanh_argument(x))),
    vjp=_gelu_tanh_vjp,
    singular="a minimum, or x is infinite",
    why="the product rule on x·½(1+tanh u), with tanh' = 1 - tanh² and u' = √(2/π)·(1+3·0.0447·x²)",
)

# ---------------------------------------------------------------------- terms of binary losses

bce = elementwise(
    "binary_cross_entropy",
    lambda xp, p, t: -t * xp.maximum(xp.log(p), -100) - (1 - t) * xp.maximum(xp.log1p(-p), -100),
    vjp=(
        lambda g, p, t: g * (p - t) / maximum(p * (1 - p), 1e-12),
        lambda g, p: g * (maximum(log1p(-p), -100) - maximum(log(p), -100)),
    ),
    domain=(UNIT, UNIT),
    why="-t·log p - (1-t)·log(1-p) has slope (p-t)/(p·(1-p)); logarithms stop at -100",
)
bce_logits = elementwise(
    "binary_cross_entropy_with_logits",
    lambda xp, x, t, weight: (
        weight * t * softplus.forward(xp, -x) + (1 - t) * softplus.forward(xp, x)
    ),
    vjp=(
        lambda g, x, t, weight: g * ((1 - t) * sigmoid(x) - weight * t * sigmoid(-x)),
        lambda g, x, weight: g * (weight * softplus(-x) - softplus(x)),
        lambda g, x, t: g * t * softplus(-x),
    ),
    domain=(REAL, UNIT, POSITIVE),
    singular="the logit is large",
    why="-log σ(x) = softplus(-x) and -log(1-σ(x)) = softplus(x), with slopes -σ(-x) and σ(x)",
)
