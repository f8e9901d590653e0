"""The vector functions, by ulp over the whole range, and at the special values."""

import itertools
import math
import re
from functools import cache

import mpmath
import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

import tinygrad_ai as ta
from tinygrad_ai.backend.scalar import xp
from tinygrad_ai.jit import jit
from tinygrad_ai.jit.lower import Aval
from tinygrad_ai.jit.lower_cpu import lower_elementwise
from tinygrad_ai.kernels.cpu import vmath
from tinygrad_ai.kernels.cpu.simd import I64, POINTER, Simd, host_lanes
from tinygrad_ai.ops import elementwise as ops

#: The largest error allowed, in ulps of either format: the worst that a sweep of all float32
#: numbers (``test_every_single_float``) and samples of float64 and of powers found, rounded up.
LIMITS = {
    "cos": 2.0, "erf": 2.0, "erfc": 3.6, "exp": 1.1, "exp2": 1.0, "expm1": 1.8, "log": 0.9,
    "log1p": 0.9, "log2": 1.2, "power": 0.8, "sigmoid": 3.0, "sin": 2.0, "sqrt": 0.5, "tanh": 2.6,
}  # fmt: skip
UNARY = [name for name in LIMITS if name != "power"]
ODD = ("erf", "expm1", "log1p", "sin", "sqrt", "tanh")  # of which f(-0) is -0
DTYPES = [np.float32, np.float64]
#: The next more precise format, in which NumPy is the oracle.
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
BLOCK = 4093
WIDTHS = {np.float32: (1, 4, 8, 16), np.float64: (1, 4, 8)}
BITS = {np.float32: np.uint32, np.float64: np.uint64}
SPECIALS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.0, -0.9999, 1e-30, -1e-30]
FUNCTIONS = {name: getattr(xp, name) for name in vmath.FUNCTIONS}
FUNCTIONS |= {"sigmoid": ops.sigmoid, "sqrt": xp.sqrt}
EXACT = {name: getattr(mpmath, name, None) for name in LIMITS}
EXACT["exp2"] = lambda x: mpmath.power(2, x)
EXACT["log2"] = lambda x: mpmath.log(x, 2)
EXACT["sigmoid"] = lambda x: 1 / (1 + mpmath.exp(-x))


def patterns(dtype, count):
    """Bit patterns spread evenly over all floats, with NaNs and denormals, and special values."""
    whole = BITS[dtype]
    bits = np.arange(count, dtype=whole) * whole(2 ** (8 * whole().itemsize) // count | 1)
    info = np.finfo(dtype)
    edges = np.array(
        [*SPECIALS, info.max, info.smallest_subnormal, info.smallest_normal, info.eps], dtype
    )
    ordinary = np.linspace(-20, 20, count // 4, dtype=dtype)
    limits = np.concatenate(
        [np.log(v, dtype=dtype) * np.linspace(0.98, 1.02, 5001, dtype=dtype)
         for v in (info.max, info.smallest_normal, info.smallest_subnormal)]
    )  # fmt: skip
    return np.concatenate([bits.view(dtype), edges, -edges, ordinary, limits])


def every_exponent(dtype, each, rng):
    """Random mantissas and signs, ``each`` for every exponent, denormals included."""
    info = np.finfo(dtype)
    exponents = np.repeat(np.arange(info.minexp - info.nmant, info.maxexp), each)
    size = np.ldexp(rng.uniform(1, 2, exponents.size).astype(dtype), exponents)
    return (size * rng.choice([-1, 1], exponents.size)).astype(dtype)


@cache
def kernel(name, dtype, lanes):
    """The vector code for ``BLOCK`` elements, the last of which do not fill a vector."""
    arguments = [Aval((BLOCK,), np.dtype(dtype))] * (2 if name == "power" else 1)
    return lower_elementwise(FUNCTIONS[name], arguments, lanes)


def compiled(name, *arrays, lanes=None):
    """The vector code's results, a block at a time: each kernel is compiled once."""
    count, dtype = arrays[0].size, arrays[0].dtype.type
    run = kernel(name, dtype, lanes or host_lanes(dtype))
    padded = [np.resize(a, -(-count // BLOCK) * BLOCK).reshape(-1, BLOCK) for a in arrays]
    return np.concatenate([run(*blocks) for blocks in zip(*padded, strict=True)])[:count]


def ulps(got, exact):
    """Errors in units in the last place of ``exact``; infinite where one is special alone."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        finite = np.isfinite(got) & np.isfinite(rounded)
        error = np.abs(got - exact) / np.abs(np.spacing(np.where(finite, rounded, 1)))
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        return np.where(finite, error, np.where(same, 0, np.inf))


def exact_ulps(name, got, *arrays):
    """Errors of finite arguments by mpmath, in ulps of the rounded results."""
    errors = []
    for y, *arguments in zip(got, *arrays, strict=True):
        # past ±10⁴ these over- or underflow or are constant: mpmath need not find out by how much
        wild = name in ("cos", "log", "log2", "log1p", "power", "sin", "sqrt")
        numbers = [mpmath.mpf(float(a)) for a in arguments]
        exact = EXACT[name](*(a if wild else min(max(a, -10000), 10000) for a in numbers))
        exact = mpmath.nan if isinstance(exact, mpmath.mpc) else exact
        with np.errstate(over="ignore"):
            nearest = np.float64(float(exact)).astype(y.dtype)
        if np.isfinite(y) and np.isfinite(nearest):
            unit = mpmath.mpf(float(abs(np.spacing(nearest))))
            errors.append(float(abs(mpmath.mpf(float(y)) - exact) / unit))
        else:
            errors.append(0.0 if np.array_equal(y, nearest, equal_nan=True) else np.inf)
    return np.array(errors)


def assert_errors(name, error, got, *arrays):
    worst = np.argmax(error)
    at = ", ".join(repr(a[worst]) for a in arrays)
    print(f"{name} {got.dtype}: {error[worst]:.3f} ulp at {at}")
    assert error[worst] <= LIMITS[name], (at, got[worst])


def wide(name, x):
    """The function in the precision of ``x``, by NumPy and the C library."""
    if name == "sigmoid":
        return 1 / (1 + np.exp(-x))
    found = getattr(np, name, None) or np.frompyfunc(getattr(math, name), 1, 1)
    return np.asarray(found(x), x.dtype)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for name in UNARY
        for dtype in DTYPES  # for some float64 functions only mpmath is better: the next test
        if dtype is np.float32 or hasattr(np, name) or name == "sigmoid"
    ],
)
def test_whole_range(name, dtype):
    x = patterns(dtype, 250_000 if dtype is np.float32 else 50_000)
    y = compiled(name, x)
    with np.errstate(all="ignore"):
        assert_errors(name, ulps(y, wide(name, x.astype(WIDER[dtype]))), y, x)
    zero = x == 0
    if name in ODD:
        assert (np.signbit(y[zero]) == np.signbit(x[zero])).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_every_exponent(name, dtype):
    rng = np.random.default_rng(0)
    ordinary = [rng.normal(0, 4, 300), rng.normal(1, 0.01, 100), rng.uniform(-800, 800, 100)]
    x = np.concatenate(
        [every_exponent(dtype, 2 if dtype is np.float32 else 1, rng), *ordinary]
    ).astype(dtype)
    if name.startswith("log") or name == "sqrt":
        x = np.maximum(x, -0.99) if name == "log1p" else abs(x)
    y = compiled(name, x)
    assert y.dtype == dtype
    with mpmath.workprec(120):
        assert_errors(name, exact_ulps(name, y, x), y, x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_every_exponent(dtype):
    rng = np.random.default_rng(0)
    near_one = abs(1 + rng.normal(0, 1, 400) * 10 ** rng.uniform(-6, 0, 400))
    x = np.concatenate([abs(every_exponent(dtype, 1, rng)), near_one.astype(dtype)])
    bits = np.finfo(dtype).maxexp * rng.uniform(-1.1, 1.1, x.size)  # of the result
    with np.errstate(divide="ignore"):
        y = (bits / np.log2(x.astype(np.float64))).astype(dtype)
    z = compiled("power", x, y)
    with mpmath.workprec(160):
        assert_errors("power", exact_ulps("power", z, x, y), z, x, y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_that_are_exact(dtype):
    digits = np.finfo(dtype).nmant + 1
    pairs = [(a, b) for a in range(-99, 100) for b in range(64) if abs(a) ** b < 2**digits]
    x, y = np.array(pairs, dtype).T
    expected = np.array([a**b for a, b in pairs], dtype)
    np.testing.assert_array_equal(compiled("power", x.copy(), y.copy()), expected)
    root = np.sqrt(square := np.arange(100, dtype=dtype) ** 2)
    np.testing.assert_array_equal(compiled("power", square, np.full_like(root, 0.5)), root)


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_two_and_their_logarithms_are_exact(dtype):
    info = np.finfo(dtype)
    k = np.arange(info.minexp - info.nmant, info.maxexp)
    numbers, whole = np.ldexp(dtype(1), k), k.astype(dtype)
    np.testing.assert_array_equal(compiled("exp2", whole), numbers)
    np.testing.assert_array_equal(compiled("log2", numbers), whole)
    np.testing.assert_array_equal(compiled("power", np.full_like(whole, 2), whole), numbers)


@pytest.mark.parametrize("dtype", DTYPES)
def test_special_powers(dtype):
    large = 2.0 ** (np.finfo(dtype).nmant + 1)
    positive_x, positive_y = [0, 1, 0.25, 4, np.inf], [0, 0.5, 1, 2, 3, large, large - 1, np.inf]
    pairs = itertools.product(
        [np.nan, *positive_x, *np.negative(positive_x)],
        [np.nan, *positive_y, *np.negative(positive_y)],
    )
    x, y = (a.copy() for a in np.array(list(pairs), dtype).T)
    z = compiled("power", x, y)
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
    np.testing.assert_array_equal(z, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(z[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LIMITS)
def test_every_width_gives_the_same_bits(name, dtype):
    x = patterns(dtype, 1001)
    arrays = [x, x[::-1].copy()] if name == "power" else [x]
    results = [compiled(name, *arrays, lanes=w).view(BITS[dtype]) for w in WIDTHS[dtype]]
    number = ~np.isnan(results[0].view(dtype))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][number], other[number])


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_far_lane_leaves_the_others_alone(dtype):
    x = np.linspace(-9, 9, 32, dtype=dtype)
    alone = compiled("sin", x)
    x[5] = 1e30
    beside = compiled("sin", x)
    assert ulps(beside[5:6], np.sin(x[5:6].astype(WIDER[dtype])))[0] <= LIMITS["sin"]
    np.testing.assert_array_equal(np.delete(beside, 5), np.delete(alone, 5))


@pytest.mark.parametrize("names", [[], ["sin"], ["tanh", "exp", "sin", "cos", "log1p", "tanh"]])
def test_a_step_gives_the_bits_of_one_lane(names):
    """Whole groups of vectors, single vectors and single elements, all in one array."""

    def chain(module, x):
        for name in names:
            x = getattr(module, name)(x)
        return x * 0.5 + 1.5

    x = np.random.default_rng(0).normal(0, 3, 1021).astype(np.float32)
    x[::97] = 1e20  # the C library's sine is asked
    expected = lower_elementwise(lambda x: chain(xp, x), [Aval.of(x)], lanes=1)(x)
    for count in (1021, 1021 - 128, 63, 5):
        step = jit(lambda x: chain(ta, x))
        np.testing.assert_array_equal(step(ta.Tensor(x[:count])).numpy(), expected[:count])


@pytest.mark.parametrize("columns", [1, 16, 31, 64, 69, 200])
@pytest.mark.parametrize("names", [["exp"], ["tanh", "exp", "sin", "cos", "log1p", "tanh"]])
def test_rows_give_the_bits_of_one_lane(names, columns):
    """Several vectors of a row, single ones and the rest of one; a sum adds them in turn."""

    def chain(module, x):
        for name in names:
            x = getattr(module, name)(x)
        return x * 0.5 + 1.5

    x = np.random.default_rng(0).normal(0, 3, (3, columns)).astype(np.float32)
    expected = lower_elementwise(lambda x: chain(xp, x), [Aval.of(x)], lanes=1)(x)

    def f(x, scale):
        y = chain(ta, x)
        return y, (y * scale).sum(-1), y.max(-1)

    scale = np.linspace(-1, 1, 3 * columns, dtype=np.float32).reshape(3, columns)
    y, total, top = (t.numpy() for t in jit(f)(ta.Tensor(x), ta.Tensor(scale)))
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(top, expected.max(-1))
    terms = expected.astype(np.float64) * scale
    np.testing.assert_allclose(total, terms.sum(-1), rtol=0, atol=1e-6 * abs(terms).sum())


@pytest.mark.deep
@pytest.mark.parametrize("name", UNARY)
def test_every_single_float(name):
    """Judged by the float64 code, which the other tests hold to a few ulps of float64."""
    block = np.arange(2**20, dtype=np.uint32)
    kinds = [Aval((block.size,), np.dtype(t)) for t in DTYPES]
    single, double = (lower_elementwise(FUNCTIONS[name], [kind]) for kind in kinds)
    worst = (0.0, np.float32(0))
    for start in range(0, 2**32, block.size):
        x = (block + np.uint32(start)).view(np.float32)
        with np.errstate(invalid="ignore"):
            error = ulps(single(x), double(x.astype(np.float64)))
        at = np.argmax(error)
        worst = max(worst, (error[at], x[at]), key=lambda found: found[0])
    print(f"{name}: {worst[0]:.4f} ulp at {worst[1]!r}")
    assert worst[0] <= LIMITS[name], worst
    if name in vmath.FUNCTIONS:  # what its docstring states is this, rounded up
        stated = float(re.search(r"([\d.]+) ulp", vmath.FUNCTIONS[name].__doc__)[1])
        assert stated - 0.01 <= worst[0] <= stated


def test_emitters_work_inside_numba():
    @intrinsic
    def exp_of_eight(typing, source, target):
        def write(context, builder, signature, addresses):
            v = Simd(builder, 8)
            source, target = (builder.inttoptr(a, POINTER) for a in addresses)
            v.store(vmath.exp(v, v.load(np.float32, source, I64(0))), target, I64(0))
            return context.get_dummy_value()

        return types.void(types.uintp, types.uintp), write

    @njit
    def run(source, target):
        exp_of_eight(source, target)

    x = np.linspace(-3, 3, 8, dtype=np.float32)
    y = np.empty_like(x)
    run(x.ctypes.data, y.ctypes.data)
    np.testing.assert_allclose(y, np.exp(x), rtol=3e-7)
