"""The parity ladder: figures known by hand, budgets at their edges, and a table that shows which rung broke."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle
from edgedistill.convert.parity import FEWEST_IMAGES, Reference, check, climb, compare, table
from edgedistill.errors import ConvertError, ParityError
from edgedistill.recipe import Export
from edgedistill.runtime import predict_logits

SETTINGS = Export(min_agreement=0.999, max_int8_drop=0.01)
FRAMES = np.zeros((1000, 2, 2, 3), np.uint8)


def reference(count: int = 1000, *, right: int = 900) -> Reference:
    """Return a student that says class 0 for everything, and is right on the first `right` images."""
    labels = np.zeros(count, int)
    labels[right:] = 1
    return Reference(FRAMES[:count], labels, np.tile(np.float32([2, 0, -1]), (count, 1)))


def answers(count: int = 1000, *, other: int) -> np.ndarray:
    """Return logits like the reference's, but class 2 on the first `other` images."""
    logits = np.tile(np.float32([2, 0, -1]), (count, 1))
    logits[:other] = [0, -1, 2]
    return logits


@pytest.mark.parametrize(
    ("precision", "other", "ok"),
    [("fp32", 0, True), ("fp32", 1, True), ("fp32", 2, False), ("int8", 0, True), ("int8", 10, True), ("int8", 11, False)],
)
def test_budgets_hold_to_the_last_image(precision: str, other: int, ok: bool) -> None:
    rung = compare(answers(other=other), reference(), file="x", precision=precision, settings=SETTINGS)
    assert rung.ok is ok
    assert rung.agreement == pytest.approx(1 - other / 1000)
    assert rung.accuracy == pytest.approx(0.9 - other / 1000)
    assert rung.accuracy_delta == pytest.approx(-other / 1000)


def test_figures_of_a_rung() -> None:
    expected = Reference(FRAMES[:2], np.array([0, 1]), np.float32([[3, 4], [4, 3]]))
    rung = compare(np.float32([[4, 3], [4, 3.5]]), expected, file="f.onnx", precision="int8", settings=SETTINGS)
    assert rung.max_delta == 1
    assert rung.cosine == pytest.approx((12 + 12 + 16 + 10.5) / np.sqrt(50 * (25 + 16 + 12.25)))
    assert (rung.agreement, rung.accuracy, rung.accuracy_delta, rung.images) == (0.5, 0.5, 0.5, 2)


def test_an_int8_file_that_is_better_is_fine() -> None:
    student = reference(right=0)
    assert compare(answers(other=0)[:, [1, 0, 2]], student, file="x", precision="int8", settings=SETTINGS).ok


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_answers_that_are_not_finite_are_never_fine(precision: str) -> None:
    logits = answers(other=0)
    logits[5, 2] = np.nan
    loose = msgspec.structs.replace(SETTINGS, min_agreement=0.0, max_int8_drop=1.0)
    assert not compare(logits, reference(), file="x", precision=precision, settings=loose).ok


def rungs(*others: int):
    kinds = ["fp32", "fp32", "int8", "int8"]
    names = ["a.onnx", "a.tflite", "b.onnx", "b.tflite"]
    return [
        compare(answers(other=other), reference(), file=name, precision=kind, settings=SETTINGS)
        for other, kind, name in zip(others, kinds, names, strict=False)
    ]


def test_check_lets_good_ladders_pass() -> None:
    check(rungs(0, 1, 10, 5))


@pytest.mark.parametrize(
    ("others", "first", "advice"),
    [
        ((0, 500, 0, 500), "a.tflite", "leave this format out"),
        ((0, 0, 400), "b.onnx", "export.calibration"),
        ((7, 0, 0, 900), "a.onnx", "leave this format out"),
    ],
)
def test_check_names_the_first_broken_rung_and_shows_all(others: tuple, first: str, advice: str) -> None:
    with pytest.raises(ParityError, match=advice) as caught:
        check(rungs(*others))
    assert str(caught.value).startswith(f"{first} does not answer like the student")
    assert caught.value.exit_code == 1
    lines = caught.value.table.splitlines()
    assert len(lines) == 1 + len(others)
    assert next(line for line in lines if line.endswith("BROKEN")).startswith(first)


def test_the_table_is_aligned_and_complete() -> None:
    lines = table(rungs(0, 20)).splitlines()
    assert lines[0].split() == ["file", "max", "|delta|", "cosine", "agreement", "accuracy", "difference", "budget"]
    start = lines[0].index("agreement")
    assert lines[1][start:].startswith("100.00%")
    assert lines[2][start:].startswith("98.00%")
    assert "-2.00%" in lines[2]


@pytest.fixture
def loaded(tmp_path: Path) -> bundle.Bundle:
    return bundle.load(tiny_bundle.make(tmp_path / "tiny"))


def cards(count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 3
    return np.stack([tiny_bundle.card(tiny_bundle.LABELS[label]) for label in labels]), labels


def test_climb_runs_every_file_through_the_runtime(loaded: bundle.Bundle) -> None:
    frames, labels = cards(FEWEST_IMAGES)
    expected = predict_logits(loaded, frames, file="tiny-fp32.onnx")
    told: list[str] = []
    ladder = climb(loaded, Reference(frames, labels, expected), settings=SETTINGS, progress=told.append)
    assert [rung.file for rung in ladder.rungs] == tiny_bundle.FILES
    assert all(rung.ok and rung.accuracy == 1 for rung in ladder.rungs)
    by_file = {rung.file: rung for rung in ladder.rungs}
    assert by_file["tiny-fp32.onnx"].max_delta == 0
    assert 0 < by_file["tiny-fp32.tflite"].max_delta < 1e-4 < by_file["tiny-int8.tflite"].max_delta
    assert ladder.logits["tiny-fp32.onnx"] == pytest.approx(expected)
    assert [message.split()[1] for message in told] == tiny_bundle.FILES


def test_climb_sees_swapped_colours(loaded: bundle.Bundle) -> None:
    frames, labels = cards(FEWEST_IMAGES)
    expected = predict_logits(loaded, frames[..., ::-1], file="tiny-fp32.onnx")
    ladder = climb(loaded, Reference(frames, labels, expected), settings=SETTINGS)
    assert not any(rung.ok for rung in ladder.rungs if rung.precision == "fp32")


@pytest.mark.parametrize("count", [0, FEWEST_IMAGES - 1])
def test_too_few_images_prove_nothing(loaded: bundle.Bundle, count: int) -> None:
    frames, labels = cards(FEWEST_IMAGES)
    with pytest.raises(ConvertError, match=f"at least 256 test images, got {count}"):
        climb(loaded, Reference(frames[:count], labels[:count], np.zeros((count, 3))), settings=SETTINGS)
