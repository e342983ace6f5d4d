"""Hard-label distillation: the teacher's decision is the label (Touvron et al. 2021, "DeiT", section 4, eq. 3).

It needs no label of the data, so it learns from unlabelled images, and a mixed view has the label that the teacher sees in it.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.losses.logits import pair
from edgedistill.recipe import Term


def hard_label(batch: Batch, term: Term) -> torch.Tensor:
    """Return the mean of -log p(the teacher's decision) over all images; `term.label_smoothing` smooths the decision."""
    student, teacher = pair(batch, term)
    return functional.cross_entropy(student, teacher.argmax(dim=1), label_smoothing=term.label_smoothing)
