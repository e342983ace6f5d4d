"""The student's own exponential average as its teacher (`model = "ema"`; Tarvainen and Valpola 2017, Caron et al. 2021).

It begins as the untrained student and exists only while the training runs: there is nothing to measure before, nothing to cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from lightning_fabric import Fabric

from edgedistill.distill.engine import share_buffers
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.networks import Network
from edgedistill.distill.teachers.network import NetworkTeacher
from edgedistill.distill.teachers.teacher import Answers
from edgedistill.errors import RecipeError
from edgedistill.recipe import Recipe

MODEL = "ema"


class SelfTeacher(NetworkTeacher):
    """The average, in evaluation mode and without gradient; the loop goes on changing its weights.

    Args:
        average: the student with the average's module.
    """

    def __init__(self, average: Network, fabric: Fabric) -> None:
        super().__init__(average)
        self.fabric = fabric

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What is reported of it."""
        return {**super().facts, "model": MODEL, "sha256": ""}

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return logits, and the outputs of `layers`, of the same average in every process."""
        share_buffers(self.fabric, self.network.module)  # its weights are the same, its running means are each process's own
        return super().answer(batch, layers)


def check_self_teacher(recipe: Recipe) -> None:
    """Raise RecipeError for an own average as teacher where there is none, beside others, or with what needs a finished network."""
    if not recipe.is_self_taught:
        return
    if len(recipe.teachers) > 1:
        raise RecipeError("teacher.model 'ema' is the student itself and teaches alone; take the other [[teacher]] tables out")
    if recipe.train.ema is None:
        raise RecipeError("teacher.model 'ema' is the student's exponential average, and there is none; set train.ema, such as 0.99")
    (spec,) = recipe.teachers
    unused = [name for name in ("weights", "args", "classes", "mapping", "probe", "calibrate", "new_head") if getattr(spec, name)]
    if unused:
        raise RecipeError(f"teacher.model 'ema' is made while the student is trained, it has no {', '.join(unused)}; take that out")


def as_teacher(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is reported of the teacher of a finished run that taught itself: its average is the student that is kept."""
    return {**results["student"], "model": MODEL, "sha256": "", "val_accuracy": results["validation"]["last"]}
