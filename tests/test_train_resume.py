"""Runs that are cut off and go on: the same bits, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import resumed_run as program

import tinygrad_ai
from tinygrad_ai import io, nn, optim, random
from tinygrad_ai.data import DataLoader
from tinygrad_ai.errors import DataError, DTypeError, ValueRangeError
from tinygrad_ai.optim.lr_scheduler import StepLR
from tinygrad_ai.train import EarlyStopping, LambdaCallback, LRScheduler, Trainer

X, Y = program.X, program.Y
QUIET = {"progress": False}


def plain(optimizer: str = "adam", width: int = 8, activation: type = nn.ReLU) -> Trainer:
    random.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, width), activation(), nn.Linear(width, 2))
    return Trainer(model, "cross_entropy", optimizer)


def weights(trainer: Trainer) -> bytes:
    return b"".join(t.numpy().tobytes() for t in trainer.model.state_dict().values())


class Cut(Exception):
    pass


def cut(after: int) -> LambdaCallback:
    """Ends a run by an error after that many steps."""
    left = [after]

    def count(batch: int, logs: dict[str, float]) -> None:
        left[0] -= 1
        if not left[0]:
            raise Cut

    return LambdaCallback(on_batch_end=count)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path) -> None:
    def start(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, program.__file__, *map(str, arguments)]
        root = str(Path(tinygrad_ai.__file__).parent.parent)
        settings = os.environ | {"PYTHONPATH": root}
        return subprocess.run(words, capture_output=True, text=True, env=settings, check=False)

    path = tmp_path / "run.safetensors"
    assert start(path, 11).returncode == -signal.SIGKILL  # epoch 2, step 4 of 7; saved at 3
    assert (io.load(path)["epoch"], io.load(path)["step"]) == (2, 3)
    resumed = start(path)
    assert resumed.stderr == ""
    assert resumed.stdout.strip() == program.digest(*program.run(None))


def looped(path: Path | None, *callbacks: LambdaCallback) -> str:
    """Three epochs over a DataLoader; what they end with."""
    trainer = program.trainer()
    schedule = LRScheduler(StepLR(trainer.optimizer, 4, 0.7), per="batch")
    loader = DataLoader((X, Y), 5, shuffle=True, seed=9)
    every = None if path is None else 1
    history = trainer.fit(
        loader, epochs=3, callbacks=[schedule, *callbacks], resume=path, save_every=every, **QUIET
    )
    return program.digest(trainer, history)


@pytest.fixture(scope="module")
def uninterrupted() -> str:
    random.manual_seed(4)
    return looped(None)


@pytest.mark.parametrize("steps", [1, 6, 7, 8, 20])
def test_every_place_can_be_gone_on_from(steps, uninterrupted, tmp_path) -> None:
    """Steps 7 and 14 end an epoch; they read what is left: one batch of 2."""
    path = tmp_path / "new" / "run.safetensors"
    random.manual_seed(4)
    with pytest.raises(Cut):
        looped(path, cut(steps))
    random.manual_seed(77)  # what is drawn in between does not matter
    assert looped(path) == uninterrupted


def test_a_run_that_is_over_stays_so_and_can_be_made_longer(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    trainer, history = program.run(path, epochs=2)
    again, repeated = program.run(path, epochs=2)
    assert program.digest(again, repeated) == program.digest(trainer, history)
    longer, history = program.run(path, epochs=4)
    assert program.digest(longer, history) == program.digest(*program.run(None, epochs=4))


def test_early_stopping_goes_on_counting(tmp_path) -> None:
    losses = iter([3.0, 2.0, 2.5, 2.4, 2.3, 1.0])
    worse = LambdaCallback(on_epoch_end=lambda e, logs: logs.update(loss=next(losses)))

    def fit(epochs: int) -> tuple[Trainer, EarlyStopping]:
        trainer, stop = plain(), EarlyStopping("loss", patience=3, restore_best=True)
        trainer.fit(
            X, Y, epochs=epochs, seed=1, callbacks=[worse, stop], resume=tmp_path / "r", **QUIET
        )
        return trainer, stop

    kept, _ = fit(2)
    trainer, stop = fit(9)
    assert trainer.history.epochs == [1, 2, 3, 4, 5]
    assert stop.best_epoch == 2
    assert weights(trainer) == weights(kept)


def test_resuming_heeds_frozen_layers_and_groups(tmp_path) -> None:
    trainer, _ = program.run(tmp_path / "r", epochs=1)
    assert not [*trainer.model.children()][4].weight.requires_grad
    resumed, _ = program.run(tmp_path / "r", epochs=3)
    assert [*resumed.model.children()][4].weight.requires_grad
    rates = [group["lr"] for group in resumed.optimizer.param_groups]
    assert rates[0] == pytest.approx(4 * rates[1])


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (lambda: plain(width=9), {}, r"the model there is .*8.*, here .*9"),
        (lambda: plain(activation=nn.Tanh), {}, r"the model there is .*ReLU.*, here .*Tanh"),
        (lambda: plain("adamw"), {}, "the optimizer there is 'Adam', here 'AdamW'"),
        (plain, {"x": X[:-1], "y": Y[:-1]}, "samples of the data there is 62, here 61"),
        (plain, {"x": X + 1}, "checksum of the data there is"),
        (plain, {"batch_size": 5}, "batch_size there is 32, here 5"),
        (plain, {"shuffle": False}, "shuffle there is True, here False"),
        (plain, {"callbacks": [EarlyStopping("loss")]}, "callbacks there is .*here .*EarlyStop"),
        (plain, {"validation_data": (X, Y)}, "validation data there is None"),
        (lambda: Trainer(plain().model, "nll", "adam"), {}, "the loss there is 'cross_entropy'"),
    ],
)
def test_the_state_of_another_run_changes_nothing(build, options, message, tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    plain().fit(X, Y, seed=0, resume=path, **QUIET)
    kept, trainer = path.read_bytes(), build()
    before, drawn = weights(trainer), random.generator().state_dict()
    with pytest.raises(DataError, match=message) as caught:
        arguments = {"x": X, "y": Y, "seed": 3} | options
        trainer.fit(**arguments, resume=path, epochs=2, **QUIET)
    assert "nothing was changed" in "".join(caught.value.__notes__)
    assert (weights(trainer), path.read_bytes()) == (before, kept)
    assert random.generator().state_dict() == drawn
    assert trainer.optimizer.state == {}
    assert trainer.history.epochs == []


def test_groups_of_other_parameters_are_refused_whole(tmp_path) -> None:
    path = tmp_path / "run.safetensors"
    plain().fit(X, Y, seed=0, resume=path, **QUIET)
    trainer = plain()
    parts = [{"params": [*layer.parameters()]} for layer in (trainer.model[0], trainer.model[2])]
    other = Trainer(trainer.model, "cross_entropy", optim.Adam(parts))
    before = weights(other)
    with pytest.raises(DataError, match=r"does not fit this run: .*groups of \[4\] parameters"):
        other.fit(X, Y, resume=path, **QUIET)
    assert weights(other) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda path: io.save(plain().model, path), "is no state of a training run"),
        (lambda path: path.write_bytes(b"PK\3\4"), "is not a whole safetensors file"),
        (lambda path: path.mkdir(), "Is a directory"),
    ],
)
def test_files_of_another_kind(content, message, tmp_path) -> None:
    content(tmp_path / "file")
    trainer = plain()
    before = weights(trainer)
    with pytest.raises(DataError, match=message):
        trainer.fit(X, Y, resume=tmp_path / "file", **QUIET)
    assert weights(trainer) == before


def test_arguments_of_resume() -> None:
    with pytest.raises(DTypeError, match="resume must be a string or a Path, not 3"):
        plain().fit(X, Y, resume=3, **QUIET)
    with pytest.raises(ValueRangeError, match="save_every=2, but there is no file"):
        plain().fit(X, Y, save_every=2, **QUIET)
    with pytest.raises(ValueRangeError, match=r"save_every must be .* at least 1"):
        plain().fit(X, Y, resume="r", save_every=0, **QUIET)


def test_a_scheduler_of_another_kind_is_named(tmp_path) -> None:
    def fit(kind: type, *settings: float) -> None:
        trainer = plain()
        schedule = LRScheduler(kind(trainer.optimizer, *settings))
        trainer.fit(X, Y, callbacks=[schedule], resume=tmp_path / "r", **QUIET)

    fit(StepLR, 3)
    with pytest.raises(DataError, match="the state is that of a StepLR, not a ExponentialLR"):
        fit(optim.lr_scheduler.ExponentialLR, 0.9)


def test_saving_does_not_change_the_run(tmp_path) -> None:
    plain_run, saved = plain(), plain()
    plain_run.fit(X, Y, epochs=2, seed=0, **QUIET)
    saved.fit(X, Y, epochs=2, seed=0, resume=tmp_path / "r", save_every=1, **QUIET)
    assert weights(plain_run) == weights(saved)
    assert [file.name for file in tmp_path.iterdir()] == ["r"]


def test_what_a_callback_remembers_is_given_back(tmp_path) -> None:
    class Counter(LambdaCallback):
        count = np.zeros(2)

        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            self.count = self.count + epoch

        def state_dict(self) -> dict[str, object]:
            return {"count": self.count}

        def load_state_dict(self, state: dict[str, object]) -> None:
            self.count = state["count"]

    for epochs, expected in ((2, 3.0), (3, 6.0)):
        counter = Counter()
        plain().fit(X, Y, epochs=epochs, callbacks=[counter], resume=tmp_path / "r", **QUIET)
        np.testing.assert_array_equal(counter.count, np.full(2, expected))
