"""One run: a recipe in, a folder out, with the student's weights, the resolved recipe, metrics and results.

recipe.toml   student.safetensors   metrics.jsonl   results.json   (checkpoint.safetensors while unfinished)
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from lightning_fabric import Fabric

from edgedistill import metrics, recipe
from edgedistill.bundle import Preprocess, write_atomically
from edgedistill.distill import loggers, loop, networks, pruning, weights
from edgedistill.distill.assemble import Order, assemble
from edgedistill.distill.cache.plain import answers_on
from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.engine import first, in_turn, open_fabric, together
from edgedistill.distill.failures import explained
from edgedistill.distill.losses import check_terms
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import predict, preprocess_of
from edgedistill.distill.self_teacher import as_teacher, check_self_teacher
from edgedistill.distill.snapshots import card_of
from edgedistill.distill.teachers import Teacher, open_teacher, sha256_of_teachers
from edgedistill.errors import DataError, ModelError, RecipeError
from edgedistill.recipe import Recipe

Say = Callable[[str], None]
RECIPE, STUDENT, RESULTS, STAGES = "recipe.toml", "student.safetensors", "results.json", "stages"


@dataclass(frozen=True)
class Run:
    """A finished run, read back: its recipe, its trained student and its results."""

    path: Path
    recipe: Recipe
    student: Network
    results: dict[str, Any]

    @property
    def preprocess(self) -> Preprocess:
        """How frames become the student's pixels."""
        return preprocess_of(self.student, self.recipe.student)


def distill(
    wanted: Recipe,
    out: Path,
    *,
    resume: bool = False,
    progress: loop.Progress = lambda text, done, total: None,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Train the recipe's student into the folder `out` and return the results, which are also in results.json.

    A finished run of the same recipe is not trained again with `resume`; without it, `out` must be empty. Of several processes
    all call this; the first one speaks and writes, and `out` is a folder that all can read.
    """
    if wanted.schedule is not None:
        raise RecipeError(f"{wanted.name} has a schedule of several trainings; run it with schedules.distill, which makes each of them")
    check_terms(wanted.distill, has_teacher=bool(wanted.teachers))
    check_self_teacher(wanted)
    pruning.check(wanted.student)
    fabric = open_fabric(wanted)
    if not fabric.is_global_zero:
        progress, say = (lambda text, done, total: None), (lambda text: None)
    with explained(out / loop.CHECKPOINT), loop.threads(wanted.train.threads), ExitStack() as stack:
        if (done := first(fabric, partial(claim, out, wanted, resume=resume))) is not None:
            return done
        splits, student, teacher = in_turn(fabric, partial(open_all, wanted, fabric, progress, say), wait=may_download(wanted))
        gated = first(fabric, lambda: begin(out, wanted, teacher, splits, progress, say))
        with together(fabric):
            job = assemble(Order(wanted, splits, student, teacher, out, resume, progress, say), fabric)
            if fabric.is_global_zero:
                job = replace(job, log=stack.enter_context(loggers.opened(wanted, out)))
        rows = loop.train(job)
        return first(fabric, lambda: finish(job, wanted, teacher, rows, gated))


def claim(out: Path, wanted: Recipe, *, resume: bool) -> dict[str, Any] | None:
    """Return the results where there is nothing left to do, else None; DataError for a folder in use."""
    loggers.check_loggers(wanted)
    if resume:
        return finished(out, wanted)
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out} is not empty; give --resume to go on there, or another --out")
    return None


def open_all(wanted: Recipe, fabric: Fabric, progress: loop.Progress, say: Say) -> tuple[Splits, Network, Teacher | None]:
    """Open the data, build the student, the same in every process, and open the teacher."""
    torch.manual_seed(wanted.seed)
    splits = open_splits(wanted.data)
    student = networks.build(wanted.student, splits.classes)
    if wanted.student.prune is not None:
        student = pruning.prune(student, wanted.student.prune, seed=wanted.seed)
    return splits, student, open_teacher(wanted, splits, device=fabric.device, progress=progress, say=say)


def may_download(wanted: Recipe) -> bool:
    """Return whether opening may write files that other processes on this machine open too."""
    networks_named = (wanted.student, *wanted.teachers)
    return wanted.data.source.startswith("torchvision:") or any(spec.weights == "pretrained" for spec in networks_named)


def begin(out: Path, wanted: Recipe, teacher: Teacher | None, splits: Splits, progress: loop.Progress, say: Say) -> dict[str, Any]:
    """Make the folder, write the recipe, and return what the teacher is worth."""
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / RECIPE, recipe.encode(wanted).encode())
    return gate(teacher, splits, wanted, progress, say) if teacher is not None else {}


def finish(job: loop.Job, wanted: Recipe, teacher: Teacher | None, rows: list[dict[str, Any]], gated: dict[str, Any]) -> dict[str, Any]:
    """Write the student and the results, and return these."""
    student = loop.kept(job)
    weights.save(student.module, job.out / STUDENT, card_of(student, wanted))
    taught_by = {**gated, **measure_teacher(teacher, job.splits, wanted, job.progress)} if teacher is not None else None
    results = {**results_of(wanted, job.splits, student, rows, job.progress), "teacher": taught_by}
    if wanted.is_self_taught:
        results["teacher"] = as_teacher(results)
    if job.answers is not None:
        results["cache"] = job.answers.facts()
    write_atomically(job.out / RESULTS, json.dumps(results, indent=2).encode() + b"\n")
    (job.out / loop.CHECKPOINT).unlink(missing_ok=True)
    return results


def finished(out: Path, wanted: Recipe) -> dict[str, Any] | None:
    """Return the results of a finished run of exactly this recipe in `out`, or None."""
    if not ((out / RESULTS).is_file() and (out / STUDENT).is_file()):
        return None
    results = json.loads((out / RESULTS).read_text())
    if results.get("recipe_sha256") != recipe.digest(wanted):
        return None
    if not wanted.teachers:  # a generation may have taught it, which is no file of the recipe
        return results
    return results if (results.get("teacher") or {}).get("sha256", "") == sha256_of_teachers(wanted) else None


def gate(teacher: Teacher, splits: Splits, wanted: Recipe, progress: loop.Progress, say: Say) -> dict[str, Any]:
    """Measure the teacher on the validation images before any training; ModelError when it is near chance."""
    tick = lambda done, total: progress("checking the teacher", done, total)  # noqa: E731
    logits = answers_on(teacher, splits.validation, wanted, tick=tick)
    accuracy, chance = metrics.accuracy(logits, splits.validation.labels), 1 / len(splits.classes)
    say(f"teacher {teacher.facts['model']}: {accuracy:.1%} of the {len(splits.validation)} validation images, chance is {chance:.1%}")
    if accuracy < min(2 * chance, (1 + chance) / 2) and any(spec.gate for spec in wanted.teachers):
        raise ModelError(
            f"the teacher {teacher.facts['model']} is right on {accuracy:.1%} of the validation images, chance is {chance:.1%}: "
            "check its weights, its normalization and the order of its classes; gate = false in its table teaches with it all the same"
        )
    return {"val_accuracy": accuracy}


def measure_teacher(teacher: Teacher, splits: Splits, wanted: Recipe, progress: loop.Progress) -> dict[str, Any]:
    """Return a teacher's facts and what it gets right on the test images."""
    tick = lambda done, total: progress("testing the teacher", done, total)  # noqa: E731
    logits = answers_on(teacher, splits.test, wanted, tick=tick)
    return {**teacher.facts, **figures(logits, splits.test.labels)}


def figures(logits_nc: np.ndarray, labels_n: np.ndarray) -> dict[str, Any]:
    """Return accuracy with its 95 % interval, negative log-likelihood in nats, and calibration error."""
    accuracy = metrics.accuracy(logits_nc, labels_n)
    return {
        "accuracy": accuracy,
        "accuracy_interval": list(metrics.accuracy_interval(accuracy, len(labels_n))),
        "nll": metrics.negative_log_likelihood(logits_nc, labels_n),
        "ece": metrics.expected_calibration_error(logits_nc, labels_n),
    }


def measure(network: Network, splits: Splits, wanted: Recipe, progress: loop.Progress) -> dict[str, Any]:
    """Return a network's size and what it gets right on the test images."""
    tick = lambda done, total: progress("testing", done, total)  # noqa: E731
    logits = predict(network, splits.test, student=wanted.student, tick=tick)
    parameters, macs = networks.count(network)
    return {
        "model": network.name,
        **figures(logits, splits.test.labels),
        "parameters": parameters,
        "macs": macs,
        "input_size": network.input_size,
        "licence": network.licence,
        "sha256": network.sha256,
        **({"pruned": pruning.facts(network.pruned)} if network.pruned is not None else {}),
    }


def results_of(wanted: Recipe, splits: Splits, student: Network, rows: list[dict[str, Any]], progress: loop.Progress) -> dict[str, Any]:
    """Return results.json: the student on the test images, touched once, after the last epoch."""
    best = max(rows, key=lambda row: row["val_accuracy"])
    return {
        "schema": 1,
        "name": wanted.name,
        "recipe_sha256": recipe.digest(wanted),
        "seed": wanted.seed,
        "student": measure(student, splits, wanted, progress),
        "validation": {"last": rows[-1]["val_accuracy"], "best": best["val_accuracy"], "best_epoch": best["epoch"]},
        "data": {
            "source": recipe.without_paths(wanted.data.source),
            "licence": splits.licence,
            "sha256": splits.sha256,
            "images": {name: len(images) for name in ("train", "unlabelled", "validation", "test") if (images := getattr(splits, name))},
            "skipped": len(splits.skipped),
            "skipped_files": [Path(name).name for name in splits.skipped],
        },
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "environment": environment(),
    }


def environment() -> dict[str, Any]:
    """Return the versions and the machine that a training ran on."""
    packages = ("torch", "timm", "numpy", "lightning-fabric")
    versions = {name: metadata.version(name) for name in packages}
    return {"python": platform.python_version(), "machine": platform.machine(), "threads": torch.get_num_threads(), "versions": versions}


def load(path: Path) -> Run:
    """Read a finished run back: recipe, student with its weights, results."""
    if not (path / STUDENT).is_file():
        begun = any((path / name).exists() for name in (loop.CHECKPOINT, STAGES))
        unfinished = " (it is unfinished: go on with edgedistill distill … --resume)" if begun else ""
        raise DataError(f"{path} is not a finished run: it has no {STUDENT}{unfinished}")
    saved = recipe.load(path / RECIPE)
    card = weights.read_card(path / STUDENT)
    spec = msgspec.structs.replace(saved.student, weights=str(path / STUDENT), new_head=False)
    student = networks.build(spec, tuple(card["classes"]))
    results = json.loads((path / RESULTS).read_text()) if (path / RESULTS).is_file() else {}
    return Run(path, saved, student, results)


def test_logits(run: Run, splits: Splits) -> np.ndarray:
    """Return the student's (N, classes) logits on the run's test images."""
    return predict(run.student, splits.test, student=run.recipe.student)
