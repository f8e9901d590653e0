"""Cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.data import Subset
from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.train.feed import Feed
from tinygrad_ai.train.trainer import Trainer


def cross_validate(
    build: Callable[[], Trainer],
    x: Any,
    y: Any = None,
    folds: int = 5,
    epochs: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
) -> dict[str, Any]:
    """Trains ``folds`` models, each tested on a part of the samples that the others learn from.

    ``build()`` makes a Trainer with a fresh model. The parts are equal to within one sample and
    drawn at random, or consecutive without ``shuffle``; ``seed`` fixes them, the weights that
    ``build`` draws and the training.

    Returns ``{"mean": {"loss": …}, "std": {…}, "folds": [{"loss": …}, …]}``, all over the tests;
    the standard deviation is between the folds (ddof 0). Raises ValueRangeError for fewer than two
    folds or more than there are samples, and what ``fit`` raises.
    """
    dataset = Feed("cross_validate", x, y).dataset
    samples = len(dataset)
    if not 2 <= folds <= samples:
        raise ValueRangeError(
            f"cross_validate: folds must lie between 2 and the {samples} samples, not {folds}"
        )
    order = np.random.default_rng(seed).permutation(samples) if shuffle else np.arange(samples)
    scores = []
    for fold, held in enumerate(np.array_split(order, folds)):
        random.manual_seed(seed + fold)
        trainer = build()
        learn = Subset(dataset, order[~np.isin(order, held)])
        history = trainer.fit(learn, epochs=epochs, batch_size=batch_size, progress=False)
        if history.interrupted:
            raise KeyboardInterrupt
        scores.append(trainer.evaluate(Subset(dataset, held)))
    columns = {name: [score[name] for score in scores] for name in scores[0]}
    return {
        "mean": {name: float(np.mean(column)) for name, column in columns.items()},
        "std": {name: float(np.std(column)) for name, column in columns.items()},
        "folds": scores,
    }
