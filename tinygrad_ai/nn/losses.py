"""Losses as modules; formulas, arguments and errors are those of ``functional``."""

from __future__ import annotations

from typing import Any

from tinygrad_ai import functional as F
from tinygrad_ai.nn.module import Module
from tinygrad_ai.tensor import Tensor


class _Loss(Module):
    def __init__(self, reduction: str = "mean", **weights: Any) -> None:
        self.reduction = reduction
        for name, weight in weights.items():
            array = weight is None or isinstance(weight, Tensor)
            self.register_buffer(name, weight if array else Tensor(weight))


class MSELoss(_Loss):
    """The mean of (x - t)²."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.mse_loss(input, target, self.reduction)


class L1Loss(_Loss):
    """The mean of |x - t|."""

    def forward(self, input: Any, target: Any) -> Any:
        return F.l1_loss(input, target, self.reduction)


class HuberLoss(_Loss):
    """½r² for |r| ≤ ``delta``, else delta·(|r| - ½delta), with r = x - t."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        return F.huber_loss(input, target, self.reduction, self.delta)


class CrossEntropyLoss(_Loss):
    """-log softmax(x) at the class of each example; takes logits, not probabilities."""

    def __init__(
        self,
        weight: Any = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        settings = self.weight, self.ignore_index, self.reduction, self.label_smoothing
        return F.cross_entropy(input, target, *settings)


class NLLLoss(_Loss):
    """Minus the log-probability of each label; takes log-probabilities."""

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction, weight=weight)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return F.nll_loss(input, target, self.weight, self.ignore_index, self.reduction)


class BCELoss(_Loss):
    """-t·log p - (1-t)·log(1-p); takes probabilities."""

    def __init__(self, weight: Any = None, reduction: str = "mean") -> None:
        super().__init__(reduction, weight=weight)

    def forward(self, input: Any, target: Any) -> Any:
        return F.binary_cross_entropy(input, target, self.weight, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """The same from logits, exact for large ones; ``pos_weight`` multiplies positive answers."""

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(reduction, weight=weight, pos_weight=pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        settings = self.weight, self.reduction, self.pos_weight
        return F.binary_cross_entropy_with_logits(input, target, *settings)


class KLDivLoss(_Loss):
    """t·(log t - x) for log-probabilities x; ``reduction="batchmean"`` is the divergence."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Any:
        return F.kl_div(input, target, self.reduction, self.log_target)
