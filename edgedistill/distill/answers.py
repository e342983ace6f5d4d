"""Where the training gets the teacher's answers from: the teacher itself, in each step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from edgedistill.distill.loader import ViewBatch, Views
from edgedistill.distill.teachers.teacher import Answers, Teacher


class Answering(Protocol):
    """A source of answers; `prepare` is called before each epoch by every process, `answer` with each batch of the epoch's views."""

    def prepare(self, views: Views, epoch: int) -> None: ...

    def answer(self, batch: ViewBatch, epoch: int) -> Answers: ...


class Online:
    """The teacher itself, asked in each step."""

    def __init__(self, teacher: Teacher, layers: Sequence[str]) -> None:
        self.teacher, self.layers = teacher, tuple(layers)

    def prepare(self, views: Views, epoch: int) -> None:
        """There is nothing to prepare."""

    def answer(self, batch: ViewBatch, epoch: int) -> Answers:
        """Ask the teacher."""
        return self.teacher.answer(batch, self.layers)
