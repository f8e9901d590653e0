"""The numeric cases in which autodiff libraries have been wrong, on this library and on others."""

import warnings

import numpy as np
import pytest

from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.ops import PRIMITIVES
from tinygrad_ai.testing.corner_cases import (
    CORNER_CASES,
    check_case,
    records_of,
    run_case,
    run_corner_cases,
)
from tinygrad_ai.testing.frameworks import Framework, Ours, framework, register_framework

BY_ID = {case.id: case for case in CORNER_CASES}


@pytest.mark.parametrize("case", CORNER_CASES, ids=str)
def test_value_and_gradients(case):
    """In the dtype and shape of value and inputs, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        value, _ = Ours().differentiate(_function(case), case)
    assert value.dtype == case.dtype
    check_case(case)


def _function(case):
    def f(*inputs):
        names = dict(zip("abcdef", inputs, strict=False))
        return eval(case.expr, {"F": Ours.functions}, names)

    return f


def test_the_cases_are_data():
    assert len(CORNER_CASES) == len(BY_ID) >= 75
    for case in CORNER_CASES:
        assert case.v.shape == case.value.shape
        assert len(case.grads) == len(case.inputs)
        assert all(
            g is None or g.shape == x.shape for g, x in zip(case.grads, case.inputs, strict=True)
        )


def test_the_operations_behind_a_case_are_found():
    assert records_of(BY_ID["max-self"]) == {"maximum"}
    assert records_of(BY_ID["mse-bc"]) >= {"mean", "subtract"}
    used = frozenset().union(*map(records_of, CORNER_CASES))
    assert used <= set(PRIMITIVES) and len(used) > 30


class Broken(Ours):
    """This library with a wrong gradient, a wrong value, and a function missing."""

    name = "broken"
    functions = type(Ours.functions)(**vars(Ours.functions))
    del functions.sinc
    functions.tanh = functions.sigmoid

    def differentiate(self, f, case):
        value, grads = super().differentiate(f, case)
        return value, [None if g is None else -g for g in grads]


def test_wrong_answers_are_told_apart():
    broken = Broken()
    outcomes = {name: run_case(BY_ID[name], broken) for name in BY_ID}
    assert outcomes["sinc-0"].verdict == "missing"
    assert outcomes["sinc-0"].gave() == "no sinc"
    assert outcomes["tanh-big"].verdict == "wrong value"
    assert outcomes["self-div"].verdict == "right"  # its gradient is 0
    assert outcomes["bc-outer"].verdict == "wrong gradient"
    assert "-140" in outcomes["bc-outer"].gave()
    assert outcomes["maximum-tie"].verdict == "other choice"


def test_a_framework_can_be_registered():
    class Constant(Framework):
        name = "constant"
        functions = Ours.functions

        def differentiate(self, f, case):
            return case.value, list(case.grads)

    register_framework(Constant())
    assert all(outcome.ok for outcome in run_corner_cases("constant"))
    with pytest.raises(ValueRangeError, match="no framework 'tenserflow'"):
        framework("tenserflow")


@pytest.mark.peers
def test_torch_is_wrong_where_it_is_known_to_be():
    outcomes = {o.case.id: o for o in run_corner_cases("torch")}
    assert outcomes["det-singular"].verdict == "wrong gradient"
    assert not np.any(outcomes["det-singular"].grads[0])
    assert outcomes["slice-step"].verdict == "missing"
    assert outcomes["lse-all-ninf"].verdict == "other choice"
    assert sum(o.ok for o in outcomes.values()) >= 60
