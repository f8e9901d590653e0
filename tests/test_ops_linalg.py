"""Products, einsum and linear algebra: values against NumPy, gradients against differences."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import check, gradients, signed
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai.autodiff import Primitive
from tinygrad_ai.errors import ShapeError, ValueRangeError
from tinygrad_ai.ops import einsum as einsum_module
from tinygrad_ai.ops import linalg, products
from tinygrad_ai.ops.einsum import einsum
from tinygrad_ai.ops.linalg import (
    cholesky,
    det,
    dot,
    inv,
    linear,
    matmul,
    matrix_norm,
    outer,
    slogdet,
    solve,
    tensordot,
    trace,
    vecdot,
)
from tinygrad_ai.tensor import Tensor

RECORDS = {
    record.name: record
    for module in (products, linalg, einsum_module)
    for record in vars(module).values()
    if isinstance(record, Primitive) and record.sample and record.differentiable
}.values()


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(actual, expected, rtol=1e-12):
    array = actual.array if isinstance(actual, Tensor) else actual
    assert array.shape == np.shape(expected)
    np.testing.assert_allclose(array, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r.name)
def test_records_at_their_samples(record):
    inputs, params = record.sample(np.random.default_rng(1))
    check(lambda *xs: record(*xs, **params), *inputs, order=2)


# -------------------------------------------------------------------------------- products

SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((1, 1), (1, 5)),
    ((2, 3), (5, 3, 2)),
    ((5, 2, 3), (3, 7)),
    ((4, 1, 2, 3), (5, 3, 2)),
    ((3,), (5, 3, 2)),
    ((5, 2, 3), (3,)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((2, 2, 0), (0, 3)),
    ((0, 2, 3), (3, 2)),
]


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_matmul(left, right):
    a, b = normal(*left), normal(*right, seed=1)
    close(matmul(Tensor(a), Tensor(b)), a @ b)
    close(matmul(a, b), a @ b)
    check(matmul, a, b)


def test_matmul_second_order_and_layouts():
    a, b = normal(7, 3).T, normal(5, 2, 14)[..., ::-2]
    check(lambda a, b: matmul(matmul(a, a.T), b[:3, 0]), a, b, order=2)
    check(lambda a, b: matmul(b, a.T), a[:, :7], b, order=2)
    check(matmul, np.broadcast_to(normal(3, 1), (3, 4)), normal(4, 2))


def test_linear():
    x, w = normal(2, 5, 3), normal(4, 3, seed=1)
    close(linear(Tensor(x), Tensor(w)), x @ w.T)
    close(linear(Tensor(x[0, 0]), Tensor(w)), w @ x[0, 0])
    for shape in [(3,), (5, 3), (2, 5, 3), (0, 3), (2, 0, 3)]:
        check(linear, normal(*shape), w, order=2)
    g = gradients(linear, [x[0], w], normal(5, 4))[1]
    assert g.flags.c_contiguous and g.base is None


def test_halves_accumulate_in_float32():
    a = np.full((1, 4096), 0.01, np.float16)
    exact = np.float16(np.sum(a.astype(np.float64) ** 2))
    for y in (matmul(a, a.T), linear(a, a), einsum("ij,ij->i", a, a), vecdot(a, a)):
        assert y.dtype == np.float16 and y.ravel()[0] == exact
    (g, _) = gradients(linear, [np.full((4096, 1), 1.0, np.float16), a[:1, :1]], a.T)
    assert g.dtype == np.float16


def test_other_products():
    a, b, c = normal(2, 3, 4), normal(5, 4, 3), normal(4)
    close(dot(Tensor(a), Tensor(b)), np.dot(a, b))
    close(dot(Tensor(a), Tensor(c)), np.dot(a, c))
    close(dot(Tensor(c), Tensor(b)), np.dot(c, b))
    close(dot(Tensor(c), 2.0), 2 * c)
    close(outer(Tensor(a[0]), Tensor(c)), np.outer(a[0], c))
    close(vecdot(Tensor(a), Tensor(c)), np.vecdot(a, c))
    close(vecdot(Tensor(a), Tensor(b[:2].swapaxes(1, 2)), axis=0), np.vecdot(a, b[:2].mT, axis=0))
    close(trace(Tensor(a), 1, 2, 1), np.trace(a, 1, 2, 1))
    for axes in (1, ((1, 2), (2, 1)), (2, 1), ([], [])):
        x, y = (a, b.T) if axes == 1 else (a, b)
        x, y = (x, y[..., 0].T) if axes == 1 else (x, y)
        close(tensordot(Tensor(x), Tensor(y), axes), np.tensordot(x, y, axes))
        check(lambda x, y, axes=axes: tensordot(x, y, axes), x, y, order=2)
    close(tensordot(Tensor(a), Tensor(c), 0), np.tensordot(a, c, 0))
    check(dot, a, b)
    check(outer, a[0], c, order=2)
    check(vecdot, a, c, order=2)
    check(lambda x: trace(x, -1), a, order=2)


def test_mismatch_names_shapes_and_a_fix_that_works():
    x, W = Tensor(np.ones((32, 784))), Tensor(np.ones((100, 784)))
    with pytest.raises(ShapeError) as info:
        matmul(x, W)
    assert str(info.value) == "matmul: inner sizes differ: x (32, 784) @ W (100, 784)"
    picture, fix = info.value.__notes__
    shapes, carets = picture.split("\n")
    first = carets.index("^")
    second = carets.rindex("^^^")
    assert (shapes[first : first + 3], shapes[second : second + 3]) == ("784", "100")
    assert carets.replace("^", "").strip() == "must equal"
    assert fix == "   help: W.T has shape (784, 100); x @ W.T works and gives (32, 100)"
    assert matmul(x, W.T).shape == (32, 100)


@pytest.mark.parametrize(
    ("left", "right", "fix"),
    [
        ((3, 2), (3, 5), "a.T has shape (2, 3); a.T @ b works and gives (2, 5)"),
        ((2, 3), (5, 2), "b @ a works and gives (5, 3)"),
        ((4, 2, 3), (4, 5, 3), "swapaxes(b, -1, -2) has shape (4, 3, 5); "),
        ((2, 3), (5, 7), None),
        ((3,), (2, 3), "b.T has shape (3, 2); a @ b.T works and gives (2,)"),
        ((2, 3), (2,), "a.T has shape (3, 2); a.T @ b works and gives (3,)"),
    ],
)
def test_fixes(left, right, fix):
    with pytest.raises(ShapeError) as info:
        matmul(Tensor(np.ones(left)), Tensor(np.ones(right)))
    notes = info.value.__notes__
    assert len(notes) == 1 + (fix is not None)
    if fix is not None:
        assert notes[1].startswith(f"   help: {fix}")


def test_other_product_errors():
    with pytest.raises(ShapeError, match="at least one axis"):
        matmul(Tensor(2.0), Tensor(np.ones(3)))
    with pytest.raises(ShapeError, match="leading axes do not broadcast"):
        matmul(np.ones((2, 3, 4)), np.ones((5, 4, 3)))
    with pytest.raises(
        ShapeError, match=r"linear: input sizes differ: .* \(2, 3\) and .* \(3, 5\)"
    ) as e:
        linear(np.ones((2, 3)), np.ones((3, 5)))
    assert "(2, 5)" in e.value.__notes__[1]
    with pytest.raises(ShapeError, match="do not fit"):
        tensordot(np.ones((2, 3)), np.ones((2, 3)), 1)
    with pytest.raises(ShapeError, match="differ"):
        vecdot(np.ones(3), np.ones(4))


# ---------------------------------------------------------------------------------- einsum

SPECS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ba", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->ji", (3, 3, 2)),
    ("iii->i", (2, 2, 2)),
    ("abab->ba", (2, 3, 2, 3)),
    ("abcd->bd", (1, 2, 3, 2)),
    ("i,j,k->kij", (2,), (3,), (4,)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("b h q d, b h k d -> b h q k", (2, 2, 3, 4), (2, 2, 5, 4)),
    ("...ij,...jk->...ik", (5, 1, 2, 3), (4, 3, 2)),
    ("...i,i->...", (2, 3, 4), (4,)),
    ("i...,i...->...i", (2, 3), (2, 1, 3)),
    ("...,...", (2, 3), (3,)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,ij->ij", (2, 3), (1, 3)),
    ("ij,k->i", (2, 3), (4,)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("ab,bc,cd,de->ae", (2, 3), (3, 4), (4, 2), (2, 3)),
    ("ab,ab,ab->a", (2, 3), (2, 3), (2, 3)),
    (",ij->ji", (), (2, 3)),
    ("i,i", (0,), (0,)),
    ("ij,jk->ik", (2, 0), (0, 3)),
    ("->", ()),
]


@pytest.mark.parametrize(("spec", "shapes"), [(s[0], s[1:]) for s in SPECS])
def test_einsum(spec, shapes):
    arrays = [normal(*shape, seed=k) for k, shape in enumerate(shapes)]
    close(einsum(spec, *map(Tensor, arrays)), np.einsum(spec, *arrays))
    close(einsum(spec, *arrays), np.einsum(spec, *arrays))
    check(lambda *xs: einsum(spec, *xs), *arrays, order=2)


@given(st.data())
def test_einsum_of_random_letters(data):
    letters = st.lists(st.sampled_from("abcd"), max_size=4)
    words = data.draw(st.lists(letters, min_size=1, max_size=3))
    known = sorted({k for word in words for k in word})
    out = data.draw(st.lists(st.sampled_from(known), unique=True) if known else st.just([]))
    spec = ",".join(map("".join, words)) + "->" + "".join(out)
    size = dict(zip("abcd", (2, 3, 1, 2), strict=True))
    arrays = [normal(*(size[k] for k in word), seed=n) for n, word in enumerate(words)]
    close(einsum(spec, *arrays), np.einsum(spec, *arrays))
    check(lambda *xs: einsum(spec, *xs), *arrays)


@pytest.mark.parametrize(
    ("spec", "shapes", "message"),
    [
        (
            "ij,jk->ik",
            [(2, 3), (4, 5)],
            r"letter 'j' has size 3 in operand 0 .* and 4 in operand 1",
        ),
        ("ij->i", [(2, 3, 4)], r"operand 0 .*has shape \(2, 3, 4\), 3 axes, but 'ij' names 2"),
        ("ij,jk->ik", [(2, 3)], "names 2 operands, got 1"),
        ("ij->ik", [(2, 3)], "output letter 'k' is in no operand"),
        ("ij->ii", [(2, 3)], "output letter 'i' stands twice"),
        ("i1->i", [(2, 3)], "expected letters"),
        ("ii->i", [(2, 3)], r"letter 'i' names axes of sizes 2 and 3 of operand 0"),
        ("...i->i", [(2, 3)], "the output must have '...' too"),
        ("...i,...i->...", [(2, 3), (4, 3)], "an axis of '...' has size 2"),
    ],
)
def test_einsum_errors(spec, shapes, message):
    with pytest.raises(ShapeError, match=message):
        einsum(spec, *(np.ones(s) for s in shapes))


def test_einsum_corner_cases():
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    v = np.array([1.0, 10.0])
    np.testing.assert_array_equal(gradients(lambda a: einsum("ii->i", a), [a], v)[0], np.diag(v))
    g = gradients(lambda a: einsum("abcd->bd", a), [np.ones((1, 2, 1, 2))[:, :1]], [[1.0, 10.0]])
    np.testing.assert_array_equal(g[0], [[[[1.0, 10.0]]]])


# ------------------------------------------------------------------------- square matrices


def test_determinant_corner_cases():
    g = gradients(det, [np.array([[1.0, 0.0], [0.0, 0.0]])], 1.0)[0]
    np.testing.assert_allclose(g, [[0, 0], [0, 1]], atol=1e-15)
    g = gradients(inv, [np.array([[2.0, 0.0], [0.0, 4.0]])], np.ones((2, 2)))[0]
    np.testing.assert_array_equal(g, [[-0.25, -0.125], [-0.125, -0.0625]])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4])
def test_determinant_of_every_rank(n):
    for rank in range(n + 1):
        a = normal(n, rank) @ normal(rank, n, seed=1)
        close(det(Tensor(a)), np.linalg.det(a))
        check(det, a, order=2, rtol=1e-7)
    check(det, normal(2, 0, n, n), order=2)


def test_determinant_third_order():
    a = np.diag([2.0, 0.0, 0.0])
    check(lambda a: linalg.cofactor(linalg.minors(a)), a, order=2)
    check(linalg.cofactor, np.zeros((3, 3)), order=2)


def test_determinant_of_nan():
    a = np.array([[[1.0, np.nan], [0.0, 1.0]], [[1.0, 2.0], [3.0, 5.0]]])
    g = gradients(det, [a], np.ones(2))[0]
    assert np.isnan(g[0]).all()
    np.testing.assert_allclose(g[1], [[5, -3], [-2, 1]])


def test_values_of_factorisations():
    a, b = normal(2, 3, 3) + 3 * np.eye(3), normal(2, 3, 4)
    close(inv(Tensor(a)), np.linalg.inv(a))
    close(solve(Tensor(a), Tensor(b)), np.linalg.solve(a, b))
    close(solve(Tensor(a[0]), Tensor(b)), np.linalg.solve(a[0], b))
    close(solve(Tensor(a), Tensor(b[0, :, 0])), np.linalg.solve(a, b[0, :, 0]))
    result = slogdet(Tensor(-a))
    close(result.sign, np.linalg.slogdet(-a)[0])
    close(result.logabsdet, np.linalg.slogdet(-a)[1])
    spd = a @ a.mT
    close(cholesky(Tensor(spd)), np.linalg.cholesky(spd))
    close(cholesky(Tensor(spd), upper=True), np.linalg.cholesky(spd, upper=True))
    for ord in ("fro", 1, -1, np.inf, -np.inf):
        for keepdims in (False, True):
            close(
                matrix_norm(Tensor(b), ord, keepdims),
                np.linalg.matrix_norm(b, ord=ord, keepdims=keepdims),
            )


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_gradients_of_factorisations(n):
    a = normal(2, n, n) + 4 * np.eye(n)
    spd = a @ a.mT
    check(inv, a, order=2)
    check(lambda a: slogdet(-a).logabsdet, a, order=2)
    check(cholesky, spd, order=2, rtol=1e-5)
    check(solve, a, normal(2, n, 3), order=2)
    check(solve, a[0], normal(2, n, 3), order=2)
    check(solve, a, normal(n), order=2)


def test_cholesky_gradient_is_symmetric():
    a = normal(3, 3)
    g = gradients(cholesky, [a @ a.T], normal(3, 3, seed=1))[0]
    np.testing.assert_array_equal(g, g.T)


@pytest.mark.parametrize("ord", ["fro", 1, -1, np.inf, -np.inf])
def test_gradients_of_matrix_norms(ord):
    check(lambda x: matrix_norm(x, ord), normal(2, 3, 4), order=2, rtol=1e-5)


def test_frobenius_norm_of_zeros():
    g = gradients(matrix_norm, [np.zeros((2, 3))], 1.0)[0]
    np.testing.assert_array_equal(g, 0)


def test_halves_in_factorisations():
    a = (normal(3, 3) + 4 * np.eye(3)).astype(np.float16)
    for f in (inv, det, cholesky, lambda a: slogdet(a).logabsdet, lambda a: solve(a, a)):
        spd = (a + a.T) / np.float16(2)
        y = f(Tensor(spd))
        assert y.dtype == np.float16
        (g,) = gradients(f, [spd], np.ones(y.shape))
        assert g.dtype == np.float16 and g.shape == (3, 3)


def test_factorisation_errors():
    with pytest.raises(ValueRangeError, match=r"inv: .*\(2, 2\) is singular"):
        inv(Tensor(np.ones((2, 2))))
    with pytest.raises(ValueError, match=r"solve: .* is singular"):
        solve(Tensor(np.zeros((2, 2))), Tensor(np.ones(2)))
    with pytest.raises(ValueError, match=r"cholesky: .* is not positive definite"):
        cholesky(Tensor(-np.eye(2)))
    for f in (inv, det, slogdet, cholesky):
        with pytest.raises(ShapeError, match=r"needs square matrices .* \(2, 3\)"):
            f(Tensor(np.ones((2, 3))))
    with pytest.raises(ShapeError, match="solve: needs"):
        solve(np.eye(3), np.ones(2))
    with pytest.raises(NotImplementedError, match="'nuc'"):
        matrix_norm(np.eye(2), "nuc")


@pytest.mark.peers
@given(st.integers(1, 4), st.integers(0, 4), st.integers(0, 10**6))
def test_determinants_and_factors_like_torch(n, rank, seed):
    import torch  # noqa: PLC0415  (the extra `ci`)

    a = normal(n, min(rank, n), seed=seed) @ normal(min(rank, n), n, seed=seed + 1)
    full = a + 3 * np.eye(n)
    for ours, theirs, x in (
        (inv, torch.linalg.inv, full @ full.T + np.eye(n)),
        (lambda a: slogdet(a).logabsdet, lambda a: torch.slogdet(a)[1], full @ full.T + np.eye(n)),
        (cholesky, torch.linalg.cholesky, full @ full.T + np.eye(n)),
        (det, torch.linalg.det, full),
    ):
        t = torch.tensor(x, requires_grad=True)
        y = theirs(t)
        v = signed(np.random.default_rng(seed), tuple(y.shape))
        y.backward(torch.tensor(v))
        close(ours(Tensor(x)), y.detach().numpy(), 1e-10)
        expected = t.grad.numpy()
        np.testing.assert_allclose(
            gradients(ours, [x], v)[0], expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max()
        )
