"""What this library's tests ask of every operation, as one function: :func:`suite`.

The oracles share nothing with the rules: NumPy references for the values, extrapolated central
differences for the gradients, and at kinks the shortest vector among the gradients nearby.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinygrad_ai.autodiff import Primitive, pull_back
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing.geometries import geometry_calls
from tinygrad_ai.testing.references import REFERENCES
from tinygrad_ai.testing.samples import sample_call

Call = tuple[list[Any], dict[str, Any]]

#: LAPACK knows no halves, so NumPy refuses them.
NO_HALVES = {"inv", "solve", "det", "logabsdet", "det_sign", "cofactor", "cholesky"}
#: Not defined, or not smooth, where elements are zeroed at random.
WELL_POSED = {"inv", "solve", "logabsdet", "det_sign", "cholesky"}
WELL_POSED |= {"sort", "argsort", "argbest", "argmax", "argmin"}
#: The largest input of the check that nothing overflows: exp of it does in float64, and neither it
#: nor exp of a difference of two leaves the range of extended precision.
LARGE = 3000.0
#: Its reference, a quadrature, holds for moderate arguments only.
NOT_LARGE = {"sinc"}


def suite(record: Primitive, rng: np.random.Generator, examples: int = 6) -> None:
    """Assert everything that must hold for ``record``, at ``examples`` random calls and at its
    kinks. Raises AssertionError (or whatever a broken rule raises)."""
    for _ in range(examples):
        call = sample_call(record, rng)
        value_is_right(record, call)
        if record.differentiable:
            gradient_is_right(record, call, rng)
        precision_is_kept(record, call, rng)
        large_values_are_right(record, call)
    for call in systematic_calls(record, rng):
        value_is_right(record, call)
        large_values_are_right(record, call)
        if record.differentiable:
            gradient_is_right(record, call, rng)
    for call in kink_calls(record):
        value_is_right(record, call)
        if record.differentiable:
            gradient_is_shortest(record, call, rng)


def signed(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """Random numbers of both signs, none of them near 0."""
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


def moving(record: Primitive, inputs: Sequence[Any]) -> list[int]:
    """The positions of the inputs that gradients flow to."""
    return [k for k, x in enumerate(inputs) if x.dtype.kind == "f" and record.rule(k) is not None]


def gradients(record: Primitive, call: Call, v: Any) -> list[Any]:
    """The gradients of ⟨v, record(call)⟩ in the inputs that have one."""
    inputs, params = call
    leaves = [
        Tensor(x, requires_grad=True) if k in moving(record, inputs) else x
        for k, x in enumerate(inputs)
    ]
    out = record(*leaves, **params)
    nodes = [leaf.node for leaf in leaves if isinstance(leaf, Tensor) and leaf.node is not None]
    found = pull_back({out.node: v.astype(out.dtype)}, nodes)
    return [found[node] for node in nodes]


# ------------------------------------------------------------------------------ the properties


def value_is_right(record: Primitive, call: Call) -> None:
    """The forward rule agrees with the reference, and leaves its inputs alone."""
    inputs, params = call
    before = [x.copy() for x in inputs]
    y = np.asarray(record.evaluate(inputs, params))
    for x, kept in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, kept, err_msg="an input was changed")
    reference = REFERENCES.get(record.name)
    if reference is not None:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns where it gives NaN
            expected = np.asarray(reference(*inputs, **params))
        assert y.dtype.kind == expected.dtype.kind, f"dtype {y.dtype}, not {expected.dtype}"
        scale = float(np.abs(expected).max(initial=1)) if y.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(y, expected, rtol=1e-10, atol=1e-11 * scale)


def gradient_is_right(record: Primitive, call: Call, rng: np.random.Generator) -> None:
    """Gradients agree with differences for a random signed cotangent; zero gives exact zeros; a
    JVP rule is the transpose of the VJP rules."""
    inputs, params = call
    y = np.asarray(record.evaluate(inputs, params))
    v = signed(rng, y.shape)
    found = gradients(record, call, v)
    places = moving(record, inputs)
    for k, g in zip(places, found, strict=True):
        assert g.shape == inputs[k].shape and g.dtype == inputs[k].dtype, "shape or dtype"
        for at in np.ndindex(inputs[k].shape):
            slope, noise = _slope(_moved(record, call, k, at), inputs[k][at])
            terms = v * slope
            scale = float(np.abs(terms).sum())
            error = abs(float(g[at]) - float(terms.sum()))
            assert error <= 1e-9 * scale + float(np.abs(v * noise).sum()) + 1e-12, (
                f"input {k} at {at}: gradient {g[at]}, difference {terms.sum()}"
            )
    for g in gradients(record, call, np.zeros(y.shape)):
        assert not g.any(), "a zero cotangent gives a gradient"


def precision_is_kept(record: Primitive, call: Call, rng: np.random.Generator) -> None:
    """float32 and float16 calls give their own dtype, and values as good as it allows."""
    for dtype, digits in ((np.float32, 1e-4), (np.float16, 3e-2)):
        if record.name in NO_HALVES and dtype == np.float16:
            continue
        inputs = [x.astype(dtype) if x.dtype.kind == "f" else x for x in call[0]]
        exact = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
        y = np.asarray(record.evaluate(inputs, call[1]))
        expected = np.asarray(record.evaluate(exact, call[1]))
        real = expected.dtype.kind == "f" and "dtype" not in call[1]
        if real and any(x.dtype.kind == "f" for x in inputs):
            assert y.dtype == dtype, f"{y.dtype} from {dtype.__name__}"
        if real:
            scale = float(np.abs(expected).max(initial=1))
            np.testing.assert_allclose(y, expected, rtol=digits, atol=digits * scale)
        if record.differentiable:
            v = signed(rng, y.shape).astype(dtype)
            pairs = zip(
                gradients(record, (inputs, call[1]), v),
                gradients(record, (exact, call[1]), v.astype(np.float64)),
                strict=True,
            )
            for g, h in pairs:
                assert g.dtype == dtype, f"gradient in {g.dtype}"
                scale = float(np.abs(h).max(initial=1))
                np.testing.assert_allclose(g, h, rtol=digits, atol=3 * digits * scale)


def large_values_are_right(record: Primitive, call: Call) -> None:
    """Inputs in the thousands neither overflow on the way nor make a NaN gradient.

    The reference runs in extended precision, whose exponents reach far enough for plain formulas;
    what cannot (LAPACK) is not asked.
    """
    if record.name in NOT_LARGE or record.kind not in ("elementwise", "reduction", "opaque"):
        return
    wide = [
        x * (LARGE / np.abs(x).max(initial=1)) if x.dtype.kind == "f" and low == -np.inf else x
        for x, (low, _) in zip(call[0], record.domain, strict=True)
    ]
    extended = [x.astype(np.longdouble) if x.dtype.kind == "f" else x for x in wide]
    with np.errstate(all="ignore"):
        try:
            expected = np.asarray(REFERENCES[record.name](*extended, **call[1]))
        except (TypeError, KeyError):
            return
        if expected.dtype != np.longdouble:
            return
        expected = expected.astype(np.float64)
        y = np.asarray(record.evaluate(wide, call[1]))
        scale = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
        loose = 1e-12 * scale + (1e-15 if record.kind == "opaque" else 0.0)
        np.testing.assert_allclose(y, expected, 1e-9, loose, err_msg="large inputs")
        if record.differentiable and np.isfinite(y).all():
            for g in gradients(record, (wide, call[1]), np.ones(y.shape)):
                assert not np.isnan(g).any(), "large inputs: a gradient is NaN"


def systematic_calls(record: Primitive, rng: np.random.Generator) -> Iterator[Call]:
    """Other geometries; every way to reduce three axes of different roles; zeros elsewhere."""
    yield from geometry_calls(record.name, rng)
    inputs, params = sample_call(record, rng)
    if record.kind == "reduction" and record.sample is None:
        for axis, keepdims in itertools.product([(1,), (0, 2), (0, 1, 2)], (False, True)):
            chosen = {"axis": axis, "keepdims": keepdims, "ddof": 1}
            yield [rng.standard_normal((2, 3, 2))], {k: chosen[k] for k in params}
    elif record.kind == "opaque" and record.name not in WELL_POSED:
        holes = [x * (rng.random(x.shape) < 0.7) if x.dtype.kind == "f" else x for x in inputs]
        yield holes, params


def _moved(record: Primitive, call: Call, k: int, at: tuple[int, ...]) -> Callable[[float], Any]:
    """The output as a function of one element."""
    inputs, params = call

    def value(t: float) -> Any:
        x = inputs[k].copy()
        x[at] = t
        changed = [*inputs[:k], x, *inputs[k + 1 :]]
        return np.asarray(record.evaluate(changed, params), np.float64)

    return value


def _slope(f: Callable[[float], Any], x: float) -> tuple[Any, Any]:
    """df/dt at ``x`` by three central differences extrapolated (Richardson), and its error."""
    h = 2e-3 * max(1.0, abs(x))
    wide, middle, narrow = ((f(x + t) - f(x - t)) / (2 * t) for t in (h, h / 2, h / 4))
    first, second = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
    best = (16 * second - first) / 15
    return best, np.abs(best - second) / 8 + 4e-16 * np.abs(f(x)) / h * 8


# ------------------------------------------------------------------------------------- at kinks

_GRID = (-1.0, 0.0, 0.5, 1.0)
_VECTORS = (
    [1.0, 1.0, 0.0],
    [0.0, 0.0, 0.0],
    [2.0, 2.0, 2.0],
    [-1.0, 0.0, -1.0],
    [0.0, 2.0, -3.0],
    [2.0],
)


def kink_calls(record: Primitive) -> Iterator[Call]:
    """Calls where rules are easily wrong: zeros, ones, ties, ends of the domain."""
    if record.kind == "elementwise":
        sample, params = sample_call(record, np.random.default_rng(0))
        axes = [
            [v for v in _GRID if low <= v <= high] if x.dtype.kind == "f" else [False, True]
            for x, (low, high) in zip(sample, record.domain, strict=True)
        ]
        for point in itertools.product(*axes):
            yield [np.asarray(v) for v in point], params
    elif record.kind == "reduction":
        _, params = sample_call(record, np.random.default_rng(0))
        for vector in _VECTORS:
            ddof = {"ddof": 1} if "ddof" in params else {}
            yield [np.array(vector)], params | {"axis": (0,)} | ddof


def gradient_is_shortest(record: Primitive, call: Call, rng: np.random.Generator) -> None:
    """At a kink the gradient is the shortest convex combination of the gradients nearby; at a pole
    it is beyond them all, with their sign. Where they neither settle nor grow nothing is asked."""
    inputs, params = call
    if record.name in POLICY:
        return _follows_policy(record, call, rng)
    places = moving(record, inputs)
    v = signed(rng, np.shape(record.evaluate(inputs, params)))
    sizes = [inputs[k].size for k in places]
    here = np.concatenate([inputs[k].ravel() for k in places])

    def value(point: Any) -> float:
        parts = iter(np.split(point, np.cumsum(sizes)[:-1]))
        full = [next(parts).reshape(x.shape) if k in places else x for k, x in enumerate(inputs)]
        return float(np.sum(v * record.evaluate(full, params)))

    low = np.concatenate(
        [np.full(n, (record.domain[k] if record.domain else (-np.inf,))[0])
         for k, n in zip(places, sizes, strict=True)]
    )  # fmt: skip
    nearby: dict[float, list[Any]] = {1e-3: [], 1e-4: []}
    jumps = False
    for _ in range(12):
        way = rng.uniform(0.3, 1.0, here.size) * rng.choice([-1.0, 1.0], here.size)
        for turned, reach in itertools.product((way, -way), nearby):
            point = here + reach * np.where(here + reach * turned < low, np.abs(turned), turned)
            jumps |= not abs(value(point) - value(here)) < 0.05
            nearby[reach].append(_gradient(value, point, reach * 1e-2))
    far, near = (np.array(g) for g in nearby.values())
    found = np.concatenate([g.ravel() for g in gradients(record, call, v)])
    if jumps and np.isfinite(value(here)):
        return
    poles = (np.abs(near) > 2 * np.abs(far)).all(0) & (near * near[0] > 0).all(0)
    for k in np.flatnonzero(poles & (np.abs(near) > 1).all(0)):
        assert found[k] * near[0, k] > 0 and abs(found[k]) > np.abs(near[:, k]).max(), (
            f"at the pole {here}: {found[k]}, nearby {near[0, k]}"
        )
    if jumps or not (np.isfinite(near).all() and np.abs(far - near).max() < 0.02):
        return
    expected = _shortest(near)
    np.testing.assert_allclose(found, expected, atol=0.03, err_msg=f"at the kink {here}")


def _clip_slopes(x: float, low: float, high: float) -> tuple[int, int, int]:
    if low > high:
        return 0, 0, 1
    return (0, 1, 0) if x < low else (0, 0, 1) if x > high else (1, 0, 0)


#: Operations whose gradient at a kink or jump is not the shortest one nearby, and what it is:
#: clip and elu follow PyTorch, and the others jump there. None: nothing is promised.
POLICY: dict[str, Callable[..., Any]] = {
    "clip": _clip_slopes,
    "elu": lambda x, alpha: (1 if x > 0 else alpha * np.exp(x),),
    "arctan2": lambda a, b: (0, 0) if a == b == 0 else (b / (a * a + b * b), -a / (a * a + b * b)),
    "floor_divide": lambda a, b: (0, 0),
    "remainder": lambda a, b: (1, -np.floor(a / b)) if b else None,
}


def _follows_policy(record: Primitive, call: Call, rng: np.random.Generator) -> None:
    inputs, params = call
    expected = POLICY[record.name](*map(float, inputs), **params)
    v = signed(rng, ())
    if expected is not None:
        np.testing.assert_allclose(
            gradients(record, call, v), v * np.asarray(expected, float), err_msg=str(inputs)
        )


def _gradient(value: Callable[[Any], float], point: Any, h: float) -> Any:
    steps = h * np.eye(point.size)
    return np.array([(value(point + s) - value(point - s)) / (2 * h) for s in steps])


def _shortest(points: Any) -> Any:
    """The point nearest to 0 in the convex hull of ``points`` (Gilbert's algorithm)."""
    best = points[0]
    for _ in range(400):
        far = points[np.argmin(points @ best)]
        step = best - far
        length = float(step @ step)
        if length == 0 or float(best @ step) <= 1e-12:
            break
        best = best - min(float(best @ step) / length, 1.0) * step
    return best
