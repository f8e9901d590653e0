"""Where a step's arrays lie: nothing is overwritten that is still to be read."""

import numpy as np
import pytest
from stepping import training_step

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import nn, optim
from tinygrad_ai.jit.fuse import Rows
from tinygrad_ai.jit.native import Space

RNG = np.random.default_rng(0)
BATCHES = {"images": (4, 1, 12, 12), "words": (4, 9, 8), "numbers": (64, 48)}


class Words(nn.Module):
    """Attention, and a recurrent net after it."""

    def __init__(self):
        super().__init__()
        self.block, self.cell = nn.TransformerEncoderLayer(8, 2, 16), nn.LSTM(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.cell(self.block(x))[0][:, -1])


def network(name):
    ta.random.manual_seed(0)
    if name == "words":
        return Words()
    if name == "numbers":
        return nn.Sequential(
            nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 3)
        )
    features = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(100, 3))


def execution_of(name):
    model = network(name)
    step = ta.jit(training_step(model, optim.Adam(model.parameters()), F.cross_entropy))
    shape = BATCHES[name]
    step(ta.Tensor(RNG.standard_normal(shape).astype("f")), ta.Tensor(RNG.integers(0, 3, shape[0])))
    (plan,) = next(iter(step.plans.values()))
    return plan.execution


def lives(execution):
    """For each array of the arena: its bytes, the launch that makes it, the last that reads it."""
    found = {}
    for k, launch in enumerate(execution.launches):
        for v in launch.operands:
            if v in execution.offsets:
                at = execution.offsets[v]
                first = found[v][1] if v in found else k
                found[v] = (at, at + v.nbytes), first, k
    for v in execution.program.outputs:
        root = execution.fused.views[v].root
        if root in found:
            found[root] = *found[root][:2], len(execution.launches)
    return found


@pytest.mark.parametrize("name", BATCHES)
def test_what_is_still_to_be_read_is_not_overwritten(name):
    """Only a kernel that goes element by element may write where it reads for the last time."""
    execution = execution_of(name)
    found = list(lives(execution).items())
    replaced = 0
    for n, (v, (place, first, last)) in enumerate(found):
        for u, (other, begin, end) in found[:n]:
            if place[0] >= other[1] or other[0] >= place[1] or first > end or begin > last:
                continue
            older, newer = sorted([(begin, end, u), (first, last, v)], key=lambda x: x[:2])
            assert older[1] == newer[0], "both are needed at the same time"
            kernel = execution.fused.kernels[execution.fused.place[newer[2]]]
            assert isinstance(kernel, Rows) and kernel.outer is None
            assert place == other
            replaced += 1
    assert replaced, "no array was replaced: is there nothing element by element?"


def test_arrays_of_other_widths_are_not_replaced():
    """A float32 beside a float64, of as many elements and of as many bytes."""
    x, w = (RNG.standard_normal((40, 40)) for _ in range(2))
    small = w.astype("f")

    def f(x, w, small):
        wide = x @ w  # float64
        narrow = (wide * 2).astype("float32")
        half = small @ small  # float32
        return narrow @ small, (half.astype("float64") + 1) @ w

    given = [ta.Tensor(a) for a in (x, w, small)]
    step = ta.jit(f)
    for _ in range(2):
        for found, wanted in zip(step(*given), f(*given), strict=True):
            np.testing.assert_allclose(found.numpy(), wanted.numpy(), 1e-4, 1e-4)


def test_space_joins_what_is_given_back():
    space = Space()
    a, b, c = space.take(64), space.take(128), space.take(64)
    space.give(a, 64)
    space.give(c, 64)
    space.give(b, 128)
    assert space.take(256) == 0 and space.top == 256
