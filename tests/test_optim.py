"""Optimisers against numbers worked out by hand, and against torch over twenty steps."""

import copy
import math
import warnings
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import nn, optim
from tinygrad_ai.config import without_kernels
from tinygrad_ai.errors import DataError, DTypeError, GraphError, ShapeError, ValueRangeError
from tinygrad_ai.jit import jit
from tinygrad_ai.optim import lr_scheduler
from tinygrad_ai.tensor import Tensor


def leaf(values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def give(parameter, gradient):
    parameter.grad = Tensor(np.array(gradient, parameter.dtype))


def stepped(optimizer, parameter, gradients):
    for g in gradients:
        give(parameter, g)
        optimizer.step()
    return parameter.numpy().copy()


# --------------------------------------------------------------------------------- by hand


def test_sgd_by_hand():
    w = leaf([1.0, -2.0])
    assert stepped(optim.SGD([w], lr=0.1), w, [[0.5, -1.0]]).tolist() == [0.95, -1.9]


def test_momentum_by_hand():
    w = leaf([0.0])
    # v: 1, 1.9, 2.71
    found = stepped(optim.SGD([w], lr=0.1, momentum=0.9), w, [[1.0]] * 3)
    np.testing.assert_allclose(found, [-0.1 * (1 + 1.9 + 2.71)], rtol=1e-14)


def test_nesterov_by_hand():
    w = leaf([0.0])
    found = stepped(optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True), w, [[1.0]] * 2)
    np.testing.assert_allclose(found, [-0.1 * (1 + 0.9) - 0.1 * (1 + 0.9 * 1.9)], rtol=1e-14)


def test_adam_by_hand():
    w = leaf([1.0, 1.0, 1.0])
    lr, b1, b2, eps = 0.1, 0.9, 0.99, 1e-3
    g1, g2 = np.array([2.0, -3.0, 1e-4]), np.array([-1.0, 0.5, 0.0])
    found = stepped(optim.Adam([w], lr=lr, betas=(b1, b2), eps=eps), w, [g1, g2])
    m1, v1 = (1 - b1) * g1, (1 - b2) * g1**2
    expected = 1 - lr * (m1 / (1 - b1)) / (np.sqrt(v1 / (1 - b2)) + eps)
    m2, v2 = b1 * m1 + (1 - b1) * g2, b2 * v1 + (1 - b2) * g2**2
    expected -= lr * (m2 / (1 - b1**2)) / (np.sqrt(v2 / (1 - b2**2)) + eps)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_adam_has_eps_outside_the_root():
    w = leaf([0.0])
    found = stepped(optim.Adam([w], lr=1.0, eps=1.0), w, [[1e-4]])
    np.testing.assert_allclose(found, [-1e-4 / (1e-4 + 1)], rtol=1e-10)


def test_adamw_decays_without_a_gradient_signal():
    w = leaf([2.0])
    found = stepped(optim.AdamW([w], lr=0.1, weight_decay=0.5), w, [[0.0]])
    np.testing.assert_allclose(found, [2.0 * (1 - 0.1 * 0.5)], rtol=1e-14)


def test_rmsprop_by_hand():
    w = leaf([0.0])
    found = stepped(optim.RMSprop([w], lr=0.1, alpha=0.9, eps=0.5), w, [[3.0]])
    np.testing.assert_allclose(found, [-0.1 * 3 / (math.sqrt(0.1 * 9) + 0.5)], rtol=1e-13)


def test_adagrad_by_hand():
    w = leaf([0.0])
    found = stepped(optim.Adagrad([w], lr=0.1, lr_decay=0.5, eps=0.0), w, [[3.0], [4.0]])
    np.testing.assert_allclose(found, [-0.1 - 0.1 / 1.5 * 4 / 5], rtol=1e-13)


def test_penalties_and_their_gradients():
    w, b = leaf([[1.0, -2.0], [0.0, 3.0]]), leaf([-0.5])
    one = optim.l1_penalty([w, b], 0.1)
    one.backward()
    assert one.item() == pytest.approx(0.65)
    np.testing.assert_allclose(w.grad.numpy(), [[0.1, -0.1], [0.0, 0.1]])
    w.grad = b.grad = None
    two = optim.l2_penalty([w, b], 0.1)
    two.backward()
    assert two.item() == pytest.approx(0.1 * (1 + 4 + 9 + 0.25))
    np.testing.assert_allclose(b.grad.numpy(), [-0.1])


# --------------------------------------------------------------------- what is done, and where


def test_step_changes_in_place_and_says_so():
    w = leaf([1.0, 2.0])
    array = w.array
    y = (w * w).sum()
    stepped(optim.SGD([w], lr=0.1), w, [[1.0, 1.0]])
    assert w.array is array
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_gradients_are_left_alone_and_missing_ones_skipped(kind):
    w, idle, empty = leaf([[1.0, -2.0, 3.0]]), leaf([5.0]), leaf(np.zeros((0, 3)))
    optimizer = kind([w, idle, empty], weight_decay=0.1)
    give(w, [[0.1, 0.2, -0.3]])
    give(empty, np.zeros((0, 3)))
    optimizer.step()
    assert idle.tolist() == [5.0]
    np.testing.assert_array_equal(w.grad.numpy(), [[0.1, 0.2, -0.3]])
    optimizer.zero_grad()
    assert w.grad is None


def test_scratch_is_shared_by_shapes_without_mixing():
    shapes = [(3, 2), (6,), (2, 3), (1,), ()]
    together = [leaf(np.full(s, 1.0)) for s in shapes]
    alone = [leaf(np.full(s, 1.0)) for s in shapes]
    rng = np.random.default_rng(0)
    optimizer = optim.Adam(together, weight_decay=0.1)
    singles = [optim.Adam([p], weight_decay=0.1) for p in alone]
    for _ in range(3):
        for p, q in zip(together, alone, strict=True):
            g = rng.standard_normal(p.shape)
            give(p, g)
            give(q, g)
        optimizer.step()
        for single in singles:
            single.step()
    for p, q in zip(together, alone, strict=True):
        np.testing.assert_array_equal(p.numpy(), q.numpy())


def test_halves_are_updated_in_float32():
    w = leaf([1.0], np.float16)
    optimizer = optim.Adam([w], lr=0.125)
    found = stepped(optimizer, w, [[1e-4]])  # whose square is 0 in float16
    assert w.dtype == np.float16 and found[0] == 0.875
    assert optimizer.state[w]["exp_avg_sq"].dtype == np.float32


def test_groups_and_learning_rates():
    a, b = leaf([0.0]), leaf([0.0])
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0}], lr=0.1)
    give(a, [1.0])
    give(b, [1.0])
    optimizer.step()
    assert (a.tolist(), b.tolist()) == ([-0.1], [-1.0])
    assert optimizer.lr == 0.1
    optimizer.lr = 0.5
    assert [g["lr"] for g in optimizer.param_groups] == [0.5, 0.5]
    with pytest.raises(ValueRangeError, match="lr"):
        optimizer.lr = -1.0


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad])
def test_what_is_frozen_stays_with_its_moments(kind):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    more = {"momentum": 0.9} if kind in (optim.SGD, optim.RMSprop) else {}
    optimizer = kind(model.named_parameters(), lr=0.1, weight_decay=0.1, **more)
    x = Tensor(np.ones((4, 2), np.float32))

    def step():
        before = [p.numpy().copy() for p in model.parameters()]
        model(x).sum().backward()
        optimizer.step()
        return [(p.numpy() != b).any() for p, b in zip(model.parameters(), before, strict=True)]

    assert all(step())
    model[0].requires_grad_(False)  # its gradients are still there
    kept = copy.deepcopy(optimizer.state_dict()["state"])
    assert step() == [False, False, True, True]
    optimizer.zero_grad()
    assert step() == [False, False, True, True]
    state = optimizer.state_dict()["state"]
    for k in (0, 1):
        assert state[k].keys() == kept[k].keys() and state[k]["step"] == 1
        for name, slot in kept[k].items():
            np.testing.assert_array_equal(state[k][name], slot)
    model.requires_grad_(True)
    optimizer.zero_grad()
    assert all(step()) and optimizer.state_dict()["state"][0]["step"] == 2


def test_fine_tuning_by_part():
    model = nn.Sequential({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    named = dict(model.named_parameters())
    groups = [
        {"params": [p for n, p in named.items() if n.startswith("head")]},
        {"params": [named["body.weight"]], "lr": 0.01},
        {"params": [named["body.bias"]], "lr": 0.0},
    ]
    optimizer = optim.SGD(groups, lr=1.0)
    before = {n: p.numpy().copy() for n, p in named.items()}
    model(Tensor(np.ones((3, 2), np.float32))).sum().backward()
    optimizer.step()
    for name, rate in (
        ("head.weight", 1),
        ("head.bias", 1),
        ("body.weight", 0.01),
        ("body.bias", 0),
    ):
        expected = before[name] - rate * named[name].grad.numpy()
        np.testing.assert_allclose(named[name].numpy(), expected, rtol=1e-6, atol=1e-7)


def test_state_goes_on_exactly():
    rng = np.random.default_rng(3)
    gradients = rng.standard_normal((6, 4))

    def fresh(start):
        w = leaf(start)
        return w, optim.Adam([w], lr=0.05, weight_decay=0.1)

    w, optimizer = fresh(np.ones(4))
    whole = stepped(optimizer, w, gradients)
    w, optimizer = fresh(np.ones(4))
    middle = stepped(optimizer, w, gradients[:3])
    state = optimizer.state_dict()
    stepped(optimizer, w, gradients[3:])  # must not reach into the saved state
    w, optimizer = fresh(middle)
    optimizer.lr = 7.0
    optimizer.load_state_dict(state)
    np.testing.assert_array_equal(stepped(optimizer, w, gradients[3:]), whole)


def test_a_state_that_does_not_fit_changes_nothing():
    a, b = leaf([1.0, 2.0]), leaf([1.0, 2.0, 3.0])
    first, second = optim.Adam([a]), optim.Adam([b])
    stepped(first, a, [[1.0, 1.0]])
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
        second.load_state_dict(first.state_dict())
    assert not second.state
    with pytest.raises(ShapeError, match="groups"):
        optim.Adam([leaf([1.0]), leaf([2.0])]).load_state_dict(first.state_dict())


def test_training_lowers_a_loss():
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 1))
    x = Tensor(np.random.default_rng(0).standard_normal((64, 2)).astype(np.float32))
    y = x[:, :1] * x[:, 1:]
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


# ------------------------------------------------------------------------- warnings and errors


def _accumulating(steps, clear):
    w = leaf([1.0])
    optimizer = optim.SGD([w], lr=0.0)
    for _ in range(steps):
        (w * w).sum().backward()
        (w * 3).sum().backward()
        optimizer.step()
        clear(w, optimizer)


def test_gradients_that_are_never_cleared_are_warned_of():
    with pytest.warns(UserWarning, match="never cleared") as caught:
        _accumulating(5, lambda w, optimizer: None)
    assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize(
    "clear",
    [
        lambda w, optimizer: optimizer.zero_grad(),
        lambda w, optimizer: setattr(w, "grad", None),
        lambda w, optimizer: setattr(w, "grad", Tensor(np.zeros(1))),
    ],
)
def test_deliberate_accumulation_is_not_warned_of(clear):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _accumulating(4, clear)


def test_steps_on_one_gradient_are_not_warned_of():
    w = leaf([1.0])
    give(w, [1.0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = optim.SGD([w])
        optimizer.step()
        optimizer.step()


def test_errors_name_what_is_wrong():
    w = leaf([1.0])
    with pytest.raises(ValueRangeError, match="empty"):
        optim.Adam([])
    with pytest.raises(ValueRangeError, match=r"lr.*-0\.1"):
        optim.SGD([w], lr=-0.1)
    with pytest.raises(ValueRangeError, match="lr"):
        optim.SGD([w], lr=math.nan)
    with pytest.raises(ValueRangeError, match="betas"):
        optim.Adam([w], betas=(0.9, 1.0))
    for more in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueRangeError, match="nesterov"):
            optim.SGD([w], nesterov=True, **more)
    with pytest.raises(ValueRangeError, match="twice"):
        optim.SGD([w, w])
    with pytest.raises(ValueRangeError, match="speed"):
        optim.SGD([{"params": [w], "speed": 1}])
    with pytest.raises(ValueRangeError, match="needs params, got lr"):
        optim.SGD([{"lr": 1.0}])
    with pytest.raises(DTypeError, match="lr must be a number"):
        optim.SGD(w, lr="0.1")
    with pytest.raises(DTypeError, match="not a Linear"):
        optim.SGD(nn.Linear(2, 2))
    with pytest.raises(DTypeError, match="ndarray"):
        optim.SGD([np.ones(3)])
    with pytest.raises(GraphError, match="result of an operation"):
        optim.SGD([w * 2])
    with pytest.raises(GraphError, match="does not require gradients"):
        optim.SGD([Tensor([1.0])])
    frozen = nn.Linear(2, 2).requires_grad_(False)
    optim.SGD(frozen.parameters()).step()


def test_clipping():
    a, b = leaf([0.0, 0.0]), leaf([0.0])
    give(a, [3.0, 0.0])
    give(b, [-4.0])
    assert optim.clip_grad_norm_([a, b], 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(a.grad.numpy(), [0.6, 0], rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), [-0.8], rtol=1e-6)
    assert optim.clip_grad_norm_([a, b], 10.0) == pytest.approx(1.0)
    np.testing.assert_allclose(b.grad.numpy(), [-0.8], rtol=1e-6)
    assert optim.clip_grad_norm_([a, b], 10.0, norm_type=math.inf) == pytest.approx(0.8)
    assert optim.clip_grad_norm_([leaf([1.0])], 1.0) == 0.0
    optim.clip_grad_value_([a, b], 0.7)
    np.testing.assert_allclose(b.grad.numpy(), [-0.7])
    give(a, [math.inf, 0.0])
    with pytest.raises(ValueRangeError, match="inf"):
        optim.clip_grad_norm_(a, 1.0, error_if_nonfinite=True)
    np.testing.assert_array_equal(a.grad.numpy(), [math.inf, 0])


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.0, math.inf])
def test_clipping_in_a_compiled_step(norm_type):
    def step(a, b, limit):
        a.grad, b.grad = 3 * a, -b
        norm = optim.clip_grad_norm_([a, b, unused], limit, norm_type)
        optim.clip_grad_value_([a, b], 0.7)
        return norm, a.grad, b.grad

    unused = leaf([1.0])
    values = np.array([[1.0, -0.5], [2.0, 0.25]])
    for limit in (0.9, 100.0):
        found = jit(partial(step, limit=limit))(*map(Tensor, values))
        for x, expected in zip(found, step(*map(Tensor, values), limit), strict=True):
            np.testing.assert_allclose(x.numpy(), np.asarray(expected), rtol=1e-12)
    assert jit(lambda: optim.clip_grad_norm_(unused, 1.0))() == 0.0
    with pytest.raises(GraphError, match="not known while a step is captured"):
        jit(give_and_check)(Tensor(values[0]))


def give_and_check(a):
    a.grad = 2 * a
    return optim.clip_grad_norm_(a, 1.0, error_if_nonfinite=True)


# ------------------------------------------------------------------------------------ schedules


def rates(make, steps=8, lr=0.5):
    optimizer = optim.SGD([leaf([1.0])], lr=lr)
    scheduler = make(optimizer)
    found = [optimizer.lr]
    for _ in range(steps):
        scheduler.step()
        found.append(optimizer.lr)
    return found


def test_schedules_by_hand():
    assert rates(lambda o: lr_scheduler.StepLR(o, 3, 0.5), 6) == [0.5] * 3 + [0.25] * 3 + [0.125]
    assert rates(lambda o: lr_scheduler.ExponentialLR(o, 0.5), 2) == [0.5, 0.25, 0.125]
    cosine = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, 4, 0.1), 4)
    np.testing.assert_allclose(cosine, [0.5, 0.1 + 0.2 * (1 + math.sqrt(0.5)), 0.3,
                                        0.1 + 0.2 * (1 - math.sqrt(0.5)), 0.1])  # fmt: skip
    assert rates(lambda o: lr_scheduler.LinearWarmup(o, 4), 5, 1.0) == [0.25, 0.5, 0.75, 1, 1, 1]


def test_plateau_waits_rests_and_stops():
    optimizer = optim.SGD([leaf([1.0])], lr=1.0)
    plateau = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=1, cooldown=1, min_lr=0.05
    )
    found = []
    for metric in [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]:
        plateau.step(metric)
        found.append(optimizer.lr)
    np.testing.assert_allclose(found, [1, 1, 1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.05])


def test_schedules_go_on_where_they_were():
    for make in (
        lambda o: lr_scheduler.StepLR(o, 2),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    ):
        whole = rates(make, 6)
        first = make(optim.SGD([leaf([1.0])], lr=0.5))
        for _ in range(4):
            first.step()
        second = make(optim.SGD([leaf([1.0])], lr=9.0))
        second.load_state_dict(first.state_dict())
        assert second.get_last_lr() == [whole[4]]
        second.step()
        assert second.get_last_lr() == [whole[5]]


def test_schedules_refuse_nonsense():
    optimizer = optim.SGD([leaf([1.0])])
    for make in (
        lambda: lr_scheduler.StepLR(optimizer, 0),
        lambda: lr_scheduler.CosineAnnealingLR(optimizer, 0),
        lambda: lr_scheduler.LinearWarmup(optimizer, 0),
        lambda: lr_scheduler.ReduceLROnPlateau(optimizer, mode="low"),
        lambda: lr_scheduler.ReduceLROnPlateau(optimizer, factor=1.5),
    ):
        with pytest.raises(ValueRangeError):
            make()


# ----------------------------------------------------------------------------------- torch

unit = st.floats(0.0, 0.99)
rate = st.floats(1e-4, 0.5)
decay = st.sampled_from([0.0, 0.01, 0.3])
adam = st.fixed_dictionaries(
    {
        "lr": rate,
        "betas": st.tuples(unit, unit),
        "eps": rate,
        "weight_decay": decay,
        "amsgrad": st.booleans(),
    }
)
SETTINGS = {
    "SGD": st.fixed_dictionaries(
        {
            "lr": rate,
            "momentum": st.sampled_from([0.0, 0.5, 0.95]),
            "dampening": st.sampled_from([0.0, 0.3, 0.8]),
            "weight_decay": decay,
            "nesterov": st.booleans(),
        }
    ).map(lambda s: {**s, "nesterov": s["nesterov"] and s["momentum"] > s["dampening"] == 0}),
    "Adam": adam,
    "AdamW": adam,
    "RMSprop": st.fixed_dictionaries(
        {
            "lr": rate,
            "alpha": st.floats(0.5, 0.99),
            "eps": rate,
            "momentum": st.sampled_from([0.0, 0.9]),
            "centered": st.booleans(),
            "weight_decay": decay,
        }
    ),
    "Adagrad": st.fixed_dictionaries(
        {"lr": rate, "lr_decay": unit, "initial_accumulator_value": unit, "weight_decay": decay}
    ),
}


@pytest.mark.peers
@pytest.mark.parametrize("name", SETTINGS)
@given(data=st.data())
def test_twenty_steps_as_torch_does_them(name, data):
    """In two groups, with gradients missing here and there, and PyTorch's state loaded halfway."""
    import torch  # noqa: PLC0415  (the extra `ci`)

    settings = data.draw(SETTINGS[name])
    own = data.draw(st.fixed_dictionaries({"lr": rate, "weight_decay": decay}))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    starts = [rng.standard_normal(s) for s in ((3, 5), (4,), ())]
    mine = [leaf(start) for start in starts]
    theirs = [torch.nn.Parameter(torch.tensor(start)) for start in starts]

    def grouped(library, params):
        groups = [{"params": params[:2]}, {"params": params[2:], **own}]
        return getattr(library, name)(groups, **settings)

    optimizer, peer = grouped(optim, mine), grouped(torch.optim, theirs)
    for step in range(20):
        if step == 10 and name != "SGD":  # whose steps torch does not count
            state = peer.state_dict()
            state["state"] = {
                k: {key: v.numpy() for key, v in slots.items() if v is not None}
                for k, slots in state["state"].items()
            }
            optimizer = grouped(optim, mine)
            optimizer.load_state_dict(state)
        for w, v in zip(mine, theirs, strict=True):
            g = rng.standard_normal(w.shape) if rng.random() < 0.8 else None
            w.grad = None if g is None else Tensor(g)
            v.grad = None if g is None else torch.tensor(g)
        optimizer.step()
        peer.step()
        for w, v in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(w.numpy(), v.detach().numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.peers
@given(
    st.sampled_from(["StepLR", "ExponentialLR", "CosineAnnealingLR", "LinearWarmup"]),
    st.integers(1, 7),
    st.floats(0.1, 0.9),
)
def test_schedules_as_torch_has_them(name, size, gamma):
    import torch  # noqa: PLC0415  (the extra `ci`)

    args = {"StepLR": (size, gamma), "ExponentialLR": (gamma,), "LinearWarmup": (size,)}
    args = args.get(name, (size, 0.01))
    optimizer = optim.SGD([{"params": leaf(1.0)}, {"params": leaf(1.0), "lr": 0.2}], lr=0.5)
    p, q = torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)
    peer = torch.optim.SGD([{"params": p}, {"params": q, "lr": 0.2}], lr=0.5)
    mine = getattr(lr_scheduler, name)(optimizer, *args)
    schedules = torch.optim.lr_scheduler
    if name == "LinearWarmup":
        theirs = schedules.LinearLR(peer, 1 / size, 1.0, size - 1)
    else:
        theirs = getattr(schedules, name)(peer, *args)
    for _ in range(15):
        found = [g["lr"] for g in optimizer.param_groups]
        assert found == mine.get_last_lr()
        np.testing.assert_allclose(found, theirs.get_last_lr(), rtol=1e-9, atol=1e-12)
        peer.step()
        theirs.step()
        mine.step()


@pytest.mark.peers
@given(
    st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 1.00005, 3.0]), min_size=5, max_size=40),
    st.fixed_dictionaries(
        {
            "mode": st.sampled_from(["min", "max"]),
            "threshold_mode": st.sampled_from(["rel", "abs"]),
            "patience": st.integers(0, 3),
            "cooldown": st.integers(0, 2),
            "min_lr": st.sampled_from([0.0, 0.03]),
        }
    ),
)
def test_plateau_as_torch_has_it(metrics, settings):
    import torch  # noqa: PLC0415  (the extra `ci`)

    optimizer = optim.SGD([leaf([1.0])], lr=0.5)
    peer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    mine = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, **settings)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(peer, factor=0.3, **settings)
    for metric in metrics:
        mine.step(metric)
        theirs.step(metric)
        assert optimizer.lr == pytest.approx(peer.param_groups[0]["lr"], rel=1e-12)


@pytest.mark.peers
@given(st.integers(0, 99), st.sampled_from([1.0, 2.0, 3.0, math.inf]), st.floats(0.01, 10))
def test_clipping_as_torch_does_it(seed, norm_type, limit):
    import torch  # noqa: PLC0415  (the extra `ci`)

    rng = np.random.default_rng(seed)
    gradients = [rng.standard_normal(s) for s in ((3, 2), (4,), ())]
    mine = [leaf(np.zeros(g.shape)) for g in gradients]
    theirs = [torch.zeros(g.shape, dtype=torch.float64, requires_grad=True) for g in gradients]
    for p, q, g in zip(mine, theirs, gradients, strict=True):
        give(p, g)
        q.grad = torch.tensor(g)
    norm = optim.clip_grad_norm_(mine, limit, norm_type)
    peer = torch.nn.utils.clip_grad_norm_(theirs, limit, norm_type)
    assert norm == pytest.approx(peer.item(), rel=1e-10)
    for p, q in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10)


# ------------------------------------------------------------------------- states that do not fit


def broken_states():
    """A change to the state of Adam over (3,) and (2, 2), and what must be said of it."""

    def slot(name, value):
        return lambda s: s["state"][0].update({name: value})

    def setting(name, value):
        return lambda s: s["param_groups"][0].update({name: value})

    return [
        (lambda s: s.pop("state"), DataError, "state and param_groups are not in it"),
        (lambda s: s.update(param_groups=3), DataError, "state and param_groups are not in it"),
        (lambda s: s["param_groups"][0].pop("betas"), DataError, "it has no betas"),
        (setting("lr", "fast"), DataError, "no state of Adam"),
        (setting("lr", float("nan")), DataError, "lr must be at least 0, got nan"),
        (setting("betas", (0.9,)), DataError, r"betas is \(0.9,\)"),
        (lambda s: s["state"].update({7: {}}), DataError, "no parameter 7 among 2"),
        (lambda s: s["state"].update({1: {"step": 1}}), DataError, "has not all of step, exp_avg"),
        (slot("step", -1), DataError, "step of parameter 0 is -1"),
        (slot("exp_avg", "zeros"), DataError, "exp_avg of parameter 0 holds <U5"),
        (slot("exp_avg_sq", np.zeros(3, complex)), DataError, "holds complex128"),
        (slot("exp_avg", np.zeros(4)), ShapeError, r"has shape \(4,\), the parameter \(3,\)"),
    ]


@pytest.mark.parametrize(("change", "error", "message"), broken_states())
def test_a_broken_state_is_refused_whole(change, error, message):
    def trained():
        parameters = [leaf([1.0, 2.0, 3.0]), leaf([[1.0, 2.0], [3.0, 4.0]])]
        optimizer = optim.Adam(parameters, lr=0.5)
        for p in parameters:
            p.grad = Tensor(p.numpy() - 2)
        optimizer.step()
        return optimizer

    optimizer, before, state = trained(), trained().state_dict(), trained().state_dict()
    state["param_groups"][0]["eps"] = 0.25
    change(state)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for key, slots in before["state"].items():
        for name, value in slots.items():
            np.testing.assert_array_equal(after["state"][key][name], value)


def test_the_state_of_another_optimiser_is_refused():
    w = leaf([1.0])
    for mine, other in ((optim.Adam, optim.SGD), (optim.SGD, optim.RMSprop)):
        names = {optim.Adam: "betas", optim.SGD: "nesterov"}
        with pytest.raises(DataError, match=f"no state of {mine.__name__}: .*{names[mine]}"):
            mine([w]).load_state_dict(other([w]).state_dict())


def test_a_loaded_state_is_a_copy_in_the_dtype_of_the_parameter():
    w = leaf([1.0, -1.0])
    optimizer = optim.SGD([w], lr=1.0, momentum=0.5)
    velocity = np.array([2.0, 4.0])
    slots = {"step": np.float32(3), "momentum_buffer": velocity}
    optimizer.load_state_dict(
        {"state": {"0": slots}, "param_groups": optimizer.state_dict()["param_groups"]}
    )
    w.grad = Tensor(np.array([0.0, 0.0], w.dtype))
    optimizer.step()
    np.testing.assert_array_equal(w.numpy(), [0.0, -3.0])
    np.testing.assert_array_equal(velocity, [2.0, 4.0])
    assert optimizer.state[w]["momentum_buffer"].dtype == w.dtype
    assert optimizer.state[w]["step"] == 4


@pytest.mark.parametrize("betas", [(0.9, 0.9, 0.9), (0.9,), 0.9, []])
def test_adam_takes_two_betas(betas):
    with pytest.raises(ValueRangeError, match="two numbers"):
        optim.Adam([Tensor([1.0], requires_grad=True)], betas=betas)


def test_a_second_schedule_starts_from_the_rates_of_the_first():
    optimizer = optim.SGD([Tensor([1.0], requires_grad=True)], lr=1.0)
    lr_scheduler.LinearWarmup(optimizer, 10)
    assert optimizer.lr == pytest.approx(0.1)
    assert lr_scheduler.CosineAnnealingLR(optimizer, T_max=4).base_lrs == [1.0]


def test_the_norm_of_large_gradients_does_not_overflow():
    w = Tensor(np.ones(2, np.float32), requires_grad=True)
    w.grad = Tensor(np.array([3e30, 4e30], np.float32))
    assert optim.clip_grad_norm_(w, 1.0) == pytest.approx(5e30)
    np.testing.assert_allclose(w.grad.numpy(), [0.6, 0.8], rtol=1e-6)


# ------------------------------------------------------------------------------------------ kernels

LARGE = (97, 89), (5,), (3, 4, 7)
BY_KERNELS = [
    (optim.SGD, {"lr": 0.1}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01}),
    (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (optim.Adam, {"lr": 0.01, "weight_decay": 0.1}),
    (optim.Adam, {"amsgrad": True}),
    (optim.AdamW, {"lr": 0.01}),
    (optim.RMSprop, {"momentum": 0.5, "centered": True}),
    (optim.Adagrad, {"lr_decay": 0.1}),
]


def trained(kind, settings, dtype, steps=5, resumed=False):
    """Parameters and slots after some steps with changing rates, saved and loaded on the way."""
    rng = np.random.default_rng(0)
    params = [leaf(rng.standard_normal(shape), dtype) for shape in LARGE]
    optimizer = kind([{"params": params[:2]}, {"params": params[2:], "lr": 0.02}], **settings)
    for k in range(steps):
        optimizer.lr = 0.01 / (k + 1)
        for p in params:
            give(p, rng.standard_normal(p.shape))
        params[0].grad.array[0, :3] = 0, np.inf, np.nan
        if resumed and k == 2:
            state, optimizer = (
                optimizer.state_dict(),
                kind([{"params": params[:2]}, {"params": params[2:]}], **settings),
            )
            optimizer.load_state_dict(state)
        optimizer.step()
    slots = [v for p in params for k, v in optimizer.state[p].items() if k != "step"]
    return [p.array for p in params] + slots


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "settings"), BY_KERNELS)
def test_kernels_update_as_numpy_does(kind, settings, dtype):
    found = trained(kind, settings, dtype)
    with without_kernels():
        wanted = trained(kind, settings, dtype)
    rounding = 64 * np.finfo(dtype).eps
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rounding, atol=rounding)
    for a, b in zip(found, trained(kind, settings, dtype, resumed=True), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_kernel_updates_large_parameters_and_numpy_small_models(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "tinygrad_ai.optim.optimizer.updated", lambda rule, w, *rest: seen.append(w.shape) or False
    )
    trained(optim.Adam, {}, "float32", 1)
    assert seen == list(LARGE)
    w = leaf(np.ones(9), np.float32)
    stepped(optim.Adam([w]), w, [np.ones(9)])
    with without_kernels():
        trained(optim.Adam, {}, "float32", 1)
    assert seen == list(LARGE)


def test_what_no_kernel_holds_is_updated_all_the_same():
    for dtype in (np.float16, np.float32):
        w = leaf(np.ones((90, 100)), dtype)
        w.array = w.array.T  # not contiguous
        give(w, np.full((100, 90), 0.5))
        optim.SGD([w], lr=0.5).step()
        assert w.dtype == dtype and (w.numpy() == 0.75).all()
    w, nothing = leaf(np.ones((90, 100))), leaf(np.ones((0, 3)))
    give(w, np.full((90, 100), 0.5))
    give(nothing, np.ones((0, 3)))
    optim.SGD([w, nothing], lr=0.5).step()
    assert (w.numpy() == 0.75).all()
