"""A student to a bundle: all files, compared with the student, timed, packed, or nothing at all."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from edgedistill import bundle as bundles
from edgedistill.bundle import Bundle, Calibration, StudentForm
from edgedistill.convert import audit as audits
from edgedistill.convert import calibration, parity, report
from edgedistill.convert.forms import Forms
from edgedistill.convert.golden import write_golden
from edgedistill.convert.graph import Graph, logits_of, prepare
from edgedistill.convert.job import Attempt, Exported, ExportJob
from edgedistill.convert.measure import Bench, Measured
from edgedistill.convert.pixels import calibration_pixels, model_pixels
from edgedistill.convert.select import Search, ways
from edgedistill.convert.staging import check_place, staged
from edgedistill.convert.steps import Steps

#: Whose versions decide what the files look like.
_TOOLS = ("torch", "onnx", "onnxscript", "onnxruntime", "litert-torch", "litert-converter", "ai-edge-quantizer", "ai-edge-litert", "numpy")
#: A folder beside the files that is gone before the bundle is finished.
_WORKSHOP = ".workshop"


def export_bundle(student: nn.Module, job: ExportJob, out: Path, *, progress: Callable[[str], None] = lambda message: None) -> Exported:
    """Export the student into the bundle folder `out`, replacing an older bundle there only when all has gone well.

    Args:
        student: takes normalized float32 (N, 3, H, W) and returns logits (N, classes); it is not changed.
        progress: is told each step before it starts.

    Raises ConvertError, ParityError (a file that does not answer like the student; its table shows which), AuditError (with
    `strict`: a file that is slower than fp32 or runs in parts) or MissingExtraError; `out` is then as it was before.
    """
    check_place(out)
    job.check()
    steps, target = Steps(progress), audits.read_target(job.settings.target)
    with steps("tracing the student"):
        graph = prepare(student, job.preprocess, mean=job.mean, std=job.std, classes=len(job.labels))
    pixels = calibration_pixels(job.calibration_frames_bgr, job.preprocess) if job.settings.int8 else model_pixels((), job.preprocess)
    with staged(out) as folder:
        workshop = folder / _WORKSHOP
        bench = Bench(job=job, graph=graph, reference=reference(graph, job), target=target, steps=steps)
        forms = Forms(graph, pixels, job=job, folder=workshop / "forms", steps=steps)
        plain = [_plain(kind, bench, forms, workshop) for kind in job.settings.formats]
        parity.check([measured.rung for measured in plain])
        bench = replace(bench, plain={measured.entry.format: measured for measured in plain})
        searches = [Search(kind, workshop / kind) for kind in job.settings.formats] if job.settings.int8 else []
        small = [search.run(ways(job.settings, search.kind), forms, bench) for search in searches]
        exported = _pack(folder, bench, forms, [*plain, *small], [attempt for search in searches for attempt in search.attempts])
    return replace(exported, bundle=bundles.load(out))


def reference(graph: Graph, job: ExportJob) -> parity.Reference:
    """Return the test frames, their labels and the answers of a graph, which files are compared with."""
    expected = logits_of(graph, model_pixels(job.test_frames_bgr, job.preprocess))
    return parity.Reference(job.test_frames_bgr, np.asarray(job.test_labels), expected)


def _plain(kind: str, bench: Bench, forms: Forms, workshop: Path) -> Measured:
    """Write and measure the fp32 file of a format."""
    path = workshop / "plain" / f"{bench.job.name}-fp32.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(forms.fp32("trained", kind), path)
    return bench.measure(path, quantization=None)


def _pack(folder: Path, bench: Bench, forms: Forms, found: list[Measured], attempts: list[Attempt]) -> Exported:
    """Put the kept files, their calibration, the golden pair, the manifest and the report into the folder."""
    job = bench.job
    kept = [measured for measured in found if measured.entry.precision != "fp32" or job.settings.fp32]
    notes = _notes(found)
    if job.settings.strict:
        audits.check({measured.entry.file: measured.audit for measured in kept})
    for measured in kept:
        measured.path.rename(folder / measured.path.name)
    shutil.rmtree(folder / _WORKSHOP)
    manifest = bench.manifest([measured.entry for measured in kept])
    versions = job.provenance.versions | tool_versions() | {k: v for one in kept for k, v in one.facts.versions.items()}
    provenance = msgspec.structs.replace(job.provenance, versions=versions, calibrations=_calibrations(folder, forms, kept))
    manifest = msgspec.structs.replace(manifest, provenance=provenance)
    manifest = msgspec.structs.replace(manifest, golden=write_golden(Bundle(folder, manifest), job.test_frames_bgr))
    bundles.write_manifest(folder, manifest)
    exported = Exported(
        bundle=bundles.load(folder),
        rungs=tuple(measured.rung for measured in found),
        audits={measured.entry.file: measured.audit for measured in found},
        attempts=tuple(attempts),
        seconds=bench.steps.seconds,
        notes=notes,
    )
    bundles.write_atomically(folder / report.NAME, report.text(exported).encode())
    return exported


def _calibrations(folder: Path, forms: Forms, kept: list[Measured]) -> list[Calibration]:
    """Write the ranges of every form of the student that a kept file was quantized from."""
    used: list[StudentForm] = sorted({one.entry.student for one in kept if one.entry.quantization is not None})
    return [_calibration(folder, forms, name) for name in used]


def _calibration(folder: Path, forms: Forms, name: StudentForm) -> Calibration:
    path = folder / f"calibration-{name.replace('_', '-')}.json"
    return calibration.write(forms[name].ranges, path, student=name, pixels_nhwc=forms.pixels_nhwc, method=forms.method(name))


def tool_versions() -> dict[str, str]:
    """Return the versions of the converters and interpreters that are installed."""
    versions = {}
    for tool in _TOOLS:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _notes(found: list[Measured]) -> tuple[str, ...]:
    """Return what is true of the files and not what one would expect of them, and what to do about it."""
    notes = []
    plain = {one.entry.format: one.entry for one in found if one.entry.precision == "fp32"}
    for one in found:
        beside = plain[one.entry.format]
        if one.entry is not beside and one.entry.bytes >= beside.bytes:
            notes.append(f"{one.entry.file} is no smaller than {beside.file}: {one.entry.bytes} against {beside.bytes} bytes")
        notes += [f"{one.entry.file}: {finding.cause}. Remedy: {finding.remedy}" for finding in one.audit.findings]
        if one.audit.arithmetic:
            notes.append(f"{one.entry.file}: {one.audit.arithmetic}")
        if transposes := one.facts.operators.get("TRANSPOSE", 0):
            notes.append(f"{one.entry.file} has {transposes} TRANSPOSE operators: the network changes its layout, which costs time")
    return tuple(dict.fromkeys([*notes, *(one.audit.known for one in found if one.audit.known)]))
