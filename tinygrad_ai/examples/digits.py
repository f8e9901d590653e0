"""What the programs for handwritten digits share: data, training, and a look at the result."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_ai import data, nn, plots
from tinygrad_ai.errors import ShapeError
from tinygrad_ai.examples.art import thumbnail
from tinygrad_ai.examples.program import Run
from tinygrad_ai.metrics import confusion_matrix
from tinygrad_ai.train import Trainer
from tinygrad_ai.train.terminal import Terminal

DATA = {"mnist-small": data.mnist_small, "mnist": data.mnist}
INPUT = "digit, 28x28"  # in a model file's metadata: what `tinygrad-ai predict` may show it
SHOWN, WIDTH = 5, 16  # thumbnails, and the columns of one with the gap after it
MISTAKES = 2  # of them


class Digits(nn.Module):
    """Digits (N, 28, 28) as (N, *shape), the shape that the next layer takes.

    Raises ShapeError for pictures of any other size: a convolution would take some of them.
    """

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, input: Any) -> Any:
        if tuple(input.shape[1:]) != (28, 28):
            raise ShapeError(
                f"digits must have the shape (N, 28, 28), not {tuple(input.shape)}",
                "   help: tinygrad_ai.examples.scan.scan(path) makes (28, 28) of any picture",
            )
        return input.reshape(len(input), *self.shape)

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


def run(trainer: Trainer, fit: Any, x: Any, y: Any) -> Run:
    """A run of ``trainer`` tested on the digits ``x`` (N, 28, 28) with the classes ``y`` (N,)."""
    result = Run(
        model=trainer.model,
        summary=trainer.model.summary((1, 28, 28)),
        fit=fit,
        test=lambda: trainer.evaluate(x, y),
        show=lambda terminal: show(x, y, trainer.predict(x), terminal),
        chance=math.log(10),
        metadata={
            "input": INPUT,
            "normalisation": "pixels / 255",
            "architecture": repr(trainer.model),
        },
    )

    def confusion(path: Any) -> None:
        plots.confusion(confusion_matrix(y, trainer.predict(x), labels=range(10)), path)

    result.pictures = {
        "curves.png": lambda path: trainer.history.plot(path),
        "confusion.png": confusion,
    }
    return result


def show(x: Any, y: Any, scores: Any, terminal: Terminal) -> list[str]:
    """The first digits and the most confident mistakes, side by side, and what was read.

    There are as many as the terminal's width has room for.
    """
    shown = room(terminal)
    predicted = scores.argmax(axis=1)
    wrong = np.flatnonzero(predicted != y)
    excess = scores[wrong, predicted[wrong]] - scores[wrong, y[wrong]]
    worst = wrong[np.argsort(-excess)[: min(MISTAKES, shown - 1)]]
    first = np.setdiff1d(np.arange(SHOWN), worst)[: shown - len(worst)]
    chosen = [*first.tolist(), *worst.tolist()]
    captions = [_caption(int(y[i]), int(predicted[i]), terminal) for i in chosen]
    return [*side_by_side(x[chosen], terminal), "  ".join(captions)]


def room(terminal: Terminal) -> int:
    """How many thumbnails the terminal's width has room for."""
    return min(max((terminal.columns + 2) // WIDTH, 1), SHOWN)


def side_by_side(digits: Any, terminal: Terminal) -> list[str]:
    """The ``digits`` (N, 28, 28) as thumbnails in a row."""
    drawn = [thumbnail(digit, terminal) for digit in digits]
    return ["  ".join(parts) for parts in zip(*drawn, strict=True)]


def _caption(label: int, predicted: int, terminal: Terminal) -> str:
    text = f"{label} read as {predicted}".center(14)
    return terminal.paint(text, "green" if label == predicted else "red")
