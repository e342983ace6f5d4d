"""From a run or a bundle to its accuracy on test images, as they are and corrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgedistill import bundle, metrics
from edgedistill.bundle import MANIFEST_NAME
from edgedistill.corruptions import Corruption
from edgedistill.distill import run
from edgedistill.distill.data import open_splits
from edgedistill.distill.images import Frames, ImageSet
from edgedistill.distill.predict import predict
from edgedistill.distill.run import figures
from edgedistill.errors import DataError
from edgedistill.recipe import Data
from edgedistill.recipe.files import FILE_SOURCES
from edgedistill.runtime import predict_logits

Progress = Callable[[str, int, int], None]


class Measured(NamedTuple):
    """What is measured: its name, the classes of its outputs, the data it was made with, and by file how it answers images."""

    name: str
    classes: tuple[str, ...]
    data: Data
    files: dict[str, Callable[[ImageSet], np.ndarray]]
    facts: dict[str, dict[str, Any]]


class Corrupted:
    """Frames that are corrupted when they are asked for."""

    def __init__(self, frames: Frames, corruption: Corruption) -> None:
        self._frames, self._corruption = frames, corruption

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> np.ndarray:
        return self._corruption(self._frames[index])


def evaluate(
    target: Path, *, source: str | None, file: str | None, progress: Progress, corruptions: Sequence[Corruption] = ()
) -> dict[str, Any]:
    """Measure a run's student in torch, or a bundle's files through the runtime, on the test images of `source`.

    With `corruptions` each file has further entries: its figures on the corrupted images, and `flips`, the fraction of images
    whose answer is another one than without the corruption.
    """
    measured = _bundle(target, file) if (target / MANIFEST_NAME).is_file() else _run(target, file)
    data = measured.data if source is None else Data(source=_absolute(source))
    images = _test_images(data, measured.classes)
    entries = list(_entries(measured, images, corruptions, progress))
    return {"name": measured.name, "source": public_name(data.source), "images": len(images), "entries": entries}


def _entries(measured: Measured, images: ImageSet, corruptions: Sequence[Corruption], progress: Progress) -> Iterator[dict[str, Any]]:
    total, done = len(measured.files) * (1 + len(corruptions)), 0
    for file, answer in measured.files.items():
        clean: np.ndarray | None = None
        for corruption in (None, *corruptions):
            progress("evaluating", done, total)
            shown = images if corruption is None else replace(images, frames=Corrupted(images.frames, corruption))
            logits = answer(shown)
            clean = logits if clean is None else clean
            worse = {} if corruption is None else {"corruption": str(corruption), "flips": 1 - metrics.agreement(clean, logits)}
            yield {"file": file, **measured.facts[file], **worse, **figures(logits, images.labels)}
            done += 1
    progress("evaluating", total, total)


def _run(target: Path, file: str | None) -> Measured:
    if file is not None:
        raise DataError(f"{target} is not a bundle, it has no file {file!r}; leave --file out, or export the run first")
    finished = run.load(target)
    answer = lambda images: predict(finished.student, images, student=finished.recipe.student)  # noqa: E731
    saved = finished.recipe
    return Measured(saved.name, finished.student.classes or (), saved.data, {run.STUDENT: answer}, {run.STUDENT: {}})


def _bundle(target: Path, file: str | None) -> Measured:
    loaded = bundle.load(target)
    models = [loaded.model(file)] if file else loaded.manifest.files
    manifest = loaded.manifest

    def answering(name: str) -> Callable[[ImageSet], np.ndarray]:
        return lambda images: predict_logits(loaded, list(images), file=name)

    return Measured(
        manifest.name,
        tuple(manifest.labels),
        Data(source=_absolute(manifest.provenance.dataset)),
        {model.file: answering(model.file) for model in models},
        {model.file: {"format": model.format, "precision": model.precision} for model in models},
    )


def _test_images(data: Data, classes: tuple[str, ...]) -> ImageSet:
    splits = open_splits(data)
    if sorted(splits.classes) != sorted(classes):
        listed = f"\n  model:  {list(classes)}\n  images: {list(splits.classes)}\n"
        raise DataError(f"the images have other classes than the model:{listed}Give --data with the model's classes")
    return splits.test.in_order_of(classes)


def public_name(source: str) -> str:
    """Return a source's name without the folders of the machine it was on."""
    kind, _, path = source.partition(":")
    return f"{kind}:{path.rpartition('/')[2]}" if kind in FILE_SOURCES else source


def _absolute(source: str) -> str:
    return f"folder:{Path(source.removeprefix('folder:')).expanduser().resolve()}" if source.startswith("folder:") else source
