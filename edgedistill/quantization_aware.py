"""From a finished run to what quantization-aware distillation learns from: its own views, and its teacher's answers from the cache.

Beside `pipeline` the only file that knows both `distill` and `convert`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from lightning_fabric import Fabric

from edgedistill.bundle import Preprocess
from edgedistill.convert import calibration
from edgedistill.convert.aware import Batch, Points, ranged, train
from edgedistill.convert.calibration import Ranges
from edgedistill.convert.graph import Graph
from edgedistill.convert.pixels import model_pixels
from edgedistill.distill.answers import Answering
from edgedistill.distill.assemble import answering, with_budget
from edgedistill.distill.cache import Surroundings
from edgedistill.distill.data import Splits
from edgedistill.distill.feed import resized
from edgedistill.distill.images import ImageSet
from edgedistill.distill.loader import EpochOrder, ViewBatch, Views, load
from edgedistill.distill.losses.batch import UNLABELLED
from edgedistill.distill.run import Run
from edgedistill.distill.teachers import open_teacher
from edgedistill.recipe import QuantizationAware, Recipe, Term

Progress = Callable[[str, int, int], None]
TrainAware = Callable[[Graph, Ranges, Points], tuple[Graph, Ranges]]

#: Validation images that the best epoch is chosen by, at most.
VALIDATED = 2000


def trained_by(
    finished: Run, splits: Splits, *, settings: QuantizationAware, progress: Progress = lambda text, done, total: None
) -> TrainAware:
    """Return what trains a run's student with fake quantization; nothing is opened before it is called.

    Args:
        splits: the run's data.
    """

    def trained(graph: Graph, ranges: Ranges, points: Points) -> tuple[Graph, Ranges]:
        lessons = lessons_of(finished, splits, batch_size=settings.batch_size, progress=progress)
        held = splits.validation.balanced(VALIDATED)
        validation = Batch(model_pixels(list(held), graph.spec), held.labels)
        found, learned = train(graph, ranges, lessons, settings, points=points, validation=validation, progress=progress)
        return found, {**observed(found, finished, splits), **{name: learned[name] for name in ranged(graph, points)}}

    return trained


def observed(graph: Graph, finished: Run, splits: Splits) -> Ranges:
    """Return the ranges of a trained graph as the run's calibration takes them: some that TFLite does not need, other formats do."""
    export = finished.recipe.export
    pixels = model_pixels(list(splits.train.balanced(export.calibration)), graph.spec)
    return calibration.ranges_of(calibration.observe(graph, pixels, histograms=export.ranges == "mse"), export.ranges)


@dataclass(frozen=True)
class Lessons:
    """The batches of any epoch: the views that the student was trained on, with the answers that its teacher gave then.

    Args:
        images: those of the training, with those that have no label.
        view_spec: how views are made; `student_spec` is how the student sees them.
        answers: None where the student has no teacher any more, or never had one.
    """

    recipe: Recipe
    images: ImageSet
    view_spec: Preprocess
    student_spec: Preprocess
    answers: Answering | None
    batch_size: int

    def __call__(self, epoch: int) -> EpochOfLessons:
        """Return the batches of one epoch."""
        data = self.recipe.data
        number = epoch % (data.views or self.recipe.train.epochs)
        views = Views(self.images, seed=self.recipe.seed, view=number, augment=data.augment, spec=self.view_spec)
        return EpochOfLessons(self, views, EpochOrder(len(views), self.batch_size, seed=self.recipe.seed, epoch=epoch), epoch)


@dataclass(frozen=True)
class EpochOfLessons:
    """One epoch; the teacher answers what the cache lacks when its first batch is asked for."""

    lessons: Lessons
    views: Views
    order: EpochOrder
    epoch: int

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Batch]:
        answers = self.lessons.answers
        if answers is not None:
            answers.prepare(self.views, self.epoch)
        for piece in load(self.views, self.order, workers=self.lessons.recipe.train.workers):
            logits = answers.answer(piece, self.epoch).logits.numpy() if answers is not None else None
            yield Batch(pixels_of(piece, self.lessons.student_spec), labels_of(piece), logits)


def lessons_of(finished: Run, splits: Splits, *, batch_size: int, progress: Progress = lambda text, done, total: None) -> Lessons:
    """Return a run's training views with its teacher's answers, from the cache that the training filled where it is still there."""
    recipe, images = with_budget(finished.recipe, splits)
    teacher = open_teacher(recipe, splits, progress=progress)
    size = recipe.data.view_size or max(finished.student.input_size, (teacher.facts["input_size"] or 0) if teacher is not None else 0)
    answers = None
    if teacher is not None:
        # With this term alone a recipe asks for no features; the cache of its logits is the same.
        fabric = Fabric(accelerator="cpu", devices=1)
        answers = answering(teacher, msgspec.structs.replace(recipe, distill=(Term(loss="kd"),)), Surroundings(fabric, progress))
    spec = finished.preprocess
    return Lessons(recipe, images, msgspec.structs.replace(spec, height=size, width=size), spec, answers, min(batch_size, len(images)))


def pixels_of(piece: ViewBatch, spec: Preprocess) -> np.ndarray:
    """Return (N, H, W, 3) uint8 RGB pixels of views at the student's size."""
    if tuple(piece.views.shape[1:3]) == (spec.height, spec.width):
        return piece.views.numpy()
    smaller = resized(piece.views, (spec.height, spec.width)).permute(0, 2, 3, 1)
    return smaller.round().clamp(0, 255).to(torch.uint8).numpy()


def labels_of(piece: ViewBatch) -> np.ndarray:
    """Return (N,) labels; a view that is mixed of two images counts as one without."""
    return piece.labels.where(piece.share == 1, torch.tensor(UNLABELLED)).numpy()
