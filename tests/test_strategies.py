"""The strategies: what they draw is valid, reaches the hard cases, and shrinks."""

import math

import numpy as np
import pytest
from hypothesis import assume, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.ops.conv import conv1d, conv2d
from tinygrad_ai.ops.einsum import einsum
from tinygrad_ai.ops.elementwise import add
from tinygrad_ai.ops.reduce import sum as total
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing import strategies as ts

QUIET = settings(database=None, max_examples=2000)


@given(shape=ts.shapes(max_dims=4, max_size=50))
def test_shapes_are_within_their_limits(shape):
    assert len(shape) <= 4 and math.prod(shape) <= 50


@pytest.mark.parametrize(
    "wanted", [lambda s: s == (), lambda s: 0 in s, lambda s: s[:1] == (7,), lambda s: len(s) == 3]
)
def test_shapes_reach_the_hard_cases(wanted):
    find(ts.shapes(), wanted, settings=QUIET)


def test_shapes_shrink():
    assert find(ts.shapes(), lambda s: math.prod(s) > 4, settings=QUIET) in [(5,), (3, 2), (2, 3)]


@given(group=ts.broadcastable(3))
def test_groups_broadcast(group):
    np.broadcast_shapes(*group)


def test_groups_reach_stretched_and_missing_axes():
    find(
        ts.broadcastable(2),
        lambda g: len(g[0]) > len(g[1]) and any(n == 1 for n in g[1]) and max(g[0]) > 1,
        settings=QUIET,
    )


@given(data=st.data(), domain=st.sampled_from([(0.0, 1.0), (-1.0, math.inf), (-math.inf, -3.0)]))
def test_values_stay_in_their_domain(data, domain):
    x = data.draw(ts.values((5,), domain, specials=["zero", "tiny", "huge", "nan"]))
    inside = (domain[0] < x) & (x < domain[1])
    assert (inside | np.isnan(x)).all()


@pytest.mark.parametrize("kind", ts.special_values())
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_special_values_are_mixed_in_only_on_request(kind, dtype):
    kinds = ts.special_values(dtype)
    mark = np.array(kinds[kind][-1], dtype)
    x = find(
        ts.values((3,), specials=[kind], dtype=dtype),
        lambda x: any(v.tobytes() == mark.tobytes() for v in x),
        settings=QUIET,
    )
    assert x.dtype == dtype
    plain = ts.values((3,), dtype=dtype).filter(lambda x: not np.isfinite(x).all() or not x.all())
    with pytest.raises((NoSuchExample, Unsatisfiable)):
        find(plain, lambda x: True, settings=settings(database=None, max_examples=20))


@given(data=st.data(), x=ts.arrays(shape=(2, 3)))
def test_layouts_keep_the_values(data, x):
    np.testing.assert_array_equal(data.draw(ts.layouts(x)), x)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda x: any(s < 0 for s in x.strides),
        lambda x: x.flags.f_contiguous and not x.flags.c_contiguous,
        lambda x: x.strides[-1] > x.itemsize and x.shape[-1] > 1 and not x.flags.f_contiguous,
        lambda x: not x.flags.writeable,
        lambda x: 0 in x.strides,
    ],
    ids=["reversed", "transposed", "stepped", "read-only", "broadcast"],
)
def test_layouts_reach_every_kind(wanted):
    find(ts.arrays(shape=(2, 3)), wanted, settings=QUIET)


@given(data=st.data(), shape=ts.shapes())
def test_axes_are_valid(data, shape):
    x = np.ones(shape)
    axis = data.draw(ts.axes(len(shape)))
    np.testing.assert_array_equal(total(x, axis=axis), np.sum(x, axis=axis))
    if shape:
        assert -len(shape) <= data.draw(ts.axes(len(shape), single=True)) < len(shape)


@given(data=st.data(), shape=ts.shapes())
def test_indices_are_valid_and_ours_agrees_with_numpy(data, shape):
    """Value, and gradient: the transpose of an index adds what was taken back into its place."""
    x = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    key = data.draw(ts.indices(shape))
    taken = x[key]
    t = Tensor(x, requires_grad=True)
    out = t[key]
    np.testing.assert_array_equal(out.numpy(), taken)
    v = np.random.default_rng(0).standard_normal(taken.shape)
    out.backward(v)
    expected = np.zeros(shape)
    np.add.at(expected, key, v)
    np.testing.assert_allclose(t.grad.numpy(), expected, atol=1e-12)


def parts(key):
    return key if isinstance(key, tuple) else (key,)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda k: any(p is None for p in k),
        lambda k: any(p is Ellipsis for p in k),
        lambda k: any(isinstance(p, slice) and (p.step or 1) < 0 for p in k),
        lambda k: any(isinstance(p, int) and p < 0 for p in k),
        lambda k: any(isinstance(p, np.ndarray) and p.dtype == bool and p.ndim == 2 for p in k),
        lambda k: sum(isinstance(p, np.ndarray) and p.dtype == int for p in k) == 2,
    ],
    ids=["new axis", "ellipsis", "backwards", "negative", "mask over two axes", "two arrays"],
)
def test_indices_reach_every_kind(wanted):
    find(ts.indices((2, 3, 2)), lambda key: wanted(parts(key)), settings=QUIET)


@given(call=ts.einsum_calls(), seed=st.integers(0, 2**31))
def test_einsum_calls_are_valid_and_ours_agrees_with_numpy(call, seed):
    rng = np.random.default_rng(seed)
    operands = [rng.standard_normal(s) for s in call.shapes]
    np.testing.assert_allclose(
        einsum(call.spec, *operands), np.einsum(call.spec, *operands), rtol=1e-9, atol=1e-9
    )


@given(call=ts.conv_calls(max_rank=2), seed=st.integers(0, 2**31))
def test_conv_calls_are_valid_and_ours_agrees_with_the_definition(call, seed):
    assume(math.prod(call.x) * math.prod(call.weight) < 20_000)
    rng = np.random.default_rng(seed)
    x, w = rng.standard_normal(call.x), rng.standard_normal(call.weight)
    conv = {3: conv1d, 4: conv2d}[x.ndim]
    made = conv(
        x, w, stride=call.stride, padding=call.padding, dilation=call.dilation, groups=call.groups
    )
    np.testing.assert_allclose(made, by_definition(x, w, call), rtol=1e-9, atol=1e-9)


def by_definition(x, w, call):
    """The convolution as nested sums over the places of the kernel."""
    wide = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in call.padding)])
    kernel = w.shape[2:]
    places = [
        (n - d * (k - 1) - 1) // s + 1
        for n, d, k, s in zip(wide.shape[2:], call.dilation, kernel, call.stride, strict=True)
    ]
    out = np.zeros((x.shape[0], w.shape[0], *places))
    taken = w.shape[1]
    for o in range(w.shape[0]):
        first = o // (w.shape[0] // call.groups) * taken
        for at in np.ndindex(*kernel):
            window = tuple(
                slice(a * d, a * d + s * (n - 1) + 1, s)
                for a, d, s, n in zip(at, call.dilation, call.stride, places, strict=True)
            )
            seen = wide[(slice(None), slice(first, first + taken), *window)]
            out[:, o] += np.tensordot(seen, w[(o, slice(None), *at)], ([1], [0]))
    return out


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@given(data=st.data())
def test_calls_of_every_operation_are_valid(name, data):
    record = PRIMITIVES[name]
    inputs, params = data.draw(ts.calls(record))
    out = record(*inputs, **params)
    if np.asarray(out).dtype.kind == "f":
        assert np.isfinite(out).all()
    if record.kind == "elementwise":
        for x, (low, high) in zip(inputs, record.domain, strict=True):
            assert x.dtype.kind == "b" or ((low < x) & (x < high)).all()


def test_calls_shrink_to_small_shapes():
    inputs, _ = find(ts.calls(add), lambda call: call.inputs[0].size > 1, settings=QUIET)
    assert inputs[0].shape == (2,) and inputs[1].ndim <= 1


def test_calls_reach_what_records_choose_themselves():
    find(ts.calls(PRIMITIVES["softmax"]), lambda call: call.params["axis"] == 1, settings=QUIET)
    find(ts.calls(PRIMITIVES["sum"]), lambda c: 0 in c.inputs[0].shape, settings=QUIET)
    find(ts.calls(PRIMITIVES["sum"]), lambda c: c.inputs[0].shape == (), settings=QUIET)
