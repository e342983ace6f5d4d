"""The forms of a student that are quantized: as trained, equalized, or trained with fake quantization; each made once, when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgedistill.bundle import StudentForm
from edgedistill.convert import calibration
from edgedistill.convert.calibration import Ranges
from edgedistill.convert.graph import Graph, with_softmax
from edgedistill.convert.job import ExportJob
from edgedistill.convert.quantize import Work, quantize
from edgedistill.convert.steps import Steps
from edgedistill.convert.writers import write_fp32


@dataclass(frozen=True)
class Form:
    """A graph with the ranges of its values."""

    graph: Graph
    ranges: Ranges


class Forms:
    """All forms of one student, and their fp32 files, which are the quantizers' input.

    Args:
        trained: the student as it was trained.
        pixels_nhwc: (N, H, W, 3) uint8 RGB, the calibration images; none where nothing is quantized.
        folder: where the fp32 files are kept while they are needed.
    """

    def __init__(self, trained: Graph, pixels_nhwc: np.ndarray, *, job: ExportJob, folder: Path, steps: Steps) -> None:
        folder.mkdir(parents=True)
        self._trained, self.pixels_nhwc, self._job, self._folder, self._steps = trained, pixels_nhwc, job, folder, steps
        self._made: dict[StudentForm, Form] = {}

    def __getitem__(self, name: StudentForm) -> Form:
        if name not in self._made:
            make = {"trained": self._as_trained, "equalized": self._equalized, "quantization_aware": self._quantization_aware}[name]
            self._made[name] = make()
        return self._made[name]

    def fp32(self, name: StudentForm, kind: str) -> Path:
        """Return the fp32 file of a form, written when it is first asked for."""
        path = self._folder / f"{name}.{kind}"
        if not path.exists():
            graph = self[name].graph if name != "trained" else self._trained
            graph = with_softmax(graph) if self._job.settings.softmax else graph
            with self._steps(f"writing {kind} fp32 of the {name.replace('_', '-')} student"):
                write_fp32(graph, path, onnx2tf=self._job.onnx2tf)
        return path

    def work(self, name: StudentForm, kind: str) -> Work:
        """Return what a quantizer needs."""
        form = self[name]
        return Work(graph=form.graph, fp32=self.fp32(name, kind), ranges=form.ranges, pixels_nhwc=self.pixels_nhwc)

    def method(self, name: StudentForm) -> str:
        """Return how the ranges of a form came about."""
        return self._job.settings.ranges if name != "quantization_aware" else f"{self._job.settings.ranges}, then learned"

    def _calibrated(self, graph: Graph, text: str) -> Form:
        with self._steps(f"calibrating {text} on {len(self.pixels_nhwc)} images"):
            method = self._job.settings.ranges
            values = calibration.observe(graph, self.pixels_nhwc, histograms=method == "mse")
            return Form(graph, calibration.ranges_of(values, method))

    def _as_trained(self) -> Form:
        return self._calibrated(self._trained, "the student")

    def _equalized(self) -> Form:
        from edgedistill.convert.correct.bias import correct_bias
        from edgedistill.convert.correct.equalize import equalize

        with self._steps("equalizing the channels"):
            even = equalize(self._trained, self.pixels_nhwc)
        form = self._calibrated(even, "the equalized student")
        with self._steps("correcting the biases"):
            corrected = correct_bias(form.graph, form.ranges, self.pixels_nhwc)
        return self._calibrated(corrected, "the corrected student")

    def _quantization_aware(self) -> Form:
        from edgedistill.convert.aware import points_of

        assert self._job.train_aware is not None, "ExportJob.check has seen to it"
        sketch = self._folder / "sketch.tflite"
        work = self.work("equalized" if self._job.settings.equalize else "trained", "tflite")
        with self._steps("finding what int8 rounds"):
            quantize("tflite", "static_int8_float_islands", work, sketch)
            points = points_of(sketch, work)
        with self._steps("training with fake quantization"):
            graph, ranges = self._job.train_aware(work.graph, work.ranges, points)
        return Form(graph, ranges)
