"""What a program of ``tinygrad-ai train`` is."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinygrad_ai.train import History
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
