"""From a run to a bundle: the only file that knows both `distill` and `convert`."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import nn

from edgedistill import bundle, recipe
from edgedistill.bundle import Provenance, Teacher
from edgedistill.convert.export import export_bundle
from edgedistill.convert.job import Exported, ExportJob
from edgedistill.distill import run
from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.images import ImageSet
from edgedistill.distill.predict import answers_on
from edgedistill.distill.run import Run
from edgedistill.distill.teachers import open_teacher
from edgedistill.errors import DataError
from edgedistill.evaluation import public_name
from edgedistill.quantization_aware import trained_by

Progress = Callable[[str, int, int], None]

#: Licences under which a student may be passed on like any other file (their notices kept).
PERMISSIVE = {"MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0", "CC-BY-4.0"}


def export(run_folder: Path, out: Path, *, changes: Mapping[str, Any], progress: Progress, onnx2tf: Path | None = None) -> Exported:
    """Export a finished run's student into the bundle folder `out`.

    Args:
        changes: keys of the recipe's [export] table to replace.
        progress: told each step.
        onnx2tf: Python of an environment with onnx2tf, to write TFLite with it.
    """
    job, student = export_job(run_folder, changes=changes, progress=progress, onnx2tf=onnx2tf)
    return export_bundle(student, job, out, progress=lambda text: progress(text, 1, 1))


def export_job(
    run_folder: Path, *, changes: Mapping[str, Any], progress: Progress, onnx2tf: Path | None = None
) -> tuple[ExportJob, nn.Module]:
    """Return what the export of a finished run needs, and its student."""
    finished = run.load(run_folder)
    settings = msgspec.structs.replace(finished.recipe.export, **changes)
    splits = open_splits(finished.recipe.data)
    if splits.classes != finished.student.classes:
        raise DataError(
            f"{run_folder} was trained on the classes {finished.student.classes}, its data now has {splits.classes}; restore the data"
        )
    calibration, test = splits.train.balanced(settings.calibration), splits.test.balanced(settings.parity_images)
    job = ExportJob(
        name=finished.recipe.name,
        labels=splits.classes,
        mean=finished.student.mean,
        std=finished.student.std,
        preprocess=finished.preprocess,
        calibration_frames_bgr=list(calibration),
        test_frames_bgr=list(test),
        test_labels=test.labels,
        teacher_logits=_teacher_logits(finished, splits, test),
        settings=settings,
        provenance=provenance(finished, splits),
        train_aware=trained_by(finished, splits, settings=settings.qad, progress=progress),
        onnx2tf=onnx2tf,
    )
    return job, finished.student.module


def _teacher_logits(finished: Run, splits: Splits, images: ImageSet) -> np.ndarray | None:
    """Return the teacher's answers on the test images, None without a teacher."""
    teacher = open_teacher(finished.recipe, splits)
    return answers_on(teacher, images, student=finished.recipe.student) if teacher is not None else None


def provenance(finished: Run, splits: Splits) -> Provenance:
    """Return where a run's student comes from."""
    saved = finished.recipe
    return Provenance(
        student=saved.student.model,
        student_sha256=bundle.sha256_of(finished.path / run.STUDENT),
        teacher=_teacher(finished),
        dataset=public_name(saved.data.source),
        dataset_sha256=splits.sha256,
        dataset_licence=splits.licence,
        recipe_sha256=recipe.digest(saved),
        student_licence=saved.student.licence,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions=dict(finished.results.get("environment", {}).get("versions", {})),
    )


def _teacher(finished: Run) -> Teacher | None:
    """Return who taught the student, or first taught in a schedule; its own former generation where there was nobody else."""
    measured = finished.results.get("teacher") or {}
    specs = finished.recipe.teachers
    if not measured and not specs:
        return None
    licence = measured.get("licence") or (specs[0].licence if specs else None) or "unknown"
    decision = (
        "allowed: permissive licence"
        if set(licence.split(" AND ")) <= PERMISSIVE
        else "not decided: read the licence before passing the student on"
    )
    if finished.recipe.student.weights is None and (not specs or finished.recipe.is_self_taught):
        decision = "allowed: the student itself at an earlier time"
    model = measured.get("model") or specs[0].model
    return Teacher(model=model, sha256=measured.get("sha256") or "", licence=licence, licence_decision=decision)


def exported_as_json(exported: Exported) -> dict[str, Any]:
    """Return an export's manifest, parity ladder, audits, attempts, seconds by step and notes as JSON values."""
    return {
        "bundle": str(exported.bundle.path),
        "manifest": msgspec.to_builtins(exported.bundle.manifest),
        "ladder": as_json(exported.rungs),
        "audits": as_json(exported.audits),
        "attempts": as_json(exported.attempts),
        "seconds": exported.seconds,
        "notes": list(exported.notes),
    }


def as_json(value: Any) -> Any:
    """Return a value as JSON has it, named tuples as objects with their fields and infinities as null."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return as_json(value._asdict())
    if isinstance(value, Mapping):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return msgspec.to_builtins(value)
