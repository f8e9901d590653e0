"""What a program of ``tinygrad-ai train`` is, and how all of them learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinygrad_ai.data import DataLoader
from tinygrad_ai.optim.lr_scheduler import CosineAnnealingLR
from tinygrad_ai.train import History, LRScheduler, Trainer
from tinygrad_ai.train.terminal import Terminal


@dataclass(frozen=True)
class Settings:
    """What the command line decides; ``data`` is one of the program's."""

    data: str
    epochs: int
    batch_size: int
    lr: float
    seed: int = 0
    device: str = "cpu"
    jit: bool = True


@dataclass
class Run:
    """A model and its data, ready to be trained.

    ``summary`` describes the model. ``fit(progress)`` trains, ``test()`` measures on data that
    training never saw, ``show(terminal)`` gives lines that let a reader see the result, and
    ``pictures`` maps file names to functions that write them. ``chance`` is the test loss of
    guessing. ``metadata`` goes into the model file, beside the program's name.
    """

    model: Any
    summary: str
    fit: Callable[[bool], History]
    test: Callable[[], dict[str, float]]
    show: Callable[[Terminal], list[str]]
    chance: float = math.inf
    pictures: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Program:
    """``build()`` makes the untrained model, ``prepare(settings)`` a whole run.

    ``defaults`` are the settings for each data set it can learn from, the usual one first.
    """

    name: str
    summary: str
    build: Callable[[], Any]
    prepare: Callable[[Settings], Run]
    defaults: tuple[Settings, ...]


def learn(
    trainer: Trainer, x: Any, y: Any, settings: Settings, progress: bool, **more: Any
) -> History:
    """Fits ``trainer``, its learning rate falling to 0 along half a cosine, a step a batch.

    Data as ``trainer.fit`` takes them; a DataLoader ``x`` has batches of its own.
    """
    batches = len(x) if isinstance(x, DataLoader) else -(-len(x) // settings.batch_size)
    decay = CosineAnnealingLR(trainer.optimizer, settings.epochs * batches)
    return trainer.fit(
        x,
        y,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        callbacks=[LRScheduler(decay, per="batch")],
        progress=progress,
        seed=settings.seed,
        **more,
    )
