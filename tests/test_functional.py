"""Functions of neural networks: by hand, against differences, and against torch."""

import math
import warnings

import numpy as np
import pytest
from gradcheck import check, signed
from hypothesis import assume, given
from hypothesis import strategies as st

from tinygrad_ai import functional as F
from tinygrad_ai import random
from tinygrad_ai.errors import DTypeError, IndexRangeError, ShapeError, ValueRangeError
from tinygrad_ai.nn import CrossEntropyLoss
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.transforms import grad, vmap

seeds = st.integers(0, 2**31)
sizes = st.sampled_from([1, 2, 3, 5, 7])


def leaf(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


# ----------------------------------------------------------------------------------- by hand


def test_softmax_by_hand():
    y = F.softmax(Tensor(np.log([[1.0, 2.0, 5.0]])))
    np.testing.assert_allclose(y.numpy(), [[0.125, 0.25, 0.625]], rtol=1e-14)


def test_softmax_of_huge_numbers_and_along_an_axis():
    x = np.array([[1000.0, -1000.0], [1000.0, 1001.0]])
    np.testing.assert_allclose(F.softmax(Tensor(x), 0).numpy()[:, 0], [0.5, 0.5])
    np.testing.assert_allclose(F.log_softmax(Tensor(x), dim=1).numpy()[0], [0, -2000])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_softmax_of_nothing_but_minus_infinity_is_zero(dtype):
    x = leaf([[-math.inf, -math.inf], [0.0, -math.inf]], dtype)
    y = F.softmax(x)
    y.backward(np.array([[1, -2], [3, 4]], dtype))
    assert y.dtype == dtype and y.tolist() == [[0, 0], [1, 0]]
    assert x.grad.dtype == dtype and x.grad.tolist() == [[0, 0], [0, 0]]


def test_nan_stays_nan():
    x = Tensor([[math.nan, 1.0], [1.0, 1.0]])
    for f in (F.softmax, F.log_softmax):
        assert np.isnan(f(x).numpy()).tolist() == [[True, True], [False, False]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = F.cross_entropy(x, np.array([1, 0]), reduction="none")
    assert np.isnan(loss.numpy()).tolist() == [True, False]


def test_softmax_in_float16_sums_in_float32():
    y = F.softmax(Tensor(np.zeros((1, 40_000), np.float16)))
    assert float(y.numpy().astype(np.float64).sum()) == pytest.approx(1, rel=0.02)


def test_cross_entropy_by_hand():
    x = leaf(np.log([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0]]))
    loss = F.cross_entropy(x, np.array([1, 1, 0], np.uint8))
    loss.backward()
    assert loss.item() == pytest.approx(-math.log(0.75 * 0.25 * 0.5) / 3)
    expected = np.array([[0.25, -0.25], [0.75, -0.75], [-0.5, 0.5]]) / 3
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-13)


def test_cross_entropy_of_huge_logits():
    x = leaf([[1e4, 0.0], [0.0, 1e4]])
    loss = F.cross_entropy(x, np.array([0, 0]), reduction="none")
    loss.backward(np.array([1.0, 1.0]))
    assert loss.tolist() == [0, 1e4] and x.grad.tolist() == [[0, 0], [-1, 1]]


def test_cross_entropy_of_a_class_that_is_masked_out():
    x = Tensor([[-math.inf, 0.0], [-math.inf, -math.inf]])
    assert F.cross_entropy(x, np.array([0, 1]), reduction="none").tolist() == [math.inf] * 2


def test_ignored_labels_count_neither_above_nor_below_the_line():
    x = np.log([[1.0, 3.0], [3.0, 1.0], [1.0, 1.0]])
    labels, weight = np.array([1, -100, 0]), np.array([1.0, 4.0])
    expected = -math.log(0.75), -math.log(0.5)
    for loss, inputs in ((F.cross_entropy, x), (F.nll_loss, F.log_softmax(Tensor(x)).numpy())):
        plain, weighted = loss(Tensor(inputs), labels), loss(Tensor(inputs), labels, weight)
        assert plain.item() == pytest.approx(sum(expected) / 2)
        assert weighted.item() == pytest.approx((4 * expected[0] + expected[1]) / 5)


def test_huber_by_hand():
    x = leaf([0.5, -3.0, 1.0, 0.0])
    loss = F.huber_loss(x, 0.0, reduction="none")
    loss.backward(np.ones(4))
    assert loss.tolist() == [0.125, 2.5, 0.5, 0]
    assert x.grad.tolist() == [0.5, -1, 1, 0]


def test_absolute_error_has_gradient_zero_at_its_kink():
    x = leaf([1.0, 2.0])
    F.l1_loss(x, Tensor(np.array([1.0, 5.0])), reduction="sum").backward()
    assert x.grad.tolist() == [0, -1]


def test_binary_cross_entropy_at_the_ends():
    p = leaf([0.0, 1.0, 0.0, 0.5])
    loss = F.binary_cross_entropy(p, np.array([0.0, 1.0, 1.0, 1.0]), reduction="none")
    loss.backward(np.ones(4))
    np.testing.assert_allclose(loss.numpy(), [0, 0, 100, math.log(2)])
    assert np.isfinite(p.grad.numpy()).all() and p.grad.numpy()[2] < -1e9


def test_layer_norm_by_hand():
    y = F.layer_norm(Tensor(np.array([[1.0, 3.0]])), 2, np.array([2.0, 2.0]), np.ones(2), eps=0)
    assert y.tolist() == [[-1, 3]]


def test_rms_norm_by_hand():
    y = F.rms_norm(Tensor(np.array([[3.0, -4.0]])), (2,), eps=0)
    np.testing.assert_allclose(y.numpy(), [[3 / math.sqrt(12.5), -4 / math.sqrt(12.5)]])


def test_batch_norm_by_hand_and_its_running_statistics():
    x = Tensor(np.array([[1.0, 10.0], [3.0, 30.0]]))
    mean, var = Tensor(np.zeros(2)), Tensor(np.ones(2))
    y = F.batch_norm(x, mean, var, training=True, momentum=0.5, eps=0)
    np.testing.assert_allclose(y.numpy(), [[-1, -1], [1, 1]])
    np.testing.assert_allclose(mean.numpy(), [1, 10])
    np.testing.assert_allclose(var.numpy(), [0.5 + 0.5 * 2, 0.5 + 0.5 * 200])
    y = F.batch_norm(x, mean, var, np.array([2.0, 2.0]), np.ones(2), eps=0)
    np.testing.assert_allclose(y.numpy()[:, 0], [1, 1 + 4 / math.sqrt(1.5)])


def test_embedding_accumulates_and_leaves_padding_alone():
    w = leaf([[1.0], [2.0], [3.0]])
    y = F.embedding(Tensor(np.array([[2, 0], [2, 1]])), w, padding_idx=-2)
    y.backward(np.array([[[1.0], [10.0]], [[100.0], [1000.0]]]))
    assert y.tolist() == [[[3], [1]], [[3], [2]]]
    assert w.grad.tolist() == [[10], [0], [101]]


def test_one_hot():
    assert F.one_hot(np.array([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert F.one_hot(Tensor(np.array([[1]])), 2).tolist() == [[[0, 1]]]


def test_attention_masks():
    rng = np.random.default_rng(0)
    q, k, v = (Tensor(rng.standard_normal((2, 3, 4))) for _ in range(3))
    causal = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    np.testing.assert_allclose(causal.numpy()[:, 0], v.numpy()[:, 0], rtol=1e-12)
    mask = np.tril(np.ones((3, 3), bool))
    masked = F.scaled_dot_product_attention(q, k, v, mask)
    np.testing.assert_allclose(masked.numpy(), causal.numpy(), rtol=1e-12)
    added = F.scaled_dot_product_attention(q, k, v, np.where(mask, 0, -np.inf))
    np.testing.assert_allclose(added.numpy(), causal.numpy(), rtol=1e-12)
    none = F.scaled_dot_product_attention(q, k, v, np.zeros((3, 3), bool))
    assert not none.numpy().any()


def test_dropout_keeps_the_mean_and_its_gradient_uses_the_same_mask():
    random.manual_seed(0)
    x = leaf(np.full((100, 100), 2.0))
    y = F.dropout(x, 0.25)
    assert set(np.unique(y.numpy())) == {0.0, 2 / 0.75}
    assert y.numpy().mean() == pytest.approx(2, rel=0.03)
    g = signed(np.random.default_rng(0), x.shape)
    y.backward(g)
    np.testing.assert_allclose(x.grad.numpy(), g * (y.numpy() / 2))
    assert F.dropout(x, 0.25, training=False) is x
    assert not F.dropout(x, 1.0).numpy().any()
    random.manual_seed(0)
    np.testing.assert_array_equal(F.dropout(x, 0.25).numpy(), y.numpy())


def test_float32_stays_float32():
    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    for f in (
        *ACTIVATIONS.values(),
        lambda x: F.mse_loss(x, np.zeros((2, 3))),
        lambda x: F.cross_entropy(x * 5, np.array([0, 1])),
        lambda x: F.cross_entropy(x * 5, np.array([0, 1]), label_smoothing=0.1),
        lambda x: F.cross_entropy(x * 5, np.array([0, 9]), ignore_index=9),
        lambda x: F.layer_norm(x, 3),
        lambda x: F.batch_norm(x, None, None, training=True),
    ):
        assert f(x).dtype == np.float32


# --------------------------------------------------------------------- against differences

ACTIVATIONS = {
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "elu": lambda x: F.elu(x, 1.5),
    "selu": F.selu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, "tanh"),
    "silu": F.silu,
    "softplus": lambda x: F.softplus(x, 3.0),
    "softmax": lambda x: F.softmax(x, 0),
    "log_softmax": F.log_softmax,
}


def away_from_kinks(rng, shape):
    return rng.uniform(0.1, 2.5, shape) * rng.choice([-1.0, 1.0], shape)


@pytest.mark.parametrize("name", ACTIVATIONS)
@given(sizes, sizes, seeds)
def test_gradients_of_activations(name, m, n, seed):
    x = away_from_kinks(np.random.default_rng(seed), (m, n))
    check(ACTIVATIONS[name], x.T.copy().T, order=2, rtol=2e-5, seed=seed)


LOSSES = {
    "mse": lambda x, t: F.mse_loss(x, t),
    "l1": lambda x, t: F.l1_loss(x, t, reduction="sum"),
    "huber": lambda x, t: F.huber_loss(x, t, reduction="none", delta=0.7),
    "soft": lambda x, t: F.cross_entropy(x, t, label_smoothing=0.2),
    "logits": lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
    "kl": lambda x, t: F.kl_div(x, t, reduction="batchmean", log_target=True),
}


@pytest.mark.parametrize("name", LOSSES)
@given(sizes, sizes, seeds)
def test_gradients_of_losses_in_both_inputs(name, m, n, seed):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((m, n)), rng.standard_normal((m, n))
    assume((np.abs(abs(x - t) - 0.7) > 0.01).all() and (abs(x - t) > 0.01).all())
    check(LOSSES[name], x, t, rtol=1e-5, seed=seed)


@given(sizes, sizes, st.booleans(), st.sampled_from([0.0, 0.3]), seeds)
def test_gradients_of_cross_entropy(n, classes, weighted, smoothing, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    labels[1:2] = -100
    weight = rng.uniform(0.5, 2, classes) if weighted else None

    def f(x):
        return F.cross_entropy(x, labels, weight, label_smoothing=smoothing)

    check(f, rng.standard_normal((n, classes)), order=2, rtol=2e-5, seed=seed)
    labels = rng.integers(0, classes, (n, 2))
    check(f, rng.standard_normal((n, classes, 2)), rtol=2e-5, seed=seed)


@given(seeds)
def test_gradients_of_normalisation_and_attention(seed):
    rng = np.random.default_rng(seed)
    x, w, b = rng.standard_normal((3, 4, 5)), rng.standard_normal(5), rng.standard_normal(5)
    check(lambda x, w, b: F.layer_norm(x, 5, w, b), x, w, b, order=2, rtol=5e-5, seed=seed)
    check(lambda x, w: F.rms_norm(x, (5,), w, 0.1), x, w, order=2, rtol=5e-5, seed=seed)
    w, b = rng.standard_normal(4), rng.standard_normal(4)
    check(lambda x, w, b: F.batch_norm(x, None, None, w, b, True), x, w, b, rtol=5e-5, seed=seed)
    mean, var = rng.standard_normal(4), rng.uniform(0.5, 2, 4)
    check(lambda x, w, b: F.batch_norm(x, mean, var, w, b), x, w, b, rtol=5e-5, seed=seed)
    q, k, v = (rng.standard_normal((2, 3, 4)) for _ in range(3))
    f = F.scaled_dot_product_attention
    check(lambda q, k, v: f(q, k, v, is_causal=True), q, k, v, rtol=5e-5, seed=seed)


def test_second_derivative_of_cross_entropy_at_an_exact_fit():
    def loss(x):
        return F.cross_entropy(x, np.array([0]))

    x = Tensor(np.array([[0.0, 0.0]]))
    hessian_row = grad(lambda x: grad(loss)(x)[0, 0])(x)
    np.testing.assert_allclose(hessian_row.numpy(), [[0.25, -0.25]])


def test_per_example_gradients_by_vmap():
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    rows = vmap(grad(lambda x, y: F.cross_entropy(x, y)))(Tensor(x), Tensor(labels))
    p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    np.testing.assert_allclose(rows.numpy(), p - np.eye(3)[labels], rtol=1e-12)


# --------------------------------------------------------------------------- warnings, errors


@pytest.mark.parametrize(
    "loss",
    [
        F.mse_loss,
        F.l1_loss,
        F.huber_loss,
        F.binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
    ],
)
def test_labels_in_a_row_against_predictions_in_a_column_are_warned_of(loss):
    x, t = Tensor(np.full((3, 1), 0.5)), np.ones(3)
    with pytest.warns(UserWarning, match=r"\(3, 1\).*\(3,\).*\(3, 3\)") as caught:
        loss(x, t)
    assert caught[0].filename == __file__
    with pytest.raises(ShapeError, match="differ"):
        loss(x, np.ones((2, 1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss(x, np.ones((3, 1)))


def test_softmax_before_cross_entropy_is_warned_of():
    x = leaf(np.random.default_rng(0).standard_normal((4, 3)))
    labels = np.array([0, 1, 2, 0])
    for probabilities in (F.softmax(x), F.softmax(x).detach()):
        with pytest.warns(UserWarning, match="softmax") as caught:
            F.cross_entropy(probabilities, labels)
        assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.cross_entropy(x, labels)
        F.cross_entropy(Tensor([[0.5, 0.5], [2.0, 3.0]]), labels[:2])


def test_warnings_come_once_for_a_line():
    x, t = Tensor(np.ones((3, 1))), np.ones(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            F.mse_loss(x, t)
    assert len(caught) == 1


def test_wrong_labels_are_named():
    x = Tensor(np.random.default_rng(0).standard_normal((3, 4)))
    for loss in (F.cross_entropy, F.nll_loss):
        with pytest.raises(ValueRangeError, match=r"label 4 .* 4 classes"):
            loss(x, np.array([0, 4, 1]))
        with pytest.raises(ValueRangeError, match="label -1"):
            loss(x, Tensor(np.array([0, -1, 1])))
        with pytest.raises(DTypeError, match=r"integers, not float64 of shape \(3,\)"):
            loss(x, np.array([0.0, 1.0, 2.0]))
        with pytest.raises(ShapeError, match=r"\(2,\).*\(3, 4\)"):
            loss(x, np.array([0, 1]))
        with pytest.raises(ShapeError, match="weight"):
            loss(x, np.array([0, 1, 2]), np.ones(3))
        with pytest.raises(ValueRangeError, match="reduction"):
            loss(x, np.array([0, 1, 2]), reduction="average")
    with pytest.raises(ShapeError) as caught:
        F.cross_entropy(x, np.eye(4, dtype=int)[:3])
    assert "astype" in "".join(caught.value.__notes__)


def test_errors():
    x = Tensor(np.ones((2, 3)))
    with pytest.raises(ValueRangeError, match=r"1\.5 is not a probability"):
        F.binary_cross_entropy(Tensor(np.array([0.5, 1.5])), np.ones(2))
    with pytest.raises(DTypeError, match="int64"):
        F.softmax(Tensor(np.arange(3)))
    with pytest.raises(ShapeError, match="axis"):
        F.softmax(x, 2)
    with pytest.raises(ValueRangeError, match="erf"):
        F.gelu(x, "erf")
    with pytest.raises(ValueRangeError, match=r"1\.5"):
        F.dropout(x, 1.5)
    with pytest.raises(DTypeError, match="p must be a number, not 'half'"):
        F.dropout(x, "half")
    with pytest.raises(ValueRangeError, match=r"1\.5 is not a probability"):
        F.binary_cross_entropy(np.array([0.5]), np.array([1.5]))
    with pytest.raises(ShapeError, match=r"weight \(3,\) for losses \(2, 3\)"):
        F.mse_loss(x, x, weight=np.ones(3))
    with pytest.raises(ValueRangeError, match="delta"):
        F.huber_loss(x, x, delta=0)
    with pytest.raises(ValueRangeError, match="label_smoothing"):
        F.cross_entropy(x, np.array([0, 1]), label_smoothing=2)
    with pytest.raises(IndexRangeError, match=r"index 3 .* 2 rows"):
        F.embedding(np.array([0, 3]), x)
    with pytest.raises(IndexRangeError, match=r"label 3 .* 2 classes"):
        F.one_hot(np.array([0, 3]), 2)
    with pytest.raises(DTypeError, match="float64"):
        F.embedding(np.array([0.0]), x)
    with pytest.raises(ShapeError, match=r"\(2,\)"):
        F.layer_norm(x, 2)
    with pytest.raises(ShapeError, match="one value per channel"):
        F.batch_norm(Tensor(np.ones((1, 3))), None, None, training=True)
    with pytest.raises(ShapeError, match="running_mean"):
        F.batch_norm(x, None, None)
    with pytest.raises(ShapeError, match="bias"):
        F.linear(x, np.ones((4, 3)), np.ones(3))
    with pytest.raises(DTypeError, match="mask"):
        F.scaled_dot_product_attention(x, x, x, np.ones((2, 2), int))


# ------------------------------------------------------------------------------------- torch


def torch_and_ours(ours, theirs, arrays, seed):
    """Assert that values and gradients agree to 1e-10 for a random signed cotangent."""
    import torch  # noqa: PLC0415  (the extra `ci`)

    mine = [leaf(a) if a.dtype.kind == "f" else Tensor(a) for a in arrays]
    peers = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
    y, z = ours(*mine), theirs(torch.nn.functional, *peers)
    np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-10, atol=1e-10)
    g = signed(np.random.default_rng(seed), y.shape)
    y.backward(g)
    z.backward(torch.tensor(g))
    for a, b in zip(mine, peers, strict=True):
        if b.requires_grad and b.grad is not None:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-9, atol=1e-10)


PEERS = {
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), lambda T, x: T.leaky_relu(x, 0.3)),
    "elu": (lambda x: F.elu(x, 0.7), lambda T, x: T.elu(x, 0.7)),
    "selu": (F.selu, lambda T, x: T.selu(x)),
    "gelu": (F.gelu, lambda T, x: T.gelu(x)),
    "gelu_tanh": (lambda x: F.gelu(x, "tanh"), lambda T, x: T.gelu(x, approximate="tanh")),
    "silu": (F.silu, lambda T, x: T.silu(x)),
    "softplus": (lambda x: F.softplus(x, 2.0), lambda T, x: T.softplus(x, 2.0, 50)),
    "softmax": (lambda x: F.softmax(x, 0), lambda T, x: T.softmax(x, 0)),
    "log_softmax": (lambda x: F.log_softmax(x, 1), lambda T, x: T.log_softmax(x, 1)),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", PEERS)
@given(sizes, sizes, st.floats(0.1, 20), seeds)
def test_activations_as_in_torch(name, m, n, scale, seed):
    x = scale * np.random.default_rng(seed).standard_normal((m, n))
    torch_and_ours(*PEERS[name], [x], seed)


reductions = st.sampled_from(["mean", "sum", "none"])


@pytest.mark.peers
@given(sizes, sizes, st.booleans(), st.sampled_from([0.0, 0.2]), reductions, st.booleans(), seeds)
def test_cross_entropy_as_in_torch(n, classes, weighted, smoothing, reduction, deep, seed):
    rng = np.random.default_rng(seed)
    spatial = (2, 3) if deep else ()
    x = 3 * rng.standard_normal((n, classes, *spatial))
    labels = rng.integers(0, classes, (n, *spatial))
    labels.flat[1:2] = -7
    weight = rng.uniform(0.5, 2, classes)
    settings = {"ignore_index": -7, "reduction": reduction, "label_smoothing": smoothing}

    def ours(x, labels, w):
        return F.cross_entropy(x, labels, w.detach() if weighted else None, **settings)

    def theirs(T, x, labels, w):
        return T.cross_entropy(x, labels, w.detach() if weighted else None, **settings)

    torch_and_ours(ours, theirs, [x, labels, weight], seed)
    del settings["label_smoothing"]
    torch_and_ours(
        lambda x, labels: F.nll_loss(x, labels, weight if weighted else None, **settings),
        lambda T, x, labels: T.nll_loss(
            x, labels, x.new_tensor(weight) if weighted else None, **settings
        ),
        [x, labels],
        seed,
    )


@pytest.mark.peers
@given(sizes, sizes, st.booleans(), st.sampled_from([0.0, 0.2]), reductions, seeds)
def test_cross_entropy_of_probabilities_as_in_torch(n, classes, weighted, eps, reduction, seed):
    rng = np.random.default_rng(seed)
    x, t = rng.standard_normal((n, classes, 2)), rng.dirichlet(np.ones(classes), (n, 2))
    weight = rng.uniform(0.5, 2, classes)
    settings = {"reduction": reduction, "label_smoothing": eps}
    torch_and_ours(
        lambda x, t: F.cross_entropy(x, t, weight if weighted else None, **settings),
        lambda T, x, t: T.cross_entropy(
            x, t, x.new_tensor(weight) if weighted else None, **settings
        ),
        [x, np.ascontiguousarray(t.transpose(0, 2, 1))],
        seed,
    )


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:reduction")  # torch's own, of kl_div
@given(sizes, sizes, reductions, st.floats(0.1, 40), seeds)
def test_other_losses_as_in_torch(m, n, reduction, scale, seed):
    rng = np.random.default_rng(seed)
    x, t = scale * rng.standard_normal((m, n)), rng.uniform(0.1, 0.9, (m, n))
    p, w = rng.uniform(0.1, 0.9, (m, n)), rng.uniform(0.5, 2, n)
    for name, inputs in {
        "mse_loss": [x, t],
        "l1_loss": [x, t],
        "huber_loss": [x, t],
        "binary_cross_entropy": [p, t],
        "binary_cross_entropy_with_logits": [x, t],
        "kl_div": [np.log(p), t],
    }.items():
        torch_and_ours(
            lambda a, b, name=name: getattr(F, name)(a, b, reduction=reduction),
            lambda T, a, b, name=name: getattr(T, name)(a, b, reduction=reduction),
            inputs,
            seed,
        )
    torch_and_ours(
        lambda a, b: F.kl_div(a, b, reduction="batchmean", log_target=True),
        lambda T, a, b: T.kl_div(a, b, reduction="batchmean", log_target=True),
        [np.log(p), np.log(t)],
        seed,
    )
    torch_and_ours(
        lambda a, b, w: F.binary_cross_entropy_with_logits(
            a, b, w.detach(), reduction, (w * w).detach()
        ),
        lambda T, a, b, w: T.binary_cross_entropy_with_logits(
            a, b, w.detach(), reduction=reduction, pos_weight=(w * w).detach()
        ),
        [x, t, w],
        seed,
    )


@pytest.mark.peers
@given(sizes, sizes, sizes, st.booleans(), seeds)
def test_normalisation_as_in_torch(n, c, width, affine, seed):
    rng = np.random.default_rng(seed)
    x = 3 * rng.standard_normal((n + 1, c, width)) + 1
    w, b = rng.standard_normal(width), rng.standard_normal(width)
    wc, bc = rng.standard_normal(c), rng.standard_normal(c)
    torch_and_ours(
        lambda x, w, b: F.layer_norm(x, (width,), w if affine else None, b),
        lambda T, x, w, b: T.layer_norm(x, (width,), w if affine else None, b),
        [x, w, b],
        seed,
    )
    torch_and_ours(
        lambda x: F.layer_norm(x, x.shape[1:]),
        lambda T, x: T.layer_norm(x, x.shape[1:]),
        [x],
        seed,
    )
    torch_and_ours(
        lambda x, w: F.rms_norm(x, (width,), w if affine else None),
        lambda T, x, w: T.rms_norm(x, (width,), w if affine else None),
        [x, w],
        seed,
    )
    torch_and_ours(
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda T, x, w, b: T.batch_norm(x, None, None, w, b, True),
        [x, wc, bc],
        seed,
    )


@pytest.mark.peers
@given(sizes, sizes, st.sampled_from([None, "bool", "float", "causal"]), seeds)
def test_attention_and_embedding_as_in_torch(length, width, mask, seed):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal((2, 3, length, width)) for _ in range(3))
    keep = rng.random((length, length)) < 0.7
    keep[:, 0] = True
    m = {"bool": keep, "float": rng.standard_normal((length, length))}.get(mask)
    causal = mask == "causal"
    import torch  # noqa: PLC0415  (the extra `ci`)

    torch_and_ours(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, m, is_causal=causal),
        lambda T, q, k, v: T.scaled_dot_product_attention(
            q, k, v, None if m is None else torch.tensor(m), is_causal=causal
        ),
        [q, k, v],
        seed,
    )
    torch_and_ours(
        lambda i, w: F.embedding(i, w, 0),
        lambda T, i, w: T.embedding(i, w, 0),
        [rng.integers(0, length, (2, 5)), rng.standard_normal((length, width))],
        seed,
    )


def test_integer_predictions_do_not_cut_off_the_target():
    x, t = Tensor([1, 2]), np.array([1.5, 2.9])
    np.testing.assert_allclose(F.mse_loss(x, t).item(), (0.25 + 0.81) / 2)
    np.testing.assert_allclose(F.l1_loss(x, t, reduction="none").numpy(), [0.5, 0.9])


def test_a_list_as_target_takes_on_the_dtype_of_the_prediction():
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    loss = F.mse_loss(x, [1.5, 3.0])
    assert loss.dtype == np.float32 and F.l1_loss(x, 0.5).dtype == np.float32
    np.testing.assert_allclose(loss.item(), (0.25 + 4) / 2)


def test_lists_are_taken_and_weights_take_on_the_dtype_of_the_prediction():
    x = Tensor(np.array([[1.0, 2.0], [0.5, 3.0]], np.float32), requires_grad=True)
    w, y = np.array([1.0, 3.0]), [0, 1]
    both = [CrossEntropyLoss(weight=w)(x, y), F.cross_entropy(x, y, weight=[1.0, 3.0])]
    for loss in (*both, F.nll_loss(x, y, weight=w), F.mse_loss(x, x * 2, weight=[w, w])):
        assert loss.dtype == np.float32
    assert both[0].item() == both[1].item()
    p, t = F.sigmoid(x), np.array([[0.0, 1.0], [1.0, 1.0]])
    assert F.binary_cross_entropy(p, t, weight=w).dtype == np.float32
    assert F.binary_cross_entropy_with_logits(x, t, w, pos_weight=w).dtype == np.float32
    assert F.cross_entropy(x, np.array([[0.25, 0.75]] * 2)).dtype == np.float32
    assert F.embedding([1, 0], x).tolist() == [[0.5, 3.0], [1.0, 2.0]]
    assert F.one_hot([1, 0]).tolist() == [[0, 1], [1, 0]]


def test_batch_norm_checks_both_running_statistics():
    x, one = Tensor(np.ones((2, 3))), Tensor(np.ones(3))
    with pytest.raises(ShapeError, match=r"running_var \(2,\)"):
        F.batch_norm(x, one, Tensor(np.ones(2)))
    F.batch_norm(x, None, one, training=True, momentum=1.0)
    np.testing.assert_array_equal(one.numpy(), 0)


def test_rms_norm_needs_real_numbers():
    with pytest.raises(DTypeError, match="floating-point"):
        F.rms_norm(Tensor([[1, 2]]), 2)
