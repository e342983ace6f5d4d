"""Several teachers that teach together: the weighted mean of their probabilities or of their logits (Hinton et al. 2015, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch

from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.teachers.teacher import Answers, Teacher
from edgedistill.errors import RecipeError

Average = Literal["probabilities", "logits"]


class Member(NamedTuple):
    """A teacher of an ensemble and its share, above 0; shares need not add up to 1."""

    teacher: Teacher
    weight: float


class Ensemble:
    """A teacher made of teachers."""

    def __init__(self, members: Sequence[Member], average: Average) -> None:
        total = sum(member.weight for member in members)
        self.members = [Member(member.teacher, member.weight / total) for member in members]
        self.average = average

    @property
    def facts(self) -> Mapping[str, Any]:
        """Names, checksums and licences joined; sizes summed, None where one of them is not known."""
        each = [member.teacher.facts for member in self.members]
        known = {key: [facts[key] for facts in each] for key in ("parameters", "macs")}
        sizes = [facts["input_size"] for facts in each if facts["input_size"]]
        return {
            "model": " + ".join(facts["model"] for facts in each),
            "sha256": ",".join(facts["sha256"] for facts in each),
            "licence": " AND ".join(dict.fromkeys(facts["licence"] for facts in each)),
            "input_size": max(sizes, default=None),
            **{key: None if None in values else sum(values) for key, values in known.items()},
        }

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        members = [{"weight": member.weight, "teacher": dict(member.teacher.identity)} for member in self.members]
        return {"ensemble": self.average, "members": members}

    def to(self, device: torch.device) -> None:
        """Move all teachers."""
        for member in self.members:
            member.teacher.to(device)

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return the averaged logits; RecipeError for layers."""
        if layers:
            raise RecipeError(f"distill: an ensemble has only logits, no layers {', '.join(layers)}; take the terms on features out")
        logits = [member.teacher.answer(batch).logits for member in self.members]
        device = logits[0].device
        return Answers(averaged([answer.to(device) for answer in logits], [member.weight for member in self.members], self.average))


def averaged(logits: Sequence[torch.Tensor], shares: Sequence[float], average: Average) -> torch.Tensor:
    """Return the mean of (N, classes) logits by shares that add up to 1; of probabilities, its logarithm."""
    stacked = torch.stack(list(logits))
    weights = stacked.new_tensor(shares).view(-1, 1, 1)
    if average == "logits":
        return (weights * stacked).sum(0)
    return (stacked.log_softmax(-1) + weights.log()).logsumexp(0)
