"""The checker of the other tests: what is wrong is seen, what is right passes."""

import numpy as np
import pytest
from gradcheck import check

from tinygrad_ai.autodiff import elementwise
from tinygrad_ai.ops.elementwise import exp
from tinygrad_ai.ops.trigonometry import sin


def wrong(rule):
    record = elementwise("sin", lambda xp, x: xp.sin(x), vjp=rule, why="wrong on purpose")
    return lambda x: record(x)


def test_right_rules_pass():
    check(sin, np.linspace(-2, 2, 7), order=2)
    check(lambda x, y: exp(x) * y, np.ones((2, 1)), np.ones(3), order=2)
    check(sin, np.linspace(-2, 2, 1000))
    check(lambda x: x[::-1] * 2, np.arange(3.0), order=2)
    check(sin, np.ones((0, 2)), order=2)


@pytest.mark.parametrize("size", [4, 1000])
def test_a_wrong_rule_is_seen(size):
    x = np.linspace(-2, 2, size)
    with pytest.raises(AssertionError, match="central difference"):
        check(wrong(lambda g, x: g * sin(x)), x)
    with pytest.raises(AssertionError, match="central difference"):
        check(wrong(lambda g, x: g[::-1]), x)
    with pytest.raises(AssertionError, match="central difference"):
        check(wrong(lambda g, x: g * (1 + 1e-5) * np.cos(x.array if hasattr(x, "array") else x)), x)


def test_a_cut_second_derivative_is_seen():
    def rule(g, x):
        return g * np.cos(x.array if hasattr(x, "array") else x)

    check(wrong(rule), np.ones(2))
    with pytest.raises(AssertionError):
        check(wrong(rule), np.ones(2), order=2)
