"""What an export is asked for, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgedistill.bundle import Bundle, Preprocess, Provenance, StudentForm
from edgedistill.convert.audit import Audit
from edgedistill.convert.aware.points import Points
from edgedistill.convert.calibration import Ranges
from edgedistill.convert.graph import Graph
from edgedistill.convert.parity import FEWEST_IMAGES, Rung
from edgedistill.errors import ConvertError
from edgedistill.recipe import Export, PerChannel

Frames = Sequence[np.ndarray] | np.ndarray
#: From a graph, its ranges and what a file rounds to a graph and ranges that were trained with fake quantization.
TrainAware = Callable[[Graph, Ranges, Points], tuple[Graph, Ranges]]


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """What an export needs beside the student itself.

    `mean` and `std` are the student's normalization (RGB, 0 to 1), `preprocess` says how frames are brought to its size
    as raw RGB pixels. Frames are (H, W, 3) uint8 BGR of any size; `test_labels` (N,) are class numbers;
    `teacher_logits` (N, classes) are the teacher's answers on the test frames, if there is one. `train_aware` is called for
    `settings.int8 = "qad"`. `onnx2tf` is the Python of an environment with onnx2tf, to write TFLite with it.
    """

    name: str
    labels: Sequence[str]
    mean: PerChannel
    std: PerChannel
    preprocess: Preprocess
    calibration_frames_bgr: Frames
    test_frames_bgr: Frames
    test_labels: np.ndarray
    settings: Export
    provenance: Provenance
    teacher_logits: np.ndarray | None = None
    train_aware: TrainAware | None = None
    onnx2tf: Path | None = None

    def check(self) -> None:
        """Raise ConvertError where the parts do not fit together."""
        if len(self.test_labels) != len(self.test_frames_bgr):
            raise ConvertError(f"{len(self.test_frames_bgr)} test images have {len(self.test_labels)} labels; give one label an image")
        if len(self.test_frames_bgr) < FEWEST_IMAGES:
            raise ConvertError(
                f"the parity check needs at least {FEWEST_IMAGES} test images, got {len(self.test_frames_bgr)}; "
                "raise data.test_limit or export.parity_images"
            )
        if not self.settings.formats:
            raise ConvertError('export.formats is empty, so there is nothing to write; name "onnx", "tflite" or both')
        if not (self.settings.fp32 or self.settings.int8):
            raise ConvertError("export.fp32 and export.int8 are both false, so the bundle would be empty; keep one of them")
        expected = (len(self.test_frames_bgr), len(self.labels))
        if self.teacher_logits is not None and self.teacher_logits.shape != expected:
            raise ConvertError(f"the teacher's logits have shape {self.teacher_logits.shape}, expected {expected}: one row a test image")
        if self.settings.int8 == "qad" and self.train_aware is None:
            raise ConvertError('export.int8 = "qad" needs training images, which only a run has: edgedistill export RUN --int8 qad')


class Attempt(NamedTuple):
    """One way of quantizing that was tried: what was measured of it, and why it was kept or dropped; `islands` are layers kept float."""

    format: str
    student: StudentForm
    quantization: str
    kept: bool
    verdict: str
    rung: Rung | None = None
    audit: Audit | None = None
    islands: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A finished export.

    Args:
        bundle: loaded and checked.
        rungs: the parity ladder, one rung a file, those of fp32 files that were not kept included.
        audits: by file name.
        attempts: every way of quantizing that was tried, in order.
        seconds: by step.
        notes: what is true of the files and not what one would expect of them.
    """

    bundle: Bundle
    rungs: tuple[Rung, ...]
    audits: dict[str, Audit]
    attempts: tuple[Attempt, ...]
    seconds: dict[str, float]
    notes: tuple[str, ...]
