"""Self-distillation from the student's last layer to exits of its own: Zhang et al. 2019, "Be Your Own Teacher", section 3.

Each exit is trained and thrown away; what it demands of the layers below it stays. No teacher is needed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from edgedistill.distill.losses.batch import Batch, Shapes, upcast
from edgedistill.distill.losses.cross_entropy import cross_entropy
from edgedistill.distill.losses.features import as_map, map_shape
from edgedistill.distill.losses.kd import softened
from edgedistill.distill.losses.logits import prepared
from edgedistill.errors import RecipeError
from edgedistill.recipe import Term

#: What an exit learns from the labels and from the last layer: alpha of eq. 6, and 1 - alpha.
ALPHA, BETA = 0.5, 0.5


def exits(batch: Batch, term: Term, heads: nn.ModuleList) -> torch.Tensor:
    """Return alpha · cross-entropy + beta · T² · KL(last layer at T ‖ exit at T), summed over the exits; T is 1 by default.

    The last layer teaches and learns nothing here: its logits are taken without their gradient.
    """
    alpha = ALPHA if term.alpha is None else term.alpha
    beta = BETA if term.beta is None else term.beta
    last = prepared(batch.student.detach(), term)
    losses = []
    for name, head in zip(term.exits, heads, strict=True):
        logits = head(as_map(upcast(batch.student_features[name])).mean(dim=(2, 3)))
        learned = cross_entropy(replace(batch, student=logits), term)
        followed = softened(prepared(logits, term), last, temperature=term.temperature or 1.0)
        losses.append(alpha * learned + beta * followed)
    return torch.stack(losses).sum()


def make_heads(term: Term, shapes: Shapes) -> nn.ModuleList:
    """Return a linear classifier of the layer's mean over its positions for each exit; RecipeError where a layer is no map."""
    return nn.ModuleList(nn.Linear(_channels(name, shapes), shapes.classes) for name in term.exits)


def _channels(name: str, shapes: Shapes) -> int:
    try:
        return map_shape(shapes.student[name])[0]
    except ValueError as error:
        given = f"the student's {name!r} of shape {shapes.student[name]}"
        raise RecipeError(
            f"distill: the loss 'exits' cannot use {given}; it takes (C,), (C, H, W) or tokens (T, C); name another layer"
        ) from error
