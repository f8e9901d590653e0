"""The corpora for gradient checkers are what they claim: the wrong wrong, the correct correct.

Nothing here uses a checker, or this library. Wrong rules are compared with sixth-order central
differences, in long double where the function allows it; correct ones with the complex step,
with a formula of another form, or, at kinks, with the one-sided slopes.
"""

from typing import get_args

import numpy as np
import pytest

from benchmarks.truth.case import Array, Case, Cause, Function, Idiom
from benchmarks.truth.correct import CORRECT
from benchmarks.truth.correct_kinks import AT_KINKS
from benchmarks.truth.wrong import WRONG

SEEDS = (0, 1, 2)
STEP = 1e-3  # 3 steps stay within the gap of 0.1 that the inputs keep from kinks
WEIGHTS = ((1, 45 / 60), (2, -9 / 60), (3, 1 / 60))


def _named(cases: tuple[Case, ...], *causes: Cause, exclude: bool = False) -> list[object]:
    chosen = [c for c in cases if not causes or (c.cause in causes) != exclude]
    return [pytest.param(case, id=case.name) for case in chosen]


def _outputs(f: Function, arrays: list[Array]) -> tuple[Array, ...]:
    result = f(*[a.copy() for a in arrays])
    return result if isinstance(result, tuple) else (result,)


def _cotangent(case: Case, rng: np.random.Generator, scale: float = 3) -> tuple[Array, ...]:
    """Signed random cotangents, large enough that some exceed one in magnitude."""
    arrays = case.inputs(np.random.default_rng(0))
    outs = _outputs(case.f, arrays)
    return tuple((scale * rng.standard_normal(y.shape)).astype(y.dtype) for y in outs)


def _pull(rule: Function, g: tuple[Array, ...], arrays: list[Array]) -> tuple[Array, ...]:
    copies = [part.copy() for part in g]
    return rule(copies[0] if len(g) == 1 else tuple(copies), *[a.copy() for a in arrays])


def _contract(g: tuple[Array, ...], outputs: tuple[Array, ...]) -> Array:
    return sum((part * y).sum() for part, y in zip(g, outputs, strict=True))


def _slope(case: Case, g: tuple[Array, ...], arrays: list[Array], way: list[Array]) -> float:
    """d/dt of <g, f(arrays + t way)> at 0."""

    def along(t: float) -> Array:
        return _contract(g, _outputs(case.f, [a + t * w for a, w in zip(arrays, way, strict=True)]))

    return float(sum(w * (along(k * STEP) - along(-k * STEP)) for k, w in WEIGHTS) / STEP)


def _differences(case: Case, g: tuple[Array, ...], arrays: list[Array]) -> list[Array]:
    """The gradients of <g, f> by differences, coordinate by coordinate."""
    wide = [a.astype(np.longdouble) for a in arrays]
    try:
        case.f(*[a.copy() for a in wide])
    except TypeError:  # numpy.linalg has no long double
        wide = [a.astype(np.float64) for a in arrays]
    grads = []
    for position, array in enumerate(wide):
        grad = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            way = [np.zeros_like(a) for a in wide]
            way[position][index] = 1
            grad[index] = _slope(case, g, wide, way)
        grads.append(grad)
    return grads


def _error(found: tuple[Array, ...], truth: list[Array]) -> float:
    """The largest error of any gradient, relative to that gradient's largest entry."""
    assert [v.shape for v in found] == [t.shape for t in truth]
    sizes = [max(np.abs(t).max(), 1e-300) for t in truth]
    errors = [np.abs(v - t).max() for v, t in zip(found, truth, strict=True)]
    return float(max(e / s for e, s in zip(errors, sizes, strict=True)))


def test_names_are_unique_and_the_counts_suffice() -> None:
    names = [case.name for case in WRONG + CORRECT]
    assert len(set(names)) == len(names)
    assert min(len(WRONG), len(CORRECT)) >= 64
    assert {case.cause for case in WRONG} == set(Cause)
    assert {case.idiom for case in WRONG} == set(get_args(Idiom))


@pytest.mark.parametrize("case", _named(WRONG + CORRECT))
def test_case_is_well_formed(case: Case) -> None:
    arrays = case.inputs(np.random.default_rng(0))
    assert all(type(a) is np.ndarray and a.dtype == case.dtype for a in arrays)
    assert all(y.dtype == case.dtype for y in _outputs(case.f, arrays))
    again = case.inputs(np.random.default_rng(0))
    assert all(np.array_equal(a, b) for a, b in zip(arrays, again, strict=True))
    assert not any(np.shares_memory(a, b) for a, b in zip(arrays, again, strict=True))
    assert case.domain is None or len(case.domain) == len(arrays)
    assert case.note.endswith(".") and case.idiom in get_args(Idiom)
    assert (case.cause is None) == (case.right is None)
    assert case.cause not in case.also


OF_THEIR_OWN = (
    Cause.TIE,
    Cause.LOW_PRECISION,
    Cause.WRONG_DTYPE_OR_SHAPE,
    Cause.MUTATES_INPUT,
    Cause.ALIASING,
    Cause.RANDOM,
)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", _named(WRONG, Cause.TIE, exclude=True))
def test_right_twin_is_right(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    assert case.right is not None
    tolerance = 3e-6 if case.dtype == "float32" else 1e-9
    assert _error(_pull(case.right, g, arrays), _differences(case, g, arrays)) < tolerance


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", _named(WRONG, *OF_THEIR_OWN, exclude=True))
def test_wrong_one_is_wrong(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    found, truth = _pull(case.vjp, g, arrays), _differences(case, g, arrays)
    if [v.shape for v in found] == [t.shape for t in truth]:
        assert _error(found, truth) > 1e-5  # the reference is good to 1e-9
    else:
        assert Cause.WRONG_DTYPE_OR_SHAPE in case.also


@pytest.mark.parametrize("case", _named(WRONG, Cause.TIE))
def test_wrong_at_ties(case: Case) -> None:
    """Along the all-ones direction tied values stay tied, so the slope exists there."""
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    truth = _slope(case, g, arrays, [np.ones_like(a) for a in arrays])
    assert case.right is not None
    assert abs(sum(v.sum() for v in _pull(case.right, g, arrays)) - truth) < 1e-9
    assert abs(sum(v.sum() for v in _pull(case.vjp, g, arrays)) - truth) > 1e-2
    moved = [
        a + (0.01 * np.arange(a.size) + 0.005 * n).reshape(a.shape) for n, a in enumerate(arrays)
    ]
    assert _error(_pull(case.vjp, g, moved), _differences(case, g, moved)) < 1e-9


@pytest.mark.parametrize("case", _named(WRONG, Cause.LOW_PRECISION))
def test_wrong_in_its_precision(case: Case) -> None:
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    found, truth = _pull(case.vjp, g, arrays), _differences(case, g, arrays)
    assert all(v.dtype == np.float64 for v in found)
    assert 1e-9 < _error(found, truth) < 1e-5
    assert case.right is not None
    assert _error(_pull(case.right, g, arrays), truth) < 1e-12


@pytest.mark.parametrize("case", _named(WRONG, Cause.WRONG_DTYPE_OR_SHAPE))
def test_wrong_in_dtype_or_shape(case: Case) -> None:
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    found = _pull(case.vjp, g, arrays)
    pairs = zip(found, arrays, strict=True)
    assert any((v.dtype, v.shape) != (a.dtype, a.shape) for v, a in pairs)


@pytest.mark.parametrize("case", _named(WRONG, Cause.MUTATES_INPUT))
def test_wrong_by_mutation(case: Case) -> None:
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    assert _error(_pull(case.vjp, g, arrays), _differences(case, g, arrays)) < 1e-9
    before = [part.copy() for part in (*arrays, *g)]
    case.f(*arrays)
    case.vjp(g[0], *arrays)
    assert any(not np.array_equal(a, b) for a, b in zip(before, (*arrays, *g), strict=True))


@pytest.mark.parametrize("case", _named(WRONG, Cause.ALIASING))
def test_wrong_by_aliasing(case: Case) -> None:
    rng = np.random.default_rng(0)
    arrays = case.inputs(rng)
    first = case.vjp(_cotangent(case, rng)[0], *arrays)
    kept = [v.copy() for v in first]
    case.vjp(_cotangent(case, rng)[0], *arrays)
    assert not any(np.array_equal(v, k) for v, k in zip(first, kept, strict=True))


@pytest.mark.parametrize("case", _named(WRONG, Cause.RANDOM))
def test_wrong_by_chance(case: Case) -> None:
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    first, second = _pull(case.vjp, g, arrays), _pull(case.vjp, g, arrays)
    assert not np.array_equal(first[0], second[0])


def _ones(g: Array) -> Array:
    return np.ones_like(g)


def _unit(g: Array) -> Array:
    unit = np.zeros_like(g)
    unit.flat[1] = 1
    return unit


# Where a checker of the usual kind is blind: with these cotangents the wrong rule is right.
BLIND = {
    "flip not undone": _ones,
    "roll in the same direction": _ones,
    "permute with the same permutation": _ones,
    "transpose passed through": _ones,
    "reshape back in Fortran order": _ones,
    "softmax of ones": _ones,
    "sum ignores the cotangent": _ones,
    "sum of squares with the mean cotangent": _ones,
    "sum of rows expanded along the columns": _ones,
    "pad cropped from the start": _ones,
    "sort gathers instead of scattering": _ones,
    "mean squared error ignores the cotangent": _ones,
    "guided relu": np.abs,
    "exp of the cotangent's logarithm": np.abs,
    "sine with gradient clipping inside": _unit,
    "sine with a normalised cotangent": _unit,
}


@pytest.mark.parametrize("name", BLIND)
def test_wrong_one_hides_from_some_cotangents(name: str) -> None:
    case = next(case for case in WRONG if case.name == name)
    rng = np.random.default_rng(0)
    arrays = case.inputs(rng)
    g = (BLIND[name](_cotangent(case, rng)[0]),)
    (found,), (truth,) = _pull(case.vjp, g, arrays), _differences(case, g, arrays)
    assert np.abs(found - truth).max() < 1e-9


# Right at symmetric inputs, so wrong only where the corpus takes care not to be symmetric.
SYMMETRIC = {
    "linear layer with its square weight not transposed": 1,
    "inverse without the transposes": 0,
    "determinant without the transpose": 0,
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_wrong_one_hides_at_symmetric_inputs(name: str) -> None:
    case, position = next(case for case in WRONG if case.name == name), SYMMETRIC[name]
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    arrays[position] = arrays[position] + arrays[position].T
    assert _error(_pull(case.vjp, g, arrays), _differences(case, g, arrays)) < 1e-9


def _angle(y: Array, x: Array) -> Array:
    return 2 * np.arctan(y / (np.sqrt(x * x + y * y) + x))


def _det3(a: Array) -> Array:
    """Sarrus' rule."""
    down = a[0, 0] * a[1, 1] * a[2, 2] + a[0, 1] * a[1, 2] * a[2, 0] + a[0, 2] * a[1, 0] * a[2, 1]
    up = a[0, 2] * a[1, 1] * a[2, 0] + a[0, 0] * a[1, 2] * a[2, 1] + a[0, 1] * a[1, 0] * a[2, 2]
    return down - up


def _adjugate(a: Array) -> Array:
    return np.array([[a[1, 1], -a[0, 1]], [-a[1, 0], a[0, 0]]])


def _det2(a: Array) -> Array:
    return a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]


BITS = np.array([1.0, 0, 1, 0])

# The same function written in complex arithmetic, where f itself is not analytic code.
ANALYTIC = {
    "abs near 0": lambda x: np.where(x.real < 0, -x, x),
    "clip near its bounds": lambda x: np.minimum(np.maximum(x, -1), 1),
    "median of nearly equal values": lambda x: np.sort(x)[x.size // 2],
    "arctan2 beside its branch cut": lambda y, x: np.arctan(y / x),
    "arctan2 on the axes": _angle,
    "hypot of 1e150": lambda x, y: np.sqrt(x * x + y * y),
    "Cartesian to polar": lambda x, y: (np.sqrt(x * x + y * y), _angle(y, x)),
    "sin² + cos²": lambda x: 1 + 0 * x,
    "sinc at and near 0": lambda x: np.prod([np.cos(x / 2**k) for k in range(1, 60)], axis=0),
    "sum of a softmax": lambda x: 1 + 0 * x[:, 0],
    "variance around a large mean": lambda x: ((x - x.mean()) ** 2).mean(),
    "binary cross-entropy of saturated logits": lambda x: np.log1p(np.exp(x)) - x * BITS,
    "determinant of a singular matrix": _det3,
    "determinant at rank one": _det3,
    "log-determinant at condition 1e8": lambda a: np.log(_det3(a)),
    "inverse at condition 4e8": lambda a: _adjugate(a) / _det2(a),
    "solve at condition 4e6": lambda a, b: _adjugate(a) @ b / _det2(a),
}

# Slopes in closed form where the complex step would underflow.
CLOSED = {"log1p(exp(x)) far out": lambda x: np.exp(x) / (1 + np.exp(x))}

# Jumps: constant within this step on both sides.
CONSTANT = {
    "floor just above integers": 1e-7,
    "round near a half": 1e-7,
    "sign near 0": 1e-7,
    "floor between integers": 0.1,
    "heaviside away from 0": 0.1,
}

# Relative to the sum of |terms|; conditions of 1e6 and more cost digits in rule or reference.
TOLERANCE = {
    "solve at condition 4e6": 1e-8,
    "log-determinant at condition 1e8": 1e-11,
    "variance as mean square minus squared mean": 1e-11,
}

# Gradients that are differences of terms of about this size: rounding is relative to the terms.
TERMS = {
    "x log x at tiny x": 1.0,
    "saturated softmax": 1.0,
    "softmax at a temperature of 1e-3": 1e3,
    "cross-entropy at a perfect fit": 1.0,
    "cross-entropy of huge logits": 1.0,
    "binary cross-entropy of saturated logits": 1.0,
    "causal attention masked by -1e30": 1.0,
    "tanh in float32": 1.0,
    "softmax in float32": 1.0,
    "layer norm in float32": 3.0,
}


def _jacobian(f: Function, arrays: list[Array], which: list[tuple[int, int]]) -> Array:
    """Complex-step columns of f, all outputs flattened and joined, for the chosen coordinates."""
    columns = []
    for position, flat in which:
        wide = [a.astype(complex) for a in arrays]
        step = 1e-30 * abs(arrays[position].flat[flat]) or 1e-200
        wide[position].flat[flat] += 1j * step
        columns.append(np.concatenate([np.imag(y).ravel() for y in _outputs(f, wide)]) / step)
    return np.array(columns)


def _chosen(arrays: list[Array], rng: np.random.Generator) -> list[tuple[int, int]]:
    """All coordinates, or first, last and 48 others of a large array."""
    chosen = []
    for position, array in enumerate(arrays):
        few = range(array.size)
        if array.size > 200:
            few = [0, array.size - 1, *map(int, rng.integers(array.size, size=48))]
        chosen += [(position, flat) for flat in few]
    return chosen


ROOT = np.sqrt(0.5)

# By hand: the gradients of the sum of all outputs, minimum-norm at kinks, ties shared.
AT_THE_KINK = {
    "relu at 0": ([0, 0, 0, 1],),
    "abs at 0": ([-1, 0, 0, 1],),
    "leaky relu at 0": ([0.1, 0.1, 1],),
    "relu6 at both bounds": ([0, 0, 1, 0, 0],),
    "clip at its bounds": ([1, 1, 1, 0, 0],),
    "max of rows with ties": ([[0, 0.5, 0.5, 0], [0.25] * 4, [0.5, 0, 0, 0.5]],),
    "max of seven equal values": ([1 / 7] * 7,),
    "maximum of two equal arrays": ([0.5, 1, 0.5], [0.5, 0, 0.5]),
    "minimum of two equal arrays": ([0.5, 0, 0.5], [0.5, 1, 0.5]),
    "maximum of an array with itself": ([1, 1, 1],),
    "norm of the zero vector": ([0] * 4,),
    "norm of rows, one of them zero": ([[0.6, 0.8, 0], [0, 0, 0], [1, 0, 0]],),
    "distance at an exact fit": ([0] * 3,),
    "hypot at the origin and on the axes": ([0, 1, 0, -ROOT], [0, 0, -1, ROOT]),
    "hinge loss exactly at the margin": ([0, 0, -1, 1],),
    "standard deviation of a constant": (
        [[0] * 4, np.array([-1.75, -0.75, 0.25, 2.25]) / np.sqrt(35)],
    ),
    "L1 loss at an exact fit": ([0] * 3,),
    "total variation of a flat signal": ([0, 0, -1, 1, 0],),
    "largest magnitude of a zero vector": ([0] * 3,),
    "max pooling over windows of zeros": ([0.5, 0.5, 0.5, 0.5, 1, 0],),
    "soft threshold at its threshold": ([0, 0, 0, 1, 1],),
    "Huber loss at delta": ([1, -1, 0, 1],),
    "x |x| at 0": ([0, 2e-9, 2e-4, 2],),
    "relu in float32 at and near 0": ([0, 1, 0, 1, 0, 1],),
}

KINKED = tuple(case for case in CORRECT if case.name in AT_THE_KINK)
SMOOTH = tuple(case for case in CORRECT if case.name not in {**AT_THE_KINK, **CONSTANT, **CLOSED})


def test_tables_name_cases_that_exist() -> None:
    tables = ANALYTIC, CLOSED, CONSTANT, TOLERANCE, TERMS, AT_THE_KINK
    assert {name for table in tables for name in table} <= {case.name for case in CORRECT}
    assert set(AT_KINKS) <= set(KINKED)


@pytest.mark.parametrize("case", _named(CORRECT))
def test_correct_one_keeps_the_conventions(case: Case) -> None:
    """Shapes and dtypes; nothing changed or shared; exactly linear at 0, repeatable."""
    rng = np.random.default_rng(0)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    before = [part.copy() for part in (*arrays, *g)]
    found = case.vjp(g[0] if len(g) == 1 else g, *arrays)
    pairs = list(zip(found, arrays, strict=True))
    assert all((v.shape, v.dtype) == (a.shape, a.dtype) for v, a in pairs)
    assert all(np.isfinite(v).all() for v in found)
    assert all(np.array_equal(a, b) for a, b in zip(before, (*arrays, *g), strict=True))
    assert not any(np.shares_memory(v, w) for i, v in enumerate(found) for w in found[:i])
    assert not any(np.shares_memory(v, a) for v in found for a in arrays)
    again = _pull(case.vjp, g, arrays)
    assert all(np.allclose(v, w, rtol=1e-14, atol=0) for v, w in zip(found, again, strict=True))
    nothing = _pull(case.vjp, tuple(0 * part for part in g), arrays)
    assert all((v == 0).all() for v in nothing)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("case", _named(SMOOTH))
def test_correct_one_is_correct(case: Case, seed: int) -> None:
    rng = np.random.default_rng(seed)
    arrays, g = case.inputs(rng), _cotangent(case, rng)
    chosen = _chosen(arrays, rng)
    if not chosen:
        return
    jacobian = _jacobian(ANALYTIC.get(case.name, case.f), arrays, chosen)
    flat = np.concatenate([part.ravel() for part in g]).astype(float)
    found = np.array([_pull(case.vjp, g, arrays)[n].flat[i] for n, i in chosen], float)
    terms = np.abs(jacobian) @ np.abs(flat) + TERMS.get(case.name, 0) * np.abs(flat).max(initial=0)
    unit = TOLERANCE.get(case.name, 1e-13 if case.dtype == "float64" else 5e-7)
    assert (np.abs(found - jacobian @ flat) <= unit * terms).all()


@pytest.mark.parametrize("name", CLOSED)
def test_correct_one_is_correct_in_closed_form(name: str) -> None:
    case = next(case for case in CORRECT if case.name == name)
    (x,) = case.inputs(np.random.default_rng(0))
    (g,) = _cotangent(case, np.random.default_rng(0))
    np.testing.assert_allclose(case.vjp(g, x)[0], g * CLOSED[name](x), rtol=1e-13)


@pytest.mark.parametrize("name", CONSTANT)
def test_correct_one_is_constant_nearby(name: str) -> None:
    case = next(case for case in CORRECT if case.name == name)
    (x,), step = case.inputs(np.random.default_rng(0)), CONSTANT[name]
    assert np.array_equal(case.f(x - step), case.f(x))
    assert np.array_equal(case.f(x + step), case.f(x))
    assert (case.vjp(np.ones_like(x), x)[0] == 0).all()


@pytest.mark.parametrize("case", _named(KINKED))
def test_correct_one_is_the_least_subgradient(case: Case) -> None:
    arrays = case.inputs(np.random.default_rng(0))
    g = tuple(np.ones_like(y) for y in _outputs(case.f, arrays))
    found, expected = _pull(case.vjp, g, arrays), AT_THE_KINK[case.name]
    for v, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(v, np.array(e, float), rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("case", _named(KINKED))
def test_correct_one_lies_between_the_one_sided_slopes(case: Case) -> None:
    """Output by output, along each coordinate, the all-ones and random sign directions."""
    rng = np.random.default_rng(0)
    arrays = case.inputs(rng)
    (y,) = _outputs(case.f, arrays)
    wide, step = [a.astype(np.longdouble) for a in arrays], 1e-10
    centre = case.f(*wide).ravel()
    size = sum(a.size for a in arrays)
    signs = [rng.choice([-1.0, 1.0], size) for _ in range(5)]
    grads = []
    for k in range(y.size):
        g = np.zeros(y.shape, y.dtype)
        g.flat[k] = 1
        grads.append(np.concatenate([v.ravel() for v in case.vjp(g, *arrays)]))
    for way in (*np.eye(size), np.ones(size), *signs):
        parts = np.split(way, np.cumsum([a.size for a in arrays])[:-1])
        ways = [step * part.reshape(a.shape) for part, a in zip(parts, arrays, strict=True)]
        above = case.f(*[a + w for a, w in zip(wide, ways, strict=True)]).ravel() - centre
        below = centre - case.f(*[a - w for a, w in zip(wide, ways, strict=True)]).ravel()
        analytic = np.array(grads) @ way
        assert (analytic >= np.minimum(above, below) / step - 1e-7).all()
        assert (analytic <= np.maximum(above, below) / step + 1e-7).all()
