"""A teacher's answers on the validation and test images, which no augmentation changes: kept whole, in FOLDER/plain/FINGERPRINT.npy."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgedistill.bundle import Preprocess, write_atomically
from edgedistill.distill import predict
from edgedistill.distill.cache.cached import folder_of
from edgedistill.distill.cache.fingerprint import fingerprint_of, parts_of
from edgedistill.distill.cache.form import Form
from edgedistill.distill.images import ImageSet
from edgedistill.distill.loader import Views
from edgedistill.distill.teachers.teacher import Teacher
from edgedistill.recipe import Augment, Recipe


def answers_on(
    teacher: Teacher, images: ImageSet, recipe: Recipe, *, tick: Callable[[int, int], None] = lambda done, total: None
) -> np.ndarray:
    """Return (N, classes) float32 logits of all images as `predict.answers_on` does, from the disk where they are there."""
    ask = lambda: predict.answers_on(teacher, images, student=recipe.student, tick=tick)  # noqa: E731
    if not recipe.cache.enabled:
        return ask()
    path = folder_of(recipe) / "plain" / f"{_fingerprint(teacher, images, recipe)}.npy"
    kept = _read(path, len(images))
    if kept is not None:
        os.utime(path)
        return kept
    logits = ask()
    stream = io.BytesIO()
    np.save(stream, logits)
    write_atomically(path, stream.getvalue())
    return logits


def _fingerprint(teacher: Teacher, images: ImageSet, recipe: Recipe) -> str:
    """Return the SHA-256 of what the answers depend on; a folder of logits answers by the split as well."""
    spec: Preprocess = predict.plain_preprocess(teacher, recipe.student)
    shown = Views(images, seed=0, view=0, augment=Augment(), spec=spec)
    form = Form(len(images.classes), "fp32", None)
    return fingerprint_of({**parts_of(teacher, shown, form), "origin": images.origin})


def _read(path: Path, images: int) -> np.ndarray | None:
    """Return kept answers, None where there are none that can be used: then the teacher is asked again."""
    try:
        logits = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return logits if logits.ndim == 2 and len(logits) == images else None
