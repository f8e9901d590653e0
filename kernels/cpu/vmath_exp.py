"""Exponentials and logarithms for all lanes at once.

The polynomials are Taylor series, long enough that what is cut off stays below a quarter of an
ulp; the reductions are those of fdlibm (Sun Microsystems, 1993).
"""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import Simd
from tinygrad_ai.kernels.cpu.vmath_format import LN2, Lanes


def _reduced_expm1(m: Lanes, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """k and eʳ - 1 with x = k·log 2 + r, |r| ≤ log 2 / 2."""
    v = m.v
    k, n = m.rounded(x, 1 / math.log(2))
    n = v.negative(n)
    high, low = m.format.ln2()
    r = v.fma(n, m.real(low), v.fma(n, m.real(high), x))
    return k, v.fma(m.series(r, exp_series(m)), v.multiply(r, r), r)


def exp_series(m: Lanes) -> list[float]:
    """Of (eʳ - 1 - r)/r²."""
    return [1 / math.factorial(j + 2) for j in range(m.format.exp_terms)]


def exp(v: Simd, x: ir.Value) -> ir.Value:
    """eˣ = 2ᵏ·(1 + (eʳ - 1)); 1.06 ulp (0.97), 0.6 cycles (1.7)."""
    m = Lanes(v, x)
    x, smallest = m.capped(x, -m.format.smallest), m.real(m.format.smallest)
    below = v.less(x, smallest)
    k, p = _reduced_expm1(m, v.where(below, smallest, x))
    # 0 times the powers is 0 at once; processors take ten times as long over what underflows
    return m.scaled(v.where(below, m.real(0), v.add(p, m.real(1))), k)


def exp_of_sum(m: Lanes, x: ir.Value, low: ir.Value) -> ir.Value:
    """e^(x + low), where ``low`` is small, or anything if x is out of range; 0.7 ulp."""
    v, smallest = m.v, m.real(m.format.smallest)
    inside = v.less(v.absolute(x), v.negative(smallest))
    x = m.raised(m.capped(x, -m.format.smallest), m.format.smallest)
    k, n = m.rounded(x, 1 / math.log(2))
    n = v.negative(n)
    ln2 = m.format.ln2()
    low = v.fma(n, m.real(ln2[1]), v.where(inside, low, m.real(0)))
    r, low = m.sum(v.fma(n, m.real(ln2[0]), x), low)
    total, lost = m.sum(m.real(1), r)
    series = v.multiply(v.multiply(r, r), m.series(r, exp_series(m)))
    return m.scaled(v.add(total, v.add(series, v.fma(low, total, lost))), k)


def exp2(v: Simd, x: ir.Value) -> ir.Value:
    """2ˣ = 2ᵏ·e^(r·log 2), |r| ≤ ½, exact for whole x; 0.91 ulp (0.88), 0.7 cycles (1.6)."""
    m = Lanes(v, x)
    lowest = float(round(m.format.smallest / math.log(2)))
    x = m.raised(m.capped(x, -lowest), lowest)
    k, n = m.rounded(x, 1.0)
    r = v.subtract(x, n)
    high, low = m.format.parts(LN2, 2)
    terms = [float(LN2) ** (j + 2) * c for j, c in enumerate(exp_series(m))]
    p = v.fma(m.series(r, terms), v.multiply(r, r), v.multiply(r, m.real(low)))
    return m.scaled(v.add(v.fma(r, m.real(high), p), m.real(1)), k)


def expm1(v: Simd, x: ir.Value) -> ir.Value:
    """eˣ - 1 = 2·(2ᵏ⁻¹·(eʳ - 1) + (2ᵏ⁻¹ - ½)), without cancellation.

    1.65 ulp (1.77), 0.6 cycles (1.7).
    """
    m = Lanes(v, x)
    infinite = (m.format.bias + 1) * math.log(2) + 0.1  # for which k is still in range
    x = m.raised(m.capped(x, infinite), -(m.format.mantissa + 3) * math.log(2))
    k, p = _reduced_expm1(m, x)
    scale = m.power_of_two(v.subtract(k, m.whole(1)))
    y = v.fma(scale, p, v.subtract(scale, m.real(0.5)))
    y = v.where(v.equal(k, m.whole(0)), p, v.add(y, y))
    return v.copysign(y, x)  # of zero


def tanh(v: Simd, x: ir.Value) -> ir.Value:
    """tanh |x| = e/(e + 2) with e = e^2|x| - 1, and the sign of x.

    2.42 ulp (2.49), 0.8 cycles (2.1).
    """
    m = Lanes(v, x)
    a = m.capped(v.absolute(x), m.format.mantissa / 2.0)  # beyond it tanh is 1
    e = expm1(v, v.add(a, a))
    return v.copysign(v.divide(e, v.add(e, m.real(2))), x)


def fraction(m: Lanes, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """n and f, exactly, with x = 2ⁿ·(1 + f) and 1 + f in [√½, √2), for positive finite x."""
    v, digits = m.v, m.format.mantissa
    tiny = v.less(x, m.real(np.finfo(m.format.float).smallest_normal))
    bits = m.as_bits(v.where(tiny, v.multiply(x, m.real(2.0 ** (digits + 1))), x))
    k = v.builder.ashr(v.subtract(bits, m.whole(m.format.bits(math.sqrt(0.5)))), m.whole(digits))
    power = v.builder.shl(k, m.whole(digits))
    f = v.subtract(m.as_float(v.subtract(bits, power)), m.real(1))
    n = v.builder.sitofp(k, m.float)
    return v.subtract(n, v.where(tiny, m.real(digits + 1), m.real(0))), f


def artanh_series(m: Lanes, extra: int = 0) -> list[float]:
    """Of (log((1 + s)/(1 - s)) - 2·s)/s³ in s²."""
    return [2 / (2 * j + 3) for j in range(m.format.log_terms + extra)]


def _log_rest(m: Lanes, f: ir.Value, addend: ir.Value) -> ir.Value:
    """log(1 + f) - f + addend, by the series of artanh."""
    v = m.v
    s = v.divide(f, v.add(f, m.real(2)))
    z = v.multiply(s, s)
    half_square = v.multiply(m.real(0.5), v.multiply(f, f))
    rest = v.fma(z, m.series(z, artanh_series(m)), half_square)
    return v.subtract(v.fma(s, rest, addend), half_square)


def _log(m: Lanes, x: ir.Value, correction: ir.Value | None = None) -> ir.Value:
    """log x + correction for positive finite x."""
    v = m.v
    n, f = fraction(m, x)
    high, low = m.format.ln2()
    small = v.multiply(n, m.real(low))
    small = small if correction is None else v.add(small, correction)
    return v.add(v.add(_log_rest(m, f, small), f), v.multiply(n, m.real(high)))


def log_limits(m: Lanes, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y`` = log x put right where x is 0, negative, infinite or NaN."""
    v = m.v
    y = v.where(v.less(x, m.real(math.inf)), y, x)
    y = v.where(v.equal(x, m.real(0)), m.real(-math.inf), y)
    return v.where(v.less(x, m.real(0)), m.real(math.nan), y)


def log(v: Simd, x: ir.Value) -> ir.Value:
    """The natural logarithm; 0.83 ulp (0.83), 0.9 cycles (2.3)."""
    m = Lanes(v, x)
    return log_limits(m, x, _log(m, x))


def log2(v: Simd, x: ir.Value) -> ir.Value:
    """n + log(1 + f)/log 2 with the product as a pair, so that powers of 2 are exact.

    1.13 ulp (1.05), 1.0 cycles (2.6).
    """
    m = Lanes(v, x)
    n, f = fraction(m, x)
    rest = _log_rest(m, f, m.real(0))
    high, low = map(m.real, m.format.parts(1 / LN2, 2))
    y, tail = m.product(f, high)
    y, lost = m.sum(n, y)
    tail = v.fma(rest, high, v.fma(f, low, v.add(tail, lost)))
    return log_limits(m, x, v.add(y, tail))


def log1p(v: Simd, x: ir.Value) -> ir.Value:
    """log(1 + x) = log u + (what rounding 1 + x to u lost)/u; 0.84 ulp (0.80), 1.2 cycles (2.9)."""
    m = Lanes(v, x)
    u = v.add(x, m.real(1))
    back = v.subtract(u, x)  # Knuth's TwoSum: exact
    lost = v.add(v.subtract(x, v.subtract(u, back)), v.subtract(m.real(1), back))
    y = log_limits(m, u, _log(m, u, v.divide(lost, u)))
    return v.where(v.equal(x, m.real(0)), x, y)  # the sign of zero
