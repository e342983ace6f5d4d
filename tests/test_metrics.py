"""Golden values computed by hand, and the laws that hold for any logits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedistill import metrics

LOGITS = np.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 0.25], [0.0, 0.0, 9.0]], np.float32)
LABELS = np.array([0, 1, 2, 2])
ANY_LOGITS = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8), elements=st.floats(-50, 50))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([0, 1, 2, 2], 0.75), ([0, 1, 0, 2], 1.0), ([1, 0, 1, 0], 0.0)],
)
def test_accuracy(labels: list[int], expected: float) -> None:
    assert metrics.accuracy(LOGITS, np.array(labels)) == expected


def test_agreement_compares_top_1_only() -> None:
    other = LOGITS.copy()
    assert metrics.agreement(LOGITS, other * 100) == 1.0
    other[0] = [0, 1, 0]
    assert metrics.agreement(LOGITS, other) == 0.75


def test_confusion_matrix_has_true_classes_in_rows() -> None:
    expected = [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    found = metrics.confusion_matrix(LOGITS, LABELS)
    assert found.tolist() == expected
    assert found.dtype == np.int64


def test_confusion_matrix_keeps_classes_that_do_not_occur() -> None:
    assert metrics.confusion_matrix(np.array([[1.0, 0, 0, 0]]), np.array([0], np.uint8)).shape == (4, 4)


def test_confusion_matrix_of_small_label_types_does_not_overflow() -> None:
    logits = np.eye(20)
    found = metrics.confusion_matrix(logits, np.arange(20, dtype=np.uint8))
    assert found.tolist() == np.eye(20, dtype=int).tolist()


@pytest.mark.parametrize(
    ("logits", "labels", "expected"),
    [
        ([[0.0, 0.0]], [1], math.log(2)),
        ([[math.log(3), 0.0]], [0], math.log(4 / 3)),
        ([[math.log(3), 0.0], [math.log(3), 0.0]], [0, 1], (math.log(4 / 3) + math.log(4)) / 2),
        ([[1000.0, 0.0]], [1], 1000.0),
        ([[1000.0, 0.0]], [0], 0.0),
    ],
)
def test_negative_log_likelihood(logits: list[list[float]], labels: list[int], expected: float) -> None:
    assert metrics.negative_log_likelihood(np.array(logits), np.array(labels)) == pytest.approx(expected)


def test_calibration_error_by_hand() -> None:
    """Two answers with p = 0.75, one right (bin gap 0.25), and two with p = 0.9, both right (gap 0.1): (2·0.25 + 2·0.1) / 4."""
    three_to_one, nine_to_one = [math.log(3), 0.0], [math.log(9), 0.0]
    logits = np.array([three_to_one, three_to_one, nine_to_one, nine_to_one])
    found = metrics.expected_calibration_error(logits, np.array([0, 1, 0, 0]), bins=10)
    assert found == pytest.approx((2 * 0.25 + 2 * 0.1) / 4)


def test_calibration_error_cancels_within_a_bin_only() -> None:
    """With one bin only the mean confidence counts: |3 hits - 3.3| / 4."""
    logits = np.array([[math.log(3), 0.0]] * 2 + [[math.log(9), 0.0]] * 2)
    assert metrics.expected_calibration_error(logits, np.array([0, 1, 0, 0]), bins=1) == pytest.approx(0.3 / 4)


@pytest.mark.parametrize(("label", "expected"), [(0, 0.0), (1, 1.0)])
def test_calibration_error_of_full_confidence(label: int, expected: float) -> None:
    assert metrics.expected_calibration_error(np.array([[1000.0, 0.0]]), np.array([label])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 0.0], [0.0, 2.0], 0.0),
        ([1.0, 2.0], [2.0, 4.0], 1.0),
        ([1.0, 2.0], [-1.0, -2.0], -1.0),
        ([1.0, 0.0], [1.0, 1.0], math.sqrt(0.5)),
        ([0.0, 0.0], [0.0, 0.0], 1.0),
        ([0.0, 0.0], [0.0, 1.0], 0.0),
    ],
)
def test_cosine(a: list[float], b: list[float], expected: float) -> None:
    assert metrics.cosine(np.array(a), np.array(b)) == pytest.approx(expected)
    assert metrics.cosine(np.array([a]), np.array([b])) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "images", "low", "high"),
    [
        (0.5, 100, 0.4038, 0.5962),
        (0.9, 2000, 0.8861, 0.9124),
        (1.0, 100, 0.9630, 1.0),
        (0.0, 100, 0.0, 0.0370),
    ],
)
def test_accuracy_interval_against_wilsons_tables(value: float, images: int, low: float, high: float) -> None:
    assert metrics.accuracy_interval(value, images) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_accuracy_interval_holds_the_accuracy_and_stays_in_0_to_1(images: int, value: float) -> None:
    low, high = metrics.accuracy_interval(value, images)
    assert 0 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1


@given(ANY_LOGITS, st.data())
def test_laws_of_any_logits(logits: np.ndarray, data: st.DataObject) -> None:
    images, classes = logits.shape
    labels = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images)))
    matrix = metrics.confusion_matrix(logits, labels)
    assert matrix.sum() == images
    assert np.trace(matrix) / images == pytest.approx(metrics.accuracy(logits, labels))
    assert matrix.sum(axis=1).tolist() == np.bincount(labels, minlength=classes).tolist()
    assert metrics.negative_log_likelihood(logits, labels) >= 0
    assert 0 <= metrics.expected_calibration_error(logits, labels) <= 1 + 1e-12
    assert metrics.agreement(logits, logits) == 1.0
    assert metrics.negative_log_likelihood(logits + 7.5, labels) == pytest.approx(metrics.negative_log_likelihood(logits, labels))
