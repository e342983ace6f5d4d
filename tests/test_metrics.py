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


@pytest.mark.parametrize(
    ("count", "low", "high"),
    [(1, 1, 1), (2, 1, 2), (5, 1, 5), (6, 1, 6), (8, 1, 8), (9, 2, 8), (10, 2, 9), (20, 6, 15), (25, 8, 18), (100, 40, 61)],
)
def test_median_interval_takes_the_ranks_of_the_sign_tests_tables(count: int, low: int, high: int) -> None:
    """For ten values: one head or none comes in 11 of 1024 series (1.1 %), two or fewer in 56 (5.5 %), so the second and the ninth."""
    values = np.arange(1, count + 1, dtype=float)
    assert metrics.median_interval(values[::-1]) == (low, high)


@pytest.mark.parametrize("count", [999, 1000, 1001, 1002, 5000])
def test_median_interval_of_many_goes_over_into_the_normal_one(count: int) -> None:
    low, high = metrics.median_interval(np.arange(1, count + 1))
    assert low == pytest.approx(count / 2 - 0.98 * math.sqrt(count), abs=2)
    assert low + high == count + 1


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6)))
def test_median_interval_holds_the_median(values: np.ndarray) -> None:
    low, high = metrics.median_interval(values)
    assert low <= np.median(values) <= high


def paired(lost: int, won: int, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Return who is right on which image: `lost` only the first, `won` only the second, half of the others both."""
    expected, found = np.zeros(images, bool), np.zeros(images, bool)
    expected[:lost] = True
    found[lost : lost + won] = True
    both = slice(lost + won, (images + lost + won) // 2)
    expected[both] = found[both] = True
    return expected, found


@pytest.mark.parametrize("images", [10, 100, 2000])
def test_drop_interval_without_any_difference_by_hand(images: int) -> None:
    """With nothing lost or won the score equation is n d² = z² d (1 - d), so d = z² / (n + z²)."""
    widest = 1.959964**2 / (images + 1.959964**2)
    assert metrics.drop_interval(*paired(0, 0, images)) == pytest.approx((-widest, widest))


@pytest.mark.parametrize(("lost", "images"), [(1, 44), (5, 100), (14, 2000), (100, 100)])
def test_drop_interval_ends_with_wilsons_where_nothing_was_won(lost: int, images: int) -> None:
    """Then the likeliest fraction of images won is 0, and Tango's equation is Wilson's of lost / images."""
    assert metrics.drop_interval(*paired(lost, 0, images))[1] == pytest.approx(metrics.accuracy_interval(lost / images, images)[1])


@pytest.mark.parametrize(("lost", "won", "images"), [(12, 2, 2000), (9, 36, 290), (30, 30, 500)])
def test_the_ends_of_a_drop_interval_are_1_96_errors_away(lost: int, won: int, images: int) -> None:
    """The fraction won under a drop d maximizes lost·log(q + d) + won·log(q) + others·log(1 - 2q - d): searched for here on a grid."""
    for end in metrics.drop_interval(*paired(lost, won, images)):
        q = np.linspace(max(0, -end) + 1e-9, (1 - end) / 2 - 1e-9, 400_001)
        likelihood = lost * np.log(q + end) + won * np.log(q) + (images - lost - won) * np.log(1 - 2 * q - end)
        best = q[likelihood.argmax()]
        error = math.sqrt(images * (2 * best + end * (1 - end)))
        assert abs(lost - won - images * end) / error == pytest.approx(1.96, abs=2e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 300))
def test_drop_interval_holds_the_drop_and_turns_round_with_its_arguments(lost: int, won: int, others: int) -> None:
    expected, found = paired(lost, won, lost + won + others)
    low, high = metrics.drop_interval(expected, found)
    assert -1 <= low <= (lost - won) / (lost + won + others) <= high <= 1
    assert metrics.drop_interval(found, expected) == pytest.approx((-high, -low))


def test_drop_interval_covers_the_truth_in_19_of_20_cases() -> None:
    """2 % are lost, 1 % won on 400 images: the true drop is 1 %."""
    rng = np.random.default_rng(1)
    draws = rng.multinomial(400, [0.02, 0.01, 0.97], 600)
    covered = sum(low <= 0.01 <= high for low, high in (metrics.drop_interval(*paired(lost, won, 400)) for lost, won, _ in draws))
    assert covered / len(draws) == pytest.approx(0.95, abs=0.025)
