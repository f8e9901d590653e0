"""The training loop: one call of ``fit``, and where it stands."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai.data import DataLoader
from tinygrad_ai.errors import AnomalyError, DataError
from tinygrad_ai.train import state
from tinygrad_ai.train.callbacks import Callback, Plan
from tinygrad_ai.train.feed import Feed, ToModel
from tinygrad_ai.train.history import History
from tinygrad_ai.train.meter import Meter
from tinygrad_ai.train.names import host, name_of
from tinygrad_ai.train.step import CompiledStep, Part, parts_of, train_step
from tinygrad_ai.transforms import detect_anomaly


class Diverged(AnomalyError):
    """Loss or weights were no longer finite. ``history`` has the whole epochs before.

    Model and optimiser are again as they were after the last of them.
    """

    history: History


class Fitting:
    """One call of ``fit`` on checked arguments: ``epoch`` and ``step`` of it, the loop, its state.

    A step reads ``trainer.accumulate`` batches, at the end of an epoch what is left of them.
    ``save()`` is called at every place from which a run can go on: before the first epoch, after
    each, and after every ``save_every`` steps.
    """

    def __init__(
        self,
        trainer: Any,
        loss: Callable[..., Any],
        feed: Feed,
        held: Feed | None,
        batches: DataLoader,
        callbacks: list[Callback],
        epochs: int,
    ) -> None:
        self.trainer = trainer
        self.loss = loss
        self.feed = feed
        self.held = held
        self.batches = batches
        self.callbacks = callbacks
        self.epochs = epochs
        self.steps = -(-len(batches) // trainer.accumulate)  # in an epoch
        self.history = History()
        self.epoch, self.step = 1, 0  # the one under way, and what is done of it
        self.meter = Meter(trainer.metrics, loss)
        self.convert = ToModel(trainer.model)
        self.take = CompiledStep() if trainer.jit and not trainer.debug else train_step

    def plan(self) -> Plan:
        """What lies ahead, for the callbacks."""
        names = ("loss", *self.trainer.metrics)
        names += tuple(f"val_{name}" for name in names) if self.held else ()
        return Plan(self.epochs, self.steps, len(self.feed), names, tuple(self.meter.sums))

    def _place(self) -> str:
        if self.step:
            return f"after batch {self.step} of epoch {self.epoch}"
        return f"after epoch {self.epoch - 1}" if self.epoch > 1 else "before the first epoch"

    # ---------------------------------------------------------------------------------- the loop

    def run(self, save: Callable[[], None], save_every: int | None) -> None:
        """Trains to the end, to Ctrl-C, or until a loss is not finite: that raises Diverged.

        AnomalyError, of which Diverged is one, takes model and optimiser back to where the epoch
        began, or where the run was taken up.
        """
        trainer = self.trainer
        good, place = state.Snapshot(trainer), self._place()
        try:
            save()
            while self.epoch <= self.epochs and not trainer.stop_training:
                self._epoch(save, save_every)
                good, place = state.Snapshot(trainer), self._place()
                save()
        except KeyboardInterrupt:
            self.history.interrupted = True
        except AnomalyError as error:
            good.restore()
            error.add_note(f"   model and optimizer are again as they were {place}")
            raise
        finally:
            trainer.latest_step = None
            for callback in self.callbacks:
                callback.on_train_end()

    def _epoch(self, save: Callable[[], None], save_every: int | None) -> None:
        trainer = self.trainer
        for callback in self.callbacks:
            callback.on_epoch_begin(self.epoch)
        with trainer.mode(training=True), detect_anomaly() if trainer.debug else nullcontext():
            for group in self._groups():
                self._step(group)
                for callback in self.callbacks:
                    callback.on_batch_end(self.step, self.meter.means())
                if save_every and self.step % save_every == 0:
                    save()
        self._check_weights()
        logs = self.meter.result()
        if self.held is not None:
            measured = trainer.measure(self.held, self.batches.batch_size)
            logs |= {f"val_{name}": value for name, value in measured.items()}
        for callback in self.callbacks:
            callback.on_epoch_end(self.epoch, logs)
        self.history.add(self.epoch, logs)
        self.epoch, self.step = self.epoch + 1, 0
        self.meter = Meter(trainer.metrics, self.loss)

    def _groups(self) -> Iterator[list[Any]]:
        """The batches of each step that is left of the epoch.

        The loader is never asked for more than that, so that between steps its place is exact.
        """
        batches, size = iter(self.batches), self.trainer.accumulate
        for first in range(self.step * size, len(self.batches), size):
            yield [next(batches) for _ in range(min(size, len(self.batches) - first))]
        next(batches, None)  # ends its epoch

    def _step(self, group: list[Any]) -> None:
        """One step along the mean over all samples of ``group``, if there are any that count."""
        self.step += 1
        parts = parts_of(self.loss, self.convert, group)
        if not parts:
            return
        trainer = self.trainer
        arguments = trainer.model, self.loss, trainer.optimizer, parts, trainer.clip_norm
        trainer.latest_step = partial(train_step, *arguments)
        for (loss, output), part in zip(self.take(*arguments), parts, strict=True):
            value = float(loss.item())
            if not np.isfinite(value):
                raise self._diverged(f"the loss is {value}", part)
            self.meter.add(value, part.target, output)

    def _check_weights(self) -> None:
        """Raises Diverged where the last step has left weights that are not finite."""
        for name, parameter in self.trainer.model.named_parameters():
            if not np.isfinite(host(parameter)).all():
                raise self._diverged(f"the weights {name} are not finite")

    def _diverged(self, what: str, part: Part | None = None) -> Diverged:
        bad = [x for x in part.inputs if not np.isfinite(host(x)).all()] if part else []
        lr = self.trainer.optimizer.param_groups[0]["lr"]
        error = Diverged(
            f"fit: {what} in epoch {self.epoch}, batch {self.step}",
            "   the inputs of this batch are not finite: mend or leave out such samples"
            if bad
            else f"   help: try a smaller learning rate ({lr:g} now), Trainer(clip_norm=1), inputs "
            "scaled to a mean of 0 and a deviation of 1, or a loss from logits",
            "   help: Trainer(debug=True) stops at the operation that makes it",
        )
        error.history = self.history
        return error

    # -------------------------------------------------------------------------------- its state

    def _remembering(self) -> list[Callback]:
        """The callbacks that have something to remember."""
        return [c for c in self.callbacks if type(c).state_dict is not Callback.state_dict]

    def identity(self) -> dict[str, Any]:
        """What two runs must have in common for one to take over the other's state."""
        held = {} if self.held is None else self.held.identity()
        return {
            "the model": state.model_identity(self.trainer.model),
            "the loss": name_of(self.loss),
            "the optimizer": type(self.trainer.optimizer).__name__,
            **{f"{name} of the data": value for name, value in self.feed.identity().items()},
            **{f"{name} of the validation data": value for name, value in held.items()},
            "batch_size": self.batches.batch_size,
            "shuffle": self.batches.shuffle,
            "accumulate": self.trainer.accumulate,
            "the list of measured numbers": list(self.plan().names),
            "the list of callbacks": [type(c).__name__ for c in self._remembering()],
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the run depends on."""
        held = self.held.loader if self.held is not None else None
        columns = {n: np.asarray(v, np.float64) for n, v in self.history.history.items()}
        return {
            **state.state_of(self.trainer),
            "batches": self.batches.state_dict(),
            "held": held.state_dict() if held is not None else {},
            "epoch": self.epoch,
            "step": self.step,
            "meter": self.meter.state_dict(),
            "history": {"epochs": list(self.history.epochs), "columns": columns},
            "stopped": self.trainer.stop_training,
            "callbacks": [callback.state_dict() for callback in self._remembering()],
        }

    def load_state_dict(self, saved: dict[str, Any], path: str | os.PathLike[str]) -> None:
        """Goes on from where ``saved`` was taken; where it does not fit, nothing is changed.

        Raises DataError that names the first difference.
        """
        state.check_identity(path, saved["identity"], self.identity())
        before = self.state_dict()
        try:
            self._load(saved)
        except Exception as error:
            self._load(before)
            raise DataError(
                f"fit: {os.fspath(path)} does not fit this run: {error}", "   nothing was changed"
            ) from error

    def _load(self, saved: dict[str, Any]) -> None:
        for callback, remembered in zip(self._remembering(), saved["callbacks"], strict=True):
            callback.load_state_dict(remembered)
        state.load_into(self.trainer, saved)  # after the schedules, which set learning rates
        self.batches.load_state_dict(saved["batches"])
        if saved["held"]:
            self.held.loader.load_state_dict(saved["held"])  # type: ignore[union-attr]
        self.epoch, self.step = saved["epoch"], saved["step"]
        self.meter.load_state_dict(saved["meter"])
        columns = saved["history"]["columns"].items()
        self.history = History(
            list(saved["history"]["epochs"]), {name: column.tolist() for name, column in columns}
        )
        self.trainer.stop_training = saved["stopped"]
