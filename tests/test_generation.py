"""Choosing tokens, and driving a model token by token."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_ai as ta
from tinygrad_ai import nn
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.generation import generate, greedy, sample
from tinygrad_ai.tensor import Tensor

seeds = st.integers(0, 2**31)


def shares(probabilities, n=20_000, **settings):
    """How often each token is drawn from logits with these probabilities."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.tile(probabilities, (n, 1)))
    return np.bincount(sample(logits, **settings).numpy(), minlength=len(probabilities)) / n


def close(found, expected, n=20_000):
    """Within five standard deviations, and exactly 0 where nothing is expected."""
    expected = np.asarray(expected)
    assert (abs(found - expected) <= 5 * np.sqrt(expected * (1 - expected) / n)).all(), found


# ------------------------------------------------------------------------------ choosing a token


def test_greedy_takes_the_largest_and_the_first_of_equals():
    tokens = greedy(Tensor([[0.0, 3.0, 3.0], [-np.inf, -5.0, -6.0]]))
    assert tokens.tolist() == [1, 1] and tokens.dtype == np.int64
    assert greedy([1.0, 2.0]).item() == 1
    assert greedy(np.zeros((0, 3))).shape == (0,)


def test_frequencies_are_the_probabilities():
    ta.random.manual_seed(0)
    p = np.array([0.1, 0.0, 0.6, 0.05, 0.25])
    close(shares(p), p)
    close(shares(p, temperature=0.5), p**2 / (p**2).sum())
    hot = np.sqrt(p) / np.sqrt(p).sum()
    close(shares(p, temperature=2), hot)
    close(shares(p, top_p=1.0), p)
    close(shares(p, top_k=99), p)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 1}, [2]),
        ({"top_k": 3}, [2, 4, 0]),
        ({"top_p": 1e-9}, [2]),
        ({"top_p": 0.59}, [2]),
        ({"top_p": 0.61}, [2, 4]),
        ({"top_p": 0.86}, [2, 4, 0]),
        ({"top_p": 0.96}, [0, 2, 3, 4]),
        ({"top_k": 2, "top_p": 0.7}, [2]),  # of the two left, 0.6/0.85 > 0.7
        ({"top_k": 2, "top_p": 0.71}, [2, 4]),
        ({"top_p": 0.9, "temperature": 0.5}, [2, 4]),
    ],
)
def test_top_k_and_top_p_keep_exactly_the_right_tokens(settings, kept):
    ta.random.manual_seed(1)
    p = np.array([0.1, 0.0, 0.6, 0.05, 0.25])
    expected = np.zeros(5)
    expected[kept] = p[kept] ** (1 / settings.get("temperature", 1))
    found = shares(p, **settings)
    assert sorted(np.flatnonzero(found)) == sorted(kept)
    close(found, expected / expected.sum())


def test_of_equal_logits_the_first_are_kept():
    ta.random.manual_seed(2)
    assert set(sample(np.zeros((1000, 5)), top_k=2).tolist()) == {0, 1}
    assert set(sample(np.zeros((1000, 5)), top_p=0.5).tolist()) == {0, 1, 2}
    assert set(sample(np.zeros((1000, 5))).tolist()) == {0, 1, 2, 3, 4}
    assert set(sample(np.tile([0.0, 1.0], (1000, 50)), top_k=3).tolist()) == {1, 3, 5}


@pytest.mark.parametrize(("drawn", "token"), [(0.0, 1), (0.5, 2), (1 - 2.0**-53, 2)])
def test_every_number_below_one_has_its_token(drawn, token, monkeypatch):
    monkeypatch.setattr(ta.random, "uniform", lambda size, dtype: Tensor(np.full(size, drawn)))
    assert sample([[-np.inf, 0.0, 0.0, -np.inf]]).tolist() == [token]


@given(seeds, st.integers(1, 9), st.none() | st.integers(1, 9), st.none() | st.floats(0.01, 1))
def test_tokens_come_from_the_nucleus(seed, vocabulary, top_k, top_p):
    """Against the definition, with probabilities added up one by one."""
    logits = 2 * np.random.default_rng(seed).standard_normal(vocabulary)
    ranked = sorted(range(vocabulary), key=lambda i: -logits[i])[:top_k]
    weight = {i: np.exp(logits[i]) for i in ranked}
    nucleus, mass = [], 0.0
    for i in ranked:
        if top_p is not None and mass >= top_p * sum(weight.values()) - 1e-12:
            break
        nucleus.append(i)
        mass += weight[i]
    ta.random.manual_seed(seed)
    drawn = set(sample(np.tile(logits, (300, 1)), top_k=top_k, top_p=top_p).tolist())
    assert drawn <= set(nucleus)
    assert {i for i in nucleus if weight[i] > 0.1 * mass} <= drawn


def test_the_seed_fixes_the_tokens():
    logits = np.random.default_rng(0).standard_normal((50, 7))
    ta.random.manual_seed(3)
    first, second = sample(logits).tolist(), sample(logits).tolist()
    ta.random.manual_seed(3)
    assert sample(logits).tolist() == first and first != second
    assert sample(logits.astype(np.float32).reshape(5, 10, 7)).shape == (5, 10)
    assert sample(logits[0]).shape == () and sample(logits[0]).dtype == np.int64


@pytest.mark.parametrize("temperature", [1e-300, 5e-324, 1e300])
def test_extreme_temperatures_and_logits(temperature):
    logits = np.array([[1e30, -1e30, -np.inf, 1e30], [-800.0, -801.0, -np.inf, -np.inf]])
    for _ in range(20):
        a, b = sample(logits, temperature).tolist()
        assert a in (0, 1, 3) and b in (0, 1)
        assert temperature > 1 or (a in (0, 3) and b == 0)
    assert sample(Tensor(np.array([[6e4, 0.0]], np.float16))).tolist() == [0]


def count_up(tokens):
    """Logits of a model whose next token is the last plus one, modulo 5, at every step."""
    return nn.functional.one_hot((tokens + 1) % 5, 5).astype(np.float32)


NAN = [[0.0, 1.0], [np.nan, 0.0]]
WRONG = [
    (lambda: sample(NAN), ValueRangeError, "sample: the logits of row 1 hold NaN"),
    (lambda: greedy(NAN), ValueRangeError, "greedy: the logits of row 1 hold NaN"),
    (lambda: sample([np.inf, 0.0]), ValueRangeError, "the logits hold +inf"),
    (lambda: sample([[-np.inf]]), ValueRangeError, "row 0 hold nothing but -inf"),
    (lambda: sample([1, 2]), DTypeError, "not int64"),
    (lambda: sample(1.0), ShapeError, "(..., vocab) with a vocabulary, got ()"),
    (lambda: greedy(np.ones((2, 0))), ShapeError, "got (2, 0)"),
    (lambda: sample([1.0], 0.0), ValueRangeError, "temperature must be positive and finite, got 0"),
    (lambda: sample([1.0], -1), ValueRangeError, "got -1"),
    (lambda: sample([1.0], np.nan), ValueRangeError, "got nan"),
    (lambda: sample([1.0], np.inf), ValueRangeError, "got inf"),
    (lambda: sample([1.0], None), DTypeError, "temperature must be a number"),
    (lambda: sample([1.0], top_k=0), ValueRangeError, "top_k must be a whole number of at least 1"),
    (lambda: sample([1.0], top_k=1.5), DTypeError, "top_k"),
    (lambda: sample([1.0], top_p=0.0), ValueRangeError, "top_p must lie in (0, 1], got 0"),
    (lambda: sample([1.0], top_p=1.1), ValueRangeError, "got 1.1"),
    (lambda: sample([1.0], top_p="a"), DTypeError, "top_p must be a number"),
    (lambda: generate(count_up, [], 3), ShapeError, "with a token or more, got (0,)"),
    (lambda: generate(count_up, np.zeros((2, 0), int), 3), ShapeError, "got (2, 0)"),
    (lambda: generate(count_up, 3, 3), ShapeError, "got ()"),
    (lambda: generate(count_up, [0.5], 3), DTypeError, "the prompt holds float32"),
    (lambda: generate(count_up, [1], -1), ValueRangeError, "length"),
    (lambda: generate(count_up, [1], 1, context=0), ValueRangeError, "context"),
    (lambda: generate(count_up, [1], 1, stop=-1), ValueRangeError, "stop"),
    (lambda: generate(count_up, [1], 1, stateful=True, context=3), ValueRangeError, "context is"),
    (lambda: generate(lambda t, s: count_up(t), [1], 1, stateful=True), DTypeError, "not Tensor"),
    (lambda: generate(lambda t: (t, t), [1], 1), DTypeError, "must return logits, not tuple"),
    (lambda: generate(lambda t: t[0], [1, 2], 1), ShapeError, "got (2,) for tokens (1, 2)"),
    (lambda: generate(lambda t: ta.ones((2, 3)), [1], 1), ShapeError, "got (2, 3)"),
    (lambda: generate(count_up, [1], 1, lambda z: z), ShapeError, "choose must return integers"),
    (lambda: generate(lambda t: count_up(t) * np.nan, [1], 1), ValueRangeError, "NaN"),
]


@pytest.mark.parametrize("k", range(len(WRONG)))
def test_what_cannot_be_is_refused_in_words(k):
    call, kind, said = WRONG[k]
    with pytest.raises(kind) as caught:
        call()
    assert said in str(caught.value) and len(str(caught.value).splitlines()) == 1


# ---------------------------------------------------------------------------- token after token


def test_a_prompt_goes_on():
    assert generate(count_up, [0, 2], 4, greedy).tolist() == [0, 2, 3, 4, 0, 1]
    tokens = generate(count_up, Tensor([[0], [3]], dtype="int32"), 2, greedy)
    assert tokens.tolist() == [[0, 1, 2], [3, 4, 0]] and tokens.dtype == np.int64
    assert generate(count_up, [0, 2], 0).tolist() == [0, 2]
    last = generate(lambda t: count_up(t)[:, -1], np.array([1]), 3, greedy)
    assert last.tolist() == [1, 2, 3, 4]


def test_a_stop_token_ends_its_sequence_and_all_of_them_the_loop():
    calls = []

    def step(tokens):
        calls.append(tokens.shape)
        return count_up(tokens)

    tokens = generate(step, [[1], [3], [4]], 100, greedy, stop=4)
    assert tokens.tolist() == [[1, 2, 3, 4, 4, 4], [3, 4, 4, 4, 4, 4], [4, 0, 1, 2, 3, 4]]
    assert len(calls) == 5


def test_the_step_sees_no_more_than_the_context():
    seen = []

    def step(tokens):
        seen.append(tokens.tolist()[0])
        return count_up(tokens)

    generate(step, [0, 1, 2, 3], 3, greedy, context=2)
    assert seen == [[2, 3], [3, 4], [4, 0]]


def test_gradients_are_not_tracked():
    layer = nn.Embedding(5, 5)
    made = []

    def step(tokens):
        made.append(layer(tokens))
        return made[-1]

    generate(step, [1], 2)
    assert len(made) == 2 and not any(logits.requires_grad for logits in made)


class Letters(nn.Module):
    def __init__(self):
        self.table = nn.Embedding(11, 6)
        self.net = nn.RNN(6, 6)
        self.out = nn.Linear(6, 11)

    def forward(self, tokens, state=None):
        y, state = self.net(self.table(tokens), state)
        return self.out(y), state


def test_a_state_does_what_reading_everything_again_does():
    ta.random.manual_seed(4)
    model, prompt = Letters(), [[1, 2, 3], [7, 0, 9]]
    for choose in (greedy, partial(sample, temperature=1.5, top_k=5)):
        ta.random.manual_seed(5)
        whole = generate(lambda t: model(t)[0], prompt, 12, choose)
        ta.random.manual_seed(5)
        stepped = generate(model, prompt, 12, choose, stateful=True)
        assert whole.shape == (2, 15) and stepped.tolist() == whole.tolist()
    state = model(Tensor([[4, 4], [5, 6]]))[1]
    ahead = generate(model, prompt, 5, greedy, stateful=True, state=state)
    again = generate(lambda t: model(t)[0], [[4, 4, 1, 2, 3], [5, 6, 7, 0, 9]], 5, greedy)
    assert ahead.tolist() == again[:, 2:].tolist()


class Reader(nn.Module):
    """A small Transformer that predicts every next token."""

    def __init__(self):
        self.table = nn.Embedding(11, 8)
        self.place = nn.PositionalEncoding(8, max_len=6)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
        self.out = nn.Linear(8, 11)

    def forward(self, tokens):
        return self.out(self.block(self.place(self.table(tokens)), is_causal=True))


def test_a_transformer_writes_beyond_its_longest_sequence():
    ta.random.manual_seed(6)
    model = Reader()
    assert generate(model, [1, 2, 3], 20, context=6).shape == (23,)
    with pytest.raises(ShapeError, match="7 long, max_len is 6"):
        generate(model, [1, 2, 3], 20)
