"""Knowledge distillation with softened logits: Hinton, Vinyals and Dean 2015, section 2."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.distill.losses.logits import pair
from edgedistill.recipe import Term


def kd(batch: Batch, term: Term) -> torch.Tensor:
    """Return T² · KL(teacher at T ‖ student at T), summed over classes, averaged over the batch; T is 1 by default."""
    student, teacher = pair(batch, term)
    return softened(student, teacher, temperature=term.temperature or 1.0)


def softened(student_nc: torch.Tensor, teacher_nc: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Return the loss of two sides' logits.

    The factor T² keeps the gradient's size independent of T to first order (section 2 of the paper), so that a
    term's weight means the same at every temperature.
    """
    student, teacher = (functional.log_softmax(logits / temperature, dim=1) for logits in (student_nc, teacher_nc))
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
