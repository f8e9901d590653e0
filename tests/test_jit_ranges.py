"""Indices and labels out of range are refused before a compiled step changes anything."""

import numpy as np
import pytest
from twice import numbers

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import nn, optim
from tinygrad_ai.errors import (
    IndexRangeError,
    TinygradError,
    ValueRangeError,
)

X = ta.Tensor(np.arange(12.0).reshape(4, 3))
INDEXED = {
    "take": lambda i: ta.take(X, i, 0),
    "take, flat": lambda i: ta.take(X, i * 3),
    "index": lambda i: X[i],
    "index a later axis": lambda i: ta.ones((2, 5, 4, 3))[..., i, :],
    "index two axes": lambda i: X[i, ta.Tensor(np.array([0, 1, 2, 0]))],
    "gather": lambda i: X.gather(0, i[:, None]),
    "take_along_axis": lambda i: ta.take_along_axis(X, i[:, None], 0),
    "scatter_add": lambda i: ta.zeros((4, 3), dtype="float64").scatter_add(0, i[:, None], X),
    "embedding": lambda i: F.embedding(i, X),
    "embedding in two axes": lambda i: F.embedding(i.reshape(2, 2), X),
    "embedding, 32 bits": lambda i: F.embedding(i.astype("int32"), X),
    "cross_entropy": lambda i: F.cross_entropy(X.T[:, :4] @ X, i[:3], ignore_index=1),
    "cross_entropy, smoothed": lambda i: F.cross_entropy(X @ X.T, i, label_smoothing=0.1),
    "nll_loss": lambda i: F.nll_loss(X @ X.T, i),
    "one_hot": lambda i: F.one_hot(i, 4),
    "a shifted part": lambda i: X[i[1:]] + X[i[:-1] + 0],
    "computed from integers": lambda i: X[ta.where(i == 2, 0, i)],
    "computed from reals": lambda i: X[(ta.exp(i * 0.0) * i).astype("int64")],
}
GIVEN = [[0, 1, 2, 3], [4, 0, 0, 0], [0, 0, 0, 4], [-1, 0, 1, 2], [3, -4, 0, 0], [-5, 0, 0, 0]]


@pytest.mark.parametrize("name", INDEXED)
def test_what_is_out_of_range_is_refused_as_in_eager_mode(name):
    """With the same error, before anything happened; what is in range is computed alike."""
    counts = []

    @ta.jit
    def step(i):
        count[...] = count + 1
        dropped = ta.random.rand(3)
        return INDEXED[name](i), dropped

    for given in GIVEN:
        i, count = ta.Tensor(np.array(given)), ta.zeros(())
        step(ta.Tensor(np.array(GIVEN[0])))
        before, random = count.item(), ta.random.generator().state_dict()
        try:
            expected = INDEXED[name](i).numpy()
        except (IndexError, ValueError) as error:
            with pytest.raises(type(error)) as raised:
                step(i)
            assert str(raised.value).rpartition(":")[2] == str(error).rpartition(":")[2]
            assert "test_jit_ranges.py" in raised.value.__notes__[-1]
            assert count.item() == before
            np.testing.assert_equal(ta.random.generator().state_dict(), random)
            counts.append(1)
        else:
            np.testing.assert_allclose(step(i)[0].numpy(), expected, 1e-6)
            assert count.item() == before + 1
    assert 1 < len(counts) < 6, "some are in range and some are not"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e9, -3e9, 1e30])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_a_number_that_is_no_integer_is_no_index(value, dtype):
    """NaN is not 0, nor is what is too large the largest."""
    table = ta.Tensor(np.arange(6.0).reshape(3, 2))
    step = ta.jit(lambda x: table[(x * 1).astype(dtype)])
    assert step(ta.Tensor([2.0, 1.0])).tolist() == [[4, 5], [2, 3]]
    with pytest.raises(IndexRangeError):
        step(ta.Tensor([value, 1.0]))


def test_states_constants_and_draws_that_are_indices():
    table, place = ta.Tensor(numbers(4, 2)), ta.Tensor(np.array([3, 0]))
    step = ta.jit(lambda: table[place])
    step()
    place[...] = ta.Tensor(np.array([0, 4]))
    with pytest.raises(IndexRangeError, match="index 4 is out of bounds for axis 0 with size 4"):
        step()
    wrong = np.array([0, 9])
    with pytest.raises(IndexRangeError, match="index 9"):
        ta.jit(lambda: table[wrong])()
    drawn = ta.jit(lambda: table[ta.random.randint(0, 40, (50,))])
    with pytest.raises(IndexRangeError, match=r"out of bounds for axis 0 with size 4"):
        drawn()
    fitting = ta.jit(lambda: table[ta.random.randint(0, 4, (50,))])
    assert fitting().shape == (50, 2)


def test_what_cannot_be_out_of_range_is_not_looked_at():
    scores = ta.Tensor(numbers(4, 5))

    @ta.jit
    def step(x, i):
        best, second = ta.topk(x, 2)[1].T
        picked = ta.take_along_axis(scores, second[:, None], 1) + ta.sort(x)
        return X[ta.argmax(x, 0) % 4, 0], scores[best.clip(0, 3)], picked, X[i.clip(-4, 3)]

    step(ta.Tensor(numbers(4, 5)), ta.Tensor(np.array([9, -9])))
    (plans,) = step.plans.values()
    assert not plans[0].ranges.checks


def test_lengths_out_of_range():
    lstm = nn.LSTM(2, 3)
    step = ta.jit(lambda x, n: lstm(x, lengths=n)[0])
    x = ta.Tensor(numbers(2, 4, 2), dtype="float32")
    assert step(x, ta.Tensor(np.array([1, 4]))).shape == (2, 4, 3)
    for wrong in (0, 5):
        with pytest.raises(ValueRangeError, match=f"LSTM: length {wrong} is not one of 1 to 4"):
            step(x, ta.Tensor(np.array([1, wrong])))


def test_a_refused_batch_leaves_the_training_where_it_was():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Dropout(0.2), nn.Linear(4, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    @ta.jit
    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    good, bad = ta.Tensor(np.array([0, 1, 2])), ta.Tensor(np.array([0, 1, 5]))
    labels = good.copy()
    step(good, labels)

    def everything():
        slots = optimizer.state_dict()["state"]
        return (
            [p.numpy().copy() for p in model.parameters()],
            [p.grad.numpy().copy() for p in model.parameters()],
            {k: {n: np.array(v) for n, v in s.items()} for k, s in slots.items()},
            ta.random.generator().state_dict(),
        )

    before = everything()
    with pytest.raises(
        IndexRangeError, match="embedding: index 5 is out of range: there are 5 row"
    ):
        step(bad, labels)
    with pytest.raises(ValueRangeError, match="cross_entropy: label 5 is out of range"):
        step(good, bad)
    np.testing.assert_equal(everything(), before)
    step(good, labels)
    assert step.captures == 1


SCORES = ta.Tensor(np.zeros((3, 300)))
WRAPPED = {
    "narrowed": (201, lambda i: F.cross_entropy(SCORES, i.astype("int8"))),
    "added": (101, lambda i: F.cross_entropy(SCORES, i.astype("int8") + i.astype("int8"))),
    "multiplied": (15, lambda i: F.cross_entropy(SCORES, i.astype("int8") * i.astype("int8"))),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_integers_that_wrap_around_are_looked_at(name):
    count, f = WRAPPED[name]
    x = ta.Tensor(np.arange(3.0 * count).reshape(3, count))
    for wrap in (lambda f: f, ta.jit):
        with pytest.raises(ValueRangeError, match=r"label -.* is out of range"):
            wrap(lambda x: f(ta.argmax(x, axis=1)))(x)


def test_a_call_that_fails_counts_no_step():
    w, v = (ta.Tensor(np.eye(3), requires_grad=True) for _ in range(2))
    optimizer = optim.Adam([w, v], lr=0.1)

    @ta.jit
    def step(x):
        optimizer.zero_grad()
        (w * ta.linalg.inv(x) + v * x).sum().backward()
        optimizer.step()

    step(ta.Tensor(np.eye(3)))
    before = [w.numpy().copy(), v.numpy().copy()]
    with pytest.raises(TinygradError, match="singular"):
        step(ta.zeros((3, 3), dtype="float64"))
    assert [optimizer.state[p]["step"] for p in (w, v)] == [1, 1]
    np.testing.assert_array_equal([w.numpy(), v.numpy()], before)
    step(ta.Tensor(np.eye(3)))
    assert [optimizer.state[p]["step"] for p in (w, v)] == [2, 2] and step.captures == 1
