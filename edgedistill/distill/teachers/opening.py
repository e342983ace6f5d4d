"""What a kind of teacher is opened with, and what it opens to; the steps from there to the data's classes are in `__init__`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from edgedistill.distill.data import Splits
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.recipe import Recipe
from edgedistill.recipe import Teacher as Spec

#: Told what is going on, and how much of it is done: (description, done, total).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Opening:
    """One teacher of a recipe, the data that it will answer on, and whom to tell.

    Args:
        say: gets a line for the person; `progress` moves a bar.
    """

    spec: Spec
    recipe: Recipe
    splits: Splits
    device: torch.device
    progress: Progress
    say: Callable[[str], None]

    @property
    def argument(self) -> str:
        """What stands behind the kind: a network's name, a path."""
        return self.spec.model.partition(":")[2]


class Opened(NamedTuple):
    """A teacher as it comes, its logits in an order of its own.

    outputs: number of its logits; names: of its outputs, None where nothing says them.
    """

    teacher: Teacher
    outputs: int
    names: Sequence[str] | None
