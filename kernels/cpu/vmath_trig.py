"""Sine and cosine for all lanes at once.

The argument is reduced by whole multiples of π/2, which three numbers of the format represent
(Cody and Waite, "Software Manual for the Elementary Functions", 1980; with fused
multiplications their digits need not be cut). What is left has both Taylor series. Past
2²⁰ (float32) or 2⁴⁵ (float64) the C library is asked, lane by lane.
"""

from __future__ import annotations

import math

from llvmlite import ir

from tinygrad_ai.kernels.cpu.simd import BIT, Simd
from tinygrad_ai.kernels.cpu.vmath_format import PI, Lanes


def sin(v: Simd, x: ir.Value) -> ir.Value:
    """The sine; 1.67 ulp (1.5), 0.9 cycles (2.1)."""
    m = Lanes(v, x)
    y = v.where(v.equal(x, m.real(0)), x, _turned(m, x, 0))  # the sign of zero
    return _far_lanes(m, "sin", x, y)


def cos(v: Simd, x: ir.Value) -> ir.Value:
    """The cosine, the sine a quarter of a turn further; 1.81 ulp (1.5), 0.9 cycles (2.1)."""
    m = Lanes(v, x)
    return _far_lanes(m, "cos", x, _turned(m, x, 1))


def _turned(m: Lanes, x: ir.Value, quarters: int) -> ir.Value:
    """sin(x + quarters·π/2)."""
    v = m.v
    k, n = m.rounded(x, 2 / math.pi)
    r, n = x, v.negative(n)
    for part in m.format.parts(PI / 2, 3):
        r = v.fma(n, m.real(part), r)
    k = v.add(k, m.whole(quarters))
    odd = v.not_equal(v.bitwise_and(k, m.whole(1)), m.whole(0))
    y = m.as_bits(v.where(odd, _cosine(m, r), _sine(m, r)))
    sign = v.builder.shl(v.bitwise_and(k, m.whole(2)), m.whole(m.format.integer.width - 2))
    return m.as_float(v.bitwise_xor(y, sign))


def _sine(m: Lanes, r: ir.Value) -> ir.Value:
    """r + r³·(-1/3! + …)."""
    z = m.v.multiply(r, r)
    terms = [-((-1) ** j) / math.factorial(2 * j + 3) for j in range(m.format.sine_terms)]
    return m.v.fma(m.v.multiply(z, r), m.series(z, terms), r)


def _cosine(m: Lanes, r: ir.Value) -> ir.Value:
    """1 - r²/2 as a pair, and r⁴·(1/4! - …)."""
    v = m.v
    z = v.multiply(r, r)
    terms = [(-1) ** j / math.factorial(2 * j + 4) for j in range(m.format.sine_terms)]
    high, low = m.sum(m.real(1), v.multiply(z, m.real(-0.5)))
    return v.add(high, v.fma(v.multiply(z, z), m.series(z, terms), low))


def _far_lanes(m: Lanes, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
    """``y``, but the C library's ``name`` of ``x`` where |x| is too large for the reduction."""
    v, build = m.v, m.v.builder
    far = v.greater(v.absolute(x), m.real(m.format.turns))
    here = build.block
    with build.if_then(v.call("llvm.vector.reduce.or", BIT, far), likely=False):
        called = v.where(far, build.call(_by_lane(m, name), [x]), y)
        there = build.block
    result = build.phi(m.float)
    result.add_incoming(y, here)
    result.add_incoming(called, there)
    return result


def _by_lane(m: Lanes, name: str) -> ir.Function:
    """A function of its own: its many calls would cost the kernel registers and compile time."""
    module = m.v.builder.module
    symbol = f"{name}.{m.v.lanes}x{m.float.element}"
    if symbol not in module.globals:
        function = ir.Function(module, ir.FunctionType(m.float, [m.float]), symbol)
        function.linkage = "internal"
        function.attributes.add("noinline")
        function.attributes.add("cold")
        build = ir.IRBuilder(function.append_basic_block("entry"))
        build.ret(Simd(build, m.v.lanes).each_lane(name, function.args[0]))
    return module.globals[symbol]
