"""Data sets and batches: order, resuming, splitting."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai.data import DataLoader, Dataset, Subset, TensorDataset, random_split
from tinygrad_ai.errors import DataError, DTypeError, ShapeError, ValueRangeError


class Squares(Dataset):
    """A data set without arrays: (i, [i, i²])."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index, np.array([index, index * index], np.float32)


class Boxed:
    """The least a Tensor offers: a shape, an index, and no ndarray."""

    def __init__(self, array):
        self.array = array
        self.shape = array.shape

    def __getitem__(self, index):
        return Boxed(self.array[index])


sizes, batch_sizes = st.integers(1, 40), st.integers(1, 50)


@given(sizes, batch_sizes, st.booleans(), st.booleans())
def test_an_epoch_gives_every_sample_once(size, batch_size, shuffle, drop_last):
    x, y = np.arange(size * 3.0).reshape(size, 3), np.arange(size)
    if drop_last and size < batch_size:
        with pytest.raises(ValueRangeError, match="drop_last leaves no batch"):
            DataLoader((x, y), batch_size, drop_last=True)
        return
    loader = DataLoader((x, y), batch_size, shuffle, drop_last, seed=1)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert all(len(b) == batch_size for _, b in batches[: None if drop_last else -1])
    seen = np.concatenate([b for _, b in batches])
    np.testing.assert_array_equal(np.concatenate([a for a, _ in batches]), x[seen])
    assert len(set(seen.tolist())) == len(seen) == (len(loader) * batch_size if drop_last else size)
    if not shuffle:
        np.testing.assert_array_equal(seen, np.arange(len(seen)))


@given(sizes, batch_sizes, st.booleans())
def test_stacked_items_equal_indexed_arrays(size, batch_size, shuffle):
    index = np.arange(size)
    arrays = (index, np.stack([index, index**2], 1).astype(np.float32))
    loaders = [DataLoader(d, batch_size, shuffle, seed=5) for d in (Squares(size), arrays)]
    for stacked, indexed in zip(*loaders, strict=True):
        for a, b in zip(stacked, indexed, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


@given(sizes, batch_sizes, st.booleans(), st.data())
def test_resuming_continues_exactly(size, batch_size, shuffle, draw):
    """The batches after ``load_state_dict`` are those that would have come, over two epochs."""
    make = lambda seed: DataLoader(Squares(size), batch_size, shuffle, seed=seed)  # noqa: E731
    whole, resumed = make(11), make(None)
    expected, states = [], [whole.state_dict()]
    for _ in range(2):
        for numbers, _ in whole:
            expected.append(numbers)
            states.append(json.loads(json.dumps(whole.state_dict())))
    stop = draw.draw(st.integers(0, len(states) - 1))
    resumed.load_state_dict(states[stop])
    rest = []
    while resumed.epoch < 2:
        rest += [numbers for numbers, _ in resumed]
    assert [r.tolist() for r in rest] == [e.tolist() for e in expected[stop:]]
    assert resumed.state_dict() == whole.state_dict()


def test_shuffling_depends_on_seed_and_epoch_alone():
    def epochs(seed):
        loader = DataLoader(np.arange(100), 100, shuffle=True, seed=seed)
        return [next(iter(loader))[0].tolist() for _ in range(3)]  # left early: a used epoch

    first, again, other = epochs(3), epochs(3), epochs(4)
    assert first == again
    orders = [tuple(order) for order in (*first, *other)]
    assert len(set(orders)) == 6 and all(sorted(order) == list(range(100)) for order in orders)
    unseeded = epochs(None)
    assert unseeded != epochs(None)
    np.random.seed(0)
    assert epochs(3) == first


def test_batches_are_the_callers_own_and_keep_their_kind():
    x = np.zeros((6, 2), np.float16)
    for (batch,) in DataLoader(x, 4):
        assert type(batch) is np.ndarray and batch.dtype == np.float16
        batch += 1
    assert not x.any()
    ((boxed, _),) = DataLoader((Boxed(x), x))
    assert type(boxed) is Boxed and boxed.shape == (6, 2)


def test_lists_are_data_sets_of_samples():
    ((texts, labels),) = DataLoader([("a", 1), ("bc", 0)])
    assert texts.tolist() == ["a", "bc"] and labels.tolist() == [1, 0]
    ((numbers,),) = DataLoader([1.0, 2.0])
    assert numbers.shape == (2,)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_batch_size_below_one(batch_size):
    with pytest.raises(ValueRangeError, match=f"batch_size .* at least 1, not {batch_size}"):
        DataLoader(np.ones(3), batch_size)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((0, 3)),), ValueRangeError, "empty"),
        (([],), ValueRangeError, "empty"),
        ((iter([1]),), DTypeError, "list_iterator is no data set"),
        ((np.ones(3), 2.0), DTypeError, "batch_size must be a whole number .*not 2.0"),
        ((np.ones(3), True), DTypeError, "batch_size must be a whole number"),
        ((np.ones(3), 2, False, False, -1), ValueRangeError, "seed .* at least 0, not -1"),
        (((np.ones(3), np.ones((4, 3))),), ShapeError, r"differ: \(3,\), \(4, 3\)"),
        ((np.ones(()),), ShapeError, r"first dimensions differ: \(\)"),
        ((([1, 2], np.ones(2)),), DTypeError, "argument 0 is a list, not an array"),
        (((),), ValueRangeError, "at least one array"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        DataLoader(*arguments)


def test_samples_that_do_not_stack():
    with pytest.raises(ShapeError, match=r"field 0 .* several shapes: \(2,\), \(3,\)") as caught:
        list(DataLoader([np.ones(2), np.ones(3)]))
    assert "(x, y)" in caught.value.__notes__[0]
    with pytest.raises(ShapeError, match=r"\[1, 2\] fields"):
        list(DataLoader([(1,), (1, 2)]))


def test_states_that_do_not_belong():
    loader = DataLoader(np.arange(9), 2)
    with pytest.raises(DataError, match="no DataLoader's state: batch, batch_size"):
        loader.load_state_dict({"seed": 3, "epoch": 1})
    for other in (
        DataLoader(np.arange(9), 3),
        DataLoader(np.arange(8), 2),
        DataLoader(np.arange(9), 2, shuffle=True),
        DataLoader(np.arange(9), 2, drop_last=True),
    ):
        with pytest.raises(ValueRangeError, match="the state was taken with"):
            loader.load_state_dict(other.state_dict())


@given(st.integers(0, 60), st.lists(st.integers(1, 9), min_size=1, max_size=5), st.booleans())
def test_random_split_parts_the_set(size, weights, fractional):
    fractions = [weight / sum(weights) for weight in weights]
    lengths = fractions if fractional else [0] * (len(weights) - 1) + [size]
    parts = random_split(np.arange(size), lengths, seed=2)
    indices = np.concatenate([part.indices for part in parts])
    assert sorted(indices.tolist()) == list(range(size))
    if fractional:
        off = [len(part) - size * f for part, f in zip(parts, fractions, strict=True)]
        assert max(map(abs, off)) < 1 + 1e-9
    else:
        assert [len(part) for part in parts] == lengths
    again = random_split(np.arange(size), lengths, seed=2)
    np.testing.assert_array_equal(indices, np.concatenate([part.indices for part in again]))


def test_random_split_is_random_and_exact():
    one, two = (random_split(range(100), [0.29, 0.71], seed=s) for s in (0, 1))
    assert [len(part) for part in one] == [29, 71]
    assert one[0].indices.tolist() != two[0].indices.tolist()
    with pytest.raises(ValueRangeError, match=r"adds up to 0\.9, not 1"):
        random_split(range(10), [0.5, 0.4])
    with pytest.raises(ValueRangeError, match=r"adds up to 9, not 10"):
        random_split(range(10), [5, 4])
    with pytest.raises(ValueRangeError, match=r"-2 in .* is no length"):
        random_split(range(10), [12, -2])
    with pytest.raises(ValueRangeError, match="adds up to 0"):
        random_split(range(10), [])


def test_subsets_load_like_arrays():
    x = np.arange(20.0).reshape(10, 2)
    dataset = TensorDataset(x, np.arange(10))
    part = Subset(Subset(dataset, [7, 1, 4, 2]), [3, 0])
    assert len(part) == 2 and part[1][1] == 7
    ((rows, numbers),) = DataLoader(part)
    np.testing.assert_array_equal(rows, x[[2, 7]])
    assert numbers.tolist() == [2, 7]
    ((squares, _),) = DataLoader(Subset(Squares(9), [5, 3]))
    assert squares.tolist() == [5, 3]


def test_the_protocol():
    assert isinstance(Squares(1), Dataset) and isinstance(TensorDataset(np.ones(1)), Dataset)
    assert not isinstance(3, Dataset)

    class Forgotten(Dataset):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match="__getitem__"):
        Forgotten()


@pytest.mark.parametrize(
    ("lengths", "seed", "error", "message"),
    [
        ([0.5, float("nan")], 0, ValueRangeError, "nan in .* is no length"),
        ([float("inf")], 0, ValueRangeError, "inf in .* is no length"),
        (["a", "b"], 0, DTypeError, "lengths must be numbers, not 'a'"),
        ([0.5, 0.5], -1, ValueRangeError, "seed must be .* at least 0, not -1"),
        ([0.5, 0.5], "a", DTypeError, "seed must be"),
    ],
)
def test_random_split_of_nonsense(lengths, seed, error, message):
    with pytest.raises(error, match=message):
        random_split(range(10), lengths, seed)


def test_arrays_side_by_side_need_a_tuple():
    with pytest.raises(DTypeError, match="must be a whole number, not a ndarray") as caught:
        DataLoader(np.ones((9, 2)), np.ones(9))
    assert "DataLoader((x, y), batch_size=32)" in caught.value.__notes__[0]
