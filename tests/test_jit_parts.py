"""What is not made because it need not be: stacks of which a part is read, zeros, lone sums."""

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai.jit.step import jit

RNG = np.random.default_rng(3)


def tensors(dtype, *shapes):
    return [ta.Tensor(RNG.standard_normal(s).astype(dtype)) for s in shapes]


def names(step):
    (plan,) = (p for plans in step.plans.values() for p in plans)
    return [e.name for e in plan.optimized.equations]


def agree(f, *xs):
    """The compiled values are the eager ones; what is left of the program."""
    step = jit(f)
    found, wanted = (y if isinstance(y, tuple) else (y,) for y in (step(*xs), f(*xs)))
    coarse = min(np.finfo(x.dtype).bits for x in xs) < 64
    for a, b in zip(found, wanted, strict=True):
        tolerance = (1e-5 if coarse else 1e-12) * abs(b.numpy()).max(initial=1)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a.numpy(), b.numpy(), 0, tolerance)
    return names(step)


def test_the_last_of_a_stack_and_its_gradient():
    def run(x):
        states = [ta.tanh(x[:, 0])]
        for t in range(1, 12):
            states.append(ta.tanh(states[-1] + x[:, t]))
        return (ta.stack(states, axis=1)[:, -1] ** 2).sum()

    (x,) = tensors("float32", (5, 12, 7))
    left = agree(lambda x: (run(x), ta.grad(run)(x)), x)
    assert {"unslice", "concatenate"}.isdisjoint(left)
    assert left.count("slices") == 1  # the gradient of x itself


@pytest.mark.parametrize(
    "read",
    [
        lambda s: s[:, 1] * 2,
        lambda s: s[:, 1, 2:5] * 2,  # a part of a part
        lambda s: s[:, 0:2] * 2,  # of two
        lambda s: s[:, ::2] * 2,
        lambda s: s[::-1, 2] * 2,
        lambda s: s.reshape(4, 24)[:, 8:16] * 2,
        lambda s: s.reshape(4, 24)[:, 4:12] * 2,
        lambda s: s.transpose(1, 0, 2)[2] * 2,
        lambda s: s.transpose(2, 0, 1)[3] * 2,
        lambda s: ta.concatenate([s, s[:, :1]], axis=1)[:, 3] * 2,
    ],
)
def test_every_way_of_reading_parts(read):
    a, b, c = tensors("float64", (4, 8), (4, 8), (4, 8))

    def f(a, b, c):
        return read(ta.stack([a * 2, b * 3, c * 4], axis=1))

    cotangent = ta.Tensor(RNG.standard_normal(f(a, b, c).shape))
    gradients = ta.grad(lambda *xs: (f(*xs) * cotangent).sum(), argnums=(0, 1, 2))
    agree(lambda *xs: (f(*xs), *gradients(*xs)), a, b, c)


def test_a_whole_part_is_read_where_it_was_made():
    a, b = tensors("float32", (4, 8), (4, 8))
    left = agree(lambda a, b: ta.concatenate([a * 2, b * 3], axis=0)[4:] + 1, a, b)
    assert "concatenate" not in left
    left = agree(lambda a, b: ta.concatenate([a * 2, b * 3], axis=0)[3:] + 1, a, b)
    assert "concatenate" in left


def test_parts_of_another_dtype_are_converted():
    a, b = ta.Tensor(np.ones((2, 3), np.float32)), ta.Tensor(np.ones((2, 3)))
    agree(lambda a, b: ta.concatenate([a * 2, b * 3], axis=0)[:2] + 1, a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("more", "f"),
    [
        ((37,), lambda a, b, d: a @ b + d),
        ((5, 37), lambda a, b, d: d + a @ b),
        ((5, 1), lambda a, b, d: a @ b + d),  # columns of one element: an addition of its own
        ((5, 6, 37), lambda a, b, d: a @ b + d[:, 2]),  # rows apart
        ((37, 5), lambda a, b, d: a @ b + d.T),
        ((5, 37), lambda a, b, d: a @ b + d[::-1]),
        ((3, 5, 37), lambda a, b, d: a @ b + d),  # the product is repeated
        ((37,), lambda a, b, d: (a @ b).reshape(5, 1, 37) + d),
        ((37,), lambda a, b, d: (a @ b + d, (a @ b).sum())),  # read twice
        ((37,), lambda a, b, d: a @ b + d.astype("float64")),
        ((5, 37), lambda a, b, d: a @ b + (a @ b + d)),
        ((5, 37), lambda a, b, d: a @ b + a @ (b * 2) + ta.exp(d)),
    ],
)
def test_sums_in_products(dtype, more, f):
    agree(f, *tensors(dtype, (5, 9), (9, 37), more))


def test_which_sums_are_done_by_products():
    a, b, d, wide = tensors("float32", (5, 9), (9, 37), (37,), (5, 37))
    assert agree(lambda a, b, d: ta.tanh(a @ b + d), a, b, d) == ["matmul+add", "tanh"]
    assert "matmul+add" not in agree(lambda a, b, d: (a @ b + d, a @ b), a, b, d)
    # an exponential that goes on to a hyperbolic tangent stays in the loop with it
    assert "matmul+add" not in agree(lambda a, b, d: ta.tanh(a @ b + ta.exp(d)), a, b, wide)


def test_batches_of_products_with_sums():
    agree(lambda a, b, d: a @ b + d, *tensors("float32", (2, 3, 5, 9), (3, 9, 17), (2, 1, 1, 17)))
    agree(lambda a, b, d: a @ b + d, *tensors("float64", (3, 5, 9), (9, 17), (5, 17)))


def test_a_sum_over_deep_blocks():
    """Where k is done in blocks, what is added is added once."""
    agree(lambda a, b, d: a @ b + d, *tensors("float64", (20, 6000), (6000, 40), (40,)))
