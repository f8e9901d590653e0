"""Convolution and pooling: values against plain loops and torch, gradients against differences."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from gradcheck import check, gradients, signed
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops import conv, pool
from tinygrad_ai.ops.conv import conv1d, conv2d, conv_transpose2d
from tinygrad_ai.ops.pool import avg_pool1d, avg_pool2d, max_pool1d, max_pool2d
from tinygrad_ai.tensor import Tensor

RECORDS = {
    record.name: record
    for module in (conv, pool)
    for record in vars(module).values()
    if isinstance(record, Primitive) and record.sample
}.values()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def distinct(*shape, seed=0):
    """Values far enough apart that no difference quotient meets a tie."""
    n = int(np.prod(shape))
    return np.random.default_rng(seed).permutation(n).reshape(shape) / 4 - n / 8


def close(actual, expected, rtol=1e-12):
    array = actual.array if isinstance(actual, Tensor) else actual
    assert array.shape == np.shape(expected)
    np.testing.assert_allclose(array, expected, rtol=rtol, atol=rtol)


def loops(x, weight, stride, padding, dilation, groups):
    """A convolution as its definition has it, one product at a time."""
    rank = weight.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * rank])
    kernel, per_group = weight.shape[2:], weight.shape[0] // groups
    places = [
        (n - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(x.shape[2:], kernel, strict=True)
    ]
    out = np.zeros((x.shape[0], weight.shape[0], *places))
    for n, o, c in product(range(x.shape[0]), range(weight.shape[0]), range(weight.shape[1])):
        channel = o // per_group * weight.shape[1] + c
        for p, k in product(product(*map(range, places)), product(*map(range, kernel))):
            at = tuple(stride * a + dilation * b for a, b in zip(p, k, strict=True))
            out[(n, o, *p)] += x[(n, channel, *at)] * weight[(o, c, *k)]
    return out


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
def test_records_at_their_samples(record):
    inputs, params = record.sample(np.random.default_rng(1))
    check(lambda *xs: record(*xs, **params), *inputs, order=2)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
def test_leading_axes_broadcast(record):
    """What ``batch="leading"`` promises: a batch of calls is one call on stacked inputs."""
    assert record.batch == "leading"
    first, params = record.sample(np.random.default_rng(1))
    second, _ = record.sample(np.random.default_rng(2))
    both = record(*map(np.stack, zip(first, second, strict=True)), **params)
    close(both, np.stack([record(*first, **params), record(*second, **params)]))
    if len(first) == 2:
        stacked = np.stack([first[0], second[0]])
        part = record(stacked, first[1], **params)
        close(part[1], record(second[0], first[1], **params))
        check(lambda a, b: record(a, b, **params), stacked, first[1])


# ----------------------------------------------------------------------------- convolution

geometry = st.fixed_dictionaries(
    {
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 2),
        "dilation": st.integers(1, 2),
        "groups": st.integers(1, 2),
    }
)


@given(geometry, st.integers(1, 2), st.integers(0, 2), st.integers(1, 3), st.integers(0, 3))
def test_convolution_of_any_geometry(options, rank, n, k, more):
    size = max(options["dilation"] * (k - 1) + 1 + more - 2 * options["padding"], 1)
    x = normal(n, 2 * options["groups"], *[size + j for j in range(rank)])
    weight = normal(2 * options["groups"], 2, *[k] * rank, seed=1)
    f = conv1d if rank == 1 else conv2d
    close(f(Tensor(x), Tensor(weight), **options), loops(x, weight, **options))
    check(lambda x, w: f(x, w, **options), x, weight, order=2)


def test_corner_case():
    x, w = np.array([[[1.0, 2, 3, 4, 5]]]), np.array([[[1.0, 0, -1]]])
    v = np.array([[[1.0, 10, 100]]])
    close(conv1d(x, w, stride=2, padding=1), [[[-2.0, -2.0, 4.0]]])
    dx, dw = gradients(lambda x, w: conv1d(x, w, stride=2, padding=1), [x, w], v)
    close(dx, [[[0.0, 9.0, 0.0, 90.0, 0.0]]])
    close(dw, [[[420.0, 531.0, 42.0]]])


def test_columns_that_no_window_reaches_have_gradient_zero():
    dx, _ = gradients(
        lambda x, w: conv1d(x, w, stride=3), [normal(1, 1, 6), normal(1, 1, 2)], [[[1.0, 1.0]]]
    )
    assert dx.shape == (1, 1, 6) and dx[0, 0, 2] == dx[0, 0, 5] == 0


def test_bias_one_sample_and_layouts():
    x, w, b = normal(2, 3, 6, 5), normal(4, 3, 3, 2, seed=1), normal(4, seed=2)
    y = conv2d(x, w, b)
    close(y, loops(x, w, 1, 0, 1, 1) + b[:, None, None])
    close(conv2d(x[0], w, b), y[0])
    turned = np.ascontiguousarray(x.T).T[:, :, ::-1]
    close(conv2d(turned, w), loops(turned, w, 1, 0, 1, 1))
    check(conv2d, x, w, b, order=2)
    check(conv2d, x[0], w, b)


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (2, 1), (4, 1), (2, 3)])
def test_same_padding(kernel, dilation):
    x, w = normal(1, 1, 7), normal(1, 1, kernel)
    y = conv1d(x, w, padding="same", dilation=dilation)
    assert y.shape == x.shape
    total = dilation * (kernel - 1)
    wide = np.pad(x, [(0, 0), (0, 0), (total // 2, total - total // 2)])
    close(y, loops(wide, w, 1, 0, dilation, 1))
    close(conv1d(x, w, padding="valid"), loops(x, w, 1, 0, 1, 1))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, (4, 4)),
        ({"stride": 2, "padding": 1, "output_padding": 1}, (5, 4)),
        (
            {"stride": (3, 2), "padding": (0, 1), "output_padding": (2, 0), "dilation": (1, 2)},
            (10, 5),
        ),
        ({"groups": 2, "stride": 2}, (6, 5)),
    ],
)
def test_transposed_convolution(options, size):
    x, w, b = normal(2, 4, 3, 2), normal(4, 3, 2, 3, seed=1), normal(3, seed=2)
    b = np.tile(b, options.get("groups", 1))
    y = conv_transpose2d(Tensor(x), Tensor(w), Tensor(b), **options)
    assert y.shape[2:] == size
    z = normal(*y.shape, seed=3)
    same = {k: v for k, v in options.items() if k != "output_padding"}
    back = conv2d(z, w, **same)  # ⟨transpose(x), z⟩ = ⟨x, conv(z)⟩ defines the transpose
    assert back.shape == x.shape
    np.testing.assert_allclose(np.sum((y.array - b[:, None, None]) * z), np.sum(x * back))
    check(lambda *xs: conv_transpose2d(*xs, **options), x, w, b, order=2)


def test_halves_accumulate_in_float32():
    x, w = np.full((1, 1, 4096), 0.01, np.float16), np.full((1, 1, 4096), 0.01, np.float16)
    exact = np.float16(np.sum(x.astype(np.float64) ** 2))
    y = conv1d(Tensor(x), Tensor(w))
    assert y.array.dtype == np.float16 and y.array.item() == exact
    ones = np.ones((1, 1, 4096), np.float16)
    assert gradients(lambda x: avg_pool1d(x, 1), [ones], ones)[0].dtype == np.float16
    assert conv1d(ones, np.ones((1, 1, 4096), np.float16)).item() == 4096


def test_convolution_errors():
    x, W = Tensor(np.ones((8, 3, 28, 28))), Tensor(np.ones((16, 4, 3, 3)))
    with pytest.raises(ShapeError) as info:
        conv2d(x, W)
    assert str(info.value) == (
        "conv2d: channels differ: x (8, 3, 28, 28) has 3, W (16, 4, 3, 3) with groups=1 takes 4"
    )
    with pytest.raises(ShapeError, match=r"groups=2 must divide the 3 channels of x"):
        conv2d(x, W, groups=2)
    with pytest.raises(ShapeError, match=r"spans \(3, 3\), more than the padded size \(2, 2\)"):
        conv2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 3, 3)))
    with pytest.raises(ShapeError, match="needs x with 3 axes"):
        conv1d(x, W)
    with pytest.raises(ShapeError, match=r"bias must have shape \(16,\)"):
        conv2d(x, np.ones((16, 3, 3, 3)), np.ones(3))
    with pytest.raises(ValueRangeError, match="'same' needs stride 1"):
        conv2d(x, W, stride=2, padding="same")
    with pytest.raises(ValueRangeError, match="not 'half'"):
        conv2d(x, W, padding="half")
    with pytest.raises(ValueRangeError, match="stride must be at least 1, got 0"):
        conv2d(x, W, stride=0)
    with pytest.raises(ShapeError, match="dilation must be an int or 2 of them"):
        conv2d(x, W, dilation=(1, 1, 1))
    with pytest.raises(ShapeError, match="channels do not fit"):
        conv_transpose2d(x, W)
    with pytest.raises(NotImplementedError, match="smaller than the stride"):
        conv_transpose2d(np.ones((1, 1, 2, 2)), np.ones((1, 1, 2, 2)), output_padding=1)


# ---------------------------------------------------------------------------------- pooling


def test_overlapping_maxima_accumulate():
    x, v = np.array([[[1.0, 3.0, 2.0]]]), np.array([[[1.0, 10.0]]])
    close(max_pool1d(x, 2, 1), [[[3.0, 3.0]]])
    close(gradients(lambda x: max_pool1d(x, 2, 1), [x], v)[0], [[[0.0, 11.0, 0.0]]])


def test_ties_share_and_nan_wins():
    g = gradients(lambda x: max_pool2d(x, 2), [np.zeros((1, 1, 2, 2))], [[[[8.0]]]])[0]
    close(g, np.full((1, 1, 2, 2), 2.0))
    x = np.array([[[1.0, np.nan, 2.0, 3.0]]])
    np.testing.assert_array_equal(max_pool1d(x, 2), [[[np.nan, 3.0]]])
    close(gradients(lambda x: max_pool1d(x, 2), [x], [[[5.0, 7.0]]])[0], [[[0.0, 5.0, 0.0, 7.0]]])


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 2},
        {"kernel_size": (1, 3), "stride": (2, 1), "padding": (0, 1)},
    ],
)
def test_gradients_of_max_pool(options):
    x = distinct(2, 3, 7, 5)
    check(lambda x: max_pool2d(x, **options), x)
    check(lambda x: max_pool2d(x * x, **options), x + 100, order=2)
    if isinstance(options["kernel_size"], int):
        check(lambda x: max_pool1d(x, **options), x[0])


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 2},
        {"kernel_size": 3, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": 2, "padding": 1, "count_include_pad": False},
        {"kernel_size": (1, 3), "stride": (2, 1), "padding": (0, 1), "count_include_pad": False},
    ],
)
def test_gradients_of_avg_pool(options):
    check(lambda x: avg_pool2d(x, **options), normal(2, 3, 7, 5), order=2)
    if isinstance(options["kernel_size"], int):
        check(lambda x: avg_pool1d(x, **options), normal(3, 7), order=2)


def test_the_border_never_wins():
    x = -1.0 - np.arange(4.0).reshape(1, 1, 4)
    close(max_pool1d(x, 3, 2, padding=1), [[[-1.0, -2.0]]])
    g = gradients(lambda x: max_pool1d(x, 3, 2, padding=1), [x], [[[3.0, 5.0]]])[0]
    close(g, [[[3.0, 5.0, 0.0, 0.0]]])


def test_averages():
    x = np.arange(6.0).reshape(1, 1, 6)
    close(avg_pool1d(x, 2), [[[0.5, 2.5, 4.5]]])
    close(avg_pool1d(x, 3, padding=1), [[[1 / 3, 3.0]]])
    close(avg_pool1d(x, 3, padding=1, count_include_pad=False), [[[0.5, 3.0]]])


def test_the_last_window_of_ceil_mode():
    """Of 1, 5, 2, 8, 3 by pairs it is (3,), whose mean is 3; beyond padding there is none."""
    x = np.array([[[1.0, 5.0, 2.0, 8.0, 3.0]]])
    close(max_pool1d(x, 2, ceil_mode=True), [[[5.0, 8.0, 3.0]]])
    close(avg_pool1d(x, 2, ceil_mode=True), [[[3.0, 5.0, 3.0]]])
    close(avg_pool1d(x, 2, padding=1, ceil_mode=True), [[[0.5, 3.5, 5.5]]])
    check(lambda x: avg_pool1d(x, 3, 3, ceil_mode=True), x)
    image = np.broadcast_to(x[0], (1, 1, 5, 5))
    close(avg_pool2d(image, 5, divisor_override=10), [[[[9.5]]]])


def test_pooling_errors():
    x = Tensor(np.ones((1, 1, 4)))
    with pytest.raises(ValueRangeError, match="divisor_override"):
        avg_pool2d(x, 2, divisor_override=0)
    with pytest.raises(ShapeError, match="more than half"):
        max_pool1d(x, 2, padding=2)
    with pytest.raises(ShapeError, match=r"spans \(5,\), more than the padded size \(4,\) of x"):
        avg_pool1d(x, 5)
    with pytest.raises(ShapeError, match="needs x"):
        max_pool2d(np.ones((4, 4)), 2)


# ------------------------------------------------------------------------------ against torch


@pytest.mark.peers
@given(geometry, st.integers(1, 3), st.integers(1, 4), st.integers(5, 9), st.booleans())
def test_convolutions_like_torch(options, n, k, size, transposed):
    import torch  # noqa: PLC0415  (the extra `ci`)

    functional = torch.nn.functional
    groups = options["groups"]
    arrays = [normal(n, 2 * groups, size, size + 1), normal(2 * groups, 2, k, 1, seed=1)]
    if transposed:
        ours, theirs = conv_transpose2d, functional.conv_transpose2d
        options = {**options, "output_padding": options["stride"] - 1}
    else:
        ours, theirs = conv2d, functional.conv2d
    _like(torch, lambda *a: ours(*a, **options), lambda *a: theirs(*a, **options), arrays)


@pytest.mark.peers
@given(st.integers(1, 3), st.none() | st.integers(1, 3), st.integers(0, 1), st.booleans())
def test_pools_like_torch(kernel, stride, padding, include):
    import torch  # noqa: PLC0415  (the extra `ci`)

    functional = torch.nn.functional
    padding = min(padding, kernel // 2)
    for name, more in (
        ("max_pool1d", {}),
        ("max_pool2d", {}),
        ("avg_pool1d", {"count_include_pad": include}),
        ("avg_pool2d", {"count_include_pad": include}),
    ):
        x = distinct(2, 3, 6, 5)[0 if name.endswith("1d") else slice(None)]
        args = kernel, stride, padding
        ours, theirs = getattr(pool, name), getattr(functional, name)
        _like(
            torch,
            lambda x, f=ours, args=args, more=more: f(x, *args, **more),
            lambda x, f=theirs, args=args, more=more: f(x, *args, **more),
            [x],
        )


def _like(torch, ours, theirs, arrays):
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = theirs(*tensors)
    v = signed(np.random.default_rng(0), tuple(y.shape))
    y.backward(torch.tensor(v))
    close(ours(*map(Tensor, arrays)), y.detach().numpy(), 1e-10)
    for g, t in zip(gradients(ours, arrays, v), tensors, strict=True):
        close(g, t.grad.numpy(), 1e-10)
