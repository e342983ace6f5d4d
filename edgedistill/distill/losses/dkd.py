"""Decoupled knowledge distillation: Zhao et al. 2022, "Decoupled Knowledge Distillation".

The loss of softened logits falls into a part on the target class and a part on the other classes (eq. 5), which get weights of
their own. All of it is arithmetic of logarithms: a probability that underflows would be a logarithm of 0.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.distill.losses.batch import UNLABELLED, Batch
from edgedistill.distill.losses.logits import pair
from edgedistill.recipe import Term

#: The weights of the paper's MobileNet on ImageNet, at a temperature of 1; its CIFAR-100 students have beta = 8 at 4.
ALPHA, BETA = 1.0, 2.0


def dkd(batch: Batch, term: Term) -> torch.Tensor:
    """Return T² · (alpha · TCKD + beta · NCKD) (eq. 7), averaged over the batch; T is 1 by default."""
    temperature = term.temperature or 1.0
    student, teacher = (logits / temperature for logits in pair(batch, term))
    target = targets(batch)
    alpha = ALPHA if term.alpha is None else term.alpha
    beta = BETA if term.beta is None else term.beta
    losses = alpha * target_loss(student, teacher, target) + beta * other_loss(student, teacher, target)
    return losses.mean() * temperature**2


def target_loss(student_nc: torch.Tensor, teacher_nc: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return TCKD, (N,): the divergence of (target class, all others) as two classes."""
    student, teacher = (_log_binary(logits, target) for logits in (student_nc, teacher_nc))
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def other_loss(student_nc: torch.Tensor, teacher_nc: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return NCKD, (N,): the divergence among the other classes."""
    student, teacher = (functional.log_softmax(_others(logits, target), dim=1) for logits in (student_nc, teacher_nc))
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


def targets(batch: Batch) -> torch.Tensor:
    """Return (N,) target classes: the label, of a mixed view that of the larger share, without a label the teacher's decision."""
    assert batch.teacher is not None, "check_terms lets no teacher loss through without a teacher"
    labels = batch.labels
    if batch.other_labels is not None and batch.share is not None:
        labels = torch.where(batch.share >= 0.5, labels, batch.other_labels)
    return torch.where(labels == UNLABELLED, batch.teacher.argmax(dim=1), labels)


def _log_binary(logits_nc: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return log (p of the target class, p of all others), (N, 2)."""
    halves = logits_nc.gather(1, target[:, None]), _others(logits_nc, target).logsumexp(dim=1, keepdim=True)
    return functional.log_softmax(torch.cat(halves, dim=1), dim=1)


def _others(logits_nc: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the logits of all but the target class, (N, classes - 1)."""
    columns = torch.arange(logits_nc.shape[1] - 1, device=logits_nc.device)
    return logits_nc.gather(1, columns + (columns >= target[:, None]))
