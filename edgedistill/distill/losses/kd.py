"""Knowledge distillation with softened logits: Hinton, Vinyals and Dean 2015, section 2."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import Batch
from edgedistill.recipe import Term


def kd(batch: Batch, term: Term) -> torch.Tensor:
    """Return T² · KL(teacher at T ‖ student at T), summed over classes, averaged over the batch.

    The factor T² keeps the gradient's size independent of T to first order (section 2 of the paper), so that a
    term's weight means the same at every temperature.
    """
    assert batch.teacher is not None, "check_terms lets no teacher loss through without a teacher"
    student = functional.log_softmax(batch.student.float() / term.temperature, dim=1)
    teacher = functional.log_softmax(batch.teacher.float() / term.temperature, dim=1)
    return functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * term.temperature**2
