"""Attention and Transformer layers: numbers by hand, gradients, masks, errors, and torch's."""

import copy
import math
import warnings

import numpy as np
import pytest
from gradcheck import check, signed
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ai as ta
from tinygrad_ai import nn
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.nn import functional as F
from tinygrad_ai.tensor import Tensor

seeds = st.integers(0, 2**31)
lengths = st.integers(1, 5)
mask_kinds = st.sampled_from([None, "bool", "float"])
attention = F.scaled_dot_product_attention


def leaf(values, dtype=np.float64):
    return Tensor(np.asarray(values, dtype), requires_grad=True)


def filled(module, rng):
    """The module in float64 with random parameters."""
    module.to(dtype=np.float64)
    state = {k: 0.7 * rng.standard_normal(v.shape) for k, v in module.state_dict().items()}
    module.load_state_dict(state)
    return module


def closed(module, *inputs, **options):
    """A function of ``inputs`` and the module's parameters, all plain Tensors, for ``check``."""
    places = [
        (owner, name) for _, owner in module.named_modules() for name, _ in owner.own_parameters()
    ]
    start = [vars(owner)[name].numpy() for owner, name in places]

    def f(*values):
        for (owner, name), value in zip(places, values[len(inputs) :], strict=True):
            vars(owner)[name] = value
        y = module(*values[: len(inputs)], **options)
        return y[0] if isinstance(y, tuple) else y

    return f, [*inputs, *start]


# ----------------------------------------------------------------- scaled dot products by hand


def test_scaled_dot_products_by_hand():
    q = [[math.log(2) * 2, 0, 0, 0], [0, 0, 0, 0]]
    k = [[1, 0, 0, 0], [0, 1, 0, 0], [-1, 0, 0, 0]]  # scores of row 0: log 2, 0, -log 2
    v = [[7.0], [14.0], [28.0]]
    y, weights = attention(leaf(q), leaf(k), leaf(v), need_weights=True)
    np.testing.assert_allclose(weights.numpy(), [[4 / 7, 2 / 7, 1 / 7], [1 / 3] * 3], rtol=1e-14)
    np.testing.assert_allclose(y.numpy(), [[12], [49 / 3]], rtol=1e-14)
    causal = attention(leaf(q), leaf(k), leaf(v), is_causal=True)
    np.testing.assert_allclose(causal.numpy(), [[7], [10.5]], rtol=1e-14)
    doubled = attention(leaf(q), leaf(k), leaf(v), scale=1.0)
    np.testing.assert_allclose(doubled.numpy()[0], [(16 * 7 + 4 * 14 + 28) / 21], rtol=1e-14)


def test_both_kinds_of_mask_and_causality_together():
    rng = np.random.default_rng(0)
    q, k, v = (leaf(rng.standard_normal((2, 4, 3))) for _ in range(3))
    keep = rng.random((2, 4, 4)) < 0.6
    keep[..., 0] = True
    chosen = attention(q, k, v, keep, is_causal=True)
    added = attention(q, k, v, np.where(keep, 0, -np.inf), is_causal=True)
    both = attention(q, k, v, keep & np.tril(np.ones((4, 4), bool)))
    np.testing.assert_array_equal(chosen.numpy(), added.numpy())
    np.testing.assert_array_equal(chosen.numpy(), both.numpy())
    bias = leaf(rng.standard_normal((4, 4)))
    once = attention(q, k, v, bias, scale=0.0).numpy()
    np.testing.assert_allclose(once, F.softmax(bias).numpy() @ v.numpy(), rtol=1e-12)


@pytest.mark.parametrize("mask", [np.zeros((2, 3), bool), np.full((2, 3), -np.inf)])
def test_a_query_without_keys_gets_zeros_and_gradient_zero(mask):
    mask = mask.copy()
    mask[1, 2] = 1  # the second query has one key
    q, k, v, m = leaf(np.ones((2, 4))), leaf(np.ones((3, 4))), leaf(np.ones((3, 5))), mask
    m = Tensor(m, requires_grad=m.dtype.kind == "f")
    y = attention(q, k, v, m)
    assert y.numpy()[0].tolist() == [0] * 5 and y.numpy()[1].tolist() == [1] * 5
    y.backward(signed(np.random.default_rng(0), (2, 5)))
    for x in (q, k, v, *([m] if m.requires_grad else [])):
        assert np.isfinite(x.grad.numpy()).all()
    assert not q.grad.numpy().any() and not v.grad.numpy()[:2].any() and v.grad.numpy()[2].all()
    nothing = attention(q, leaf(np.ones((0, 4))), leaf(np.ones((0, 5))))
    assert nothing.tolist() == [[0] * 5] * 2


def test_the_mask_takes_on_the_dtype_of_the_scores():
    x, mask = leaf(np.ones((2, 2)), np.float16), leaf(np.zeros((2, 2)))
    y = attention(x, x, x, mask)
    assert y.dtype == np.float16
    y.backward(np.array([[1, -2], [3, 4]], np.float16))
    assert x.grad.dtype == np.float16 and mask.grad.dtype == np.float64


@given(seeds, st.booleans(), mask_kinds)
def test_gradients_of_scaled_dot_products(seed, is_causal, kind):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.standard_normal(s) for s in ((2, 3, 2), (4, 2), (2, 4, 3)))
    mask = {"bool": rng.random((3, 4)) < 0.5, "float": rng.standard_normal((2, 3, 1))}.get(kind)
    arrays = [q, k, v] + ([mask] if kind == "float" else [])

    def f(q, k, v, m=mask):
        y, weights = attention(q, k, v, m, 0.0, is_causal, need_weights=True)
        return ta.concatenate([y, weights], axis=-1)

    check(f, *arrays, rtol=2e-5, seed=seed)


def test_the_package_s_own_checker_passes_attention():
    rng = np.random.default_rng(3)
    q, k, v = rng.standard_normal((3, 2, 3))
    ta.testing.assert_gradients(lambda q, k, v: attention(q, k, v, is_causal=True), q, k, v)
    layer = filled(nn.BilinearAttention(3, 2), rng)
    ta.testing.assert_gradients(lambda x: layer(x, np.array([False, True])), q)
    block = filled(nn.TransformerEncoderLayer(4, 2, 3, 0.0, "gelu"), rng)
    ta.testing.assert_gradients(block, rng.standard_normal((1, 2, 4)))


@given(seeds)
def test_second_derivatives_of_scaled_dot_products(seed):
    q, k, v = np.random.default_rng(seed).standard_normal((3, 2, 2))
    check(attention, q, k, v, order=2, rtol=1e-4, seed=seed)


def test_dropout_of_the_weights_is_seen_in_them():
    ta.random.manual_seed(0)
    x = leaf(np.zeros((1, 200, 2)))
    _, weights = attention(x, x, x, None, 0.25, need_weights=True)
    np.testing.assert_allclose(np.unique(weights.numpy()), [0, 1 / 150], rtol=1e-12)
    assert weights.numpy().mean() == pytest.approx(1 / 200, rel=0.02)
    layer = nn.MultiheadAttention(2, 1, dropout=0.25)
    x = ta.zeros((1, 200, 2))
    assert layer(x, x, x)[1].numpy().min() == 0
    np.testing.assert_allclose(layer.eval()(x, x, x)[1].numpy(), 1 / 200, rtol=1e-6)


def test_attention_of_many_examples_at_once():
    rng = np.random.default_rng(1)
    q, k, v = (Tensor(rng.standard_normal((5, 3, 2))) for _ in range(3))
    mapped = ta.vmap(lambda q, k, v: attention(q, k, v, is_causal=True))(q, k, v)
    expected = attention(q, k, v, is_causal=True).numpy()
    np.testing.assert_allclose(mapped.numpy(), expected, rtol=1e-12)
    layer = filled(nn.MultiheadAttention(2, 2), rng)
    whole = layer(q, k, v)[0].numpy()
    one = ta.vmap(lambda q, k, v: layer(q, k, v)[0])(q, k, v).numpy()
    np.testing.assert_allclose(one, whole, rtol=1e-12)
    assert layer(ta.ones((0, 3, 2)), ta.ones((0, 3, 2)), ta.ones((0, 3, 2)))[0].shape == (0, 3, 2)


# ------------------------------------------------------------------------- bilinear attention


def test_bilinear_attention_by_hand():
    layer = nn.BilinearAttention(2, heads=2).to(dtype=np.float64)
    a, b = math.log(2), math.log(3)
    layer.load_state_dict({
        "W": np.array([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]),
        "s.weight": np.array([[a, b]]),
    })  # fmt: skip
    # v_i W_1 v_j = x_i x_j and v_i W_2 v_j = x_i y_j: scores log 2·x_i·x_j + log 3·x_i·y_j
    v = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    y, weights = layer(Tensor(v), need_weights=True)
    expected = np.array([[2 / 11, 6 / 11, 3 / 11], [2 / 11, 6 / 11, 3 / 11], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-14)
    np.testing.assert_allclose(y.numpy()[0], [8 / 11, 9 / 11], rtol=1e-14)
    y, weights = layer(Tensor(v), np.array([False, True, False]), need_weights=True)
    np.testing.assert_allclose(weights.numpy()[0], [2 / 5, 0, 3 / 5], rtol=1e-14)
    np.testing.assert_allclose(y.numpy()[2], [1 / 2, 1 / 2], rtol=1e-14)
    assert not layer(Tensor(v), np.ones(3, bool)).numpy().any()


@given(seeds, st.integers(1, 3), st.booleans())
def test_bilinear_attention_is_its_formula(seed, heads, padded):
    """The formula term by term: every score of every form, then s, then the quotient."""
    rng = np.random.default_rng(seed)
    layer = filled(nn.BilinearAttention(3, heads), rng)
    x = rng.standard_normal((2, 4, 3))
    padding = rng.random((2, 4)) < 0.3 if padded else np.zeros((2, 4), bool)
    padding[:, 0] = False
    scores = np.einsum("bid,kde,bje->bijk", x, layer.W.numpy(), x) @ layer.s.weight.numpy()[0]
    shares = np.exp(scores) * ~padding[:, None]
    shares /= shares.sum(-1, keepdims=True)
    y, weights = layer(Tensor(x), padding if padded else None, need_weights=True)
    np.testing.assert_allclose(weights.numpy(), shares, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(y.numpy(), shares @ x, rtol=1e-10, atol=1e-13)
    f, arrays = closed(layer, x, key_padding_mask=padding)
    check(f, *arrays, rtol=5e-5, seed=seed)


# --------------------------------------------------------------------------------- the layers


def test_parameters_start_as_in_pytorch():
    ta.random.manual_seed(0)
    layer = nn.MultiheadAttention(64, 4)
    bound = math.sqrt(6 / 256)
    assert 0.99 * bound < abs(layer.in_proj_weight.numpy()).max() <= bound
    assert not layer.in_proj_bias.numpy().any() and not layer.out_proj.bias.numpy().any()
    assert abs(layer.out_proj.weight.numpy()).max() <= 1 / 8
    odd = nn.MultiheadAttention(64, 4, kdim=32, bias=False)
    assert 0.99 < abs(odd.k_proj_weight.numpy()).max() / math.sqrt(6 / 96) <= 1
    assert [n for n, _ in odd.named_parameters()] == [
        "q_proj_weight", "k_proj_weight", "v_proj_weight", "out_proj.weight"
    ]  # fmt: skip
    assert abs(nn.BilinearAttention(16, 2).W.numpy()).max() <= 1 / 4


@pytest.mark.parametrize("norm_first", [True, False])
def test_gradients_of_a_whole_encoder_layer(norm_first):
    rng = np.random.default_rng(norm_first)
    layer = nn.TransformerEncoderLayer(4, 2, 3, 0.0, "gelu", norm_first=norm_first)
    f, arrays = closed(filled(layer, rng), rng.standard_normal((2, 3, 4)), is_causal=True)
    check(f, *arrays, rtol=2e-4)


@pytest.mark.parametrize("kdim", [None, 3])
def test_every_head_attends_with_its_own_features(kdim):
    """The formula, head by head."""
    rng = np.random.default_rng(0)
    layer = filled(nn.MultiheadAttention(6, 2, kdim=kdim), rng)
    q, k, v = (rng.standard_normal((n, d)) for n, d in ((3, 6), (4, kdim or 6), (4, 6)))
    state = {name: value.numpy() for name, value in layer.state_dict().items()}
    maps = np.split(state["in_proj_weight"], 3) if kdim is None else [
        state[f"{x}_proj_weight"] for x in "qkv"
    ]  # fmt: skip
    biases = np.split(state["in_proj_bias"], 3)
    q2, k2, v2 = (x @ w.T + b for x, w, b in zip((q, k, v), maps, biases, strict=True))
    heads, weights = [], []
    for part in (slice(0, 3), slice(3, 6)):
        scores = np.exp(q2[:, part] @ k2[:, part].T / math.sqrt(3))
        weights.append(scores / scores.sum(1, keepdims=True))
        heads.append(weights[-1] @ v2[:, part])
    expected = np.hstack(heads) @ state["out_proj.weight"].T + state["out_proj.bias"]
    inputs = [Tensor(x[None]) for x in (q, k, v)]
    y, found = layer(*inputs, average_attn_weights=False)
    np.testing.assert_allclose(y.numpy()[0], expected, rtol=1e-12)
    np.testing.assert_allclose(found.numpy()[0], weights, rtol=1e-12)
    np.testing.assert_allclose(layer(*inputs)[1].numpy()[0], np.mean(weights, 0), rtol=1e-12)


@pytest.mark.parametrize("place", ["self_attn", "dropout", "dropout1", "dropout2"])
def test_each_dropout_of_the_encoder_acts_in_training_only(place):
    ta.random.manual_seed(0)
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5), ta.random.randn(2, 3, 8)
    assert layer.self_attn.dropout == layer.dropout.p == layer.dropout1.p == layer.dropout2.p == 0.5
    for name in {"dropout", "dropout1", "dropout2"} - {place}:
        getattr(layer, name).p = 0.0
    if place != "self_attn":
        layer.self_attn.dropout = 0.0
    assert not np.array_equal(layer(x).numpy(), layer(x).numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x).numpy(), layer(x).numpy())
    np.testing.assert_array_equal(copy.deepcopy(layer)(x).numpy(), layer(x).numpy())


def test_a_later_token_changes_nothing_before_it():
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, norm_first=True)
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    y = layer(Tensor(x), is_causal=True).numpy()
    x[0, 3] = -x[0, 3]
    z = layer(Tensor(x), is_causal=True).numpy()
    np.testing.assert_array_equal(y[0, :3], z[0, :3])
    assert (abs(y - z)[0, 3:].max(-1) > 1e-3).all()
    padded = layer(Tensor(x), None, np.array([[False, False, False, True, True]])).numpy()
    np.testing.assert_allclose(padded[:, :3], layer(Tensor(x[:, :3])).numpy(), rtol=1e-4, atol=1e-5)


def test_positions_are_sinusoids():
    layer = nn.PositionalEncoding(5, 30, dtype=np.float64)
    y = layer(Tensor(np.zeros((2, 20, 5)))).numpy()
    for t in (0, 1, 7, 19):
        row = [math.sin(t), math.cos(t), math.sin(t / 10000**0.4), math.cos(t / 10000**0.4),
               math.sin(t / 10000**0.8)]  # fmt: skip
        np.testing.assert_allclose(y[:, t], [row, row], rtol=1e-13, atol=1e-15)
    assert nn.PositionalEncoding(4)(ta.ones((1, 2, 4))).tolist()[0][0] == [1, 2, 1, 2]
    dropped = nn.PositionalEncoding(4, dropout=0.5)
    assert (dropped(ta.ones((1, 50, 4))).numpy() == 0).any()
    assert not (dropped.eval()(ta.ones((1, 50, 4))).numpy()[:, 1:, 1] == 0).any()


def test_positions_move_with_the_module_but_are_not_saved():
    layer = nn.PositionalEncoding(4, 10)
    assert not layer.state_dict() and [n for n, _ in layer.named_buffers()] == ["pe"]
    layer.load_state_dict(nn.PositionalEncoding(4, 20).state_dict())
    assert layer.to(dtype=np.float16).pe.dtype == np.float16
    x = leaf(np.ones((1, 3, 4)))
    y = nn.PositionalEncoding(4, dtype=np.float64)(x)
    g = signed(np.random.default_rng(0), y.shape)
    y.backward(g)
    np.testing.assert_array_equal(x.grad.numpy(), g)


# --------------------------------------------------------------------------------------- errors

ONE, TWO = ta.ones((2, 3, 4)), ta.ones((2, 5, 4))
MHA, BILINEAR = nn.MultiheadAttention(4, 2), nn.BilinearAttention(4)
ENCODER = nn.TransformerEncoderLayer(4, 2, 8)
THREE, LAYER = ta.ones((3, 3, 4)), nn.TransformerEncoderLayer(4, 2, 8)
WRONG = [
    (lambda: attention(ONE, ta.ones((2, 3, 5)), ONE), ShapeError, "(2, 3, 4), (2, 3, 5) and"),
    (lambda: attention(ONE, TWO, ONE), ShapeError, "(2, 3, 4), (2, 5, 4) and (2, 3, 4)"),
    (lambda: attention(ta.ones(3), ONE, ONE), ShapeError, "needs query (..., L, E)"),
    (lambda: attention(ta.ones((3, 0)), ta.ones((3, 0)), ta.ones((3, 0))), ShapeError, "E ≥ 1"),
    (lambda: attention(ta.ones((3, 3, 4)), ONE, ONE), ShapeError, "do not broadcast"),
    (lambda: attention(ONE, TWO, TWO, np.ones((3, 4), bool)), ShapeError, "(2, 3, 5)"),
    (lambda: attention(ONE, ONE, ONE, np.ones((1, 2, 3, 3))), ShapeError, "(1, 2, 3, 3)"),
    (lambda: attention(ONE, ONE, ONE, np.ones((3, 3), int)), DTypeError, "not int64"),
    (lambda: attention(ONE, ONE, ONE, [[True]]), DTypeError, "not list"),
    (lambda: attention(ONE.astype("int64"), ONE, ONE), DTypeError, "got int64"),
    (lambda: attention(ONE, ONE, ONE, None, 1.5), ValueRangeError, "p must lie in [0, 1]"),
    (lambda: nn.MultiheadAttention(6, 4), ValueRangeError, "4 heads do not divide embed_dim 6"),
    (lambda: nn.MultiheadAttention(4, 0), ValueRangeError, "num_heads"),
    (lambda: nn.MultiheadAttention(4.0, 2), DTypeError, "embed_dim"),
    (lambda: nn.MultiheadAttention(4, 2, kdim=0), ValueRangeError, "kdim"),
    (lambda: nn.MultiheadAttention(4, 2, dropout=-1), ValueRangeError, "dropout must lie"),
    (lambda: nn.MultiheadAttention(4, 2, batch_first=False), ValueRangeError, "batch_first"),
    (lambda: MHA(ONE, ONE, ta.ones((2, 3, 5))), ShapeError, "value must be (batch, time, 4), got"),
    (lambda: MHA(ta.ones(4), ONE, ONE), ShapeError, "query must be (batch, time, 4), got (4,)"),
    (lambda: MHA(ONE, ta.ones((2, 0, 4)), ONE), ShapeError, "key is an empty sequence: (2, 0, 4)"),
    (lambda: MHA(ONE, TWO, ONE), ShapeError, "key (2, 5, 4) and value (2, 3, 4) differ in time"),
    (lambda: MHA(ONE, THREE, THREE), ShapeError, "query (2, 3, 4), key (3, 3, 4) and value (3, 3"),
    (lambda: attention(ONE, THREE, THREE), ShapeError, "leading axes of query (2, 3, 4), key (3,"),
    (lambda: MHA(None, ONE, ONE), DTypeError, "MultiheadAttention: query must be a tensor, not N"),
    (lambda: LAYER([ONE]), DTypeError, "TransformerEncoderLayer: src must be a tensor, not list"),
    (lambda: LAYER(ONE, ta.ones((2, 3))), ShapeError, "Layer: src_mask must have shape (3, 3) or"),
    (lambda: LAYER(ONE, None, ta.ones(3)), ShapeError, "Layer: src_key_padding_mask must have sh"),
    (lambda: LAYER(ONE, [[1]]), DTypeError, "TransformerEncoderLayer: src_mask must hold boolea"),
    (lambda: nn.TransformerEncoderLayer(8, 0), ValueRangeError, "Layer: nhead must be a whole num"),
    (lambda: nn.TransformerEncoderLayer(0, 1), ValueRangeError, "Layer: d_model must be a whole n"),
    (lambda: MHA(ONE, TWO, TWO, np.ones((2, 3), bool)), ShapeError, "shape (2, 5), got (2, 3)"),
    (lambda: MHA(ONE, ONE, ONE, np.ones((2, 3), int)), DTypeError, "key_padding_mask must hold"),
    (lambda: MHA(ONE, TWO, TWO, attn_mask=np.ones((5, 3))), ShapeError, "(3, 5) or (4, 3, 5), got"),
    (lambda: MHA(ONE, ONE, ONE, attn_mask="no"), DTypeError, "attn_mask must hold booleans"),
    (lambda: nn.BilinearAttention(0), ValueRangeError, "dim"),
    (lambda: nn.BilinearAttention(4, 0), ValueRangeError, "heads"),
    (lambda: BILINEAR(ta.ones((2, 3, 5))), ShapeError, "input must be (batch, time, 4)"),
    (lambda: BILINEAR(ta.ones((2, 0, 4))), ShapeError, "empty sequence"),
    (lambda: BILINEAR(ONE, np.ones((2, 4), bool)), ShapeError, "shape (2, 3), got (2, 4)"),
    (lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.1, "tanh"), ValueRangeError, "'relu' or 'gelu'"),
    (
        lambda: nn.TransformerEncoderLayer(4, 3),
        ValueRangeError,
        "nhead 3 does not divide d_model 4",
    ),
    (lambda: nn.TransformerEncoderLayer(4, 2, 0), ValueRangeError, "dim_feedforward"),
    (lambda: nn.TransformerEncoderLayer(4, 2, batch_first=False), ValueRangeError, "batch_first"),
    (lambda: nn.TransformerEncoderLayer(4, 2, dropout=2), ValueRangeError, "dropout"),
    (lambda: ENCODER(ta.ones((2, 3, 5))), ShapeError, "src must be (batch, time, 4)"),
    (lambda: ENCODER(ta.ones((2, 0, 4))), ShapeError, "empty sequence"),
    (lambda: ENCODER(ONE, np.ones((2, 2), bool)), ShapeError, "(3, 3) or (4, 3, 3)"),
    (lambda: nn.PositionalEncoding(4, 2)(ONE), ShapeError, "3 long, max_len is 2"),
    (lambda: nn.PositionalEncoding(5)(ONE), ShapeError, "(batch, time, 5)"),
    (lambda: nn.PositionalEncoding(0), ValueRangeError, "d_model"),
    (lambda: nn.PositionalEncoding(4, 0), ValueRangeError, "max_len"),
]


@pytest.mark.parametrize("k", range(len(WRONG)))
def test_what_does_not_fit_is_refused_in_words(k):
    call, kind, said = WRONG[k]
    with pytest.raises(kind) as caught:
        call()
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


# ---------------------------------------------------------------------------------------- torch


def pair(name, *args, seed=0, **settings):
    """Our layer and torch's, in float64, with the same random parameters under the same names."""
    import torch  # noqa: PLC0415  (the extra `ci`)

    mine = filled(getattr(nn, name)(*args, **settings), np.random.default_rng(seed))
    theirs = getattr(torch.nn, name)(*args, batch_first=True, **settings).double()
    assert list(mine.state_dict()) == list(theirs.state_dict())
    state = {key: torch.tensor(value.numpy()) for key, value in mine.state_dict().items()}
    theirs.load_state_dict(state)
    return mine, theirs


def made(kind, rng, shape):
    """A mask of the kind; key 0 takes part everywhere, since torch has NaN where none does."""
    if kind is None:
        return None
    mask = rng.random(shape) < 0.5 if kind == "bool" else rng.standard_normal(shape)
    if kind == "float":
        mask[rng.random(shape) < 0.3] = -np.inf
    mask[..., 0] = 0
    return mask


def to_torch(x):
    import torch  # noqa: PLC0415  (the extra `ci`)

    return torch.tensor(x, requires_grad=x.dtype.kind == "f") if x is not None else None


def agree(mine, theirs, ours, others, rng):
    """Values, and gradients of inputs and parameters for random signed cotangents, to 1e-10."""
    import torch  # noqa: PLC0415  (the extra `ci`)

    found = [y for y in mine(ours) if y is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = [y for y in theirs(others) if y is not None]
    assert len(found) == len(expected)
    cotangents = [signed(rng, y.shape) for y in found]
    for y, z in zip(found, expected, strict=True):
        np.testing.assert_allclose(y.numpy(), z.detach().numpy(), rtol=1e-10, atol=1e-10)
    sum((y * g).sum() for y, g in zip(found, cotangents, strict=True)).backward()
    sum((z * torch.tensor(g)).sum() for z, g in zip(expected, cotangents, strict=True)).backward()
    for a, b in zip(ours, others, strict=True):
        if a is not None and a.requires_grad:
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-10, atol=1e-10)


def same_parameter_gradients(mine, theirs):
    for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(
            p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=name
        )


def to_ours(x):
    return None if x is None else Tensor(x, requires_grad=x.dtype.kind == "f")


@pytest.mark.peers
@given(st.data(), lengths, lengths, st.booleans(), mask_kinds, seeds)
def test_scaled_dot_products_are_those_of_torch(data, n, keys, causal, kind, seed):
    import torch  # noqa: PLC0415  (the extra `ci`)

    rng = np.random.default_rng(seed)
    kind = None if causal else kind  # torch takes one or the other
    lead = data.draw(st.sampled_from([(), (2,), (2, 3)]))
    scale = data.draw(st.sampled_from([None, 0.3]))
    shapes = (*lead, n, 4), (*lead, keys, 4), (*lead, keys, 2)
    mask = made(kind, rng, data.draw(st.sampled_from([(n, keys), (*lead, n, keys), (1, keys)])))
    mask = ~mask if kind == "bool" else mask
    arrays = [*(rng.standard_normal(s) for s in shapes), mask]
    agree(
        lambda x: [attention(*x, 0.0, causal, scale)],
        lambda x: [torch.nn.functional.scaled_dot_product_attention(*x, 0.0, causal, scale=scale)],
        [to_ours(a) for a in arrays],
        [to_torch(a) for a in arrays],
        rng,
    )


@pytest.mark.peers
@given(st.data(), lengths, lengths, mask_kinds, mask_kinds, seeds)
def test_multihead_attention_is_that_of_torch(data, n, keys, padding, masking, seed):
    rng = np.random.default_rng(seed)
    flags = data.draw(st.tuples(*[st.booleans()] * 5))
    bias, needed, averaged, causal, batched = flags
    heads, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    kdim, vdim = (data.draw(st.sampled_from([None, 2, 5])) for _ in range(2))
    embed = heads * width
    mine, theirs = pair(
        "MultiheadAttention", embed, heads, bias=bias, kdim=kdim, vdim=vdim, seed=seed
    )
    lead = (2,) if batched else ()
    wide = (2 * heads if batched else heads, n, keys)
    mask = made(masking, rng, data.draw(st.sampled_from([(n, keys), wide])))
    arrays = [
        rng.standard_normal((*lead, n, embed)),
        rng.standard_normal((*lead, keys, kdim or embed)),
        rng.standard_normal((*lead, keys, vdim or embed)),
        made(padding, rng, (*lead, keys)),
        mask,
    ]
    future = np.triu(np.ones((n, keys), bool), 1)

    def torch_s(x):  # torch wants the causal mask in the other
        q, k, v, pad, mask = x
        if causal and mask is None:
            mask = to_torch(future)
        elif causal:
            later = to_torch(future)
            mask = mask | later if mask.dtype == later.dtype else mask.masked_fill(later, -np.inf)
        return theirs(q, k, v, pad, needed, mask, averaged)

    agree(
        lambda x: mine(*x[:4], needed, x[4], averaged, causal),
        torch_s,
        [to_ours(a) for a in arrays],
        [to_torch(a) for a in arrays],
        rng,
    )
    same_parameter_gradients(mine, theirs)


@pytest.mark.peers
@given(st.data(), lengths, mask_kinds, mask_kinds, seeds)
def test_the_encoder_layer_is_that_of_torch(data, n, padding, masking, seed):
    rng = np.random.default_rng(seed)
    norm_first, bias, training = data.draw(st.tuples(*[st.booleans()] * 3))
    heads, width = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    activation = data.draw(st.sampled_from(["relu", "gelu"]))
    size, p = heads * width, 0.0 if training else 0.4
    settings = {"norm_first": norm_first, "bias": bias, "layer_norm_eps": 0.1, "seed": seed}
    mine, theirs = pair("TransformerEncoderLayer", size, heads, 7, p, activation, **settings)
    mine.train(training)
    theirs.train(training)
    shape = data.draw(st.sampled_from([(n, n), (2 * heads, n, n)]))
    arrays = [
        rng.standard_normal((2, n, size)),
        made(masking, rng, shape),
        made(padding, rng, (2, n)),
    ]
    agree(
        lambda x: [mine(*x)],
        lambda x: [theirs(*x)],
        [to_ours(a) for a in arrays],
        [to_torch(a) for a in arrays],
        rng,
    )
    same_parameter_gradients(mine, theirs)


@pytest.mark.peers
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_float32_is_as_exact_as_torch_s(activation):
    """Errors of values and gradients against float64, by the root of the sum of their squares."""
    import torch  # noqa: PLC0415  (the extra `ci`)

    mine, exact = pair("TransformerEncoderLayer", 32, 4, 64, 0.0, activation)
    theirs = copy.deepcopy(exact).float()
    mine.to(dtype=np.float32)
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((4, 16, 32)).astype(np.float32) for _ in range(2))
    a = Tensor(x, requires_grad=True)
    y = mine(a, is_causal=True)
    y.backward(g)
    future = torch.triu(torch.ones(16, 16, dtype=bool), 1)
    found = [y, a.grad, *(p.grad for p in mine.parameters())]
    results = []
    for layer, dtype in ((theirs, torch.float32), (exact, torch.float64)):
        b = torch.tensor(x, dtype=dtype, requires_grad=True)
        z = layer(b, future)
        z.backward(torch.tensor(g, dtype=dtype))
        results.append([z.detach(), b.grad, *(p.grad for p in layer.parameters())])
    for ours, single, double in zip(found, *results, strict=True):
        truth = double.numpy()
        error = np.linalg.norm(ours.numpy() - truth)
        assert error <= 4 * np.linalg.norm(single.numpy() - truth) + 1e-7 * np.linalg.norm(truth)
