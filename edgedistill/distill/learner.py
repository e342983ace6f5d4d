"""What is trained: the student and the trainable parts of its losses, as one module whose forward is the whole loss.

One module, so that any number of processes synchronizes all gradients, and only the student leaves the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from edgedistill.distill.losses import LOSSES, names_of, total_loss
from edgedistill.distill.losses.batch import Batch, Shapes
from edgedistill.distill.networks import Network
from edgedistill.distill.taps import Taps
from edgedistill.recipe import Term


class Learner(nn.Module):
    """The student with `parts`, the trainable parts of the terms by their names."""

    def __init__(self, network: Network, terms: Sequence[Term], parts: nn.ModuleDict, *, compiled: bool = False) -> None:
        super().__init__()
        self.network, self.terms = network, tuple(terms)
        self.taps = Taps(network.module, student_layers(terms), whose="student")
        self.student = network.module
        self.parts = parts
        self._answer = torch.compile(network.module) if compiled else network.module

    def forward(self, views_nhwc: torch.Tensor, batch: Batch, epoch: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return the loss, and without gradient its terms by name and the student's (N, classes) logits.

        Args:
            views_nhwc: (N, H, W, 3) uint8 RGB.
            batch: labels and the teacher's answers; `student` and `student_features` are filled in here.
        """
        logits = self._answer(self.network.feed(views_nhwc))
        answered = replace(batch, student=logits, student_features=self.taps.take())
        with torch.autocast(logits.device.type, enabled=False):  # sums over a batch or a map are too long for half precision
            loss, named = total_loss(answered, self.terms, epoch=epoch, parts=self.parts)  # type: ignore[arg-type]
        # the loss alone has a gradient: several processes wait for all gradients of all that is returned
        return loss, {name: term.detach() for name, term in named.items()}, logits.detach()


def student_layers(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return the layers of the student that terms name."""
    return tuple(dict.fromkeys(name for term in terms for name in (*term.layers, *term.exits)))


def teacher_layers(terms: Sequence[Term]) -> tuple[str, ...]:
    """Return the layers of the teacher that terms name."""
    return tuple(dict.fromkeys(name for term in terms for name in term.layers.values()))


def make_parts(terms: Sequence[Term], shapes: Shapes) -> nn.ModuleDict:
    """Return the trainable parts of the terms that have one; RecipeError for layers that a term cannot use."""
    named = list(zip(names_of(terms), terms, strict=True))
    for _, term in named:
        if (check := LOSSES[term.loss].check) is not None:
            check(term, shapes)
    parts = {name: build(term, shapes) for name, term in named if (build := LOSSES[term.loss].part) is not None}
    return nn.ModuleDict(parts)


def shapes_of(network: Network, layers: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the student's named layers for one image, without the batch dimension."""
    taps = Taps(network.module, layers, whose="student")
    training = network.module.training
    try:
        with torch.no_grad():
            size = network.input_size
            network.module.eval()(torch.zeros(1, 3, size, size, device=next(network.module.parameters()).device))
        return {name: tuple(output.shape[1:]) for name, output in taps.take().items()}
    finally:
        network.module.train(training)
        taps.remove()
