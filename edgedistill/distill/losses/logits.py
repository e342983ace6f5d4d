"""What every loss on logits takes from a batch: both sides in float32, as z-scores where the term asks for it."""

from __future__ import annotations

import torch

from edgedistill.distill.losses.batch import Batch
from edgedistill.recipe import Term

EPSILON = 1e-7


def pair(batch: Batch, term: Term) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (student, teacher) logits, (N, classes) float32."""
    assert batch.teacher is not None, "check_terms lets no teacher loss through without a teacher"
    student, teacher = batch.student.float(), batch.teacher.float()
    return (z_scores(student), z_scores(teacher)) if term.standardize else (student, teacher)


def z_scores(logits_nc: torch.Tensor) -> torch.Tensor:
    """Return each sample's logits minus their mean, over their standard deviation (Sun et al. 2024, "Logit standardization", eq. 10)."""
    centred = logits_nc - logits_nc.mean(dim=1, keepdim=True)
    return centred / (logits_nc.std(dim=1, keepdim=True, correction=0) + EPSILON)
