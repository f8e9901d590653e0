"""Correct rules of smooth elementwise functions where they are steep, flat, fast or ill-scaled."""

import math

import numpy as np

from .case import Array, Case, correct, fixed, sigmoid


def _sech2(x: Array) -> Array:
    e = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def _bell(x: Array) -> Array:
    """The logistic function's slope, exact in both tails."""
    return _sech2(x / 2) / 4


def _sinc(x: Array) -> Array:
    safe = np.where(x == 0, 1, x)
    return np.where(x == 0, 1, np.sin(safe) / safe)


def _sinc_slope(x: Array) -> Array:
    """(x cos x - sin x)/x², and its series up to |x| = 1/2, where that cancels."""
    safe = np.where(np.abs(x) < 0.5, 1, x)
    small = np.where(np.abs(x) < 0.5, x, 0)
    series = sum(
        (-1) ** k * 2 * k * small ** (2 * k - 1) / math.factorial(2 * k + 1) for k in range(1, 9)
    )
    return np.where(np.abs(x) < 0.5, series, (safe * np.cos(safe) - np.sin(safe)) / safe**2)


def _log_where(x: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(x > 0, np.log(x), 0)


def _quiet_inverse(g: Array, x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.where(x > 0, g / x, 0)


STEEP: tuple[Case, ...] = (
    correct(
        "tanh(1e4 x)",
        lambda x: np.tanh(1e4 * x),
        lambda g, x: 1e4 * g * _sech2(1e4 * x),
        fixed([0.0, 1e-5, -3e-5, 1e-4, -2e-4, 1e-3]),
        "All of it happens within 1e-4.",
    ),
    correct(
        "sigmoid(1e3 x)",
        lambda x: sigmoid(1e3 * x),
        lambda g, x: 1e3 * g * _bell(1e3 * x),
        fixed([0.0, 1e-4, -1e-3, 5e-3, -2e-2]),
        "All of it happens within 1e-2.",
    ),
    correct(
        "a Gaussian of width 1e-3",
        lambda x: np.exp(-((x / 1e-3) ** 2)),
        lambda g, x: -2e6 * g * x * np.exp(-((x / 1e-3) ** 2)),
        fixed([0.0, 1e-4, -1e-3, 2e-3, 0.1]),
        "Second derivatives of 2e6.",
    ),
    correct(
        "exp(50 x)",
        lambda x: np.exp(50 * x),
        lambda g, x: 50 * g * np.exp(50 * x),
        fixed([-1.0, 0, 0.3, 2, 10]),
        "From 1e-22 to 1e217.",
    ),
    correct(
        "exp(exp(x))",
        lambda x: np.exp(np.exp(x)),
        lambda g, x: g * np.exp(x + np.exp(x)),
        fixed([-3.0, 0, 3, 5]),
        "The logarithmic slope at 5 is 148.",
    ),
    correct(
        "x**20",
        lambda x: x**20,
        lambda g, x: 20 * g * x**19,
        fixed([0.5, 1, -1.5, 3, 1e-3]),
        "Truncation errors grow with the power.",
    ),
    correct(
        "1/x near 0",
        lambda x: 1 / x,
        lambda g, x: -g / x**2,
        fixed([1e-6, -1e-6, 1e-3, -1e-3, 1]),
        "A step of 1e-6 lands on the pole.",
    ),
    correct(
        "x**-3 at 0.01",
        lambda x: x**-3,
        lambda g, x: -3 * g / x**4,
        fixed([0.01, -0.01, 0.1]),
        "Slopes of 3e8.",
    ),
    correct(
        "log near 0",
        np.log,
        lambda g, x: g / x,
        fixed([1e-8, 1e-5, 1e-2, 1]),
        "Undefined one step to the left.",
        domain=("positive",),
    ),
    correct(
        "sqrt near 0",
        np.sqrt,
        lambda g, x: 0.5 * g / np.sqrt(x),
        fixed([1e-10, 1e-6, 1e-3, 4]),
        "Undefined one step to the left.",
        domain=("positive",),
    ),
    correct(
        "x**1.5 at tiny x",
        lambda x: x**1.5,
        lambda g, x: 1.5 * g * np.sqrt(x),
        fixed([1e-12, 1e-8, 1e-4, 1]),
        "The second derivative is 7e5.",
        domain=("positive",),
    ),
    correct(
        "x**0.1 at tiny x",
        lambda x: x**0.1,
        lambda g, x: 0.1 * g * x**-0.9,
        fixed([1e-9, 1e-6, 1e-3, 1]),
        "Steep and undefined to the left of 0.",
        domain=("positive",),
    ),
    correct(
        "log1p near -1",
        np.log1p,
        lambda g, x: g / (1 + x),
        fixed([-1 + 1e-6, -1 + 1e-3, 0, 1e-12]),
        "Undefined at -1.",
        domain=((-1.0, np.inf),),
    ),
    correct(
        "arcsin near its ends",
        np.arcsin,
        lambda g, x: g / np.sqrt((1 - x) * (1 + x)),
        fixed([1 - 1e-6, -1 + 1e-5, 0, 0.9]),
        "Vertical tangents at both ends.",
        domain=((-1.0, 1.0),),
    ),
    correct(
        "arctanh near its ends",
        np.arctanh,
        lambda g, x: g / ((1 - x) * (1 + x)),
        fixed([1 - 1e-6, -1 + 1e-5, 0, 0.9]),
        "Poles at both ends.",
        domain=((-1.0, 1.0),),
    ),
    correct(
        "tan near its pole",
        np.tan,
        lambda g, x: g / np.cos(x) ** 2,
        fixed([np.pi / 2 - 1e-4, np.pi / 2 + 1e-3, 0, 1]),
        "1e-4 away from a pole.",
    ),
    correct(
        "x log x at tiny x",
        lambda x: x * np.log(x),
        lambda g, x: g * (np.log(x) + 1),
        fixed([1e-10, 1e-5, np.exp(-1), 1]),
        "The slope goes to -inf at 0, and is 0 at 1/e.",
        domain=("positive",),
    ),
)

FLAT: tuple[Case, ...] = (
    correct(
        "exp(-x²) in its tail",
        lambda x: np.exp(-x * x),
        lambda g, x: -2 * g * x * np.exp(-x * x),
        fixed([10.0, -5, 0, 20]),
        "Slopes down to 1e-172.",
    ),
    correct(
        "x**4 near 0",
        lambda x: x**4,
        lambda g, x: 4 * g * x**3,
        fixed([1e-3, -1e-5, 0, 1]),
        "Slopes of 4e-9 and 4e-15 beside one of 4.",
    ),
    correct(
        "sigmoid in both tails",
        sigmoid,
        lambda g, x: g * _bell(x),
        fixed([40.0, -40, 15, -15, 0]),
        "sigmoid(40) rounds to 1; its slope is 4e-18.",
    ),
    correct(
        "tanh in both tails",
        np.tanh,
        lambda g, x: g * _sech2(x),
        fixed([20.0, -20, 8, -3, 1e-9]),
        "tanh(20) rounds to 1; its slope is 2e-17.",
    ),
    correct(
        "x**3 at 0",
        lambda x: x**3,
        lambda g, x: 3 * g * x**2,
        fixed([0.0, -0.0, 1e-8]),
        "A gradient of exactly 0 where the function is not constant.",
    ),
    correct(
        "a parabola at its minimum",
        lambda x: (x - 1) ** 2,
        lambda g, x: 2 * g * (x - 1),
        fixed([1.0, 1 + 1e-9, 1 - 1e-12]),
        "A gradient of exactly 0.",
    ),
    correct(
        "cos at its maximum and minimum",
        np.cos,
        lambda g, x: -g * np.sin(x),
        fixed([0.0, np.pi, 1e-10, 2 * np.pi]),
        "sin(pi) is 1e-16, not 0.",
    ),
    correct(
        "1/(1 + x²) far out",
        lambda x: 1 / (1 + x * x),
        lambda g, x: -2 * g * x / (1 + x * x) ** 2,
        fixed([1e6, -1e4, 0, 1e-9]),
        "Slopes of 2e-18.",
    ),
    correct(
        "a constant function",
        lambda x: np.full_like(x, 3),
        lambda g, x: np.zeros_like(x),
        fixed([0.0, 1, -1e8]),
        "The gradient is exactly 0.",
    ),
    correct(
        "sin² + cos²",
        lambda x: np.sin(x) ** 2 + np.cos(x) ** 2,
        lambda g, x: np.zeros_like(x),
        fixed([0.3, 1, -2, 100]),
        "Constant but for rounding.",
    ),
    correct(
        "floor between integers",
        np.floor,
        lambda g, x: np.zeros_like(x),
        fixed([0.5, -1.3, 1e6 + 0.5]),
        "Piecewise constant.",
    ),
    correct(
        "heaviside away from 0",
        lambda x: np.where(x > 0, 1.0, 0.0),
        lambda g, x: np.zeros_like(x),
        fixed([0.5, -1.3, 100]),
        "Piecewise constant.",
    ),
)

FAST_AND_FAR: tuple[Case, ...] = (
    correct(
        "sin(1e3 x)",
        lambda x: np.sin(1e3 * x),
        lambda g, x: 1e3 * g * np.cos(1e3 * x),
        fixed([0.0, 1, -0.3, np.pi / 2000]),
        "A period of 0.006.",
    ),
    correct(
        "x cos(1e3 x)",
        lambda x: x * np.cos(1e3 * x),
        lambda g, x: g * (np.cos(1e3 * x) - 1e3 * x * np.sin(1e3 * x)),
        fixed([0.0, 1, -0.3, 5]),
        "A fast product.",
    ),
    correct(
        "sin(1/x)",
        lambda x: np.sin(1 / x),
        lambda g, x: -g * np.cos(1 / x) / x**2,
        fixed([0.01, -0.03, 0.1, 1]),
        "Half a period in 3e-4 at 0.01.",
    ),
    correct(
        "sin at large arguments",
        np.sin,
        lambda g, x: g * np.cos(x),
        fixed([1e6, -1e5, 1e3]),
        "A step relative to x spans many periods.",
    ),
    correct(
        "1e-9 x²",
        lambda x: 1e-9 * x**2,
        lambda g, x: 2e-9 * g * x,
        fixed([1.0, -3, 0.01]),
        "Small values, not small relative errors.",
    ),
    correct(
        "1e12 x",
        lambda x: 1e12 * x,
        lambda g, x: 1e12 * g,
        fixed([1.0, -3, 0]),
        "An absolute tolerance is meaningless here.",
    ),
    correct(
        "squares of tiny inputs",
        lambda x: x**2,
        lambda g, x: 2 * g * x,
        fixed([1e-8, -1e-12, 1e-100]),
        "Slopes of 2e-8 … 2e-100.",
    ),
    correct(
        "squares of large inputs",
        lambda x: x**2,
        lambda g, x: 2 * g * x,
        fixed([1e8, -1e12, 1e100]),
        "A fixed step is lost in rounding.",
    ),
    correct(
        "square root of 1e150",
        np.sqrt,
        lambda g, x: 0.5 * g / np.sqrt(x),
        fixed([1e150, 1e300, 1e8]),
        "Slopes of 5e-76 … 5e-5.",
        domain=("positive",),
    ),
    correct(
        "product of a huge and a tiny factor",
        lambda a, b: a * b,
        lambda g, a, b: (g * b, g * a),
        fixed([1e150, -3e140], [1e-150, 2e-140]),
        "Two gradients 300 decades apart.",
    ),
    correct(
        "sum of a large and a tiny argument",
        lambda a, b: a + b,
        lambda g, a, b: (g.copy(), g.copy()),
        fixed([1e6, -2e6], [1e-6, 3e-6]),
        "The second argument nearly drowns in the first's rounding.",
    ),
    correct(
        "squares of mixed scales",
        lambda x: x**2,
        lambda g, x: 2 * g * x,
        fixed([1e-8, 1, 1e8, -1e-3, 0]),
        "One array, sixteen decades.",
    ),
    correct(
        "log1p(exp(x)) far out",
        lambda x: np.logaddexp(0, x),
        lambda g, x: g * np.exp(-np.logaddexp(0, -x)),
        fixed([30.0, -30, 0, 700, -700]),
        "Slopes from 1e-304 to 1.",
    ),
    correct(
        "log(1 + x) at tiny x",
        lambda x: np.log(1 + x),
        lambda g, x: g / (1 + x),
        fixed([1e-9, -1e-6, 0.5]),
        "Values carry an error of 1e-16 where log1p would not.",
        domain=((-1.0, np.inf),),
    ),
    correct(
        "expm1 near 0",
        np.expm1,
        lambda g, x: g * np.exp(x),
        fixed([1e-12, -1e-9, 0, 1]),
        "Accurate values of 1e-12.",
    ),
    correct(
        "sinc at and near 0",
        _sinc,
        lambda g, x: g * _sinc_slope(x),
        fixed([0.0, 1e-8, -1e-3, 0.02, 3]),
        "A removable singularity.",
    ),
    correct(
        "log behind a where",
        _log_where,
        _quiet_inverse,
        fixed([0.5, -1, 2, -1e-3]),
        "The branch not taken is NaN; its gradient must be 0.",
    ),
    correct(
        "arctan2 on the axes",
        np.arctan2,
        lambda g, y, x: (g * x / (x * x + y * y), -g * y / (x * x + y * y)),
        fixed([1.0, -2, 0, 3], [0.0, 0, 1, 4]),
        "x = 0 is no singularity.",
    ),
    correct(
        "hypot of 1e150",
        np.hypot,
        lambda g, x, y: (g * x / np.hypot(x, y), g * y / np.hypot(x, y)),
        fixed([3e150, 1e-5], [4e150, -1e5]),
        "Squares nearly overflow.",
    ),
)
