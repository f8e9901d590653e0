"""The formulas of the documents: each stands where it is computed, and gives the numbers that a
calculation by hand gives."""

import inspect
import math

import numpy as np
import pytest

import tinygrad_ai as ta
from tinygrad_ai import nn, optim, random
from tinygrad_ai.tensor import Tensor

F = nn.functional
exactly = {"rtol": 1e-14, "atol": 1e-14}


def leaf(values):
    return Tensor(np.array(values, np.float64), requires_grad=True)


def stepped(optimizer, w, gradients):
    """The weights after each step with one of the ``gradients``."""
    found = []
    for g in gradients:
        w.grad = Tensor(np.array(g, np.float64))
        optimizer.step()
        found.append(w.tolist())
    return found


@pytest.mark.parametrize(
    ("place", "formula"),
    [
        (F.binary_cross_entropy, "-1/N·Σ[y·log ŷ + (1-y)·log(1-ŷ)]"),
        (F.cross_entropy, "-1/N·Σ[y·log ŷ + (1-y)·log(1-ŷ)]"),
        (F.cross_entropy, "-1/N·Σ log softmax(x)[y]"),
        (F.mse_loss, "1/n·Σ(y - ŷ)²"),
        (F.l1_loss, "1/n·Σ|y - ŷ|"),
        (F.softmax, "eˣ/Σeˣ"),
        (F.dropout, "divided by 1 - p"),
        (F.batch_norm, "(x - mean)/√(var + eps)·weight + bias"),
        (nn.Sigmoid, "1/(1 + e⁻ˣ)"),
        (optim.SGD, "w ← w - α·∇L(w)"),
        (optim.SGD, "v ← µ·v + (1-τ)·∇L(w)"),
        (optim.Adam, "w ← w - η·m̂/(√v̂ + ε)"),
        (optim.Adam, "m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², m̂ = m/(1-β₁ᵗ), v̂ = v/(1-β₂ᵗ)"),
        (optim.RMSprop, "s ← αs + (1-α)g², w ← w - η·g/(√s + ε)"),
        (optim.l1_penalty, "λ·Σ|w|"),
        (optim.l2_penalty, "λ·Σw²"),
    ],
)
def test_the_formula_stands_where_it_is_computed(place, formula):
    assert formula in " ".join(inspect.getdoc(place).split())


# -------------------------------------------------------------------------------------- losses


def test_cross_entropy_of_two_classes():
    """y = (1, 0), ŷ = (0.9, 0.2): -1/2·[log 0.9 + log 0.8] = (0.105361 + 0.223144)/2 = 0.164252.

    The gradient is 1/N·(ŷ - y)/(ŷ·(1-ŷ)), in the logits 1/N·(ŷ - y) = ½·(-0.1, 0.2).
    """
    y, p = np.array([1.0, 0.0]), leaf([0.9, 0.2])
    loss = F.binary_cross_entropy(p, y)
    loss.backward()
    assert loss.item() == pytest.approx(0.16425203348601802, rel=1e-14)
    np.testing.assert_allclose(p.grad.numpy(), [-0.5 / 0.9, 0.5 / 0.8], **exactly)
    logits = leaf([math.log(9), -math.log(4)])  # σ of them is 9/10 and 1/5
    two = ta.stack([Tensor(np.zeros(2)), logits], axis=1)  # classes 0 and 1
    for again in (F.binary_cross_entropy_with_logits(logits, y), F.cross_entropy(two, [1, 0])):
        logits.grad = None
        again.backward()
        assert again.item() == pytest.approx(0.16425203348601802, rel=1e-14)
        np.testing.assert_allclose(logits.grad.numpy(), [-0.05, 0.1], **exactly)


def test_cross_entropy_of_three_classes():
    """softmax(log 1, log 2, log 5) = (1, 2, 5)/8; class 2 costs log 8/5, class 0 log 8.

    The gradient is 1/N·(softmax(x) - onehot).
    """
    x = leaf(np.log([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]]))
    loss = F.cross_entropy(x, [2, 0])
    loss.backward()
    assert loss.item() == pytest.approx((math.log(8 / 5) + math.log(8)) / 2, rel=1e-14)
    expected = np.array([[1, 2, -3], [-7, 2, 5]]) / 16
    np.testing.assert_allclose(x.grad.numpy(), expected, **exactly)


def test_mean_squared_and_absolute_error():
    """ŷ - y = (0.5, 0, -2): 1/3·(0.25 + 0 + 4) = 17/12 with gradient 2/3·(ŷ - y), 1/3·2.5 = 5/6."""
    y, p = np.array([1.0, 2.0, 3.0]), leaf([1.5, 2.0, 1.0])
    loss = F.mse_loss(p, y)
    loss.backward()
    assert loss.item() == pytest.approx(17 / 12, rel=1e-15)
    np.testing.assert_allclose(p.grad.numpy(), [1 / 3, 0, -4 / 3], **exactly)
    p.grad = None
    loss = F.l1_loss(p, y)
    loss.backward()
    assert loss.item() == pytest.approx(5 / 6, rel=1e-15)
    np.testing.assert_allclose(p.grad.numpy(), [1 / 3, 0, -1 / 3], **exactly)


# ---------------------------------------------------------------------------------- optimisers


def test_gradient_descent():
    """L = (w - 3)², ∇L = 2(w - 3), w = 1, α = 0.1: 1 + 0.4 = 1.4, 1.4 + 0.32 = 1.72, 1.976."""
    w = leaf(1.0)
    optimizer = optim.SGD([w], lr=0.1)
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        ((w - 3) ** 2).backward()
        optimizer.step()
        found.append(w.item())
    np.testing.assert_allclose(found, [1.4, 1.72, 1.976], **exactly)


def test_stochastic_gradient_descent():
    """L = (w·x - y)² at w = 1 for (x, y) = (1, 2), (2, 4), (3, 7): ∇L = -2, -8, -24.

    With α = 0.01 a step on one sample leads to 1.02, 1.08 or 1.24. On average that is the step on
    the mean of all, 1 + 0.01·34/3; a whole pass goes through all, in random order.
    """
    x, y = np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 7.0])

    def step(w, sample):
        optimizer = optim.SGD([w], lr=0.01)
        F.mse_loss(w * x[sample], y[sample]).backward()
        optimizer.step()
        return w.item()

    random.manual_seed(0)
    orders = [tuple(random.permutation(3).tolist()) for _ in range(8)]
    assert len(set(orders)) > 1
    ends = {0: 1.02, 1: 1.08, 2: 1.24}
    for order in orders:
        reached = [step(leaf([1.0]), [k]) for k in order]
        np.testing.assert_allclose(reached, [ends[k] for k in order], **exactly)
    assert np.mean(reached) == pytest.approx(step(leaf([1.0]), [0, 1, 2]), rel=1e-14)
    assert np.mean(reached) == pytest.approx(1 + 0.34 / 3, rel=1e-14)


def test_momentum():
    """v: 1, 0.9·1 + 1 = 1.9, 0.9·1.9 - 2 = -0.29; dampened by 0.5: 1, 1.4, 0.26."""
    w = leaf(0.0)
    found = stepped(optim.SGD([w], lr=1.0, momentum=0.9), w, [1.0, 1.0, -2.0])
    np.testing.assert_allclose(found, [-1, -2.9, -2.61], **exactly)
    w = leaf(0.0)
    found = stepped(optim.SGD([w], lr=1.0, momentum=0.9, dampening=0.5), w, [1.0, 1.0, -2.0])
    np.testing.assert_allclose(found, [-1, -2.4, -2.66], **exactly)


def test_adam_over_three_steps():
    """β₁ = 1/2, β₂ = 3/4, ε = 1, η = 1, gradients 2, -2, 4, from w = 1.

    t = 1: m = 1, v = 1, m̂ = 1/(1/2) = 2, v̂ = 1/(1/4) = 4: w = 1 - 2/(2 + 1) = 1/3.
    t = 2: m = 1/2 - 1 = -1/2, v = 3/4 + 1 = 7/4, m̂ = -1/2/(3/4) = -2/3, v̂ = 7/4/(7/16) = 4:
    w = 1/3 + 2/9 = 5/9.
    t = 3: m = -1/4 + 2 = 7/4, v = 21/16 + 4 = 85/16, m̂ = 7/4/(7/8) = 2,
    v̂ = 85/16/(37/64) = 340/37: w = 5/9 - 2/(√(340/37) + 1).
    """
    w = leaf(1.0)
    optimizer = optim.Adam([w], lr=1.0, betas=(0.5, 0.75), eps=1.0)
    found = stepped(optimizer, w, [2.0, -2.0, 4.0])
    np.testing.assert_allclose(
        found, [1 / 3, 5 / 9, 5 / 9 - 2 / (math.sqrt(340 / 37) + 1)], **exactly
    )
    slots = optimizer.state_dict()["state"][0]
    assert (slots["step"], slots["exp_avg"], slots["exp_avg_sq"]) == (3, 7 / 4, 85 / 16)


def test_the_largest_v_of_amsgrad():
    """β₁ = 0, β₂ = 1/2, ε = 1, gradients 4, 1: v = 8, then 4.5; 8 stays, v̂ = 8/(3/4) = 32/3."""
    w = leaf(0.0)
    optimizer = optim.Adam([w], lr=1.0, betas=(0.0, 0.5), eps=1.0, amsgrad=True)
    found = stepped(optimizer, w, [4.0, 1.0])
    np.testing.assert_allclose(found, [-0.8, -0.8 - 1 / (math.sqrt(32 / 3) + 1)], **exactly)


def test_rmsprop():
    """α = 3/4, η = 1/2, ε = 1, gradients 2, -6, from w = 1.

    s = 1/4·4 = 1: w = 1 - 1/2·2/(1 + 1) = 1/2; s = 3/4 + 9 = 39/4: w = 1/2 + 1/2·6/(√(39/4) + 1).
    """
    w = leaf(1.0)
    found = stepped(optim.RMSprop([w], lr=0.5, alpha=0.75, eps=1.0), w, [2.0, -6.0])
    np.testing.assert_allclose(found, [0.5, 0.5 + 3 / (math.sqrt(9.75) + 1)], **exactly)


def test_penalties():
    """W = (1, -2; 0, 3), λ = 0.1: 0.1·6 = 0.6 with 0.1·sign(w), 0.1·14 = 1.4 with 0.2·w."""
    w = leaf([[1.0, -2.0], [0.0, 3.0]])
    one = optim.l1_penalty([w], 0.1)
    one.backward()
    assert one.item() == pytest.approx(0.6, rel=1e-15)
    np.testing.assert_allclose(w.grad.numpy(), [[0.1, -0.1], [0, 0.1]], **exactly)
    w.grad = None
    two = optim.l2_penalty([w], 0.1)
    two.backward()
    assert two.item() == pytest.approx(1.4, rel=1e-15)
    np.testing.assert_allclose(w.grad.numpy(), [[0.2, -0.4], [0, 0.6]], **exactly)


# ------------------------------------------------------------------------------ layers, models


def test_softmax_and_sigmoid():
    """softmax(0, log 2, log 3) = (1, 2, 3)/6, and its gradient p·(g - Σp·g); σ(log 3) = 3/4.

    For g = (6, 0, 0) that is (1, 2, 3)/6·((6, 0, 0) - 1) = (5/6, -1/3, -1/2).
    """
    x = leaf(np.log([1.0, 2.0, 3.0]))
    y = F.softmax(x)
    y.backward(np.array([6.0, 0.0, 0.0]))
    np.testing.assert_allclose(y.numpy(), [1 / 6, 1 / 3, 1 / 2], **exactly)
    np.testing.assert_allclose(x.grad.numpy(), [5 / 6, -1 / 3, -1 / 2], **exactly)
    x = leaf([math.log(3), 0.0])
    y = F.sigmoid(x)
    y.backward(np.array([16.0, -4.0]))  # times ¾·¼ and ½·½
    np.testing.assert_allclose(y.numpy(), [0.75, 0.5], **exactly)
    np.testing.assert_allclose(x.grad.numpy(), [3.0, -1.0], **exactly)


def test_dropout_scaling():
    """p = 0.2: what is kept becomes 1/(1 - 0.2) = 1.25 of itself, so the mean stays."""
    random.manual_seed(0)
    layer, x = nn.Dropout(0.2), leaf(np.full(10_000, 2.0))
    y = layer(x)
    assert set(y.tolist()) == {0.0, 2.5}
    assert (y.numpy() == 0).mean() == pytest.approx(0.2, abs=0.02)
    assert y.numpy().mean() == pytest.approx(2.0, rel=0.03)
    y.backward(np.full(10_000, -4.0))
    np.testing.assert_array_equal(x.grad.numpy(), np.where(y.numpy() == 0, 0.0, -5.0))
    assert layer.eval()(x) is x


def test_batch_normalisation():
    """x = (1, 5, 1, 5): mean 3, variance 4, ε = 0: (x - 3)/2 = ∓1; with γ = 2, β = 10: 8 and 12.

    Running statistics with momentum 0.1: 0.9·0 + 0.1·3 = 0.3 and 0.9·1 + 0.1·4·4/3 = 43/30.
    """
    norm = nn.BatchNorm1d(1, eps=0.0, dtype=np.float64)
    nn.init.constant_(norm.weight, 2.0)
    nn.init.constant_(norm.bias, 10.0)
    x = np.array([[1.0], [5.0], [1.0], [5.0]])
    np.testing.assert_allclose(norm(Tensor(x)).numpy(), [[8], [12], [8], [12]], **exactly)
    assert norm.running_mean.item() == pytest.approx(0.3, rel=1e-15)
    assert norm.running_var.item() == pytest.approx(43 / 30, rel=1e-15)
    y = norm.eval()(Tensor(np.array([[0.3]])))
    np.testing.assert_allclose(y.numpy(), [[10]], **exactly)


def test_the_objective_of_an_autoencoder():
    """min ‖x - g_φ(f_θ(x))‖ over θ and φ, encoder and decoder being models of their own.

    x = (2, 1), θ = (1, 0), φ = (1, 1): the code is 2, its reconstruction (2, 2), the residual
    x̂ - x = (0, 1) of norm 1. The gradients are code·(0, 1) = (0, 2) in φ and φ·(0, 1)·x = (2, 1) in
    θ; one step with α = 0.1 gives φ = (1, 0.8) and θ = (0.8, -0.1).
    """
    encoder = nn.Linear(2, 1, bias=False, dtype=np.float64)
    decoder = nn.Linear(1, 2, bias=False, dtype=np.float64)
    encoder.load_state_dict({"weight": np.array([[1.0, 0.0]])})
    decoder.load_state_dict({"weight": np.array([[1.0], [1.0]])})
    optimizer = optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.1)
    x = Tensor(np.array([[2.0, 1.0]]))
    loss = ta.norm(x - decoder(encoder(x)))
    loss.backward()
    optimizer.step()
    assert loss.item() == 1.0
    np.testing.assert_allclose(decoder.weight.numpy(), [[1.0], [0.8]], **exactly)
    np.testing.assert_allclose(encoder.weight.numpy(), [[0.8, -0.1]], **exactly)
    optimizer.zero_grad()
    assert ta.norm(x - decoder(encoder(x))).item() < 1.0
