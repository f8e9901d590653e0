"""What a compiled step assigns to: tensors, slices, views, memory that several share."""

import numpy as np
import pytest
from twice import RNG, both, numbers, same

import tinygrad_ai as ta
from tinygrad_ai import nn, optim
from tinygrad_ai.errors import (
    GraphError,
    IndexRangeError,
    ShapeError,
)
from tinygrad_ai.jit.native import Execution

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

    with pytest.raises(GraphError, match=r"only slices can be assigned to.*test_jit_memory"):
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


def test_tensors_whose_elements_lie_across_are_written_to_at_every_call():
    start, slow = numbers(4, 3), numbers(3, 4)

    def make(wrap):
        w = ta.Tensor(start).T.detach()
        w.requires_grad = True
        mean = ta.Tensor(slow.T.copy()).T
        optimizer = optim.Adam([w], lr=0.1)

        @wrap
        def step(x):
            optimizer.zero_grad()
            (w * x).sum().backward()
            optimizer.step()
            mean[...] = 0.9 * mean + 0.1 * w.detach()
            return (mean * 2,)

        return step, [w, mean]

    assert not ta.Tensor(start).T.detach().array.flags.c_contiguous
    calls = [(ta.Tensor(numbers(3, 4)),) for _ in range(4)]
    same(make, *calls)


def moved_once():
    """A step that was called, the two tensors that it assigns to (now 2 and 0), its argument."""
    p, q, d = ta.ones((3,)), ta.ones((3,)), ta.ones((3,))

    @ta.jit
    def step(d):
        p[...] = p + d
        q[...] = q - d

    step(d)
    return step, p, q, d


def test_a_call_that_fails_half_way_leaves_nothing_stale():
    """One of two arrays that were replaced cannot be looked at; the next call is as the first."""
    step, p, q, d = moved_once()
    before = p.array, q.array
    p.array, q.array = p.array.copy(), q.array.copy()
    q.array.flags.writeable = False
    with pytest.raises(ShapeError, match=r"a tensor \(3,\) is read-only"):
        step(d)
    assert p.tolist() == [2, 2, 2] and q.tolist() == [0, 0, 0]
    other, p.array, q.array = p.array, *before
    step(d)
    assert p.tolist() == [3, 3, 3] and q.tolist() == [-1, -1, -1] and other.tolist() == [2, 2, 2]


def test_an_interrupted_look_at_the_targets_is_done_again(monkeypatch):
    step, p, q, d = moved_once()
    before = p.array, q.array
    p.array, q.array = np.full(3, 100, "f"), np.full(3, 100, "f")
    take, taken = Execution._take, []

    def interrupted(self, v, array):
        taken.append(v)
        if len(taken) == 2:
            raise KeyboardInterrupt
        take(self, v, array)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Execution, "_take", interrupted)
        step(d)
    others = p.array, q.array
    p.array, q.array = before
    step(d)
    assert p.tolist() == [3, 3, 3] and q.tolist() == [-1, -1, -1]
    assert all((x == 100).all() for x in others)


def test_an_argument_that_is_a_view_of_a_replaced_array():
    """What is assigned to may be another array at a later call, and the argument a view of it, of
    which a kernel reads what it held when that is overwritten already."""
    m = ta.Tensor(numbers(8, 8))

    def make(wrap):
        x = ta.Tensor(numbers(8, 8) * 0 + np.arange(8.0))

        @wrap
        def step(a):
            triple, product = x * 3, a @ m
            x[...] = x * 2 + 1  # joins the kernel of the first line
            return triple, product

        def call(a):
            x.array = x.array.copy()
            return step(x.detach() if a is None else a)

        return call, [x]

    a = ta.Tensor(numbers(8, 8))
    same(make, (a,), (None,), (None,), (a,), (None,))
