"""What is reported of a schedule: a row for each stage, the ensemble of generations, and the whole in the form of any run's results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill import metrics, recipe
from edgedistill.distill import loop, networks, run
from edgedistill.distill.data import open_splits
from edgedistill.distill.images import ImageSet
from edgedistill.distill.predict import predict
from edgedistill.postprocess import softmax
from edgedistill.recipe import Recipe


def row_of(name: str, stage: Recipe, results: dict[str, Any], *, taught_by: str) -> dict[str, Any]:
    """Return what is reported of a stage; `taught_by` names the stage that taught it, "" when none did."""
    student = results["student"]
    measured = {key: student[key] for key in ("model", "accuracy", "parameters", "macs", "input_size")}
    return {
        "name": name,
        **measured,
        "seed": stage.seed,
        "epochs": stage.train.epochs,
        "val_accuracy": results["validation"]["last"],
        "seconds": results["seconds"],
        "teacher": taught_by or (results["teacher"] or {}).get("model"),
    }


def whole_results(
    wanted: Recipe, results: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]], ensemble: dict[str, Any] | None
) -> dict[str, Any]:
    """Return results.json of a schedule: the last stage's, with the seconds of all stages.

    Its teacher is the recipe's own, whose knowledge came down to the student; without one, the stage before the last.
    """
    teacher = results[0]["teacher"] if wanted.teachers else results[-1]["teacher"]
    own = {"name": wanted.name, "recipe_sha256": recipe.digest(wanted), "seed": wanted.seed, "teacher": teacher, "stages": list(rows)}
    seconds = round(sum(row["seconds"] for row in rows), 1)
    return {**results[-1], **own, "seconds": seconds, **({"ensemble": ensemble} if ensemble is not None else {})}


def ensemble_of(folders: Sequence[Path], wanted: Recipe, progress: loop.Progress) -> dict[str, Any]:
    """Return what the students of these finished runs get right together: the mean of their probabilities."""
    students = [run.load(folder).student for folder in folders]
    splits = open_splits(wanted.data)

    def together(images: ImageSet) -> np.ndarray:
        """Return the logarithm of the mean probabilities, (N, classes)."""
        mean = np.zeros((len(images), len(splits.classes)))
        for number, student in enumerate(students):
            mean += softmax(predict(student, images, student=wanted.student)) / len(students)
            progress("testing the ensemble", number + 1, len(students))
        return np.log(np.maximum(mean, np.finfo(np.float64).tiny))

    with loop.threads(wanted.train.threads):
        validation, test = together(splits.validation), together(splits.test)
    sizes = [networks.count(student) for student in students]
    return {
        "networks": len(students),
        "val_accuracy": metrics.accuracy(validation, splits.validation.labels),
        **run.figures(test, splits.test.labels),
        "parameters": sum(parameters for parameters, _ in sizes),
        "macs": sum(macs for _, macs in sizes),
    }
