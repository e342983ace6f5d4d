"""Which images are alike: Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation", section 3.1.

Only similarities between images are compared, so the layers may be of any shapes, and nothing is learned but the student.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.losses.features import pairs
from edgedistill.recipe import Term

#: The paper's weight gamma for a mean over N² pairs of images, most of which have similarities near 1/√N.
BETA = 3000.0


def similarity(batch: Batch, term: Term) -> torch.Tensor:
    """Return beta · the mean squared difference of the similarity matrices, summed over the pairs of layers (eq. 4).

    The images are those that this process has at once.
    """
    beta = BETA if term.beta is None else term.beta
    losses = [functional.mse_loss(similarities(student), similarities(teacher)) for student, teacher in pairs(batch, term)]
    return beta * torch.stack(losses).sum()


def similarities(features: torch.Tensor) -> torch.Tensor:
    """Return the (N, N) inner products of the images' features, each row of length 1 (eq. 1 to 3)."""
    flat = features.flatten(1)
    return functional.normalize(flat @ flat.T)
