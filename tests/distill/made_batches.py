"""Batches with given logits, labels and features, and one loss of them."""

from __future__ import annotations

import torch
from torch import nn

from edgedistill.distill.losses import LOSSES
from edgedistill.distill.losses.batch import Batch
from edgedistill.recipe import Term

#: Keys that a loss cannot do without, for layers that `full_batch` has.
NEEDED: dict[str, dict[str, object]] = {
    "hint": {"layers": {"low": "deep"}},
    "attention": {"layers": {"low": "deep"}},
    "similarity": {"layers": {"low": "deep"}},
    "exits": {"exits": ("low",)},
}


def batch(student: list[list[float]], teacher: list[list[float]] | None = None, labels: list[int] | None = None) -> Batch:
    """Return float64 logits, so that a loss is compared at 1e-6 and better; label 0 by default."""
    return Batch(
        torch.tensor(student, dtype=torch.float64, requires_grad=True),
        torch.tensor(teacher, dtype=torch.float64) if teacher is not None else None,
        torch.tensor(labels if labels is not None else [0] * len(student)),
    )


def features(student: torch.Tensor, teacher: torch.Tensor) -> Batch:
    """Return a batch with one layer a side: `low` of the student, `deep` of the teacher."""
    empty = torch.zeros(len(student), 2)
    return Batch(
        empty, empty, torch.zeros(len(student), dtype=torch.int64), student_features={"low": student}, teacher_features={"deep": teacher}
    )


def full_batch(images: int = 4, *, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Batch:
    """Return random logits of 3 classes and features with 2 (student) and 3 channels (teacher), all of which could take a gradient."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return (scale * torch.randn(images, *shape, generator=generator)).to(dtype).requires_grad_()

    labels = torch.arange(images) % 3
    return Batch(random(3), random(3), labels, student_features={"low": random(2, 4, 4)}, teacher_features={"deep": random(3, 2, 2)})


def parts_of(name: str) -> list[nn.Module]:
    """Return the trainable part that a loss wants for `full_batch`, in a list, or nothing."""
    part = {"hint": nn.Conv2d(2, 3, 1), "exits": nn.Linear(2, 3)}.get(name)
    return [nn.ModuleList([part])] if part is not None else []


def loss_of(name: str, data: Batch, *parts: nn.Module, **keys: object) -> torch.Tensor:
    """Return one loss of a batch."""
    return LOSSES[name].function(data, Term(loss=name, **(NEEDED.get(name, {}) | keys)), *parts)  # type: ignore[arg-type]
