"""From stored output to answer: golden values, ties, thresholds, and the laws of softmax."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgedistill.bundle import Quantization
from edgedistill.postprocess import FEW, Prediction, TopK, dequantize, log_probabilities, softmax, top_k

LOGITS = hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-80, 80, width=32))


@pytest.mark.parametrize(
    ("stored", "quantization", "expected"),
    [
        (np.array([-128, 0, 127], np.int8), Quantization(scale=0.5, zero_point=-128), [0.0, 64.0, 127.5]),
        (np.array([0, 128, 255], np.uint8), Quantization(scale=0.25, zero_point=128), [-32.0, 0.0, 31.75]),
        (np.array([[-1, 1]], np.int8), Quantization(scale=2.0, zero_point=0), [[-2.0, 2.0]]),
        (np.array([1.5, -2.5], np.float32), None, [1.5, -2.5]),
    ],
)
def test_dequantize(stored: np.ndarray, quantization: Quantization | None, expected: list[float]) -> None:
    found = dequantize(stored, quantization)
    assert found.tolist() == expected
    assert found.dtype == np.float32


def test_dequantized_floats_do_not_share_the_interpreter_s_memory() -> None:
    stored = np.zeros(3, np.float32)
    logits = dequantize(stored, None)
    stored[:] = 7
    assert logits.tolist() == [0, 0, 0]


@given(st.integers(-128, 127), st.floats(1e-3, 10), st.integers(-128, 127))
def test_dequantize_is_the_affine_map(stored: int, scale: float, zero_point: int) -> None:
    found = dequantize(np.array([stored], np.int8), Quantization(scale=scale, zero_point=zero_point))
    assert found[0] == pytest.approx(scale * (stored - zero_point), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "expected"),
    [
        ([0.0, 0.0], [0.5, 0.5]),
        ([math.log(3), 0.0], [0.75, 0.25]),
        ([1000.0, 0.0], [1.0, 0.0]),
        ([-1000.0, -1000.0], [0.5, 0.5]),
        ([5.0], [1.0]),
    ],
)
def test_softmax(logits: list[float], expected: list[float]) -> None:
    assert softmax(np.array(logits)) == pytest.approx(expected)


def test_softmax_works_along_the_last_axis_and_keeps_the_dtype() -> None:
    found = softmax(np.array([[0.0, 0.0], [math.log(3), 0.0]], np.float32))
    assert found.dtype == np.float32
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.75, 0.25]]))


@given(LOGITS, st.floats(-20, 20))
def test_softmax_is_a_distribution_that_ignores_a_shift(logits: np.ndarray, shift: float) -> None:
    found = softmax(logits)
    assert found.sum() == pytest.approx(1, rel=1e-5)
    assert (found >= 0).all()
    assert softmax(logits.astype(np.float64) + shift) == pytest.approx(softmax(logits.astype(np.float64)), abs=1e-9)


NINE_TO_ONE = np.array([0.0, math.log(9)], np.float32)


@pytest.mark.parametrize(
    ("k", "threshold", "expected"),
    [
        (1, 0.0, [(1, "dog", 0.9)]),
        (2, 0.0, [(1, "dog", 0.9), (0, "cat", 0.1)]),
        (9, 0.0, [(1, "dog", 0.9), (0, "cat", 0.1)]),
        (2, 0.5, [(1, "dog", 0.9)]),
        (2, 0.95, []),
        (0, 0.0, []),
    ],
)
def test_top_k(k: int, threshold: float, expected: list[tuple[int, str, float]]) -> None:
    found = top_k(NINE_TO_ONE, ["cat", "dog"], k=k, threshold=threshold)
    assert [(p.class_id, p.label, pytest.approx(p.score)) for p in found] == expected


@pytest.mark.parametrize(
    ("watched", "expected"),
    [((), None), ((0,), (0, 0.1)), ((1,), (1, 0.9)), ((1, 0), (1, 0.9)), ((2,), (2, 0.0)), ((2, 0), (0, 0.1))],
)
def test_what_is_watched_is_known_whatever_top_k_and_threshold_leave_out(
    watched: tuple[int, ...], expected: tuple[int, float] | None
) -> None:
    answer = TopK(["cat", "dog", "cow"], k=1, threshold=0.95, watched=watched)
    assert answer(np.array([0.0, math.log(9), -200.0], np.float32)) == ()
    found = answer.watched()
    assert (found and (found.class_id, pytest.approx(found.score))) == expected
    assert found is None or [type(value) for value in found] == [int, str, float]


@given(LOGITS, st.data())
def test_the_likeliest_watched_class_is_that_of_softmax(logits: np.ndarray, data: st.DataObject) -> None:
    watched = data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1, unique=True))
    answer = TopK([str(i) for i in range(len(logits))], watched=watched)
    answer(logits)
    found, expected = answer.watched(), softmax(logits)
    assert found is not None
    assert found.class_id in watched
    assert found.score == pytest.approx(float(expected[watched].max()), rel=1e-5, abs=1e-9)
    assert found.label == str(found.class_id)


def test_equal_logits_are_ordered_by_index() -> None:
    found = top_k(np.zeros(4, np.float32), list("abcd"), k=3)
    assert [p.label for p in found] == ["a", "b", "c"]


def test_a_prediction_is_made_of_plain_types_for_json() -> None:
    (found,) = top_k(NINE_TO_ONE, ["cat", "dog"])
    assert [type(value) for value in found] == [int, str, float]
    assert isinstance(found, Prediction)


@pytest.mark.parametrize("shape", [(1, 2), (3,), ()])
def test_logits_that_do_not_fit_the_labels(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected logits of shape \(2,\) for 2 labels"):
        top_k(np.zeros(shape, np.float32), ["cat", "dog"])


@given(LOGITS, st.integers(1, 25))
def test_top_k_agrees_with_sorting(logits: np.ndarray, k: int) -> None:
    found = top_k(logits, [str(i) for i in range(len(logits))], k=k)
    scores = [p.score for p in found]
    assert len(found) == min(k, len(logits))
    assert scores == sorted(scores, reverse=True)
    assert logits[found[0].class_id] == pytest.approx(logits.max(), abs=1e-5)
    assert len({p.class_id for p in found}) == len(found)


@given(LOGITS)
def test_the_logarithms_of_probabilities_have_these_probabilities(logits: np.ndarray) -> None:
    probabilities = softmax(logits)
    found = log_probabilities(probabilities)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_allclose(softmax(found), probabilities, atol=1e-6)


def test_classes_that_cannot_be_keep_the_others_shares() -> None:
    found = log_probabilities(np.array([0.0, 0.25, 0.75], np.float32))
    assert softmax(found).tolist() == pytest.approx([0, 0.25, 0.75])
    assert top_k(found, ["a", "b", "c"], k=3)[0] == Prediction(2, "c", pytest.approx(0.75))


def naive(logits: np.ndarray, k: int) -> list[tuple[int, float]]:
    order = np.argsort(-logits, kind="stable")[:k]
    exponents = np.exp(logits - logits.max())
    return [(int(i), float(exponents[i]) / float(exponents.sum())) for i in order]


@given(st.lists(LOGITS, min_size=1, max_size=3), st.integers(2, FEW + 4))
def test_answers_in_memory_that_is_used_again_are_those_of_sorting(rows: list[np.ndarray], k: int) -> None:
    classes = min(len(row) for row in rows)
    answer = TopK([str(i) for i in range(classes)], k=k)
    for row in rows:
        logits = np.round(row[:classes])  # so that there are equal ones
        kept = logits.copy()
        assert [(found.class_id, found.score) for found in answer(logits)] == naive(logits, k)
        assert np.array_equal(logits, kept)


def test_classes_that_cannot_be_are_ordered_by_index_too() -> None:
    logits = np.array([-np.inf, 1.0, -np.inf, -np.inf], np.float32)
    assert [found.class_id for found in TopK(list("abcd"), k=4)(logits)] == [1, 0, 2, 3]


@pytest.mark.parametrize("quantization", [None, Quantization(scale=0.7, zero_point=-5)])
def test_values_are_written_into_given_memory(quantization: Quantization | None) -> None:
    stored = np.arange(-128, 128).astype(np.int8)
    memory = np.empty(256, np.float32)
    assert dequantize(stored, quantization, into=memory) is memory
    assert memory.tolist() == dequantize(stored, quantization).tolist()
    probabilities = softmax(memory)
    expected = log_probabilities(probabilities)
    assert log_probabilities(probabilities, into=probabilities) is probabilities
    assert probabilities.tolist() == expected.tolist()
