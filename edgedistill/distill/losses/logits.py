"""What every loss on logits does with both sides' logits first: no half precision, and z-scores where the term asks for them."""

from __future__ import annotations

import torch

from edgedistill.distill.losses.batch import Batch, upcast
from edgedistill.recipe import Term

EPSILON = 1e-7


def pair(batch: Batch, term: Term) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (student, teacher) logits, (N, classes), at least float32."""
    assert batch.teacher is not None, "check_terms lets no teacher loss through without a teacher"
    return prepared(batch.student, term), prepared(batch.teacher, term)


def prepared(logits_nc: torch.Tensor, term: Term) -> torch.Tensor:
    """Return logits as a term wants them."""
    return z_scores(upcast(logits_nc)) if term.standardize else upcast(logits_nc)


def z_scores(logits_nc: torch.Tensor) -> torch.Tensor:
    """Return each sample's logits minus their mean, over their standard deviation (Sun et al. 2024, "Logit standardization", eq. 10)."""
    centred = logits_nc - logits_nc.mean(dim=1, keepdim=True)
    return centred / (logits_nc.std(dim=1, keepdim=True, correction=0) + EPSILON)
