"""Where the training gets the teacher's answers from: the teacher itself, in each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from edgedistill.distill.loader import ViewBatch, Views
from edgedistill.distill.teachers.teacher import Answers, Teacher


class Answering(Protocol):
    """A source of answers; `prepare` is called before each epoch by every process, `answer` with each batch of the epoch's views.

    `facts` is what results.json tells of it.
    """

    def prepare(self, views: Views, epoch: int) -> None: ...

    def answer(self, batch: ViewBatch, epoch: int) -> Answers: ...

    def facts(self) -> dict[str, Any]: ...


class Online:
    """The teacher itself, asked in each step."""

    def __init__(self, teacher: Teacher, layers: Sequence[str]) -> None:
        self.teacher, self.layers, self.asked = teacher, tuple(layers), 0

    def prepare(self, views: Views, epoch: int) -> None:
        """There is nothing to prepare."""

    def answer(self, batch: ViewBatch, epoch: int) -> Answers:
        """Ask the teacher."""
        self.asked += len(batch.positions)
        return self.teacher.answer(batch, self.layers)

    def facts(self) -> dict[str, Any]:
        """Return how many views the teacher answered in this process."""
        return {"teacher_forwards": self.asked}
