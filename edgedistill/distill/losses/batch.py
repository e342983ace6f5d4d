"""What a loss gets and what it is: the types that every loss module shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import nn

from edgedistill.recipe import Term

#: Label of an image that has none.
UNLABELLED = -1


@dataclass(frozen=True)
class Batch:
    """One step's answers.

    Args:
        student: (N, classes) float logits, with gradient.
        teacher: the same without gradient, or None.
        labels: (N,) int64, `UNLABELLED` where an image has none.
        other_labels: (N,) int64, the label of the second image of a mixed view; None when no view is mixed.
        share: (N,) float, how much of a view is its first image, 0 to 1; None when no view is mixed.
        student_features: the outputs of the student's layers that terms name, with gradient.
        teacher_features: the same of the teacher, without gradient.
    """

    student: torch.Tensor
    teacher: torch.Tensor | None
    labels: torch.Tensor
    other_labels: torch.Tensor | None = None
    share: torch.Tensor | None = None
    student_features: Mapping[str, torch.Tensor] = field(default_factory=dict)
    teacher_features: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Shapes(NamedTuple):
    """Shapes of the named layers' outputs without the batch dimension, and the number of classes."""

    student: Mapping[str, tuple[int, ...]]
    teacher: Mapping[str, tuple[int, ...]]
    classes: int


@dataclass(frozen=True)
class Loss:
    """A term of the training loss.

    Args:
        function: from (batch, term) to a scalar; from (batch, term, part) where the loss has a trainable part.
        reads: the keys of a term that the loss uses beside loss, weight and epochs.
        needs: `teacher`: its logits; `features`: outputs of its layers too; `labels`: nothing is learned without them.
        check: raises RecipeError for features of a shape that the loss cannot use.
        part: makes the loss's own trainable part, which is thrown away after the training.
    """

    function: Callable[..., torch.Tensor]
    reads: frozenset[str] = frozenset()
    needs: frozenset[Literal["teacher", "features", "labels"]] = frozenset()
    check: Callable[[Term, Shapes], None] | None = None
    part: Callable[[Term, Shapes], nn.Module] | None = None


def upcast(values: torch.Tensor) -> torch.Tensor:
    """Return bfloat16 and float16 as float32, what is finer as it is: a loss sums over more than half precision can hold."""
    return values.float() if values.element_size() < 4 else values
