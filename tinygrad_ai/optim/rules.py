"""The update rules: array code for one parameter, in a straight line.

Every rule is ``rule(xp, w, g, slots, k, a, b)``: it changes the weights ``w`` and the arrays in
``slots`` in place, given the gradient ``g``. ``k`` holds Python floats only, so that a learning
rate never changes the code; ``a`` and ``b`` are scratch arrays of the same shape. What depends on
the step alone (bias corrections) is folded into those numbers, and ``out=`` keeps NumPy from
allocating: the time is that of the passes over memory.
"""

from __future__ import annotations

from typing import Any

Slots = dict[str, Any]
Numbers = dict[str, float]


def decayed(xp: Any, w: Any, g: Any, weight_decay: float, out: Any) -> Any:
    """g + weight_decay·w, the gradient of an added ½·weight_decay·‖w‖²."""
    if not weight_decay:
        return g
    xp.multiply(w, weight_decay, out=out)
    out += g
    return out


def _blend(xp: Any, slot: Any, value: Any, keep: float, scratch: Any) -> None:
    """slot ← keep·slot + (1 - keep)·value, where ``scratch`` may be ``value``."""
    slot *= keep
    xp.multiply(value, 1 - keep, out=scratch)
    slot += scratch


def sgd(xp: Any, w: Any, g: Any, slots: Slots, k: Numbers, a: Any, b: Any) -> None:
    """w ← w - lr·g; with momentum v ← µ·v + (1-τ)g and w ← w - lr·v (nesterov: lr·(g + µ·v)).

    ``k["share"]`` is 1-τ, and 1 in the first step.
    """
    g = decayed(xp, w, g, k["weight_decay"], a)
    if k["momentum"]:
        v = slots["momentum_buffer"]
        v *= k["momentum"]
        if k["dampening"]:
            xp.multiply(g, k["share"], out=b)
            v += b
        else:
            v += g
        if k["nesterov"]:
            xp.multiply(v, k["momentum"], out=b)
            b += g
            g = b
        else:
            g = v
    xp.multiply(g, k["lr"], out=b)
    w -= b


def adam(xp: Any, w: Any, g: Any, slots: Slots, k: Numbers, a: Any, b: Any) -> None:
    """m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², w ← w - lr·m̂/(√v̂ + ε), m̂ = m/(1-β₁ᵗ), v̂ = v/(1-β₂ᵗ).

    Written as w - (lr·c/(1-β₁ᵗ))·m/(√v + ε·c) with c = √(1-β₂ᵗ), which is the same: ``k["rate"]``
    and ``k["floor"]`` are the two numbers. Weight decay is part of the gradient, or of the step if
    ``decoupled``: w ← w - lr·weight_decay·w first. ``amsgrad`` takes the largest v so far for v.
    """
    if k["decoupled"]:
        w *= 1 - k["lr"] * k["weight_decay"]
    else:
        g = decayed(xp, w, g, k["weight_decay"], a)
    m, v = slots["exp_avg"], slots["exp_avg_sq"]
    _blend(xp, m, g, k["beta1"], b)
    xp.multiply(g, g, out=b)
    _blend(xp, v, b, k["beta2"], b)
    if k["amsgrad"]:
        largest = slots["max_exp_avg_sq"]
        v = xp.maximum(largest, v, out=largest)
    xp.sqrt(v, out=b)
    b += k["floor"]
    xp.divide(m, b, out=b)
    b *= k["rate"]
    w -= b


def rmsprop(xp: Any, w: Any, g: Any, slots: Slots, k: Numbers, a: Any, b: Any) -> None:
    """s ← αs + (1-α)g², w ← w - lr·g/(√s + ε); centred: √(s - ḡ²) with ḡ ← αḡ + (1-α)g.

    With momentum the quotient goes through v ← µ·v + quotient, and w ← w - lr·v.
    """
    g = decayed(xp, w, g, k["weight_decay"], a)
    s = slots["square_avg"]
    xp.multiply(g, g, out=b)
    _blend(xp, s, b, k["alpha"], b)
    if k["centered"]:
        mean = slots["grad_avg"]
        _blend(xp, mean, g, k["alpha"], b)
        xp.multiply(mean, mean, out=b)
        xp.subtract(s, b, out=b)
        xp.maximum(b, 0, out=b)  # rounding can make a variance of 0 negative
        xp.sqrt(b, out=b)
    else:
        xp.sqrt(s, out=b)
    b += k["eps"]
    xp.divide(g, b, out=b)
    if k["momentum"]:
        v = slots["momentum_buffer"]
        v *= k["momentum"]
        v += b
        xp.multiply(v, k["lr"], out=b)
    else:
        b *= k["lr"]
    w -= b


def adagrad(xp: Any, w: Any, g: Any, slots: Slots, k: Numbers, a: Any, b: Any) -> None:
    """s ← s + g², w ← w - lr·g/(√s + ε), where lr shrinks as 1/(1 + (t-1)·lr_decay)."""
    g = decayed(xp, w, g, k["weight_decay"], a)
    s = slots["sum"]
    xp.multiply(g, g, out=b)
    s += b
    xp.sqrt(s, out=b)
    b += k["eps"]
    xp.divide(g, b, out=b)
    b *= k["rate"]
    w -= b
