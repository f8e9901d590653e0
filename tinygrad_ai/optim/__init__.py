"""Optimisers, penalties, limits for gradients and learning rate schedules."""

from tinygrad_ai.optim import lr_scheduler
from tinygrad_ai.optim.algorithms import SGD, Adagrad, Adam, AdamW, RMSprop
from tinygrad_ai.optim.optimizer import Optimizer
from tinygrad_ai.optim.penalties import clip_grad_norm_, clip_grad_value_, l1_penalty, l2_penalty

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm_",
    "clip_grad_value_",
    "l1_penalty",
    "l2_penalty",
    "lr_scheduler",
]
