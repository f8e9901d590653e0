"""Training: the loop, its callbacks, what it measured."""

from tinygrad_ai.train.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LambdaCallback,
    LRScheduler,
)
from tinygrad_ai.train.folds import cross_validate
from tinygrad_ai.train.history import History
from tinygrad_ai.train.trainer import Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "History",
    "LRScheduler",
    "LambdaCallback",
    "Trainer",
    "cross_validate",
]
