"""One step of training: a plain function, to be run, captured, or tried and undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygrad_ai.errors import GraphError, warn_user
from tinygrad_ai.jit import jit
from tinygrad_ai.optim import clip_grad_norm_
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.names import weight_of


class Part(NamedTuple):
    """A batch as the model takes it, and its share of the step: the shares add up to 1."""

    inputs: list[Any]
    target: Any
    share: float


def parts_of(
    loss: Any, convert: Callable[[Any], tuple[list[Any], Any]], group: Sequence[tuple[Any, ...]]
) -> list[Part]:
    """The batches in ``group``, each with the share that it has in the mean over all their samples.

    Batches without samples that count, whose labels are all ignored, are left out.
    """
    weights = [weight_of(loss, batch[-1]) for batch in group]
    return [
        Part(*convert(batch), weight / sum(weights))
        for batch, weight in zip(group, weights, strict=True)
        if weight
    ]


def train_step(
    model: Any,
    loss: Callable[..., Any],
    optimizer: Any,
    parts: Sequence[Part],
    clip_norm: float | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """One step of ``optimizer`` along the gradient of Σ share·loss over ``parts``.

    Returns loss and output of each part, from before the step. None of them is read here: whoever
    does finds a loss that is not finite when the weights are spoilt, and needs a :class:`Snapshot`
    to go back to.
    """
    optimizer.zero_grad()
    made = []
    for inputs, target, share in parts:
        output = model(*inputs)
        value = loss(output, target)
        (value * share).backward()
        made.append((value, output))
    if clip_norm is not None:
        groups = optimizer.param_groups
        clip_grad_norm_([p for group in groups for p in group["params"]], clip_norm)
    optimizer.step()
    return made


class CompiledStep:
    """:func:`train_step`, compiled for each kind of batch; what cannot be runs eagerly.

    ``reason`` says why the rest of the steps are eager: something in them cannot be captured, or
    there are more than ``MOST`` shapes of batches, which would take longer to compile than to run.
    """

    MOST = 8

    def __init__(self) -> None:
        self.step = jit(train_step)
        self.reason: str | None = None

    def __call__(self, *args: Any) -> list[tuple[Tensor, Tensor]]:
        if self.reason is None and self.step.captures > self.MOST:
            self._stop(f"its batches have more than {self.MOST} shapes")
        if self.reason is None:
            try:
                return self.step(*args)
            except GraphError as error:
                self._stop(str(error))
        return train_step(*args)

    def report(self, times: bool = False) -> str:
        """What was compiled, as :meth:`tinygrad_ai.jit.Step.report` says it, or why nothing."""
        if self.reason is not None:
            return f"train_step: runs eagerly: {self.reason}"
        return self.step.report(times)

    def _stop(self, reason: str) -> None:
        self.reason = reason
        self.step.plans.clear()
        warn_user(f"fit: the training step is not compiled and runs eagerly: {reason}")
