"""grad, vjp, jvp, vmap, jacobian, hessian, hvp, checkpoint, custom_vjp, detect_anomaly, nested."""

import warnings
from collections import namedtuple

import numpy as np
import pytest
from gradcheck import signed
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import random
from tinygrad_ai.creation import full_like, zeros_like
from tinygrad_ai.errors import AnomalyError, DeviceError, DTypeError, GraphError, ShapeError
from tinygrad_ai.ops import elementwise as el
from tinygrad_ai.ops import trigonometry as trig
from tinygrad_ai.ops.movement import concatenate
from tinygrad_ai.ops.products import matmul
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms import (
    checkpoint,
    custom_vjp,
    detect_anomaly,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    stop_gradient,
    value_and_grad,
    vjp,
    vmap,
)
from tinygrad_ai.transforms.tree import flatten, paths_of

rng = np.random.default_rng(7)
A = rng.standard_normal((3, 4))
X = rng.standard_normal((5, 4))
x0, v0 = rng.standard_normal(4), rng.standard_normal(4)


def f(x):
    """A scalar of a vector with mixed second derivatives."""
    return (el.tanh(Tensor(A) @ x) ** 2).sum() * trig.sin(x).sum()


def difference(h, x, e=1e-5):
    return np.stack(
        [
            (h(Tensor(x + e * d)).numpy() - h(Tensor(x - e * d)).numpy()) / (2 * e)
            for d in np.eye(4)
        ],
        axis=-1,
    )


def test_grad_and_value_and_grad():
    value, g = value_and_grad(f)(x0)
    assert value.item() == f(Tensor(x0)).item() and not g.requires_grad
    np.testing.assert_allclose(g.numpy(), difference(f, x0), rtol=1e-8)
    np.testing.assert_array_equal(grad(f)(x0).numpy(), g.numpy())


def test_third_derivative_of_tanh():
    third = grad(grad(grad(el.tanh)))
    for point in (-1.3, 0.0, 0.3, 2.0):
        t = np.tanh(point)
        exact = (1 - t * t) * (6 * t * t - 2)
        assert abs(third(np.array(point)).item() - exact) < 1e-10


def test_argnums_keywords_and_structures():
    def loss(p, scale, *, shift):
        return (p["w"] * scale + p["b"][0] * shift).sum()

    p = {"w": np.array([1.0, 2.0]), "b": (np.array([3.0, 4.0]), np.array(5.0))}
    g = grad(loss)(p, 2.0, shift=10.0)
    np.testing.assert_array_equal(g["w"].numpy(), [2, 2])
    np.testing.assert_array_equal(g["b"][0].numpy(), [10, 10])
    assert isinstance(g["b"], tuple) and g["b"][1].item() == 0
    gp, gs = grad(loss, argnums=(0, 1))(p, np.array(2.0), shift=10.0)
    assert gs.item() == 3.0 and set(gp) == {"w", "b"}
    Point = namedtuple("Point", "x y")
    got = grad(lambda q: q.x * q.y)(Point(np.array(2.0), np.array(3.0)))
    assert isinstance(got, Point) and got.x.item() == 3.0


def test_wrong_use_of_grad_is_explained():
    with pytest.raises(GraphError, match=r"returns shape \(4,\); it must return a scalar"):
        grad(el.tanh)(x0)
    with pytest.raises(DTypeError, match="only floating-point arguments have gradients"):
        grad(lambda n: n * 2.0)(3)
    with pytest.raises(ShapeError, match="argnums 2 of a call with 1"):
        grad(f, argnums=2)(x0)


def test_a_gradient_is_recorded_exactly_if_something_else_is_differentiated():
    w = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    inner = grad(lambda x: (x * x * w).sum())(np.array([3.0, -1.0]))
    assert inner.requires_grad
    (inner * np.array([1.0, 10.0])).sum().backward()
    np.testing.assert_array_equal(w.grad.numpy(), [6.0, -20.0])


def test_perturbations_are_not_confused():
    # d/dx [x · d/dy (x + y)] = 1: an engine that mixes up the two levels says 2
    outer = grad(lambda x: x * grad(lambda y: x + y)(np.array(1.0)))
    assert outer(np.array(1.0)).item() == 1.0
    out, tangent = jvp(
        lambda x: x * jvp(lambda y: x + y, (np.array(1.0),), (np.array(1.0),))[1],
        (np.array(1.0),),
        (np.array(1.0),),
    )
    assert out.item() == 1.0 and tangent.item() == 1.0


def test_grad_does_not_rewrap_so_an_argument_that_is_captured_too_stays_constant():
    x = Tensor(np.array(3.0), requires_grad=True)
    assert grad(lambda z: z * x)(x).item() == 3.0


def test_vjp_may_be_pulled_back_twice_and_takes_structures():
    out, pullback = vjp(lambda a, b: {"p": a * b, "s": a + b}, np.array(2.0), np.array(5.0))
    assert out["p"].item() == 10.0
    for _ in range(2):
        ga, gb = pullback({"p": np.array(1.0), "s": np.array(-3.0)})
        assert (ga.item(), gb.item()) == (2.0, -1.0)
    with pytest.raises(ShapeError, match="1 cotangents for 2 outputs"):
        pullback(np.array(1.0))


def test_jvp_and_hvp():
    out, t = jvp(lambda x: el.exp(Tensor(A) @ x), (x0,), (v0,))
    np.testing.assert_allclose(t.numpy(), np.exp(A @ x0) * (A @ v0), rtol=1e-12)
    assert out.shape == (3,)
    np.testing.assert_allclose(hvp(f, x0, v0).numpy(), hessian(f)(x0).numpy() @ v0, rtol=1e-10)
    with pytest.raises(ShapeError, match=r"tangent of shape \(3,\)"):
        jvp(f, (x0,), (np.ones(3),))
    with pytest.raises(ShapeError, match="2 tangents for 1 arguments"):
        jvp(f, (x0,), (x0, x0))


def test_jacobian_and_hessian():
    def h(x):
        return el.tanh(Tensor(A) @ x)

    np.testing.assert_allclose(jacobian(h)(x0).numpy(), difference(h, x0), rtol=1e-7)
    second = hessian(f)(x0).numpy()
    np.testing.assert_allclose(second, difference(grad(f), x0), rtol=1e-6)
    np.testing.assert_allclose(second, second.T, rtol=1e-12)
    j = jacobian(lambda a, b: a * b, argnums=(0, 1))(np.ones(2), np.array([2.0, 3.0]))
    np.testing.assert_array_equal(j[0].numpy(), np.diag([2.0, 3.0]))
    np.testing.assert_array_equal(j[1].numpy(), np.eye(2))


def test_derivative_of_the_determinant_of_a_hessian_nests():
    g = grad(lambda x: (hessian(f)(x) ** 2).sum())(x0)
    wanted = difference(lambda x: (hessian(f)(x) ** 2).sum(), x0)
    np.testing.assert_allclose(g.numpy(), wanted, rtol=1e-6)


def test_vmap_of_grad_and_grad_of_vmap():
    per_example = vmap(grad(f))(X)
    np.testing.assert_allclose(
        per_example.numpy(), np.stack([grad(f)(x).numpy() for x in X]), rtol=1e-12
    )
    w = Tensor(A, requires_grad=True)

    def total(w):
        return vmap(lambda x: (el.tanh(matmul(w, x)) ** 2).sum())(X).sum()

    def plain(w):
        return (el.tanh(Tensor(X) @ w.T) ** 2).sum()

    np.testing.assert_allclose(grad(total)(w).numpy(), grad(plain)(w).numpy(), rtol=1e-12)
    each = vmap(lambda x: grad(lambda w: (el.tanh(matmul(w, x)) ** 2).sum())(w))(X)
    assert each.shape == (5, 3, 4)
    np.testing.assert_allclose(each.numpy().sum(0), grad(plain)(w).numpy(), rtol=1e-12)


def test_vmap_nests_and_takes_axes_and_structures():
    def outer(a, b):
        return vmap(lambda p: vmap(lambda q: p * q)(b))(a)

    a, b = np.arange(3.0), np.arange(4.0)
    np.testing.assert_array_equal(outer(Tensor(a), Tensor(b)).numpy(), np.outer(a, b))
    out = vmap(lambda d, c: {"s": d["x"] + c, "c": c}, in_axes=(1, None), out_axes=1)(
        {"x": np.arange(6.0).reshape(2, 3)}, np.array([10.0, 20.0])
    )
    np.testing.assert_array_equal(out["s"].numpy(), [[10, 11, 12], [23, 24, 25]])
    assert out["c"].shape == (2, 3)
    with pytest.raises(ShapeError, match=r"batch sizes differ: \[2, 3\]"):
        vmap(lambda a, b: a + b)(np.ones(2), np.ones(3))


def test_vmap_says_once_what_it_loops_over():
    def pick(x, i):
        return x[i]

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            out = vmap(pick)(X, np.array([0, 3, 1, 2, 2]))
    np.testing.assert_array_equal(out.numpy(), X[np.arange(5), [0, 3, 1, 2, 2]])
    assert len([w for w in seen if "no batching rule" in str(w.message)]) <= 1


def test_custom_vjp_with_one_argument_and_several_outputs():
    @custom_vjp
    def cube(x):
        y = x * x * x
        return y, lambda g: g * 3 * x * x

    np.testing.assert_allclose(grad(lambda x: cube(x).sum())(x0).numpy(), 3 * x0**2)
    np.testing.assert_allclose(
        hessian(lambda x: cube(x).sum())(x0).numpy(), np.diag(6 * x0), rtol=1e-12
    )

    @custom_vjp
    def both(a, b):
        return {"p": a * b, "q": a - b}, lambda g: (g["p"] * b + g["q"], None)

    def loss(a, b):
        made = both(a, b)
        return made["p"] * made["q"]

    ga, gb = grad(loss, (0, 1))(np.array(2.0), np.array(5.0))
    assert ga.item() == -3.0 * 5.0 + 10.0 and gb.item() == 0.0
    np.testing.assert_allclose(vmap(grad(lambda x: cube(x)))(x0).numpy(), 3 * x0**2)


def test_custom_vjp_that_reads_its_output_has_second_derivatives():
    @custom_vjp
    def e(x):
        y = el.exp(x)
        return y, lambda g: g * y

    assert abs(grad(grad(e))(np.array(0.7)).item() - np.exp(0.7)) < 1e-12


def test_custom_vjp_wrong_pullbacks_are_explained():
    @custom_vjp
    def wrong_shape(x):
        return x * 2, lambda g: g.sum()

    @custom_vjp
    def no_pullback(x):
        return x * 2

    @custom_vjp
    def too_few(a, b):
        return a * b, lambda g: (g,)

    with pytest.raises(ShapeError, match=r"wrong_shape: .*shape \(\) for argument 0"):
        grad(lambda x: wrong_shape(x).sum())(x0)
    with pytest.raises(ShapeError, match=r"no_pullback must return \(out, pullback\)"):
        no_pullback(x0)
    with pytest.raises(ShapeError, match="must return 2 gradients"):
        grad(lambda a: too_few(a, a).sum())(x0)


def test_checkpoint_gives_the_same_gradients_keeps_less_and_repeats_its_random_numbers():
    w = Tensor(rng.standard_normal((4, 4)), requires_grad=True)
    runs = []

    def block(x):
        runs.append(1)
        noise = random.randn(4, dtype=np.float64)
        return el.tanh(el.tanh(w @ x) * noise) * x

    def gradients(g):
        random.manual_seed(3)
        vjp(lambda x, w: (g(x) ** 2).sum(), x0, w)
        random.rand(5)
        after = random.generator().state_dict()
        w.grad = None
        random.manual_seed(3)
        x = Tensor(x0, requires_grad=True)
        (g(x) * signed(np.random.default_rng(1), (4,))).sum().backward()
        return x.grad.numpy(), w.grad.numpy(), after

    plain = gradients(block)
    assert len(runs) == 2
    runs.clear()
    saving = checkpoint(block)
    kept = gradients(saving)
    assert len(runs) == 3  # vjp is never pulled back; backward runs the block once more
    for a, b in zip(plain[:2], kept[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    out = saving(Tensor(x0, requires_grad=True))
    assert callable(out.node.saved)


def test_checkpoint_notices_a_function_that_changes():
    calls = []

    def fickle(x):
        calls.append(1)
        return x * x if len(calls) == 1 else x * x * x

    out = checkpoint(fickle)(Tensor(x0, requires_grad=True))
    with pytest.raises(GraphError, match="second run recorded 2 operations, the first 1"):
        out.sum().backward()


def test_checkpoint_has_second_derivatives():
    saving = checkpoint(lambda x: el.tanh(x) * x)
    plain = hessian(lambda x: (el.tanh(x) * x).sum())(x0)
    np.testing.assert_array_equal(hessian(lambda x: saving(x).sum())(x0).numpy(), plain.numpy())


def test_detect_anomaly_names_the_first_operation_and_the_line():
    wrong = pytest.raises(AnomalyError, match="log made a NaN or an infinity")
    with wrong as caught, detect_anomaly():
        el.exp(el.log(Tensor([1.0, -1.0])))  # the line
    assert "test_transforms.py" in caught.value.__notes__[0]
    x = Tensor([0.0], requires_grad=True)
    wrong = pytest.raises(AnomalyError, match="backward of sqrt made a NaN")
    with wrong as caught, detect_anomaly():
        el.sqrt(x).sum().backward()
    assert "test_transforms.py" in caught.value.__notes__[0]
    with detect_anomaly():
        masked = el.where(Tensor([True, False]), -np.inf, Tensor([1.0, 2.0]))
        el.exp(masked)  # an infinity that was put there on purpose
    el.log(Tensor([-1.0]))  # off again


def test_stop_gradient():
    g = grad(lambda x: (x * stop_gradient(x)).sum())(x0)
    np.testing.assert_array_equal(g.numpy(), x0)


@given(st.integers(0, 10_000))
def test_forward_over_reverse_equals_reverse_over_reverse(seed):
    r = np.random.default_rng(seed)
    x, v = r.standard_normal(4), r.standard_normal(4)
    forward = jvp(grad(f), (x,), (v,))[1].numpy()
    back = grad(lambda x: (grad(f)(x) * v).sum())(x).numpy()
    np.testing.assert_allclose(forward, back, rtol=1e-9, atol=1e-12)


@custom_vjp
def product_and_difference(a, b):
    return (a * b, a - b), lambda g: (g[0] * b + g[1], g[0] * a - g[1])


@pytest.mark.parametrize("k", [0, 1])
def test_forward_mode_through_a_custom_function_with_several_outputs(k):
    a, b, s, t = (signed(np.random.default_rng(n), (3,)) for n in range(4))
    tangent = jvp(lambda a, b: product_and_difference(a, b)[k], (a, b), (s, t))[1]
    np.testing.assert_allclose(tangent.numpy(), (s * b + a * t, s - t)[k])

    def f(a):
        p, d = product_and_difference(a, a * a)
        return (p * d * d).sum()

    plain = hvp(lambda a: (a**3 * (a - a * a) ** 2).sum(), a, s)
    np.testing.assert_allclose(hvp(f, a, s).numpy(), plain.numpy(), rtol=1e-10)


def test_a_custom_function_leaves_the_callers_tensors_alone():
    @custom_vjp
    def scaled(x, w):
        return x, lambda g: (None, g * x)

    x, w = Tensor([1.0, -2.0]), Tensor([3.0, 4.0], requires_grad=True)
    y = scaled(x, w)
    y.backward(np.array([1.0, 2.0]))
    assert y.requires_grad and not x.requires_grad and w.grad.tolist() == [1.0, -4.0]


@pytest.mark.parametrize("wrap", [checkpoint, None])
def test_changes_in_place_of_what_runs_again_are_caught(wrap):
    @custom_vjp
    def custom(c, x):
        return c * x, lambda g: (None, g * c)

    call = checkpoint(lambda c, x: el.tanh((c + 1) * x)) if wrap else custom
    c, x = Tensor([1.0, 2.0]), Tensor([3.0, 4.0], requires_grad=True)
    out = call(c, x).sum()
    c[0] = 7.0
    with pytest.raises(GraphError, match="an argument or output was changed in place"):
        out.backward()


def test_forward_mode_beside_an_infinite_constant():
    out = jvp(lambda x: concatenate([x, np.array([np.inf, np.nan])]), (x0,), (v0,))[1]
    np.testing.assert_array_equal(out.numpy(), [*v0, 0, 0])


def test_wrong_arguments_of_jacobian_and_grad():
    whole = np.array([1, 2])
    for call, error, said in (
        (lambda: jacobian(lambda x: x * 2)(whole), DTypeError, "this one is int64"),
        (lambda: jacobian(lambda x: "x")(x0), DTypeError, "returns str; it must return tensors"),
        (lambda: jacobian(f, argnums=2)(x0), ShapeError, "argnums 2 of a call with 1"),
        (lambda: grad(f, argnums=(0, -1))(x0), ShapeError, "names an argument twice"),
        (lambda: grad(f, argnums="x")(x0), DTypeError, "argnums must be an integer"),
    ):
        with pytest.raises(error, match=said):
            call()
    assert not jacobian(lambda x: 2.0)(x0).numpy().any()


def _assigns(r):
    r[0] = 1.0
    return r


w0 = Tensor(x0, requires_grad=True)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: vmap(lambda r: r[r > 0])(X), GraphError, "each example would have another shape"),
        (lambda: vmap(_assigns)(X), GraphError, "assignment inside vmap"),
        (lambda: vmap(lambda r: (r * w0).sum().backward())(X), GraphError, "backward inside vmap"),
        (lambda: vmap(lambda r: float(r.sum()))(X), DeviceError, "no values to read"),
        (lambda: vmap(f)(3.0), ShapeError, "in_axes 0 is out of bounds"),
        (lambda: vmap(f, in_axes=3)(X), ShapeError, "in_axes 3 is out of bounds"),
        (lambda: vmap(f, in_axes={"x": 0}), DTypeError, "in_axes is an integer"),
        (lambda: vmap(f, out_axes=(0, 1)), DTypeError, "out_axes is one integer"),
        (lambda: vmap(f)(x=X), DTypeError, "pass 'x' by position"),
        (lambda: vmap(f)("X"), DTypeError, "str has no batch axis"),
        (lambda: vmap(lambda r: r.device)(X), DTypeError, "returns str, not tensors"),
        (
            lambda: vmap(lambda r, k: r[k])(X[:0], np.zeros(0, int)),
            ShapeError,
            "runs once per example, but there are none",
        ),
    ],
)
def test_what_vmap_cannot_do_is_explained(call, error, said):
    with pytest.raises(error, match=said):
        call()


def test_new_and_random_tensors_inside_vmap():
    made = vmap(lambda r: (zeros_like(r) + r, full_like(r, 2.0) * r))(X)
    np.testing.assert_array_equal(made[0].numpy(), X)
    np.testing.assert_array_equal(made[1].numpy(), 2 * X)
    with pytest.warns(UserWarning, match="the same for every example"):
        noise = vmap(lambda r: r * 0 + random.rand(4))(X).numpy()
    assert (noise == noise[0]).all() and noise[0].any()


class Word:
    """Two of these are two keys with one text."""

    def __repr__(self):
        return "Word"


Edge = namedtuple("Edge", "begin end")
TREES = st.recursive(
    st.integers() | st.none(),
    lambda t: st.lists(t) | st.tuples(t, t) | st.dictionaries(st.builds(Word) | st.text(), t),
)


@given(TREES)
def test_every_leaf_has_a_path(tree):
    assert len(paths_of(tree, "x")) == len(flatten(tree)[0])


def test_paths_are_what_one_would_write():
    tree = {"a": [1, (2, None)], 3: Edge(4, [5])}
    assert paths_of(tree, "t") == ["t['a'][0]", "t['a'][1][0]", "t[3].begin", "t[3].end[0]"]
