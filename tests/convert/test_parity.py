"""The parity ladder: figures known by hand, budgets at their edges, and a table that shows which rung broke."""

from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tiny_bundle

from edgedistill import bundle, metrics
from edgedistill.bundle import ModelFile
from edgedistill.convert.parity import LayerError, Reference, check, compare, table
from edgedistill.errors import ParityError
from edgedistill.postprocess import log_probabilities, softmax
from edgedistill.recipe import Export
from edgedistill.runtime import predict_logits

SETTINGS = Export(min_agreement=0.999, max_int8_drop=0.01)
FRAMES = np.zeros((1000, 2, 2, 3), np.uint8)


def model_of(precision: str, *, file: str) -> ModelFile:
    return msgspec.structs.replace(tiny_bundle.entry(tiny_bundle.DATA / "tiny-fp32.tflite"), file=file, precision=precision)


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
    rung = compare(answers(other=other), reference(), model=model_of(precision, file="x"), settings=SETTINGS)
    assert rung.ok is ok
    assert rung.agreement == pytest.approx(1 - other / 1000)
    assert rung.accuracy == pytest.approx(0.9 - other / 1000)
    assert rung.accuracy_delta == pytest.approx(-other / 1000)


def test_figures_of_a_rung() -> None:
    expected = Reference(FRAMES[:2], np.array([0, 1]), np.float32([[3, 4], [4, 3]]))
    rung = compare(np.float32([[4, 3], [4, 3.5]]), expected, model=model_of("int8", file="f.onnx"), settings=SETTINGS)
    assert rung.max_delta == 1
    assert rung.cosine == pytest.approx((12 + 12 + 16 + 10.5) / np.sqrt(50 * (25 + 16 + 12.25)))
    assert (rung.agreement, rung.accuracy, rung.accuracy_delta, rung.images) == (0.5, 0.5, 0.5, 2)


def test_an_int8_file_that_is_better_is_fine() -> None:
    student = reference(right=0)
    assert compare(answers(other=0)[:, [1, 0, 2]], student, model=model_of("int8", file="x"), settings=SETTINGS).ok


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_answers_that_are_not_finite_are_never_fine(precision: str) -> None:
    logits = answers(other=0)
    logits[5, 2] = np.nan
    loose = msgspec.structs.replace(SETTINGS, min_agreement=0.0, max_int8_drop=1.0)
    assert not compare(logits, reference(), model=model_of(precision, file="x"), settings=loose).ok


def rungs(*others: int):
    kinds = ["fp32", "fp32", "int8", "int8"]
    names = ["a.onnx", "a.tflite", "b.onnx", "b.tflite"]
    return [
        compare(answers(other=other), reference(), model=model_of(kind, file=name), settings=SETTINGS)
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
    assert re.split(r"  +", lines[0]) == ["file", "max |delta|", "cosine", "agreement", "accuracy", "95 %", "drop", "95 %", "budget"]
    start = lines[0].index("agreement")
    assert lines[1][start:].startswith("100.00%")
    assert lines[2][start:].startswith("98.00%")
    drop = lines[0].index("drop")
    assert [line[drop:].split()[0] for line in lines[1:]] == ["0.00%", "2.00%"]


def test_the_table_shows_the_worst_layers_of_a_file_that_was_looked_into() -> None:
    found = rungs(0, 0, 400)
    found[2] = found[2]._replace(worst=(LayerError("blocks.1.conv", 3.25, 20.0), LayerError("stem", 8.0, math.inf)))
    lines = table(found).splitlines()
    assert lines[-3:] == ["most noise in b.onnx:", "  blocks.1.conv: 3.2 dB (20.0 dB before it)", "  stem: 8.0 dB (exact input)"]
    assert len(lines) == 1 + 3 + 3


def test_intervals_of_a_rung() -> None:
    """900 of 1000 right; 10 images lost, none won: with none won, Tango's interval ends where Wilson's of 10 / 1000 does."""
    rung = compare(answers(other=10), reference(), model=model_of("int8", file="x"), settings=SETTINGS)
    assert (rung.drop, rung.accuracy_delta) == (pytest.approx(0.01), pytest.approx(-0.01))
    assert rung.accuracy_interval == pytest.approx(metrics.accuracy_interval(0.89, 1000))
    assert rung.drop_interval[1] == pytest.approx(metrics.accuracy_interval(0.01, 1000)[1])
    assert 0 < rung.drop_interval[0] < 0.01


@pytest.mark.parametrize(("other", "ok"), [(10, True), (11, False)])
def test_half_precision_has_the_budget_of_int8(other: int, ok: bool) -> None:
    rung = compare(answers(other=other), reference(), model=model_of("fp16", file="x"), settings=SETTINGS)
    assert rung.ok is ok
    assert rung.budget == "drop <= 1.00%"


def cards(count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 3
    return np.stack([tiny_bundle.card(tiny_bundle.LABELS[label]) for label in labels]), labels


def test_the_tiny_files_answer_alike_through_the_runtime_and_swapped_colours_are_seen(tmp_path: Path) -> None:
    loaded = bundle.load(tiny_bundle.make(tmp_path / "tiny"))
    frames, labels = cards(9)
    expected = predict_logits(loaded, frames, file="tiny-fp32.onnx")
    swapped = predict_logits(loaded, frames[..., ::-1], file="tiny-fp32.onnx")
    found = {}
    for model in loaded.manifest.files:
        answers = predict_logits(loaded, frames, file=model.file)
        found[model.file] = compare(answers, Reference(frames, labels, expected), model=model, settings=SETTINGS)
        wrong = compare(answers, Reference(frames, labels, swapped), model=model, settings=SETTINGS)
        assert wrong.ok is (model.precision == "int8")  # it is right where the reference is wrong
    assert all(rung.ok and rung.accuracy == 1 for rung in found.values())
    assert found["tiny-fp32.onnx"].max_delta == 0
    assert 0 < found["tiny-fp32.tflite"].max_delta < 1e-4 < found["tiny-int8.tflite"].max_delta


def test_a_file_that_gives_probabilities_is_compared_with_the_student_s() -> None:
    """Logits that differ by a number of their own for each image are the same probabilities."""
    student = reference()
    shifted = student.logits_nc + np.arange(1000, dtype=np.float32)[:, None] / 100
    logarithms = log_probabilities(softmax(shifted))
    model = msgspec.structs.replace(model_of("fp32", file="p.tflite"), scores="probabilities")
    rung = compare(logarithms, student, model=model, settings=SETTINGS)
    assert (rung.ok, rung.agreement) == (True, 1.0)
    assert rung.max_delta < 1e-5
    assert rung.cosine == pytest.approx(1)
    assert compare(logarithms, student, model=model_of("fp32", file="l.tflite"), settings=SETTINGS).max_delta > 2
