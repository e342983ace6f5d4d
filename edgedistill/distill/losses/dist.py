"""DIST: relations instead of values (Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher", section 4).

Pearson's correlation is left as it is by scale and shift, so a teacher that is much surer than the student can be still does no harm.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.losses.logits import pair
from edgedistill.recipe import Term

#: The paper's weights on ImageNet, at a temperature of 1; its CIFAR-100 students have 2 and 2 at 4.
ALPHA, BETA = 1.0, 1.0
#: A deviation from the mean that counts as none: the teacher says nothing there.
EPSILON = 1e-5


def dist(batch: Batch, term: Term) -> torch.Tensor:
    """Return alpha · inter-class (eq. 8) + beta · intra-class loss (eq. 9); T is 1 by default.

    There is no factor T², as in the paper: the gradient of a correlation does not shrink with T.
    """
    temperature = term.temperature or 1.0
    student, teacher = (functional.softmax(logits / temperature, dim=1) for logits in pair(batch, term))
    alpha = ALPHA if term.alpha is None else term.alpha
    beta = BETA if term.beta is None else term.beta
    return alpha * distance(student, teacher) + beta * distance(student.T, teacher.T)


def distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Return the mean over the rows of 1 - Pearson's correlation (eq. 6 and 7); 0 for a row in which the teacher is the same everywhere."""
    student, teacher = (rows - rows.mean(dim=1, keepdim=True) for rows in (student, teacher))
    lengths = [rows.norm(dim=1).clamp(min=EPSILON) for rows in (student, teacher)]
    correlation = (student * teacher).sum(dim=1) / (lengths[0] * lengths[1])
    return torch.where(lengths[1] > EPSILON, 1 - correlation, 0).mean()
