"""Accumulation, clipping, class weights, frozen layers, divergence, find_lr and health."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from tinygrad_ai import functional as F
from tinygrad_ai import nn, optim, random, tanh
from tinygrad_ai.cli.command import run as main
from tinygrad_ai.data import DataLoader
from tinygrad_ai.errors import AnomalyError, DTypeError, ValueRangeError
from tinygrad_ai.io import load
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train import (
    Checkpoint,
    Diverged,
    EarlyStopping,
    HealthReport,
    LambdaCallback,
    Trainer,
    balanced_weights,
    find_lr,
    health,
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 5)).astype(np.float32)
Y = np.where(X[:, 0] + 0.3 * X[:, 1] > 1, 2, (X[:, 2] > 0.2).astype(np.int64))  # unequal classes
QUIET = {"progress": False}


def network(loss: Any = "cross_entropy", lr: float = 0.05, **options: Any) -> Trainer:
    random.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype=np.float64)
    optimizer = options.pop("optimizer", optim.SGD)(model.parameters(), lr=lr)
    return Trainer(model, loss, optimizer, **options)


def weights(trainer: Trainer) -> np.ndarray:
    return np.concatenate([t.numpy().ravel() for t in trainer.model.state_dict().values()])


def everything(trainer: Trainer) -> str:
    gradients = [p.grad for p in trainer.model.parameters()]
    state = trainer.optimizer.state_dict(), random.generator().state_dict(), gradients
    return repr((trainer.model.state_dict(), trainer.model.training, state))


# ------------------------------------------------------------------------ accumulation, clipping


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("cross_entropy", {}),
        (nn.CrossEntropyLoss(Tensor([0.2, 1.0, 3.0]).astype(np.float64)), {}),
        ("cross_entropy", {"class_weight": "balanced"}),
        ("cross_entropy", {"y": np.where(np.arange(50) % 7 < 3, -100, Y)}),
        ("cross_entropy", {"y": np.where(np.arange(50) < 12, -100, Y)}),  # whole batches
    ],
)
def test_accumulated_batches_are_one_large_batch(loss, options) -> None:
    """50 samples in batches of 6 and groups of 4: 24, 24, and 2 that are left."""
    arguments = {"x": X, "y": Y, "epochs": 2, "shuffle": False, **QUIET} | options
    small = network(loss, accumulate=4, clip_norm=0.3)
    large = network(loss, clip_norm=0.3)
    steps: list[int] = []
    count = LambdaCallback(on_batch_end=lambda step, logs: steps.append(step))
    history = small.fit(**arguments, batch_size=6, callbacks=[count])
    other = large.fit(**arguments, batch_size=24)
    np.testing.assert_allclose(weights(small), weights(large), rtol=1e-10, atol=1e-12)
    assert history["loss"] == pytest.approx(other["loss"], rel=1e-10)
    assert steps == [1, 2, 3] * 2


def test_clipping_limits_the_step() -> None:
    for limit in (1e-3, None):
        trainer = network(lr=1.0, clip_norm=limit)
        before = weights(trainer)
        trainer.fit(X, Y, batch_size=50, **QUIET)
        moved = np.linalg.norm(weights(trainer) - before)
        assert moved == pytest.approx(1e-3, rel=1e-2) if limit else moved > 0.1


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"clip_norm": 0}, ValueRangeError, "clip_norm must be positive, not 0"),
        ({"clip_norm": float("nan")}, ValueRangeError, "clip_norm must be positive"),
        ({"accumulate": 0}, ValueRangeError, "accumulate must be .* at least 1, not 0"),
        ({"accumulate": 1.5}, DTypeError, "accumulate must be .*, not 1.5"),
    ],
)
def test_settings_out_of_range(options, kind, message) -> None:
    with pytest.raises(kind, match=message):
        network(**options)


# --------------------------------------------------------------------------------- class weights


def test_balanced_weights_by_hand() -> None:
    found = balanced_weights([0, 0, 0, 0, 0, 0, 1, 1, 3], classes=5)
    np.testing.assert_allclose(found, [9 / (3 * 6), 9 / (3 * 2), 1, 9 / 3, 1])
    np.testing.assert_allclose(balanced_weights(Tensor([1, 0])), [1, 1])
    for labels, kind, message in [
        ([], ValueRangeError, "no labels"),
        ([0.5], DTypeError, "integers, not float"),
        ([0, 5], ValueRangeError, "label 5 is outside 0…4"),
        ([-1, 2], ValueRangeError, "label -1 is outside"),
    ]:
        with pytest.raises(kind, match=message):
            balanced_weights(np.asarray(labels), classes=5)


@pytest.mark.parametrize("wanted", ["balanced", {0: 0.5, 2: 4}, [0.5, 1, 4.0], np.ones(3)])
@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_class_weights_are_those_of_the_loss(wanted, loss) -> None:
    full = {"balanced": balanced_weights(Y), "dict": [0.5, 1, 4], "list": [0.5, 1, 4]}
    key = wanted if isinstance(wanted, str) else type(wanted).__name__
    own = nn.CrossEntropyLoss(Tensor(np.asarray(full.get(key, np.ones(3)), np.float64)))
    by_fit, by_loss = network(loss), network(own)
    history = by_fit.fit(X, Y, batch_size=7, class_weight=wanted, seed=1, **QUIET)
    expected = by_loss.fit(X, Y, batch_size=7, seed=1, **QUIET)
    np.testing.assert_array_equal(weights(by_fit), weights(by_loss))
    assert history.history == expected.history


def test_the_loss_of_an_epoch_is_exact_with_class_weights() -> None:
    trainer = network(nn.CrossEntropyLoss(Tensor(np.array([0.1, 1.0, 5.0]))), lr=0.0)
    whole = trainer.fit(X, Y, batch_size=50, **QUIET)["loss"]
    assert trainer.fit(X, Y, batch_size=7, **QUIET)["loss"] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("loss", ["bce_with_logits", nn.BCEWithLogitsLoss(), "bce"])
def test_class_weights_of_binary_losses(loss) -> None:
    targets = (Y == 2).astype(np.int64)[:, None]
    random.manual_seed(0)
    layers = [nn.Linear(5, 1), *([nn.Sigmoid()] if loss == "bce" else [])]
    trainer = Trainer(nn.Sequential(*layers), loss, "sgd")
    outputs = trainer.predict(X).astype(np.float64)
    p = outputs if loss == "bce" else 1 / (1 + np.exp(-outputs))
    w = np.where(targets == 1, 50 / (2 * targets.sum()), 50 / (2 * (targets == 0).sum()))
    expected = -np.mean(w * np.log(np.where(targets == 1, p, 1 - p)))
    history = trainer.fit(X, targets, batch_size=50, class_weight="balanced", **QUIET)
    assert history["loss"] == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "wanted", "kind", "message"),
    [
        ("cross_entropy", "balance", ValueRangeError, "'balance' is not 'balanced'"),
        ("cross_entropy", {3: 1.0}, ValueRangeError, r"names the class 3; there are 0…2"),
        ("cross_entropy", {0: -1}, ValueRangeError, "finite numbers ≥ 0, not -1"),
        ("cross_entropy", {0: float("nan")}, ValueRangeError, "finite numbers"),
        ("cross_entropy", {0: "a"}, DTypeError, "must hold numbers, not 'a'"),
        ("cross_entropy", [1, 2], ValueRangeError, "2 weights for 3 classes"),
        ("cross_entropy", [0, 0, 0], ValueRangeError, "every class_weight is 0"),
        (nn.CrossEntropyLoss(Tensor(np.ones(3))), "balanced", ValueRangeError, "has weights too"),
        (lambda a, b: F.cross_entropy(a, b), "balanced", ValueRangeError, "needs a loss of class"),
    ],
)
def test_class_weights_that_do_not_fit(loss, wanted, kind, message) -> None:
    trainer = network(loss)
    before = everything(trainer)
    with pytest.raises(kind, match=message):
        trainer.fit(X, Y, class_weight=wanted, **QUIET)
    assert everything(trainer) == before


# -------------------------------------------------------------------------------- frozen layers


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.AdamW])
def test_frozen_layers_stay_as_they_are(optimizer) -> None:
    random.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    trainer = Trainer(model, "cross_entropy", optimizer(model.parameters(), lr=0.1))
    trainer.fit(X, Y, **QUIET)  # so that there are gradients and slots
    first, norm, _, last = model.children()
    first.requires_grad_(False)
    norm.requires_grad_(False)
    kept = {name: t.numpy().copy() for name, t in model.state_dict().items()}
    trainer.fit(X, Y, epochs=2, **QUIET)
    for name, tensor in model.state_dict().items():
        assert np.array_equal(tensor.numpy(), kept[name]) == (not name.startswith("3."))
    model.requires_grad_(True)
    trainer.fit(X, Y, **QUIET)
    assert not np.array_equal(first.weight.numpy(), kept["0.weight"])
    assert not np.array_equal(norm.running_mean.numpy(), kept["1.running_mean"])
    assert model.training
    assert last.weight.requires_grad


def test_a_model_that_is_frozen_cannot_be_trained() -> None:
    trainer = network()
    trainer.model.requires_grad_(False)
    with pytest.raises(ValueRangeError, match=r"every parameter .* is frozen"):
        trainer.fit(X, Y, **QUIET)


# ------------------------------------------------------------------------------------ divergence


class Spoilt:
    """A data set whose samples are NaN from the ``good``-th reading on."""

    def __init__(self, good: int) -> None:
        self.good = good

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.good -= 1
        return X[index] * (1 if self.good > 0 else np.nan), Y[index]


def test_the_last_whole_epoch_outlives_a_batch_of_nan() -> None:
    trainer, twin = network(optimizer=optim.Adam), network(optimizer=optim.Adam)
    checked = 52  # read by fit before it begins: the first samples twice
    with pytest.raises(Diverged, match="the loss is nan in epoch 3, batch 2") as caught:
        trainer.fit(Spoilt(checked + 120), epochs=5, batch_size=10, shuffle=False, **QUIET)
    notes = "\n".join(caught.value.__notes__)
    assert "the inputs of this batch are not finite" in notes
    assert "model and optimizer are again as they were after epoch 2" in notes
    twin.fit(X, Y, epochs=2, batch_size=10, shuffle=False, **QUIET)
    np.testing.assert_array_equal(weights(trainer), weights(twin))
    assert repr(trainer.optimizer.state_dict()) == repr(twin.optimizer.state_dict())
    assert caught.value.history is trainer.history
    assert trainer.history.history == twin.history.history
    assert isinstance(caught.value, AnomalyError)


def test_weights_that_are_not_finite_are_found_before_the_epoch_counts(tmp_path) -> None:
    """The loss of the only step is finite, the weights after it are not."""
    trainer = network("mse", lr=1e308)
    before = weights(trainer)
    kept = Checkpoint(tmp_path / "m")
    with pytest.raises(Diverged, match=r"the weights .* are not finite in epoch 1"):
        trainer.fit(X, np.full((50, 3), 1e3), batch_size=50, callbacks=[kept], **QUIET)
    np.testing.assert_array_equal(weights(trainer), before)
    assert list(tmp_path.iterdir()) == []


def test_nan_is_no_improvement() -> None:
    losses = iter([3.0, np.nan, np.nan, np.nan])
    worse = LambdaCallback(on_epoch_end=lambda e, logs: logs.update(loss=next(losses)))
    stop = EarlyStopping("loss", patience=2)
    history = network().fit(X, Y, epochs=4, callbacks=[worse, stop], **QUIET)
    assert (history.epochs, stop.best_epoch) == ([1, 2, 3], 1)


def test_the_command_line_keeps_the_last_whole_epoch(tmp_path, capsys, monkeypatch) -> None:
    fit = Trainer.fit

    def spoil(self: Trainer, x: Any, y: Any, callbacks: Any, **options: Any) -> Any:
        def burst(epoch: int) -> None:
            if epoch == 3:
                next(self.model.parameters()).array[...] = np.nan

        hook = LambdaCallback(on_epoch_begin=burst)
        return fit(self, x[:200], y[:200], callbacks=[hook, *callbacks], **options)

    monkeypatch.setattr(Trainer, "fit", spoil)
    assert main(["train", "mnist-mlp", "--epochs=4", f"--out={tmp_path}"]) == 1
    err = capsys.readouterr().err
    assert "error: fit: the loss is nan in epoch 3, batch 1" in err
    assert f"written to {tmp_path}, as after the 2 whole epochs before: model.safetens" in err
    assert np.isfinite(load(tmp_path / "model.safetensors")["1.weight"]).all()
    assert (tmp_path / "history.csv").read_text().count("\n") == 3


# ------------------------------------------------------------------------------ learning rates


def test_find_lr_finds_a_rate_that_learns_and_undoes_all() -> None:
    trainer = network(optimizer=optim.Adam, lr=1e-3)
    trainer.fit(X, Y, **QUIET)
    before = everything(trainer)
    curve = find_lr(trainer, X, Y, batch_size=10)
    assert everything(trainer) == before
    assert curve.suggestion is not None
    assert 1e-4 < curve.suggestion < 0.5
    assert len(curve.losses) == len(curve.smoothed) == len(curve.rates) <= 100
    assert curve.rates[0] == pytest.approx(1e-6)
    np.testing.assert_allclose(np.diff(np.log(curve.rates)), np.log(1e7) / 99)
    assert curve.smoothed[1] == pytest.approx((0.8 * curve.losses[0] + curve.losses[1]) / 1.8)
    assert find_lr(trainer, X, Y, batch_size=10).losses == curve.losses
    assert f"try {curve.suggestion:.2g}" in repr(curve)


def test_find_lr_keeps_the_ratio_of_groups_and_the_place_of_a_loader() -> None:
    trainer = network()
    groups = [{"params": [p], "lr": 0.1 * 2**k} for k, p in enumerate(trainer.model.parameters())]
    seen: list[list[float]] = []

    class Spy(optim.SGD):
        def step(self) -> None:
            seen.append([group["lr"] for group in self.param_groups])
            super().step()

    trainer.optimizer = Spy(groups)
    loader = DataLoader((X, Y), 7, shuffle=True, seed=1)
    place = loader.state_dict()
    curve = find_lr(trainer, loader, low=1e-5, high=1e-3, steps=20)
    np.testing.assert_allclose(seen, np.outer(curve.rates, [1, 2, 4, 8]))
    assert loader.state_dict() == place
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.1, 0.2, 0.4, 0.8]


def test_find_lr_ends_where_the_loss_is_lost(tmp_path) -> None:
    trainer = network("mse", optimizer=optim.SGD)
    curve = find_lr(trainer, X, np.ones((50, 3)), low=1e-3, high=1e30, steps=60)
    assert len(curve.rates) < 30
    assert np.isfinite(curve.losses).all()
    curve.plot(tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 5000
    flat = find_lr(network(lambda a, b: (a * 0).mean() + 1), X, Y, steps=5)
    assert flat.suggestion is None
    assert "the loss never fell" in repr(flat)


@pytest.mark.parametrize(
    "options", [{"low": 0}, {"low": 1, "high": 0.1}, {"high": np.inf}, {"steps": 1}]
)
def test_find_lr_refuses(options) -> None:
    with pytest.raises(ValueRangeError, match="find_lr: "):
        find_lr(network(), X, Y, **options)


# ---------------------------------------------------------------------------------------- health


class Layers(nn.Module):
    """relu in a function, tanh in a layer; of 4 units of fc1 three never fire."""

    def __init__(self) -> None:
        self.fc1 = nn.Linear(5, 4)
        self.fc2 = nn.Linear(4, 6)
        self.act = nn.Tanh()
        self.head = nn.Linear(6, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.fc2(self.fc1(x).relu())))


def unwell() -> Trainer:
    random.manual_seed(0)
    model = Layers()
    model.fc1.bias.array[...] = [-99, -99, -99, 99]
    model.fc2.bias.array[...] = [500, -500, 500, -500, 500, 0]
    model.fc2.weight.array[5] = 0
    model.head.bias.requires_grad = False
    return Trainer(model, "cross_entropy", optim.SGD(model.parameters(), lr=0.5))


def test_health_measures_one_step_and_undoes_it() -> None:
    trainer = unwell()
    before = everything(trainer)
    found = health(trainer, X, Y)
    assert everything(trainer) == before
    rows = {w.name: w for w in found.weights}
    loss = F.cross_entropy(trainer.model(Tensor(X)), Tensor(Y))
    loss.backward()
    for name, p in trainer.model.named_parameters():
        if p.grad is not None:
            gradient = np.linalg.norm(p.grad.numpy())
            assert rows[name].gradient == pytest.approx(gradient, rel=1e-5)
            assert rows[name].norm == pytest.approx(np.linalg.norm(p.numpy()), rel=1e-5)
            change = 0.5 * gradient / np.linalg.norm(p.numpy())
            assert rows[name].update == pytest.approx(change, rel=1e-2, abs=1e-7)
    assert found.loss == pytest.approx(loss.item(), rel=1e-5)
    assert found.samples == 50
    relu, saturated = found.activations
    assert (relu.layer, relu.kind, relu.units, relu.share) == ("fc1", "relu", 4, 0.75)
    assert (saturated.layer, saturated.kind) == ("fc2", "tanh")
    assert saturated.share == pytest.approx(5 / 6)


def test_health_says_what_is_wrong() -> None:
    text = health(unwell(), X, Y).text()
    assert "fc1: 75% of its ReLUs are dead" in text
    assert "lower the learning rate" in text
    assert "fc2: 83% of its tanh outputs are saturated" in text
    assert "unused.weight: no gradient reaches it" in text
    assert "head.bias" in text
    assert "head.bias: no gradient" not in text
    fast = network(lr=1e4)
    assert any("lower the learning rate" in said for said in health(fast, X, Y).warnings)
    slow = network(lr=1e-9)
    assert any("raise the learning rate" in said for said in health(slow, X, Y).warnings)
    well = health(network(), X, Y)
    assert well.warnings == []
    assert well.text().endswith("nothing stands out")


def test_vanishing_gradients_are_named() -> None:
    random.manual_seed(0)
    layers = [part for _ in range(12) for part in (nn.Linear(5, 5), nn.Sigmoid())]
    trainer = Trainer(nn.Sequential(*layers, nn.Linear(5, 3)), "cross_entropy", "sgd")
    said = [s for s in health(trainer, X, Y).warnings if "vanish" in s]
    assert said
    assert said[0].startswith("0.weight")


def test_a_dead_channel_is_one_unit() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.conv = nn.Conv2d(1, 4, 3)
            self.conv.bias.array[...] = [-9, -9, 9, 9]

        def forward(self, x: Tensor) -> Tensor:
            return tanh(self.conv(x).relu()).mean(axis=(2, 3))

    trainer = Trainer(Net(), "cross_entropy", "sgd")
    found = health(trainer, RNG.random((6, 1, 5, 5)), np.arange(6) % 4).activations[0]
    assert (found.units, found.share) == (4, 0.5)


def test_a_report_in_the_middle_of_fit_changes_nothing() -> None:
    def fit(*callbacks: HealthReport) -> Trainer:
        random.manual_seed(3)
        model = nn.Sequential(
            nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)
        )
        trainer = Trainer(model, "cross_entropy", "adam")
        trainer.fit(X, Y, epochs=2, batch_size=10, seed=1, callbacks=callbacks, **QUIET)
        return trainer

    screen, quiet = io.StringIO(), io.StringIO()
    report = HealthReport(every=2, stream=screen)
    silent = HealthReport(every=2, only_warnings=True, stream=quiet)
    np.testing.assert_array_equal(weights(fit(report, silent)), weights(fit()))
    assert [(epoch, step) for epoch, step, _ in report.reports] == [(1, 2), (1, 4), (2, 2), (2, 4)]
    assert "after batch 4 of epoch 2" in screen.getvalue()
    assert "4.weight" in screen.getvalue()
    assert ("after batch" in quiet.getvalue()) == any(h.warnings for _, _, h in silent.reports)
