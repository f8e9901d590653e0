"""The first call of a compiled step: what is written, compiled and kept, and how often."""

import gc

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai.errors import GraphError
from tinygrad_ai.jit import cache, driver, launches

RNG = np.random.default_rng(5)


def unrolled(steps):
    """A compiled training step of a small recurrent net over so many moments, and its input."""
    width = 6
    weight = ta.Tensor(RNG.normal(size=(width, width)) / 4, dtype="float32", requires_grad=True)
    optimizer = ta.optim.Adam([weight], lr=0.01)

    @ta.jit
    def step(x):
        h = ta.zeros((5, width), dtype="float32")
        for t in range(steps):
            h = ta.tanh(x[:, t] + h @ weight) * ta.sigmoid(h)
        loss = (h * h).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step, ta.Tensor(RNG.normal(size=(5, steps, width)), dtype="float32")


def plan_of(step):
    ((plan, *_),) = step.plans.values()
    return plan


def test_what_a_process_has_compiled_no_other_compiles(monkeypatch, tmp_path):
    """The native loop over the launches included."""

    def refused(source, machine=None):
        raise AssertionError(f"compiled again:\n{source[:200]}")

    monkeypatch.setenv("TINYGRAD_AI_CACHE", str(tmp_path))
    found = []
    for _ in range(2):
        monkeypatch.setattr(cache, "_loaded", {})
        driver.driver.cache_clear()
        step = ta.jit(lambda x: (ta.tanh(x) @ x).sum(axis=0) / 3)
        found.append(step(ta.ones((4, 4))).numpy())
        monkeypatch.setattr(cache, "machine_code", refused)
    np.testing.assert_array_equal(*found)


def test_moments_alike_are_written_and_compiled_once(monkeypatch):
    written, kernels, sizes = [], [], []
    make = launches.RowProgram

    def counted(*args):
        written[-1] += 1
        return make(*args)

    monkeypatch.setattr(launches, "RowProgram", counted)
    for steps in (10, 20, 40):
        written.append(0)
        step, x = unrolled(steps)
        step(x)
        plan = plan_of(step)
        made = plan.execution.launches
        kernels.append(len({id(k.native) for k in made if isinstance(k, launches.Launch)}))
        sizes.append((len(made), len(plan.program.equations)))
    assert written[0] == written[1] == written[2] and kernels[0] == kernels[1] == kernels[2]
    small, middle, large = np.array(sizes)
    np.testing.assert_array_equal(large - middle, 2 * (middle - small))  # no blow-up


def test_a_guard_is_one_equation_until_it_is_needed():
    """0·∞ in the derivative of √ at 0: dropped by the program that has the guard written out."""
    x = ta.Tensor([0.0, 4.0], dtype="float32")
    step = ta.jit(ta.grad(lambda x: (ta.sqrt(x) * ta.Tensor([0.0, 1.0], dtype="float32")).sum()))
    np.testing.assert_allclose(step(x).numpy(), [0.0, 0.25], rtol=1e-6)
    plan = plan_of(step)
    assert sum(e.name == "_where_local_is_0" for e in plan.program.equations) >= 1
    assert all(e.name != "_where_local_is_0" for e in plan.careful.program.equations)


@pytest.mark.parametrize("collecting", [True, False])
def test_the_garbage_collector_is_left_as_it_was(collecting):
    def fails(x):
        assert not gc.isenabled()
        return float(x.sum())

    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        ta.jit(lambda x: x + 1)(ta.ones(3))
        assert gc.isenabled() is collecting
        with pytest.raises(GraphError):
            ta.jit(fails)(ta.ones(3))
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
