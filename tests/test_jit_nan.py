"""Compiled steps leave out the guards against 0·∞ and watch for NaNs, with the results of eager."""

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai import optim

#: functions whose gradients meet 0·∞ where an element is 0 (or, the last, two are equal)
SINGULAR = {
    "root of squares": lambda x: (x * x).sqrt(),
    "norm": lambda x: (x * x).sum(axis=-1, keepdims=True).sqrt() * ta.ones_like(x),
    "power": lambda x: (x**2) ** 0.25,
    "logarithm": lambda x: ta.where(x == 0, 0.0, (x * x).log()),
    "quotient": lambda x: ta.where(x == 0, 1.0, x.sin() / x),
    "distance": lambda x: ((x - x[..., ::-1]) ** 2).sqrt(),
}


def gradient(f, x, cotangent):
    return ta.vjp(f, x)[1](cotangent)


def hidden(f, x, cotangent):
    """A NaN in the gradient would be hidden by the comparison."""
    return ta.where(gradient(f, x, cotangent) == 0, 1.0, 2.0)


@pytest.mark.parametrize("seen", [gradient, hidden])
@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("shape", [(3,), (2, 37), (5, 16), (3, 130)])
def test_gradients_at_singular_points_are_those_of_eager(name, shape, seen):
    f = SINGULAR[name]
    rng = np.random.default_rng(0)
    step = ta.jit(lambda x, c: seen(f, x, c))
    for zeros in (0, 1, 0, 3):  # with and without, call after call
        x, c = rng.standard_normal((2, *shape)).astype("f")
        x.flat[rng.choice(x.size, zeros, replace=False)] = 0
        c.flat[:2] = 0
        expected = seen(f, ta.Tensor(x), ta.Tensor(c)).numpy()
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(step(ta.Tensor(x), ta.Tensor(c)).numpy(), expected, 1e-5, 1e-5)


@pytest.mark.parametrize("at", [0, 15, 16, 127, 128, 191, 202])
def test_a_zero_anywhere_is_seen(at):
    """In every lane of vectors side by side, of single vectors and of the rest."""
    x, ones = np.ones((1, 203), "f"), ta.ones((1, 203))
    x[0, at] = 0
    step = ta.jit(lambda x: gradient(SINGULAR["root of squares"], x, ones))
    np.testing.assert_array_equal(step(ta.Tensor(x)).numpy(), np.sign(x))


def test_a_nan_stays_a_nan():
    step = ta.jit(lambda x: gradient(SINGULAR["root of squares"], x, ta.ones(3)))
    found = step(ta.Tensor(np.float32([1, np.nan, 0]))).numpy()
    np.testing.assert_array_equal(found, np.float32([1, np.nan, 0]))


def trained(wrap, rounds):
    """Two optimisers in one step: the second loss may meet a NaN after the first has stepped."""
    p, q = (ta.Tensor(np.linspace(-1, 1, 20, dtype="f"), requires_grad=True) for _ in range(2))
    optimizers = optim.Adam([p], lr=0.1), optim.SGD([q], lr=0.1)
    count = ta.zeros(1)

    def both(x, y):
        count[...] = count + 1
        for parameter, given, optimizer in zip((p, q), (x, y), optimizers, strict=True):
            optimizer.zero_grad()
            (((parameter - given) ** 2).sqrt() * parameter).sum().backward()
            optimizer.step()

    step = wrap(both)
    for x, y in rounds:
        for exact, parameter in ((x, p), (y, q)):  # a difference of 0 there and only there
            exact[3:5] = parameter.numpy()[3:5] if exact[0] > 0 else 9
        step(ta.Tensor(x), ta.Tensor(y))
    return [t.numpy() for t in (p, q, p.grad, q.grad, count)]


def test_nothing_is_written_before_the_last_nan_can_come():
    rng = np.random.default_rng(1)
    rounds = rng.standard_normal((40, 2, 20)).astype("f")
    found, expected = (trained(wrap, rounds.copy()) for wrap in (ta.jit, lambda f: f))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, 1e-5, 1e-6)


def test_second_derivatives_where_the_first_is_not_wanted():
    """Its NaNs decide about the second's guards all the same."""
    x = ta.Tensor(np.float32([0, 1, 4]))
    w = ta.Tensor(np.float32([0, 0, 2]))
    second = ta.grad(lambda w, x: ta.grad(lambda x: (w * ta.sqrt(x)).sum())(x).sum())
    expected = second(w, x).numpy()
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(ta.jit(second)(w, x).numpy(), expected)
