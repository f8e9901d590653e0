"""What captures anew, and says why, and what does not."""

import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from stepping import X, Y, leaf, mlp, same_state, state_of, training_step

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import nn, optim
from tinygrad_ai.errors import GraphError


def test_settings_of_optimizers_are_read_at_every_call():
    w, v = leaf(1.0), leaf(1.0)
    optimizer, plain = (optim.SGD([t], lr=1.0, momentum=0.5) for t in (w, v))
    schedules = [optim.lr_scheduler.StepLR(o, step_size=1, gamma=0.5) for o in (optimizer, plain)]

    def run(optimizer, t):
        optimizer.zero_grad()
        (t * 3).sum().backward()
        optimizer.step()

    step = ta.jit(lambda: run(optimizer, w))
    for k in range(4):
        step()
        run(plain, v)
        for schedule in schedules:
            schedule.step()
        for o in (optimizer, plain):
            o.param_groups[0]["momentum"] = 0.5 + 0.1 * k
        np.testing.assert_allclose(w.numpy(), v.numpy(), 1e-15)
    assert step.captures == 1


SCALE = 2.0


def helper(x):
    return x * SCALE


class Settings:
    power = 1
    factor = 1.0


def changes():
    """What may change, by name: (function, how it changes, what the explanation says)."""
    model, settings, listed = nn.Linear(2, 2), Settings(), [1.0]
    w = ta.Tensor(np.ones(2), requires_grad=True)
    settings.factor = 1.0
    number = 3.0

    def closed(x):
        return x * number

    def change_number():
        nonlocal number
        number = 4.0

    def change_global():
        globals()["SCALE"] += 1.0

    def backward(x):
        model.zero_grad()
        model(x.astype("float32")).sum().backward()
        return x

    frozen = model.weight

    return {
        "closed over": (closed, change_number, "value of number changed"),
        "a global of a function that is called": (helper, change_global, "global SCALE changed"),
        "an attribute": (
            lambda x: x * settings.factor,
            lambda: setattr(settings, "factor", 2.0),
            "factor of Settings",
        ),
        "a list": (lambda x: x * sum(listed), lambda: listed.append(2.0), "list changed"),
        "training": (lambda x: F.dropout(x, 0.5, model.training), model.eval, "training of Linear"),
        "requires_grad": (
            lambda x: (w * x).sum() if w.requires_grad else x,
            lambda: setattr(w, "requires_grad", False),
            "requires_grad",
        ),
        "frozen": (backward, lambda: setattr(frozen, "requires_grad", False), "requires_grad"),
        "a layer": (
            lambda x: model(x.astype("float32")),
            lambda: setattr(model, "bias", None),
            "bias|_parameters|Linear",
        ),
    }


@pytest.mark.parametrize("name", changes())
def test_a_change_captures_anew_and_says_why(name):
    f, change, why = changes()[name]
    step = ta.jit(f)
    x = ta.Tensor(np.array([1.0, 2.0]))
    for _ in range(2):
        step(x)
    assert step.captures == 1 and step.explain_retrace() == "the first call"
    change()
    result = step(x)
    assert step.captures == 2 and re.search(why, step.explain_retrace())
    step(x)
    assert step.captures == 2
    if "training" not in name:
        np.testing.assert_allclose(result.numpy(), f(x).numpy(), 1e-6)


def test_arguments_are_told_apart():
    step = ta.jit(lambda x, flag=False, k=1: x * k if flag else x - k)
    x = ta.Tensor(np.array([1.0, 2.0]))
    calls = [
        ((x,), {}, "first call"),
        ((ta.Tensor(np.ones(3)),), {}, r"argument x was .*\(2,\).* is .*\(3,\)"),
        ((ta.Tensor(np.ones(2, "f")),), {}, "float32"),
        ((x, True), {}, "number, names"),
        ((x, True, 2), {}, "number, names"),
        ((x, True, 3), {}, "argument k was .*2.* is .*3"),
        ((x,), {"k": 5}, "arguments"),
    ]
    for count, (args, keywords, why) in enumerate(calls, 1):
        for _ in range(2):
            found = step(*args, **keywords)
            np.testing.assert_array_equal(found.numpy(), step.function(*args, **keywords).numpy())
            assert step.captures == count and re.search(why, step.explain_retrace())


class Warm(optim.Optimizer):
    """Gradient descent, half as fast in its first steps, that stops and goes on again."""

    def __init__(self, params):
        super().__init__(params, lr=0.1)

    def slots(self, group):
        return {"seen": 0.0}

    def numbers(self, group, step):
        names = {1: "first", 2: "second"}
        return {"lr": group["lr"], "warm": step > 2, "late": step - 4, "name": names.get(step)}

    @staticmethod
    def rule(xp, w, g, slots, numbers, t, u):
        slots["seen"] += g
        xp.multiply(g, numbers["lr"], out=t)
        if not numbers["warm"]:
            t *= 0.5
        if numbers["name"] == "second":
            t *= 3.0
        if numbers["late"]:
            w -= t


def test_numbers_that_a_rule_branches_on_capture_anew():
    """They are the optimiser's own, and may change from step to step; draws are taken once."""

    def trained(wrap):
        w = ta.Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
        optimizer = Warm([w])
        ta.random.manual_seed(0)

        @wrap
        def step():
            optimizer.zero_grad()
            (w**2 * ta.random.rand(2, 3, dtype="float64")).sum().backward()
            optimizer.step()

        seen = []
        for _ in range(7):
            step()
            seen.append(w.numpy().copy())
        return step, seen, optimizer.state[w]["step"]

    _, plain, count = trained(lambda f: f)
    step, found, again = trained(ta.jit)
    np.testing.assert_allclose(found, plain, 1e-12)
    assert count == again == 7
    assert step.captures == 4, "steps 1, 2, 3 and 4; 5 is as 3"
    assert "the numbers that rule branches on changed" in step.explain_retrace()


def test_numbers_that_change_by_themselves_are_refused():
    class Moody(Warm):
        calls = 0

        def numbers(self, group, step):
            Moody.calls += 1
            return super().numbers(group, 3) | {"name": f"call {Moody.calls}"}

    w = leaf(1.0, 2.0)
    optimizer = Moody([w])
    step = ta.jit(training_step(lambda x: w * x, optimizer, lambda y, _: y.sum()))
    with pytest.raises(GraphError, match="the numbers that rule branches on changed between"):
        step(ta.ones((2,)), ta.ones((2,)))
    assert optimizer.state[w]["step"] == 0 and w.tolist() == [1, 2]


def test_parts_of_arguments_have_names():
    class Batch(NamedTuple):
        words: Any
        sizes: Any

    step = ta.jit(lambda first, /, *rest, scales, **more: first["x"].sum())

    def call(n, m=1, k=1, j=1):
        x, *others = (ta.ones((size,)) for size in (n, m, k, j))
        given = {"scales": [x, others[0]], "options": {"a": 1}}
        step({"x": x, "y": None}, Batch(x, others[1]), (others[2],), **given)
        return step.explain_retrace()

    call(1)
    assert call(1, 2).startswith("argument scales[1] was tensor (1,)")
    assert call(1, 1, 2).startswith("argument rest[0].sizes was")
    assert call(1, 1, 1, 2).startswith("argument rest[1][0] was")
    assert call(2).startswith("argument first['x'] was")
    assert ta.jit(np.add)(x1 := ta.ones((2,)), x1).tolist() == [2, 2]  # has no signature


def test_grad_mode_is_part_of_the_signature():
    w = leaf(1.0)
    step = ta.jit(lambda x: x * 2 if ta.Tensor.requires_grad.fget(w * x) else x * 3)
    x = ta.Tensor(np.array([1.0]))
    assert step(x).item() == 2
    with ta.no_grad():
        assert step(x).item() == 3
    assert step(x).item() == 2 and step.captures == 2


def test_groups_of_optimizers():
    v, w = leaf(1.0), leaf(1.0)
    optimizer = optim.SGD([v], lr=1.0)
    step = ta.jit(training_step(lambda x: (v + w) * x, optimizer, lambda y, _: y.sum()))
    one = ta.Tensor(np.ones(1))
    step(one, one)
    assert (v.item(), w.item()) == (0, 1)
    optimizer.add_param_group({"params": [w], "lr": 0.5})
    step(one, one)
    assert (v.item(), w.item()) == (-1, 0.5) and step.captures == 2
    optimizer.param_groups[1]["lr"] = 0.25
    step(one, one)
    assert (v.item(), w.item()) == (-2, 0.25) and step.captures == 2


def test_parameters_may_be_loaded_replaced_and_changed_outside():
    model = nn.Linear(2, 3)
    other = nn.Linear(2, 3)
    step = ta.jit(lambda x: model(x))
    x = ta.Tensor(np.ones((4, 2), "f"))

    def agrees():
        np.testing.assert_allclose(step(x).numpy(), model(x).numpy(), 1e-6)

    agrees()
    model.load_state_dict(other.state_dict())
    agrees()
    with ta.no_grad():
        model.weight.array[...] *= 2
    agrees()
    model.weight = nn.Parameter(other.weight.numpy() * 3)
    agrees()
    model.to(dtype="float64")
    x = ta.Tensor(np.ones((4, 2)))
    agrees()


def test_a_loaded_optimizer_goes_on():
    states = []
    for wrap in (lambda f: f, ta.jit):
        model = mlp(4)
        optimizer = optim.Adam(model.parameters(), lr=0.01)
        step = wrap(training_step(model, optimizer))
        for k, (x, y) in enumerate(zip(X, Y, strict=True)):
            if k == 2:
                saved = optimizer.state_dict()
            if k == 4:
                optimizer.load_state_dict(saved)
            step(ta.Tensor(x), ta.Tensor(y))
        states.append(state_of(model, optimizer))
    same_state(states[1], states[0])


def test_an_equal_but_other_tensor_is_another():
    """A number in a tensor: what is compared is which tensor it is, not what it holds."""
    x = ta.Tensor(np.array(2.0))
    step = ta.jit(lambda a: a * x)
    one = ta.Tensor(np.array(1.0))
    assert step(one).item() == 2
    x = ta.Tensor(np.array(2.0))
    step(one)
    x[...] = 5.0
    assert step(one).item() == 5 and step.captures == 2


def test_arrays_that_are_closed_over_are_read_at_every_call():
    mask = np.array([1.0, 0.0])
    step = ta.jit(lambda x: x * mask)
    x = ta.Tensor(np.array([3.0, 4.0]))
    step(x)
    mask[:] = 0, 1
    np.testing.assert_array_equal(step(x).numpy(), [0, 4])


def test_switches_of_optimizers_capture_anew():
    w, v = leaf(1.0, 2.0), leaf(1.0, 2.0)
    optimizers = [optim.SGD([t], lr=0.1) for t in (w, v)]

    def step(t, optimizer):
        optimizer.zero_grad()
        (t * t).sum().backward()
        optimizer.step()

    compiled = ta.jit(lambda: step(w, optimizers[0]))
    for setting in ({}, {"weight_decay": 0.1}, {"weight_decay": 0.2}):
        for optimizer in optimizers:
            optimizer.param_groups[0].update(setting)
        compiled()
        step(v, optimizers[1])
        np.testing.assert_allclose(w.numpy(), v.numpy(), 1e-15)
    assert compiled.captures == 2 and "SGD" in compiled.explain_retrace()
