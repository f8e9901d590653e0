"""The training loop: exact numbers, reproducible weights, callbacks, and what is refused."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image

from tinygrad_ai import functional as F
from tinygrad_ai import io as model_files
from tinygrad_ai import metrics, nn, optim, random
from tinygrad_ai.data import DataLoader, TensorDataset
from tinygrad_ai.errors import AnomalyError, DataError, DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train import (
    Callback,
    Checkpoint,
    EarlyStopping,
    History,
    LambdaCallback,
    LRScheduler,
    Trainer,
    cross_validate,
)
from tinygrad_ai.train.progress import Progress

RNG = np.random.default_rng(0)
X = RNG.normal(size=(83, 5)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64) + (X[:, 3] > 1)  # 3 classes


def classifier(seed: int = 0, dropout: float = 0.0, optimizer: str = "adam") -> Trainer:
    random.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))
    return Trainer(model, "cross_entropy", optimizer, ["accuracy"])


def line(lr: float = 0.1, metrics: object = ()) -> Trainer:
    """A line with weight 0 and bias 0, whose loss is the squared error."""
    model = nn.Linear(1, 1)
    model.load_state_dict({"weight": np.zeros((1, 1)), "bias": np.zeros(1)})
    return Trainer(model, "mse", optim.SGD(model.parameters(), lr=lr), metrics)


def weights(trainer: Trainer) -> bytes:
    return b"".join(t.numpy().tobytes() for t in trainer.model.state_dict().values())


def settings(trainer: Trainer) -> dict[str, float]:
    return trainer.optimizer.param_groups[0]


QUIET = {"progress": False}


# ---------------------------------------------------------------------------- what is measured


def test_fit_learns_and_returns_a_history() -> None:
    trainer = classifier()
    settings(trainer)["lr"] = 0.02
    history = trainer.fit(X, Y, epochs=40, batch_size=16, seed=1, **QUIET)
    assert history.epochs == list(range(1, 41))
    assert list(history.history) == ["loss", "accuracy"]
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert trainer.evaluate(X, Y)["accuracy"] > 0.85
    assert not history.interrupted
    assert trainer.history is history


def test_one_step_is_gradient_descent() -> None:
    x, y = np.array([[1.0], [3.0]]), np.array([[2.0], [5.0]])
    trainer = line(lr=0.1)
    trainer.fit(x, y, batch_size=2, **QUIET)
    # d/dw mean((wx + b - y)²) at 0 = -2·mean(xy) = -17, d/db = -2·mean(y) = -7
    assert trainer.model.weight.item() == pytest.approx(1.7)
    assert trainer.model.bias.item() == pytest.approx(0.7)


def test_means_are_exact_over_unequal_batches() -> None:
    trainer = classifier()
    trainer.metrics |= Trainer(trainer.model, "mse", "sgd", {"macro": macro}).metrics
    scores = trainer.predict(X, batch_size=7)
    assert scores.shape == (83, 3)
    expected = {
        "loss": F.cross_entropy(Tensor(scores.astype(np.float64)), Tensor(Y)).item(),
        "accuracy": metrics.accuracy(Y, scores),
        "macro": macro(Y, scores),
    }
    for size in (83, 10, 1):
        measured = trainer.evaluate(X, Y, batch_size=size)
        assert list(measured) == list(expected)
        assert measured == pytest.approx(expected, rel=1e-5)


def macro(true: np.ndarray, predicted: np.ndarray) -> float:
    return metrics.f1_score(true, predicted, average="macro")


def test_training_numbers_are_those_before_each_step() -> None:
    x, y = np.array([[1.0], [1.0], [1.0]]), np.array([[1.0], [1.0], [1.0]])
    history = line(lr=0.25).fit(x, y, batch_size=2, **QUIET)
    # loss 1 for two samples; then w = b = 0.5, which fits: loss 0 for one sample
    assert history["loss"] == pytest.approx([2 / 3])


def test_logits_of_binary_losses_are_judged_at_zero() -> None:
    model = nn.Linear(1, 1)
    model.load_state_dict({"weight": np.ones((1, 1)), "bias": np.zeros(1)})
    trainer = Trainer(model, "bce_with_logits", "sgd", ["accuracy", "recall"])
    measured = trainer.evaluate(np.array([[0.3], [-2.0], [-1.0]]), np.array([[1], [0], [1]]))
    assert measured["accuracy"] == pytest.approx(2 / 3)
    assert measured["recall"] == pytest.approx(1 / 2)


def test_data_come_in_many_forms() -> None:
    expected = classifier().evaluate(X, Y)
    forms = [
        (X.astype(np.float64), Y.astype(np.int32)),
        (Tensor(X), Tensor(Y)),
        (X.tolist(), Y.tolist()),
        (TensorDataset(X, Y), None),
        (list(zip(X, Y, strict=True)), None),
        (DataLoader((X, Y), batch_size=9), None),
    ]
    for x, y in forms:
        assert classifier().evaluate(x, y) == pytest.approx(expected, rel=1e-5)


def test_arrays_alone_are_their_own_target() -> None:
    trainer = Trainer(nn.Linear(5, 5), "mse", "adam", ["mse"])
    history = trainer.fit(X, epochs=3, **QUIET)
    assert history["loss"] == pytest.approx(history["mse"], rel=1e-5)
    assert history["loss"][-1] < history["loss"][0]
    assert trainer.predict(X).shape == X.shape


def test_a_tuple_is_several_inputs() -> None:
    class Difference(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(5, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.layer(a - b)

    trainer = Trainer(Difference(), "cross_entropy", "adam")
    trainer.fit((X, X), Y, **QUIET)
    outputs = trainer.predict((X, X))
    np.testing.assert_array_equal(outputs, np.tile(outputs[0], (83, 1)))


def test_validation_split_holds_back_the_last_samples() -> None:
    seen = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                seen.extend(x.numpy()[:, 0].tolist())
            return super().forward(x)

    x = np.arange(10.0)[:, None] / 10
    trainer = Trainer(Spy(1, 1), "mse", "sgd", jit=False)  # the spy reads values
    history = trainer.fit(x, x, validation_split=0.3, epochs=2, **QUIET)
    assert list(history.history) == ["loss", "val_loss"]
    assert sorted(seen) == pytest.approx(sorted([*np.arange(7) / 10, *np.arange(7) / 10]))


def test_validation_data_are_evaluated() -> None:
    trainer = classifier()
    history = trainer.fit(X, Y, validation_data=(X[:20], Y[:20]), **QUIET)
    expected = {f"val_{name}": value for name, value in trainer.evaluate(X[:20], Y[:20]).items()}
    assert {name: history[name][-1] for name in expected} == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------------- the same, and as it was


def test_same_seed_same_bits() -> None:
    first, second, other = (classifier(seed=3, dropout=0.4) for _ in range(3))
    for trainer, seed in ((first, 7), (second, 7), (other, 8)):
        random.rand(5)  # what was drawn before must not matter
        trainer.fit(X, Y, epochs=3, seed=seed, **QUIET)
    assert weights(first) == weights(second) != weights(other)


def test_without_a_seed_the_default_generator_decides() -> None:
    first, second = classifier(3, 0.4), classifier(3, 0.4)
    for trainer in (first, second):
        random.manual_seed(11)
        trainer.fit(X, Y, epochs=2, **QUIET)
    assert weights(first) == weights(second)


def test_modes_are_restored_module_by_module() -> None:
    trainer = classifier(dropout=0.9)
    frozen = list(trainer.model.modules())[3]
    frozen.eval()
    before = [module.training for module in trainer.model.modules()]
    assert len(set(before)) == 2
    one, two = trainer.predict(X), trainer.predict(X)
    trainer.evaluate(X, Y)
    trainer.fit(X, Y, validation_split=0.2, **QUIET)
    np.testing.assert_array_equal(one, two)
    assert [module.training for module in trainer.model.modules()] == before


def test_fit_goes_on_where_it_was() -> None:
    whole, parts = classifier(), classifier()
    loaders = [DataLoader((X, Y), batch_size=8, shuffle=True, seed=5) for _ in range(2)]
    whole.fit(loaders[0], epochs=3, **QUIET)
    parts.fit(loaders[1], epochs=1, **QUIET)
    parts.fit(loaders[1], epochs=2, **QUIET)
    assert weights(whole) == weights(parts)


def test_predict_builds_no_graph_and_keeps_the_generator() -> None:
    trainer = classifier(dropout=0.5)
    state = random.generator().state_dict()
    assert isinstance(trainer.predict(X), np.ndarray)
    assert random.generator().state_dict() == state


# ------------------------------------------------------------------------------------- refusals


def refused(trainer: Trainer, kind: type, message: str, *args: object, **options: object) -> None:
    before = weights(trainer)
    with pytest.raises(kind, match=message):
        trainer.fit(*args, **{**QUIET, **options})
    assert weights(trainer) == before
    assert all(p.grad is None for p in trainer.model.parameters())


def with_value(array: np.ndarray, place: tuple[int, ...], value: float) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


@pytest.mark.parametrize(
    ("kind", "message", "args", "options"),
    [
        (ShapeError, r"samples differ: x \(83, 5\), y \(82,\)", (X, Y[:-1]), {}),
        (ShapeError, r"first axis counts samples: x \(\)", (np.float32(1), Y), {}),
        (ValueRangeError, "fit: there are no samples", (X[:0], Y[:0]), {}),
        (ValueRangeError, r"x holds nan at x\[70, 2\]", (with_value(X, (70, 2), np.nan), Y), {}),
        (ValueRangeError, r"x holds -inf at x\[0, 0\]", (with_value(X, (0, 0), -np.inf), Y), {}),
        (ValueRangeError, r"label 3 at y\[4\] is outside 0…2", (X, with_value(Y, (4,), 3)), {}),
        (ValueRangeError, r"label -1 at y\[82\] is outside", (X, with_value(Y, (82,), -1)), {}),
        (ShapeError, r"\(83, 1\)|\(2, 1\)", (X, Y[:, None]), {}),
        (DTypeError, "integers, not float32", (X, Y.astype(np.float32)), {}),
        (DTypeError, "y must hold numbers, not <U1", (X, np.array(["a"] * 83)), {}),
        (DTypeError, "x cannot be made an array", ([[1.0], [2.0, 3.0]], [0, 1]), {}),
        (DTypeError, "brings its targets", (DataLoader((X, Y)), Y), {}),
        (
            ValueRangeError,
            "validation_split must lie .*, not 1.5",
            (X, Y),
            {"validation_split": 1.5},
        ),
        (ValueRangeError, "not -0.1", (X, Y), {"validation_split": -0.1}),
        (ValueRangeError, "83 for training and 0 for", (X, Y), {"validation_split": 0.001}),
        (
            ValueRangeError,
            "exclude each other",
            (X, Y),
            {"validation_split": 0.1, "validation_data": (X, Y)},
        ),
        (
            ShapeError,
            r"validation_data: numbers of samples differ",
            (X, Y),
            {"validation_data": (X, Y[:5])},
        ),
        (ValueRangeError, "epochs must be .* at least 1, not 0", (X, Y), {"epochs": 0}),
        (DTypeError, "epochs must be .*, not 1.5", (X, Y), {"epochs": 1.5}),
        (ValueRangeError, "batch_size must be .*, not 0", (X, Y), {"batch_size": 0}),
        (
            ValueRangeError,
            "cannot divide a DataLoader",
            (DataLoader((X, Y)),),
            {"validation_split": 0.5},
        ),
        (
            ValueRangeError,
            "EarlyStopping: 'val_loss' is not measured; there are loss, accuracy",
            (X, Y),
            {"callbacks": [EarlyStopping()]},
        ),
        (
            DataError,
            "cannot create the folder .*README.md",
            (X, Y),
            {"callbacks": [Checkpoint("README.md/model.safetensors")]},
        ),
        (
            ValueRangeError,
            "cannot be filled in: 'val_loss'",
            (X, Y),
            {"callbacks": [Checkpoint("{val_loss}.safetensors")]},
        ),
    ],
)
def test_bad_input_is_refused_before_training(kind, message, args, options) -> None:
    refused(classifier(), kind, message, *args, **options)


def test_a_wrong_width_says_so_before_training() -> None:
    refused(classifier(), ShapeError, r"\(2, 4\).*\(16, 5\)|5", X[:, :4], Y)


def test_ignored_labels_are_in_range() -> None:
    trainer, half = classifier(), with_value(Y, (slice(40, None),), -100)
    history = trainer.fit(X, half, batch_size=30, **QUIET)
    assert np.isfinite(history["loss"]).all()
    expected = trainer.evaluate(X[:40], Y[:40])
    assert trainer.evaluate(X, half, batch_size=30) == pytest.approx(expected, rel=1e-5)


def test_targets_of_binary_losses_are_probabilities() -> None:
    trainer = Trainer(nn.Linear(5, 1), "bce_with_logits", "sgd")
    refused(trainer, ValueRangeError, r"label 2 at y\[1, 0\] is outside 0…1", X[:2], [[0], [2]])


def test_a_loss_per_sample_is_refused() -> None:
    trainer = Trainer(nn.Linear(5, 5), lambda a, b: (a - b).sum(axis=1), "sgd")
    refused(trainer, ShapeError, r"the loss must be one number, not \(2,\)", X)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (("cros_entropy", "adam"), ValueRangeError, "no loss 'cros_entropy'; there are cross_entr"),
        (("mse", "adm"), ValueRangeError, "no optimizer 'adm'; there are sgd, adam"),
        (("mse", "adam", ["acuracy"]), ValueRangeError, "no metric 'acuracy'; there are accuracy"),
        (("mse", "adam", ["mse", "mse"]), ValueRangeError, "two numbers would be named 'mse'"),
        ((3, "adam"), DTypeError, "loss must be a name or a callable, not 3"),
    ],
)
def test_unknown_names(arguments, kind, message) -> None:
    with pytest.raises(kind, match=message):
        Trainer(nn.Linear(2, 2), *arguments)


def test_the_close_name_is_offered_and_aliases_work() -> None:
    with pytest.raises(ValueRangeError) as caught:
        Trainer(nn.Linear(2, 2), "mse", "adm")
    assert "did you mean 'adam'" in caught.value.__notes__[0]
    trainer = Trainer(nn.Linear(2, 2), "mse_loss", optim.Adam, [metrics.accuracy])
    assert isinstance(trainer.optimizer, optim.Adam)
    assert list(trainer.metrics) == ["accuracy"]
    with pytest.raises(DTypeError, match="not a function"):
        Trainer(lambda x: x, "mse", "adam")


def test_a_loss_that_is_not_finite_ends_training_with_the_place() -> None:
    trainer = line(lr=1e18)
    x = np.ones((6, 1))
    with np.errstate(all="ignore"), pytest.raises(AnomalyError) as caught:
        trainer.fit(x, x, epochs=3, batch_size=2, **QUIET)
    assert "in epoch 1, batch 3" in str(caught.value)
    assert "smaller learning rate (1e+18 now)" in caught.value.__notes__[0]
    assert np.isfinite(trainer.model.weight.numpy()).all()


def test_debug_names_the_operation() -> None:
    model = nn.Linear(1, 1)
    loss = lambda output, target: (output * 0 - 1).log().mean()  # noqa: E731
    trainer = Trainer(model, loss, "sgd", debug=True)
    with np.errstate(all="ignore"), pytest.raises(AnomalyError, match="log"):
        trainer.fit(np.ones((4, 1)), **QUIET)


# ------------------------------------------------------------------------------------- Ctrl-C


def test_ctrl_c_keeps_what_was_done() -> None:
    def interrupt(batch: int, logs: dict[str, float]) -> None:
        if len(trainer.history.epochs) == 2 and batch == 2:
            raise KeyboardInterrupt

    ended = []
    trainer = classifier()
    stop = LambdaCallback(on_batch_end=interrupt, on_train_end=lambda: ended.append(True))
    history = trainer.fit(X, Y, epochs=9, callbacks=[stop], **QUIET)
    assert history.interrupted
    assert history.epochs == [1, 2]
    assert "interrupted" in repr(history)
    assert ended == [True]
    assert trainer.model.training
    assert not trainer.fit(X, Y, **QUIET).interrupted


# ---------------------------------------------------------------------------------- callbacks


def test_hooks_come_in_order() -> None:
    calls = []
    hooks = [name for name in vars(Callback) if name.startswith("on_")]
    spy = LambdaCallback(**{h: lambda *a, h=h: calls.append((h, *a[:1])) for h in hooks})
    classifier().fit(X[:6], Y[:6], epochs=2, batch_size=3, callbacks=[spy], **QUIET)
    epoch = ["on_epoch_begin", "on_batch_end", "on_batch_end", "on_epoch_end"]
    assert [c[0] for c in calls] == ["on_train_begin", *epoch, *epoch, "on_train_end"]
    assert [c[1] for c in calls[1:-1]] == [1, 1, 2, 1, 2, 1, 2, 2]
    with pytest.raises(ValueRangeError, match="no hook 'on_epoch'"):
        LambdaCallback(on_epoch=print)


def scripted(values: list[float]) -> LambdaCallback:
    """Puts ``values`` in the place of the epochs' losses."""
    return LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(loss=values[epoch - 1]))


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "epochs", "best"),
    [
        ([3, 2, 2.5, 2.1, 1, 1], 2, 0, 4, 2),
        ([3, 2, 2.5, 1, 1.5, 1.2], 2, 0, 6, 4),
        ([3, 2.9, 2.8, 2.7], 2, 0.5, 3, 1),
        ([3, 2, 1], 1, 0, 3, 3),
    ],
)
def test_early_stopping(losses, patience, min_delta, epochs, best) -> None:
    stop = EarlyStopping("loss", patience, min_delta)
    kept = {}
    spy = LambdaCallback(on_epoch_end=lambda e, logs: kept.update({e: weights(trainer)}))
    trainer = classifier()
    callbacks = [scripted(losses), spy, stop]
    history = trainer.fit(X, Y, epochs=len(losses), callbacks=callbacks, **QUIET)
    assert len(history.epochs) == epochs
    assert stop.best_epoch == best
    assert weights(trainer) == kept[best]


def test_early_stopping_can_leave_the_last_weights_and_maximises_accuracy() -> None:
    stop = EarlyStopping("accuracy", patience=1, restore_best=False)
    worse = LambdaCallback(on_epoch_end=lambda e, logs: logs.update(accuracy=1 / e))
    trainer, plain = classifier(), classifier()
    history = trainer.fit(X, Y, epochs=5, callbacks=[worse, stop], seed=0, **QUIET)
    plain.fit(X, Y, epochs=2, seed=0, **QUIET)
    assert history.epochs == [1, 2]
    assert weights(trainer) == weights(plain)


def test_checkpoint_keeps_epochs_or_the_best(tmp_path) -> None:
    trainer = classifier()
    every = Checkpoint(tmp_path / "{epoch:02d}.safetensors")
    best = Checkpoint(tmp_path / "best.safetensors", monitor="loss", save_best_only=True)
    kept = {}
    spy = LambdaCallback(on_epoch_end=lambda e, logs: kept.update({e: weights(trainer)}))
    callbacks = [scripted([2, 1, 3]), spy, every, best]
    trainer.fit(X, Y, epochs=3, callbacks=callbacks, **QUIET)
    names = ["01.safetensors", "02.safetensors", "03.safetensors", "best.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    trainer.model.load_state_dict(model_files.load(tmp_path / "best.safetensors"))
    assert weights(trainer) == kept[2]
    assert model_files.read_metadata(tmp_path / "best.safetensors")["epoch"] == 2
    with pytest.raises(ValueRangeError, match="save_best_only needs to know"):
        Checkpoint("model.safetensors", save_best_only=True)


def test_schedules_per_batch_and_per_epoch() -> None:
    trainer = classifier()
    settings(trainer)["lr"] = 0.1
    steps = []
    spy = LambdaCallback(on_batch_end=lambda b, logs: steps.append(settings(trainer)["lr"]))
    schedule = LRScheduler(CosineAnnealingLR(trainer.optimizer, 12), per="batch")
    history = trainer.fit(X, Y, epochs=2, batch_size=14, callbacks=[schedule, spy], **QUIET)
    expected = [0.05 * (1 + math.cos(math.pi * k / 12)) for k in range(1, 13)]
    assert steps == pytest.approx(expected)
    assert history["lr"] == pytest.approx([expected[5], expected[11]])

    trainer = classifier()
    settings(trainer)["lr"] = 0.1
    schedule = LRScheduler(CosineAnnealingLR(trainer.optimizer, 2))
    history = trainer.fit(X, Y, epochs=2, callbacks=[schedule], **QUIET)
    assert history["lr"] == pytest.approx([0.1, 0.05])
    assert settings(trainer)["lr"] == pytest.approx(0)


def test_a_schedule_can_follow_a_number() -> None:
    trainer = classifier()
    plateau = ReduceLROnPlateau(trainer.optimizer, factor=0.5, patience=0)
    callbacks = [scripted([2, 2, 1, 1]), LRScheduler(plateau, monitor="loss")]
    history = trainer.fit(X, Y, epochs=4, callbacks=callbacks, **QUIET)
    start = history["lr"][0]
    assert history["lr"] == pytest.approx([start, start, start / 2, start / 2])
    assert settings(trainer)["lr"] == pytest.approx(start / 4)
    with pytest.raises(ValueRangeError, match="neither 'epoch' nor 'batch'"):
        LRScheduler(plateau, per="step")


def test_hyperparameters_can_change_while_training() -> None:
    def freeze(epoch: int) -> None:
        settings(trainer)["lr"] = 0.0 if epoch > 1 else 0.01

    kept = []
    trainer = classifier(optimizer="sgd")
    spy = LambdaCallback(
        on_epoch_begin=freeze, on_epoch_end=lambda e, logs: kept.append(weights(trainer))
    )
    before = weights(trainer)
    trainer.fit(X, Y, epochs=3, callbacks=[spy], **QUIET)
    assert before != kept[0] == kept[1] == kept[2]


# ----------------------------------------------------------------------- progress and history


class Screen(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_progress_elsewhere_is_one_line_an_epoch(capsys) -> None:
    classifier().fit(X, Y, epochs=2, validation_split=0.2)
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  loss ")
    assert "val_accuracy " in lines[1]
    classifier().fit(X, Y, epochs=2, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("no_color", ["", "1"])
def test_progress_in_a_terminal_rewrites_its_line(monkeypatch, no_color) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("tinygrad_ai.train.progress.INTERVAL", 0)
    screen = Screen()
    trainer = classifier()
    trainer.jit = False  # to compile the first step would take seconds, and the ETA say so
    trainer.fit(X, Y, batch_size=10, callbacks=[Progress(screen)], **QUIET)
    drawn = screen.getvalue().split("\r\033[K")
    assert len(drawn) == 1 + 9 + 1
    assert "━" in drawn[1]
    assert "3/9" in drawn[3]
    assert "ETA 0:00  loss " in drawn[3]
    assert "/s" in drawn[3]
    assert drawn[-1].endswith(" s\n")
    assert ("\033[32m" in drawn[1]) != bool(no_color)
    if no_color:
        assert max(map(len, drawn)) < 80


def test_progress_rewrites_at_most_ten_times_a_second(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    clock = iter(np.arange(0, 100, 0.01))  # 10 ms a batch
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    screen = Screen()
    classifier().fit(X, Y, batch_size=1, callbacks=[Progress(screen)], **QUIET)
    assert 6 <= screen.getvalue().count("ETA") <= 9  # in 0.85 s


def test_progress_ends_its_line_when_interrupted(monkeypatch) -> None:
    monkeypatch.setattr("tinygrad_ai.train.progress.INTERVAL", 0)

    def interrupt(batch: int, logs: dict[str, float]) -> None:
        raise KeyboardInterrupt

    screen = Screen()
    callbacks = [Progress(screen), LambdaCallback(on_batch_end=interrupt)]
    classifier().fit(X, Y, callbacks=callbacks, **QUIET)
    assert screen.getvalue().endswith("\n")


def test_history_as_csv_round_trips(tmp_path) -> None:
    history = classifier().fit(X, Y, epochs=3, validation_split=0.1, **QUIET)
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert [float(row[name]) for row in rows] == history[name]
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_history_plot_writes_a_picture(tmp_path) -> None:
    history = classifier().fit(X, Y, epochs=3, validation_split=0.1, **QUIET)
    history.plot(tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        picture.load()
        assert min(picture.size) > 300
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_history_plot_without_matplotlib_names_the_extra(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(DataError, match="matplotlib") as caught:
        History([1], {"loss": [1.0]}).plot("curves.png")
    assert "tinygrad_ai[plot]" in caught.value.__notes__[0]


def test_history_of_nothing() -> None:
    assert repr(History()) == "History(0 epochs)"
    assert repr(History([1, 2], {"loss": [2.0, 1.23456]})) == "History(2 epochs: loss 1.235)"
    with pytest.raises(ValueRangeError, match="no epoch is over"):
        History().plot("curves.png")
    with pytest.raises(ValueRangeError, match="no 'val_loss'; there are loss"):
        History([1], {"loss": [1.0]})["val_loss"]


# ---------------------------------------------------------------------------- cross-validation


def test_cross_validate_tests_every_sample_once() -> None:
    tested = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if not self.training and len(x) > 2:
                tested.extend(x.numpy()[:, 0].tolist())
            return super().forward(x)

    def build() -> Trainer:
        return Trainer(Spy(1, 1), "mse", "sgd", ["mse"])

    x = np.arange(17.0)[:, None] / 17
    result = cross_validate(build, x, x, folds=5, epochs=2, seed=1)
    assert sorted(tested) == pytest.approx((np.arange(17) / 17).tolist())
    assert len(result["folds"]) == 5
    scores = [fold["loss"] for fold in result["folds"]]
    assert result["mean"]["loss"] == pytest.approx(np.mean(scores))
    assert result["std"]["loss"] == pytest.approx(np.std(scores))
    assert result == cross_validate(build, x, x, folds=5, epochs=2, seed=1)
    assert result != cross_validate(build, x, x, folds=5, epochs=2, seed=2)


@pytest.mark.parametrize(("folds", "message"), [(1, "at least 2"), (84, "of only 83 samples")])
def test_cross_validate_refuses_impossible_folds(folds, message) -> None:
    with pytest.raises(ValueRangeError, match=message):
        cross_validate(classifier, X, Y, folds=folds)
