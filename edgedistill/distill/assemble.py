"""From a recipe and opened data and networks to the job that the loop works on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from lightning_fabric import Fabric
from timm.utils import ModelEmaV3  # type: ignore[attr-defined]

from edgedistill.distill.answers import Answering, Online
from edgedistill.distill.cache import Cached, Surroundings
from edgedistill.distill.data import Splits
from edgedistill.distill.images import ImageSet
from edgedistill.distill.learner import Learner, make_parts, shapes_of, student_layers, teacher_layers
from edgedistill.distill.loader import View, collate
from edgedistill.distill.loop import Job, Progress
from edgedistill.distill.losses import LOSSES
from edgedistill.distill.losses.batch import Shapes
from edgedistill.distill.networks import Network
from edgedistill.distill.self_teacher import SelfTeacher
from edgedistill.distill.teachers import Teacher
from edgedistill.recipe import Recipe, Term


@dataclass(frozen=True)
class Order:
    """What is to be trained, opened and built."""

    recipe: Recipe
    splits: Splits
    student: Network
    teacher: Teacher | None
    out: Path
    resume: bool
    progress: Progress
    say: Callable[[str], None] = lambda text: None


def assemble(order: Order, fabric: Fabric) -> Job:
    """Put together what the loop works on."""
    recipe, images = with_budget(order.recipe, order.splits)
    student = order.student
    ema = ModelEmaV3(student.module.to(fabric.device), decay=recipe.train.ema) if recipe.train.ema else None
    own = SelfTeacher(replace(student, module=ema.module), fabric) if ema is not None and recipe.is_self_taught else None
    teacher = order.teacher or own
    size = recipe.data.view_size or max(student.input_size, (teacher.facts["input_size"] or 0) if teacher is not None else 0)
    if teacher is not None:
        teacher.to(fabric.device)
    answers = answering(teacher, recipe, Surroundings(fabric, order.progress, order.say)) if teacher is not None else None
    parts = torch.nn.ModuleDict()
    if layers := student_layers(recipe.distill):
        wanted = Shapes(shapes_of(student, layers), teacher_shapes(teacher, recipe.distill, size), len(order.splits.classes))
        parts = make_parts(recipe.distill, wanted)
    learner = Learner(student, recipe.distill, parts, compiled=recipe.train.compile)
    return Job(recipe, fabric, images, order.splits, learner, size, answers, ema, order.out, order.resume, order.progress)


def with_budget(recipe: Recipe, splits: Splits) -> tuple[Recipe, ImageSet]:
    """Return the training images, and the recipe with as many epochs of them as make the budget.

    An epoch holds labelled and unlabelled images. Where no term learns from unlabelled ones they are left out, and the labelled
    ones are seen more often, so that a control takes as many steps as the student that it is compared with.
    """
    if splits.unlabelled is None:
        return recipe, splits.train
    if all("labels" in LOSSES[term.loss].needs for term in recipe.distill):
        epochs = max(1, round(recipe.train.epochs * (1 + len(splits.unlabelled) / len(splits.train))))
        return msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, epochs=epochs)), splits.train
    return recipe, splits.train.followed_by(splits.unlabelled)


def answering(teacher: Teacher, recipe: Recipe, around: Surroundings) -> Answering:
    """Return where the teacher's answers come from: the cache, or the teacher itself where it changes or is as good as a cache."""
    kinds = {spec.model.partition(":")[0] for spec in recipe.teachers}
    if recipe.cache.enabled and "ema" not in kinds and kinds != {"logits"}:
        return Cached(teacher, recipe, around)
    return Online(teacher, teacher_layers(recipe.distill))


def teacher_shapes(teacher: Teacher | None, terms: Sequence[Term], size: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the teacher's named layers for one view, without the batch dimension."""
    layers = teacher_layers(terms)
    if teacher is None or not layers:
        return {}
    blank = collate([View(np.zeros((size, size, 3), np.uint8), 0, 0, 0, 0, 1.0)])
    return {name: tuple(feature.shape[1:]) for name, feature in teacher.answer(blank, layers).features.items()}
