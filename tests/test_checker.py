"""The gradient checker: judged by the corpora, told apart from a weak one, clear on bad use."""

import json

import numpy as np
import pytest

import tinygrad_ai as ta
from benchmarks.truth.correct import CORRECT
from benchmarks.truth.wrong import WRONG
from tinygrad_ai.testing.adapters import Adapter, CheckError, outputs, register_adapter
from tinygrad_ai.testing.checker import assert_gradients, check_gradients

rng = np.random.default_rng(0)
X = rng.standard_normal((3, 4))


def domains(case):
    if case.domain is None:
        return None
    return [d.replace(" ", "_") if isinstance(d, str) else d for d in case.domain]


def checked(case):
    inputs = case.inputs(np.random.default_rng(0))
    return check_gradients(case.f, *inputs, vjp=case.vjp, domains=domains(case))


@pytest.mark.parametrize("case", WRONG, ids=lambda c: c.name)
def test_every_wrong_backward_is_found(case):
    assert checked(case).verdict == "fail"


def test_the_cause_labelled_beforehand_is_ranked_first_for_most():
    first = [
        bool(report.causes) and report.causes[0].label in {case.cause, *case.also}
        for case in WRONG
        for report in [checked(case)]
    ]
    assert np.mean(first) >= 0.85


@pytest.mark.parametrize("case", CORRECT, ids=lambda c: c.name)
def test_no_correct_backward_raises_an_alarm(case):
    assert checked(case).verdict == "pass"


def test_one_bad_element_in_100_000_is_found_with_its_index():
    x = np.random.default_rng(1).standard_normal(100_000)

    def rule(g, x):
        slope = np.cos(x)
        slope[77_777] += 1e-2
        return g * slope

    report = check_gradients(np.sin, x, vjp=rule)
    assert report.verdict == "fail" and report.worst.index == (77_777,)


def test_functions_of_this_library_modules_and_structures():
    assert check_gradients(ta.nn.functional.softmax, X, order=2)
    layer = ta.nn.Linear(4, 2, dtype="float64")
    report = check_gradients(lambda m, x: ta.tanh(m(x)), layer, X)
    assert report and report.coverage.elements == 8 + 2 + 12
    assert check_gradients(lambda d: d["a"] * d["b"][0], {"a": X, "b": (X + 1,)})
    assert check_gradients(lambda x: (ta.sin(x), ta.exp(x)), X)


def test_a_seeded_generator_is_set_back_before_every_call():
    assert check_gradients(lambda x: x * ta.random.randn(3, 4, dtype="float64"), X)


def test_a_function_that_is_not_repeatable_gets_a_verdict():
    own = np.random.default_rng(0)
    report = check_gradients(lambda x: x * own.random(), X)
    assert report.verdict == "fail" and report.causes[0].label == "random"


def test_kinks():
    at = np.array([-1.0, 0.0, 2.0])
    assert check_gradients(ta.relu, at)
    assert check_gradients(ta.relu, at).coverage.kinks
    assert check_gradients(ta.relu, at, kinks="strict").verdict == "fail"

    def outside(g, x):
        return g * np.where(x == 0, 2.0, x > 0)

    assert check_gradients(lambda x: np.maximum(x, 0), at, vjp=outside).verdict == "fail"
    assert check_gradients(lambda x: np.maximum(x, 0), at, vjp=outside, kinks="skip")


def test_second_order_finds_what_first_order_cannot():
    @ta.custom_vjp
    def square(x):
        constant = x.detach()
        return x * x, lambda g: g * 2 * constant

    assert check_gradients(square, X)
    report = check_gradients(square, X, order=2)
    assert report.verdict == "fail" and report.worst.kind == "second"


def test_domains_keep_the_steps_inside():
    a = X @ X.T + 3 * np.eye(3)
    assert check_gradients(ta.linalg.cholesky, a, domains=["positive_definite"])
    assert check_gradients(lambda p: (p * ta.log(p)).sum(), np.full(4, 0.25), domains=["simplex"])
    assert check_gradients(ta.arcsin, np.array([0.9999, -0.5]), domains=[(-1, 1)])
    with pytest.raises(ValueError, match="domain 'triangle' is unknown"):
        check_gradients(ta.exp, X, domains=["triangle"])


def test_the_report_speaks_text_json_and_pictures(tmp_path):
    report = check_gradients(np.tanh, X, vjp=lambda g, x: -g * (1 - np.tanh(x) ** 2))
    text = report.text()
    assert "FAIL" in text and "the sign is flipped" in text and "argument 0 at [" in text
    body = json.loads(report.to_json())
    assert body["verdict"] == "fail" and body["causes"][0]["label"] == "sign"
    report.picture(tmp_path / "errors.png")
    assert (tmp_path / "errors.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(AssertionError, match="gradient check: FAIL"):
        assert_gradients(np.tanh, X, vjp=lambda g, x: g)


BAD_USE = [
    (lambda x: None, {}, "returns None"),
    (lambda x: ta.argmax(x), {}, "has no gradient"),
    (lambda x: 1 / 0, {}, "the function raised ZeroDivisionError"),
    (lambda x: ta.Tensor(x.numpy() * 2), {}, "argument 0"),
    (np.sin, {"vjp": lambda g, x: g.sum()}, "its gradient ()"),
    (np.sin, {"vjp": lambda g, x: (g, g)}, "returned 2 gradients for 1 arguments"),
    (np.sin, {"vjp": lambda g, x: (g * np.cos(x)).astype("f4")}, "its gradient float32"),
]


@pytest.mark.parametrize("k", range(len(BAD_USE)))
def test_bad_use_gets_a_verdict_and_no_traceback(k):
    f, options, said = BAD_USE[k]
    report = check_gradients(f, X, **options)
    assert report.verdict == "fail" and said in report.text()


def test_the_first_wrong_operation_is_named_with_its_line_and_formula():
    from tinygrad_ai.autodiff import elementwise  # noqa: PLC0415  (one record, made wrong here)

    bent = elementwise(
        "bent", lambda xp, x: xp.sin(x), vjp=lambda g, x: g * ta.sin(x), why="wrong on purpose"
    )

    def f(x):
        return (ta.tanh(x) + bent(x * 2)).sum()

    text = check_gradients(f, X).text()
    assert "first wrong operation: bent, called at" in text and "test_checker.py" in text
    assert "its rule for input 0: g * ta.sin(x)" in text
    assert "hint: " in text and "again: check_gradients(" in text


def test_a_wrong_custom_vjp_is_named():
    @ta.custom_vjp
    def cube(x):
        return x**3, lambda g: g * 2 * x * x

    report = check_gradients(lambda x: ta.tanh(cube(x)), X)
    assert report.verdict == "fail" and "look at the rule of cube" in report.text()


def test_a_rule_that_gives_nan_makes_valid_json_and_denormal_inputs_pass():
    report = check_gradients(np.sin, X, vjp=lambda g, x: g * np.nan)
    assert json.loads(report.to_json())["margin"] == "inf"
    assert check_gradients(np.square, np.array(2.2e-313), vjp=lambda g, x: 2 * g * x)


def test_a_function_that_changes_its_input_is_told():
    def careless(x):
        x *= 2
        return x

    report = check_gradients(careless, X, vjp=lambda g, x: 2 * g)
    assert report.causes[0].label == "mutates_input"


def test_calls_that_make_no_sense_raise():
    with pytest.raises(CheckError, match="no argument can carry a gradient"):
        check_gradients(ta.exp, np.arange(3))
    with pytest.raises(TypeError, match="complex arguments cannot be checked"):
        check_gradients(ta.exp, X + 1j)
    with pytest.raises(CheckError, match="no adapter 'theano'"):
        check_gradients(ta.exp, X, adapter="theano")
    with pytest.raises(ValueError, match="kinks must be"):
        check_gradients(ta.exp, X, kinks="maybe")


def test_an_adapter_of_ones_own_takes_ten_lines():
    class ComplexStep(Adapter):
        """Derivatives of elementwise NumPy functions by a step along the imaginary axis."""

        name = "complex-step"

        def call(self, f, arrays):
            return outputs(f(*arrays), np.asarray)

        def vjp(self, f, arrays, cotangents):
            return [cotangents[0] * f(arrays[0] + 1e-30j).imag / 1e-30]

    register_adapter(ComplexStep())
    assert check_gradients(lambda x: np.sin(x) * np.exp(x), X, adapter="complex-step")
    assert check_gradients(np.abs, X, adapter="complex-step").verdict == "fail"


@pytest.mark.peers
def test_torch_functions_and_modules():
    import torch  # noqa: PLC0415  (the extra `ci`)

    assert check_gradients(torch.erf, torch.tensor(X), order=2)
    layer = torch.nn.Linear(4, 2).double()
    report = check_gradients(lambda m, x: torch.tanh(m(x)), layer, torch.tensor(X))
    assert report and report.coverage.elements == 8 + 2 + 12
