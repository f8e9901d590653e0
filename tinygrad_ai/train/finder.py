"""The learning-rate range test: a short training whose learning rate grows from step to step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import numpy as np

from tinygrad_ai import plots, random
from tinygrad_ai.data import DataLoader
from tinygrad_ai.errors import ValueRangeError, whole_number
from tinygrad_ai.train.feed import Feed, ToModel
from tinygrad_ai.train.probe import probe
from tinygrad_ai.train.state import Snapshot
from tinygrad_ai.train.step import parts_of, train_step
from tinygrad_ai.train.trainer import Trainer

KEEP = 0.8  # of the smoothed loss in each step
TOO_HIGH = 4.0  # times the best loss so far: from there on it only grows


@dataclass(frozen=True)
class RateCurve:
    """The loss at each learning rate tried: ``rates``, ``losses`` and ``smoothed``, one a step.

    ``smoothed`` is the mean of the losses so far, each counting a fifth less than the next one.
    ``suggestion`` is a tenth of the rate at which it was lowest; None where it never fell.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float | None

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws loss against learning rate to a picture (.png, .svg, .pdf), whole or not at all.

        Raises DataError where matplotlib is missing or the file cannot be written, ValueRangeError
        for a suffix of no picture.
        """
        plots.search(self.rates, self.losses, self.smoothed, self.suggestion, path)

    def __repr__(self) -> str:
        found = "the loss never fell" if self.suggestion is None else f"try {self.suggestion:.2g}"
        tried = f"{len(self.rates)} rates from {self.rates[0]:.2g} to {self.rates[-1]:.2g}"
        return f"RateCurve({tried}: {found})"


def find_lr(
    trainer: Trainer,
    x: Any,
    y: Any = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 32,
    seed: int = 0,
) -> RateCurve:
    """Trains ``steps`` steps at learning rates that grow by equal factors, and undoes it.

    The range test of Smith, "Cyclical learning rates for training neural networks" (2017). It ends
    early where the smoothed loss is above four times its lowest, or no longer finite. Groups with
    learning rates of their own keep their ratio to the first one, which ``low`` and ``high`` are
    for. Data as for ``fit``; samples come in an order that ``seed`` fixes, again and again where
    ``steps`` are more than an epoch.

    Afterwards model, optimiser and generator are as before; a DataLoader given as ``x`` lends only
    its samples and their number in a batch. Raises what ``fit`` raises for data that do not fit,
    and ValueRangeError unless 0 < low < high.
    """
    whole_number("find_lr", "steps", steps, least=2)
    whole_number("find_lr", "batch_size", batch_size, least=1)
    whole_number("find_lr", "seed", seed, least=0)
    if not 0 < low < high < np.inf:
        raise ValueRangeError(f"find_lr: needs 0 < low < high, got low={low!r} and high={high!r}")
    feed = Feed("find_lr", x, y)
    probe(trainer, feed)
    size = feed.loader.batch_size if feed.loader is not None else batch_size
    batches = DataLoader(feed.dataset, size, shuffle=True, seed=seed)
    rates = np.geomspace(low, high, steps).tolist()
    losses: list[float] = []
    smoothed: list[float] = []
    before, total = Snapshot(trainer), 0.0
    try:
        random.manual_seed(seed)
        for loss in _losses(trainer, batches, rates):
            losses.append(loss)
            total = KEEP * total + (1 - KEEP) * loss
            smoothed.append(total / (1 - KEEP ** len(losses)))
            if smoothed[-1] > TOO_HIGH * min(smoothed):
                break
    finally:
        before.restore()
    lowest = int(np.argmin(smoothed)) if smoothed else 0
    suggestion = rates[lowest] / 10 if lowest else None
    return RateCurve(rates[: len(losses)], losses, smoothed, suggestion)


def _losses(trainer: Trainer, batches: DataLoader, rates: list[float]) -> Iterator[float]:
    """The loss before a step at each of ``rates``, until it is no longer finite."""
    groups = trainer.optimizer.param_groups
    ratios = [group["lr"] / groups[0]["lr"] for group in groups]
    endless = chain.from_iterable(repeat(batches))
    convert = ToModel(trainer.model)
    with trainer.mode(training=True):
        for rate in rates:
            for group, ratio in zip(groups, ratios, strict=True):
                group["lr"] = rate * ratio
            parts = parts_of(trainer.loss, convert, [*islice(endless, trainer.accumulate)])
            made = train_step(
                trainer.model, trainer.loss, trainer.optimizer, parts, trainer.clip_norm
            )
            loss = sum(
                value.item() * part.share for (value, _), part in zip(made, parts, strict=True)
            )
            if not np.isfinite(loss):
                return
            yield loss
