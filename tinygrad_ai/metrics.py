"""How good predictions are: NumPy code on arrays or Tensors, true values first as in scikit-learn.

``y_pred`` of the classification metrics is labels of the shape of ``y_true``, or scores (logits or
probabilities) with an axis of C classes after the first: (N, C) for labels (N,), (N, C, T) for
(N, T), as ``cross_entropy`` takes them. Of two classes it may be one score a sample, shape (N,) or
(N, 1): class 1 where it is above ``threshold``. ``y_true`` may be one-hot rows of the shape of the
scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError

__all__ = [
    "accuracy",
    "confusion_matrix",
    "f1_score",
    "mean_squared_error",
    "precision",
    "recall",
    "roc_auc",
]

Array = np.ndarray[Any, Any]
LARGEST = 2**53  # the whole numbers up to it are exact in float64
AVERAGES = ("binary", "macro", "micro", "weighted", None)


def accuracy(y_true: Any, y_pred: Any, threshold: float | None = None) -> float:
    """The share of samples whose predicted label is the true one.

    ``threshold`` applies to single scores: 0.5 by default, for probabilities; 0 for logits.
    Raises ShapeError where shapes do not fit, ValueRangeError for empty or NaN input and for single
    scores outside [0, 1] without a ``threshold``.
    """
    true, predicted = _labels("accuracy", y_true, y_pred, threshold)
    return float(np.mean(true == predicted))


def confusion_matrix(
    y_true: Any,
    y_pred: Any,
    labels: Sequence[int] | None = None,
    threshold: float | None = None,
) -> Array:
    """Counts, int64 of shape (C, C): row i, column j holds the samples of class i taken for j.

    The classes are ``labels``, by default the sorted ones that occur. Raises as :func:`accuracy`
    does, and ValueRangeError for a sample that is in none of ``labels``.
    """
    true, predicted = _labels("confusion_matrix", y_true, y_pred, threshold)
    classes = np.unique(np.concatenate([true, predicted])) if labels is None else np.array(labels)
    if classes.ndim != 1 or len(np.unique(classes)) < len(classes):
        raise ValueRangeError(
            f"confusion_matrix: labels must be a list without repetition: {labels}"
        )
    order = np.argsort(classes)
    if strange := np.setdiff1d(np.concatenate([true, predicted]), classes).tolist():
        raise ValueRangeError(f"confusion_matrix: class {strange[0]} is not in labels {labels}")
    row, column = (
        order[np.searchsorted(classes, part, sorter=order)] for part in (true, predicted)
    )
    size = len(classes)
    return np.bincount(row * size + column, minlength=size * size).reshape(size, size)


def precision(
    y_true: Any,
    y_pred: Any,
    average: str | None = "binary",
    zero_division: float = 0.0,
    threshold: float | None = None,
) -> float | Array:
    """TP / (TP + FP): the share of what was taken for a class that belongs to it.

    ``average``: "binary" (of class 1), "macro" (mean over the classes), "micro" (from the counts of
    all classes together), "weighted" (mean weighted by the classes' sizes), or None (one value a
    class, in the order of the sorted classes). ``zero_division`` stands where a quotient is 0 / 0.
    Raises as :func:`accuracy` does, and ValueRangeError for "binary" with other classes than 0, 1.
    """
    return _score("precision", y_true, y_pred, average, zero_division, threshold)


def recall(
    y_true: Any,
    y_pred: Any,
    average: str | None = "binary",
    zero_division: float = 0.0,
    threshold: float | None = None,
) -> float | Array:
    """TP / (TP + FN): the share of a class that was found. Arguments as for :func:`precision`."""
    return _score("recall", y_true, y_pred, average, zero_division, threshold)


def f1_score(
    y_true: Any,
    y_pred: Any,
    average: str | None = "binary",
    zero_division: float = 0.0,
    threshold: float | None = None,
) -> float | Array:
    """2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall (van Rijsbergen 1979).

    Arguments as for :func:`precision`.
    """
    return _score("f1_score", y_true, y_pred, average, zero_division, threshold)


def roc_auc(y_true: Any, y_score: Any) -> float:
    """The area under the ROC curve: how often a sample of class 1 scores above one of class 0.

    Computed as the rank statistic of Mann and Whitney (1947), where a tie counts one half.
    ``y_true`` holds 0 and 1, shape (N,); ``y_score`` any increasing score, shape (N,) or (N, 1), or
    (N, 2) with one column a class. Raises ShapeError where shapes do not fit, ValueRangeError for
    NaN and for labels that are not both of 0 and 1.
    """
    true, score = _array("roc_auc", "y_true", y_true), _array("roc_auc", "y_score", y_score)
    if score.ndim == 2 and score.shape[1] == 2:
        score = score[:, 1] - score[:, 0]  # grows with the probability of class 1, logits or not
    true, score = _single(true), _single(score)
    if true.ndim != 1 or true.shape != score.shape:
        raise _misfit("roc_auc", y_true, y_score, "y_score must be (N,), (N, 1) or (N, 2)")
    if not np.array_equal(np.unique(true), [0, 1]):
        raise ValueRangeError(
            f"roc_auc: y_true must hold both 0 and 1, and nothing else: it holds {_few(true)}"
        )
    _, place, counts = np.unique(score, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2
    positives = int(true.sum())
    surplus = middle_rank[place][true == 1].sum() - positives * (positives + 1) / 2
    return float(surplus / (positives * (true.size - positives)))


def mean_squared_error(y_true: Any, y_pred: Any) -> float:
    """The mean of (y_true - y_pred)² over all elements, computed in float64.

    Raises ShapeError where the shapes differ: nothing is broadcast.
    """
    true = _array("mean_squared_error", "y_true", y_true)
    predicted = _array("mean_squared_error", "y_pred", y_pred)
    if true.shape != predicted.shape:
        raise _misfit("mean_squared_error", y_true, y_pred, "both must have one shape")
    with np.errstate(over="ignore"):  # a mean that is too large is infinite
        return float(np.mean(np.square(np.subtract(true, predicted, dtype=np.float64))))


def _score(
    name: str,
    y_true: Any,
    y_pred: Any,
    average: str | None,
    zero_division: float,
    threshold: float | None,
) -> float | Array:
    if average not in AVERAGES:
        raise ValueRangeError(f"{name}: average {average!r} is none of {AVERAGES}")
    true, predicted = _labels(name, y_true, y_pred, threshold)
    classes = np.unique(np.concatenate([true, predicted]))
    if average == "binary":
        if not np.isin(classes, [0, 1]).all():
            raise ValueRangeError(
                f"{name}: average='binary' needs the classes 0 and 1, here are {_few(classes)}",
                "   help: average='macro', 'micro', 'weighted' or None takes any classes",
            )
        classes = np.array([1])
    hit, taken, size = (
        np.array([np.count_nonzero(part == c) for c in classes], dtype=np.float64)
        for part in (np.where(true == predicted, true, -1), predicted, true)
    )
    if average == "micro":
        hit, taken, size = (part.sum(keepdims=True) for part in (hit, taken, size))
    scale = {"precision": taken, "recall": size, "f1_score": (taken + size) / 2}[name]
    each = np.where(scale > 0, hit / np.maximum(scale, 0.5), zero_division)
    if average is None:
        return each
    return float(np.average(each, weights=size if average == "weighted" else None))


def _array(name: str, argument: str, data: Any) -> Array:
    try:
        array = data.numpy() if hasattr(data, "numpy") else np.asarray(data)
    except ValueError as error:  # rows of several lengths
        raise DTypeError(f"{name}: {argument} cannot be made an array: {error}") from None
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{name}: {argument} must hold numbers, not {array.dtype}")
    if array.size == 0:
        raise ValueRangeError(f"{name}: {argument} is empty, shape {array.shape}")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueRangeError(f"{name}: {argument} holds {np.isnan(array).sum()} NaN")
    return array


def _single(array: Array) -> Array:
    """(N, 1) as (N,)."""
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _labels(name: str, y_true: Any, y_pred: Any, threshold: float | None) -> tuple[Array, Array]:
    """True and predicted labels, flat, as non-negative integers."""
    true = _single(_array(name, "y_true", y_true))
    predicted = _single(_array(name, "y_pred", y_pred))
    if threshold is None and _is_one_hot(true, predicted):
        true, predicted = np.argmax(true, axis=1), np.argmax(predicted, axis=1)
    elif predicted.ndim == true.ndim + 1 and true.ndim:
        predicted = np.argmax(predicted, axis=1)
    elif threshold is not None:
        predicted = predicted > threshold
    elif (fractions := predicted[_fractional(predicted)]).size:
        if predicted.min() < 0 or predicted.max() > 1:
            raise ValueRangeError(
                f"{name}: y_pred holds {fractions[0]:g}: neither labels nor probabilities",
                "   help: threshold=0 takes single scores as logits",
            )
        predicted = predicted > 0.5
    if true.shape != predicted.shape:
        raise _misfit(name, y_true, y_pred, "y_true comes first; y_pred is labels or (N, C) scores")
    return _whole(name, "y_true", true), _whole(name, "y_pred", predicted)


def _is_one_hot(true: Array, predicted: Array) -> bool:
    """Whether ``true`` marks one class on axis 1 and ``predicted`` holds scores of that shape."""
    return bool(
        true.shape == predicted.shape
        and true.ndim > 1
        and ((true == 0) | (true == 1)).all()
        and (np.count_nonzero(true, axis=1) == 1).all()
        and _fractional(predicted).any()
    )


def _fractional(array: Array) -> Array:
    """Where a number is not a whole one."""
    return (array != np.floor(array)) | np.isinf(array)


def _whole(name: str, argument: str, labels: Array) -> Array:
    flat = labels.ravel()
    if (strange := flat[(flat < 0) | (flat > LARGEST) | _fractional(flat)]).size:
        raise ValueRangeError(
            f"{name}: {argument} must hold class numbers 0, 1, 2…, it holds {strange[0]:g}"
        )
    return flat.astype(np.int64)


def _misfit(name: str, y_true: Any, y_pred: Any, rule: str) -> ShapeError:
    shapes = f"y_true {np.shape(y_true)}, y_pred {np.shape(y_pred)}"
    return ShapeError(f"{name}: shapes do not fit: {shapes}", f"   rule: {rule}")


def _few(values: Array) -> str:
    found = np.unique(values).tolist()
    return ", ".join(f"{value:g}" for value in found[:5]) + ("…" if len(found) > 5 else "")
