"""Numbers at the edges of a dtype: halves, infinities, exact zeros, and sums that round."""

import copy
import math
import pickle

import numpy as np
import pytest
from gradcheck import check, signed
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ai as ta
from tinygrad_ai.backend import NUMPY
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.testing import sample_call

F = ta.nn.functional
HALF = np.float16


def leaf(data, dtype=None):
    return ta.Tensor(np.asarray(data, dtype), requires_grad=True)


def pulled(f, x, v=None):
    """Output and gradient of ``f`` at ``x`` for the cotangent ``v`` (ones)."""
    x = leaf(x)
    y = f(x)
    y.backward(np.ones(y.shape, y.dtype) if v is None else np.asarray(v, y.dtype))
    return y.numpy(), x.grad.numpy()


# ------------------------------------------------------------------------------- error functions


@pytest.mark.parametrize(("dtype", "ulps"), [(np.float32, 6), (np.float64, 6)])
@pytest.mark.parametrize(("name", "exact"), [("erf", math.erf), ("erfc", math.erfc)])
def test_error_functions_hold_a_few_ulps_everywhere(name, exact, dtype, ulps):
    rng = np.random.default_rng(0)
    parts = [np.linspace(-7, 30, 20001), 10.0 ** rng.uniform(-30, 0, 999), [0.5, -0.5, 0.0]]
    x = np.concatenate(parts).astype(dtype)
    got = getattr(NUMPY.xp, name)(x)
    wanted = np.array([exact(float(v)) for v in x])
    spacing = np.spacing(np.maximum(abs(wanted), np.finfo(dtype).tiny).astype(dtype))
    assert got.dtype == dtype
    assert (abs(got - wanted) <= ulps * spacing.astype(float)).all()


def test_error_functions_at_special_values():
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0])
    np.testing.assert_array_equal(NUMPY.xp.erf(x), [1, -1, np.nan, 0, 0])
    assert np.signbit(NUMPY.xp.erf(x)).tolist()[3:] == [False, True]
    np.testing.assert_array_equal(NUMPY.xp.erfc(x), [0, 2, np.nan, 1, 1])
    assert NUMPY.xp.erf(np.float64(0.3)).shape == ()
    assert NUMPY.xp.erf(np.zeros((0, 3), HALF)).shape == (0, 3)
    assert NUMPY.xp.erf(np.ones(2, int)).dtype == np.float64


# ------------------------------------------------------------------------------------ activations


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("f", [F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh")])
def test_smooth_activations_have_their_limits_far_out(f, dtype):
    far = min(1e20, float(np.finfo(dtype).max))
    y, g = pulled(f, np.array([-np.inf, -far, far, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(y, np.array([0, 0, far, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(g, [0, 0, 1, 1, np.nan])


def test_gelu_tanh_keeps_its_digits_where_it_is_small():
    y, _ = pulled(lambda x: F.gelu(x, approximate="tanh"), [-7.0])
    u = math.sqrt(2 / math.pi) * (7 + 0.044715 * 343)
    np.testing.assert_allclose(y, -7 * math.exp(-2 * u) / (1 + math.exp(-2 * u)), rtol=1e-13)


def test_sigmoid_keeps_its_digits_down_to_denormals():
    x = np.array([-40.0, -95.0], np.float32)
    np.testing.assert_allclose(ta.sigmoid(x), np.exp(x.astype(float)), rtol=1e-4)
    np.testing.assert_allclose(ta.sigmoid(HALF(-14)), math.exp(-14), rtol=0.05)


def test_relu_hands_a_gradient_on_at_nan():
    np.testing.assert_array_equal(pulled(ta.relu, [-1.0, 0.0, 2.0, np.nan])[1], [0, 0, 1, 1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_binary_cross_entropy_has_exact_slopes_at_the_ends(dtype):
    p = leaf([0.0, 1.0, 0.25, 1e-4], dtype)
    F.binary_cross_entropy(p, np.array([0, 1, 1, 0.5], dtype), reduction="sum").backward()
    wanted = [1, -1, -4, 0.5 / (1 - 1e-4) - 0.5 / float(dtype(1e-4))]
    np.testing.assert_allclose(p.grad.numpy(), wanted, rtol=2e-3)


# --------------------------------------------------------------------------------- second order


@pytest.mark.parametrize(
    ("f", "at"),
    [(lambda v: v[0] ** v[1], [2.0, 0.0]), (lambda v: ta.xlogy(v[0], v[1]), [0.0, 2.0])],
)
def test_mixed_second_derivatives_where_one_factor_is_zero(f, at):
    found = ta.hessian(f)(ta.Tensor(np.array(at))).numpy()
    assert found[0, 1] == found[1, 0] == 0.5


# ------------------------------------------------------------------------------------ zero · ∞

SPECIAL = [0.0, 1.0, -1.0, 0.5, 1e300, np.inf, -np.inf, np.nan]
SMOOTH = sorted(
    name for name, r in PRIMITIVES.items() if r.kind == "elementwise" and r.differentiable
)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_zero_cotangent_gives_zeros_whatever_the_inputs(name):
    record = PRIMITIVES[name]
    inputs, params = sample_call(record, np.random.default_rng(0))
    grid = np.meshgrid(*[SPECIAL] * len(inputs))
    moving = [k for k, x in enumerate(inputs) if x.dtype.kind == "f" and record.rule(k)]
    tensors = [leaf(g) if k in moving else g > 0 for k, g in enumerate(grid)]
    out = record(*tensors, **params)
    out.backward(np.zeros(out.shape))
    for k in moving:
        assert not tensors[k].grad.numpy().any()


FOLDED = {
    "var": lambda x: ta.var(x, 1),
    "std": lambda x: ta.std(x, 1),
    "prod": lambda x: ta.prod(x, 1),
    "logsumexp": lambda x: ta.logsumexp(x, 1),
    "norm": lambda x: ta.norm(x, axis=1),
    "cumprod": lambda x: ta.cumprod(x, 1),
    "softmax": F.softmax,
    "log_softmax": F.log_softmax,
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1]),
    "cross_entropy": lambda x: F.cross_entropy(x, np.array([2, 0]), reduction="none"),
}


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", FOLDED)
def test_a_masked_row_gets_no_gradient_of_first_or_second_order(name, bad):
    f = FOLDED[name]
    rng = np.random.default_rng(1)
    row, weights = rng.standard_normal(4), signed(rng, (4,))

    def orders(rows):
        x = leaf(rows)
        y = f(x)
        kept = np.arange(len(rows)).reshape(-1, *(1,) * (y.ndim - 1)) == 0
        ta.where(kept, y, 0).sum().backward(create_graph=True)
        first, x.grad = x.grad, None
        (first * weights).sum().backward()
        return first.numpy(), x.grad.numpy()

    good = orders(np.stack([row, row]))
    for found, wanted in zip(orders(np.stack([row, [bad, 0, 1, 2]])), good, strict=True):
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12)
        assert not found[1].any()


def test_a_row_with_an_ignored_label_gets_no_gradient():
    x = leaf([[1.0, 2.0], [np.inf, 0.0]])
    F.cross_entropy(x, np.array([1, -100])).backward()
    assert not x.grad.numpy()[1].any() and x.grad.numpy()[0].any()


# -------------------------------------------------------------------------- sums that round


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [3, 10, 1001, 10007])
def test_std_of_equal_elements_has_gradient_zero(n, dtype):
    y, g = pulled(lambda x: ta.std(x, 1), np.full((2, n), 0.1, dtype))
    assert not y.any() and not g.any()


def test_var_keeps_small_deviations_beside_a_first_element_that_is_large():
    x = np.arange(100001) % 7 + 0.0
    x[0] = 1e8
    _, g = pulled(ta.var, x.astype(np.float32))
    np.testing.assert_allclose(g, 2 * (x - x.mean()) / x.size, rtol=1e-4)


@given(st.integers(0, 2**31))
def test_var_and_std_of_second_order(seed):
    x = np.random.default_rng(seed).standard_normal((3, 5))
    check(lambda x: ta.var(x, 1, ddof=1), x, order=2, rtol=1e-5)
    check(lambda x: ta.std(x, 0), x, order=2, rtol=1e-5)


# --------------------------------------------------------------------------------------- halves


def test_halves_run_up_in_float32():
    assert ta.cumsum(np.ones(4096, HALF))[-1] == 4096
    factors = np.tile(np.array([1.001, 1 / 1.001], HALF), 2048)
    wanted = np.cumprod(factors.astype(float))
    np.testing.assert_allclose(ta.cumprod(factors), wanted, rtol=2e-3)


@pytest.mark.parametrize(
    "f",
    [
        ta.mean,
        lambda x: ta.var(x),
        lambda x: F.mse_loss(x, x.detach() * 0),
        lambda x: F.cross_entropy(x.reshape(-1, 2), np.zeros(70000, int)),
        lambda x: F.cross_entropy(x.reshape(-1, 2), np.arange(70000) % 2 - 1, ignore_index=-1),
    ],
)
def test_a_mean_of_more_halves_than_halves_can_count(f):
    x = np.random.default_rng(0).standard_normal(140000).astype(HALF)
    y, g = pulled(f, x)
    exact, slope = pulled(f, x.astype(float))
    np.testing.assert_allclose(y, exact, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(g, slope, rtol=0.03, atol=1e-7)  # they are denormal
    assert g.any()


@pytest.mark.parametrize(
    "f",
    [
        ta.std,
        lambda x: F.layer_norm(x, 2),
        lambda x: F.rms_norm(x, 2),
        lambda x: F.batch_norm(x.reshape(2, 1), None, None, training=True),
    ],
)
def test_squares_of_halves_do_not_overflow(f):
    x = np.array([1000, -900], HALF)
    v = np.arange(1.0, 1 + np.size(f(x))).reshape(np.shape(f(x)))
    y, g = pulled(f, x, v)
    exact, slope = pulled(f, x.astype(float), v)
    np.testing.assert_allclose(y, exact, rtol=2e-3)
    np.testing.assert_allclose(g, slope, rtol=2e-2, atol=1e-6)


def test_batch_norm_tracks_the_variance_of_halves():
    running = ta.zeros(1), ta.ones(1)
    x = ta.Tensor(np.array([[1000], [-900]], HALF))
    F.batch_norm(x, *running, training=True, momentum=1.0)
    np.testing.assert_allclose(running[1].numpy(), [1.805e6], rtol=1e-3)


# -------------------------------------------------------------------------- products and norms


def test_products_leave_the_range_on_the_way_only():
    rows = [[1e200, 1e200, 1e-300], [1e-200, 1e-200, np.inf], [1e300, -1e300, 0], [2, 3, 4]]
    rows += [[0, np.inf, 1], [1e300, 1e300, -1], [1e-300, 1e-300, 1e300]]
    wanted = [1e100, np.inf, 0, 24, np.nan, -np.inf, 1e-300]
    np.testing.assert_allclose(ta.prod(np.array(rows), 1), wanted, rtol=1e-14)
    columns = np.array(rows).T[:, None]
    np.testing.assert_allclose(ta.prod(columns, 0, keepdims=True)[0, 0], wanted, rtol=1e-14)


@pytest.mark.parametrize(("dtype", "wanted"), [(np.int8, np.int64), (bool, np.int64)])
def test_a_product_over_no_axis_has_the_dtype_of_products(dtype, wanted):
    assert ta.prod(np.ones((2, 3), dtype), axis=()).dtype == wanted
    assert ta.prod(np.ones((), dtype)).dtype == wanted
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pulled(lambda x: ta.prod(x, axis=()), x, x)[1], x)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_norm_at_any_scale(scale, axis):
    x = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(np.float32)
    wanted = scale * np.sqrt((x.astype(float) ** 2).sum(axis=axis))
    got = ta.norm(x * np.float32(scale), axis=axis)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert np.ndim(got) == np.ndim(wanted)


@pytest.mark.parametrize("norm", [ta.norm, ta.linalg.norm])
@pytest.mark.parametrize("ord", [2, 1, -1, np.inf, "fro", "nuc", 3])
def test_an_order_of_a_matrix_is_not_taken_for_one_of_its_elements(norm, ord):
    with pytest.raises(NotImplementedError, match="matrix_norm"):
        norm(ta.ones((2, 3)), ord)
    with pytest.raises(NotImplementedError, match="matrix_norm"):
        norm(ta.ones((2, 2, 3)), ord, axis=(0, 1))
    np.testing.assert_allclose(ta.norm(ta.ones((2, 3))).item(), math.sqrt(6), rtol=1e-6)


# ------------------------------------------------------------------------- order and movement


@given(st.integers(0, 2**31), st.booleans())
def test_sort_carries_gradients_as_argsort_says(seed, descending):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 4, (3, 6)).astype(float)  # with ties
    v = signed(rng, x.shape)
    y, g = pulled(lambda x: ta.sort(x, 1, descending=descending), x, v)
    order = np.asarray(ta.argsort(x, 1, descending=descending))
    np.testing.assert_array_equal(y, np.take_along_axis(x, order, 1))
    np.testing.assert_array_equal(np.take_along_axis(g, order, 1), v)


@given(st.integers(0, 2**31), st.integers(0, 7), st.booleans())
def test_topk_is_the_head_of_the_sorted(seed, k, largest):
    x = np.random.default_rng(seed).integers(0, 9, (7, 3)) / 8
    x[2, 1] = np.nan
    values, at = ta.topk(x, k, axis=0, largest=largest)
    wanted = ta.sort(x, 0, descending=largest)[:k]
    np.testing.assert_array_equal(values, wanted)
    np.testing.assert_array_equal(np.take_along_axis(x, at, 0), values)
    assert all(len(set(column)) == k for column in at.T)


def test_median_of_an_empty_batch():
    assert ta.median(np.zeros((0, 3)), axis=-1).shape == (0,)
    assert ta.median(np.zeros((2, 0, 3)), axis=2, keepdims=True).shape == (2, 0, 1)
    with pytest.raises(ShapeError, match="no elements"):
        ta.median(np.zeros((3, 0)), axis=-1)


@pytest.mark.parametrize("times", [0, 1, 3, np.array([2])])
@pytest.mark.parametrize("axis", [0, 1, None])
def test_repeat_by_one_number(times, axis):
    x = np.random.default_rng(0).standard_normal((2, 3))
    np.testing.assert_array_equal(ta.repeat(x, times, axis), np.repeat(x, times, axis))
    check(lambda x: ta.repeat(x, times, axis), x, order=2)


def test_a_long_axis_is_unstacked_with_gradients_in_place():
    x = leaf(np.random.default_rng(0).standard_normal((2, 101)))
    pieces = x.unstack(1)
    v = signed(np.random.default_rng(1), (101, 2))
    ta.stack([p * w for p, w in zip(pieces, v, strict=True)]).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), v.T)
    np.testing.assert_array_equal(pieces[77].numpy(), x.numpy()[:, 77])
    # zeros are put round parts of the axis, not round all of it for every piece
    assert pieces[0].node.edges[0].shape[1] <= 16


@given(st.integers(0, 2**31))
def test_scatter_adds_rows_as_numpy_does(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 12, 3))
    lead = int(rng.integers(0, 3))
    arrays = [rng.integers(-n, n, (5, 8)) for n in shape[lead : lead + int(rng.integers(1, 3))]]
    index = (slice(None),) * lead + tuple(arrays)
    values = rng.standard_normal(np.zeros(shape)[index].shape)
    wanted = np.zeros(shape)
    np.add.at(wanted, index, values)
    got = np.zeros(shape)
    NUMPY.xp.scatter_add(got, index, values)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_scatter_refuses_places_that_are_not_there():
    with pytest.raises(IndexError):
        NUMPY.xp.scatter_add(np.zeros((3, 9)), (np.array([0, 3]),), np.ones((2, 9)))


@given(st.integers(0, 2**31))
def test_gradients_of_rows_taken_often(seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 4, (3, 7))
    check(lambda x: x[rows], rng.standard_normal((4, 9)), order=2)


def test_pad_with_a_constant():
    x = np.array([[-0.0, np.nan], [np.inf, 2.0]])
    got = ta.pad(x, ((1, 0), (0, 2)), constant_values=np.inf)
    np.testing.assert_array_equal(got, np.pad(x, ((1, 0), (0, 2)), constant_values=np.inf))
    check(lambda x: ta.pad(x, 1, constant_values=3.0), np.ones((2, 3)), order=2)


# ----------------------------------------------------------------------------- small refusals


def test_two_names_of_one_argument():
    with pytest.raises(ValueRangeError, match="two names"):
        F.softmax(ta.ones((2, 3)), 0, dim=1)
    with pytest.raises(ValueRangeError, match="two names"):
        F.log_softmax(ta.ones((2, 3)), axis=1, dim=1)


def test_copies_of_parameters_keep_their_names():
    layer = ta.nn.Linear(2, 3)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin.weight.name == "weight"
        np.testing.assert_array_equal(twin.weight.numpy(), layer.weight.numpy())
