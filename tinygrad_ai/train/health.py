"""Is training healthy: gradients, sizes of steps and activations of one step, in plain words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TextIO

import numpy as np

from tinygrad_ai.autodiff import Node, mode
from tinygrad_ai.data import DataLoader
from tinygrad_ai.errors import whole_number
from tinygrad_ai.train.callbacks import Callback, Logs
from tinygrad_ai.train.feed import Feed, ToModel
from tinygrad_ai.train.names import host
from tinygrad_ai.train.probe import probe
from tinygrad_ai.train.state import Snapshot
from tinygrad_ai.train.step import parts_of, train_step
from tinygrad_ai.train.terminal import Terminal
from tinygrad_ai.train.trainer import Trainer

IDLE = 0.5  # of a layer's units: from there on it is worth a word
#: an update of about 1e-3 of the weights is usual; above and below these it is worth a word
LARGEST_STEP, SMALLEST_STEP = 0.1, 1e-6
VANISHED = 1e-4  # the first layer's gradients, as a part of the last one's
EDGE = 0.99  # of its range: where tanh and sigmoid hardly change any more
SATURATED: dict[str, Callable[[Any], Any]] = {
    "tanh": lambda y: np.abs(y) > EDGE,
    "sigmoid": lambda y: np.abs(2 * y - 1) > EDGE,
}


@dataclass(frozen=True)
class Weights:
    """A parameter in the step: the norms of it and of its gradient, and ‖step‖/‖parameter‖.

    ``gradient`` is None where it is frozen or the loss does not depend on it.
    """

    name: str
    shape: tuple[int, ...]
    frozen: bool
    norm: float
    gradient: float | None
    update: float


@dataclass(frozen=True)
class Activation:
    """An activation behind the parameters of ``layer``: the share of its units that do not learn.

    Of relu, units that fire for no sample; of tanh and sigmoid, outputs in the outermost 1/2 % of
    the range on either side. A unit is what stands beside the axis of samples, a whole channel
    where there are four axes or more.
    """

    layer: str
    kind: str
    units: int
    share: float


@dataclass(frozen=True)
class Health:
    """What one step showed; ``text()`` is all of it, ``warnings`` what should be looked after."""

    samples: int
    loss: float
    weights: tuple[Weights, ...]
    activations: tuple[Activation, ...]

    @property
    def warnings(self) -> list[str]:
        """Plain sentences, none where all is well."""
        ill = [a for a in self.activations if a.share >= IDLE]
        return [*map(_of_activation, ill), *self._of_weights(), *self._of_depth()]

    def text(self) -> str:
        """Two tables and the warnings."""
        lines = [f"loss {self.loss:.4g} of {self.samples} samples", ""]
        rows = [["parameter", "shape", "norm", "gradient", "update/weight"]]
        rows += [[w.name, str(w.shape), f"{w.norm:.3g}", *_measured(w)] for w in self.weights]
        lines += [*_table(rows), ""]
        if self.activations:
            rows = [["activation", "units", "do not learn"]]
            rows += [
                [f"{a.kind} of {a.layer}", f"{a.units}", f"{a.share:.0%}"] for a in self.activations
            ]
            lines += [*_table(rows), ""]
        return "\n".join([*lines, *(self.warnings or ["nothing stands out"])])

    def __repr__(self) -> str:
        return f"Health(loss {self.loss:.4g}, {len(self.warnings)} warnings)"

    def _of_weights(self) -> Iterator[str]:
        for w in self.weights:
            if w.frozen:
                continue
            if w.gradient is None:
                yield f"{w.name}: no gradient reaches it: the loss does not depend on it"
            elif not np.isfinite(w.gradient):
                yield (
                    f"{w.name}: its gradient is not finite: lower the learning rate or scale the "
                    "inputs; Trainer(debug=True) finds where it begins"
                )
            elif w.gradient == 0:
                yield f"{w.name}: its gradient is exactly 0, it does not learn from this batch"
            elif len(w.shape) > 1 and w.update > LARGEST_STEP:
                yield f"{w.name}: one step changes it by {w.update:.0%}: lower the learning rate"
            elif len(w.shape) > 1 and 0 < w.update < SMALLEST_STEP:
                yield (
                    f"{w.name}: a step changes it by only {w.update:.0e} of its size: raise the "
                    "learning rate"
                )

    def _of_depth(self) -> Iterator[str]:
        deep = [w for w in self.weights if len(w.shape) > 1 and w.gradient]
        sizes = [(w.gradient or 0.0) / np.sqrt(np.prod(w.shape)) for w in deep]
        if len(deep) > 1 and sizes[0] < VANISHED * sizes[-1]:
            yield (
                f"{deep[0].name}: its gradients are {sizes[0] / sizes[-1]:.0e} of those of "
                f"{deep[-1].name}: they vanish on the way back; normalise between the layers, or "
                "use relu and skip connections"
            )


class HealthReport(Callback):
    """Prints the :class:`Health` of the latest batch after every ``every`` steps of an epoch.

    ``reports`` keeps them as ``(epoch, step, Health)``. It repeats the step and undoes it, so the
    run ends with the same bits as without. With ``only_warnings`` it prints only those.
    """

    def __init__(
        self, every: int = 100, only_warnings: bool = False, stream: TextIO | None = None
    ) -> None:
        self.every = whole_number("HealthReport", "every", every, least=1)
        self.only_warnings = only_warnings
        self.terminal = Terminal(stream or sys.stderr)
        self.reports: list[tuple[int, int, Health]] = []

    def on_epoch_begin(self, epoch: int) -> None:
        self.epoch = epoch

    def on_batch_end(self, batch: int, logs: Logs) -> None:
        if batch % self.every or self.trainer.latest_step is None:
            return
        found = _observed(self.trainer, self.trainer.latest_step)
        self.reports.append((self.epoch, batch, found))
        said = "\n".join(found.warnings) if self.only_warnings else found.text() + "\n"
        if said:
            self.terminal.write(f"\nafter batch {batch} of epoch {self.epoch}: {said}\n")


def health(trainer: Trainer, x: Any, y: Any = None, batch_size: int = 256) -> Health:
    """What a step on the first ``batch_size`` samples would do to the model; nothing is changed.

    Norms of parameters and of their gradients (as the optimiser gets them, clipped), the size of
    the step against that of the weights, units of relu that never fire, saturated tanh and sigmoid.
    Layers without gradients are not looked into. Data, and errors for those that do not fit, as for
    ``fit``.
    """
    whole_number("health", "batch_size", batch_size, least=1)
    feed = Feed("health", x, y)
    probe(trainer, feed)
    batch = next(iter(DataLoader(feed.dataset, batch_size)))
    parts = parts_of(trainer.loss, ToModel(trainer.model), [batch])
    step = partial(
        train_step, trainer.model, trainer.loss, trainer.optimizer, parts, trainer.clip_norm
    )
    with trainer.mode(training=True):
        return _observed(trainer, step)


def _observed(trainer: Trainer, step: Callable[[], list[Any]]) -> Health:
    """Takes ``step`` with open eyes, and undoes it."""
    before = Snapshot(trainer)
    parameters = dict(trainer.model.named_parameters())
    try:
        with _watching() as nodes:
            made = step()
        owners = {id(p.node): name for name, p in parameters.items() if p.node is not None}
        activations = [_activation(node, owners) for node in nodes]
        old = before.state["model"]
        weights = [_weights(name, p, old[name]) for name, p in parameters.items()]
        loss = float(np.mean([value.item() for value, _ in made]))
        return Health(sum(len(y) for _, y in made), loss, tuple(weights), tuple(activations))
    finally:
        before.restore()


@contextmanager
def _watching() -> Iterator[list[tuple[Node, Any]]]:
    """Collects the activations that are recorded within, with their outputs."""
    found: list[tuple[Node, Any]] = []
    outer = mode.on_record

    def look(node: Node) -> None:
        if node.primitive.name == "relu" or node.primitive.name in SATURATED:
            found.append((node, node.residual(-1)[0]))
        if outer is not None:
            outer(node)

    mode.on_record = look
    try:
        yield found
    finally:
        mode.on_record = outer


def _activation(seen: tuple[Node, Any], owners: dict[int, str]) -> Activation:
    node, output = seen
    values = host(output)
    others = (0, *range(2, values.ndim)) if values.ndim > 3 else (0,)
    kind = node.primitive.name
    idle = values.max(axis=others) <= 0 if kind == "relu" else SATURATED[kind](values)
    units = int(np.prod(values.shape)) // int(np.prod([values.shape[axis] for axis in others]))
    return Activation(_layer(node, owners), kind, units, float(np.mean(idle)))


def _layer(node: Node, owners: dict[int, str]) -> str:
    """The module whose parameter is nearest before ``node``; "model" where there is none."""
    front: list[Node] = [node]
    seen = {node}
    for current in front:
        if id(current) in owners:
            return owners[id(current)].rpartition(".")[0] or "model"
        new = [edge for edge in current.edges if edge is not None and edge not in seen]
        seen.update(new)
        front += new
    return "model"


def _weights(name: str, parameter: Any, old: np.ndarray[Any, Any]) -> Weights:
    before, after = old.astype(np.float64), host(parameter).astype(np.float64)
    norm = float(np.linalg.norm(before))
    with np.errstate(all="ignore"):
        moved = float(np.linalg.norm(after - before))
        gradient = parameter.grad
        size = None if gradient is None else float(np.linalg.norm(host(gradient).astype(float)))
    update = moved / norm if norm else 0.0
    return Weights(name, before.shape, not parameter.requires_grad, norm, size, update)


def _of_activation(a: Activation) -> str:
    if a.kind == "relu":
        return (
            f"{a.layer}: {a.share:.0%} of its ReLUs are dead, they fire for no sample of the "
            "batch: lower the learning rate"
        )
    return (
        f"{a.layer}: {a.share:.0%} of its {a.kind} outputs are saturated, hardly a gradient "
        "passes: scale the inputs, or begin with smaller weights"
    )


def _measured(w: Weights) -> list[str]:
    if w.gradient is None:
        return ["frozen" if w.frozen else "none", ""]
    return [f"{w.gradient:.3g}", f"{w.update:.1e}" if w.norm else "was 0"]


def _table(rows: list[list[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
    return lines
