"""Functions for all lanes at once, float32 and float64, without tables and without fast-math.

Each takes a :class:`~tinygrad_ai.kernels.cpu.simd.Simd` and LLVM vectors, and gives the same bits
for any number of lanes. What the docstrings state was measured: the worst error in units in the
last place, float32 over all its numbers (``pytest -m deep tests/test_vmath.py``, judged by the
float64 code) and float64, in brackets, over random ones of every size, so there a worse one may
exist; and the cycles an element takes on a core with AVX-512
(Zen 5), in a loop over several vectors at once.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tinygrad_ai.kernels.cpu.vmath_erf import erf, erfc
from tinygrad_ai.kernels.cpu.vmath_exp import exp, exp2, expm1, log, log1p, log2, tanh
from tinygrad_ai.kernels.cpu.vmath_power import power
from tinygrad_ai.kernels.cpu.vmath_trig import cos, sin

_ALL = (cos, erf, erfc, exp, exp2, expm1, log, log1p, log2, power, sin, tanh)
#: Functions that have vector code, by NumPy's name.
FUNCTIONS: dict[str, Callable[..., ir.Value]] = {f.__name__: f for f in _ALL}
