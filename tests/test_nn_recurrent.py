"""Recurrent layers: their formulas by hand, masks, dropout, errors, and that they are PyTorch's."""

import math

import numpy as np
import pytest
from gradcheck import signed
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import autodiff, nn, random
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.ops.movement import stack
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.testing import assert_gradients
from tinygrad_ai.transforms import jvp, vjp, vmap

KINDS = ["RNN", "LSTM", "GRU"]
PARTS = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**31)
sizes = st.integers(1, 4)


def layer(kind, *args, **keywords):
    return getattr(nn, kind)(*args, **{"dtype": np.float64} | keywords)


def parts_of(out):
    """Output, and one or two states, of a layer."""
    output, state = out
    return (output, *state) if isinstance(state, tuple) else (output, state)


def arrays_of(out):
    return [part.numpy() for part in parts_of(out)]


def set_all(module, **values):
    for name, value in values.items():
        setattr(module, name, nn.Parameter(np.array(value, np.float64)))


# ----------------------------------------------------------------------------------- by hand


def test_simple_cell_is_the_formula_of_the_documents():
    """h_t = tanh(W_hh·h_{t-1} + W_xh·x_t + b_h), with numbers small enough to do by hand."""
    cell = nn.RNNCell(2, 2)
    set_all(
        cell, weight_ih=[[1, 2], [0, -1]], weight_hh=[[0.5, 0], [1, -1]], bias_ih=[0.5, 0],
        bias_hh=[-0.25, 1],
    )  # fmt: skip
    h = cell(Tensor(np.array([[1.0, -1.0]])), Tensor(np.array([[0.5, 0.25]])))
    first = 0.5 * 0.5 + (1 - 2) + 0.25
    second = 0.5 - 0.25 + 1 + 1
    np.testing.assert_allclose(h.numpy(), [[math.tanh(first), math.tanh(second)]], rtol=1e-15)
    relu = nn.RNNCell(2, 2, nonlinearity="relu")
    relu.load_state_dict(cell.state_dict())
    h = relu(Tensor(np.array([[1.0, -1.0]])), Tensor(np.array([[0.5, 0.25]])))
    assert h.tolist() == [[0, second]]


def sigma(x):
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(w_ih, w_hh, b_ih, b_hh, x, h, c):
    n = h.shape[1]
    z = x @ w_ih.T + h @ w_hh.T + b_ih + b_hh
    i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))
    c = sigma(f) * c + sigma(i) * np.tanh(g)
    return sigma(o) * np.tanh(c), c


def gru_by_hand(w_ih, w_hh, b_ih, b_hh, x, h):
    n = h.shape[1]
    a, b = x @ w_ih.T + b_ih, h @ w_hh.T + b_hh
    r, z = sigma(a[:, :n] + b[:, :n]), sigma(a[:, n : 2 * n] + b[:, n : 2 * n])
    return ((1 - z) * np.tanh(a[:, 2 * n :] + r * b[:, 2 * n :]) + z * h,)


def rnn_by_hand(w_ih, w_hh, b_ih, b_hh, x, h):
    return (np.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh),)


BY_HAND = {"RNN": rnn_by_hand, "LSTM": lstm_by_hand, "GRU": gru_by_hand}


@given(kind=kinds, features=sizes, hidden=sizes, batch=sizes, time=sizes, seed=seeds)
def test_cells_and_layers_are_the_formulas_in_numpy(kind, features, hidden, batch, time, seed):
    rng = np.random.default_rng(seed)
    cell = layer(f"{kind}Cell", features, hidden)
    net = layer(kind, features, hidden)
    net.load_state_dict({f"{name}_l0": p for name, p in cell.state_dict().items()})
    weights = [p.numpy() for p in cell.parameters()]
    x = rng.standard_normal((batch, time, features))
    start = rng.standard_normal((2 if kind == "LSTM" else 1, batch, hidden))
    expected, ours, outputs = tuple(start), tuple(map(Tensor, start)), []
    for t in range(time):
        expected = BY_HAND[kind](*weights, x[:, t], *expected)
        made = cell(Tensor(x[:, t]), ours if kind == "LSTM" else ours[0])
        ours = made if kind == "LSTM" else (made,)
        outputs.append(expected[0])
        for a, b in zip(ours, expected, strict=True):
            np.testing.assert_allclose(a.numpy(), b, rtol=1e-12, atol=1e-14)
    initial = tuple(s[None] for s in start)
    got = arrays_of(net(x, initial if kind == "LSTM" else initial[0]))
    np.testing.assert_allclose(got[0], np.stack(outputs, 1), rtol=1e-12, atol=1e-14)
    for a, b in zip(got[1:], expected, strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-12, atol=1e-14)


@given(kind=kinds, hidden=sizes, seed=seeds)
def test_layers_and_directions_are_nets_of_their_own(kind, hidden, seed):
    rng = np.random.default_rng(seed)
    net = layer(kind, 2, hidden, 2, bidirectional=True)
    state = net.state_dict()
    x = rng.standard_normal((3, 4, 2))
    starts = rng.standard_normal((2 if kind == "LSTM" else 1, 4, 3, hidden))
    output, *ends = arrays_of(net(x, starts[0] if len(starts) == 1 else tuple(starts)))
    for k in range(2):
        halves = []
        for d, ending in enumerate(("", "_reverse")):
            alone = layer(kind, x.shape[-1], hidden)
            names = [f"{part}_l{k}{ending}" for part in PARTS]
            alone.load_state_dict(
                {f"{part}_l0": state[n] for part, n in zip(PARTS, names, strict=True)}
            )
            row = slice(2 * k + d, 2 * k + d + 1)
            start = starts[0][row] if len(starts) == 1 else tuple(s[row] for s in starts)
            half, *its_ends = arrays_of(alone(x[:, ::-1] if d else x, start))
            halves.append(half[:, ::-1] if d else half)
            for a, b in zip(ends, its_ends, strict=True):
                np.testing.assert_allclose(a[row], b, rtol=1e-12, atol=1e-14)
        x = np.concatenate(halves, -1)
    np.testing.assert_allclose(output, x, rtol=1e-12, atol=1e-14)


# ------------------------------------------------------------------------- what counts, and where


@given(kind=kinds, layers=st.integers(1, 2), both=st.booleans(), seed=seeds)
def test_a_masked_step_might_as_well_not_be_there(kind, layers, both, seed):
    """Each sequence without its masked steps gives the same outputs and the same end."""
    rng = np.random.default_rng(seed)
    net = layer(kind, 2, 3, layers, bidirectional=both)
    x, mask = rng.standard_normal((3, 5, 2)), rng.random((3, 5)) < 0.6
    mask[0, 2] = True
    x[~mask] = np.nan
    output, *ends = arrays_of(net(x, mask=mask))
    assert not output[~mask].any()
    for row in range(3):
        if not mask[row].any():
            assert not any(end[:, row].any() for end in ends)
            continue
        alone, *its_ends = arrays_of(net(x[row : row + 1, mask[row]]))
        np.testing.assert_allclose(output[row, mask[row]], alone[0], rtol=1e-12, atol=1e-14)
        for a, b in zip(ends, its_ends, strict=True):
            np.testing.assert_allclose(a[:, row], b[:, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_gets_no_gradient_and_gives_none(kind):
    net = layer(kind, 2, 3, bidirectional=True)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 4, 2))
    found = []
    for padding in (np.nan, 7.0):
        values[1, 1:] = padding
        x = Tensor(values, requires_grad=True)
        net.zero_grad()
        output, *ends = parts_of(net(x, lengths=[4, 1]))
        output.backward(signed(np.random.default_rng(1), output.shape), retain_graph=True)
        ends[0].backward(signed(np.random.default_rng(2), ends[0].shape))
        assert not x.grad.numpy()[1, 1:].any() and x.grad.numpy()[1, 0].all()
        found.append([p.grad.numpy() for p in net.parameters()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@given(kind=kinds, layers=st.integers(1, 2), both=st.booleans(), seed=seeds)
def test_lengths_are_a_mask_and_the_last_output_is_at_each_end(kind, layers, both, seed):
    rng = np.random.default_rng(seed)
    every = layer(kind, 2, 3, layers, bidirectional=both)
    last = layer(kind, 2, 3, layers, bidirectional=both, return_sequences=False)
    last.load_state_dict(every.state_dict())
    x, lengths = rng.standard_normal((4, 5, 2)), rng.integers(1, 6, 4)
    output, *ends = arrays_of(every(x, lengths=lengths))
    masked = arrays_of(every(x, mask=np.arange(5) < lengths[:, None]))
    for a, b in zip((output, *ends), masked, strict=True):
        np.testing.assert_array_equal(a, b)
    short, *same = arrays_of(last(x, lengths=list(map(int, lengths))))
    forward = output[np.arange(4), lengths - 1, :3]
    np.testing.assert_array_equal(short, np.concatenate([forward, output[:, 0, 3:]], 1))
    for a, b in zip(ends, same, strict=True):
        np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_cells(kind):
    rng = np.random.default_rng(3)
    cell = layer(f"{kind}Cell", 2, 3)
    state = tuple(rng.standard_normal((2, 3)) for _ in range(2 if kind == "LSTM" else 1))
    assert_gradients(lambda m, x, *s: m(x, s if len(s) > 1 else s[0]), cell,
                     rng.standard_normal((2, 2)), *state)  # fmt: skip


@pytest.mark.parametrize(("kind", "directions"), [("RNN", 2), ("LSTM", 1), ("GRU", 1)])
def test_gradients_of_layers(kind, directions):
    rng = np.random.default_rng(4)
    net = layer(kind, 1, 2, bidirectional=directions == 2)
    state = tuple(
        rng.standard_normal((directions, 2, 2)) for _ in range(2 if kind == "LSTM" else 1)
    )
    mask = np.array([[True, False, True], [True, True, False]])
    assert_gradients(
        lambda m, x, *s: parts_of(m(x, s if len(s) > 1 else s[0], mask=mask)),
        net, rng.standard_normal((2, 3, 1)), *state,
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_second_order_forward_mode_and_vmap(kind):
    rng = np.random.default_rng(5)
    net = layer(kind, 2, 2)
    x, v = rng.standard_normal((2, 2, 3, 2))
    assert_gradients(lambda x: net(x)[0], x, order=2)
    out, slope = jvp(lambda x: net(x)[0], (Tensor(x),), (Tensor(v),))
    g = Tensor(signed(rng, out.shape))
    back = vjp(lambda x: net(x)[0], Tensor(x))[1](g)
    assert (slope * g).sum().item() == pytest.approx((back * Tensor(v)).sum().item(), rel=1e-12)
    both = Tensor(np.stack([x, v]))
    expected = stack([net(both[0])[0], net(both[1])[0]]).numpy()
    np.testing.assert_allclose(vmap(lambda x: net(x)[0])(both).numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_work_grows_with_time_and_not_with_its_square(kind, monkeypatch):
    net = layer(kind, 3, 8)
    written = read = 0

    def counting(primitive, args, arrays, params):
        nonlocal written
        out = primitive.evaluate(arrays, params)
        written += out.size if out.base is None else 0  # a view writes nothing
        return out

    def reading(node, k, residual=autodiff.Node.residual):
        nonlocal read
        read += 1
        return residual(node, k)

    def work(time):
        """Elements that all operations write, and residuals read, forward and backward."""
        nonlocal written, read
        written = read = 0
        output = net(Tensor(np.ones((4, time, 3)), requires_grad=True))[0]
        output.backward(np.ones(output.shape))
        return written, read

    monkeypatch.setattr(autodiff.mode, "interpreter", counting)
    monkeypatch.setattr(autodiff.Node, "residual", reading)
    (few, looks), (many, more_looks) = work(8), work(128)
    assert many < 17 * few and more_looks < 3 * 16 * looks


# ------------------------------------------------------------------------------------ dropout


def identity_net(layers, **settings):
    """A relu net that hands on h_{t-1} (or, with two layers, the input) unchanged."""
    net = layer("RNN", 50, 50, layers, "relu", bias=False, **settings)
    for name, p in net.named_parameters():
        through = "weight_hh" in name if layers == 1 else "weight_ih" in name
        p.array[...] = np.eye(50) * through
    return net


def test_recurrent_dropout_is_one_mask_for_a_sequence():
    random.manual_seed(1)
    p = 0.4
    net = identity_net(1, recurrent_dropout=p, bidirectional=True)
    h = net(np.zeros((40, 6, 50)), np.ones((2, 40, 50)))[0].numpy()
    forward, backward = h[..., :50], h[:, ::-1, 50:]
    for run in (forward, backward):
        kept = run[:, 0] > 0
        for t in range(6):
            np.testing.assert_allclose(run[:, t], np.where(kept, (1 / (1 - p)) ** (t + 1), 0))
        assert kept.mean() == pytest.approx(1 - p, abs=0.04)  # 2000 draws: σ = 0.011
    masks = [forward[0, 0], forward[1, 0], backward[0, 0]]
    assert len({mask.tobytes() for mask in masks}) == 3
    again = net(np.zeros((40, 6, 50)), np.ones((2, 40, 50)))[0].numpy()
    assert not np.array_equal(h, again)


def test_dropout_acts_between_layers_at_every_step_anew():
    random.manual_seed(2)
    output = identity_net(2, dropout=0.25)(np.ones((20, 8, 50)))[0].numpy()
    np.testing.assert_allclose(np.unique(output), [0, 4 / 3])
    assert (output > 0).mean() == pytest.approx(0.75, abs=0.02)  # 8000 draws: σ = 0.005
    assert not np.array_equal(output[:, 0], output[:, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_rests_in_evaluation(kind):
    x = np.random.default_rng(6).standard_normal((3, 4, 2))
    dropping = layer(kind, 2, 30, 2, dropout=0.5, recurrent_dropout=0.5)
    plain = layer(kind, 2, 30, 2)
    plain.load_state_dict(dropping.state_dict())
    trained = dropping(x)[0].numpy()
    np.testing.assert_array_equal(dropping.eval()(x)[0].numpy(), plain(x)[0].numpy())
    assert not np.allclose(trained, plain(x)[0].numpy())
    everything = layer(kind, 2, 3, recurrent_dropout=1.0)
    assert np.isfinite(everything(x)[0].numpy()).all()


def test_recurrent_dropout_leaves_the_carried_state_alone():
    """Only W·h_{t-1} sees the mask: with the update gate shut, a GRU keeps its state whole."""
    net = layer("GRU", 1, 20, recurrent_dropout=0.5)
    for name, p in net.named_parameters():
        p.array[...] = 0
        if name == "bias_ih_l0":
            p.array[20:40] = 100
    start = np.random.default_rng(7).standard_normal((1, 2, 20))
    np.testing.assert_allclose(net(np.zeros((2, 3, 1)), start)[1].numpy(), start, rtol=1e-12)


# --------------------------------------------------------------------------- parameters, settings


def test_parameters_are_named_and_started_as_pytorch_does():
    random.manual_seed(3)
    net = nn.LSTM(5, 16, 2, bidirectional=True)
    shapes = {name: t.shape for name, t in net.state_dict().items()}
    assert list(shapes)[:8] == [
        f"{part}_l0{ending}" for ending in ("", "_reverse") for part in PARTS
    ]
    assert shapes["weight_ih_l0_reverse"] == (64, 5) and shapes["weight_ih_l1"] == (64, 32)
    assert shapes["weight_hh_l1"] == (64, 16) and shapes["bias_hh_l1_reverse"] == (64,)
    for p in net.parameters():
        assert 0.2 < abs(p.numpy()).max() <= 0.25 and p.dtype == np.float32
    assert len(list(nn.GRU(2, 3, bias=False).parameters())) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_types_devices_and_batches_of_none(kind):
    net = getattr(nn, kind)(2, 3, 2)
    assert {part.dtype for part in parts_of(net(Tensor([[[1.0, 2.0]]])))} == {np.dtype(np.float32)}
    assert net.to(dtype=np.float64)(np.ones((1, 2, 2)))[0].dtype == np.float64
    assert [part.shape for part in parts_of(net(np.ones((0, 4, 2))))][:2] == [(0, 4, 3), (2, 0, 3)]
    assert net(np.ones((0, 4, 2)), lengths=np.zeros(0, int))[0].shape == (0, 4, 3)


def test_how_layers_show_themselves():
    assert repr(nn.LSTM(2, 3, 2, dropout=0.5)) == "LSTM(2, 3, num_layers=2, dropout=0.5)"
    assert repr(nn.RNN(2, 3, bias=False)) == "RNN(2, 3, bias=False, nonlinearity='tanh')"
    assert repr(nn.GRUCell(2, 3)) == "GRUCell(2, 3)"
    assert "2*12 + 3*12 + 12 + 12 = 84" in nn.LSTM(2, 3).summary()
    with pytest.warns(UserWarning, match="acts between layers, and there is one"):
        nn.RNN(2, 3, dropout=0.5)


# ------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.RNN(0, 3), ValueRangeError, "RNN: input_size must be a whole number of at"),
        (lambda: nn.LSTM(2, 0), ValueRangeError, "LSTM: hidden_size must be a whole number"),
        (lambda: nn.GRU(2, 2.5), DTypeError, "GRU: hidden_size must be a whole number"),
        (lambda: nn.GRU(2, 3, 0), ValueRangeError, "GRU: num_layers must be a whole number"),
        (lambda: nn.GRUCell(2, -1), ValueRangeError, "GRUCell: hidden_size must be a whole"),
        (lambda: nn.LSTM(2, 3, batch_first=False), ValueRangeError, "batch_first must be True"),
        (lambda: nn.LSTM(2, 3, 2, dropout=1.5), ValueRangeError, r"dropout must lie in \[0, 1\]"),
        (lambda: nn.LSTM(2, 3, dropout="a"), DTypeError, "LSTM: dropout"),
        (lambda: nn.RNN(2, 3, recurrent_dropout=-1), ValueRangeError, "recurrent_dropout must lie"),
        (lambda: nn.RNN(2, 3, nonlinearity="sin"), ValueRangeError, "'tanh' or 'relu', not 'sin'"),
        (lambda: nn.RNNCell(2, 3, nonlinearity="gelu"), ValueRangeError, "RNNCell: nonlinearity"),
    ],
)
def test_settings_that_make_no_sense(make, error, message):
    with pytest.raises(error, match=message):
        make()


X = np.ones((2, 4, 3))
H = np.zeros((1, 2, 5))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layer("RNN", 3, 5)(X[:, :0]), ShapeError, r"there is no step.*\(2, 0, 3\)"),
        (lambda: layer("RNN", 3, 5)(X[0]), ShapeError, r"\(batch, time, 3\), got \(4, 3\)"),
        (lambda: layer("GRU", 3, 5)(X[..., :2]), ShapeError, r"time, 3\), got \(2, 4, 2\)"),
        (lambda: layer("LSTM", 3, 5)(X.astype(int)), DTypeError, "floating-point.*int64"),
        (lambda: layer("LSTM", 3, 5)("text"), DTypeError, "str"),
        (lambda: layer("RNN", 3, 5)(X, H[:, :1]), ShapeError, r"h must be \(1, 2, 5\), got \(1, 1"),
        (lambda: layer("RNN", 3, 5)(X, (H, H)), DTypeError, r"must be one array h of shape \(1, 2"),
        (lambda: layer("LSTM", 3, 5)(X, H), DTypeError, r"must be a pair \(h, c\), each of shape"),
        (lambda: layer("LSTM", 3, 5)(X, (H, H[0])), ShapeError, r"c must be .* got \(2, 5\)"),
        (lambda: layer("GRU", 3, 5)(X, H.astype(int)), DTypeError, "initial h needs floating"),
        (lambda: layer("GRU", 3, 5)(X, lengths=[1, 5]), ValueRangeError, "length 5 is not one of"),
        (lambda: layer("GRU", 3, 5)(X, lengths=[0, 4]), ValueRangeError, "0 is not one of 1 to 4"),
        (lambda: layer("GRU", 3, 5)(X, lengths=[4]), ShapeError, r"must be \(2,\), got \(1,\)"),
        (lambda: layer("GRU", 3, 5)(X, lengths=[1.0, 2]), DTypeError, "must be integers, not"),
        (lambda: layer("GRU", 3, 5)(X, mask=np.ones((2, 4))), DTypeError, "mask must hold bool"),
        (lambda: layer("GRU", 3, 5)(X, mask=np.ones((4, 2), bool)), ShapeError, r"must be \(2, 4"),
        (lambda: layer("GRU", 3, 5)(X, lengths=[1, 2], mask=X[..., 0] > 0), ValueRangeError,
         "lengths and mask both"),
        (lambda: layer("RNNCell", 3, 5)(X), ShapeError, r"input must be \(batch, 3\), got \(2, 4"),
        (lambda: layer("LSTMCell", 3, 5)(X[0], H[0]), DTypeError, r"a pair \(h, c\)"),
        (lambda: layer("GRUCell", 3, 5)(X[0], H[0]), ShapeError, r"h must be \(4, 5\), got \(2, 5"),
    ],
)  # fmt: skip
def test_calls_that_make_no_sense(call, error, message):
    with pytest.raises(error, match=message):
        call()


# -------------------------------------------------------------------------------------- torch


@st.composite
def configurations(draw):
    kind = draw(kinds)
    settings = {
        "input_size": draw(sizes), "hidden_size": draw(sizes), "bias": draw(st.booleans()),
        "num_layers": draw(st.integers(1, 3)), "bidirectional": draw(st.booleans()),
    }  # fmt: skip
    if kind == "RNN":
        settings["nonlinearity"] = draw(st.sampled_from(["tanh", "relu"]))
    return kind, settings, draw(sizes), draw(st.integers(1, 7)), draw(seeds)


def both_runs(kind, settings, batch, time, seed, dtype=np.float64):
    """Outputs and gradients here, and a function from a dtype to torch's in the same order."""
    import torch  # noqa: PLC0415  (the extra `ci`)

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    random.manual_seed(seed)
    net = layer(kind, **settings, dtype=dtype)
    state = {name: t.numpy().copy() for name, t in net.state_dict().items()}
    rows = settings["num_layers"] * (1 + settings["bidirectional"])
    x = rng.standard_normal((batch, time, settings["input_size"])).astype(dtype)
    start = rng.standard_normal((2 if kind == "LSTM" else 1, rows, batch, settings["hidden_size"]))
    start = list(start.astype(dtype)) if rng.random() < 0.5 else None
    lengths = rng.integers(1, time + 1, batch) if rng.random() < 0.5 else None

    def there(name):
        kind_of = getattr(torch, name)
        peer = getattr(torch.nn, kind)(**settings, batch_first=True, dtype=kind_of)
        peer.load_state_dict({k: torch.tensor(v, dtype=kind_of) for k, v in state.items()})
        inputs = [torch.tensor(a, dtype=kind_of, requires_grad=True) for a in (x, *(start or []))]
        given = inputs[0]
        if lengths is not None:
            given = torch.nn.utils.rnn.pack_padded_sequence(
                given, torch.tensor(lengths), batch_first=True, enforce_sorted=False
            )
        out, end = peer(given, paired(inputs[1:]))
        if lengths is not None:
            out = torch.nn.utils.rnn.pad_packed_sequence(out, True, total_length=time)[0]
        outs = parts_of((out, end))
        torch.autograd.backward(outs, [torch.tensor(g, dtype=kind_of) for g in cotangents(outs)])
        assert list(state) == list(peer.state_dict())
        made = [o.detach().numpy() for o in outs]
        return made + [t.grad.numpy() for t in (*inputs, *peer.parameters())]

    def cotangents(outs):
        generator = np.random.default_rng(seed + 1)
        return [signed(generator, tuple(o.shape)).astype(dtype) for o in outs]

    def paired(parts):
        return None if not parts else tuple(parts) if kind == "LSTM" else parts[0]

    inputs = [Tensor(a, requires_grad=True) for a in (x, *(start or []))]
    outs = parts_of(net(inputs[0], paired(inputs[1:]), lengths=lengths))
    for out, g in zip(outs, cotangents(outs), strict=True):
        out.backward(g, retain_graph=True)
    ours = [o.numpy() for o in outs] + [t.grad.numpy() for t in (*inputs, *net.parameters())]
    return ours, there


@pytest.mark.peers
@given(configuration=configurations())
def test_layers_are_those_of_torch(configuration):
    ours, there = both_runs(*configuration)
    for a, b in zip(ours, there("float64"), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
@given(both=st.booleans(), seed=seeds)
def test_float32_is_about_as_exact_as_in_torch(kind, both, seed):
    """The worst error of all results is within four times torch's own worst error."""
    settings = {"input_size": 20, "hidden_size": 16, "num_layers": 2, "bidirectional": both}
    ours, there = both_runs(kind, settings, 6, 30, seed, np.float32)
    theirs, exact = there("float32"), there("float64")
    assert all(a.dtype == np.float32 for a in ours)
    mine, torchs = (
        max(abs(a - c).max() / abs(c).max() for a, c in zip(results, exact, strict=True))
        for results in (ours, theirs)
    )
    assert mine <= 4 * torchs


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
@given(bias=st.booleans(), features=sizes, hidden=sizes, batch=sizes, seed=seeds)
def test_cells_are_those_of_torch(kind, bias, features, hidden, batch, seed):
    import torch  # noqa: PLC0415  (the extra `ci`)

    rng = np.random.default_rng(seed)
    cell = layer(f"{kind}Cell", features, hidden, bias)
    peer = getattr(torch.nn, f"{kind}Cell")(features, hidden, bias, dtype=torch.float64)
    peer.load_state_dict({k: torch.tensor(v.numpy()) for k, v in cell.state_dict().items()})
    x = rng.standard_normal((batch, features))
    start = rng.standard_normal((2, batch, hidden)) if kind == "LSTM" else None
    mine = cell(x, start if start is None else tuple(start))
    yours = peer(torch.tensor(x), start if start is None else tuple(map(torch.tensor, start)))
    pairs = zip(mine, yours, strict=True) if kind == "LSTM" else [(mine, yours)]
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-12, atol=1e-14)
