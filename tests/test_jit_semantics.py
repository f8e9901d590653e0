"""Where a compiled step could differ from the plain function without anybody noticing."""

import copy
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import config, nn, optim
from tinygrad_ai.errors import (
    DTypeError,
    GraphError,
    IndexRangeError,
    ShapeError,
    TinygradError,
    ValueRangeError,
)

RNG = np.random.default_rng(5)


def both(make, *calls):
    """What ``make(wrap)``, a step and the tensors it changes, leaves call after call: twice."""
    found = []
    for wrap in (lambda f: f, ta.jit):
        step, kept = make(wrap)
        seen = []
        for arguments in calls:
            out = step(*arguments)
            seen += [x.numpy().copy() for x in (*out, *kept)]
        found.append(seen)
    return found


def same(make, *calls):
    for plain, compiled in zip(*both(make, *calls), strict=True):
        np.testing.assert_array_equal(compiled, plain)


def numbers(*shape):
    return RNG.standard_normal(shape)


# ------------------------------------------------------------------------------ views and memory

VIEWS = {
    "a row": lambda x: x[1],
    "every second, backwards": lambda x: x[::-2],
    "reshaped": lambda x: x.reshape(2, 6),
    "transposed": lambda x: x.T,
    "transposed and cut": lambda x: x.T[1:, ::2],
    "an element": lambda x: x[2, 1],
    "flipped": lambda x: ta.flip(x, 0),
    "broadcast": lambda x: ta.broadcast_to(x, (2, 4, 3)),
    "a copy by reshape": lambda x: x.T.reshape(-1),
    "a copy": lambda x: x.copy(),
    "itself, detached": lambda x: x.detach(),
    "the whole": lambda x: x[...],
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_follows_what_its_tensor_is_assigned(name):
    start, calls = numbers(4, 3), [(ta.Tensor(numbers(4, 3)),), (ta.Tensor(numbers(4, 3)),)]

    def make(wrap):
        x = ta.Tensor(start)

        @wrap
        def step(y):
            view = VIEWS[name](x)
            before = view * 2
            x[...] = y
            between = view + 1
            x[...] = x * 3 + y
            return before, between, view, view - 1, x

        return step, [x]

    same(make, *calls)


@pytest.mark.parametrize("name", [k for k in VIEWS if k not in ("broadcast", "an element")])
def test_assigning_to_a_view_changes_the_tensor(name):
    start, calls = numbers(4, 3), [(ta.Tensor(numbers(1)),), (ta.Tensor(numbers(1)),)]

    def make(wrap):
        x = ta.Tensor(start)

        @wrap
        def step(y):
            other, view = x.T[0], VIEWS[name](x)
            view[...] = view * y
            return view, x * 2, other

        return step, [x]

    if "copy" in name:
        with pytest.raises(GraphError, match="assignment to a tensor that was computed"):
            make(ta.jit)[0](*calls[0])
    else:
        same(make, *calls)


KEYS = [0, -1, slice(1, 3), (slice(None), 1), (1, 2), (..., slice(None, None, -1)), np.int64(2)]


@pytest.mark.parametrize("key", KEYS, ids=repr)
def test_slices_are_assigned_to(key):
    start, calls = numbers(4, 3), [(ta.Tensor(np.array(k)),) for k in numbers(2)]

    def make(wrap):
        x = ta.Tensor(start)

        @wrap
        def step(y):
            before = x[key]
            x[key] = x[key] * y
            x[key] += 1
            x[0] = 2.5
            x[1:] = x[:-1]
            return before, x.sum(axis=0), x.T[1]

        return step, [x]

    same(make, *calls)


def test_bad_assignments_say_so():
    x = ta.zeros((4, 3))

    def assigned(key, value):
        def step():
            x[key] = value

        return ta.jit(step)

    with pytest.raises(GraphError, match=r"only slices can be assigned to.*test_jit_semantics"):
        assigned(np.array([True, False, True, True]), 1.0)()
    with pytest.raises(IndexRangeError, match=r"x\[4\]"):
        assigned(4, 1.0)()
    with pytest.raises(ShapeError):
        assigned(0, ta.ones(4))()
    with pytest.raises(ShapeError):
        assigned(..., ta.ones((2, 4, 3)))()
    assert x.numpy().max() == 0


def test_tensors_that_share_memory():
    """Views from outside: read before and after the other is assigned to, whoever comes first."""
    start, calls = numbers(4, 4), [(ta.Tensor(numbers(4, 4)),), (ta.Tensor(numbers(4, 4)),)]

    def make(wrap):
        x = ta.Tensor(start)
        turned, row, middle = x.T, x[2], x[1:3, 1:3]

        @wrap
        def step(y):
            a = turned @ y
            x[...] = y * 2 + row
            b, c = turned * 1, row + middle.sum()
            middle[...] = middle - 10
            row[:] = turned[0] * 3
            return a, b, c, x, turned, row, middle

        return step, [x, turned, row, middle]

    same(make, *calls)


def test_an_argument_that_is_a_view_follows_the_assignment():
    start = numbers(4, 3)

    def make(wrap):
        x = ta.Tensor(start)

        @wrap
        def step(a):
            before = a * 1
            x[...] = x * 2 + 1
            return before, a + 0

        kinds = [ta.Tensor(numbers(4)), x.T[0], x.T[1], ta.ones(4), x.T[1]]

        def calls():
            return step(kinds.pop(0))

        return calls, [x]

    start_of_random = RNG.bit_generator.state
    results = []
    for wrap in (lambda f: f, ta.jit):
        RNG.bit_generator.state = start_of_random
        step, kept = make(wrap)
        results.append([x.numpy().copy() for _ in range(5) for x in (*step(), *kept)])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_array_equal(compiled, plain)


def test_parameters_that_are_views_of_one_buffer():
    start = numbers(7)

    def make(wrap):
        flat = ta.Tensor(start)
        w, b = flat[:4].detach(), flat[4:].detach()
        w.requires_grad = b.requires_grad = True
        optimizer = optim.SGD([w, b], lr=0.1, momentum=0.5)

        @wrap
        def step(x):
            before = flat.sum()
            optimizer.zero_grad()
            ((w * x).sum() * b).sum().backward()
            optimizer.step()
            return before, flat * 2, flat.reshape(7, 1)[4:]

        return step, [flat, w, b]

    plain, compiled = both(make, (ta.Tensor(numbers(4)),), (ta.Tensor(numbers(4)),))
    for a, b in zip(compiled, plain, strict=True):
        np.testing.assert_allclose(a, b, 1e-12)


def test_backward_through_what_was_changed_in_place_is_refused():
    def make(wrap):
        model = nn.Linear(3, 2)
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        @wrap
        def step(x):
            loss = (model(x) ** 2).sum()
            loss.backward(retain_graph=True)
            optimizer.step()
            loss.backward()

        return step

    x = ta.Tensor(numbers(4, 3), dtype="float32", requires_grad=True)
    for wrap in (lambda f: f, ta.jit):
        with pytest.raises(GraphError, match="changed in place"):
            make(wrap)(x)


def test_a_refused_capture_leaves_the_graph_outside_alone():
    x, w = ta.ones(3), ta.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = (x * w).sum()

    def step():
        x[...] = x + 1
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        ta.jit(step)()
    y.backward()
    assert w.grad.tolist() == [1.0] * 3 and x.tolist() == [1.0] * 3


# ------------------------------------------------------------------------------ indices and labels

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
            assert "test_jit_semantics.py" in raised.value.__notes__[-1]
            assert count.item() == before
            np.testing.assert_equal(ta.random.generator().state_dict(), random)
            counts.append(1)
        else:
            np.testing.assert_allclose(step(i)[0].numpy(), expected, 1e-6)
            assert count.item() == before + 1
    assert 1 < len(counts) < 6, "some are in range and some are not"


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


# ---------------------------------------------------------------------------- NumPy beside tensors

A, M = np.array([1.0, -2.0]), np.array([[1.0, 2.0], [3.0, 4.0]], "f")
MIXED = {
    "an array times": lambda t: A * t,
    "a 32-bit array plus": lambda t: M + t,
    "an array minus": lambda t: A - t,
    "an array over": lambda t: A / t,
    "an array to the power of": lambda t: abs(A) ** t,
    "floor and remainder": lambda t: A // t + M % t,
    "a matrix times": lambda t: M @ t,
    "smaller": lambda t: t > A,
    "equal": lambda t: (t == A) | (t != M),
    "masks": lambda t: np.array([True, False]) & (t > 0),
    "float32": lambda t: np.float32(2) * t,
    "float64": lambda t: np.float64(2) - t,
    "int64": lambda t: np.int64(3) ** t,
    "no axes": lambda t: np.array(2, "f") * t,
    "a scalar compared": lambda t: np.float32(0.5) >= t,
    "np.add": lambda t: np.add(A, t),
}


@pytest.mark.parametrize("name", MIXED)
@pytest.mark.parametrize("wrap", [lambda f: f, ta.jit], ids=["eager", "compiled"])
def test_numpy_on_the_left_of_a_tensor(wrap, name):
    """A tensor, of the dtype that NumPy gives two arrays; gradients flow."""
    f, plain = MIXED[name], np.array([0.5, 3.0], "f")
    found = wrap(f)(ta.Tensor(plain))
    expected = f(plain)
    assert isinstance(found, ta.Tensor) and found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, 1e-6)
    if found.dtype.kind == "f":
        x = ta.Tensor(plain, requires_grad=True)
        f(x).sum().backward()
        assert x.grad.dtype == np.float32


def test_numpys_functions_name_ours():
    t, array = ta.ones(2), np.ones(2)
    np.testing.assert_array_equal(np.asarray(t), [1.0, 1.0])
    for wrap in (lambda f: f, ta.jit):
        with pytest.raises(DTypeError, match=r"np\.sin does not take tensors") as raised:
            wrap(np.sin)(t)
        assert "tinygrad_ai.sin does" in raised.value.__notes__[0]
        with pytest.raises(DTypeError, match=r"np\.add\.reduce does not take tensors") as raised:
            wrap(np.add.reduce)(t)
        assert "x.numpy()" in raised.value.__notes__[0]
        with pytest.raises(DTypeError, match=r"np\.multiply .* nor put them into arrays"):
            wrap(lambda t: array.__imul__(t))(t)


def test_the_line_of_an_error_inside_numpy_is_the_users():
    with pytest.raises(GraphError, match=r"the values of a tensor.*test_jit_semantics\.py:\d+"):
        ta.jit(lambda t: np.stack([t, t]))(ta.ones(2))


# -------------------------------------------------------------------------------- second runs


@pytest.mark.parametrize("wrap", [lambda f: f, ta.jit], ids=["eager", "compiled"])
def test_a_checkpoint_moves_running_statistics_once(wrap):
    """And leaves the gradients and the random numbers of the plain function."""
    found, x = [], ta.Tensor(numbers(6, 3), dtype="float32")
    for checkpointed in (ta.checkpoint, lambda f: f):
        ta.random.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.4), nn.BatchNorm1d(4, momentum=0.3)
        )
        inner = checkpointed(model)

        @wrap
        def step(x, inner=inner, model=model):
            model.zero_grad()
            (inner(inner(x) @ ta.ones((4, 3))) ** 3).sum().backward()

        for _ in range(2):
            step(x)
        found.append(
            {k: v.numpy().copy() for k, v in model.state_dict().items()}
            | {f"{k}.grad": p.grad.numpy().copy() for k, p in model.named_parameters()}
            | {"next": ta.random.rand(2).numpy()}
        )
    assert found[0]["1.num_batches_tracked"] == 4
    for name, value in found[1].items():
        np.testing.assert_allclose(found[0][name], value, 1e-5, 1e-5, err_msg=name)


def test_seeding_inside_is_refused():
    def step(x):
        ta.random.manual_seed(3)
        return x * ta.random.rand(3)

    before = ta.random.generator().state_dict()
    with pytest.raises(GraphError, match=r"manual_seed in the function.*test_jit_semantics\.py:"):
        ta.jit(step)(ta.ones(3))
    assert ta.random.generator().state_dict() == before


def test_equal_draws_are_two():
    step = ta.jit(lambda: (ta.random.rand(3), ta.random.rand(3), ta.random.randint(0, 9, (4,))))
    ta.random.manual_seed(1)
    compiled = [x.tolist() for _ in range(2) for x in step()]
    ta.random.manual_seed(1)
    assert compiled == [x.tolist() for _ in range(2) for x in step.function()]


# ------------------------------------------------------------- NaNs that do not reach an output

SWALLOWED = {
    "where": lambda g: ta.where(g > 0.5, 1.0, 2.0),
    "where of isnan": lambda g: ta.where(ta.isnan(g), 7.0, g),
    "comparison": lambda g: (g < 1).sum(),
    "unequal to itself": lambda g: (g != g).any(),
    "argmax": lambda g: ta.argmax(g),
    "sort": lambda g: ta.sort(g)[:2],
    "integers": lambda g: (g == 0).astype("int64"),
    "power 0": lambda g: g**0,
    "sign": lambda g: ta.where(g == 0, 0.0, ta.sign(g)),
    "cut away": lambda g: g[3:] * 2,
}
UNDEFINED = {  # 0·∞ inside a rule: at 0 the gradient is 0, as no NaN
    "root of a sum of squares": lambda x: ta.sqrt((x * x).sum()),
    "root": lambda x: ta.where(x > 0.3, ta.sqrt(x), 0.0).sum(),
    "logarithm": lambda x: ta.where(x > 0.3, ta.log(x), x).sum(),
    "division": lambda x: (ta.relu(x - 0.4) / x * 0).sum(),
    "power": lambda x: (ta.maximum(x, 0.0) ** 0.5 * (x > 0.3)).sum(),
}


@pytest.mark.parametrize("inner", UNDEFINED)
def test_gradients_are_guarded_though_no_output_would_be_nan(inner):
    @ta.jit
    def step(x):
        g = ta.grad(UNDEFINED[inner])(x)
        return {name: f(g) for name, f in SWALLOWED.items()}

    for given in ([0.0, 0.0, 0.0, 0.0], [0.5, 1.0, 0.7, 2.0], [0.0, 1.0, 0.0, 2.0]):
        x = ta.Tensor(np.array(given))
        for name, found in step(x).items():
            expected = step.function(x)[name]
            np.testing.assert_allclose(found.numpy(), expected.numpy(), 1e-12, err_msg=name)


# -------------------------------------------------------------------------------------- arguments


def test_arguments_are_assigned_to():
    """Each tensor that is passed is then a step of its own."""
    start, new = numbers(2, 3), numbers(4, 3)
    found = []
    for wrap in (lambda f: f, ta.jit):
        a, b = ta.Tensor(start), ta.Tensor(start + 1)

        @wrap
        def step(cache, x):
            turned = cache.T
            cache[0] = x
            cache[...] = cache * 2
            return turned * 1

        outputs = [
            step(t, ta.Tensor(x)).numpy().copy() for t, x in zip((a, a, b, a), new, strict=True)
        ]
        found.append([*outputs, a.numpy(), b.numpy()])
    np.testing.assert_array_equal(np.array(found[1][:4]), np.array(found[0][:4]))
    np.testing.assert_array_equal(found[1][4:], found[0][4:])
    assert step.captures == 2
    with pytest.raises(GraphError, match="to an argument that is a NumPy array"):
        step(start, ta.ones(3))


def test_gradients_that_arguments_have_already():
    first, second, factors = numbers(3), numbers(3), numbers(6, 3)
    found = []
    for wrap in (lambda f: f, ta.jit):
        x, z = (ta.Tensor(v, requires_grad=True) for v in (first, second))

        @wrap
        def step(p, y):
            before = y * 0 if p.grad is None else p.grad * 2
            (p * y).sum().backward()
            return before, p.grad

        seen = []
        for p, y in zip((x, x, z, x, z, x), map(ta.Tensor, factors), strict=True):
            seen += [v.numpy().copy() for v in step(p, y)]
        found.append([*seen, x.grad.numpy(), z.grad.numpy()])
    np.testing.assert_allclose(found[1], found[0], 1e-14)


def test_gradients_that_are_only_added_need_no_capture_of_their_own():
    step = ta.jit(lambda p, y: (p * y).sum().backward())
    for _ in range(3):
        p = ta.Tensor(numbers(3), requires_grad=True)
        step(p, ta.ones(3))
        step(p, ta.ones(3) * 2)
        np.testing.assert_array_equal(p.grad.numpy(), [3.0] * 3)
    assert step.captures == 1


@pytest.mark.parametrize(
    "change", [lambda b: b.update(z=b["x"]), lambda b: b.pop("x"), lambda b: b["y"].append(1)]
)
def test_a_changed_container_is_refused(change):
    def step(batch):
        change(batch)
        return ta.ones(3)

    batch = {"x": ta.ones(3), "y": [ta.ones(3)]}
    with pytest.raises(GraphError, match="changes a list or dict that was passed"):
        ta.jit(step)(batch)
    assert list(batch) == ["x", "y"] and len(batch["y"]) == 1


def test_a_tensor_that_cannot_be_written_to_is_refused():
    x = ta.broadcast_to(ta.ones(1), (3,))
    with pytest.raises(ShapeError, match="read-only"):
        ta.jit(lambda y: x.__setitem__(..., y))(ta.ones(3))


# ------------------------------------------------------------------- values, names, copies, methods


@pytest.mark.parametrize(
    "look",
    [
        lambda t: t.numpy(),
        lambda t: t.tolist(),
        lambda t: np.asarray(t),
        lambda t: np.linalg.norm(t.numpy()),
        repr,
        str,
        copy.deepcopy,
        pickle.dumps,
        lambda t: t.detach().numpy(),
        lambda t: ta.save({"t": t}, os.devnull),
    ],
    ids=lambda f: getattr(f, "__name__", "other"),
)
def test_values_of_what_changes_between_calls_are_refused(look):
    closed = ta.zeros((3,))

    def of_state(x):
        look(closed)
        return x * 2

    def of_result(x):
        look(x * 2)
        return x * 2

    for f in (of_state, of_result):
        with pytest.raises(GraphError, match=r"not known while a step is captured.*test_jit_sem"):
            ta.jit(f)(ta.ones((3,)))


def test_values_of_what_the_function_makes_itself_may_be_read():
    step = ta.jit(lambda x: x * float(ta.Tensor([2.0, 3.0]).numpy()[1]))
    assert step(ta.ones((2,))).tolist() == [3, 3]


def test_tensors_kept_in_variables_are_refused_and_taken_back():
    total = ta.zeros(())

    def local(x):
        nonlocal total
        total = total + x.sum()
        return total

    def everywhere(x):
        global _kept
        _kept = _kept + x.sum()
        return _kept

    for f, name in ((local, "variable total"), (everywhere, "global _kept")):
        with pytest.raises(GraphError, match=f"keeps a tensor of the captured step in the {name}"):
            ta.jit(f)(ta.ones((3,)))
    assert total.item() == _kept.item() == 0


_kept = ta.zeros(())


def test_gradient_descent_by_hand():
    def run(wrap):
        p = ta.Tensor([1.0, -2.0], requires_grad=True)

        def step(x):
            p.grad = None
            loss = ((p * x) ** 2).sum()
            loss.backward()
            with ta.no_grad():
                p[...] = p - 0.1 * p.grad
            return loss

        step = wrap(step)
        return [step(ta.Tensor([1.0, 3.0])).item() for _ in range(4)], p.tolist(), p.requires_grad

    assert run(ta.jit) == run(lambda f: f)
    p = ta.Tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match="gradients flow through"):
        p[...] = 2.0
    with ta.no_grad(), pytest.raises(GraphError, match="gradients flow through"):
        with ta.enable_grad():
            y = p * 2
        y[...] = 2.0


def test_methods_copies_and_programs():
    class Model:
        scale = 2.0

        @ta.jit
        def double(self, x):
            """Twice."""
            return x * self.scale

    model = Model()
    assert "nothing is compiled: it has not been called" in model.double.report()
    assert model.double.program() == model.double.source() == model.double.report()
    assert model.double(ta.ones((2,))).tolist() == [2, 2]
    assert model.double.__doc__ == "Twice." and model.double.explain_retrace() == "the first call"
    model.double(ta.ones((5,)))
    assert "float32[5]" in model.double.program() and "[2]" not in model.double.program()
    twin = copy.deepcopy(Model.__dict__["double"])
    assert twin.captures == 0 and twin(model, ta.ones((2,))).tolist() == [2, 2]


def test_many_captures_are_said_once():
    step = ta.jit(lambda x, scale: x * scale)
    with pytest.warns(UserWarning, match=r"captured 16 times.*because argument 1 was 14 and is 15"):
        for scale in range(18):
            step(ta.ones((2,)), scale)


def test_blocks_without_kernels_are_a_threads_own():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with config.without_kernels():
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait(5)
    assert config.uses_kernels()
    with config.without_kernels():
        leave.set()
        thread.join()
        assert not config.uses_kernels()
    assert config.uses_kernels()


@pytest.mark.parametrize(
    ("name", "value"),
    [("KERNELS", "abc"), ("NUM_THREADS", "abc"), ("NUM_THREADS", "0"), ("NUM_THREADS", "-1")],
)
def test_settings_that_mean_nothing_are_refused(name, value):
    program = "import tinygrad_ai as ta; ta.jit(lambda x: x * 2)(ta.ones((2,)))"
    environment = {**os.environ, f"TINYGRAD_AI_{name}": value}
    said = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    ).stderr
    assert f"TINYGRAD_AI_{name} must be" in said and f"not '{value}'" in said
