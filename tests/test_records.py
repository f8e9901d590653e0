"""What every operation must do, derived from its record alone: no line here knows an operation."""

import inspect

import numpy as np
import pytest
from gradcheck import check, signed
from hypothesis import given
from hypothesis import strategies as st
from library import LIBRARY

from tinygrad_ai.explain.formula import forward_formula, vjp_formula
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing import sample_call
from tinygrad_ai.testing.properties import PROPERTIES
from tinygrad_ai.testing.strategies import calls
from tinygrad_ai.transforms import jvp, vjp, vmap

#: LAPACK knows no halves, so NumPy refuses them.
NO_HALVES = {"inv", "solve", "det", "logabsdet", "det_sign", "cofactor", "cholesky"}
SLOPED = sorted(name for name, record in PRIMITIVES.items() if record.differentiable)
seeds = st.integers(0, 2**31)


def call(name, seed):
    record = PRIMITIVES[name]
    inputs, params = sample_call(record, np.random.default_rng(seed))
    return record, inputs, params


def split(record, inputs):
    """The positions of the inputs that gradients flow to."""
    return [k for k, x in enumerate(inputs) if x.dtype.kind == "f" and record.rule(k) is not None]


@pytest.mark.parametrize("name", SLOPED)
@given(seed=seeds)
def test_gradient_and_second_order_match_differences(name, seed):
    record, inputs, params = call(name, seed)
    check(lambda *xs: record(*xs, **params), *inputs, order=2, rtol=2e-5, seed=seed)


@pytest.mark.parametrize("name", SLOPED)
@given(seed=seeds)
def test_second_order_at_an_exact_fit_is_twice_the_gauss_newton_matrix(name, seed):
    """At f(x) = target the Hessian of ‖f - target‖² is 2·JᵀJ, whatever f's own curvature."""
    record, inputs, params = call(name, seed)
    rng = np.random.default_rng(seed + 3)
    moving = split(record, inputs)

    def f(*xs):
        full = list(inputs)
        for k, x in zip(moving, xs, strict=True):
            full[k] = x
        return record(*full, **params)

    points = [Tensor(inputs[k], requires_grad=True) for k in moving]
    target = f(*(p.detach() for p in points)).detach()
    ((f(*points) - target) ** 2).sum().backward(create_graph=True)
    directions = [signed(rng, p.shape) for p in points]
    slope = sum((p.grad * d).sum() for p, d in zip(points, directions, strict=True))
    for p in points:
        p.grad = None
    slope.backward()
    tangent = jvp(f, [p.detach() for p in points], directions)[1]
    expected = vjp(f, *(p.detach() for p in points))[1](2 * tangent)
    expected = expected if len(points) > 1 else (expected,)
    for p, e in zip(points, expected, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), e.numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", SLOPED)
@given(seed=seeds)
def test_jvp_is_the_transpose_of_vjp(name, seed):
    record, inputs, params = call(name, seed)
    rng = np.random.default_rng(seed + 1)
    moving = split(record, inputs)

    def f(*xs):
        full = list(inputs)
        for k, x in zip(moving, xs, strict=True):
            full[k] = x
        return record(*full, **params)

    points = [inputs[k] for k in moving]
    tangents = [signed(rng, x.shape) for x in points]
    out, pushed = jvp(f, points, tangents)
    v = signed(rng, out.shape)
    pulled = vjp(f, *points)[1](v)
    pulled = pulled if len(points) > 1 else (pulled,)
    left = float((v * pushed.numpy()).sum())
    terms = [t * g.numpy() for t, g in zip(tangents, pulled, strict=True)]
    scale = sum(float(abs(t).sum()) for t in terms) + 1e-12
    assert abs(left - sum(float(t.sum()) for t in terms)) < 1e-9 * scale


@pytest.mark.filterwarnings("ignore:vmap")
@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@given(seed=seeds)
def test_vmap_is_the_stack_of_single_calls(name, seed):
    record, inputs, params = call(name, seed)
    rng = np.random.default_rng(seed + 2)
    batched = [bool(rng.random() < 0.7) for _ in inputs]
    batched[rng.integers(len(inputs))] = True
    wide = [
        np.stack([x, x[::-1] if x.ndim and x.dtype.kind == "f" and name != "cholesky" else x, x])
        if b
        else x
        for x, b in zip(inputs, batched, strict=True)
    ]
    if record.kind == "opaque":  # a reversed matrix may leave the domain
        wide = [np.stack([x, x, x]) if b else x for x, b in zip(inputs, batched, strict=True)]
    axes = tuple(0 if b else None for b in batched)
    made = vmap(lambda *xs: record(*xs, **params), axes)(*map(Tensor, wide))
    single = [
        record(*(Tensor(x[k] if b else x) for x, b in zip(wide, batched, strict=True)), **params)
        for k in range(3)
    ]
    np.testing.assert_allclose(made.numpy(), np.stack([s.numpy() for s in single]), rtol=1e-10)


@pytest.mark.parametrize("name", SLOPED)
@given(data=st.data(), seed=seeds)
def test_every_property_holds(name, data, seed):
    """Linear, layouts, dtypes, memory, fan-out…: see tinygrad_ai.testing.properties."""
    record = PRIMITIVES[name]
    inputs, params = data.draw(calls(record))
    for prop, holds in PROPERTIES.items():
        try:
            holds(LIBRARY, lambda *xs: record(*xs, **params), inputs, np.random.default_rng(seed))
        except Exception as error:
            error.add_note(f"property {prop} of {name} with {params}")
            raise


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
@given(data=st.data())
def test_arrays_and_tensors_give_the_same_and_keep_their_values(name, data):
    record = PRIMITIVES[name]
    inputs, params = data.draw(calls(record))
    before = [x.copy() for x in inputs]
    raw = record(*inputs, **params)
    np.testing.assert_array_equal(record(*map(Tensor.box, inputs), **params).numpy(), raw)
    plain = record(*(np.array(x, order="C") for x in inputs), **params)
    np.testing.assert_allclose(raw, plain, rtol=1e-12, atol=1e-12)
    for x, y in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", sorted(set(SLOPED) - NO_HALVES))
def test_only_what_lapack_does_refuses_halves(name):
    """What the property of dtypes may skip: an operation that does not run in float16 at all."""
    record, inputs, params = call(name, 0)
    record(*(x.astype(np.float16) if x.dtype.kind == "f" else x for x in inputs), **params)


@pytest.mark.parametrize("name", sorted(PRIMITIVES))
def test_a_record_says_what_it_must(name):
    record = PRIMITIVES[name]
    assert len(record.why) > 8 and not record.why.endswith(".")
    assert forward_formula(record)
    for k, rule in enumerate(record.rules):
        if rule is not None:
            assert vjp_formula(record, k)
    assert len(record.rules) in (0, 1, record.arity) or record.variadic
    if record.kind == "elementwise":
        assert all(
            rule is None or not {"in_shape", "i"} & set(rule.sources) for rule in record.rules
        )
    assert inspect.signature(record.forward).parameters["xp"]
