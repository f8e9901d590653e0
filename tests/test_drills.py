"""Drills: right rules pass, wrong ones are told why, and no use of them ends in our traceback."""

import numpy as np
import pytest

from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.testing.drill_tasks import TASKS
from tinygrad_ai.testing.drills import drill

ASKED = (
    "add multiply tanh sigmoid relu exp log sum mean max softmax log_softmax cross_entropy "
    "matmul linear layer_norm attention conv1d embedding"
)


def difference(f, x, k, at, h=1e-5):
    """∂f/∂x[k][at] by central differences."""
    moved = [[np.array(a) for a in x] for _ in range(2)]
    moved[0][k][at] += h
    moved[1][k][at] -= h
    return (f(*moved[0]) - f(*moved[1])) / (2 * h)


@pytest.mark.parametrize("name", ASKED.split())
def test_the_solution_is_right(name):
    """By differences at random points; its printed source passes the check."""
    task, d = TASKS[name], drill(name)
    rng = np.random.default_rng(4)
    for inputs in list(d._examples())[: 2 * len(task.sizes)]:
        real = len(inputs) - bool(task.integer)
        x = [abs(a) + 0.3 if task.positive else a + 0.0 for a in inputs[:real]]
        x = [a + rng.uniform(0.05, 0.3, a.shape) for a in x] + inputs[real:]  # off the kinks
        g = rng.standard_normal(np.shape(task.forward(*x)))
        found = task.rule(g, task.forward(*x), *x)
        found = found if isinstance(found, tuple) else (found,)
        assert len(found) == real
        for k in range(real):
            for at in np.ndindex(x[k].shape):
                slope = difference(task.forward, x, k, at)
                assert abs(np.sum(g * slope) - found[k][at]) < 1e-6 * (1 + abs(found[k][at]))
    scope = {"np": np, "softmax": TASKS["softmax"].forward, "softmax_vjp": TASKS["softmax"].rule}
    exec(d.solution(), scope)
    assert d.check(scope["vjp"])


@pytest.mark.parametrize("name", TASKS)
def test_every_slip_is_found_and_named(name):
    d = drill(name)
    assert d.check(TASKS[name].rule)
    for slip, text in TASKS[name].slips:
        answer = d.check(slip)
        assert not answer
        if "expected " in answer.text:  # else its shape gave it away before
            assert answer.hints[0] == text and f"Hint: {text}" in answer.text
        assert TASKS[name].rule.__name__ not in answer.text


def test_the_task_shows_all_that_is_needed():
    text = str(drill("softmax"))
    assert "def softmax(x):" in text and "np.exp(x - x.max" in text and "vjp(g, y, x)" in text
    assert "Array" not in text and "level 4 of 5" in text and "(n, m) -> (n, m)" in text
    assert "return y * (g -" not in text
    assert "def vjp(g, y, x):\n    return y * (g - (g * y).sum" in drill("softmax").solution()
    assert "gradients in x, weight, bias" in str(drill("linear"))
    assert "x = 0 the gradient is 0" in str(drill("relu"))
    assert max(len(line) for name in TASKS for line in str(drill(name)).splitlines()) <= 100


def test_the_list_goes_from_easy_to_hard():
    levels = [d.level for d in drill().values()]
    assert levels == sorted(levels) and set(levels) == {1, 2, 3, 4, 5}
    assert set(drill()) == set(ASKED.split())
    assert all(name in str(drill()) for name in TASKS)
    assert len(str(drill()).splitlines()) == len(TASKS) + 1


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueRangeError, match="no drill 'sofmax', did you mean softmax"):
        drill("sofmax")
    with pytest.raises(ValueRangeError, match=r"no drill 'x'(\n|$)"):
        drill("x")


def test_the_smallest_failing_example_comes_first():
    answer = drill("softmax").check(lambda g, y, x: g * y * (1 - y))
    assert answer.example["x"].shape == (1, 2)  # right for one element, wrong for two
    assert "expected  [[" in answer.text and "yours     [[" in answer.text
    one = drill("tanh").check(lambda g, y, x: g)
    assert one.example["x"].shape == (1,) and one.example["g"].tolist() == [1]
    only_later = drill("exp").check(lambda g, y, x: g * y * (len(x) < 3 or g[2] == 0))
    assert only_later.example["x"].shape == (3,)


@pytest.mark.parametrize(
    ("name", "wrong", "hint"),
    [
        ("tanh", lambda g, y, x: -g * (1 - y**2), "right but for the sign"),
        ("tanh", lambda g, y, x: 3 * g * (1 - y**2), "off by the constant factor 3"),
        ("tanh", lambda g, y, x: 1 - y**2, "does not use g"),
        ("tanh", lambda g, y, x: abs(g) * (1 - y**2), "only where g is positive"),
        ("sum", lambda g, y, x: np.broadcast_to(g, x.shape) * x.shape[1], "times the size of ax"),
        ("softmax", lambda g, y, x: np.zeros_like(x), "zero is what a cotangent of ones gives"),
        ("layer_norm", lambda g, y, x: 0 * x, "nothing comes through"),
        ("add", lambda g, y, a, b: (g, 2 * g), "gradient in b is off by the constant factor 2"),
        ("exp", lambda g, y, x: g * np.sin(x), "what is the derivative of exp"),
    ],
)
def test_hints_name_the_cause(name, wrong, hint):
    answer = drill(name).check(wrong)
    assert not answer and hint in answer.hints[0], answer


def changes_x(g, y, x):
    x *= 2
    return g


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("tanh", lambda g, y: g, "called with 3 arguments (g, y, x), but yours takes (g, y)"),
        ("tanh", lambda: 0, "but yours takes ()"),
        ("tanh", lambda g, y, x: None, "returned None; is a return missing?"),
        ("tanh", lambda g, y, x: 1 / 0, "raised ZeroDivisionError in line"),
        ("tanh", lambda g, y, x: np.ones(7), "shape (7,), x has (1,)"),
        ("tanh", lambda g, y, x: "g", "must be an array of numbers, got str"),
        ("tanh", lambda g, y, x: g * 1j, "complex"),
        ("tanh", lambda g, y, x: {1: 2}, "must be an array of numbers, got dict"),
        ("tanh", lambda g, y, x: (g, g), "returned 2 values, expected 1: x"),
        ("multiply", lambda g, y, a, b: g * b, "returned 1 values, expected 2: a, b"),
        ("multiply", lambda g, y, a, b: (g * b, g * a), "b was broadcast"),
        ("multiply", lambda g, y, a, b: (g * b, None), "gradient in b must be an array"),
        ("tanh", lambda g, y, x: g * np.nan, "yours     [nan]"),
        ("tanh", changes_x, "changed x in place"),
        ("tanh", 3, "expected a function vjp(g, y, x), got 3"),
        ("tanh", None, "expected a function"),
        ("tanh", lambda *args: args[0] * (1 - args[1] ** 2), "Right"),
        ("tanh", lambda g, y, x: list(g * (1 - y**2)), "Right"),
    ],
)
def test_bad_use_gets_a_clear_answer(name, wrong, said):
    answer = drill(name).check(wrong)
    assert said in answer.text, answer.text
    assert bool(answer) == answer.text.startswith("Right")
    assert "Traceback" not in answer.text and repr(answer) == str(answer) == answer.text


def test_right_but_for_ties_and_kinks():
    ties = drill("max").check(lambda g, y, x: g[:, None] * (x == y[:, None]))
    assert "ties" in ties.hints[0] and (ties.example["x"] == ties.example["x"][0, 0]).all()
    kink = drill("relu").check(lambda g, y, x: g * np.where(x == 0, 0.5, x > 0))
    assert 0 in kink.example["x"]


def test_other_ways_to_write_a_rule_pass():
    assert drill("sigmoid").check(lambda g, y, x: g * np.exp(-x) / (1 + np.exp(-x)) ** 2)
    assert drill("matmul").check(
        lambda g, y, a, b: [np.einsum("ij,kj->ik", g, b), np.einsum("ij,ik->jk", a, g)]
    )
