"""Cross-entropy on hard labels, with optional label smoothing (Szegedy et al. 2016, section 7)."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import UNLABELLED, Batch, upcast
from edgedistill.recipe import Term


def cross_entropy(batch: Batch, term: Term) -> torch.Tensor:
    """Return the mean of -log p(label) over the labelled images, 0 without any.

    `term.label_smoothing` spreads that much of the label over all classes; a mixed view's two labels count by their shares.
    """
    logits = upcast(batch.student)
    losses = _each(logits, batch.labels, term)
    if batch.other_labels is not None and batch.share is not None:
        losses = batch.share * losses + (1 - batch.share) * _each(logits, batch.other_labels, term)
    return losses.sum() / (batch.labels != UNLABELLED).sum().clamp(min=1)


def _each(logits_nc: torch.Tensor, labels: torch.Tensor, term: Term) -> torch.Tensor:
    """Return the (N,) losses of the samples, 0 for one without a label."""
    return functional.cross_entropy(logits_nc, labels, label_smoothing=term.label_smoothing, ignore_index=UNLABELLED, reduction="none")
