"""Convolution and pooling kernels against the records' own rules in float64."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from launching import GUARD, check, guarded, launched

import tinygrad_ai as ta
from tinygrad_ai import config, nn, optim
from tinygrad_ai.jit.step import jit
from tinygrad_ai.kernels.cpu import conv, conv_weight
from tinygrad_ai.kernels.cpu.arrays import run
from tinygrad_ai.kernels.cpu.pool import Pool, emit_pool, emit_pool_grad
from tinygrad_ai.ops.conv import conv_, conv_input_grad, conv_weight_grad
from tinygrad_ai.ops.pool import max_pool, max_pool_grad, sum_pool, sum_pool_grad

F = nn.functional


@st.composite
def convolutions(draw):
    """A random small convolution with everything: sizes, geometry, groups."""
    number = st.integers
    kernel = draw(st.tuples(number(1, 3), number(1, 3)))
    stride = draw(st.tuples(number(1, 3), number(1, 3)))
    dilation = draw(st.tuples(number(1, 2), number(1, 2)))
    padding = draw(st.tuples(*[st.tuples(number(0, 3), number(0, 2))] * 2))
    size = tuple(
        max(draw(number(1, 19)), d * (k - 1) + 1 - lo - hi)
        for k, d, (lo, hi) in zip(kernel, dilation, padding, strict=True)
    )
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, outputs = draw(number(1, 4)), draw(number(1, 18) | st.just(1))
    shapes = (draw(number(1, 3)), groups * inputs, *size), (groups * outputs, inputs, *kernel)
    return shapes, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


@given(
    convolutions(),
    st.sampled_from([4, 8, 16]),
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["forward", "input", "weights"]),
)
def test_convolutions_are_those_of_their_records(case, lanes, dtype, which):
    (x_shape, w_shape), params = case
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(x_shape), rng.standard_normal(w_shape)
    y, g = conv_(x, w, **params), conv.Geometry(**params)
    dy = rng.standard_normal(y.shape)
    if which == "forward":
        correlated(conv.forward(x_shape, w_shape, g, dtype), x, w, y, lanes)
    elif which == "input":
        wanted = conv_input_grad(dy, w, shape=x_shape[2:], **params)
        correlated(conv.input_grad(x_shape, w_shape, g, dtype), dy, w, wanted, lanes)
    else:
        wanted = conv_weight_grad(x, dy, kernel=w_shape[2:], **params)
        plan = conv_weight.weight_grad(x_shape, dy.shape, w_shape[2:], g, dtype)
        weights_found(plan, x, dy, wanted, lanes)


@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_large_kernels_of_few_outputs_a_group(outputs):
    """More taps than there are registers: the weights' sums take several passes."""
    rng = np.random.default_rng(outputs)
    x, dy = rng.standard_normal((3, 4, 11, 21)), rng.standard_normal((3, 2 * outputs, 5, 19))
    params = {"stride": (2, 1), "padding": ((2, 2), (2, 2)), "dilation": (1, 1), "groups": 2}
    plan = conv_weight.weight_grad(x.shape, dy.shape, (7, 7), conv.Geometry(**params), "float64")
    weights_found(plan, x, dy, conv_weight_grad(x, dy, kernel=(7, 7), **params), 16)


def correlated(c, source, weight, wanted, lanes):
    memory, out = guarded(wanted.shape, c.dtype)
    packed_memory, packed = guarded((conv.packed_size(c),), c.dtype)
    launched(conv.emit_weights(c, lanes), [packed, weight.astype(c.dtype)], 1)
    assert (packed_memory[:GUARD] == 7).all() and (packed_memory[-GUARD:] == 7).all()
    text, scratch = conv.emit_correlation(c, lanes), conv.correlation_scratch(c, lanes)
    found = []
    for splits in ((), (1,), tuple(range(1, c.images))):
        out[:] = 7.0
        launched(text, [out, source.astype(c.dtype), packed], c.images, scratch, splits)
        found.append(check(memory, wanted.shape, wanted, c.dtype).tobytes())
    assert len(set(found)) == 1, "a split of the images changes the bits"


def weights_found(w, x, dy, wanted, lanes):
    sums_memory, sums = guarded((w.slices * conv_weight.partial_size(w, lanes),), w.dtype)
    memory, out = guarded(wanted.shape, w.dtype)
    given_ = [sums, x.astype(w.dtype), dy.astype(w.dtype)]
    found = []
    for splits in ((), (1,)):
        text, scratch = conv_weight.emit_partials(w, lanes), conv_weight.partial_scratch(w, lanes)
        launched(text, given_, w.slices, scratch, splits)
        launched(conv_weight.emit_sum(w, lanes), [out, sums], conv_weight.sum_units(w), 0, splits)
        found.append(check(memory, wanted.shape, wanted, w.dtype).tobytes())
    assert (sums_memory[:GUARD] == 7).all() and (sums_memory[-GUARD:] == 7).all()
    assert found[0] == found[1], "a split of the slices changes the bits"


@given(
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 2)] * 2),
    st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 3))] * 2),
    st.sampled_from([2, 4, 8, 16]),
    st.booleans(),
)
def test_pooling_is_that_of_its_records(kernel, stride, dilation, padding, lanes, largest):
    rng = np.random.default_rng(sum(kernel) + lanes)
    size = tuple(
        int(rng.integers(d * (k - 1) + 1, 24)) for k, d in zip(kernel, dilation, strict=True)
    )
    params = {"kernel": kernel, "stride": stride, "dilation": dilation, "padding": padding}
    forward, back = (max_pool, max_pool_grad) if largest else (sum_pool, sum_pool_grad)
    x = rng.integers(-3, 3, (3, *size)).astype(float)  # many ties
    if largest:
        x[rng.random(x.shape) < 0.05] = np.nan
    y = forward(x, **params)
    dy = rng.standard_normal(y.shape)
    dx = back(dy, x, **params) if largest else back(dy, shape=size, **params)
    before = tuple(lo for lo, _ in padding)
    p = Pool(3, size, y.shape[1:], kernel, stride, dilation, before, largest, "float64")
    for text, given_, wanted, scratch in (
        (emit_pool(p, lanes), [x], y, p.scratch),
        (emit_pool_grad(p, lanes), [dy, x] if largest else [dy], dx, p.back),
    ):
        memory, out = guarded(wanted.shape, "float64")
        found = []
        for splits in ((), (1, 2)):
            launched(text, [out, *given_], 3, scratch, splits)
            found.append(check(memory, wanted.shape, wanted, "float64").tobytes())
        assert found[0] == found[1]


def test_pooling_steps_of_a_power_of_two_take_the_fast_paths():
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 65))
    for k in (2, 4):
        params = {"kernel": (k, k), "stride": (k, k), "padding": ((0, 0),) * 2, "dilation": (1, 1)}
        y = max_pool(x, **params)
        dy = np.random.default_rng(1).standard_normal(y.shape)
        np.testing.assert_array_equal(run("max_pool", [x], params, 0), y)
        wanted = max_pool_grad(dy, x, **params)
        np.testing.assert_allclose(run("max_pool_grad", [dy, x], params, 0), wanted, rtol=1e-15)


def test_what_kernels_do_not_hold_is_left_to_numpy():
    x, w = np.zeros((1, 2, 5, 5)), np.zeros((3, 2, 3, 3))
    params = {"stride": (1, 1), "padding": ((0, 0),) * 2, "dilation": (1, 1), "groups": 1}
    assert run("conv", [x, w], params, 0).shape == (1, 3, 3, 3)
    assert run("conv", [x, w], params) is None, "too small to be worth a kernel"
    assert run("conv", [x.astype(np.float16), w.astype(np.float16)], params, 0) is None
    assert run("conv", [x, w.astype(np.float32)], params, 0) is None
    assert run("conv", [x[None], w], params, 0) is None
    assert run("conv", [x[:, :1], w], params, 0) is None
    assert run("conv", [x[..., :2, :2], w], params, 0) is None
    assert run("conv", [x[:0], w], params, 0) is None


@pytest.fixture
def net():
    ta.random.manual_seed(0)
    layers = (
        nn.Conv2d(2, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.Conv2d(5, 6, (1, 3), dilation=(1, 2), bias=False),
        nn.AvgPool2d(2, 1),
        nn.Flatten(),
        nn.Linear(6 * 3 * 2, 4),
    )
    return nn.Sequential(*layers)


def test_a_compiled_step_is_all_native_and_does_what_eager_does(net):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4, 2, 15, 26)).astype(np.float32), rng.integers(0, 4, 4)
    start = [p.numpy().copy() for p in net.parameters()]
    found = []
    for compiled in (False, True):
        for p, value in zip(net.parameters(), start, strict=True):
            p.array[...] = value
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x, y, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run_ = jit(step) if compiled else step
        losses = [run_(ta.Tensor(x), ta.Tensor(y)).item() for _ in range(3)]
        found.append((losses, [p.numpy().copy() for p in net.parameters()]))
    assert "numpy" not in run_.report()
    assert "conv_weight_grad" in run_.report() and "max_pool_grad" in run_.report()
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)
    for mine, eager in zip(found[1][1], found[0][1], strict=True):
        np.testing.assert_allclose(mine, eager, rtol=1e-4, atol=1e-6)


def test_eager_calls_use_kernels_where_they_are_worth_it(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 16, 20, 20)).astype(np.float32)
    w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32)
    dy = rng.standard_normal((8, 16, 20, 20)).astype(np.float32)

    def gradients():
        a, b = ta.Tensor(x, requires_grad=True), ta.Tensor(w, requires_grad=True)
        y = F.conv2d(a, b, padding=1)
        (y * ta.Tensor(dy)).sum().backward()
        return y.numpy(), a.grad.numpy(), b.grad.numpy()

    monkeypatch.setattr(config, "kernels", False)
    wanted = gradients()
    monkeypatch.setattr(config, "kernels", True)
    found, again = gradients(), gradients()
    for a, b, c in zip(found, wanted, again, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(a, c)
    assert any((a != b).any() for a, b in zip(found, wanted, strict=True)), "no kernel was used"
