"""What is checked of all stages of a schedule before the first is trained: the layers that terms name, and the networks' sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from edgedistill import recipe
from edgedistill.distill import networks
from edgedistill.distill.data import open_splits
from edgedistill.distill.learner import student_layers, teacher_layers
from edgedistill.distill.networks import Network
from edgedistill.distill.taps import Taps
from edgedistill.recipe import Recipe, Recursive, Term


def check_networks(stages: Sequence[tuple[str, Recipe]], schedule: object, say: Callable[[str], None]) -> None:
    """Build the network of every stage, by its name and recipe, and check that the terms fit.

    Raises RecipeError for a layer that a network lacks, ModelError for a network that cannot be built. Tells the sizes of a
    recursive schedule, and when they do not descend.
    """
    classes = open_splits(stages[0][1].data).classes
    students = [_bare(stage.student, classes) for _, stage in stages]
    for (name, stage), student, former in zip(stages, students, [None, *students], strict=False):
        _check_layers(stage.distill, name, student=student, former=former)
    if isinstance(schedule, Recursive):
        own = [("teacher", _bare(spec, classes)) for spec in stages[0][1].teachers if _is_torch(spec)]
        say(chain_of([*own, *zip([name for name, _ in stages], students, strict=True)]))


def _check_layers(terms: Sequence[Term], name: str, *, student: Network, former: Network | None) -> None:
    """Raise RecipeError for a layer that the stage's student lacks, or the student of the stage before, which teaches it."""
    Taps(student.module, student_layers(terms), whose=f"student of {name}, {student.name},").remove()
    if former is not None:
        Taps(former.module, teacher_layers(terms), whose=f"teacher of {name}, {former.name},").remove()


def chain_of(named: Sequence[tuple[str, Network]]) -> str:
    """Return one line with the sizes of the networks from teacher to student, and a warning when they do not descend."""
    sizes = [sum(parameter.numel() for parameter in network.module.parameters()) for _, network in named]
    parts = [f"{name} {network.name} {size / 1e6:.2f} M" for (name, network), size in zip(named, sizes, strict=True)]
    line = f"parameters: {', '.join(parts)}"
    if all(before > after for before, after in pairwise(sizes)):
        return line
    return f"{line}; they do not descend: an assistant is meant to lie between its teacher and its student"


def _is_torch(spec: recipe.Network) -> bool:
    return spec.model.partition(":")[0] in networks.BUILDERS


def _bare(spec: recipe.Network, classes: tuple[str, ...]) -> Network:
    """Build a network without its weights, which may not exist yet."""
    plain = {name: value for name, value in (("weights", None), ("new_head", False), ("probe", False)) if hasattr(spec, name)}
    return networks.build(msgspec.structs.replace(spec, **plain), classes)
