"""Teachers by name, brought to the data's classes, and several of them together. A new kind is a module here and a line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from edgedistill.distill.data import Splits
from edgedistill.distill.losses import LOSSES
from edgedistill.distill.teachers.adjust import in_classes
from edgedistill.distill.teachers.calibration import calibrated
from edgedistill.distill.teachers.ensemble import Ensemble, Member
from edgedistill.distill.teachers.files import sha256_of_files
from edgedistill.distill.teachers.keras_file import open_keras
from edgedistill.distill.teachers.logits_folder import open_logits
from edgedistill.distill.teachers.network import NetworkTeacher, open_network
from edgedistill.distill.teachers.onnx_file import open_onnx
from edgedistill.distill.teachers.opening import Opened, Opening, Progress
from edgedistill.distill.teachers.probe import open_probe
from edgedistill.distill.teachers.teacher import Answers, Teacher
from edgedistill.distill.teachers.tflite_file import open_tflite
from edgedistill.errors import RecipeError, close_matches
from edgedistill.recipe import Recipe

__all__ = ["KINDS", "Answers", "Ensemble", "Member", "NetworkTeacher", "Teacher", "check_features", "open_teacher", "sha256_of_teachers"]

#: What `teacher.model` can begin with.
KINDS: dict[str, Callable[[Opening], Opened]] = {
    "timm": open_network,
    "torchvision": open_network,
    "python": open_network,
    "onnx": open_onnx,
    "tflite": open_tflite,
    "keras": open_keras,
    "logits": open_logits,
}
#: Kinds that have layers, which terms on features need.
WITH_LAYERS = frozenset({"timm", "torchvision", "python", "ema"})
#: Keys that build a network in torch.
NETWORK_KEYS = ("weights", "new_head", "args", "strides")


def open_teacher(
    recipe: Recipe,
    splits: Splits,
    *,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (immutable)
    progress: Progress = lambda text, done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> Teacher | None:
    """Return the recipe's teacher, several as an ensemble, or None without one; its logits are in the order of the data's classes.

    Raises RecipeError or ModelError for a teacher that cannot teach this recipe's terms or classes.
    """
    check_features(recipe)
    if recipe.is_self_taught:  # the teacher is made while the student is trained
        return None
    members = []
    for spec in recipe.teachers:
        if spec.weight > 0:
            opening = Opening(spec, recipe, splits, device, progress, say)
            members.append(Member(_open(opening), spec.weight))
    if len(members) < 2:
        return members[0].teacher if members else None
    return Ensemble(members, recipe.ensemble)


def _open(opening: Opening) -> Teacher:
    spec = opening.spec
    kind = spec.model.partition(":")[0]
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise RecipeError(f"teacher.model: unknown kind of teacher {spec.model!r}.{close_matches(kind, KINDS)} Known: {known}")
    if unused := [name for name in NETWORK_KEYS if kind not in WITH_LAYERS and getattr(spec, name)]:
        raise RecipeError(f"teacher: {spec.model} is read as it is, it does not use {', '.join(unused)}; take that out")
    if spec.probe and kind not in WITH_LAYERS:
        raise RecipeError(
            f"teacher.probe: {spec.model} has only logits; a probe takes the features of timm:, torchvision: or python: networks"
        )
    opened = open_probe(opening) if spec.probe else KINDS[kind](opening)
    opened.teacher.to(opening.device)
    teacher = in_classes(opened, spec, opening.splits.classes)
    return calibrated(teacher, opening) if spec.calibrate else teacher


def check_features(recipe: Recipe) -> None:
    """Raise RecipeError for terms on the teacher's layers where the teacher has only logits."""
    names = [repr(term.loss) for term in recipe.distill if term.loss in LOSSES and {"teacher", "features"} <= LOSSES[term.loss].needs]
    teachers = [spec for spec in recipe.teachers if spec.weight > 0]
    kinds = [spec.model.partition(":")[0] for spec in teachers]
    if not names or (len(kinds) == 1 and kinds[0] in WITH_LAYERS) or not kinds:
        return
    losses = f"the loss {names[0]} needs" if len(names) == 1 else f"the losses {', '.join(names)} need"
    whose = f"an {kinds[0]}: teacher" if kinds[0] == "onnx" else f"a {kinds[0]}: teacher"
    whose = "an ensemble" if len(kinds) > 1 else whose
    raise RecipeError(
        f"distill: {losses} layers of the teacher; {whose} has only logits; take the terms out, or take one network as the teacher"
    )


def sha256_of_teachers(recipe: Recipe) -> str:
    """Return the checksums of the teachers' files as their facts have them, "" without files."""
    return ",".join(sha256_of_files(spec) for spec in recipe.teachers if spec.weight > 0)
