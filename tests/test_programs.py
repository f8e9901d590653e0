"""Random programs: valid, runnable as printed, the same in every framework, and shrinking."""

import contextlib
import io
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from library import LIBRARY

import tinygrad_ai as ta
from tinygrad_ai.autodiff import elementwise
from tinygrad_ai.ops.elementwise import tanh
from tinygrad_ai.testing.adapters import Adapter, adapter_named
from tinygrad_ai.testing.programs import (
    BOUND,
    DIALECTS,
    OPS,
    Program,
    Step,
    disagreement,
    random_program,
)
from tinygrad_ai.testing.properties import PROPERTIES
from tinygrad_ai.testing.strategies import agree, programs

QUIET = settings(database=None, max_examples=5000, suppress_health_check=list(HealthCheck))

wrong_tanh = elementwise(
    "tanh", tanh.forward, vjp=lambda g, y, x: g * (1 - y), why="a planted bug: y where y² belongs"
)


class Reference:
    """NumPy values, and gradients by central differences: an adapter for programs."""

    name = "numpy"

    def call(self, f, arrays):
        return [np.asarray(f(*arrays))]

    def vjp(self, f, arrays, cotangents):
        found = []
        for k, x in enumerate(arrays):
            g = np.zeros(x.shape)
            for at in np.ndindex(*x.shape):
                g[at] = self._slope(f, arrays, cotangents[0], k, at)
            found.append(g)
        return found

    def _slope(self, f, arrays, v, k, at):
        def phi(t):
            moved = list(arrays)
            moved[k] = moved[k].copy()
            moved[k][at] += t
            return float(np.sum(v * f(*moved)))

        wide, narrow = ((phi(h) - phi(-h)) / (2 * h) for h in (2e-5, 1e-5))
        return (4 * narrow - wide) / 3


@given(program=programs())
def test_values_are_bounded_and_nothing_is_idle(program):
    value = np.asarray(program.run("numpy"))
    assert (abs(value) < BOUND).all()
    used = {a for step in program.steps for a in step.args}
    made = range(len(program.inputs) + len(program.steps))
    assert used == set(made[:-1])


@given(program=programs())
def test_gradients_match_differences(program):
    assert disagreement(program, LIBRARY, Reference()) < 1e-4


@given(program=programs(), seed=st.integers(0, 2**31))
def test_programs_hold_every_property(program, seed):
    f = program.function("tinygrad_ai")
    for check in (c for name, c in PROPERTIES.items() if name not in ("oracle", "precision")):
        check(LIBRARY, f, list(program.inputs), np.random.default_rng(seed))


def test_every_operation_and_fan_out_are_reached():
    rng = np.random.default_rng(0)
    found = [random_program(rng) for _ in range(1500)]
    assert {step.op for p in found for step in p.steps} == set(OPS)
    assert max(len(p.steps) for p in found) >= 8
    assert max(len(p.inputs) for p in found) == 3
    uses = [[a for step in p.steps for a in step.args] for p in found]
    assert sum(len(u) > len(set(u)) for u in uses) > 300


EXAMPLE = Program(
    (np.array([0.5, -1.0]), np.zeros((0, 2))),
    (
        Step("sin", (0,)),
        Step("multiply", (2, 1)),
        Step("sum", (3,), (("axis", (0,)), ("keepdims", False))),
    ),
)


def test_source_is_what_a_person_would_write():
    assert EXAMPLE.definition("torch") == (
        "def program(x0, x1):\n"
        "    v0 = torch.sin(x0)\n"
        "    v1 = v0 * x1\n"
        "    v2 = torch.sum(v1, axis=(0,), keepdims=False)\n"
        "    return v2"
    )
    assert "np.zeros((0, 2))" in EXAMPLE.source("numpy")


@given(program=programs())
def test_source_runs_and_prints_the_value(program):
    for dialect in ("tinygrad_ai", "numpy"):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(program.source(dialect), {})
        assert said.getvalue()


def off(program):
    """How far the gradient along one direction is from what differences of NumPy values show."""
    f, v = program.function("numpy"), program.cotangent()
    rng = np.random.default_rng(program.seed + 1)
    direction = [np.asarray(rng.uniform(0.5, 1, x.shape)) for x in program.inputs]

    def phi(t):
        return float(
            np.sum(v * f(*(x + t * d for x, d in zip(program.inputs, direction, strict=True))))
        )

    found = LIBRARY.vjp(program.function("tinygrad_ai"), program.inputs, [v])
    terms = [np.sum(g * d) for g, d in zip(found, direction, strict=True) if g is not None]
    slope = (phi(1e-5) - phi(-1e-5)) / 2e-5
    return abs(sum(terms) - slope) / (1 + abs(slope))


def test_planted_bug_shrinks_to_the_step_that_has_it(monkeypatch):
    """A wrong rule is found among all operations, and the smallest program is that step alone."""
    monkeypatch.setattr(ta, "tanh", wrong_tanh)
    found = find(programs(), lambda p: off(p) > 1e-3, settings=QUIET)
    assert [step.op for step in found.steps] == ["tanh"]
    assert found.inputs[0].size == 1


def test_planted_bug_in_company_shrinks_to_two_steps(monkeypatch):
    """A failure that takes two operations keeps them, and nothing else is left."""
    monkeypatch.setattr(ta, "tanh", wrong_tanh)

    def fails(program):
        return any(step.op == "multiply" for step in program.steps) and off(program) > 1e-3

    found = find(programs(), fails, settings=QUIET)
    assert sorted(step.op for step in found.steps) == ["multiply", "tanh"]


def test_agree_names_both_programs_and_steers(monkeypatch):
    monkeypatch.setattr(ta, "tanh", wrong_tanh)
    program = Program((np.array(0.7),), (Step("tanh", (0,)),))
    with pytest.raises(AssertionError, match=r"differ by .* on a program of 1 steps") as caught:
        agree(program, LIBRARY, Reference())
    assert "ta.tanh(x0)" in str(caught.value) and "np.tanh(x0)" in str(caught.value)
    aimed = []
    monkeypatch.setattr(
        "tinygrad_ai.testing.strategies.target", lambda x, label: aimed.append((x, label))
    )

    @settings(database=None, max_examples=5, phases=[Phase.generate])
    @given(program=programs(max_steps=3))
    def within_a_test(program):
        agree(program, LIBRARY, LIBRARY)

    within_a_test()
    assert aimed and all(x == math.log10(1e-300) and "log10" in label for x, label in aimed)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["torch", "jax"])
@given(program=programs())
def test_this_library_agrees_with(name, program):
    agree(program, LIBRARY, adapter_named(name))


class CompiledJax(Adapter):
    """JAX with one compilation a program, where running it eagerly compiles every operation."""

    name = "jax"

    def __init__(self):
        self.jax = adapter_named("jax").jax

    def call(self, f, arrays):
        with self.jax.enable_x64(True):
            return [np.asarray(self.jax.jit(f)(*arrays))]

    def vjp(self, f, arrays, cotangents):
        def gradients(xs, v):
            return self.jax.vjp(f, *xs)[1](v)

        with self.jax.enable_x64(True):
            found = self.jax.jit(gradients)(list(arrays), cotangents[0])
            return [np.asarray(g) for g in found]


@pytest.mark.deep
@pytest.mark.peers
@pytest.mark.parametrize("name", ["torch", "jax"])
def test_ten_thousand_programs_agree(name):
    """About 20 seconds with torch, 20 minutes with JAX, which compiles each program."""
    rng = np.random.default_rng(2024)
    other = CompiledJax() if name == "jax" else adapter_named(name)
    for _ in range(10_000):
        agree(random_program(rng, max_steps=20), LIBRARY, other)


@pytest.mark.peers
@pytest.mark.parametrize("dialect", [d for d in DIALECTS])
def test_printed_programs_run_on_their_own(dialect):
    program = Program((np.array([0.5, -1.0]),), (Step("sin", (0,)), Step("multiply", (1, 0))))
    done = subprocess.run(
        [sys.executable, "-c", program.source(dialect)], capture_output=True, text=True
    )
    assert done.returncode == 0 and "0.239" in done.stdout, done.stderr
