"""Loss and metrics over the batches of an epoch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai.train.names import Metric, ignored_label, weight_of


class Meter:
    """Loss and metrics over the batches of an epoch, exact over the epoch.

    The loss is averaged, weighted by what each batch's mean was divided by, metrics that are means
    by the elements of its target; other metrics are computed once, from all targets and outputs.
    Targets with the label that ``loss`` ignores count nowhere.
    """

    def __init__(self, metrics: dict[str, Metric], loss: Any = None) -> None:
        self.metrics = metrics
        self.loss = loss
        self.ignored = ignored_label(loss)
        self.sums = dict.fromkeys(["loss", *(n for n, m in metrics.items() if m.is_mean)], 0.0)
        self.weights = dict.fromkeys(self.sums, 0.0)
        self.seen: list[tuple[Any, Any]] = []

    def add(self, loss: float, target: Any, output: Any) -> None:
        """Takes in a batch."""
        values = {"loss": (loss, weight_of(self.loss, target))}
        if not values["loss"][1]:
            return
        if self.metrics:
            pair = counted(target.numpy(), output.numpy(), self.ignored)
            means = [(n, m.function) for n, m in self.metrics.items() if m.is_mean]
            values |= {name: (function(*pair), pair[0].size) for name, function in means}
            if len(means) < len(self.metrics):
                self.seen.append(pair)
        for name, (value, weight) in values.items():
            self.sums[name] += value * weight
            self.weights[name] += weight

    def means(self) -> dict[str, float]:
        """What is known while the epoch goes on: NaN until a target counts."""
        return {
            n: s / self.weights[n] if self.weights[n] else math.nan for n, s in self.sums.items()
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

    def state_dict(self) -> dict[str, Any]:
        """What was taken in so far."""
        return {"sums": dict(self.sums), "weights": dict(self.weights), "seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from where ``state`` was taken."""
        self.sums, self.weights = dict(state["sums"]), dict(state["weights"])
        self.seen = list(state["seen"])


def counted(true: Any, output: Any, ignored: int | None) -> tuple[Any, Any]:
    """Targets and outputs without those whose label is ``ignored``; classes end on axis 1."""
    if ignored is None or true.dtype.kind == "f" or (kept := true != ignored).all():
        return true, output
    return true[kept], (np.moveaxis(output, 1, -1) if output.ndim > true.ndim else output)[kept]
