"""Floating-point formats, and what the vector functions build upon.

:class:`Lanes` writes constants, polynomials, bit tricks and sums of two vectors. A value that needs
more than its format's digits is carried as a :data:`Pair`, the sum of a vector and of a much
smaller one (Dekker, "A floating-point technique for extending the available precision", 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import Simd

Pair = tuple[ir.Value, ir.Value]
LN2 = Fraction(Decimal("0.69314718055994530941723212145817656807550013436025525412068"))
PI = Fraction(Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640"))


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
    sine_terms: int  #: of the series of sine and cosine, beyond the first
    turns: float  #: |x| up to which three parts of π/2 reduce the argument of sine and cosine
    erf_terms: int  #: of the series of erf

    def ln2(self) -> tuple[float, float]:
        """log 2 as a sum whose first part times any exponent is exact."""
        bits = 2 ** (self.mantissa - self.bias.bit_length() - 1)
        high = Fraction(round(LN2 * bits), bits)
        return float(high), float(LN2 - high)

    def parts(self, value: Fraction, count: int) -> list[float]:
        """``value`` as a sum of numbers of this format, each the nearest to what is left."""
        found = []
        for _ in range(count):
            found.append(float(self.float(float(value))))
            value -= Fraction(found[-1])
        return found

    def bits(self, value: float) -> int:
        """The bit pattern of ``value`` as an integer."""
        kind = np.int32 if self.float is np.float32 else np.int64
        return int(np.asarray(value, self.float).view(kind))


FORMATS = {
    ir.FloatType(): Format(np.float32, ir.IntType(32), 23, 127, -104.0, 6, 5, 4, 2.0**20, 8),
    ir.DoubleType(): Format(np.float64, ir.IntType(64), 52, 1023, -746.0, 12, 11, 8, 2.0**45, 13),
}


class Lanes:
    """The vectors of one argument's format."""

    def __init__(self, v: Simd, x: ir.Value) -> None:
        self.v = v
        self.format = FORMATS[x.type.element]
        self.float = x.type
        self.integer = ir.VectorType(self.format.integer, v.lanes)

    def real(self, value: float) -> ir.Value:
        """A constant of the format in all lanes."""
        return self.v.constant(self.float, value)

    def whole(self, value: int) -> ir.Value:
        """An integer of the format's width in all lanes."""
        return self.v.constant(self.integer, value)

    def as_bits(self, x: ir.Value) -> ir.Value:
        """The bit patterns as integers."""
        return self.v.builder.bitcast(x, self.integer)

    def as_float(self, bits: ir.Value) -> ir.Value:
        """The numbers that have these bit patterns."""
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

    def rounded(self, x: ir.Value, factor: float) -> tuple[ir.Value, ir.Value]:
        """x·factor rounded to whole numbers, as integers and as floats.

        Adding 1.5·2^mantissa rounds to an integer and leaves it in the low bits, defined for NaN.
        """
        magic = self.real(1.5 * 2.0**self.format.mantissa)
        shifted = self.v.fma(x, self.real(factor), magic)
        whole = self.v.subtract(self.as_bits(shifted), self.as_bits(magic))
        return whole, self.v.subtract(shifted, magic)

    def power_of_two(self, k: ir.Value) -> ir.Value:
        """2ᵏ for exponents of normal numbers."""
        shift = self.whole(self.format.mantissa)
        return self.as_float(self.v.builder.shl(self.v.add(k, self.whole(self.format.bias)), shift))

    def scaled(self, x: ir.Value, k: ir.Value) -> ir.Value:
        """x·2ᵏ for k up to twice as large: two factors reach denormals and infinity."""
        half = self.v.builder.ashr(k, self.whole(1))
        x = self.v.multiply(x, self.power_of_two(half))
        return self.v.multiply(x, self.power_of_two(self.v.subtract(k, half)))

    def sum(self, a: ir.Value, b: ir.Value) -> Pair:
        """a + b exactly, where |a| ≥ |b| or a is 0."""
        total = self.v.add(a, b)
        return total, self.v.subtract(b, self.v.subtract(total, a))

    def product(self, a: ir.Value, b: ir.Value) -> Pair:
        """a·b exactly."""
        high = self.v.multiply(a, b)
        return high, self.v.fma(a, b, self.v.negative(high))

    def pair_product(self, a: Pair, b: Pair) -> Pair:
        """a·b up to the product of the small parts."""
        high, low = self.product(a[0], b[0])
        return high, self.v.fma(a[0], b[1], self.v.fma(a[1], b[0], low))
