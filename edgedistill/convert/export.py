"""A student to a bundle: all files, compared with the student, measured, packed, or nothing at all."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from edgedistill import bundle as bundles
from edgedistill import metrics
from edgedistill.bundle import Bundle, Manifest, ModelFile, Preprocess, Provenance
from edgedistill.convert import parity
from edgedistill.convert.describe import Facts, describe_onnx, describe_tflite
from edgedistill.convert.golden import write_golden
from edgedistill.convert.graph import RawPixels, logits_of, prepare
from edgedistill.convert.onnx_fp32 import write_onnx
from edgedistill.convert.onnx_int8 import quantize_onnx
from edgedistill.convert.pixels import calibration_pixels, model_pixels
from edgedistill.convert.staging import check_place, staged
from edgedistill.convert.tflite_fp32 import write_tflite
from edgedistill.convert.tflite_int8 import quantize_tflite
from edgedistill.errors import ConvertError
from edgedistill.latency import stopwatch
from edgedistill.recipe import Export, PerChannel

Progress = Callable[[str], None]
Frames = Sequence[np.ndarray] | np.ndarray

#: Whose versions decide what the files look like.
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert", "numpy")


@dataclass(frozen=True, kw_only=True)
class ExportJob:
    """What an export needs beside the student itself.

    `mean` and `std` are the student's normalization (RGB, 0 to 1), `preprocess` says how frames are brought to its size
    as raw RGB pixels. Frames are (H, W, 3) uint8 BGR of any size; `test_labels` (N,) are class numbers;
    `teacher_logits` (N, classes) are the teacher's answers on the test frames, if there is one.
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


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A finished export: the loaded bundle, the parity ladder, seconds by step, operators by file, and what a user should know."""

    bundle: Bundle
    rungs: tuple[parity.Rung, ...]
    seconds: dict[str, float]
    operators: dict[str, dict[str, int]]
    notes: tuple[str, ...]


def export_bundle(student: nn.Module, job: ExportJob, out: Path, *, progress: Progress = lambda message: None) -> Exported:
    """Export the student into the bundle folder `out`, replacing an older bundle there only when all has gone well.

    Args:
        student: takes normalized float32 (N, 3, H, W) and returns logits (N, classes); it is not changed.
        progress: is told each step before it starts.

    Raises ConvertError, ParityError (a file that does not answer like the student; its table shows which) or
    MissingExtraError; `out` is then as it was before.
    """
    check_place(out)
    _check_job(job)
    graph = prepare(student, job.preprocess, mean=job.mean, std=job.std, classes=len(job.labels))
    seconds: dict[str, float] = {}
    with staged(out) as folder:
        facts = _write_files(graph, job, folder, seconds=seconds, progress=progress)
        draft = _draft(job, folder, facts)
        with stopwatch() as took:
            ladder = _compare(graph, job, Bundle(folder, draft), progress=progress)
        seconds["parity"] = took.ms / 1e3
        _finish(job, Bundle(folder, draft), ladder)
    loaded = bundles.load(out)
    operators = {file: fact.operators for file, fact in facts.items()}
    notes = _notes(loaded.manifest, operators)
    return Exported(bundle=loaded, rungs=ladder.rungs, seconds=seconds, operators=operators, notes=notes)


def _check_job(job: ExportJob) -> None:
    if len(job.test_labels) != len(job.test_frames_bgr):
        raise ConvertError(f"{len(job.test_frames_bgr)} test images have {len(job.test_labels)} labels; give one label an image")
    if not job.settings.formats:
        raise ConvertError('export.formats is empty, so there is nothing to write; name "onnx", "tflite" or both')
    if not (job.settings.fp32 or job.settings.int8):
        raise ConvertError("export.fp32 and export.int8 are both false, so the bundle would be empty; keep one of them")
    expected = (len(job.test_frames_bgr), len(job.labels))
    if job.teacher_logits is not None and job.teacher_logits.shape != expected:
        raise ConvertError(f"the teacher's logits have shape {job.teacher_logits.shape}, expected {expected}: one row a test image")


def _write_files(graph: RawPixels, job: ExportJob, folder: Path, *, seconds: dict[str, float], progress: Progress) -> dict[str, Facts]:
    """Write every model file into the folder and return what is in them, by file name: fp32 first, then int8."""
    pixels = calibration_pixels(job.calibration_frames_bgr, job.preprocess) if job.settings.int8 else None
    plain = {kind: folder / f"{job.name}-fp32.{kind}" for kind in job.settings.formats}
    small = {kind: folder / f"{job.name}-int8.{kind}" for kind in job.settings.formats} if pixels is not None else {}
    for kind, path in plain.items():
        progress(f"writing {path.name}")
        with stopwatch() as took:
            WRITERS[kind](graph, path, spec=job.preprocess)
        seconds[path.name] = took.ms / 1e3
    for kind, path in small.items():
        progress(f"writing {path.name}, calibrated on {len(job.calibration_frames_bgr)} images")
        with stopwatch() as took:
            assert pixels is not None
            _quantize(kind, graph, plain[kind], path, pixels)
        seconds[path.name] = took.ms / 1e3
    readers = {"onnx": describe_onnx, "tflite": describe_tflite}
    return {path.name: readers[kind](path) for paths in (plain, small) for kind, path in paths.items()}


def _quantize(kind: str, graph: RawPixels, source: Path, path: Path, pixels_nhwc: np.ndarray) -> None:
    if kind == "onnx":
        quantize_onnx(source, path, graph=graph, pixels_nhwc=pixels_nhwc)
    else:
        quantize_tflite(source, path, pixels_nhwc=pixels_nhwc)


def _draft(job: ExportJob, folder: Path, facts: dict[str, Facts]) -> Manifest:
    """Return the manifest as far as the files alone tell it."""
    return Manifest(
        format=bundles.FORMAT,
        name=job.name,
        task="classification",
        labels=list(job.labels),
        input=job.preprocess,
        files=[_entry(folder / file, fact) for file, fact in facts.items()],
        provenance=msgspec.structs.replace(job.provenance, versions=job.provenance.versions | tool_versions() | _format_versions(facts)),
    )


def _entry(path: Path, fact: Facts) -> ModelFile:
    return msgspec.convert(
        {
            "file": path.name,
            "format": path.suffix[1:],
            "precision": path.stem.rpartition("-")[2],
            "bytes": path.stat().st_size,
            "sha256": bundles.sha256_of(path),
            "input": msgspec.to_builtins(fact.input),
            "output": msgspec.to_builtins(fact.output),
            "minimum_runtime": fact.minimum_runtime,
            "partitions": fact.partitions,
        },
        ModelFile,
    )


def _compare(graph: RawPixels, job: ExportJob, draft: Bundle, *, progress: Progress) -> parity.Ladder:
    expected = logits_of(graph, model_pixels(job.test_frames_bgr, job.preprocess))
    reference = parity.Reference(job.test_frames_bgr, np.asarray(job.test_labels), expected)
    ladder = parity.climb(draft, reference, settings=job.settings, progress=progress)
    parity.check(ladder.rungs)
    return ladder


def _finish(job: ExportJob, draft: Bundle, ladder: parity.Ladder) -> None:
    """Write golden pair and manifest, with what was measured, and check that the folder loads as a bundle."""
    files = [
        msgspec.structs.replace(
            model,
            accuracy=rung.accuracy,
            agreement=rung.agreement,
            teacher_agreement=_teacher_agreement(job, ladder.logits[model.file]),
        )
        for model, rung in zip(draft.manifest.files, ladder.rungs, strict=True)
        if model.precision != "fp32" or job.settings.fp32
    ]
    for model in draft.manifest.files:
        if model.file not in {kept.file for kept in files}:
            (draft.path / model.file).unlink()
    draft = Bundle(draft.path, msgspec.structs.replace(draft.manifest, files=files))
    golden = write_golden(draft, job.test_frames_bgr)
    bundles.write_manifest(draft.path, msgspec.structs.replace(draft.manifest, golden=golden))
    bundles.load(draft.path)


def _teacher_agreement(job: ExportJob, logits_nc: np.ndarray) -> float | None:
    return None if job.teacher_logits is None else metrics.agreement(logits_nc, job.teacher_logits)


def tool_versions() -> dict[str, str]:
    """Return the versions of the converters and interpreters that are installed."""
    versions = {}
    for tool in _TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _format_versions(facts: dict[str, Facts]) -> dict[str, str]:
    return {key: value for fact in facts.values() for key, value in fact.versions.items()}


def _notes(manifest: Manifest, operators: dict[str, dict[str, int]]) -> tuple[str, ...]:
    """Return what is true of the files and not what one would expect of them."""
    notes = []
    sizes = {(model.format, model.precision): model for model in manifest.files}
    for (kind, precision), model in sizes.items():
        plain = sizes.get((kind, "fp32"))
        if precision == "int8" and plain is not None and model.bytes >= plain.bytes:
            notes.append(f"{model.file} is no smaller than {plain.file}: {model.bytes} against {plain.bytes} bytes")
        if model.partitions is not None and model.partitions != 1:
            notes.append(f"{model.file} runs in {model.partitions} XNNPACK parts instead of one: operators outside of them cost time")
        if transposes := operators[model.file].get("TRANSPOSE", 0):
            notes.append(f"{model.file} has {transposes} TRANSPOSE operators: the network changes its layout, which costs time")
    return tuple(notes)


WRITERS: dict[str, Callable[..., None]] = {"onnx": write_onnx, "tflite": write_tflite}
