"""Cross-entropy on hard labels, with optional label smoothing (Szegedy et al. 2016, section 7)."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.recipe import Term


def cross_entropy(batch: Batch, term: Term) -> torch.Tensor:
    """Return the batch mean of -log p(label); `term.label_smoothing` spreads that much of the label over all classes."""
    return functional.cross_entropy(batch.student.float(), batch.labels, label_smoothing=term.label_smoothing)
