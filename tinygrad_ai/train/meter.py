"""Loss and metrics over the batches of an epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.train.names import Metric


class Meter:
    """Loss and metrics over the batches of an epoch, exact over the epoch.

    Means over elements are averaged, weighted by the elements of a batch's target; other metrics
    are computed once, from all targets and outputs. Targets with the label ``ignored`` count
    nowhere.
    """

    def __init__(self, metrics: dict[str, Metric], ignored: int | None = None) -> None:
        self.metrics = metrics
        self.ignored = ignored
        self.sums = dict.fromkeys(["loss", *(n for n, m in metrics.items() if m.is_mean)], 0.0)
        self.weight = 0
        self.seen: list[tuple[Any, Any]] = []

    def add(self, loss: float, target: Any, output: Any) -> None:
        """Takes in a batch."""
        values = {"loss": loss}
        weight = target.size
        if self.metrics or self.ignored is not None:
            pair = counted(target.numpy(), output.numpy(), self.ignored)
            weight = pair[0].size
            if not weight:
                return
            values |= {n: m.function(*pair) for n, m in self.metrics.items() if m.is_mean}
            if len(self.sums) <= len(self.metrics):
                self.seen.append(pair)
        for name, value in values.items():
            self.sums[name] += value * weight
        self.weight += weight

    def means(self) -> dict[str, float]:
        """What is known while the epoch goes on: NaN until a target counts."""
        return {
            n: total / self.weight if self.weight else math.nan for n, total in self.sums.items()
        }

    def result(self) -> dict[str, float]:
        """Everything, in the order in which it was asked for."""
        logs = self.means()
        for name, metric in self.metrics.items():
            if metric.is_mean:
                logs[name] = logs.pop(name)
            else:
                true, predicted = (np.concatenate(part) for part in zip(*self.seen, strict=True))
                logs[name] = float(metric.function(true, predicted))
        return logs


def counted(true: Any, output: Any, ignored: int | None) -> tuple[Any, Any]:
    """Targets and outputs without those whose label is ``ignored``; classes end on axis 1."""
    if ignored is None or true.dtype.kind == "f" or (kept := true != ignored).all():
        return true, output
    return true[kept], (np.moveaxis(output, 1, -1) if output.ndim > true.ndim else output)[kept]
