"""Generated code computes what the record computes on NumPy: CPU by running it, CUDA by NVRTC."""

import itertools
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from tinygrad_ai.backend import NUMPY
from tinygrad_ai.backend.scalar import Expr, order, xp
from tinygrad_ai.errors import DTypeError, GraphError, ShapeError
from tinygrad_ai.jit import lower_cuda as cuda
from tinygrad_ai.jit.lower import Aval
from tinygrad_ai.jit.lower_cpu import lower_cpu, lower_elementwise
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.ops import elementwise as ops
from tinygrad_ai.ops.index import take_
from tinygrad_ai.ops.movement import (
    broadcast_to_,
    flip_,
    pad_,
    permute,
    reshape_,
    slice_,
)
from tinygrad_ai.ops.products import linear_, matmul_
from tinygrad_ai.ops.reduce import amax_, amin_, mean_, prod_, sum_
from tinygrad_ai.ops.triangles import tril_, triu_
from tinygrad_ai.testing import sample_call

WIDTHS = [1, 4, None]
DTYPES = [np.float32, np.float64]
FORMATS = [(np.float32, 1), (np.float64, 4), (np.float32, None), (np.float64, None)]
RECORDS = {p.name: p for p in PRIMITIVES.values() if p.kind == "elementwise"}
WHOLE_NUMBERS = [name for name in RECORDS if name.startswith("bitwise")]
RULES = [
    (name, i) for name, p in RECORDS.items() for i, rule in enumerate(p.rules) if rule is not None
]
PARAMS = {name: sample_call(p, np.random.default_rng(0))[1] for name, p in RECORDS.items()}
SHAPES = [
    [(), ()],
    [(0,), (0,)],
    [(1,), (5,)],
    [(17,), (17,)],
    [(3, 37), (37,)],
    [(5, 1, 7), (3, 1)],
    [(2, 3, 5), ()],
    [(0, 3), (3,)],
]
EXACT = {
    "add", "subtract", "multiply", "divide", "negative", "absolute", "sqrt", "fmod", "floor",
    "ceil", "trunc", "rint", "copysign", "maximum", "minimum", "where", "astype",
}  # fmt: skip
EPS = {np.dtype(d): np.finfo(d).eps for d in DTYPES}


def normal(shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def inside(primitive, shape, dtype, seed=0):
    """Random inputs inside the domain of a record."""
    rng = np.random.default_rng(seed)
    if primitive.name in WHOLE_NUMBERS:
        return [rng.integers(-9, 9, shape, np.int32) for _ in primitive.inputs]
    if primitive.name == "where":
        return [rng.random(shape) < 0.5, normal(shape, dtype, 1), normal(shape, dtype, 2)]
    lows = [max(low, -3.0) for low, _ in primitive.domain]
    highs = [min(high, low + 4.0) for low, (_, high) in zip(lows, primitive.domain, strict=True)]
    return [rng.uniform(a, b, shape).astype(dtype) for a, b in zip(lows, highs, strict=True)]


def run(primitive, arrays, params=None, lanes=None):
    """The compiled kernel's result and the eager one."""
    params = PARAMS.get(primitive.name, {}) if params is None else params
    eager = np.asarray(primitive(*arrays, **params))
    kernel = lower_cpu(primitive, [Aval.of(a) for a in arrays], Aval.of(eager), params, lanes)
    return kernel(*[np.asarray(a) for a in arrays if hasattr(a, "dtype")]), eager


@np.errstate(all="ignore")
def doubt(function, arrays, ulps=6.5):
    """How far two good implementations of ``function`` may lie apart, for each element.

    Wilkinson's running error analysis: a function errs by ``ulps`` of its own result (NumPy's by
    up to 4, ours by up to 2.3), an operation that IEEE 754 defines only rounds what erred before,
    and each passes on the errors of its arguments, which are found by moving these both ways.
    """
    root = function(*(Expr("symbol", (), a.dtype, k) for k, a in enumerate(arrays)))
    if root.dtype.kind != "f":
        return None
    limits = np.finfo(root.dtype)
    known = {}
    for e in order([root]):
        if not e.args:
            value = np.asarray(arrays[e.attr] if e.op == "symbol" else e.attr)
            known[e] = (value.astype(float) if e.dtype.kind == "f" else value), 0.0
            continue
        f = np.array if e.op == "astype" else getattr(NUMPY.xp, e.op)
        arguments = [known[a] for a in e.args]
        value, error = f(*(x for x, _ in arguments)), 0.0
        if e.dtype.kind == "f":
            value = value.astype(float)  # a truth may have become a number
            ways = [(x - d, x + d) if np.any(d) else (x,) for x, d in arguments]
            error = np.max([abs(f(*moved) - value) for moved in itertools.product(*ways)], axis=0)
            rounds = error > 0 if e.op in EXACT else ulps
            error = error + rounds * (limits.eps * abs(value) + limits.smallest_subnormal)
        known[e] = value, error
    return known[root][1]


def assert_close(got, eager, ulps=8.0, scale=None, limit=None):
    """Equal dtype, shape and special values; numbers within ``limit``, or ``ulps`` of eps·scale."""
    assert got.dtype == eager.dtype and got.shape == eager.shape
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, eager)
        return
    scale = np.abs(eager) if scale is None else scale
    if limit is None:
        limit = ulps * (EPS[got.dtype] * scale + np.finfo(got.dtype).smallest_subnormal)
    with np.errstate(invalid="ignore"):
        good = (got == eager) | (np.isnan(got) & np.isnan(eager)) | (np.abs(got - eager) <= limit)
    assert good.all(), (got[~good][:5], eager[~good][:5], np.argwhere(~good)[:5].tolist())


# ------------------------------------------------------------------------- scalar expressions


def test_expressions_are_made_once_and_printed():
    x = Expr("symbol", (), np.float32, "x")
    assert x * x + 1 is x * x + 1.0
    assert x * 0.0 is not x * -0.0
    assert len(order([ops.sigmoid(x)])) == 11  # one exp, used twice
    assert repr(2 * x).splitlines() == [
        "v0 = const 2.0 : float32",
        "v1 = symbol 'x' : float32",
        "v2 = multiply v0 v1 : float32",
    ]


def test_numbers_are_weak_and_dtypes_are_numpys():
    x, n = Expr("symbol", (), np.float32, "x"), Expr("symbol", (), np.int32, "n")
    assert (x * 2.5).dtype == np.float32
    assert (x + np.float64(1)).dtype == (x + n).dtype == np.float64
    assert (n / 2).dtype == np.float64 and (n // 2).dtype == np.int32
    assert (x < 1).dtype == xp.isnan(x).dtype == bool
    assert ops.where(x > 0, x, 0).dtype == np.float32


def test_expressions_say_what_they_cannot_do():
    x = Expr("symbol", (), np.float32, "x")
    with pytest.raises(GraphError, match="not known while code is generated"):
        bool(x > 0)
    with pytest.raises(DTypeError, match="ndarray"):
        x + np.ones(2)


def test_deep_expressions_need_no_recursion():
    x = Expr("symbol", (), np.float32, "x")
    y = x
    for _ in range(5_000):
        y = y * 0.5 + x
    assert len(order([y])) == 10_002


# ----------------------------------------------------------------------------- the four kinds


@pytest.mark.parametrize(("dtype", "lanes"), FORMATS)
@pytest.mark.parametrize("name", ["add", "multiply", "tanh", "relu", "where"])
def test_elementwise(name, dtype, lanes):
    primitive = RECORDS[name]
    for shapes in SHAPES:
        a, b = (normal(s, dtype, k) for k, s in enumerate(shapes))
        arrays = {1: [a], 2: [a, b], 3: [b > 0, a, b]}[primitive.arity]
        assert_close(*run(primitive, arrays, lanes=lanes), ulps=4)


@pytest.mark.parametrize("lanes", WIDTHS)
def test_python_numbers_are_constants(lanes):
    x = normal((3, 11))
    assert_close(*run(ops.where, [x > 0, x, 0], lanes=lanes))
    assert_close(*run(ops.power, [x, 2], lanes=lanes))
    assert_close(*run(ops.subtract, [1.5, x], lanes=lanes))


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_of_equal_zeros_the_second_is_taken_and_nans_stay(name, dtype, lanes):
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], dtype)
    a, b = (x.ravel() for x in np.meshgrid(values, values))
    found = lower_elementwise(getattr(xp, name), [Aval.of(a), Aval.of(b)], lanes=lanes)(a, b)
    first = a > b if name == "maximum" else a < b
    wanted = np.where(np.isnan(a), a, np.where(first, a, b))
    np.testing.assert_array_equal(found, wanted)
    number = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found[number]), np.signbit(wanted[number]))


@pytest.mark.parametrize(("dtype", "lanes"), FORMATS)
@pytest.mark.parametrize("primitive", [sum_, mean_, prod_, amax_, amin_], ids=lambda p: p.name)
def test_reductions(primitive, dtype, lanes):
    for shape in [(), (37,), (3, 17), (5, 19, 2)]:
        x = normal(shape, dtype)
        for count in range(len(shape) + 1):
            for axis in itertools.combinations(range(len(shape)), count):
                for keepdims in (False, True) if axis == (0,) else (False,):
                    got, eager = run(primitive, [x], {"axis": axis, "keepdims": keepdims}, lanes)
                    sums = primitive in (sum_, mean_)
                    scale = np.abs(x).sum(axis, keepdims=keepdims) if sums else None
                    assert_close(got, eager, 20, scale)


@pytest.mark.parametrize("lanes", WIDTHS)
def test_reductions_of_nothing_of_nan_and_of_integers(lanes):
    for shape, axis in [((0,), (0,)), ((0, 3), (0,)), ((3, 0), (0,)), ((2, 0, 5), (1, 2))]:
        assert_close(*run(sum_, [normal(shape)], {"axis": axis, "keepdims": False}, lanes))
    x = normal((5, 19))
    x[2, 11] = x[3, 18] = np.nan
    for axis in [(0,), (1,), (0, 1)]:
        for primitive in (amax_, amin_):
            assert_close(*run(primitive, [x], {"axis": axis, "keepdims": False}, lanes))
            whole = np.arange(-50, 45).reshape(5, 19)
            assert_close(*run(primitive, [whole], {"axis": axis, "keepdims": False}, lanes))


@pytest.mark.parametrize(("dtype", "lanes"), FORMATS)
def test_contractions(dtype, lanes):
    for left, right in [
        [(1, 1), (1, 1)],
        [(7, 5), (5, 19)],
        [(3, 0), (0, 2)],
        [(0, 3), (3, 2)],
        [(2, 3, 4), (4, 5)],
        [(3, 1, 2, 4), (5, 4, 7)],
    ]:
        a, b = normal(left, dtype), normal(right, dtype, 1)
        assert_close(*run(matmul_, [a, b], lanes=lanes), 8, np.abs(a) @ np.abs(b))
    a, b = normal((7, 33), dtype), normal((5, 33), dtype, 1)
    assert_close(*run(linear_, [a, b], lanes=lanes), 8, np.abs(a) @ np.abs(b).T)


@pytest.mark.parametrize("lanes", WIDTHS)
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_index_maps(dtype, lanes):
    x = normal((3, 5, 7)).astype(dtype)
    at = np.random.default_rng(0).integers(-3, 3, (2, 11))
    for axes in itertools.permutations(range(3)):
        assert_close(*run(permute, [x], {"axes": axes}, lanes))
    assert_close(*run(broadcast_to_, [x[:, :1]], {"shape": (2, 3, 5, 7)}, lanes))
    for axis in range(3):
        assert_close(*run(take_, [x, at], {"axis": axis}, lanes))
        assert_close(*run(take_, [x, at.astype(np.int32)[0, :0]], {"axis": axis}, lanes))
    assert_close(*run(take_, [x, np.array(-1)], {"axis": 2}, lanes))


MOVES = [
    (reshape_, (3, 5, 7), {"shape": (7, 1, 15)}),
    (reshape_, (3, 4, 7), {"shape": (3, 2, 2, 7)}),
    (reshape_, (3, 4, 7), {"shape": (84,)}),
    (reshape_, (6, 10), {"shape": (4, 15)}),
    (reshape_, (3, 1, 19), {"shape": (1, 3, 19, 1)}),
    (reshape_, (2, 3, 0), {"shape": (0, 7)}),
    (reshape_, (), {"shape": (1, 1)}),
    (reshape_, (1, 1), {"shape": ()}),
    (reshape_, (0, 3), {"shape": (2, 0, 5)}),
    (flip_, (3, 5, 7), {"axis": (0, 2)}),
    (flip_, (5, 19), {"axis": ()}),
    (flip_, (), {"axis": ()}),
    (slice_, (3, 5, 7), {"key": (slice(None, None, -2), slice(1, 4), slice(6, None, -1))}),
    (slice_, (3, 5, 7), {"key": (-1, None, slice(None, None, 3))}),
    (slice_, (3, 5, 7), {"key": (None, slice(1, 99), 2, None, slice(-6, -1, 2))}),
    (slice_, (5, 19), {"key": (slice(4, 1), slice(None))}),
    (slice_, (5, 19), {"key": (2, -3)}),
    (slice_, (), {"key": (None,)}),
    (pad_, (3, 5, 7), {"widths": ((0, 0), (2, 1), (3, 13))}),
    (pad_, (1, 5), {"widths": ((1, 2), (0, 1))}),
    (pad_, (0,), {"widths": ((2, 3),)}),
    (pad_, (), {"widths": ()}),
    (tril_, (2, 5, 19), {"k": 3}),
    (triu_, (7, 3), {"k": -1}),
]


@pytest.mark.parametrize(("dtype", "lanes"), FORMATS)
@pytest.mark.parametrize(("primitive", "shape", "params"), MOVES, ids=[p.name for p, *_ in MOVES])
def test_moves(primitive, shape, params, dtype, lanes):
    assert_close(*run(primitive, [normal(shape, dtype)], params, lanes))


@pytest.mark.parametrize("lanes", WIDTHS)
def test_take_reads_nothing_outside(lanes):
    x, bad = normal((4, 3)), np.array([3, 4, 2**40, -5, 0])
    output = Aval((5, 3), x.dtype)
    got = lower_cpu(take_, [Aval.of(x), Aval.of(bad)], output, {"axis": 0}, lanes)(x, bad)
    np.testing.assert_array_equal(got[[0, 4]], x[[3, 0]])
    assert np.isnan(got[1:4]).all()


def test_kernels_take_views_and_refuse_other_shapes():
    x = normal((6, 9))
    kernel = lower_elementwise(lambda a: a * 2, [Aval((9, 3), x.dtype)])
    np.testing.assert_array_equal(kernel(x.T[:, ::2]), x.T[:, ::2] * 2)
    with pytest.raises(ShapeError, match=r"float32 \(9, 3\) was given float32 \(6, 9\)"):
        kernel(x)


# ------------------------------------------------------------------- every elementwise record


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 2.5, -0.5, 1e-30]
WHOLE = [0, 1, -1, 2**31 - 1, -(2**31)]


def everywhere(name, dtype):
    """Flat inputs of a record: points inside its domain, then all pairs of special values."""
    primitive = RECORDS[name]
    values = np.array(WHOLE, np.int32) if name in WHOLE_NUMBERS else np.array(SPECIAL, dtype)
    grid = np.meshgrid(*[values] * primitive.arity)
    points = inside(primitive, (3, 37), dtype)
    return [
        np.concatenate([x.ravel(), special.ravel().astype(x.dtype)])
        for x, special in zip(points, grid, strict=True)
    ]


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, None), (np.float64, 4)])
@pytest.mark.parametrize("name", RECORDS)
def test_every_record(name, dtype, lanes):
    primitive, arrays = RECORDS[name], everywhere(name, dtype)
    limit = doubt(partial(primitive, **PARAMS[name]), arrays)
    assert_close(*run(primitive, arrays, lanes=lanes), limit=limit)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", ["add", "floor_divide", "remainder", "abs", "maximum", "less"])
def test_integers(name, dtype):
    primitive = RECORDS[name]
    info = np.iinfo(dtype)
    values = np.array([0, 1, -1, 7, -7, 3, -3, info.max, info.min], dtype)
    grid = [a.ravel().copy() for a in np.meshgrid(*[values] * primitive.arity)]
    assert_close(*run(primitive, grid))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "i"), RULES)
def test_every_vjp_rule_fuses(name, i, dtype):
    function, arrays = rule_call(name, i, dtype)
    with np.errstate(all="ignore"):
        eager = np.broadcast_to(np.asarray(function(*arrays)), (3, 37))
    got = lower_elementwise(function, [Aval.of(a) for a in arrays])(*arrays)
    assert_close(got, eager.astype(got.dtype), limit=doubt(function, arrays))


def rule_call(name, i, dtype):
    """A VJP rule as a function of a signed cotangent and its residuals, and arrays for them."""
    primitive, rule, params = RECORDS[name], RECORDS[name].rules[i], PARAMS[name]
    inputs = inside(primitive, (3, 37), dtype)
    y = np.asarray(primitive(*inputs, **params))
    arrays = [y if k == -1 else inputs[k] for k in rule.sources if isinstance(k, int)]
    read = {k: v for k, v in params.items() if k in rule.sources}
    return partial(rule.function, **read), [normal((3, 37), dtype, 5), *arrays]


def gelu(x, g):
    """tanh-GELU and its gradient by hand, in one function with two results."""
    t = ops.tanh(0.7978845608028654 * (x + 0.044715 * x**3))
    slope = 0.7978845608028654 * (1 + 3 * 0.044715 * x * x)
    return 0.5 * x * (1 + t), g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)


@pytest.mark.parametrize("lanes", WIDTHS)
def test_a_function_with_two_results_is_one_kernel(lanes):
    x, g = normal((41, 5)) * 3, normal((41, 5), seed=1)
    kernel = lower_elementwise(gelu, [Aval.of(x), Aval.of(g)], lanes)
    for got, exact in zip(kernel(x, g), gelu(x.astype(float), g.astype(float)), strict=True):
        assert_close(got, exact.astype(np.float32), 8, np.abs(exact) + np.abs(x))
    if kernel.lanes > 1:
        assert kernel.source.count(f"load <{kernel.lanes} x float>") == 2


def test_importing_the_library_does_not_import_a_compiler():
    code = (
        "import sys, tinygrad_ai, tinygrad_ai.ops.elementwise, tinygrad_ai.backend.scalar, "
        "tinygrad_ai.jit.lower_cuda; sys.exit(bool({'llvmlite', 'numba'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -------------------------------------------------------------------------------- CUDA source


def cuda_sources():
    """The CUDA C of every record, every VJP rule, and the other kinds."""
    for dtype in DTYPES:
        for name, primitive in RECORDS.items():
            arrays = inside(primitive, (3, 37), dtype)
            params = PARAMS[name]
            output = Aval.of(np.asarray(primitive(*arrays, **params)))
            yield cuda.lower_cuda(primitive, [Aval.of(a) for a in arrays], output, params)
        for name, i in RULES:
            function, arrays = rule_call(name, i, dtype)
            yield cuda.lower_elementwise(function, [Aval.of(a) for a in arrays])
        x, at = normal((3, 5, 7), dtype), np.arange(3)
        whole = x.astype(np.int64)
        yield cuda.lower_cuda(amax_, [Aval.of(whole)], Aval((), whole.dtype), {"axis": (0, 1, 2)})
        for primitive in (sum_, mean_, prod_, amax_, amin_):
            for axis in [(0, 1, 2), (1,), (0, 2)]:
                params = {"axis": axis, "keepdims": False}
                output = Aval.of(np.asarray(primitive(x, **params)))
                yield cuda.lower_cuda(primitive, [Aval.of(x)], output, params)
        for primitive, arrays, params in [
            (matmul_, [x, normal((7, 2), dtype)], {}),
            (take_, [x, at], {"axis": 1}),
            (permute, [x], {"axes": (2, 0, 1)}),
            (broadcast_to_, [x], {"shape": (2, 3, 5, 7)}),
            *((move, [normal(shape, dtype)], params) for move, shape, params in MOVES),
        ]:
            output = Aval.of(primitive(*arrays, **params))
            yield cuda.lower_cuda(primitive, [Aval.of(a) for a in arrays], output, params)
        yield cuda.lower_elementwise(gelu, [Aval.of(x), Aval.of(x)])


def test_cuda_source_of_one_kernel():
    shape = Aval((2, 3), np.dtype(np.float32))
    assert cuda.lower_cuda(ops.relu, [shape], shape) == (
        'extern "C" __global__ void kernel(float* __restrict__ out0, '
        "const float* __restrict__ in0) {\n"
        "  const long long start = (long long)blockIdx.x * blockDim.x + threadIdx.x;\n"
        "  const long long step = (long long)gridDim.x * blockDim.x;\n"
        "  for (long long at = start; at < 6LL; at += step) {\n"
        "    const long long i0 = at;\n"
        "    const float v0 = in0[i0];\n"
        "    const float v1 = v0 > 0.0f || v0 != v0 ? v0 : 0.0f;\n"
        "    out0[at] = v1;\n"
        "  }\n"
        "}\n"
    )


@pytest.mark.gpu_proof
@pytest.mark.parametrize("arch", [75, 80, 90, 100, 120])
def test_cuda_sources_compile(arch):
    from cupy_backends.cuda.libs import nvrtc  # noqa: PLC0415  (the extra `ci`)

    sources = [
        source.replace("void kernel(", f"void kernel{k}(")
        for k, source in enumerate(cuda_sources())
    ]
    program = nvrtc.createProgram("\n".join(sources), "kernels.cu", (), ())
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture=compute_{arch}", "--std=c++17"))
        ptx = nvrtc.getPTX(program)
    finally:
        log = nvrtc.getProgramLog(program)
        print(log)
        nvrtc.destroyProgram(program)
    assert all(f".entry kernel{k}(".encode() in ptx for k in range(len(sources)))
