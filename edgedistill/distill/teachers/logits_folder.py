"""`logits:FOLDER`: a teacher whose answers are on disk, one row an image, from any model that ran anywhere.

FOLDER/train.npy, validation.npy, test.npy   (images, classes) float; row i is image number i of that split in the source's
                                             order, the unlabelled images after those of train
FOLDER/classes.txt                           names of the columns, one a line; optional

Splits that a recipe carves out of train are in train.npy. The teacher sees no view: it answers the same whatever the augmentation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.distill.data import Splits
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.teachers.files import existing, sha256_of_path
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.distill.teachers.teacher import Answers
from edgedistill.errors import DataError, RecipeError

CLASSES = "classes.txt"


class LogitsFolder:
    """Stored answers that teach; `tables` has (images, classes) arrays by the split that images are from."""

    def __init__(self, tables: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        self.tables, self.facts = tables, facts

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        return {"model": self.facts["model"], "files": self.facts["sha256"]}

    def to(self, device: torch.device) -> None:
        """There is nothing to move; logits go where the views are."""

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return the stored rows of the batch's images; RecipeError for layers."""
        if layers:
            raise RecipeError(f"distill: a logits: teacher has only logits, no layers {', '.join(layers)}")
        rows = np.asarray(self.tables[batch.origin][batch.numbers.cpu().numpy()], np.float32)
        return Answers(torch.from_numpy(rows).to(batch.views.device))


def open_logits(opening: Opening) -> Opened:
    """Open a folder of logits and check that it has a row for every image of the data."""
    spec, recipe = opening.spec, opening.recipe
    folder = existing(Path(opening.argument), spec)
    if recipe.data.augment.mixup or recipe.data.augment.cutmix:
        raise RecipeError(f"data.augment: {spec.model} has answers for whole images only; take mixup and cutmix out")
    if any(source and source.startswith("webdataset:") for source in (recipe.data.source, recipe.data.unlabelled)):
        raise RecipeError(f"teacher.model: {spec.model} has a row for each image number, which images in shards do not have; use a folder:")
    tables = {origin: _table(folder / f"{origin}.npy", rows) for origin, rows in rows_needed(opening.splits).items()}
    widths = {table.shape[1] for table in tables.values()}
    if len(widths) > 1:
        raise DataError(f"{folder}: the files have {' and '.join(map(str, sorted(widths)))} columns; give all the same classes")
    facts = {
        "model": f"logits:{folder.name}",
        "sha256": sha256_of_path(folder),
        "licence": spec.licence or "unknown",
        "input_size": None,
        "parameters": None,
        "macs": None,
    }
    named = folder / CLASSES
    names = [line.strip() for line in named.read_text(encoding="utf-8").splitlines() if line.strip()] if named.is_file() else spec.classes
    return Opened(LogitsFolder(tables, facts), widths.pop(), names)


def rows_needed(splits: Splits) -> dict[str, int]:
    """Return for each file by its split the number of rows that the data's images need."""
    needed: dict[str, int] = {}
    for images in (splits.train, splits.validation, splits.test):
        needed[images.origin] = max(needed.get(images.origin, 0), len(images.frames))
    if splits.unlabelled is not None:
        needed["train"] = len(splits.train.frames) + len(splits.unlabelled.frames)
    return needed


def _table(file: Path, rows: int) -> np.ndarray:
    try:
        table = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} cannot be read ({error}); write it by numpy.save, (images, classes) float") from error
    if table.ndim != 2 or table.dtype.kind != "f":
        raise DataError(f"{file} is {table.shape} of {table.dtype}, expected (images, classes) float")
    if len(table) != rows:
        raise DataError(f"{file} has {len(table)} rows, the data has {rows} images there; store one row an image, in the source's order")
    return table
