"""What a teacher is to the training: anything that answers a batch of views with logits, and with features where it can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch

from edgedistill.distill.loader import ViewBatch


class Answers(NamedTuple):
    """A teacher's answers on a batch, without gradient.

    logits: (N, classes) float32 in the order of the data's classes; features: outputs of its layers by name.
    """

    logits: torch.Tensor
    features: Mapping[str, torch.Tensor] = {}


class Teacher(Protocol):
    """A teacher; `identity` holds the JSON values that its answers depend on, `facts` what is reported of it.

    `facts` has the keys model, sha256, licence, input_size, parameters, macs; None where one is not known.
    """

    @property
    def identity(self) -> Mapping[str, Any]: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def to(self, device: torch.device) -> None:
        """Move to the device that its views will be on."""

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return the answers on a batch of views; RecipeError when it has no such layer."""
