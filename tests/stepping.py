"""Steps of a small network, and all that they leave behind."""

import numpy as np

import tinygrad_ai as ta
import tinygrad_ai.nn.functional as F
from tinygrad_ai import nn

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((6, 8, 5)).astype("f"), RNG.integers(0, 3, (6, 8))


def mlp(seed=0):
    ta.random.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(5, 7, bias=False), nn.BatchNorm1d(7), nn.ReLU(), nn.Dropout(0.3), nn.Linear(7, 3)
    )


def training_step(model, optimizer, loss=F.cross_entropy):
    def step(x, y):
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value

    return step


def state_of(model, *optimizers):
    """Everything that a step may leave behind, as arrays by name."""
    found = {k: v.numpy().copy() for k, v in model.state_dict().items()}
    for name, p in model.named_parameters():
        found[f"{name}.grad"] = None if p.grad is None else p.grad.numpy().copy()
    for k, optimizer in enumerate(optimizers):
        for number, slots in optimizer.state_dict()["state"].items():
            found |= {f"{k}.{number}.{n}": np.array(v) for n, v in slots.items()}
    return found | {f"random {k}": v for k, v in ta.random.generator().state_dict().items()}


def same_state(found, expected, rtol=2e-5):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None or found[name] is None:
            assert found[name] is value, name
        else:
            np.testing.assert_allclose(found[name], value, rtol, 1e-6, err_msg=name)


def leaf(*values, dtype="float64"):
    return ta.Tensor(np.array(values, dtype), requires_grad=True)
