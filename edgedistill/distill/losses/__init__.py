"""The terms that a recipe's `[[distill]]` can name. A new loss is a module here and a line in `LOSSES`."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from edgedistill.distill.losses import cross_entropy, kd
from edgedistill.distill.losses.batch import Batch, Loss
from edgedistill.errors import RecipeError, close_matches
from edgedistill.recipe import Term

LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy.cross_entropy),
    "kd": Loss(kd.kd, needs_teacher=True),
}


def check_terms(terms: Sequence[Term], *, has_teacher: bool) -> None:
    """Raise RecipeError for a term that is unknown, or that needs a teacher where there is none."""
    for term in terms:
        loss = LOSSES.get(term.loss)
        if loss is None:
            raise RecipeError(f"distill: unknown loss {term.loss!r}.{close_matches(term.loss, LOSSES)} Known: {', '.join(LOSSES)}")
        if loss.needs_teacher and not has_teacher:
            raise RecipeError(f"distill: the loss {term.loss!r} needs a teacher; add a [teacher] table, or take the term out")


def total_loss(batch: Batch, terms: Sequence[Term]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the weighted sum of the terms and each unweighted term by name, all scalars."""
    named = {term.loss: LOSSES[term.loss].function(batch, term) for term in terms if term.weight > 0}
    weights = {term.loss: term.weight for term in terms}
    return torch.stack([weights[name] * value for name, value in named.items()]).sum(), named
