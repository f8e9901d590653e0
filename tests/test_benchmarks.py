"""The benchmarks: their arithmetic, and that every framework computes the same thing."""

import importlib
import itertools
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import gate, measure, report, roofline
from benchmarks.__main__ import arguments, core_counts
from benchmarks.adapters import ADAPTERS, Entry
from benchmarks.adapters.base import Unsupported
from benchmarks.crew import Crew, Failed, Worker, environment
from benchmarks.harness import Timing, clock, geometric_mean, race, ratio
from benchmarks.machine import machine
from benchmarks.measure import Result, Start
from benchmarks.workloads import WORKLOADS, tiny

TINY = {w.name: w for w in tiny()}
positive = st.floats(1e-6, 1e3)


# ------------------------------------------------------------------------------- the arithmetic


@given(st.lists(positive, min_size=3, max_size=30), positive)
def test_a_ratio_is_that_of_minima_and_of_medians(seconds, factor):
    one, other = Timing(tuple(factor * s for s in seconds)), Timing(tuple(seconds))
    found = ratio(one, other)
    assert found.minima == pytest.approx(factor)
    assert found.medians == pytest.approx(factor)
    assert found.low <= found.medians * (1 + 1e-9) and found.medians <= found.high * (1 + 1e-9)


def test_rounds_are_compared_in_pairs():
    """A machine that drifts for both leaves the ratio alone; noise in one widens the interval."""
    drift = np.linspace(1, 10, 40)
    steady = ratio(Timing(tuple(3 * drift)), Timing(tuple(drift)))
    assert steady.high - steady.low < 1e-9
    noise = np.random.default_rng(0).uniform(0.5, 1.5, 40)
    noisy = ratio(Timing(tuple(3 * noise)), Timing((1.0,) * 40))
    assert noisy.low < noisy.medians - 0.05 and noisy.high > noisy.medians + 0.05
    with pytest.raises(ValueError, match="side by side"):
        ratio(Timing((1.0, 2.0)), Timing((1.0,)))


def test_the_interval_covers_what_it_says():
    """The true ratio lies in about 95 of 100 intervals."""
    rng = np.random.default_rng(1)
    inside = 0
    for seed in range(40):
        a, b = rng.lognormal(math.log(2), 0.3, 41), rng.lognormal(0, 0.3, 41)
        found = ratio(Timing(tuple(a)), Timing(tuple(b)), seed)
        inside += found.low <= 2 <= found.high
    assert 33 <= inside <= 40


def test_contenders_take_turns():
    order = []
    timings = race({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3, 2)
    assert order[6:] == ["a", "a", "b", "b"] * 3
    assert [len(t.rounds) for t in timings.values()] == [3, 3]
    assert all(0 < t.minimum <= t.median for t in timings.values())


def test_a_call_ends_with_what_it_started():
    calls = []
    clock(lambda: calls.append("call"), 3, lambda: calls.append("wait"))
    assert calls == ["call"] * 3 + ["wait"]


def test_geometric_mean_of_inverses_is_the_inverse():
    assert geometric_mean([2, 8]) == pytest.approx(4)
    assert geometric_mean([1 / 2, 1 / 8]) == pytest.approx(1 / 4)


# ---------------------------------------------------------------------------------- the floor


def test_flops_and_bytes_are_counted_by_hand():
    """x·Wᵀ + b, relu and a cotangent back: 2·M·N·K for each of three products."""
    ours = importlib.import_module("benchmarks.adapters.ours_jit").Adapter()
    w = WORKLOADS["mlp"].sized(layers=(20, 30, 10), batch=40)
    contender = ours.contender(w, w.case())
    contender.call()
    facts = contender.facts()
    products = 2 * 40 * (2 * 20 * 30 + 3 * 30 * 10)  # nobody asks for the gradient of x
    assert products < facts["flops"] < products + 50 * 40 * (30 + 10) + 10 * 1000
    weights = 20 * 30 + 30 + 30 * 10 + 10
    floats = 40 * 20 + 7 * weights  # p, m, v read and written, the gradient written
    assert 4 * floats < facts["bytes"] < 4 * floats + 40 * 8 + 1000
    assert facts["numpy"] == {}


def test_the_best_of_some_calls():
    assert 0 < roofline.best(lambda: None, 0.0) < 0.1


# ----------------------------------------------------------------------------------- the gate


def first(name, adapter="numpy_hand"):
    w = TINY[name]
    framework = importlib.import_module(f"benchmarks.adapters.{adapter}").Adapter()
    found, seconds = gate.outcome(framework.contender(w, w.case()))
    assert seconds > 0
    return w, found


@pytest.mark.parametrize("part", ["value", "gradients", "weights"])
def test_the_gate_refuses_what_is_wrong(part):
    w, found = first("mlp")
    truth = gate.reference(w, w.case())[0]
    assert gate.objections(found, truth, w.case().weights) == []
    if part == "value":
        wrong = gate.Outcome(found.value * 1.01, found.gradients, found.weights)
    else:
        arrays = {k: a.copy() for k, a in getattr(found, part).items()}
        arrays["fc0.weight"][2, 3] += 0.01
        wrong = gate.Outcome(found.value, *(
            arrays if part == name else getattr(found, name) for name in ("gradients", "weights")
        ))  # fmt: skip
    (objection, *_) = gate.objections(wrong, truth, w.case().weights)
    assert {"value": "the value", "gradients": "the gradient of fc0.weight",
            "weights": "the update of fc0.weight"}[part] in objection  # fmt: skip


def test_the_gate_refuses_nan_missing_gradients_and_steps_not_taken():
    w, found = first("mlp")
    truths = gate.reference(w, w.case())
    nan = gate.Outcome(found.value * np.nan, found.gradients, found.weights)
    assert gate.objections(nan, truths[0], w.case().weights)
    none = gate.Outcome(found.value, {}, found.weights)
    assert "no gradient of fc0.bias" in gate.objections(none, truths[0], w.case().weights)
    assert gate.later_objections(found, truths[0]) == []
    assert gate.later_objections(found, truths[-1]) != []  # still the first loss: nothing learned


def agree(adapter, name):
    """A framework's outcome is the float64 reference's, at the first call and later."""
    w = TINY[name]
    case, framework = w.case(), importlib.import_module(f"benchmarks.adapters.{adapter}").Adapter()
    contender = framework.contender(w, case)
    truths = gate.reference(w, case)
    assert gate.objections(gate.outcome(contender)[0], truths[0], case.weights) == []
    for truth in truths[1:]:
        assert gate.later_objections(gate.outcome(contender)[0], truth) == []


#: what a framework has not, and what the tables then say
LACKING = {
    ("numpy_hand", "add-tracked"): "records nothing",
    ("ours_jit", "add"): "compiling one operation is not what it is for",
    ("ours_jit", "add-tracked"): "compiling one operation is not what it is for",
}


@pytest.mark.parametrize(
    ("adapter", "name"),
    [p for p in itertools.product(["numpy_hand", "ours_eager"], TINY) if p not in LACKING],
)
def test_numpy_and_eager_agree(adapter, name):
    agree(adapter, name)


@pytest.mark.parametrize(("adapter", "name"), LACKING)
def test_what_a_framework_lacks_is_refused_with_a_reason(adapter, name):
    w, framework = TINY[name], importlib.import_module(f"benchmarks.adapters.{adapter}").Adapter()
    with pytest.raises(Unsupported, match=f"^{LACKING[adapter, name]}$"):
        framework.contender(w, w.case())


@pytest.mark.peers
@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("adapter", ["torch_eager", pytest.param("hips", marks=pytest.mark.deep)])
def test_frameworks_agree(adapter, name):
    assert not ADAPTERS[adapter].missing()
    agree(adapter, name)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("adapter", "names"),
    [
        ("ours_jit", ["mlp", "layer-norm"]),
        ("jax_jit", ["mlp", "softmax"]),
        pytest.param("tinygrad_jit", ["softmax"], marks=pytest.mark.deep),  # needs clang
    ],
)
def test_compilers_agree(adapter, names, tmp_path):
    """In processes of their own, as they are timed; tinygrad is slow: a small one."""
    assert not ADAPTERS[adapter].missing()
    with Worker(adapter, 1, tmp_path) as worker:
        for name in names:
            w = TINY[name]
            made = worker.ask("prepare", w, gate.reference(w, w.case()))
            assert made["objections"] == []
            assert worker.ask("time", 2) > 0


# ------------------------------------------------------------------------------ the processes


def test_a_worker_answers_fails_and_is_replaced(tmp_path):
    said = []
    with Crew(["numpy_hand"], 1, tmp_path) as crew:
        assert crew.versions() == {"numpy_hand": np.__version__}
        with pytest.raises(Failed, match="AttributeError"):
            crew.ask("numpy_hand", "nothing")
        effort = measure.Effort(0.01, (3, 4), 30.0, 0.001)
        (result,) = measure.steady(TINY["mlp"], crew, effort, said.append).values()
        assert 3 <= len(result.timing.rounds) <= 4 and result.first_call > 0
        refused = measure.steady(TINY["add-tracked"], crew, effort, said.append)["numpy_hand"]
        assert refused.timing is None and refused.refused == "records nothing"
        if Path("/proc/self/stat").exists():
            idle = Path(f"/proc/{crew.workers['numpy_hand'].process.pid}/stat")
            assert idle.read_text().rpartition(")")[2].split()[0] == "T", "not stopped"
        crew.workers["numpy_hand"].process.kill()
        with pytest.raises(Failed, match="ended"):
            crew.ask("numpy_hand", "hello")
        assert crew.ask("numpy_hand", "hello")["import_seconds"] > 0
    assert any("rounds" in text for text in said)


def test_what_takes_too_long_is_ended(tmp_path):
    with Worker("numpy_hand", 1, tmp_path) as worker, pytest.raises(Failed, match="took over 0 s"):
        worker.ask("prepare", WORKLOADS["lstm"], [], patience=0.01)  # it is still importing


def test_every_framework_gets_the_same_cores(tmp_path):
    env = environment(3, tmp_path)
    assert {env[k] for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")} == {"3"}
    assert env["DEV"] == "CPU" and str(tmp_path) in env["TORCHINDUCTOR_CACHE_DIR"]


def test_what_is_missing_is_said(monkeypatch):
    assert "not installed" in Entry("x", "no_such_package").missing()
    assert "not on PATH" in Entry("x", "numpy", "no-such-program").missing()
    assert Entry("x", "numpy").missing() == ""


# --------------------------------------------------------------------------------- the report


def row(**times):
    return {
        name: Result("mlp", name, 1, Timing((t, 2 * t, 3 * t)) if t else None, "" if t else "why")
        for name, t in times.items()
    }


def test_ours_is_compared_with_the_fastest_peer():
    line = report.line(row(ours_jit=2e-3, torch_eager=3e-3, jax_jit=2.5e-3, hips=None), (1e9, 1e9))
    assert line.fastest_peer.adapter == "jax_jit" and line.ours.adapter == "ours_jit"
    assert line.speed.minima == pytest.approx(1.25)
    assert line.floor is None
    text = report.detail(line)
    assert "HIPS autograd: not timed: why" in text and "3 ms" in text
    table = report.summary([line], markdown=True)
    assert "1.25" in table and "Geometric mean" in table and table.count("|") % 2 == 0
    about = {
        "frameworks": {"jax_jit": "1"},
        "probes": {1: (1e9, 1e9)},
        "missing": {"tinygrad_jit": "gone"},
        "machine": machine(),
    }
    begun = [Start("mlp", "hips", refused="broken"), Start("mlp", "ours_jit", 0.2, 1, 3.0, 0.1, 9)]
    page = report.markdown(about, [line], begun)
    assert "hips" not in page and "not timed" not in page.split("## Not timed")[0]
    assert "- tinygrad: gone" in page and "HIPS autograd: why" in page and "broken" in page


def test_a_floor_is_arithmetic_and_bytes():
    found = row(ours_jit=1e-3)
    found["ours_jit"].facts.update(flops=2e9, bytes=3e9, numpy={"numpy   sort: why": 2})
    line = report.line(found, (1e12, 1e11))
    assert line.floor == pytest.approx(2e-3 + 3e-2)
    assert line.speed is None and "–" in report.summary([line])
    assert "leaves to NumPy: 2 × numpy   sort: why" in report.detail(line)


@pytest.mark.parametrize(("t", "text"), [(2.5, "2.5 s"), (1.234e-3, "1.23 ms"), (5e-7, "0.5 µs")])
def test_seconds_have_units(t, text):
    assert report.seconds(t) == text


def test_the_command_line():
    assert arguments([]).only == [*WORKLOADS]
    assert core_counts(arguments(["--quick"])) == [1]
    assert core_counts(arguments(["--threads", "1"])) == [1]
    with pytest.raises(SystemExit):
        arguments(["--only", "nothing"])


def test_workloads_are_the_same_for_everybody():
    for w in TINY.values():
        one, other = w.case(), pickle.loads(pickle.dumps(w)).case()
        for k, a in one.weights.items():
            np.testing.assert_array_equal(a, other.weights[k])
            assert a.dtype == np.float32
