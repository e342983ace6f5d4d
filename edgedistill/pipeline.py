"""From a run to a bundle, and from either to its accuracy: the only file that knows both `distill` and `convert`."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgedistill import bundle, recipe
from edgedistill.bundle import MANIFEST_NAME, Bundle, Provenance, Teacher
from edgedistill.convert.export import Exported, ExportJob, export_bundle
from edgedistill.distill import run
from edgedistill.distill.data import Splits, open_splits
from edgedistill.distill.images import ImageSet
from edgedistill.distill.predict import answers_on, predict
from edgedistill.distill.run import Run, figures
from edgedistill.distill.teachers import open_teacher
from edgedistill.errors import DataError
from edgedistill.recipe import Data
from edgedistill.runtime import predict_logits

Progress = Callable[[str, int, int], None]

#: Licences under which a student may be passed on like any other file (their notices kept).
PERMISSIVE = {"MIT", "Apache-2.0", "BSD-3-Clause", "BSD-2-Clause", "CC0-1.0", "CC-BY-4.0"}


def export(run_folder: Path, out: Path, *, changes: Mapping[str, Any], progress: Progress) -> Exported:
    """Export a finished run's student into the bundle folder `out`.

    Args:
        changes: keys of the recipe's [export] table to replace.
        progress: told each step.
    """
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
    )
    return export_bundle(finished.student.module, job, out, progress=lambda text: progress(text, 1, 1))


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
        teacher=_teacher(finished) if saved.teachers else None,
        dataset=_public_name(saved.data.source),
        dataset_sha256=splits.sha256,
        dataset_licence=splits.licence,
        recipe_sha256=recipe.digest(saved),
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        versions=dict(finished.results.get("environment", {}).get("versions", {})),
    )


def _teacher(finished: Run) -> Teacher:
    measured = finished.results.get("teacher") or {}
    specs = finished.recipe.teachers
    licence = measured.get("licence") or specs[0].licence or "unknown"
    decision = "allowed: permissive licence" if licence in PERMISSIVE else "not decided: read the licence before passing the student on"
    return Teacher(
        model=measured.get("model") or specs[0].model, sha256=measured.get("sha256") or "", licence=licence, licence_decision=decision
    )


def _public_name(source: str) -> str:
    """Return a source's name without the folders of the machine it was on."""
    return f"folder:{Path(source.removeprefix('folder:')).name}" if source.startswith("folder:") else source


def evaluate(target: Path, *, source: str | None, file: str | None, progress: Progress) -> dict[str, Any]:
    """Measure a run's student in torch, or a bundle's files through the runtime, on the test images of `source`."""
    if (target / MANIFEST_NAME).is_file():
        return _evaluate_bundle(bundle.load(target), source=source, file=file, progress=progress)
    if file is not None:
        raise DataError(f"{target} is not a bundle, it has no file {file!r}; leave --file out, or export the run first")
    finished = run.load(target)
    data = finished.recipe.data if source is None else Data(source=_absolute(source))
    images = _test_images(data, finished.student.classes or ())
    logits = predict(
        finished.student, images, student=finished.recipe.student, tick=lambda done, total: progress("evaluating", done, total)
    )
    entry = {"file": run.STUDENT, **figures(logits, images.labels)}
    return {"name": finished.recipe.name, "source": _public_name(data.source), "images": len(images), "entries": [entry]}


def _evaluate_bundle(loaded: Bundle, *, source: str | None, file: str | None, progress: Progress) -> dict[str, Any]:
    data = Data(source=_absolute(source or loaded.manifest.provenance.dataset))
    images = _test_images(data, tuple(loaded.manifest.labels))
    models = [loaded.model(file)] if file else loaded.manifest.files
    frames = list(images)
    entries = []
    for done, model in enumerate(models):
        progress("evaluating", done, len(models))
        logits = predict_logits(loaded, frames, file=model.file)
        entries.append({"file": model.file, "format": model.format, "precision": model.precision, **figures(logits, images.labels)})
    progress("evaluating", len(models), len(models))
    return {"name": loaded.manifest.name, "source": _public_name(data.source), "images": len(images), "entries": entries}


def _test_images(data: Data, classes: tuple[str, ...]) -> ImageSet:
    splits = open_splits(data)
    if sorted(splits.classes) != sorted(classes):
        listed = f"\n  model:  {list(classes)}\n  images: {list(splits.classes)}\n"
        raise DataError(f"the images have other classes than the model:{listed}Give --data with the model's classes")
    return splits.test.in_order_of(classes)


def _absolute(source: str) -> str:
    return f"folder:{Path(source.removeprefix('folder:')).expanduser().resolve()}" if source.startswith("folder:") else source


def exported_as_json(exported: Exported) -> dict[str, Any]:
    """Return an export's manifest, parity ladder, seconds by step and notes as JSON values."""
    return {
        "bundle": str(exported.bundle.path),
        "manifest": msgspec.to_builtins(exported.bundle.manifest),
        "ladder": [rung._asdict() for rung in exported.rungs],
        "seconds": exported.seconds,
        "notes": list(exported.notes),
    }
