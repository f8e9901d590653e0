"""A training run as a program: ``python resumed_run.py STATE STEP`` kills itself after that step.

Without a STEP it runs to its end and prints a digest of the weights and the history.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from typing import Any

import numpy as np

from tinygrad_ai import nn, optim, random
from tinygrad_ai.optim.lr_scheduler import CosineAnnealingLR, LinearWarmup
from tinygrad_ai.train import EarlyStopping, History, LambdaCallback, LRScheduler, Trainer

RNG = np.random.default_rng(0)
X = RNG.normal(size=(62, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(np.int64)
MACRO = {"f1": lambda true, scores: float(np.mean(true == scores.argmax(1)) ** 2)}  # of all samples


def trainer(**options: Any) -> Trainer:
    """Buffers, random numbers, a frozen layer, two groups, gradients of two batches a step."""
    random.manual_seed(1)
    model = nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 5), nn.Tanh(),
        nn.Linear(5, 2),
    )  # fmt: skip
    layers = list(model.children())
    layers[4].requires_grad_(False)
    groups = [
        {"params": [*layers[0].parameters(), *layers[1].parameters()], "lr": 0.02},
        {"params": [*layers[4].parameters(), *layers[6].parameters()], "lr": 0.005},
    ]
    made = {
        "optimizer": optim.Adam(groups),
        "clip_norm": 0.5,
        "accumulate": 2,
        "jit": True,
    } | options
    return Trainer(model, "cross_entropy", metrics={"accuracy": "accuracy"} | MACRO, **made)


def run(
    path: str | None, kill: int = 0, epochs: int = 4, **options: Any
) -> tuple[Trainer, History]:
    """Trains with everything that has a state; an epoch has 7 steps, whose last is of one batch."""
    made, done = trainer(), [0]

    def count(batch: int, logs: dict[str, float]) -> None:
        done[0] += 1
        if done[0] == kill:
            os.kill(os.getpid(), signal.SIGKILL)

    def unfreeze(epoch: int) -> None:
        if epoch == 2:
            made.model.requires_grad_(True)

    callbacks = [
        LRScheduler(LinearWarmup(made.optimizer, 5), per="batch"),
        LRScheduler(CosineAnnealingLR(made.optimizer, 9)),
        EarlyStopping("val_loss", patience=2),
        LambdaCallback(on_batch_end=count, on_epoch_begin=unfreeze),
    ]
    settings = {"seed": 5, "batch_size": 4, "validation_split": 0.2, "save_every": 3} | options
    if path is None:
        del settings["save_every"]
    history = made.fit(
        X, Y, epochs=epochs, callbacks=callbacks, progress=False, resume=path, **settings
    )
    return made, history


def digest(made: Trainer, history: History) -> str:
    """Weights, optimiser, generator and history as one number."""
    slots = made.optimizer.state_dict()
    arrays = [t.numpy() for t in made.model.state_dict().values()]
    arrays += [a for s in slots["state"].values() for a in s.values() if isinstance(a, np.ndarray)]
    text = repr((slots["param_groups"], random.generator().state_dict(), history.history))
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays) + text.encode()).hexdigest()


if __name__ == "__main__":
    print(digest(*run(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
