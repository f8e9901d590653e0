"""Functions for all lanes at once, float32 and float64, without tables and without fast-math.

Each takes a :class:`~tinygrad_ai.kernels.cpu.simd.Simd` and LLVM vectors. The polynomials are
Taylor series, long enough that what is cut off stays below a quarter of an ulp; the reductions are
those of fdlibm (Sun Microsystems, 1993). The errors stated were measured in ``test_vmath``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import Simd

LN2 = Fraction(Decimal("0.69314718055994530941723212145817656807550013436026"))


@dataclass(frozen=True)
class Format:
    """What the algorithms need to know of a floating-point format."""

    float: Any  #: the NumPy type
    integer: ir.IntType  #: of the same width
    mantissa: int  #: stored bits
    bias: int
    smallest: float  #: exp is 0 below
    exp_terms: int  #: of the series of exp, beyond the first two
    log_terms: int  #: of the series of artanh, beyond the first

    def ln2(self) -> tuple[float, float]:
        """log 2 as a sum whose first part times any exponent is exact."""
        bits = 2 ** (self.mantissa - self.bias.bit_length() - 1)
        high = Fraction(round(LN2 * bits), bits)
        return float(high), float(LN2 - high)

    def bits(self, value: float) -> int:
        """The bit pattern of ``value`` as an integer."""
        kind = np.int32 if self.float is np.float32 else np.int64
        return int(np.asarray(value, self.float).view(kind))


FORMATS = {
    ir.FloatType(): Format(np.float32, ir.IntType(32), 23, 127, -104.0, 6, 5),
    ir.DoubleType(): Format(np.float64, ir.IntType(64), 52, 1023, -746.0, 12, 11),
}


class _Math:
    """The vectors of one argument's format: constants and reinterpretation."""

    def __init__(self, v: Simd, x: ir.Value) -> None:
        self.v = v
        self.format = FORMATS[x.type.element]
        self.float = x.type
        self.integer = ir.VectorType(self.format.integer, v.lanes)

    def real(self, value: float) -> ir.Value:
        return self.v.constant(self.float, value)

    def whole(self, value: int) -> ir.Value:
        return self.v.constant(self.integer, value)

    def as_bits(self, x: ir.Value) -> ir.Value:
        return self.v.builder.bitcast(x, self.integer)

    def as_float(self, bits: ir.Value) -> ir.Value:
        return self.v.builder.bitcast(bits, self.float)

    def series(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        """Σ coefficients[k]·xᵏ by Horner's rule."""
        total = self.real(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            total = self.v.fma(total, x, self.real(c))
        return total

    def capped(self, x: ir.Value, high: float) -> ir.Value:
        """min(x, high) that keeps NaN."""
        return self.v.where(self.v.greater(x, self.real(high)), self.real(high), x)

    def raised(self, x: ir.Value, low: float) -> ir.Value:
        """max(x, low) that keeps NaN."""
        return self.v.where(self.v.less(x, self.real(low)), self.real(low), x)

    def power_of_two(self, k: ir.Value) -> ir.Value:
        """2ᵏ for exponents of normal numbers."""
        shift = self.whole(self.format.mantissa)
        return self.as_float(self.v.builder.shl(self.v.add(k, self.whole(self.format.bias)), shift))

    def reduced_expm1(self, x: ir.Value) -> tuple[ir.Value, ir.Value]:
        """k and eʳ - 1 with x = k·log 2 + r, |r| ≤ log 2 / 2.

        Adding 1.5·2^mantissa rounds to an integer and leaves it in the low bits, defined for NaN.
        """
        v, magic = self.v, self.real(1.5 * 2.0**self.format.mantissa)
        shifted = v.fma(x, self.real(1 / math.log(2)), magic)
        k = v.subtract(self.as_bits(shifted), self.as_bits(magic))
        n = v.negative(v.subtract(shifted, magic))
        high, low = self.format.ln2()
        r = v.fma(n, self.real(low), v.fma(n, self.real(high), x))
        terms = [1 / math.factorial(j + 2) for j in range(self.format.exp_terms)]
        return k, v.fma(self.series(r, terms), v.multiply(r, r), r)


def exp(v: Simd, x: ir.Value) -> ir.Value:
    """eˣ; at most 1.04 ulp (float32), 0.95 (float64), denormals and overflow included."""
    m = _Math(v, x)
    x = m.raised(m.capped(x, -m.format.smallest), m.format.smallest)
    k, p = m.reduced_expm1(x)
    half = v.builder.ashr(k, m.whole(1))  # two factors reach denormals and infinity
    y = v.multiply(v.add(p, m.real(1)), m.power_of_two(half))
    return v.multiply(y, m.power_of_two(v.subtract(k, half)))


def expm1(v: Simd, x: ir.Value) -> ir.Value:
    """eˣ - 1 = 2·(2ᵏ⁻¹·(eʳ - 1) + (2ᵏ⁻¹ - ½)), without cancellation; at most 1.60 ulp (1.56)."""
    m = _Math(v, x)
    infinite = (m.format.bias + 1) * math.log(2) + 0.1  # for which k is still in range
    x = m.raised(m.capped(x, infinite), -(m.format.mantissa + 3) * math.log(2))
    k, p = m.reduced_expm1(x)
    scale = m.power_of_two(v.subtract(k, m.whole(1)))
    y = v.fma(scale, p, v.subtract(scale, m.real(0.5)))
    y = v.where(v.equal(k, m.whole(0)), p, v.add(y, y))
    return v.copysign(y, x)  # of zero


def tanh(v: Simd, x: ir.Value) -> ir.Value:
    """tanh |x| = e/(e + 2) with e = e^2|x| - 1, and the sign of x; at most 2.2 ulp (2.3)."""
    m = _Math(v, x)
    a = m.capped(v.absolute(x), m.format.mantissa / 2.0)  # beyond it tanh is 1
    e = expm1(v, v.add(a, a))
    return v.copysign(v.divide(e, v.add(e, m.real(2))), x)


def _log(v: Simd, x: ir.Value, correction: ir.Value | None = None) -> ir.Value:
    """log x + correction: x = 2ᵏ·(1 + f) with 1 + f in [√½, √2), and the series of artanh."""
    m = _Math(v, x)
    shift = m.whole(m.format.mantissa)
    tiny = v.less(x, m.real(np.finfo(m.format.float).smallest_normal))
    bits = m.as_bits(v.where(tiny, v.multiply(x, m.real(2.0 ** (m.format.mantissa + 1))), x))
    k = v.builder.ashr(v.subtract(bits, m.whole(m.format.bits(math.sqrt(0.5)))), shift)
    f = v.subtract(m.as_float(v.subtract(bits, v.builder.shl(k, shift))), m.real(1))
    n = v.subtract(
        v.builder.sitofp(k, m.float), v.where(tiny, m.real(m.format.mantissa + 1), m.real(0))
    )
    s = v.divide(f, v.add(f, m.real(2)))
    z = v.multiply(s, s)
    terms = [2 / (2 * j + 3) for j in range(m.format.log_terms)]
    half_square = v.multiply(m.real(0.5), v.multiply(f, f))
    rest = v.fma(z, m.series(z, terms), half_square)
    high, low = m.format.ln2()
    small = v.multiply(n, m.real(low))
    small = small if correction is None else v.add(small, correction)
    small = v.subtract(v.fma(s, rest, small), half_square)
    return v.add(v.add(small, f), v.multiply(n, m.real(high)))


def _log_limits(v: Simd, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y`` = log x put right where x is 0, negative, infinite or NaN."""
    m = _Math(v, x)
    y = v.where(v.less(x, m.real(math.inf)), y, x)
    y = v.where(v.equal(x, m.real(0)), m.real(-math.inf), y)
    return v.where(v.less(x, m.real(0)), m.real(math.nan), y)


def log(v: Simd, x: ir.Value) -> ir.Value:
    """The natural logarithm; at most 0.76 ulp in both formats."""
    return _log_limits(v, x, _log(v, x))


def log1p(v: Simd, x: ir.Value) -> ir.Value:
    """log(1 + x) = log u + (what rounding 1 + x to u lost)/u; at most 0.76 ulp (both)."""
    m = _Math(v, x)
    u = v.add(x, m.real(1))
    back = v.subtract(u, x)  # Knuth's TwoSum: exact
    lost = v.add(v.subtract(x, v.subtract(u, back)), v.subtract(m.real(1), back))
    y = _log_limits(v, u, _log(v, u, v.divide(lost, u)))
    return v.where(v.equal(x, m.real(0)), x, y)  # the sign of zero


#: Functions that have vector code, by NumPy's name.
FUNCTIONS: dict[str, Callable[..., ir.Value]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "tanh": tanh,
}
