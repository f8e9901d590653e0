"""Metrics against values computed by hand, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_ai import metrics
from tinygrad_ai.errors import DTypeError, ShapeError, ValueRangeError
from tinygrad_ai.tensor import Tensor

# class 0: 3 samples, 2 found; class 1: 2, 1 found; class 2: 1, found; two wrong: 0→1 and 1→2
TRUE = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 2, 2])


def test_accuracy_of_labels_scores_and_tensors() -> None:
    assert metrics.accuracy(TRUE, PREDICTED) == 4 / 6
    scores = np.eye(3)[PREDICTED] * 7 - 3
    assert metrics.accuracy(TRUE, scores) == 4 / 6
    assert metrics.accuracy(Tensor(TRUE), Tensor(scores, requires_grad=True)) == 4 / 6
    assert metrics.accuracy(TRUE[:, None], PREDICTED[:, None]) == 4 / 6
    assert metrics.accuracy(TRUE.astype(float), PREDICTED.astype(np.float32)) == 4 / 6
    assert metrics.accuracy([True, False], [True, True]) == 0.5


def test_accuracy_of_sequences_takes_classes_from_axis_1() -> None:
    labels = np.array([[0, 1, 2], [2, 2, 0]])
    scores = np.eye(3)[labels].transpose(0, 2, 1)  # (N, C, T)
    assert metrics.accuracy(labels, scores) == 1
    scores[0, :, 0] = [0, 1, 0]
    assert metrics.accuracy(labels, scores) == 5 / 6


def test_accuracy_of_single_scores() -> None:
    assert metrics.accuracy([0, 1, 1], [0.2, 0.7, 0.4]) == 2 / 3
    assert metrics.accuracy([0, 1, 1], np.array([[-0.2], [0.7], [3.0]]), threshold=0) == 1
    assert metrics.accuracy([0, 1, 1], [-2.0, 0.3, 1.0], threshold=0.5) == 2 / 3


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    expected = [[2, 1, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.confusion_matrix(TRUE, PREDICTED).tolist() == expected
    swapped = metrics.confusion_matrix(TRUE, PREDICTED, labels=[2, 1, 0])
    assert swapped.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 2]]
    wide = metrics.confusion_matrix(TRUE, PREDICTED, labels=range(4))
    assert wide.shape == (4, 4)
    assert wide[3].sum() == 0
    assert metrics.confusion_matrix([3, 7], [7, 7]).tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("metric", "each", "micro", "weighted"),
    [
        # TP 2 1 1, taken for the class 2 2 2, in the class 3 2 1
        (metrics.precision, [1, 1 / 2, 1 / 2], 4 / 6, (3 * 1 + 2 / 2 + 1 / 2) / 6),
        (metrics.recall, [2 / 3, 1 / 2, 1], 4 / 6, 4 / 6),
        (metrics.f1_score, [4 / 5, 2 / 4, 2 / 3], 4 / 6, (3 * 4 / 5 + 2 / 2 + 2 / 3) / 6),
    ],
)
def test_precision_recall_f1(metric, each, micro, weighted) -> None:
    np.testing.assert_allclose(metric(TRUE, PREDICTED, average=None), each)
    assert metric(TRUE, PREDICTED, average="macro") == pytest.approx(np.mean(each))
    assert metric(TRUE, PREDICTED, average="micro") == pytest.approx(micro)
    assert metric(TRUE, PREDICTED, average="weighted") == pytest.approx(weighted)


def test_binary_average_is_of_class_1() -> None:
    true, score = [1, 1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7, 0.2]  # TP 2, FP 1, FN 1
    assert metrics.precision(true, score) == pytest.approx(2 / 3)
    assert metrics.recall(true, score) == pytest.approx(2 / 3)
    assert metrics.f1_score(true, score) == pytest.approx(2 / 3)
    assert metrics.recall(true, score, threshold=0.85) == pytest.approx(1 / 3)


def test_zero_division() -> None:
    assert metrics.precision([1, 0], [0, 0]) == 0
    assert metrics.precision([1, 0], [0, 0], zero_division=1) == 1
    assert metrics.recall([0, 0], [1, 0], zero_division=1) == 1
    assert metrics.f1_score([0, 0], [0, 0], zero_division=0.5) == 0.5
    assert metrics.f1_score([1, 0], [0, 0], zero_division=1) == 0


def test_roc_auc_counts_ties_half() -> None:
    # pairs (positive, negative): .8>.1, .8>.4, .4>.1, .4=.4 → 3.5 of 4
    assert metrics.roc_auc([1, 0, 1, 0], [0.8, 0.1, 0.4, 0.4]) == 3.5 / 4
    assert metrics.roc_auc([0, 1], [5, 5]) == 0.5
    assert metrics.roc_auc([0, 1], [[2.0, 1.0], [0.0, 1.0]]) == 1
    assert metrics.roc_auc([0, 1], [[-np.inf], [3.0]]) == 1


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=30))
def test_roc_auc_is_the_share_of_ordered_pairs(samples: list[tuple[int, int]]) -> None:
    true, score = map(np.array, zip(*samples, strict=True))
    if true.min() == true.max():
        return
    pairs = score[true == 1][:, None] - score[true == 0]
    assert metrics.roc_auc(true, score) == pytest.approx(np.mean((np.sign(pairs) + 1) / 2))


def test_mean_squared_error() -> None:
    assert metrics.mean_squared_error([[1, 2], [3, 4]], [[1.0, 0.0], [0.0, 4.0]]) == 13 / 4
    large = Tensor(np.array([30000], np.int32))
    assert metrics.mean_squared_error(large, -large) == 3.6e9
    assert metrics.mean_squared_error(np.uint8([1]), np.uint8([3])) == 4


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: metrics.accuracy([], []), ValueRangeError, "accuracy: y_true is empty"),
        (
            lambda: metrics.accuracy(np.zeros(3), np.zeros(4)),
            ShapeError,
            r"accuracy: shapes do not fit: y_true \(3,\), y_pred \(4,\)",
        ),
        (
            lambda: metrics.accuracy(np.zeros((4, 3)), np.zeros(4)),
            ShapeError,
            r"y_true \(4, 3\), y_pred \(4,\)",
        ),
        (lambda: metrics.accuracy([0, -1], [0, 0]), ValueRangeError, r"class numbers.* -1"),
        (lambda: metrics.accuracy([0, 1], [0.5, 1.5]), ValueRangeError, "neither labels nor prob"),
        (lambda: metrics.accuracy([0, 1], [np.inf, 1]), ValueRangeError, "y_pred holds inf"),
        (lambda: metrics.accuracy([0, 1], [np.nan, 1]), ValueRangeError, "y_pred holds 1 NaN"),
        (lambda: metrics.accuracy(["a"], ["a"]), DTypeError, "must hold numbers, not <U1"),
        (lambda: metrics.precision(TRUE, PREDICTED), ValueRangeError, "here are 0, 1, 2"),
        (lambda: metrics.recall([0], [1], average="mean"), ValueRangeError, "'mean' is none of"),
        (
            lambda: metrics.roc_auc([1, 1], [0.1, 0.2]),
            ValueRangeError,
            "both 0 and 1.*: it holds 1",
        ),
        (lambda: metrics.roc_auc([0, 1], np.zeros((2, 3))), ShapeError, r"y_pred \(2, 3\)"),
        (
            lambda: metrics.mean_squared_error(np.zeros(3), np.zeros((3, 1))),
            ShapeError,
            r"y_true \(3,\), y_pred \(3, 1\)",
        ),
        (
            lambda: metrics.confusion_matrix([0, 1], [0, 4], labels=[0, 1]),
            ValueRangeError,
            "class 4 is not in labels",
        ),
        (
            lambda: metrics.confusion_matrix([0, 1], [0, 1], labels=[0, 1, 1]),
            ValueRangeError,
            "without repetition",
        ),
        (lambda: metrics.accuracy([[0], [1, 2]], [0, 1]), DTypeError, "y_true cannot be made an"),
        (lambda: metrics.accuracy([1e300], [1e300]), ValueRangeError, r"class numbers.* 1e\+300"),
    ],
)
def test_bad_input_is_named(call, kind, message) -> None:
    with pytest.raises(kind, match=message):
        call()


def test_one_hot_rows_are_classes_where_scores_stand_beside_them() -> None:
    one_hot, scores = np.eye(3)[TRUE], np.eye(3)[PREDICTED] * 7 - 3.5
    assert metrics.accuracy(one_hot, scores) == 4 / 6
    assert metrics.f1_score(one_hot, scores, average="micro") == pytest.approx(4 / 6)
    indicators = metrics.accuracy(one_hot, np.eye(3)[PREDICTED])  # labels: each counts by itself
    assert indicators == pytest.approx(1 - 4 / 18)
    assert metrics.accuracy(one_hot, scores, threshold=0) == pytest.approx(1 - 4 / 18)


def test_a_mean_beyond_all_numbers_is_infinite() -> None:
    assert metrics.mean_squared_error([1e300], [-1e300]) == np.inf
