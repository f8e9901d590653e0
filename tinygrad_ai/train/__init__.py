"""Training: the loop, its callbacks, what it measured."""

from tinygrad_ai.train.balance import balanced_weights
from tinygrad_ai.train.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LambdaCallback,
    LRScheduler,
)
from tinygrad_ai.train.finder import RateCurve, find_lr
from tinygrad_ai.train.fitting import Diverged
from tinygrad_ai.train.folds import cross_validate
from tinygrad_ai.train.health import Health, HealthReport, health
from tinygrad_ai.train.history import History
from tinygrad_ai.train.trainer import Trainer

__all__ = [
    "Callback",
    "Checkpoint",
    "Diverged",
    "EarlyStopping",
    "Health",
    "HealthReport",
    "History",
    "LRScheduler",
    "LambdaCallback",
    "RateCurve",
    "Trainer",
    "balanced_weights",
    "cross_validate",
    "find_lr",
    "health",
]
