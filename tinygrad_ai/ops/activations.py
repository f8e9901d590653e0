"""Elementwise records of neural networks: activations, and the terms of the binary losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import POSITIVE, REAL, elementwise
from tinygrad_ai.ops.elementwise import clip, exp, log, log1p, maximum, minimum, sigmoid, where
from tinygrad_ai.ops.special import erfc, softplus

UNIT = (0.0, 1.0)
ROOT_HALF = math.sqrt(0.5)
#: Beyond them a sigmoid, or the tail of the normal distribution, is 0 in any precision; factors are
#: cut off there, so that an infinite one does not meet that 0.
FAR, FAR_NORMAL = 1000, 40
DENSITY = 1 / math.sqrt(2 * math.pi)
TANH_SCALE, TANH_CUBE = math.sqrt(2 / math.pi), 0.044715

leaky_relu_ = elementwise(
    "leaky_relu",
    lambda xp, x, *, slope: xp.where(x > 0, x, slope * x),
    vjp=lambda g, x, slope: where(x > 0, g, slope * g),
    kinks=lambda x: x,
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"slope": 0.1}),
    kernel="fused",
    why="slope 1 on the right, a small one on the left, so that no unit dies",
)
elu_ = elementwise(
    "elu",
    lambda xp, x, *, alpha: xp.where(x > 0, x, alpha * xp.expm1(xp.minimum(x, 0))),
    vjp=lambda g, x, alpha: where(x > 0, g, g * alpha * exp(minimum(x, 0))),
    kinks=lambda x: x,
    singular="exp underflows or x is NaN",
    kernel="fused",
    sample=lambda rng: ((rng.standard_normal((2, 3)),), {"alpha": 1.5}),
    why="slope 1 on the right; on the left α·(eˣ - 1) has slope α·eˣ, which fades out",
)
silu = elementwise(
    "silu",
    lambda xp, x: xp.maximum(x, -FAR) * sigmoid.forward(xp, x),
    vjp=lambda g, y, x: g * (sigmoid(x) + minimum(y, FAR) * sigmoid(-x)),
    singular="a minimum",
    kernel="fused",
    why="(x·σ)' = σ + x·σ·(1-σ), where x·σ is the output and 1-σ(x) is σ(-x)",
)
gelu_erf = elementwise(
    "gelu",
    lambda xp, x: 0.5 * xp.maximum(x, -FAR_NORMAL) * xp.erfc(-ROOT_HALF * x),
    vjp=lambda g, x: g * (0.5 * erfc(-ROOT_HALF * x) + DENSITY * _near(x) * exp(-0.5 * x * x)),
    singular="a minimum",
    kernel="fused",
    why="(x·Φ)' = Φ + x·φ, with the normal distribution Φ and its density φ",
)


def _near(x: Any) -> Any:
    return clip(x, -FAR_NORMAL, FAR_NORMAL)


def _doubled_argument(x: Any) -> Any:
    return 2 * TANH_SCALE * (x + TANH_CUBE * x * x * x)


def _gelu_tanh_vjp(g: Any, x: Any) -> Any:
    near, s = _near(x), sigmoid(_doubled_argument(x))
    slope = 2 * TANH_SCALE * (1 + 3 * TANH_CUBE * near * near)
    return g * s * (1 + near * slope * (1 - s))


gelu_tanh = elementwise(
    "gelu_tanh",
    lambda xp, x: xp.maximum(x, -FAR_NORMAL) * sigmoid.forward(xp, _doubled_argument(x)),
    vjp=_gelu_tanh_vjp,
    singular="a minimum",
    kernel="fused",
    why="½(1+tanh u) is σ(2u), exact where it is small; then σ + x·σ·(1-σ)·2u' with "
    "u = √(2/π)·(x + 0.0447·x³)",
)

# ---------------------------------------------------------------------- terms of binary losses

#: Limit of the divisors, of a dtype in which halves are divided as float32.
SMALLEST = np.float32(1e-12)
bce = elementwise(
    "binary_cross_entropy",
    lambda xp, p, t: -t * xp.maximum(xp.log(p), -100) - (1 - t) * xp.maximum(xp.log1p(-p), -100),
    vjp=(
        lambda g, p, t: g * ((1 - t) / maximum(1 - p, SMALLEST) - t / maximum(p, SMALLEST)),
        lambda g, p: g * (maximum(log1p(-p), -100) - maximum(log(p), -100)),
    ),
    domain=(UNIT, UNIT),
    singular="p is no probability",
    kernel="fused",
    why="-t·log p - (1-t)·log(1-p) has slope (1-t)/(1-p) - t/p; logarithms stop at -100",
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
    kernel="fused",
    why="-log σ(x) = softplus(-x) and -log(1-σ(x)) = softplus(x), with slopes -σ(-x) and σ(x)",
)
