"""What happens beside training: stopping early, keeping files, changing the learning rate."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinygrad_ai import io
from tinygrad_ai.errors import DataError, DTypeError, ValueRangeError, whole_number
from tinygrad_ai.files import make_folder
from tinygrad_ai.optim import Optimizer

Logs = dict[str, float]
LARGER_IS_BETTER = ("acc", "precision", "recall", "f1", "auc", "r2")


@dataclass(frozen=True)
class Plan:
    """What a run of ``fit`` will do.

    ``names`` are those of an epoch's logs, ``running`` those of a batch's.
    """

    epochs: int
    batches: int
    samples: int
    names: tuple[str, ...]
    running: tuple[str, ...]


class Callback:
    """Base of the callbacks: override what is of interest. Epochs and batches count from 1.

    ``trainer`` and ``plan`` are set before training begins. ``trainer.stop_training = True`` ends
    it after the epoch. ``logs`` are the epoch's numbers so far; what ``on_epoch_end`` adds to them
    goes into the History.
    """

    trainer: Any
    plan: Plan

    def on_train_begin(self) -> None:
        """Before the first epoch: the place to find out what is wrong."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before the first batch of an epoch."""

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        """After the optimiser's step."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After the last batch and the validation."""

    def on_train_end(self) -> None:
        """After training, however it ended."""

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed must know of the time before: numbers, texts, arrays.

        A callback that overrides it overrides ``load_state_dict`` too, which is called after
        ``on_train_begin``. The first epoch of a resumed run may begin anew, in its middle.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where ``state`` was taken."""


class LambdaCallback(Callback):
    """A callback from functions: ``LambdaCallback(on_epoch_end=lambda epoch, logs: …)``."""

    def __init__(self, **hooks: Callable[..., Any]) -> None:
        for name, function in hooks.items():
            if not (name.startswith("on_") and hasattr(Callback, name)):
                known = ", ".join(hook for hook in vars(Callback) if hook.startswith("on_"))
                raise ValueRangeError(f"LambdaCallback: no hook {name!r}; there are {known}")
            setattr(self, name, function)


class LRScheduler(Callback):
    """Steps ``scheduler`` after every epoch or batch and notes ``lr`` in the epoch's logs.

    ``monitor`` names what a scheduler like ReduceLROnPlateau is told at each step. A scheduler per
    epoch is stepped when the epoch's ``lr`` has been noted. Raises DTypeError for what is no
    scheduler, ValueRangeError for a ``monitor`` too much or too little; and, at the start of
    training, for one that is not measured and for a scheduler of another optimiser.
    """

    def __init__(self, scheduler: Any, per: str = "epoch", monitor: str | None = None) -> None:
        if per not in ("epoch", "batch"):
            raise ValueRangeError(f"LRScheduler: per={per!r} is neither 'epoch' nor 'batch'")
        kind = type(scheduler).__name__
        if isinstance(scheduler, type | Optimizer) or not hasattr(scheduler, "step"):
            raise DTypeError(
                f"LRScheduler: a {kind} is no scheduler",
                "   help: LRScheduler(CosineAnnealingLR(optimizer, steps))",
            )
        takes = inspect.signature(scheduler.step).parameters.values()
        if not monitor and any(p.default is p.empty for p in takes):
            raise ValueRangeError(
                f"LRScheduler: {kind} follows a number, which monitor must name",
                '   help: LRScheduler(scheduler, monitor="val_loss")',
            )
        if monitor and not takes:
            raise ValueRangeError(f"LRScheduler: {kind} follows no number: leave out monitor")
        self.scheduler = scheduler
        self.per = per
        self.monitor = monitor

    def on_train_begin(self) -> None:
        own = self.trainer.optimizer
        if getattr(self.scheduler, "optimizer", own) is not own:
            raise ValueRangeError(
                f"LRScheduler: the {type(self.scheduler).__name__} changes another optimiser than "
                "the one that trains",
                "   help: give one optimiser to both, or make it of trainer.optimizer",
            )
        if self.monitor:
            plan = self.plan
            _known(self, self.monitor, plan.names if self.per == "epoch" else plan.running)

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if self.per == "batch":
            self._step(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        logs["lr"] = float(self.trainer.optimizer.param_groups[0]["lr"])
        if self.per == "epoch":
            self._step(logs)

    def state_dict(self) -> dict[str, Any]:
        scheduler = self.scheduler
        own = scheduler.state_dict() if hasattr(scheduler, "state_dict") else {}
        return {"kind": type(scheduler).__name__, "scheduler": own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["kind"] != (kind := type(self.scheduler).__name__):
            raise DataError(f"LRScheduler: the state is that of a {state['kind']}, not a {kind}")
        if state["scheduler"]:
            self.scheduler.load_state_dict(state["scheduler"])

    def _step(self, logs: Logs) -> None:
        self.scheduler.step(*([logs[self.monitor]] if self.monitor else []))


class _Monitor(Callback):
    """Base of the callbacks that follow one number and know when it is at its best."""

    def __init__(self, monitor: str, min_delta: float = 0.0, mode: str = "auto") -> None:
        if mode not in ("auto", "min", "max"):
            raise ValueRangeError(f"{type(self).__name__}: mode {mode!r} is none of auto, min, max")
        if not isinstance(monitor, str) or not isinstance(min_delta, int | float):
            raise DTypeError(
                f"{type(self).__name__}: monitor must be a name and min_delta a number, not "
                f"{monitor!r} and {min_delta!r}"
            )
        self.monitor = monitor
        self.min_delta = abs(min_delta)
        larger = any(part in monitor for part in LARGER_IS_BETTER)
        self.sign = 1 if mode == "max" or (mode == "auto" and larger) else -1
        self.best = -math.inf

    def on_train_begin(self) -> None:
        _known(self, self.monitor, self.plan.names)
        self.best = -math.inf

    def improved(self, logs: Logs) -> bool:
        """Whether the number is better than the best so far by ``min_delta``; remembers it."""
        value = self.sign * logs[self.monitor]
        if not value > self.best + self.min_delta:  # NaN is not
            return False
        self.best = value
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best": float(self.best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]


class EarlyStopping(_Monitor):
    """Ends training when ``monitor`` has not improved by ``min_delta`` for ``patience`` epochs.

    ``restore_best`` gives the model the weights of ``best_epoch`` when training ends, however it
    ends. ``mode`` is "min", "max" or "auto" (larger is better for accuracy, precision, recall, F1
    and AUC). Raises ValueRangeError at the start of training if ``monitor`` is not measured.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        min_delta: float = 0.0,
        restore_best: bool = True,
        mode: str = "auto",
    ) -> None:
        super().__init__(monitor, min_delta, mode)
        self.patience = whole_number("EarlyStopping", "patience", patience, least=1)
        self.restore_best = restore_best
        self.best_epoch: int | None = None
        self._weights: dict[str, Any] | None = None

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self.best_epoch, self._weights = None, None

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if self.improved(logs):
            self.best_epoch = epoch
            if self.restore_best:
                state = self.trainer.model.state_dict()
                self._weights = {name: tensor.numpy().copy() for name, tensor in state.items()}
        elif epoch - (self.best_epoch or 0) >= self.patience:
            self.trainer.stop_training = True

    def on_train_end(self) -> None:
        if self._weights is not None:
            self.trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"best_epoch": self.best_epoch, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.best_epoch, self._weights = state["best_epoch"], state["weights"]


class Checkpoint(_Monitor):
    """Saves the model after every epoch, or, with ``save_best_only``, when ``monitor`` improved.

    ``path`` may name numbers of the epoch: ``"runs/{epoch:03d}-{val_loss:.3f}.safetensors"``.
    Raises ValueRangeError for ``save_best_only`` without ``monitor``, and at the start of training
    for names that are not measured; DataError where safetensors is missing or the file cannot be
    written. The folder is made where it is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        save_best_only: bool = False,
        mode: str = "auto",
    ) -> None:
        if save_best_only and monitor is None:
            raise ValueRangeError(
                "Checkpoint: save_best_only needs to know what is best",
                '   help: Checkpoint(path, monitor="val_loss", save_best_only=True)',
            )
        if not isinstance(path, str | os.PathLike):
            raise DTypeError(f"Checkpoint: path must be a string or a Path, not {path!r}")
        super().__init__(monitor or "loss", mode=mode)
        self.path = os.fspath(path)
        self.save_best_only = save_best_only

    def on_train_begin(self) -> None:
        super().on_train_begin()
        try:
            sample = self.path.format(epoch=1, **dict.fromkeys(self.plan.names, 1.0))
        except (KeyError, IndexError, ValueError) as error:
            raise ValueRangeError(
                f"Checkpoint: path {self.path!r} cannot be filled in: {error}",
                f"   there are: epoch, {', '.join(self.plan.names)}",
            ) from None
        make_folder(Path(sample).parent)
        io.check_savable(sample)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self.save_best_only or self.improved(logs):
            path = Path(self.path.format(epoch=epoch, **logs))
            make_folder(path.parent)
            io.save(self.trainer.model, path, {"epoch": epoch, "logs": logs})


def _known(callback: Callback, monitor: str, names: tuple[str, ...]) -> None:
    """Raises ValueRangeError for a ``monitor`` that is none of the ``names`` in the logs."""
    if monitor not in names:
        raise ValueRangeError(
            f"{type(callback).__name__}: {monitor!r} is not measured; there are {', '.join(names)}",
            "   help: fit(…, validation_split=0.1) measures val_loss" if "val_" in monitor else "",
        )
