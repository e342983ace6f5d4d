"""Several trainings one after the other, where each student teaches the next: `[schedule]` of a recipe.

A stage is a run like any other, in OUT/stages/NN-NAME; at the end OUT itself looks like a run whose student is the last stage's.
A new kind of schedule is a function here and a line in `SCHEDULES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from edgedistill import recipe
from edgedistill.bundle import write_atomically
from edgedistill.distill import loop, run, weights
from edgedistill.distill.engine import first, open_fabric
from edgedistill.distill.failures import explained
from edgedistill.distill.losses import LOSSES, check_terms
from edgedistill.distill.snapshots import card_of
from edgedistill.distill.stage_checks import check_networks
from edgedistill.distill.stage_results import ensemble_of, row_of, whole_results
from edgedistill.errors import RecipeError
from edgedistill.recipe import BornAgain, Recipe, Recursive, Student, Teacher, Term


class Step(NamedTuple):
    """What one stage of a schedule changes of the recipe."""

    name: str
    student: Student
    seed: int
    epochs: int


@dataclass(frozen=True)
class Stage:
    """One training of a schedule.

    Args:
        recipe: a recipe without a schedule; its teacher is the recipe's own, or the student of the stage before.
        folder: where it is trained.
        taught_by: the name of the stage that teaches it, "" for the recipe's own teacher or none.
    """

    name: str
    recipe: Recipe
    folder: Path
    taught_by: str


def distill(
    wanted: Recipe,
    out: Path,
    *,
    resume: bool = False,
    progress: loop.Progress = lambda text, done, total: None,
    say: run.Say = lambda text: None,
) -> dict[str, Any]:
    """Train the recipe's student into the folder `out`, by its schedule if it has one, and return the results.

    With `resume` it goes on where it was interrupted, in the middle of a stage or between stages, and ends with the same bits;
    a finished one is left alone. Without it, `out` must be empty. Of several processes all call this, as `run.distill`.
    """
    if wanted.schedule is None:
        return run.distill(wanted, out, resume=resume, progress=progress, say=say)
    stages = expand(wanted, out)
    fabric = open_fabric(wanted)
    if not fabric.is_global_zero:
        progress, say = (lambda text, done, total: None), (lambda text: None)
    with explained(out / loop.CHECKPOINT):
        if (done := first(fabric, lambda: _begin(wanted, out, stages, resume=resume, say=say))) is not None:
            return done
        results = []
        for number, stage in enumerate(stages, start=1):
            title = f"stage {number} of {len(stages)}, {stage.name}"
            say(f"{title}: {stage.recipe.student.model}, seed {stage.recipe.seed}, taught by {_teachers_of(stage)}")
            results.append(run.distill(stage.recipe, stage.folder, resume=True, progress=progress, say=say))
            say(f"{title}: {results[-1]['validation']['last']:.1%} of the validation images")
        return first(fabric, lambda: _finish(wanted, out, stages, results, progress))


def _begin(wanted: Recipe, out: Path, stages: Sequence[Stage], *, resume: bool, say: run.Say) -> dict[str, Any] | None:
    """Check all stages and make the folder; return the results where there is nothing left to do.

    Raises DataError for a folder in use, RecipeError for one with another recipe or for networks that do not fit.
    """
    if (done := run.claim(out, wanted, resume=resume)) is not None:
        return done
    if (out / run.RECIPE).is_file() and recipe.digest(recipe.load(out / run.RECIPE)) != recipe.digest(wanted):
        raise RecipeError(f"the stages in {out} are of another recipe; give the same recipe and --set, or another --out")
    check_networks([(stage.name, stage.recipe) for stage in stages], wanted.schedule, say)
    write_atomically(out / run.RECIPE, recipe.encode(wanted).encode())
    return None


def _finish(
    wanted: Recipe, out: Path, stages: Sequence[Stage], results: Sequence[dict[str, Any]], progress: loop.Progress
) -> dict[str, Any]:
    """Make `out` a finished run: the last stage's student under the whole recipe's card, its metrics, the results of all."""
    rows = [row_of(stage.name, stage.recipe, found, taught_by=stage.taught_by) for stage, found in zip(stages, results, strict=True)]
    ensemble = ensemble_of([stage.folder for stage in stages], wanted, progress) if isinstance(wanted.schedule, BornAgain) else None
    whole, last = whole_results(wanted, results, rows, ensemble), stages[-1].folder
    student = run.load(last).student
    weights.save(student.module, out / run.STUDENT, card_of(student, wanted))
    for kept in (last / loop.METRICS, *last.glob("student-epoch-*.safetensors")):
        write_atomically(out / kept.name, kept.read_bytes())
    write_atomically(out / run.RESULTS, json.dumps(whole, indent=2).encode() + b"\n")
    return whole


def born_again(whole: Recipe) -> tuple[Step, ...]:
    """Return the generations of one architecture; each has a seed of its own, the first that of the recipe."""
    assert isinstance(whole.schedule, BornAgain)
    seeds = [(whole.seed + generation) % 2**31 for generation in range(whole.schedule.generations)]
    return tuple(Step(f"generation-{number}", whole.student, seed, whole.train.epochs) for number, seed in enumerate(seeds, start=1))


def recursive(whole: Recipe) -> tuple[Step, ...]:
    """Return the assistants in their order, and the student."""
    assert isinstance(whole.schedule, Recursive)
    epochs, assistants = whole.schedule.epochs or whole.train.epochs, whole.schedule.assistants
    steps = [Step(f"assistant-{number}", assistant, whole.seed, epochs) for number, assistant in enumerate(assistants, start=1)]
    return (*steps, Step("student", whole.student, whole.seed, whole.train.epochs))


#: From a schedule's kind to what its stages change of the recipe, first to last.
SCHEDULES: dict[str, Callable[[Recipe], tuple[Step, ...]]] = {"born_again": born_again, "recursive": recursive}


def expand(whole: Recipe, out: Path) -> tuple[Stage, ...]:
    """Return the stages of a recipe with a schedule; RecipeError for terms that do not fit it."""
    assert whole.schedule is not None
    kind = str(whole.schedule.__struct_config__.tag)
    check_terms(whole.distill, has_teacher=True)
    if not any(LOSSES[term.loss].needs & {"teacher", "features"} for term in whole.distill):
        raise RecipeError(f"schedule {kind}: no term learns from a teacher, so that stages cannot teach each other; add loss = 'kd'")
    if whole.is_self_taught and isinstance(whole.schedule, Recursive):
        raise RecipeError("schedule recursive: teacher.model 'ema' is the student itself, not a larger network; name one, or none")
    steps = SCHEDULES[kind](whole)
    stages: list[Stage] = []
    for number, step in enumerate(steps, start=1):
        former = stages[-1] if stages else None
        folder = out.absolute() / run.STAGES / f"{number:02d}-{step.name}"
        stage_recipe = _recipe_of(step, whole, former, is_last=number == len(steps))
        stages.append(Stage(step.name, stage_recipe, folder, former.name if former else ""))
    return tuple(stages)


def _recipe_of(step: Step, whole: Recipe, former: Stage | None, *, is_last: bool) -> Recipe:
    """Return the recipe of one stage; a first one without a teacher learns from the labels alone."""
    teacher = whole.teacher if former is None else _as_teacher(former)
    train = msgspec.structs.replace(whole.train, epochs=step.epochs, snapshots=whole.train.snapshots if is_last else ())
    changes = {"name": f"{whole.name}-{step.name}", "seed": step.seed, "student": step.student, "teacher": teacher, "schedule": None}
    terms = whole.distill if teacher is not None else (_labels_alone(whole.distill),)
    try:
        return msgspec.structs.replace(whole, **changes, distill=terms, train=train)
    except ValueError as error:
        raise RecipeError(f"schedule: {step.name} cannot be trained for {step.epochs} epochs: {error}") from error


def _as_teacher(stage: Stage) -> Teacher:
    """Return a stage's student as a teacher; it was measured where it was trained, so that it may be near chance in a smoke run."""
    spec = stage.recipe.student
    same = {name: getattr(spec, name) for name in ("model", "args", "input_size", "strides", "mean", "std", "licence")}
    return Teacher(**same, weights=str(stage.folder / run.STUDENT), gate=False)


def _teachers_of(stage: Stage) -> str:
    return stage.taught_by or " and ".join(teacher.model for teacher in stage.recipe.teachers) or "the labels alone"


def _labels_alone(terms: Sequence[Term]) -> Term:
    """Return the recipe's cross-entropy as the only term, in all epochs."""
    found = [term for term in terms if term.loss == "cross_entropy"]
    return msgspec.structs.replace(found[0], weight=1.0, epochs=None) if found else Term(loss="cross_entropy")
