"""A model file as a teacher, whatever runs it: filled with views, asked in batches that it can take, its answers made logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from edgedistill.bundle import Manifest
from edgedistill.distill.loader import ViewBatch
from edgedistill.distill.teachers.files import sha256_of_path
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.distill.teachers.teacher import Answers
from edgedistill.distill.teachers.tensor_input import TensorInput
from edgedistill.errors import ModelError, RecipeError

#: Probabilities below it count as it, so that their logarithm is finite.
SMALLEST = 1e-7


class Runner(NamedTuple):
    """What runs a file.

    run: from inputs of `batch` images, any number for None, to (N, …) float32 outputs; kind: for errors and results.
    """

    kind: str
    run: Callable[[np.ndarray], np.ndarray]
    batch: int | None


class FileTeacher:
    """A model file that teaches; it has only logits.

    Args:
        about: facts of it.
        are_probabilities: its outputs are, so their logarithms are its logits.
    """

    def __init__(self, runner: Runner, tensor: TensorInput, *, about: Mapping[str, Any], are_probabilities: bool) -> None:
        self.runner, self.tensor, self.facts, self.are_probabilities = runner, tensor, about, are_probabilities

    @property
    def identity(self) -> Mapping[str, Any]:
        """What its answers depend on."""
        return {"model": self.facts["model"], "file": self.facts["sha256"], **self.tensor.identity}

    def to(self, device: torch.device) -> None:
        """It stays where its interpreter runs; its logits go where the views are."""

    def answer(self, batch: ViewBatch, layers: Sequence[str] = ()) -> Answers:
        """Return logits; RecipeError for layers."""
        if layers:
            raise RecipeError(f"distill: {self.facts['model']} has only logits, no layers {', '.join(layers)}")
        outputs = run_in_batches(self.runner, self.tensor.fill(batch.views))
        logits = np.log(np.maximum(outputs, SMALLEST)) if self.are_probabilities else outputs
        return Answers(torch.from_numpy(logits).to(batch.views.device))


def open_file(opening: Opening, runner: Runner, *, tensor: TensorInput, manifest: Manifest | None) -> Opened:
    """Return a file's teacher with the number and, by its bundle, the names of its outputs; ModelError where it does not run."""
    spec, path = opening.spec, Path(opening.argument)
    height, width = tensor.size
    rng = np.random.default_rng(0)
    views = torch.from_numpy(rng.integers(0, 256, (2, height, width, 3), np.uint8))
    try:
        outputs = run_in_batches(runner, tensor.fill(views))
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"the teacher {spec.model} fails on an image of {height}x{width}: {error}; convert it anew") from error
    about = {
        "model": f"{runner.kind}:{path.name}",
        "sha256": sha256_of_path(path),
        "licence": spec.licence or "unknown",
        "input_size": max(height, width),
        "parameters": None,
        "macs": None,
    }
    teacher = FileTeacher(runner, tensor, about=about, are_probabilities=look_like_probabilities(outputs))
    return Opened(teacher, outputs.shape[1], manifest.labels if manifest is not None else spec.classes)


def run_in_batches(runner: Runner, inputs: np.ndarray) -> np.ndarray:
    """Return (N, outputs) float32; a file with a fixed number of images is run as often as it takes, the last time with repeats."""
    if runner.batch is None:
        return _flat(runner.run(inputs), len(inputs))
    parts = []
    for start in range(0, len(inputs), runner.batch):
        part = inputs[start : start + runner.batch]
        missing = runner.batch - len(part)
        full = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
        parts.append(_flat(runner.run(full), runner.batch)[: len(part)])
    return np.concatenate(parts)


def _flat(outputs: np.ndarray, images: int) -> np.ndarray:
    return np.asarray(outputs, np.float32).reshape(images, -1)


def look_like_probabilities(outputs: np.ndarray) -> bool:
    """Return whether (N, classes) outputs are probabilities: none below 0, each row adding up to 1, also when stored in 8 bits."""
    rounding = outputs.shape[1] / 512
    return bool((outputs >= 0).all() and (np.abs(outputs.sum(1) - 1) < 1e-3 + min(rounding, 0.1)).all())
