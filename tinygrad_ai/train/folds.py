"""Cross-validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_ai import random
from tinygrad_ai.data import Subset
from tinygrad_ai.errors import DTypeError, ValueRangeError, whole_number
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
    folds or more than there are samples, and where ``build`` gives a model or an optimiser twice;
    DTypeError where it gives no Trainer; and what ``fit`` raises.
    """
    whole_number("cross_validate", "folds", folds, least=2)
    whole_number("cross_validate", "seed", seed, least=0)
    if not callable(build) or hasattr(build, "fit"):
        raise DTypeError(
            f"cross_validate: build must be a function that makes a Trainer, not {build!r}",
            "   help: cross_validate(lambda: Trainer(Net(), …), x, y)",
        )
    dataset = Feed("cross_validate", x, y).dataset
    samples = len(dataset)
    if folds > samples:
        raise ValueRangeError(f"cross_validate: {folds} folds of only {samples} samples")
    order = np.random.default_rng(seed).permutation(samples) if shuffle else np.arange(samples)
    scores = []
    used: list[Any] = []  # kept, so that no address is used again
    for fold, held in enumerate(np.array_split(order, folds)):
        random.manual_seed(seed + fold)
        trainer = build()
        if not isinstance(trainer, Trainer):
            raise DTypeError(f"cross_validate: build gave a {type(trainer).__name__}, no Trainer")
        for part in (trainer.model, trainer.optimizer):
            if any(part is other for other in used):
                raise ValueRangeError(
                    f"cross_validate: build gave the same {type(part).__name__} twice, which has "
                    "learnt from the samples it is tested on",
                    "   help: make the model and its optimizer inside build",
                )
            used.append(part)
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
