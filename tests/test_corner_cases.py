"""The numeric cases in which autodiff libraries have been wrong (corner_cases.json)."""

import json
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import tinygrad_ai as ta

CASES = json.loads((Path(__file__).parent / "corner_cases.json").read_text())

#: The names of the cases where they differ from this library's.
F = SimpleNamespace(
    **{name: getattr(ta, name) for name in dir(ta) if not name.startswith("_")}
    | {
        "pow": ta.power,
        "concat": ta.concatenate,
        "det": ta.linalg.det,
        "inv": ta.linalg.inv,
        "conv1d": ta.nn.functional.conv1d,
        "maxpool1d": ta.nn.functional.max_pool1d,
        "log_softmax": ta.nn.functional.log_softmax,
        "layer_norm": lambda a, eps: ta.nn.functional.layer_norm(a, a.shape, eps=eps),
        "bce_logits": lambda a, b: ta.nn.functional.binary_cross_entropy_with_logits(
            a, b, reduction="none"
        ),
    }
)


def array(data, dtype):
    if isinstance(data, str):
        makers = {"zeros": lambda *n: np.zeros(n), "ones": lambda *n: np.ones(n), "full": np.full}
        return eval(data, makers).astype(dtype)
    return np.array(data, dtype=dtype)


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_value_and_gradients(case):
    dtype = case["dtype"]
    names = "abcdef"[: len(case["inputs"])]
    inputs = [ta.Tensor(array(x, dtype), requires_grad=True) for x in case["inputs"]]
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        out = eval(case["expr"], {"F": F}, dict(zip(names, inputs, strict=True)))
        v = np.ones(out.shape) if case["v"] is None else np.array(case["v"])
        out.backward(v.astype(dtype), create_graph=case["order"] == 2)
        if case["order"] == 2:
            first = [x.grad for x in inputs]
            for x in inputs:
                x.grad = None
            sum(g.sum() for g in first).backward()
    rtol = 1e-10 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(out.numpy(), array(case["value"], dtype), rtol=rtol, atol=1e-300)
    assert out.dtype == dtype
    for x, expected in zip(inputs, case["grads"], strict=True):
        if expected is not None:
            wanted = array(expected, dtype)
            np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=rtol, atol=1e-300)
            assert x.grad.dtype == dtype and x.grad.shape == x.shape
