"""What a training run measured, epoch by epoch."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass, field

from tinygrad_ai import plots
from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.files import atomic_write


@dataclass(repr=False)
class History:
    """One row an epoch: ``epochs`` counts from 1, ``history[name]`` has one number for each.

    Names are ``loss`` and the metrics', over the training data as it was seen during the epoch,
    and the same with ``val_`` before them over the validation data after it.
    ``interrupted`` is True where Ctrl-C ended the run; the epoch it cut off is not listed.
    """

    epochs: list[int] = field(default_factory=list)
    history: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False

    def add(self, epoch: int, logs: dict[str, float]) -> None:
        """Appends the row of ``epoch``."""
        self.epochs.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> list[float]:
        if name not in self.history:
            raise ValueRangeError(f"History: no {name!r}; there are {', '.join(self.history)}")
        return self.history[name]

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the curves to a picture (format by suffix: .png, .svg, .pdf), whole or not at all.

        The learning rate, which was chosen and not measured, is left out.

        Raises DataError where matplotlib is missing (extra ``plot``) or the file cannot be written,
        ValueRangeError before the first epoch is over and for a suffix of no picture.
        """
        if not self.epochs:
            raise ValueRangeError("History.plot: no epoch is over, there is nothing to draw")
        columns = {name: values for name, values in self.history.items() if name != "lr"}
        plots.curves(self.epochs, columns, path)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Writes ``epoch,loss,…`` and a row an epoch, whole or not at all; numbers round-trip.

        Raises DataError where the file cannot be written.
        """
        with (
            atomic_write(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as file,
        ):
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["epoch", *self.history])
            rows.writerows(zip(self.epochs, *self.history.values(), strict=True))

    def __repr__(self) -> str:
        facts = [f"{name} {values[-1]:.4g}" for name, values in self.history.items()]
        head = f"{len(self.epochs)} epochs" + (", interrupted" if self.interrupted else "")
        return f"History({head}{': ' if facts else ''}{', '.join(facts)})"
