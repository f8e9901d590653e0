"""What a capture depends on besides tensors, and what it refuses to freeze."""

import dataclasses
import types
import typing
import weakref
from collections import deque
from contextvars import ContextVar
from functools import partial

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


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a):
        self.a = a


class Narrower(Slotted):
    __slots__ = ()


class Pair(typing.NamedTuple):
    a: float
    b: list


@dataclasses.dataclass
class Inner:
    a: float = 2.0


@dataclasses.dataclass(slots=True)
class SlottedInner:
    a: float = 2.0


class Outer:
    table: typing.ClassVar = {"a": 2.0}

    def __init__(self):
        self.inner, self.items = Inner(), {"k": [Inner()]}

    def method(self, x):
        return x * self.inner.a

    @property
    def seen(self):
        return self.items["k"][0].a

    @classmethod
    def by_class(cls, x):
        return x * cls.table["a"]


class Labelled(list):
    pass


def scaled(factors, x, more=None):
    return x * factors[0] * (more or [1.0])[0]


def numbered():
    own = types.ModuleType("own")
    own.sub, own.table, own.scale = types.ModuleType("own.sub"), {"a": 2.0}, lambda x: x * 2
    own.sub.inner = Inner()
    return own


def changed(make, reads, change):
    """A case: ``make()`` gives what ``reads(it, x)`` reads and ``change(it)`` changes."""
    return make, reads, change


def with_label():
    found = Labelled([1.0])
    found.label = 2.0
    return found


def in_a_variable():
    found = ContextVar("found")
    found.set(ta.ones(3))
    return found


WORLDS = {
    "set": changed(lambda: {1.0, 2.0}, lambda s, x: x * sum(s), lambda s: s.add(5.0)),
    "deque": changed(lambda: deque([2.0]), lambda d, x: x * sum(d), lambda d: d.append(4.0)),
    "bytes": changed(lambda: bytearray(b"ab"), lambda b, x: x * b[0], lambda b: b.reverse()),
    "slots": changed(lambda: Slotted(2.0), lambda s, x: x * s.a, lambda s: setattr(s, "a", 3.0)),
    "a slot is filled": changed(
        lambda: Narrower(2.0),
        lambda s, x: x * getattr(s, "b", s.a),
        lambda s: setattr(s, "b", 3.0),
    ),
    "dataclass": changed(Inner, lambda d, x: x * d.a, lambda d: setattr(d, "a", 3.0)),
    "dataclass with slots": changed(
        SlottedInner, lambda d, x: x * d.a, lambda d: setattr(d, "a", 3.0)
    ),
    "named tuple": changed(
        lambda: [Pair(2.0, [1.0])],
        lambda p, x: x * p[0].a,
        lambda p: p.__setitem__(0, Pair(3.0, [])),
    ),
    "list in a named tuple": changed(
        lambda: Pair(2.0, [1.0]), lambda p, x: x * p.b[0], lambda p: p.b.append(p.b.pop() + 1)
    ),
    "array": changed(
        lambda: np.array([2.0, 3.0]), lambda a, x: x * float(a[0]), lambda a: a.fill(5)
    ),
    "array made a tensor": changed(
        lambda: np.array([2.0] * 3), lambda a, x: x * ta.Tensor(a), lambda a: a.fill(5)
    ),
    "array of no axes": changed(
        lambda: np.array(2.0), lambda a, x: x * float(a), lambda a: a.fill(5)
    ),
    "array that operations read": changed(
        lambda: np.ones(3), lambda a, x: x * a, lambda a: a.fill(5)
    ),
    "large array that operations read": changed(
        lambda: np.ones((10000, 3)), lambda a, x: x + a, lambda a: a.fill(5)
    ),
    "partial": changed(
        lambda: partial(scaled, [2.0], more=[1.0]),
        lambda p, x: p(x),
        lambda p: p.args[0].append(p.args[0].pop() + 1),
    ),
    "keyword of a partial": changed(
        lambda: partial(scaled, [2.0], more=[1.0]),
        lambda p, x: p(x),
        lambda p: p.keywords.update(more=[4.0]),
    ),
    "bound method": changed(
        lambda: Outer().method,
        lambda m, x: m(x),
        lambda m: setattr(m.__self__.inner, "a", 4.0),
    ),
    "property of nested objects": changed(
        Outer, lambda o, x: x * o.seen, lambda o: setattr(o.items["k"][0], "a", 4.0)
    ),
    "nested object replaced": changed(
        Outer, lambda o, x: x * o.seen, lambda o: o.items.update(k=[Inner(5.0)])
    ),
    "dict of a class": changed(
        lambda: type("Own", (Outer,), {"table": {"a": 2.0}}),
        lambda c, x: c.by_class(x),
        lambda c: c.table.update(a=3.0),
    ),
    "attribute of a class": changed(
        lambda: type("Own", (Outer,), {"table": {"a": 2.0}}),
        lambda c, x: x * c.table["a"],
        lambda c: setattr(c, "table", {"a": 3.0}),
    ),
    "attribute of a list": changed(
        with_label, lambda v, x: x * v.label, lambda v: setattr(v, "label", 3.0)
    ),
    "view of a dict": changed(
        lambda: [d := {"a": 2.0}, types.MappingProxyType(d)],
        lambda p, x: x * p[1]["a"],
        lambda p: p[0].update(a=3.0),
    ),
    "tensor in slots": changed(
        lambda: Slotted(ta.ones(3)), lambda s, x: x * s.a, lambda s: s.a.__setitem__(..., 3.0)
    ),
    "tensor in a deque": changed(
        lambda: deque([ta.ones(3)]), lambda d, x: x * d[0], lambda d: d.appendleft(ta.ones(3) * 3)
    ),
    "tensor behind a weak reference": changed(
        lambda: [t := ta.ones(3), weakref.ref(t)],
        lambda p, x: x * p[1](),
        lambda p: p[0].__setitem__(..., 3.0),
    ),
    "tensor in a context variable": changed(
        in_a_variable,
        lambda v, x: x * v.get(),
        lambda v: v.get().__setitem__(..., 3.0),
    ),
}


#: Tensors that stay and get other values: nothing is to be captured again.
STATES = {"tensor in slots", "tensor behind a weak reference", "tensor in a context variable"}


@pytest.mark.parametrize("name", WORLDS)
def test_what_the_function_reads_is_followed(name):
    make, reads, change = WORLDS[name]
    it, x = make(), ta.ones(3)
    step = ta.jit(lambda x: reads(it, x))
    before = step(x).numpy()
    assert step.captures == 1
    np.testing.assert_array_equal(step(x).numpy(), before)
    assert step.captures == 1, "nothing changed"
    change(it)
    now = step(x).numpy()
    assert (now != before).all()
    np.testing.assert_array_equal(now, reads(it, x).numpy())
    assert step.captures == (1 if "read" in name or name in STATES else 2)


OWN = numbered()
MODULES = {
    "dict": (lambda x: x * OWN.table["a"], lambda: OWN.table.update(a=3.0)),
    "function": (lambda x: OWN.scale(x), lambda: setattr(OWN, "scale", lambda x: x * 7)),
    "module in it": (lambda x: x * OWN.sub.inner.a, lambda: setattr(OWN.sub.inner, "a", 4.0)),
}


@pytest.mark.parametrize("name", MODULES)
def test_what_stands_in_a_users_module_is_followed(name):
    f, change = MODULES[name]
    step, x = ta.jit(f), ta.ones(3)
    before = step(x).tolist()
    change()
    assert step(x).tolist() == f(x).tolist() != before


@pytest.mark.parametrize(
    ("kept", "keep"),
    [
        (deque([1]), lambda d, y: d.append(y)),
        (set(), lambda s, y: s.add(y)),
        (Slotted(1.0), lambda s, y: setattr(s, "b", y)),
        (Slotted(1.0), lambda s, y: setattr(s, "a", y)),
    ],
)
def test_a_tensor_of_the_capture_is_kept_nowhere(kept, keep):
    def contents():
        return [getattr(kept, "a", None), hasattr(kept, "b")] if "a" in dir(kept) else list(kept)

    before = contents()
    with pytest.raises(
        GraphError, match=f"keeps a tensor of the captured step in a {type(kept).__name__}"
    ):
        ta.jit(lambda x: keep(kept, x * 2))(ta.ones(3))
    assert contents() == before


def test_an_array_that_the_function_changes_is_refused():
    count = np.zeros(1)

    def counting(x):
        count[0] += 1
        return x * 2

    with pytest.raises(GraphError, match=r"changes Python values at every call \(a ndarray"):
        ta.jit(counting)(ta.ones(3))


def test_gradients_of_what_cannot_be_followed_are_refused():
    model = nn.Linear(3, 2)
    hidden = weakref.ref(model)

    def step(x):
        (hidden()(x) ** 2).sum().backward()

    with pytest.raises(GraphError, match=r"gradients reach a tensor .* weak reference"):
        ta.jit(step)(ta.ones((4, 3)))
    assert model.weight.grad is None and model.bias.grad is None


def test_a_step_inside_a_step_is_guarded_and_written_by_the_outer_one():
    def found(wrap):
        ta.random.manual_seed(0)
        model, settings = nn.Linear(2, 1), {"scale": 1.0}
        optimizer = ta.optim.Adam(model.parameters(), lr=0.1)

        @wrap
        def inner(x):
            optimizer.zero_grad()
            loss = (model(x) ** 2).mean() * settings["scale"]
            loss.backward()
            optimizer.step()
            return loss

        outer = wrap(lambda x: inner(x) + inner(x * 2) + ta.random.rand(1))
        x = ta.ones((3, 2))
        losses = [outer(x), outer(x)]
        settings["scale"] = 3.0
        losses.append(outer(x))
        optimizer.param_groups[0]["lr"] = 0.01
        losses += [inner(x), outer(x), model.weight, model.weight.grad]
        return [y.numpy().copy() for y in losses], outer

    (eager, _), (compiled, outer) = found(lambda f: f), found(ta.jit)
    for a, b in zip(eager, compiled, strict=True):
        np.testing.assert_allclose(b, a, 1e-5)
    assert outer.captures == 2 and "scale" in outer.explain_retrace()
