"""Teachers by name. A new kind is a module here and a line in `KINDS`."""

from __future__ import annotations

from edgedistill.distill import networks
from edgedistill.distill.data import Splits
from edgedistill.distill.teachers.network import NetworkTeacher
from edgedistill.distill.teachers.teacher import Answers, Teacher
from edgedistill.recipe import Recipe

__all__ = ["Answers", "Teacher", "open_teacher"]


def open_teacher(recipe: Recipe, splits: Splits) -> Teacher | None:
    """Return the recipe's teacher, or None without one."""
    if not recipe.teachers:
        return None
    return NetworkTeacher(networks.build(recipe.teachers[0], splits.classes))
