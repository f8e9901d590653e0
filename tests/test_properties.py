"""The ready-made properties: right functions hold them, and each one catches a planted bug."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from library import LIBRARY, Library

from tinygrad_ai.autodiff import newest_first
from tinygrad_ai.functional import layer_norm, softmax
from tinygrad_ai.ops.elementwise import add, multiply, sqrt, tanh
from tinygrad_ai.ops.linalg import matmul
from tinygrad_ai.ops.movement import roll
from tinygrad_ai.ops.reduce import mean
from tinygrad_ai.ops.reduce import sum as total
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing.adapters import adapter_named
from tinygrad_ai.testing.properties import PROPERTIES
from tinygrad_ai.testing.strategies import arrays
from tinygrad_ai.transforms import custom_vjp

X = np.array([[0.3, -1.2, 0.7], [1.9, 0.4, -0.6]])
ROW = np.array([0.5, -0.8, 1.1])


def ruled(forward, rule):
    """A function of Tensors whose pullback is ``rule(g, *inputs)`` on raw arrays."""

    @custom_vjp
    def f(*xs):
        raw = [x.array for x in xs]

        def pullback(g):
            made = rule(g.array, *raw)
            return made if isinstance(made, tuple) else (made,)

        return Tensor.box(np.asarray(forward(*raw))), pullback

    return f


class Changed(Library):
    """The library with something wrong about ``vjp``."""

    def __init__(self, change):
        self.change = change

    def vjp(self, f, arrays, cotangents):
        right = super().vjp
        return self.change(right, f, arrays, cotangents)


class Forgetful(Library):
    """An adapter in which the second backward pass replaces the first one's gradient."""

    def accumulated(self, f, arrays, cotangents):
        return self.vjp(f, arrays, cotangents)


class Unbatched(Library):
    batched = None  # hidden below: hasattr must be False

    def __getattribute__(self, name):
        if name == "batched":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Miscompiled(Library):
    """A library with a compiler whose gradients are too large by as much as it has threads."""

    def __init__(self, error):
        self.error = error

    @property
    def compiled(self):
        return Changed(lambda right, *a: [g * (1 + self.error) for g in right(*a)])


class Miscounted(Miscompiled):
    @property
    def compiled(self):
        return self

    def with_threads(self, count):
        return Miscompiled(1e-15 * count).compiled


def last_use_only(right, f, arrays, cotangents):
    """What a tape does that overwrites where it should accumulate."""
    gradients = None
    for k in range(len(cotangents)):
        parts = [v if j == k else np.zeros_like(v) for j, v in enumerate(cotangents)]
        gradients = right(f, arrays, parts)
    return gradients


def the_cotangent_itself(right, f, arrays, cotangents):
    return [cotangents[0] for _ in arrays]


def writes(x):
    y = tanh(x)
    x.array += 1.0
    return y


def skips_to_the_leaf(x):
    """tanh, with a graph that forgets the steps between it and the leaf."""
    return tanh(x if x.node is None else Tensor.box(x.array, newest_first([x.node])[-1]))


calls = iter(range(10**9))

#: For each property an adapter, a function and inputs that violate it.
PLANTED = {
    "oracle": (LIBRARY, ruled(np.tanh, lambda g, x: 1.001 * g / np.cosh(x) ** 2), [X]),
    "hessian_symmetric": (
        LIBRARY,
        ruled(lambda x: (x * np.roll(x, 1)).sum(), lambda g, x: g * np.roll(x, -1)),
        [ROW],
    ),
    "linear": (LIBRARY, ruled(np.tanh, lambda g, x: abs(g) / np.cosh(x) ** 2), [X]),
    "zero": (LIBRARY, ruled(np.tanh, lambda g, x: g / np.cosh(x) ** 2 + 1e-300), [X]),
    "twice": (LIBRARY, ruled(np.tanh, lambda g, x: g * (1 + 1e-15 * next(calls))), [X]),
    "fan_out": (Changed(last_use_only), tanh, [X]),
    "chain": (LIBRARY, skips_to_the_leaf, [X]),
    "broadcast": (LIBRARY, ruled(np.add, lambda g, x, row: (g, g.mean(0))), [X, ROW]),
    "layout": (
        LIBRARY,
        ruled(np.square, lambda g, x: 2 * x * g.ravel(order="K").reshape(x.shape)),
        [X],
    ),
    "zero_size": (LIBRARY, ruled(np.tanh, lambda g, x: g if g.size else g[..., None]), [X]),
    "batch": (Unbatched(), ruled(np.tanh, lambda g, x: g / np.cosh(x) ** 2 / len(x)), [ROW]),
    "dtype_shape": (
        Changed(lambda right, *a: [g.astype(np.float64) for g in right(*a)]), tanh, [X],
    ),
    "precision": (
        LIBRARY,
        ruled(np.tanh, lambda g, x: g / np.cosh(x.astype("f2" if x.itemsize < 8 else "f8")) ** 2),
        [X],
    ),
    "no_mutation": (LIBRARY, writes, [X]),
    "no_alias": (Changed(the_cotangent_itself), add, [X, X + 1]),
    "compiled": (Miscompiled(1e-6), tanh, [X]),
    "threads": (Miscounted(0), tanh, [X]),
}  # fmt: skip

RIGHT = {
    "tanh": (tanh, [X]),
    "product with a row": (multiply, [X, ROW]),
    "matmul": (matmul, [X, X.T.copy()]),
    "softmax": (lambda x: softmax(x, axis=-1), [X]),
    "layer norm": (lambda x: layer_norm(x, (3,)), [X]),
    "several outputs": (lambda x: (mean(x, axis=0), {"length": sqrt(total(x * x))}), [X]),
    "a step between": (lambda x, row: roll(x, 1) * row + x, [X, ROW]),
}


@pytest.mark.parametrize("name", RIGHT)
@given(seed=st.integers(0, 2**31))
def test_right_functions_hold_every_property(name, seed):
    f, inputs = RIGHT[name]
    for check in PROPERTIES.values():
        check(LIBRARY, f, inputs, np.random.default_rng(seed))


@pytest.mark.parametrize("name", PROPERTIES)
def test_every_property_catches_a_planted_bug(name):
    adapter, f, inputs = PLANTED[name]
    for seed in range(10):
        with pytest.raises((AssertionError, ValueError)):
            PROPERTIES[name](adapter, f, [x.copy() for x in inputs], np.random.default_rng(seed))


def test_backward_twice_must_double():
    PROPERTIES["twice"](LIBRARY, tanh, [X], np.random.default_rng(0))
    with pytest.raises(AssertionError, match="do not add up"):
        PROPERTIES["twice"](Forgetful(), tanh, [X], np.random.default_rng(0))


def test_compiled_functions_hold_what_is_asked_of_them():
    for f, inputs in RIGHT.values():
        for name in ("compiled", "threads"):
            adapter = adapter_named("tinygrad_ai")
            assert PROPERTIES[name](adapter, f, inputs, np.random.default_rng(0))
            assert not PROPERTIES[name](LIBRARY, f, inputs, np.random.default_rng(0))


def test_properties_say_nothing_about_a_function_without_gradients():
    for check in PROPERTIES.values():
        assert not check(LIBRARY, lambda x: x > 0, [X], np.random.default_rng(0))
        assert not check(LIBRARY, lambda x: x + 1, [np.arange(3)], np.random.default_rng(0))


@given(x=arrays())
def test_a_rule_written_by_hand_is_asked_what_it_can_answer(x):
    rule = type(adapter_named("numpy"))(lambda g, x: g * np.cos(x))
    told = {
        name
        for name, check in PROPERTIES.items()
        if check(rule, np.sin, [x], np.random.default_rng(1))
    }
    assert told >= {"linear", "zero", "layout", "no_mutation"}
    assert not told & {"fan_out", "chain"}


@pytest.mark.peers
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_other_frameworks_hold_them(name):
    adapter = adapter_named(name)
    f = {
        "torch": lambda x, row: (x * row).tanh().sum(0),
        "jax": lambda x, row: (x * row / (1 + x * x)).sum(0),
    }[name]
    for check in (c for n, c in PROPERTIES.items() if n != "no_alias"):  # neither promises that
        check(adapter, f, [X, ROW], np.random.default_rng(3))
