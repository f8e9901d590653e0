"""What a Trainer refuses before anything is trained, and what it says."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tinygrad_ai import functional as F
from tinygrad_ai import metrics, nn, optim
from tinygrad_ai.data import TensorDataset
from tinygrad_ai.errors import DataError, DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train import Checkpoint, EarlyStopping, LRScheduler, Trainer, cross_validate

RNG = np.random.default_rng(0)
X = RNG.normal(size=(83, 5)).astype(np.float32)
Y = np.arange(83) % 3
Z = X[:, 0]


def classifier(metrics: object = ()) -> Trainer:
    return Trainer(nn.Linear(5, 3), "cross_entropy", "adam", metrics)


def regression(outputs: int = 1, loss: object = "mse") -> Trainer:
    return Trainer(nn.Linear(5, outputs), loss, "adam")


def plateau(trainer: Trainer, **options: object) -> LRScheduler:
    return LRScheduler(ReduceLROnPlateau(trainer.optimizer), **options)


class Pair(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


def fit(*args: object, **options: object):
    def call(trainer: Trainer) -> object:
        return trainer.fit(*args, **{"progress": False, **options})

    return call


@pytest.mark.parametrize(
    ("build", "call", "kind", "message"),
    [
        (regression, fit(X, Z), ShapeError, r"output \(83, 1\) and y \(83,\) differ in shape"),
        (regression, fit(X, Y), ShapeError, r"output \(83, 1\) and y \(83,\) differ in shape"),
        (lambda: regression(1, nn.BCEWithLogitsLoss()), fit(X, Y % 2), ShapeError, "differ in sh"),
        (regression, fit(X), ValueRangeError, r"y is missing; .* \(83, 1\) and x \(83, 5\)"),
        (classifier, fit(X), ValueRangeError, "fit: y is missing"),
        (classifier, fit((X, Y)), DTypeError, r"not take 2 inputs: x\[0\] \(83, 5\) float32, x\[1"),
        (
            classifier,
            fit(X[:, :4], Y),
            ShapeError,
            r"^fit: the model cannot take x \(83, 4\) float",
        ),
        (classifier, fit(X, Y[:, None]), ShapeError, r"the loss cannot take .* and y \(83, 1\) in"),
        (classifier, fit(X, np.full(83, -100)), ValueRangeError, "every label in y is -100"),
        (
            regression,
            fit(X.astype(float) * 1e300, X[:, :1]),
            ValueRangeError,
            "beyond the model's f",
        ),
        (classifier, fit(None, Y), DTypeError, "x cannot be made an array|x must"),
        (classifier, fit({"x": X}), DTypeError, "x must be arrays, .* not a dict"),
        (classifier, fit(X, Y, validation_split="0.1"), DTypeError, "must be a number, not '0.1'"),
        (
            classifier,
            fit(X, Y, validation_data=(X, Y, Y)),
            DTypeError,
            r"must be \(x, y\), .* of 3",
        ),
        (
            classifier,
            fit(X, Y, validation_data=[X, Y]),
            DTypeError,
            r"must be \(x, y\), .*list of 2",
        ),
        (
            classifier,
            fit(X, Y, callbacks=EarlyStopping()),
            DTypeError,
            "must be a list of Callback",
        ),
        (classifier, fit(X, Y, callbacks=[print]), DTypeError, "print.* is no Callback object"),
        (classifier, fit(X, Y, callbacks=[EarlyStopping]), DTypeError, "is no Callback object"),
        (classifier, fit(X, Y, seed=-1), ValueRangeError, "seed must be .* at least 0, not -1"),
        (classifier, fit(X, Y, seed="a"), DTypeError, "seed must be"),
        (
            lambda: classifier(["f1_score"]),
            fit(X, Y),
            ValueRangeError,
            "metric 'f1_score' .*binary",
        ),
        (lambda: classifier([lambda y: 0.0]), fit(X, Y), DTypeError, "cannot be called with"),
        (
            lambda: classifier({"each": lambda t, p: np.zeros(3)}),
            fit(X, Y),
            DTypeError,
            r"metric 'each' must be one number, not an array \(3,\)",
        ),
        (
            lambda: Trainer(Pair(5, 3), "cross_entropy", "adam"),
            fit(X, Y),
            DTypeError,
            "must return one Tensor of a row a sample, not a tuple",
        ),
        (
            classifier,
            lambda t: t.predict(X[0]),
            ShapeError,
            r"predict: the model .* x \(5,\) float32",
        ),
        (classifier, lambda t: t.evaluate(X), ValueRangeError, "evaluate: y is missing"),
        (
            classifier,
            lambda t: fit(X, Y, callbacks=[plateau(t, per="batch", monitor="val_loss")])(t),
            ValueRangeError,
            "'val_loss' is not measured; there are loss",
        ),
        (
            classifier,
            lambda t: fit(X, Y, callbacks=[plateau(classifier(), monitor="loss")])(t),
            ValueRangeError,
            "ReduceLROnPlateau changes another optimiser",
        ),
    ],
)
def test_refused_before_training(build, call, kind, message) -> None:
    trainer = build()
    before = [p.numpy().copy() for p in trainer.model.parameters()]
    with pytest.raises(kind, match=message):
        call(trainer)
    for parameter, array in zip(trainer.model.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.numpy(), array)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: Trainer(nn.Linear, "mse", "adam"), DTypeError, "not the class Linear"),
        (lambda: Trainer(nn.Linear(1, 1), nn.MSELoss, "adam"), DTypeError, "loss is the class MSE"),
        (lambda: LRScheduler(optim.Adam(nn.Linear(1, 1).parameters())), DTypeError, "no scheduler"),
        (lambda: LRScheduler(StepLR), DTypeError, "no scheduler"),
        (lambda: plateau(classifier()), ValueRangeError, "which monitor must name"),
        (
            lambda: LRScheduler(StepLR(classifier().optimizer, 1), monitor="loss"),
            ValueRangeError,
            "StepLR follows no number",
        ),
        (lambda: EarlyStopping(patience="3"), DTypeError, "patience must be .*, not '3'"),
        (lambda: EarlyStopping(patience=0), ValueRangeError, "patience must be .*, not 0"),
        (lambda: EarlyStopping(monitor=3), DTypeError, "monitor must be a name"),
        (lambda: Checkpoint(3), DTypeError, "path must be a string or a Path, not 3"),
    ],
)
def test_refused_when_made(call, kind, message) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_an_optimizer_must_hold_the_models_parameters() -> None:
    model, other = nn.Linear(5, 3), nn.Linear(5, 3)
    for parameters in (other.parameters(), [*model.parameters(), *other.parameters()]):
        with pytest.raises(ValueRangeError, match="are among the model's 2"):
            Trainer(model, "cross_entropy", optim.SGD(parameters))
    Trainer(model, "cross_entropy", optim.SGD([model.bias]))  # a part may be trained


def test_what_may_still_be_given() -> None:
    trainer = regression()
    trainer.fit(X, Z[:, None], validation_split=0, progress=False)
    trainer.fit(TensorDataset(X, Z[:, None]), validation_data=(X, Z[:, None]), progress=False)
    assert regression(5).fit(X, progress=False).epochs == [1]
    half = np.where(np.arange(83) < 40, -100, Y)  # a whole first batch that does not count
    assert np.isfinite(classifier(["accuracy"]).evaluate(X, half, batch_size=20)["loss"])


def test_metrics_of_all_samples_are_tried_on_all_targets() -> None:
    """The two samples with which the model is tried are of one class."""
    y = (np.arange(83) > 40).astype(np.float32)[:, None]
    trainer = Trainer(nn.Linear(5, 1), "bce_with_logits", "adam", ["roc_auc", "f1_score"])
    assert list(trainer.fit(X, y, progress=False).history) == ["loss", "roc_auc", "f1_score"]


def test_one_hot_and_soft_targets_are_judged_by_their_likeliest_class() -> None:
    trainer = classifier(["accuracy"])
    expected = trainer.evaluate(X, Y)
    one_hot = np.eye(3, dtype=np.float32)[Y]
    assert trainer.evaluate(X, one_hot) == pytest.approx(expected, rel=1e-5)
    soft = trainer.evaluate(X, 0.9 * one_hot + 0.1 / 3)
    assert soft["accuracy"] == expected["accuracy"]
    by_squares = Trainer(trainer.model, F.mse_loss, "adam", ["accuracy"])
    assert by_squares.evaluate(X, one_hot)["accuracy"] == pytest.approx(expected["accuracy"])


def test_labels_beside_each_other_are_judged_one_by_one() -> None:
    trainer = Trainer(nn.Linear(5, 3), "bce_with_logits", "adam", ["accuracy"])
    one_hot = np.eye(3, dtype=np.float32)[Y]
    expected = np.mean((trainer.predict(X) > 0) == one_hot)
    assert trainer.evaluate(X, one_hot)["accuracy"] == pytest.approx(expected)


def test_a_checkpoint_is_tried_before_training(tmp_path, monkeypatch) -> None:
    path = tmp_path / "new" / "{epoch}" / "model.safetensors"
    classifier().fit(X, Y, epochs=2, callbacks=[Checkpoint(path)], progress=False)
    assert sorted(p.parent.name for p in tmp_path.rglob("*.safetensors")) == ["1", "2"]
    steps = []
    monkeypatch.setattr(optim.Adam, "step", lambda self: steps.append(1))
    with pytest.raises(DataError, match="Is a directory"):
        classifier().fit(X, Y, callbacks=[Checkpoint(tmp_path / "new")], progress=False)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(DataError, match="need the package safetensors"):
        classifier().fit(X, Y, callbacks=[Checkpoint(tmp_path / "m")], progress=False)
    assert steps == []


@pytest.mark.parametrize(
    ("build", "options", "kind", "message"),
    [
        (classifier(), {}, DTypeError, "build must be a function"),
        (lambda: 3, {}, DTypeError, "build gave a int, no Trainer"),
        (classifier, {"folds": 2.5}, DTypeError, "folds must be a whole number"),
        (classifier, {"seed": -1}, ValueRangeError, "seed must be"),
        (lambda t=classifier(): t, {}, ValueRangeError, "gave the same Linear twice"),
        (
            lambda m=nn.Linear(5, 3): Trainer(m, "cross_entropy", "adam"),
            {},
            ValueRangeError,
            "gave the same Linear twice",
        ),
    ],
)
def test_cross_validate_needs_fresh_trainers(build, options, kind, message) -> None:
    with pytest.raises(kind, match=message):
        cross_validate(build, X, Y, **{"folds": 2, **options})


@pytest.mark.parametrize("name", ["curves", "curves.txt"])
def test_a_picture_of_no_known_kind_is_refused_before_drawing(name, tmp_path) -> None:
    history = classifier().fit(X, Y, progress=False)
    with pytest.raises(ValueRangeError, match=f"cannot draw .*: .*{name}") as caught:
        history.plot(tmp_path / name)
    assert "png" in caught.value.__notes__[0]
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_is_not_drawn(tmp_path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(
        "tinygrad_ai.plots.curves", lambda epochs, history, path: drawn.append(history)
    )
    trainer = classifier()
    schedule = LRScheduler(StepLR(trainer.optimizer, 1))
    history = trainer.fit(X, Y, callbacks=[schedule], progress=False)
    history.plot(tmp_path / "curves.png")
    assert "lr" in history.history
    assert list(drawn[0]) == ["loss"]


def test_the_metrics_of_a_single_class_are_still_numbers() -> None:
    assert metrics.accuracy([[0, 1], [1, 0]], [[0.4, 0.6], [0.4, 0.6]]) == 0.5  # one-hot
    assert metrics.accuracy([[0, 1], [1, 0]], [[0, 1], [0, 1]]) == 0.5  # labels
