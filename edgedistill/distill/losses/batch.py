"""What a loss gets and what it is: the two types that every loss module shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from edgedistill.recipe import Term


class Batch(NamedTuple):
    """One step's answers.

    student: (N, classes) float logits, with gradient; teacher: the same without gradient, or None; labels: (N,) int64.
    """

    student: torch.Tensor
    teacher: torch.Tensor | None
    labels: torch.Tensor


@dataclass(frozen=True)
class Loss:
    """A term's function, from a batch and the recipe's term to a scalar, and what it needs."""

    function: Callable[[Batch, Term], torch.Tensor]
    needs_teacher: bool = False
