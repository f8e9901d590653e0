"""Eager operations on large arrays, done by kernels made of their rules, against NumPy's results.

The kernels may round differently, in the last places; zeros, infinities and NaNs must be the same.
"""

import gc
import os
import subprocess
import sys
import weakref

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai import nn, optim
from tinygrad_ai.autodiff import guarded
from tinygrad_ai.backend import native
from tinygrad_ai.config import without_kernels
from tinygrad_ai.errors import GraphError, ShapeError
from tinygrad_ai.ops import activations, special
from tinygrad_ai.ops.elementwise import maximum, relu, tanh

F = nn.functional
FLAT, ROWS = (97, 89), (257, 515)
LABELS = np.random.default_rng(1).integers(0, ROWS[1], ROWS[0])
SCALE = np.random.default_rng(2).standard_normal(ROWS[1]).astype(np.float32)
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, 88.0, -104.0, 1e4, -1e4, 3e38]

UNARY = {
    "exp": ta.exp,
    "sin": ta.sin,
    "cos": ta.cos,
    "tanh": ta.tanh,
    "sigmoid": ta.sigmoid,
    "relu": F.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 0.7),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "softplus": F.softplus,
    "logsigmoid": special.logsigmoid,
    "erf": ta.erf,
    "erfc": special.erfc,
    "clip": lambda x: ta.clip(x, -0.5, 1.5),
    "maximum": lambda x: ta.maximum(x, 0.25),
    "minimum": lambda x: ta.minimum(0.25, x),
    "where": lambda x: ta.where(x > 0.1, x, 0),
}
BINARY = {
    "maximum": ta.maximum,
    "minimum": ta.minimum,
    "logaddexp": ta.logaddexp,
    "where": lambda a, b: ta.where(a.detach() > b.detach(), a, b),
    "bce": lambda a, b: activations.bce(ta.sigmoid(a), ta.sigmoid(b)),
    "bce_logits": lambda a, b: activations.bce_logits(a, ta.sigmoid(b), 1.5),
}
ALONG = {
    "softmax": F.softmax,
    "softmax of columns": lambda x: F.softmax(x, 0),
    "log_softmax": F.log_softmax,
    "log_softmax of columns": lambda x: F.log_softmax(x, 0),
    "rms_norm": lambda x: F.rms_norm(x, ROWS[1]),
    "layer_norm": lambda x: F.layer_norm(x, ROWS[1]),
    "scaled layer_norm": lambda x: F.layer_norm(x, ROWS[1], SCALE, -SCALE),
    "cross_entropy": lambda x: F.cross_entropy(x, LABELS, reduction="none"),
    "causal": lambda x: ta.where(np.arange(ROWS[1]) < 300, x, -np.inf),
}


def drawn(shape, dtype, seed, scale=2.0, odd=True):
    rng = np.random.default_rng(seed)
    x = (scale * rng.standard_normal(shape)).astype(dtype)
    if odd:
        x.flat[: 5 * len(SPECIAL)] = np.repeat(np.array(SPECIAL).astype(dtype), 5)
    return x


def cotangent(shape, dtype):
    """Signed, with zeros of both signs and infinities among it."""
    g = drawn(shape, dtype, 9, odd=False)
    g.flat[:55:5], g.flat[1:55:5], g.flat[2:55:5] = 0.0, -0.0, np.inf
    return g


def value_and_gradients(f, arrays, g):
    inputs = [ta.Tensor(a, requires_grad=True) for a in arrays]
    y = f(*inputs)
    y.backward(ta.Tensor(g))
    return [y.numpy(), *(x.grad.numpy() for x in inputs)]


def check(f, arrays, tolerance):
    with np.errstate(all="ignore"):
        shape = f(*map(ta.Tensor, arrays)).shape
        g = cotangent(shape, arrays[0].dtype)
        before = len(native._made)
        found = value_and_gradients(f, arrays, g)
        kinds = list(native._made.values())[before:]
        with without_kernels():
            wanted = value_and_gradients(f, arrays, g)
        again = value_and_gradients(f, arrays, g)
    for a, b, c in zip(found, wanted, again, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        scale = np.quantile(np.abs(b[np.isfinite(b)]), 0.9)
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * scale)
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        assert a.tobytes() == c.tobytes()
    return kinds


TOLERANCE = {"float32": 4e-6, "float64": 1e-13}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", UNARY)
def test_elementwise_kernels_do_what_numpy_does(name, dtype):
    check(UNARY[name], [drawn(FLAT, dtype, 0)], TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", BINARY)
def test_kernels_of_two_inputs_do_what_numpy_does(name, dtype):
    a, b = drawn(FLAT, dtype, 0), drawn(FLAT, dtype, 1)[::-1]
    b[3:9] = a[3:9]  # ties
    check(BINARY[name], [a, b], TOLERANCE[dtype])


@pytest.mark.parametrize("name", ALONG)
def test_kernels_along_axes_do_what_numpy_does(name):
    x = drawn(ROWS, "float32", 0, odd=False)
    x[1], x[2, :7], x[3, 4], x[4, 5] = -np.inf, -np.inf, np.nan, np.inf
    kinds = check(ALONG[name], [x], 2e-5)
    assert kinds and None not in kinds


def test_one_kernel_serves_any_number_of_rows():
    for rows in (300, 411):
        x = drawn((rows, ROWS[1]), "float32", rows, odd=False)
        check(F.softmax, [x], 2e-5)


def test_making_a_kernel_keeps_no_graph_alive():
    native._made.clear()
    gc.collect()
    gc.disable()
    try:
        x = ta.Tensor(drawn(FLAT, "float32", 0, odd=False), requires_grad=True)
        y = F.gelu(ta.tanh(x))
        node = weakref.ref(y.node)
        y.backward(y.detach())
        del y
        assert node() is None
    finally:
        gc.enable()


def test_rows_without_any_weight_are_zero_and_so_is_their_gradient():
    x = ta.Tensor(np.full(ROWS, -np.inf, np.float32), requires_grad=True)
    y = F.softmax(x)
    y.backward(ta.Tensor(drawn(ROWS, "float32", 1, odd=False)))
    assert not y.numpy().any() and not x.grad.numpy().any()


def test_there_are_kernels_where_they_are_worth_it():
    x = drawn(FLAT, "float32", 0)
    with np.errstate(all="ignore"):
        assert native.native(relu, [x], {}) is not None
        assert native.native(tanh, [x], {}) is None  # NumPy's is as fast
        assert native.native(relu, [x[:20]], {}) is None
        assert native.native(relu, [x.astype(np.float16)], {}) is None
        assert native.native(relu, [np.ones(FLAT, np.complex64)], {}) is None
        with without_kernels():
            assert native.native(relu, [x], {}) is None
        y = tanh(ta.Tensor(x, requires_grad=True))
        assert native.pulled(y.node, 0, x) is not None
        with without_kernels():
            assert native.pulled(y.node, 0, x) is None


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64", ">f4"])
@pytest.mark.parametrize("name", UNARY)
def test_other_dtypes_are_numpys(name, dtype):
    x = (np.arange(9000) % 5).astype(dtype)
    f = UNARY[name]
    found, few = f(ta.Tensor(x)), f(ta.Tensor(x[:50]))
    assert found.dtype == few.dtype
    np.testing.assert_array_equal(found.numpy()[:50], few.numpy())


def test_integers_alone_are_not_for_kernels_but_beside_real_numbers_they_are():
    whole, real = np.arange(9000), np.ones(9000, np.float32)
    records = special.erf, special.erfc, relu, activations.silu, special.softplus
    assert all(native.native(record, [whole], {}) is None for record in records)
    assert native.native(maximum, [real, whole.astype(np.uint8)], {}) is None
    found = native.native(maximum, [real, whole], {})
    assert found.dtype == np.float64 and (found == np.maximum(real, whole)).all()


def test_one_kernel_serves_all_shapes():
    relu(drawn(FLAT, "float32", 0))
    before = len(native._made)
    for shape in ((9000,), (3, 5, 7, 101), (20_000, 1)):
        x = drawn(shape, "float32", 1)
        np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
    assert len(native._made) == before


def test_arrays_may_be_views_read_only_and_on_loan():
    whole = drawn((2 * FLAT[0], FLAT[1]), "float32", 0)
    whole.flags.writeable = False
    for x in (whole[::2], whole.T, whole[:, ::-1], np.broadcast_to(whole[0], FLAT)):
        before = x.copy()
        np.testing.assert_array_equal(relu(x), np.maximum(x, 0))
        np.testing.assert_array_equal(x, before)
    odd = np.zeros(4 * 9000 + 1, np.uint8)[1:].view(np.float32)  # between the places of floats
    assert native.native(relu, [odd], {}) is None and not relu(odd).any()


def test_a_condition_of_another_shape_broadcasts():
    x = drawn((6, 160, 160), "float32", 0, odd=False)
    seen = np.tri(160, dtype=bool)
    check(lambda x: ta.where(seen, x, -np.inf), [x], 0)
    check(lambda a, b: ta.maximum(a, b), [x, x[:, :1] * 0.5], 1e-6)


def test_gradients_have_gradients():
    x = drawn(FLAT, "float64", 0, odd=False)
    v = drawn(FLAT, "float64", 3, odd=False)
    f = lambda x: (ta.tanh(F.gelu(x)) * v).sum()  # noqa: E731
    found = ta.grad(lambda x: (ta.grad(f)(x) * v).sum())(ta.Tensor(x)).numpy()
    with without_kernels():
        wanted = ta.grad(lambda x: (ta.grad(f)(x) * v).sum())(ta.Tensor(x)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-12)
    assert np.abs(wanted).max() > 1


def test_a_checkpoint_gives_the_same_bits():
    x, g = drawn(FLAT, "float32", 0, odd=False), drawn(FLAT, "float32", 3, odd=False)
    f = lambda x: F.gelu(ta.tanh(F.relu(x)))  # noqa: E731
    plain, kept = value_and_gradients(f, [x], g), value_and_gradients(ta.checkpoint(f), [x], g)
    for a, b in zip(plain, kept, strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_freed_graph_and_a_changed_residual_are_noticed():
    x = ta.Tensor(drawn(FLAT, "float32", 0), requires_grad=True)
    y = F.relu(x)
    g = ta.Tensor(drawn(FLAT, "float32", 1))
    y.backward(g)
    with pytest.raises(GraphError, match="freed"):
        y.backward(g)
    y = F.relu(x)
    y.detach()[...] = 1
    with pytest.raises(GraphError, match="in place"):
        guarded(y.node, 0, g.array)


def test_errors_are_those_of_small_arrays():
    with pytest.raises(ShapeError, match=r"do not broadcast: a \(400, 400\) and b \(400, 399\)"):
        ta.maximum(np.ones((400, 400), np.float32), np.ones((400, 399), np.float32))


def up_or_down(xp, w, g, slots, k, a, b):
    xp.multiply(g, k["lr"], out=b)
    if k["way"] == "up":
        w += b
    else:
        w -= b


def by_the_length(xp, w, g, slots, k, a, b):
    xp.multiply(g, k["lr"] / float(xp.sqrt((w * w).sum())), out=b)
    w -= b


def later_faster(xp, w, g, slots, k, a, b):
    xp.multiply(g, k["lr"] if k["step"] > 2 else 0.25, out=b)
    w -= b


def once_faster(xp, w, g, slots, k, a, b):
    xp.multiply(g, k["lr"] if k["step"] == 2 else 0.25, out=b)
    w -= b


def descent(rule, **more):
    """An optimiser with a rule of its own, which reads the number of the step, and ``more``."""
    numbers = lambda self, group, step: {"lr": group["lr"], "step": step, **more}  # noqa: E731
    return type("Descent", (optim.SGD,), {"rule": staticmethod(rule), "numbers": numbers})


def descended(kind, lr=0.5, wrap=lambda f: f, steps=4):
    w = ta.Tensor(np.linspace(1, 2, 9000), requires_grad=True)
    optimizer = kind([w], lr=lr)

    def step():
        optimizer.zero_grad()
        (w * w).sum().backward()
        optimizer.step()

    step = wrap(step)
    for _ in range(steps):
        step()
    assert optimizer.state[w]["step"] == steps
    return w.numpy()


@pytest.mark.parametrize("wrap", [lambda f: f, ta.jit])
@pytest.mark.parametrize("rule", [by_the_length, later_faster, once_faster])
def test_rules_that_have_no_code_are_run_by_numpy(rule, wrap):
    with without_kernels():
        wanted = descended(descent(rule))
    for _ in range(2):
        np.testing.assert_allclose(descended(descent(rule), wrap=wrap), wanted, 1e-13)


def test_kernels_of_an_optimiser_are_told_apart_by_what_is_no_number():
    assert (descended(descent(up_or_down, way="up")) > 2).all()
    assert (descended(descent(up_or_down, way="down"), 0.25) < 1).all()
    assert (descended(descent(up_or_down, way="up", others=[]), 0.5) > 2).all()  # has no hash


@pytest.mark.parametrize("number", [np.float32, np.float64, np.float16])
def test_learning_rates_may_be_numpys_numbers(number):
    w = ta.Tensor(np.ones(9000, np.float32), requires_grad=True)
    optimizer = optim.SGD([w], lr=number(0.5))
    w.grad = ta.Tensor(np.ones(9000, np.float32))
    for lr, wanted in ((0.5, 0.5), (0.25, 0.25), (0, 0.25)):
        optimizer.lr = number(lr)
        optimizer.step()
        assert (w.numpy() == np.float32(wanted)).all()


def test_a_process_without_kernels_compiles_nothing():
    program = (
        "import sys, numpy as np, tinygrad_ai as ta\n"
        "x = ta.Tensor(np.ones((300, 500), np.float32), requires_grad=True)\n"
        "y = ta.nn.functional.gelu(x)\n"
        "y.backward(x.detach())\n"
        "print('llvmlite' in sys.modules)"
    )
    for setting, said in (("0", "False"), ("1", "True")):
        found = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "TINYGRAD_AI_KERNELS": setting},
        )
        assert found.stdout.strip() == said, found.stderr
