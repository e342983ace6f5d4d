"""Hints: layers of the student predict layers of the teacher (Romero et al. 2015, "FitNets", section 2.2).

Beside the logits, or in epochs of their own before them, as in the paper.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch, Shapes
from edgedistill.distill.losses.features import as_map, pairs, same_size, shape_pairs
from edgedistill.recipe import Term


def hint(batch: Batch, term: Term, regressors: nn.ModuleList) -> torch.Tensor:
    """Return the mean squared error of the predicted features, summed over the pairs of layers.

    It is eq. 3 with a mean in place of half of the sum, so that a weight means the same for layers of every size.
    """
    losses = []
    for (student, teacher), regressor in zip(pairs(batch, term), regressors, strict=True):
        mine, theirs = same_size(as_map(student), as_map(teacher))
        losses.append(functional.mse_loss(regressor(mine), theirs))
    return torch.stack(losses).sum()


def make_regressors(term: Term, shapes: Shapes) -> nn.ModuleList:
    """Return a 1×1 convolution from the student's channels to the teacher's for each pair; on a vector it is a linear layer."""
    return nn.ModuleList(nn.Conv2d(student[0], teacher[0], 1) for student, teacher in shape_pairs(term, shapes))
