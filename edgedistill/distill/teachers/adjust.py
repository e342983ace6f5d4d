"""What is done to a teacher's logits before it teaches: brought into the data's classes, divided by a temperature."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from edgedistill.distill.class_names import difference
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.teachers.opening import Opened
from edgedistill.distill.teachers.teacher import Answers, Teacher
from edgedistill.errors import ModelError, RecipeError, close_matches
from edgedistill.recipe import Teacher as Spec


class Adjusted:
    """A teacher whose logits are changed; `how` says how, as part of its identity."""

    def __init__(self, teacher: Teacher, change: Callable[[torch.Tensor], torch.Tensor], *, how: Mapping[str, Any]) -> None:
        self.teacher, self.change, self.how = teacher, change, how

    @property
    def facts(self) -> Mapping[str, Any]:
        """The facts of the teacher itself."""
        return self.teacher.facts

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        return {**self.teacher.identity, **self.how}

    def to(self, device: torch.device) -> None:
        """Move the teacher."""
        self.teacher.to(device)

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return the changed logits; features are as they are."""
        answers = self.teacher.answer(batch, layers)
        return Answers(self.change(answers.logits), answers.features)


def in_classes(opened: Opened, spec: Spec, classes: Sequence[str]) -> Teacher:
    """Return the teacher with its logits in the data's classes.

    Raises ModelError where its outputs are not the data's classes in their order and no mapping says which is which.
    """
    names = list(opened.names) if opened.names is not None else list(spec.classes or classes)
    if spec.classes is not None and (wrong := difference(spec.classes, names, whose="recipe")):
        raise ModelError(
            f"teacher.classes has {wrong.replace('data', 'file')}{spec.model} says its classes itself: take teacher.classes out"
        )
    if len(names) != opened.outputs:
        whose = "teacher.classes has" if spec.classes else "the data has" if opened.names is None else "its class names are"
        raise ModelError(
            f"the teacher {spec.model} has {opened.outputs} outputs, {whose} {len(names)}; name its outputs in their order by "
            "teacher.classes, and which of them is which class of the data by teacher.mapping"
        )
    if spec.mapping:
        groups = groups_of(spec.mapping, names, classes)
        return Adjusted(opened.teacher, lambda logits: merged(logits, groups), how={"groups": groups})
    if wrong := difference(names, classes, whose="teacher"):
        raise ModelError(f"the teacher {spec.model} has {wrong}Say which of its outputs is which class of the data by teacher.mapping")
    return opened.teacher


def groups_of(mapping: Mapping[str, str], names: Sequence[str], classes: Sequence[str]) -> list[list[int]]:
    """Return for each class of the data the indices of the outputs that go to it; RecipeError for a mapping that does not fit."""
    for name, target in mapping.items():
        if name not in names:
            raise RecipeError(f"teacher.mapping: the teacher has no output {name!r}.{close_matches(name, names)}")
        if target not in classes:
            raise RecipeError(
                f"teacher.mapping: {name!r} goes to {target!r}, which the data does not have.{close_matches(target, classes)}"
            )
    groups = [[i for i, name in enumerate(names) if mapping.get(name) == wanted] for wanted in classes]
    if missing := [wanted for wanted, group in zip(classes, groups, strict=True) if not group]:
        raise RecipeError(f"teacher.mapping: no output goes to {', '.join(map(repr, missing))}; every class of the data needs at least one")
    return groups


def merged(logits: torch.Tensor, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """Return (N, classes) logits: of each class the log-sum-exp of its outputs, so that probabilities add up."""
    return torch.stack([logits[:, list(group)].logsumexp(1) for group in groups], 1)
