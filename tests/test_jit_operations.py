"""Compiled = eager: every operation by its record, at shapes of every kind, and random programs."""

import zlib

import numpy as np
import pytest
from hypothesis import given

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.testing import adapter_named, sample_call
from tinygrad_ai.testing.checker import check_gradients
from tinygrad_ai.testing.measures import signed
from tinygrad_ai.testing.programs import random_program
from tinygrad_ai.testing.properties import PROPERTIES
from tinygrad_ai.testing.strategies import programs
from tinygrad_ai.testing.suite import kink_calls

EAGER, COMPILED = adapter_named("tinygrad_ai"), adapter_named("compiled")
#: Of the largest element. Sums are taken in another order, and functions err by some ulps; what a
#: program does with these errors is its own affair, so programs are allowed more.
ROUNDING = {"float64": 1e-12, "float32": 2e-5}


def cast(arrays, dtype):
    return [x.astype(dtype) if x.dtype.kind == "f" else x for x in arrays]


def close(found, expected, tolerance):
    """Equal dtypes, shapes, infinities and NaNs; the rest within ``tolerance`` of the largest."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    if expected.dtype.kind != "f":
        tolerance = 0
    scale = abs(expected[finite].astype(float)).max(initial=0)
    np.testing.assert_allclose(found[finite], expected[finite], 0, tolerance * scale)


def compare(f, arrays, rng, tolerance, adapters=(COMPILED,)):
    """Values and gradients of a compiled function are the eager ones."""
    with np.errstate(all="ignore"):
        values = EAGER.call(f, arrays)
        cotangents = [signed(rng, y) for y in values]
        slopes = EAGER.vjp(f, arrays, cotangents)
        for adapter in adapters:
            for y, expected in zip(adapter.call(f, arrays), values, strict=True):
                close(y, expected, tolerance)
            for g, expected in zip(adapter.vjp(f, arrays, cotangents), slopes, strict=True):
                assert (g is None) == (expected is None)
                if g is not None:
                    close(g, expected, tolerance)


def call_of(record, inputs, params, at):
    """A function of the inputs that stand ``at`` these places, with a real value."""

    def f(*xs):
        full = list(inputs)
        for k, x in zip(at, xs, strict=True):
            full[k] = x
        y = record(*full, **params)
        return y if y.dtype.kind == "f" else y.astype("float64")

    return f


def check_call(record, inputs, params, rng, **options):
    for dtype, tolerance in ROUNDING.items():
        compare(
            call_of(record, inputs, params, range(len(inputs))),
            cast(inputs, dtype),
            rng,
            tolerance,
            **options,
        )


def generator(name, seed=0):
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_operation(name):
    """Value and gradient of a random call, at the smallest shapes: 0-d, of size 0, broadcast."""
    rng = generator(name)
    check_call(PRIMITIVES[name], *sample_call(PRIMITIVES[name], rng), rng)


@pytest.mark.deep
@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_every_operation_often(name):
    record, rng = PRIMITIVES[name], generator(name, 1)
    for _ in range(20):
        check_call(record, *sample_call(record, rng), rng)
    for inputs, params in kink_calls(record):
        check_call(record, inputs, params, rng)


@pytest.mark.parametrize(
    "name", [n for n, p in PRIMITIVES.items() if p.sample is None and p.kind != "opaque"]
)
def test_every_operation_on_vectors(name):
    """The same where vectors are full and three threads share the work."""
    record, rng = PRIMITIVES[name], generator(name, 2)
    if record.kind == "elementwise":  # few numbers, often: many would lie near kinks
        inputs, params = sample_call(record, rng, [(1, 10), (10,), (1, 1)])
        times = [(37, 13), (13,), (37, 1)]
        inputs = [np.tile(x, n) for x, n in zip(inputs, times, strict=False)]
    else:
        inputs, params = sample_call(record, rng, [(37, 130)])
    check_call(record, inputs, params, rng, adapters=[COMPILED.with_threads(3)])


@given(program=programs())
def test_programs(program):
    check_program(program)


@pytest.mark.deep
def test_a_thousand_programs():
    rng = np.random.default_rng(7)
    for _ in range(1000):
        check_program(random_program(rng, max_steps=20))


def check_program(program):
    f = program.function("tinygrad_ai")
    for dtype, tolerance in (("float64", 1e-10), ("float32", 1e-3)):
        arrays = cast(program.inputs, dtype)
        compare(f, arrays, np.random.default_rng(program.seed), tolerance)


def networks():
    """Functions in which much is fused, and their arguments."""
    x, w, image, kernel = (
        np.random.default_rng(k).standard_normal(shape)
        for k, shape in enumerate([(67, 45), (33, 45), (3, 2, 9, 11), (4, 2, 3, 3)])
    )
    labels = np.arange(67) % 33
    return {
        "cross entropy": (lambda x, w: F.cross_entropy(F.linear(x, w), labels), [x, w]),
        "attention": (
            lambda x: F.scaled_dot_product_attention(x, 2 * x, x, is_causal=True),
            [x.reshape(3, 15, 67)],
        ),
        "layer norm": (lambda x, w: F.gelu(F.layer_norm(x, (45,))) @ w.T, [x, w]),
        "conv": (
            lambda x, w: F.max_pool2d(ta.relu(F.conv2d(x, w, padding=1)), 2),
            [image, kernel],
        ),
        "transposed sums": (lambda x: ta.sum(ta.square(x.T), axis=0) * x.T.mean(), [x]),
        "loops": (loops, [x[:, :9], w[:9, :9]]),
        "several": (lambda x, w: {"a": [x.max(1), (w * w).sum(0)], "b": x[:, 3]}, [x, w]),
    }


def loops(x, w):
    h = x[:5]
    for k in range(5, 60, 5):
        h = ta.tanh(h @ w + x[k : k + 5])
    return h


@pytest.mark.parametrize("name", networks())
def test_networks_on_any_number_of_threads(name):
    """Close to eager, and the same bits whoever does the work."""
    f, arrays = networks()[name]
    rng = np.random.default_rng(5)
    for dtype, tolerance in (("float64", 1e-11), ("float32", 1e-4)):
        given = cast(arrays, dtype)
        compare(f, given, rng, tolerance, [COMPILED.with_threads(3)])
    assert PROPERTIES["threads"](EAGER, f, given, rng)


def test_the_checker_takes_compiled_functions():
    report = check_gradients(lambda x: ta.sin(x) * x, np.array([0.3, -1.2]), adapter="compiled")
    assert report.verdict == "pass"

    @ta.custom_vjp
    def wrong(x):
        return ta.sin(x), lambda g: (g * ta.cos(x) * 1.01,)

    report = check_gradients(wrong, np.array([0.3, -1.2]), adapter="compiled")
    assert report.verdict == "fail"
