"""The optimisers: settings and slots for the rules. Defaults are PyTorch's."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from tinygrad_ai.errors import ValueRangeError
from tinygrad_ai.optim import rules
from tinygrad_ai.optim.optimizer import Group, Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent: w ← w - α·∇L(w), α = ``lr``, ∇L from a sample of the data.

    With ``momentum`` µ and ``dampening`` τ: v ← µ·v + (1-τ)·∇L(w), where the first v is the
    gradient, and w ← w - α·v; with ``nesterov``: w ← w - α·(∇L(w) + µ·v) (Sutskever et al., 2013),
    which excludes dampening. ``weight_decay`` adds weight_decay·w to the gradient.
    """

    rule = staticmethod(rules.sgd)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
        )

    def check(self, group: Group) -> None:
        full = {**self.defaults, **group}
        if full["nesterov"] and (not full["momentum"] or full["dampening"]):
            raise ValueRangeError("SGD: nesterov=True needs a momentum above 0 and no dampening")
        super().check(group)

    def slots(self, group: Group) -> dict[str, float]:
        return {"momentum_buffer": 0.0} if group["momentum"] else {}

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        return {**group, "share": 1.0 if step == 1 else 1.0 - group["dampening"]}


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015): w ← w - η·m̂/(√v̂ + ε), η = ``lr``, ε outside the root.

    m ← β₁m + (1-β₁)g, v ← β₂v + (1-β₂)g², m̂ = m/(1-β₁ᵗ), v̂ = v/(1-β₂ᵗ), with ``betas`` (β₁, β₂)
    and ``eps`` ε. ``weight_decay`` adds weight_decay·w to the gradient. ``amsgrad`` takes for v the
    largest one so far (Reddi et al., 2018).
    """

    rule = staticmethod(rules.adam)
    ranges: ClassVar = {"betas": (0.0, 1.0)}
    decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        pair = tuple(betas) if isinstance(betas, list) else betas
        super().__init__(
            params, lr=lr, betas=pair, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
        )

    def check(self, group: Group) -> None:
        if len(np.atleast_1d(group.get("betas", self.defaults["betas"]))) != 2:
            raise ValueRangeError(f"{self._name}: betas must be two numbers, got {group['betas']}")
        super().check(group)

    def slots(self, group: Group) -> dict[str, float]:
        names = ["exp_avg", "exp_avg_sq"] + ["max_exp_avg_sq"] * group["amsgrad"]
        return dict.fromkeys(names, 0.0)

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        beta1, beta2 = group["betas"]
        root = math.sqrt(1 - beta2**step)
        return {
            "lr": group["lr"],
            "weight_decay": group["weight_decay"],
            "decoupled": self.decoupled,
            "amsgrad": group["amsgrad"],
            "beta1": beta1,
            "beta2": beta2,
            "rate": group["lr"] * root / (1 - beta1**step),
            "floor": group["eps"] * root,
        }


class AdamW(Adam):
    """Adam with decoupled weight decay: w ← w - lr·weight_decay·w before each step.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


class RMSprop(Optimizer):
    """RMSprop (Hinton's lecture, 2012): s ← αs + (1-α)g², w ← w - η·g/(√s + ε), η = ``lr``.

    ``centered`` takes the variance instead, √(s - ḡ²) with ḡ ← αḡ + (1-α)g (Graves, 2013);
    ``momentum`` sends the quotient through v ← µ·v + quotient.
    """

    rule = staticmethod(rules.rmsprop)
    ranges: ClassVar = {"alpha": (0.0, 1.0)}

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
        )

    def slots(self, group: Group) -> dict[str, float]:
        names = ["square_avg"]
        names += ["momentum_buffer"] if group["momentum"] else []
        names += ["grad_avg"] if group["centered"] else []
        return dict.fromkeys(names, 0.0)


class Adagrad(Optimizer):
    """Adagrad (Duchi et al., 2011): s ← s + g², w ← w - lr/(1 + (t-1)·lr_decay)·g/(√s + ε)."""

    rule = staticmethod(rules.adagrad)

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )

    def slots(self, group: Group) -> dict[str, float]:
        return {"sum": group["initial_accumulator_value"]}

    def numbers(self, group: Group, step: int) -> dict[str, Any]:
        return {**group, "rate": group["lr"] / (1 + (step - 1) * group["lr_decay"])}
