"""What is written in another form for the kernels: nothing is left to NumPy, and values agree."""

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai.jit.launches import Call
from tinygrad_ai.jit.step import jit
from tinygrad_ai.ops import special

RNG = np.random.default_rng(0)
X, CUBE = RNG.standard_normal((6, 20)), RNG.standard_normal((4, 9, 17))
LABELS, PAIRS = np.array([3, -1, 0, 3, 19, -20]), np.array([[0, 1], [-1, 0]])
FORMS = {
    "var": (lambda x: ta.var(x, axis=0, ddof=1), X),
    "var of all": (lambda x: ta.var(x), CUBE),
    "std": (lambda x: ta.std(x, axis=(0, 2), keepdims=True), CUBE),
    "norm": (lambda x: ta.norm(x), CUBE),
    "norms of rows": (lambda x: ta.norm(x, axis=-1, keepdims=True), X),
    "logsumexp": (lambda x: ta.logsumexp(x, axis=-1), X),
    "logsumexp of columns": (lambda x: ta.logsumexp(x, axis=0), X),
    "prod": (lambda x: ta.prod(x, axis=1), X),
    "cumsum": (lambda x: ta.cumsum(x, axis=1), CUBE),
    "cumprod": (lambda x: ta.cumprod(x, axis=-1), X),
    "amax over axes apart": (lambda x: ta.amax(x, axis=(0, 2)), CUBE),
    "mean over axes apart": (lambda x: ta.mean(x, axis=(0, 2)), CUBE),
    "sum of columns of a transpose": (lambda x: ta.sum(x.T, axis=0), X),
    "sums of permuted axes": (lambda x: ta.sum(x.transpose(2, 0, 1), axis=1), CUBE),
    "sums of rows apart": (lambda x: ta.sum(x.transpose(1, 0, 2), axis=(1, 2)), CUBE),
    "sums of heads": (
        lambda x: ta.sum((x * 2).swapaxes(1, 2).reshape(4, 17, 3, 3).transpose(0, 3, 2, 1), axis=1),
        CUBE,
    ),
    "sums of a reshaped permutation": (
        lambda x: ta.sum(
            x.reshape(4, 3, 3, 17).transpose(0, 3, 1, 2).reshape(4, 17, 9), axis=(0, 1)
        ),
        CUBE,
    ),
    "sum of repeated": (
        lambda x: ta.sum(ta.broadcast_to(x[:, None], (6, 5, 20)), axis=(0, 1)),
        X,
    ),
    "sums of repeated": (
        lambda x: ta.sum(ta.broadcast_to(x[:, None], (7, 6, 5, 20)), axis=2, keepdims=True),
        X,
    ),
    "argmax": (lambda x: ta.argmax(x, axis=-1) * x[:, 0], X),
    "argmin of columns": (lambda x: ta.argmin(x, axis=0, keepdims=True) * x, X),
    "rows": (lambda x: x[PAIRS], X),
    "labels": (lambda x: x[np.arange(6), LABELS], X),
    "labels of a cube": (lambda x: x[:, PAIRS, PAIRS + 1], CUBE),
    "last axis": (lambda x: x[..., PAIRS], CUBE),
    "take_along_axis": (lambda x: ta.take_along_axis(x, LABELS[:, None], axis=1), X),
    "einsum": (lambda x: ta.einsum("bij,kji->bk", x, x.transpose(0, 2, 1)), CUBE),
    "outer einsum": (lambda x: ta.einsum("bi,bj->bij", x, x), X),
    "attention einsum": (
        lambda x: ta.einsum("bthd,bshd->bhts", *2 * [x.reshape(4, 9, 1, 17)]),
        CUBE,
    ),
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients(name, dtype):
    f, x = FORMS[name]
    x = ta.Tensor(x.astype(dtype))
    cotangent = ta.Tensor(np.random.default_rng(1).standard_normal(f(x).shape).astype(dtype))

    def both(x):
        return f(x), ta.grad(lambda x: (f(x) * cotangent).sum())(x)

    step = jit(both)
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for found, wanted in zip(step(x), both(x), strict=True):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        scale = abs(wanted.numpy()).max()
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), 0, tolerance * scale)
    assert left_to_numpy(step) == []


def left_to_numpy(step):
    (plan,) = (p for plans in step.plans.values() for p in plans)
    return [launch.name for launch in plan.execution.launches if isinstance(launch, Call)]


@pytest.mark.parametrize("f", [ta.argmax, ta.argmin])
def test_the_first_extreme_and_the_first_nan(f):
    rows = [[1, 3, 3, 0, 0], [2, np.nan, 5, np.nan, 1], [np.inf, 1, np.inf, -np.inf, -np.inf]]
    for dtype in ("float32", "float64", "int64"):
        x = np.array(rows if dtype != "int64" else rows[:1], dtype)
        for axis in (0, 1, None):
            found = jit(lambda x, axis=axis: f(x, axis=axis))(ta.Tensor(x))
            np.testing.assert_array_equal(found.numpy(), f(ta.Tensor(x), axis=axis).numpy())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lengths_and_logarithms_beyond_the_range_of_squares_and_exponentials(dtype):
    big = float(np.finfo(dtype).max) / 4
    small = float(np.finfo(dtype).smallest_subnormal)
    inf, nan = np.inf, np.nan
    rows = [[big, big], [small, 0], [0, 0], [inf, 1], [-inf, -inf], [nan, 1], [1000, 999]]
    x = ta.Tensor(np.array(rows, dtype))
    for f in (ta.norm, ta.logsumexp, ta.var, ta.std):
        with np.errstate(all="ignore"):
            wanted = f(x, axis=1).numpy()
        np.testing.assert_allclose(jit(lambda x, f=f: f(x, axis=1))(x).numpy(), wanted, 1e-6)


def test_variance_without_enough_elements_is_nan():
    x = ta.Tensor(np.ones((3, 1), np.float32))
    with np.errstate(all="ignore"):
        wanted = ta.var(x, axis=1, ddof=1).numpy()
    np.testing.assert_array_equal(jit(lambda x: ta.var(x, axis=1, ddof=1))(x).numpy(), wanted)


@pytest.mark.parametrize(
    ("shape", "bias", "row"),
    [
        ((5, 3, 7, 2), (3, 1, 1), 14),  # a channel's bias
        ((5, 3, 7, 2), (7, 1), 2),
        ((5, 3, 7, 20), (3, 1, 1), 140),
        ((5, 3, 7, 64), (3, 1, 1), 64),  # long enough
        ((2, 3, 5), (5,), 5),
    ],
)
def test_short_rows_go_on_over_more_axes_where_all_operands_do(shape, bias, row):
    rng = np.random.default_rng(0)
    x, y = (ta.Tensor(rng.standard_normal(n).astype("f")) for n in (shape, bias))
    step = ta.jit(lambda x, y: ta.tanh(x + y) * y)
    np.testing.assert_allclose(step(x, y).numpy(), np.tanh(x.numpy() + y.numpy()) * y.numpy(), 1e-5)
    ((plan,),) = step.plans.values()
    assert [k.columns for k in plan.execution.fused.kernels] == [row]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-1, 0, 1, 2, 2.0, 3, 0.5, 4])
def test_small_powers_are_products(exponent, dtype):
    big = float(np.finfo(dtype).max)
    values = [0.0, -0.0, 1.5, -2.5, 1e-30, -1e30, np.inf, -np.inf, np.nan, big, -big]
    x = ta.Tensor(np.array(values, dtype))

    def f(x):
        return ta.value_and_grad(lambda x: (x**exponent).sum())(x)[1], x**exponent

    step = jit(f)
    with np.errstate(all="ignore"):
        for found, wanted in zip(step(x), f(x), strict=True):
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), 4e-7)
            assert found.dtype == wanted.dtype


def test_what_is_made_of_constants_is_known_beforehand():
    x = ta.Tensor(np.linspace(-1, 1, 12, dtype="f"))
    step = jit(ta.grad(lambda x: (x * x).mean()))
    np.testing.assert_allclose(step(x).numpy(), x.numpy() / 6, 1e-6)
    assert "divide" not in step.program()


@pytest.mark.parametrize("axis", [None, -1])
@pytest.mark.parametrize(
    "shape",
    [
        (300, 200),
        (1, 1 << 20),
        (3, 40, 1001),
        (70_000, 3),
        (99_991,),
        (40_960,),
        (12, 4000),
        (50_000, 1),
    ],
)
def test_a_long_sum_is_one_of_sums(shape, axis):
    """Of rows that all threads share and in which errors stay small; a prime number has none."""
    x = np.random.default_rng(0).random(shape, "f")

    def f(x):
        parts = x.sum(axis), x.mean(axis, keepdims=True), x.max(axis), (x < 2).all(axis)
        return *parts, ta.grad(lambda x: (ta.exp(x).mean(axis) ** 2).sum())(x)

    wide = x.astype("d")
    means = np.exp(wide).mean(axis, keepdims=True)
    count = x.size if axis is None else x.shape[axis]
    wanted = wide.sum(axis), wide.mean(axis, keepdims=True), x.max(axis), (x < 2).all(axis)
    wanted = *wanted, 2 * means * np.exp(wide) / count
    step = jit(f)
    for found, expected in zip(step(ta.Tensor(x)), wanted, strict=True):
        assert found.shape == np.shape(expected)
        np.testing.assert_allclose(found.numpy(), expected, 2e-5 if shape == (99_991,) else 2e-6)


@pytest.mark.parametrize("axis", [None, (0, 2)])
def test_a_mean_of_large_integers_does_not_wrap_around(axis):
    x = np.full((300, 20, 1000), 10**14)
    np.testing.assert_allclose(jit(lambda x: x.mean(axis))(ta.Tensor(x)).numpy(), x.mean(axis))


def test_a_whole_mean_is_made_with_its_operand():
    x = ta.Tensor(np.random.default_rng(0).standard_normal((300, 200)).astype("f"))
    step = jit(lambda x: ta.exp(x).mean())
    np.testing.assert_allclose(step(x).item(), np.exp(x.numpy().astype("d")).mean(), 1e-6)
    report = step.report()
    assert "exp+mean" in report and "too few for threads" not in report


INTEGERS = ["bool", "uint8", "int8", "int16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_products_of_integers_wrap_around_in_their_own_dtype(dtype):
    rng = np.random.default_rng(0)
    for m, n in [
        ((3, 4), (4, 1)),
        ((1, 4), (4, 1)),
        ((3, 1), (1, 4)),
        ((3, 4), (4, 5)),
        ((4,), (4,)),
    ]:
        a, b = (ta.Tensor(rng.integers(60, 120, shape).astype(dtype)) for shape in (m, n))
        found = jit(lambda a, b: a @ b)(a, b)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found.numpy(), (a @ b).numpy())
        np.testing.assert_array_equal(found.numpy(), a.numpy() @ b.numpy())


@pytest.mark.parametrize("f", [ta.erf, special.erfc])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float16"])
def test_error_functions_of_integers_are_real(dtype, f):
    x = ta.Tensor(np.array([0, 1, 2, 1, 3]).astype(dtype))
    found, wanted = jit(f)(x), f(x)
    assert found.dtype == wanted.dtype and found.dtype.kind == "f"
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), 4 * np.finfo(found.dtype).eps)
