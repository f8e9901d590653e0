"""Classes that count unequally: how much each does, and losses that heed it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai import functional, nn
from tinygrad_ai.errors import DTypeError, ValueRangeError
from tinygrad_ai.tensor import Tensor
from tinygrad_ai.train.names import CLASS_LOSSES, LOGIT_LOSSES, PROBABILITY_LOSSES, is_one_of

#: The functions among the losses of classes, as modules that can hold weights.
MODULES: dict[Any, Callable[..., Any]] = {
    functional.cross_entropy: nn.CrossEntropyLoss,
    functional.nll_loss: nn.NLLLoss,
}


def balanced_weights(labels: Any, classes: int | None = None) -> np.ndarray[Any, Any]:
    """n / (k·count) for each class, of n labels in k classes that occur: equal say for each.

    ``labels`` are class numbers from 0, of any shape; ``classes`` how many classes there are, by
    default one more than the largest label. A class that does not occur gets 1. Returns float64 of
    shape (classes,) (King and Zeng, 2001; "balanced" in scikit-learn). Raises DTypeError for what
    are no integers, ValueRangeError for no labels and for labels out of range.
    """
    flat = np.asarray(labels.numpy() if hasattr(labels, "numpy") else labels).ravel()
    if flat.size == 0:
        raise ValueRangeError("balanced_weights: there are no labels")
    if flat.dtype.kind not in "iub":
        raise DTypeError(f"balanced_weights: labels must be integers, not {flat.dtype}")
    number = int(flat.max()) + 1 if classes is None else classes
    if flat.min() < 0 or flat.max() >= number:
        wrong = flat.min() if flat.min() < 0 else flat.max()
        raise ValueRangeError(f"balanced_weights: label {wrong} is outside 0…{number - 1}")
    counts = np.bincount(flat, minlength=number)
    shares = flat.size / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts > 0, shares, 1.0)


def weighted_loss(
    loss: Any, wanted: Any, classes: int, labels: Callable[[], np.ndarray[Any, Any]], like: Any
) -> Any:
    """``loss`` with a weight for each of ``classes``; device and dtype are those of ``like``.

    ``wanted`` is "balanced" (computed from ``labels()``), a mapping from class to weight (1 for the
    others), or all the weights. The mean of a loss of classes is divided by the weights of its
    labels, as in PyTorch; that of binary cross-entropy by the number of elements, as in Keras.
    Raises ValueRangeError or DTypeError for weights that do not fit, for a loss that has weights
    already, and for one that knows no classes.
    """
    binary = is_one_of(loss, PROBABILITY_LOSSES)
    if not binary and not is_one_of(loss, CLASS_LOSSES):
        raise ValueRangeError(
            "fit: class_weight needs a loss of classes: cross_entropy, nll, bce or bce_with_logits",
            "   help: weigh the samples inside a loss of your own",
        )
    if any(getattr(loss, name, None) is not None for name in ("weight", "pos_weight")):
        raise ValueRangeError(f"fit: class_weight, but the {type(loss).__name__} has weights too")
    weights = Tensor(
        _weights(wanted, 2 if binary else classes, labels), dtype=like.dtype, device=like.device
    )
    if binary:
        logits = is_one_of(loss, LOGIT_LOSSES)
        name = "binary_cross_entropy" + ("_with_logits" if logits else "")
        zero, one = weights.tolist()
        return partial(_binary, getattr(functional, name), zero, one)
    made = MODULES[loss]() if loss in MODULES else copy.copy(loss)
    made.weight = weights
    return made


def _binary(function: Callable[..., Any], zero: float, one: float, output: Any, target: Any) -> Any:
    truth = target.astype(output.dtype)
    return function(output, truth, weight=zero + (one - zero) * truth)


def _weights(wanted: Any, classes: int, labels: Callable[[], Any]) -> np.ndarray[Any, Any]:
    if isinstance(wanted, str):
        if wanted != "balanced":
            raise ValueRangeError(f"fit: class_weight {wanted!r} is not 'balanced'")
        found = labels()
        if found.dtype.kind == "f" and np.isin(found, [0, 1]).all() and classes == 2:
            found = found.astype(np.int64)  # as binary cross-entropy is often given them
        return balanced_weights(found, classes)
    weights = np.ones(classes)
    if isinstance(wanted, Mapping):
        for label, weight in wanted.items():
            if not isinstance(label, int | np.integer) or not 0 <= label < classes:
                raise ValueRangeError(
                    f"fit: class_weight names the class {label!r}; there are 0…{classes - 1}"
                )
            weights[label] = _number(weight)
    else:
        if not isinstance(wanted, Sequence | np.ndarray | Tensor):
            raise DTypeError(
                "fit: class_weight must be 'balanced', a dict of weights by class, or a list of "
                f"one for each, not {wanted!r}"
            )
        given = list(wanted.tolist() if hasattr(wanted, "tolist") else wanted)
        if len(given) != classes:
            raise ValueRangeError(
                f"fit: class_weight has {len(given)} weights for {classes} classes"
            )
        weights[:] = [_number(weight) for weight in given]
    if not weights.any():
        raise ValueRangeError("fit: every class_weight is 0: nothing would be learnt")
    return weights


def _number(weight: Any) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.number):
        raise DTypeError(f"fit: class_weight must hold numbers, not {weight!r}")
    if not 0 <= weight < np.inf:
        raise ValueRangeError(f"fit: class_weight must hold finite numbers ≥ 0, not {weight}")
    return float(weight)
