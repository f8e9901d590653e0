"""Losses, optimisers and metrics by name, and what is known of them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tinygrad_ai import functional, metrics, nn, optim
from tinygrad_ai.autodiff import Value
from tinygrad_ai.backend import backend_of
from tinygrad_ai.errors import DTypeError, ValueRangeError

Function = Callable[..., Any]

LOSSES: dict[str, Function] = {
    "cross_entropy": functional.cross_entropy,
    "nll": functional.nll_loss,
    "mse": functional.mse_loss,
    "l1": functional.l1_loss,
    "huber": functional.huber_loss,
    "bce": functional.binary_cross_entropy,
    "bce_with_logits": functional.binary_cross_entropy_with_logits,
    "kl_div": functional.kl_div,
}
OPTIMIZERS: dict[str, Function] = {
    "sgd": optim.SGD,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rmsprop": optim.RMSprop,
    "adagrad": optim.Adagrad,
}
METRICS: dict[str, Function] = {
    "accuracy": metrics.accuracy,
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1_score": metrics.f1_score,
    "roc_auc": metrics.roc_auc,
    "mse": metrics.mean_squared_error,
}
#: Metrics that are means over elements, so that a weighted mean over batches is exact.
MEANS = (metrics.accuracy, metrics.mean_squared_error)
THRESHOLDED = (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1_score)
#: Losses whose targets are class numbers; logits of one class against the rest; a number for each
#: number of the output; probabilities.
CLASS_LOSSES = (functional.cross_entropy, functional.nll_loss, nn.CrossEntropyLoss, nn.NLLLoss)
LOGIT_LOSSES = (functional.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss)
PAIRED_LOSSES = (
    *(functional.mse_loss, functional.l1_loss, functional.huber_loss, functional.kl_div),
    *(nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.KLDivLoss),
    *(functional.binary_cross_entropy, nn.BCELoss, *LOGIT_LOSSES),
)
PROBABILITY_LOSSES = (functional.binary_cross_entropy, nn.BCELoss, *LOGIT_LOSSES)


@dataclass(frozen=True)
class Metric:
    """``function(y_true, y_pred)`` and whether batches of it can be averaged."""

    function: Callable[[Any, Any], Any]
    is_mean: bool


def loss_of(wanted: str | Function) -> Function:
    """A loss ``(output, target) -> scalar Tensor`` from its name, or the callable given."""
    return _named("loss", wanted, LOSSES)


def optimizer_of(wanted: Any, model: Any, loss: Any) -> Any:
    """An optimiser by name (with its default learning rate), from a class, or the one given.

    Raises ValueRangeError where it holds none of the model's parameters, or some of neither the
    model nor the loss: it would train something else.
    """
    if hasattr(wanted, "step") and not isinstance(wanted, type):
        optimizer = wanted
    else:
        optimizer = _named("optimizer", wanted, OPTIMIZERS)(model.parameters())
    if not hasattr(optimizer, "param_groups"):
        raise DTypeError(f"Trainer: a {type(optimizer).__name__} is no optimiser")
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    own = {id(p) for p in model.parameters()}
    others = {id(p) for p in loss.parameters()} if hasattr(loss, "parameters") else set()
    if not held & own or held - own - others:
        raise ValueRangeError(
            f"Trainer: of the {len(held)} parameters in the optimizer, {len(held & own)} are among "
            f"the model's {len(own)}",
            "   help: make the optimizer from this model's parameters()",
        )
    return optimizer


def metrics_of(
    wanted: Iterable[str | Function] | Mapping[str, Function], loss: Any
) -> dict[str, Metric]:
    """Metrics by their name in the logs; single scores are logits if ``loss`` takes logits."""
    if isinstance(wanted, str):
        wanted = [wanted]
    pairs = wanted.items() if isinstance(wanted, Mapping) else [(name_of(m), m) for m in wanted]
    found: dict[str, Metric] = {}
    for name, metric in pairs:
        if name in found or name == "loss":
            raise ValueRangeError(
                f"Trainer: two numbers would be named {name!r}",
                '   help: metrics={"name": function, …} names them',
            )
        function = _named("metric", metric, METRICS)
        is_mean = function in MEANS
        if function in THRESHOLDED and is_one_of(loss, PROBABILITY_LOSSES):
            function = partial(function, threshold=0.0 if is_one_of(loss, LOGIT_LOSSES) else 0.5)
        elif function in THRESHOLDED and is_one_of(loss, CLASS_LOSSES):
            function = partial(_of_likeliest, function)
        found[name] = Metric(function, is_mean)
    return found


def _of_likeliest(function: Function, true: Any, predicted: Any) -> Any:
    """``function`` of labels, which are the likeliest where targets are classes' probabilities."""
    soft = true.ndim > 1 and true.shape == predicted.shape and true.dtype.kind == "f"
    return function(true.argmax(axis=1) if soft else true, predicted)


def is_one_of(loss: Any, losses: tuple[Any, ...]) -> bool:
    """Whether ``loss`` is one of these functions or an instance of one of these classes."""
    return any(loss is one or (isinstance(one, type) and isinstance(loss, one)) for one in losses)


def ignored_label(loss: Any) -> int | None:
    """The label whose samples do not count, for the losses of classes (PyTorch's default -100)."""
    return getattr(loss, "ignore_index", -100) if is_one_of(loss, CLASS_LOSSES) else None


def weight_of(loss: Any, target: Any) -> float:
    """By what the mean over a batch with this ``target`` was divided.

    That is its number of elements; for labels, those that are not ignored, each with the weight
    that ``loss`` gives its class. The mean over several batches weighs theirs by it.
    """
    ignored = ignored_label(loss)
    if ignored is None or target.dtype.kind == "f":
        return float(target.size)
    labels = host(target)
    labels = labels[labels != ignored]
    weights = getattr(loss, "weight", None)
    return float(labels.size if weights is None else host(weights)[labels].sum(dtype=np.float64))


def host(field: Any) -> np.ndarray[Any, Any]:
    """The values of an array or Tensor as a NumPy array."""
    array = field.array if isinstance(field, Value) else field
    return array if isinstance(array, np.ndarray) else backend_of(array).to_numpy(array)


def name_of(metric: Any) -> str:
    """What a loss or a metric is called."""
    if isinstance(metric, str):
        return metric
    function = metric.func if isinstance(metric, partial) else metric
    return str(getattr(function, "__name__", type(metric).__name__))


def _named(kind: str, wanted: Any, known: Mapping[str, Function]) -> Function:
    if isinstance(wanted, type) and kind != "optimizer":
        name = wanted.__name__
        raise DTypeError(f"Trainer: {kind} is the class {name}", f"   help: {name}() makes one")
    if callable(wanted):
        return wanted
    if not isinstance(wanted, str):
        raise DTypeError(f"Trainer: {kind} must be a name or a callable, not {wanted!r}")
    aliases = {function.__name__.lower(): function for function in known.values()}
    everything = {**aliases, **known}
    if wanted.lower() in everything:
        return everything[wanted.lower()]
    close = difflib.get_close_matches(wanted.lower(), everything, n=1)
    raise ValueRangeError(
        f"Trainer: no {kind} {wanted!r}; there are {', '.join(known)}",
        f"   help: did you mean {close[0]!r}?" if close else "",
    )
