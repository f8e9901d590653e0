"""Attributions: they are the gradients and integrals that they say, and add up."""

import io
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import nn, plots, random
from tinygrad_ai.errors import DTypeError, GraphError, ShapeError, ValueRangeError
from tinygrad_ai.explain.attribution import input_gradients, integrated_gradients, paint_words
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.terminal import Terminal

seeds = st.integers(0, 2**31)


def network(kind=nn.Tanh, classes=4):
    random.manual_seed(3)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 16), kind(), nn.Dropout(0.5), nn.Linear(16, classes)
    ).to(dtype="float64")


class Bag(nn.Module):
    """Scores of a mean of embeddings, masked where the token is 0."""

    def __init__(self, classes=3):
        random.manual_seed(5)
        self.words = nn.Embedding(11, 6)
        self.out = nn.Linear(6, classes)

    def forward(self, tokens):
        mask = (tokens != 0).astype("float32").reshape(*tokens.shape, 1)
        mean = (self.words(tokens).tanh() * mask).sum(axis=1) / mask.sum(axis=1)
        return self.out(mean)


def slopes_by_differences(f, x, step=1e-5):
    found = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        found[place] = (f(up) - f(down)) / (2 * step)
    return found


# ------------------------------------------------------------------------------- what they are


@given(seeds)
def test_input_gradients_are_those_of_the_chosen_score(seed):
    rng = np.random.default_rng(seed)
    model, x = network(), rng.normal(size=(3, 3, 4))
    target = rng.integers(0, 4, 3)
    found = input_gradients(model, x, target, batch_size=2)
    model.eval()
    numeric = slopes_by_differences(
        lambda p: float(model(Tensor(p)).numpy()[np.arange(3), target].sum()), x
    )
    np.testing.assert_allclose(found, numeric, rtol=1e-6, atol=1e-8)


@given(seeds)
def test_integrated_gradients_are_exact_for_a_polynomial(seed):
    """Of Σ a·x + (c·x)³ the integral has a closed form."""
    rng = np.random.default_rng(seed)
    a, c, x, b = rng.normal(size=(4, 5))

    def cubic(t):
        return (t * Tensor(a)).sum(axis=1) + (t * Tensor(c)).sum(axis=1) ** 3

    found = integrated_gradients(cubic, x[None], baseline=b, steps=2)
    u, v = c @ b, c @ (x - b)
    expected = (x - b) * (a + 3 * c * (u * u + u * v + v * v / 3))
    np.testing.assert_allclose(found.values[0], expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.residual, 0, atol=1e-9)


@given(seeds, st.sampled_from([1, 7, 64]))
def test_shares_add_up_to_the_difference_of_the_scores(seed, batch_size):
    rng = np.random.default_rng(seed)
    model, x, b = network(), rng.normal(size=(3, 3, 4)), rng.normal(size=(3, 4))
    found = integrated_gradients(model, x, baseline=b, steps=24, batch_size=batch_size)
    model.eval()
    scores, base = model(Tensor(x)).numpy(), model(Tensor(b[None])).numpy()[0]
    target = scores.argmax(axis=1)
    assert found.target.tolist() == target.tolist()
    np.testing.assert_allclose(found.output, scores.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.baseline_output, base[target], rtol=1e-12)
    total = found.values.sum(axis=(1, 2))
    np.testing.assert_allclose(total, found.output - found.baseline_output, rtol=1e-5, atol=1e-6)


def test_shares_nearly_add_up_across_the_kinks_of_relu():
    x = np.random.default_rng(0).normal(size=(4, 3, 4))
    model = network(nn.ReLU)
    rough, fine = (integrated_gradients(model, x, 1, steps=n).residual for n in (8, 256))
    assert np.abs(fine).max() < 0.003 < np.abs(rough).max()


def test_a_token_has_the_sum_over_its_features():
    model, tokens = Bag(), np.array([[3, 5, 0], [7, 7, 2]])
    found = integrated_gradients(model, tokens, target=[0, 2])
    assert found.values.shape == (2, 3)
    assert found.values[0, 2] == 0  # padding
    assert found.values[1, 0] == pytest.approx(found.values[1, 1])  # the same word twice
    empty = model.out.bias.numpy()[[0, 2]]  # the mean of embeddings that are 0
    np.testing.assert_allclose(found.baseline_output, empty, rtol=1e-6)
    np.testing.assert_allclose(found.residual, 0, atol=1e-5)
    slopes = input_gradients(model, tokens, target=[0, 2])
    table, out = model.words.weight.numpy(), model.out.weight.numpy()
    word = table[5]
    expected = (word * (1 - np.tanh(word) ** 2) * out[0]).sum() / 2
    assert slopes[0, 1] == pytest.approx(expected, rel=1e-5)


def test_the_baseline_of_tokens_may_be_a_token_or_embeddings():
    model, tokens = Bag(), np.array([[3, 5], [7, 2]])
    by_token = integrated_gradients(model, tokens, 1, baseline=4)
    row = model.words.weight.numpy()[4]
    by_row = integrated_gradients(model, tokens, 1, baseline=row)
    np.testing.assert_allclose(by_token.values, by_row.values, rtol=1e-6)
    alone = model(Tensor(np.array([[4, 4]]))).numpy()[0, 1]
    np.testing.assert_allclose(by_token.baseline_output, alone, rtol=1e-6)


def test_further_inputs_stay_as_they_are():
    x, scale = np.ones((3, 2), np.float32), np.array([[1.0], [2.0], [-3.0]])
    found = integrated_gradients(lambda a, b: (a * b).sum(axis=1), (x, scale), batch_size=5)
    np.testing.assert_allclose(found.values, np.broadcast_to(scale, (3, 2)), rtol=1e-6)


def test_modes_gradients_and_the_embedding_are_as_before():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Dropout(0.9), nn.Flatten(), nn.Linear(6, 2))
    model.train()
    model[1].eval()
    tokens = np.array([[1, 2]])
    first, again = (integrated_gradients(model, tokens).values for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert model[0](Tensor(tokens)).shape == (1, 2, 3)


def test_the_embedding_is_found_or_named():
    class Two(nn.Module):
        def __init__(self):
            self.words, self.places, self.unused = (nn.Embedding(4, 3) for _ in range(3))

        def forward(self, tokens):
            places = Tensor(np.arange(tokens.shape[1]))
            return (self.words(tokens) * self.places(places)).sum(axis=(1, 2))

    model, tokens = Two(), np.array([[1, 2, 3]])
    with pytest.raises(ValueRangeError, match="3: words, places, unused"):
        integrated_gradients(model, tokens)
    named = integrated_gradients(model, tokens, embedding="words")
    given = integrated_gradients(model, tokens, embedding=model.words)
    np.testing.assert_array_equal(named.values, given.values)
    assert np.abs(named.residual).max() < 1e-5
    with pytest.raises(ShapeError, match=r"the embedding is given \(3,\)"):
        integrated_gradients(model, tokens, embedding="places")
    with pytest.raises(GraphError, match="does not call its Embedding"):
        integrated_gradients(model, tokens, embedding="unused")
    with pytest.raises(ValueRangeError, match="no module 'word'"):
        integrated_gradients(model, tokens, embedding="word")


def test_a_score_that_jumps_is_warned_of():
    def jump(x):
        return (x > 0.5).astype("float32").sum(axis=1) + 0.1 * x.sum(axis=1)

    with pytest.warns(UserWarning, match="miss the difference of its scores by -1"):
        found = integrated_gradients(jump, np.ones((1, 1), np.float32))
    assert found.residual[0] == pytest.approx(-1, rel=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        integrated_gradients(network(), np.ones((2, 3, 4)))


@pytest.mark.parametrize(
    ("error", "said", "arguments"),
    [
        (DTypeError, "cannot be called", {"model": 3}),
        (DTypeError, "cannot be called", {"model": nn.Linear}),
        (ShapeError, "at least one sample", {"inputs": np.zeros((0, 12))}),
        (ShapeError, "at least one sample", {"inputs": (np.zeros((2, 12)), np.zeros(3))}),
        (ShapeError, "there are no inputs", {"inputs": ()}),
        (DTypeError, "must hold numbers", {"inputs": np.array(["a"])}),
        (DTypeError, "cannot be made an array", {"inputs": [[1.0], [1.0, 2.0]]}),
        (ValueRangeError, "there are none", {"inputs": np.zeros((2, 12), int)}),
        (DTypeError, "takes whole numbers", {"embedding": "1"}),
        (ValueRangeError, "target 4, but the model has 4 classes", {"target": 4}),
        (ValueRangeError, "target -1", {"target": [-1, 2]}),
        (ShapeError, r"target \(3,\) for 2 samples", {"target": [0, 1, 2]}),
        (DTypeError, "class numbers", {"target": 0.5}),
        (ShapeError, r"baseline \(5,\) does not broadcast", {"baseline": np.zeros(5)}),
        (ValueRangeError, "steps", {"steps": 0}),
        (DTypeError, "batch_size", {"batch_size": 1.5}),
        (ShapeError, "the model must give", {"model": lambda x: x.sum()}),
        (ShapeError, "the model must give", {"model": lambda x: x.reshape(2, 3, 4)}),
    ],
)
def test_what_does_not_fit_is_said(error, said, arguments):
    given = {"model": network(), "inputs": np.ones((2, 12))} | arguments
    with pytest.raises(error, match=said):
        integrated_gradients(**given)


@pytest.mark.peers
def test_integrated_gradients_are_torchs():
    """The same integral with torch's autograd, by the midpoint rule."""
    import torch  # noqa: PLC0415 - another framework

    rng = np.random.default_rng(1)
    model, x, b = network(), rng.normal(size=(2, 12)), rng.normal(size=12)
    w1, b1, w2, b2 = (torch.tensor(p.numpy()) for p in model.parameters())
    found = integrated_gradients(model, x, [2, 0], baseline=b).values
    for row, target, values in zip(x, [2, 0], found, strict=True):
        t = torch.arange(0.5, 4000, dtype=torch.float64)[:, None] / 4000
        path = (torch.tensor(b) + t * torch.tensor(row - b)).requires_grad_()
        (torch.tanh(path @ w1.T + b1) @ w2.T + b2)[:, target].sum().backward()
        np.testing.assert_allclose(values, (row - b) * path.grad.mean(0).numpy(), rtol=1e-5)


# ---------------------------------------------------------------------------------- to be seen


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_words_are_painted_by_their_share(monkeypatch):
    words, values = ["a", "wonderful", "dull", "film"], [0.01, 2.0, -0.5, 0.1]
    plain = Terminal(io.StringIO())
    assert paint_words(words, values, plain) == ["a wonderful[++] dull[-] film"]
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    screen = Terminal(Screen())
    (painted,) = paint_words(words, values, screen)
    assert painted == "a \033[1m\033[32mwonderful\033[0m\033[0m \033[31mdull\033[0m film"
    assert paint_words(["a"], [0.0], screen) == ["a"]
    with pytest.raises(ShapeError, match=r"values \(2,\) for 1 words"):
        paint_words(["a"], [1, 2], screen)


def test_painted_words_keep_to_the_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    words = ["extraordinary"] * 3 + ["x" * 30] + ["a"] * 15
    lines = paint_words(words, np.linspace(-1, 1, 19), Terminal(io.StringIO()))
    assert [line for line in lines if len(line) > 20] == ["x" * 30 + "[--]"]
    assert [shown.split("[")[0] for shown in " ".join(lines).split()] == words


def test_pictures_of_shares_are_written(tmp_path):
    rng = np.random.default_rng(0)
    digit, words = rng.random((28, 28)), ["costs", "$5", "and", "$6"] * 20
    plots.shares(digit, rng.normal(size=(28, 28)), tmp_path / "shares.png", "a 5")
    plots.shares(np.zeros((3, 4)), np.zeros((3, 4)), tmp_path / "nothing.png")
    texts = [("one", words, rng.normal(size=80)), ("two", ["short"], np.zeros(1))]
    plots.words(texts, tmp_path / "words.png")
    plots.attention(rng.random((3, 80)), words[:3], words, tmp_path / "attention.png")
    assert len(list(tmp_path.iterdir())) == 4
    assert all(path.stat().st_size > 2000 for path in tmp_path.iterdir())
