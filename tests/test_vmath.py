"""The vector functions, by ulp over the whole range, and at the special values."""

import numpy as np
import pytest
from numba import njit, types
from numba.extending import intrinsic

from tinygrad_ai.backend.scalar import xp
from tinygrad_ai.jit.lower import Aval
from tinygrad_ai.jit.lower_cpu import lower_elementwise
from tinygrad_ai.kernels.cpu import vmath
from tinygrad_ai.kernels.cpu.simd import I64, POINTER, Simd

#: The largest error allowed, in ulps.
LIMITS = {"exp": 1.5, "expm1": 2.0, "log": 1.0, "log1p": 2.0, "tanh": 3.0}
#: The next more precise format, in which NumPy is the oracle.
WIDER = {np.float32: np.float64, np.float64: np.longdouble}
SPECIALS = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, 2.0, -0.9999, 1e-30, -1e-30]


def patterns(dtype, count):
    """Bit patterns spread evenly over all floats, with NaNs and denormals, and special values."""
    whole = {np.float32: np.uint32, np.float64: np.uint64}[dtype]
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


def ulps(got, exact):
    """Errors in units in the last place of ``exact``; infinite where one is special alone."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        finite = np.isfinite(got) & np.isfinite(rounded)
        error = np.abs(got - exact) / np.abs(np.spacing(np.where(finite, rounded, 1)))
        same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
        return np.where(finite, error, np.where(same, 0, np.inf))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", vmath.FUNCTIONS)
def test_whole_range(name, dtype):
    x = patterns(dtype, 2_000_000 if dtype is np.float32 else 200_000)
    y = lower_elementwise(getattr(xp, name), [Aval.of(x)])(x)
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype(WIDER[dtype]))
    error = ulps(y, exact)
    worst = np.argmax(error)
    print(f"{name} {dtype.__name__}: {error[worst]:.3f} ulp at {x[worst]!r}")
    assert error[worst] <= LIMITS[name], (x[worst], y[worst], exact[worst])
    zero = x == 0
    if name in ("expm1", "log1p", "tanh"):
        assert (np.signbit(y[zero]) == np.signbit(x[zero])).all()


@pytest.mark.parametrize("name", vmath.FUNCTIONS)
def test_every_width_gives_the_same_bits(name):
    x = patterns(np.float32, 1001)
    results = [
        lower_elementwise(getattr(xp, name), [Aval.of(x)], lanes=w)(x).view(np.uint32)
        for w in (1, 4, 8, 16)
    ]
    number = ~np.isnan(results[0].view(np.float32))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0][number], other[number])


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
