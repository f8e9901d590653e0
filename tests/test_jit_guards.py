"""What a capture depends on besides tensors, and what it refuses to freeze."""

import types

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai import nn
from tinygrad_ai.errors import DTypeError, GraphError

settings = types.ModuleType("settings")
settings.scale = 2.0
FACTOR = 2.0


class Scaled(nn.Module):
    alpha = 2.0

    def forward(self, x):
        return self.helped(x)

    def helped(self, x):
        return x * FACTOR * self.alpha


def test_how_arguments_nest_is_part_of_the_signature():
    a, b = ta.Tensor([1.0, 2.0]), ta.Tensor([10.0, 20.0])
    difference = ta.jit(lambda d: d["x"] - d["y"])
    assert difference({"x": a, "y": b}).tolist() == [-9.0, -18.0]
    assert difference({"y": a, "x": b}).tolist() == [9.0, 18.0]
    first = ta.jit(lambda x, y: x if x is not None else -y)
    assert first(a, None).tolist() == [1.0, 2.0]
    assert first(None, a).tolist() == [-1.0, -2.0]


def test_zeros_of_both_signs_are_two_static_arguments():
    f = ta.jit(lambda x, s: 1 / (x * s))
    x = ta.Tensor([1.0])
    assert f(x, 0.0).item() == np.inf and f(x, -0.0).item() == -np.inf


def test_attributes_of_modules_and_classes_and_what_methods_read(monkeypatch):
    x = ta.ones(3)
    f = ta.jit(lambda x: x * settings.scale)
    model = Scaled()
    g = ta.jit(lambda x: model(x))
    assert f(x).tolist() == [2.0] * 3 and g(x).tolist() == [4.0] * 3
    monkeypatch.setattr(settings, "scale", 5.0)
    monkeypatch.setattr(Scaled, "alpha", 3.0)
    assert f(x).tolist() == [5.0] * 3 and g(x).tolist() == [6.0] * 3
    monkeypatch.setitem(globals(), "FACTOR", 10.0)
    assert g(x).tolist() == [30.0] * 3


def test_a_tensor_of_the_capture_is_not_kept():
    kept = []
    f = ta.jit(lambda x: kept.append(x * 2))
    with pytest.raises(GraphError, match="keeps a tensor of the captured step in a list"):
        f(ta.ones(3))
    assert kept == []
    model = Scaled()

    def keeping(x):
        model.last = x + 1
        return x

    with pytest.raises(GraphError, match="keeps a tensor of the captured step in last of Scaled"):
        ta.jit(keeping)(ta.ones(3))
    assert not hasattr(model, "last")


def test_a_counter_is_not_frozen():
    model = Scaled()
    model.calls = 0

    def counting(x):
        model.calls += 1
        return x * 2

    with pytest.raises(GraphError, match="changes Python values at every call"):
        ta.jit(counting)(ta.ones(3))


def test_the_largest_of_false_is_false():
    x = ta.Tensor(np.zeros((3, 5), bool))
    assert ta.jit(lambda x: x.max(axis=1))(x).tolist() == [False] * 3
    assert ta.jit(lambda x: x.min(axis=0))(~x).tolist() == [True] * 5


def test_a_step_outside_of_which_backward_runs_follows_the_gradients():
    w = ta.Tensor([1.0, 2.0], requires_grad=True)
    optimizer = ta.optim.SGD([w], lr=1.0)
    step = ta.jit(lambda: optimizer.step())
    step()
    w.sum().backward()
    step()
    assert w.tolist() == [0.0, 1.0]


def test_compiled_methods_bind_and_only_functions_are_compiled():
    class Doubler:
        @ta.jit
        def double(self, x):
            return x * 2

    assert Doubler().double(ta.ones(2)).tolist() == [2.0, 2.0]
    with pytest.raises(DTypeError, match="jit compiles a function, not 3"):
        ta.jit(3)


def test_an_argument_may_share_memory_with_what_the_step_writes():
    def swapped(w, v, x):
        z = w * 3
        y = x @ v
        w[...] = w * 2
        return z, y

    eager, compiled = ta.ones((4, 4)), ta.ones((4, 4))
    v = ta.eye(4)
    step = ta.jit(lambda x: swapped(compiled, v, x))
    for _ in range(2):
        for a, b in zip(swapped(eager, v, eager.detach()), step(compiled.detach()), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
