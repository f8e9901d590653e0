"""What every operation must do, derived from its record alone: no line here knows an operation."""

import inspect

import numpy as np
import pytest
from gradcheck import check, signed
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai.explain.formula import forward_formula, vjp_formula
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing import sample_call
from tinygrad_ai.transforms import jvp, vjp, vmap

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


def pulled_back(record, inputs, params, v, dtype):
    """The gradients for cotangent ``v`` with all real inputs in ``dtype``."""
    tensors = [
        Tensor(x.astype(dtype), requires_grad=True) if x.dtype.kind == "f" else x for x in inputs
    ]
    out = record(*tensors, **params)
    if out.requires_grad:
        out.backward(v)
    return out, [tensors[k].grad for k in split(record, inputs) if out.requires_grad]


@pytest.mark.parametrize("name", SLOPED)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@given(seed=seeds)
def test_gradients_have_dtype_and_shape_of_their_input_and_its_precision(name, dtype, seed):
    record, inputs, params = call(name, seed)
    if dtype == np.float16 and record.name in NO_HALVES:
        return
    rounded = [x.astype(dtype) if x.dtype.kind == "f" else x for x in inputs]
    v = signed(np.random.default_rng(seed), record(*inputs, **params).shape).astype(dtype)
    _, found = pulled_back(record, rounded, params, v, dtype)
    _, exact = pulled_back(record, rounded, params, v.astype(np.float64), np.float64)
    for k, g, h in zip(split(record, inputs), found, exact, strict=False):
        assert g.dtype == dtype and g.shape == inputs[k].shape
        if dtype != np.float16:  # half a digit more than a thousand roundings
            scale = float(abs(h.numpy()).max(initial=1e-3))
            np.testing.assert_allclose(
                g.numpy(), h.numpy(), rtol=2e3 * np.finfo(dtype).eps, atol=scale * 2e-4
            )


#: LAPACK knows no halves, so NumPy refuses them.
NO_HALVES = {"inv", "solve", "det", "logabsdet", "det_sign", "cofactor", "cholesky"}


@pytest.mark.parametrize("name", SLOPED)
@given(seed=seeds)
def test_inputs_are_unchanged_and_the_layout_does_not_matter(name, seed):
    record, inputs, params = call(name, seed)
    before = [x.copy() for x in inputs]
    here = [Tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    raw = record(*inputs, **params)
    plain = record(*(np.ascontiguousarray(x).reshape(x.shape) for x in inputs), **params)
    out = record(*here, **params)
    np.testing.assert_allclose(raw, plain, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(out.numpy(), plain, rtol=1e-12, atol=1e-12)
    if out.requires_grad:
        v = signed(np.random.default_rng(seed), out.shape)
        kept = v.copy()
        out.backward(v)
        np.testing.assert_array_equal(v, kept)
    for x, y in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("name", SLOPED)
@given(seed=seeds)
def test_rules_are_linear_in_the_cotangent_and_zero_gives_exact_zeros(name, seed):
    record, inputs, params = call(name, seed)
    moving = split(record, inputs)

    def pulled(v):
        tensors = [Tensor(x, requires_grad=k in moving) for k, x in enumerate(inputs)]
        out = record(*tensors, **params)
        out.backward(v)
        return [tensors[k].grad.numpy() for k in moving]

    shape = record(*inputs, **params).shape
    rng = np.random.default_rng(seed)
    u, v = signed(rng, shape), signed(rng, shape)
    for both, one, other in zip(pulled(2 * u - v), pulled(u), pulled(v), strict=True):
        np.testing.assert_allclose(both, 2 * one - other, rtol=1e-9, atol=1e-9)
    for g in pulled(np.zeros(shape)):
        assert not g.any()


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
