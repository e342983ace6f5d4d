"""From a finished run to quantization-aware distillation: its own views, its teacher's answers, its validation images."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from tiny_network import RECIPE

from edgedistill import recipe
from edgedistill.bundle import Preprocess
from edgedistill.convert import calibration
from edgedistill.convert.aware import Points
from edgedistill.convert.graph import Graph, logits_of, prepare
from edgedistill.convert.graph.rewrite import aten
from edgedistill.distill import run
from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.loader import View, collate
from edgedistill.distill.losses.batch import UNLABELLED
from edgedistill.distill.run import Run
from edgedistill.quantization_aware import labels_of, lessons_of, pixels_of, trained_by
from edgedistill.recipe import QuantizationAware, Term

SETTINGS = QuantizationAware(epochs=1, batch_size=32, lr=1e-3)


class Finished:
    """A run that was made, with its data and its graph."""

    def __init__(self, wanted: recipe.Recipe, folder: Path) -> None:
        run.distill(wanted, folder)
        self.run: Run = run.load(folder)
        self.splits: Splits = open_splits(wanted.data)
        student = self.run.student
        self.graph: Graph = prepare(student.module, self.run.preprocess, mean=student.mean, std=student.std, classes=len(student.classes))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(recipe.decode(RECIPE), tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def taught(plain: Finished, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    teacher = recipe.Teacher(
        model="python:tiny_network:make",
        weights=str(plain.run.path / run.STUDENT),
        licence="Apache-2.0",
        input_size=plain.run.student.input_size,
        mean=plain.run.student.mean,
        std=plain.run.student.std,
    )
    wanted = msgspec.structs.replace(recipe.decode(RECIPE), teacher=teacher, distill=(Term(loss="kd"),))
    return Finished(wanted, tmp_path_factory.mktemp("taught") / "run")


def test_lessons_are_the_runs_views_with_its_teachers_answers(plain: Finished, taught: Finished) -> None:
    epoch = lessons_of(taught.run, taught.splits, batch_size=32)(0)
    batches = list(epoch)
    assert len(epoch) == len(batches) == len(taught.splits.train) // 32
    size = taught.run.student.input_size
    for batch in batches[:3]:
        assert (batch.pixels_nhwc.shape, batch.pixels_nhwc.dtype) == ((32, size, size, 3), np.uint8)
        assert batch.labels is not None
        assert batch.labels.min() >= 0
        # The teacher is the plain student; a cache keeps its logits up to a number common to all classes.
        found, expected = (
            logits - logits.mean(1, keepdims=True) for logits in (batch.teacher_logits, logits_of(plain.graph, batch.pixels_nhwc))
        )
        assert found == pytest.approx(expected, rel=0.02, abs=0.02)


def test_epochs_differ_and_the_same_epoch_does_not(taught: Finished) -> None:
    lessons = lessons_of(taught.run, taught.splits, batch_size=32)
    first, again, second = (next(iter(lessons(epoch))) for epoch in (0, 0, 1))
    assert np.array_equal(first.pixels_nhwc, again.pixels_nhwc)
    assert not np.array_equal(first.pixels_nhwc, second.pixels_nhwc)


def test_without_a_teacher_there_are_no_answers(plain: Finished) -> None:
    assert next(iter(lessons_of(plain.run, plain.splits, batch_size=32)(0))).teacher_logits is None


def test_a_batch_is_no_larger_than_the_data(plain: Finished) -> None:
    lessons = lessons_of(plain.run, plain.splits, batch_size=10**6)
    assert len(lessons(0)) == 1


def test_views_are_brought_to_the_students_size() -> None:
    grey = [View(np.full((8, 8, 3), level, np.uint8), 0, 0, 0, 0, 1.0) for level in (3, 250)]
    pixels = pixels_of(collate(grey), Preprocess(height=4, width=4))
    assert (pixels.shape, pixels.dtype) == ((2, 4, 4, 3), np.uint8)
    assert [np.unique(image).tolist() for image in pixels] == [[3], [250]]
    assert np.array_equal(pixels_of(collate(grey), Preprocess(height=8, width=8))[1], grey[1].pixels)


def test_mixed_views_have_no_label() -> None:
    blank = np.zeros((4, 4, 3), np.uint8)
    piece = collate([View(blank, 2, 0, 0, 2, 1.0), View(blank, 2, 1, 1, 3, 0.7), View(blank, UNLABELLED, 2, 2, UNLABELLED, 1.0)])
    assert labels_of(piece).tolist() == [2, UNLABELLED, UNLABELLED]


def test_a_student_is_trained_and_all_ranges_are_of_what_comes_out(taught: Finished) -> None:
    graph, told = taught.graph, []
    pixels = next(iter(lessons_of(taught.run, taught.splits, batch_size=64)(0))).pixels_nhwc
    ranges = calibration.ranges_of(calibration.observe(graph, pixels, histograms=False), "minmax")
    relus = [node.name for node in graph.module.graph.nodes if node.target is aten.relu.default]
    train = trained_by(taught.run, taught.splits, settings=SETTINGS, progress=lambda text, done, total: told.append(text))
    trained, found = train(graph, ranges, Points(stored={name: name for name in relus}))
    assert relus
    assert any("training with fake quantization" in text for text in told)
    assert set(found) == set(ranges)
    assert all(low <= 0 <= high for low, high in found.values())
    with torch.no_grad():
        assert np.isfinite(logits_of(trained, pixels)).all()
    # what is no point is observed on the trained graph, not taken from before
    assert found["linear" if "linear" in found else list(found)[-1]] != ranges["linear" if "linear" in ranges else list(ranges)[-1]]
