"""One written file measured: its entry in the manifest, its rung of the parity ladder, its speed audit."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from edgedistill import bundle as bundles
from edgedistill import metrics
from edgedistill.bundle import Bundle, Manifest, ModelFile, Scores, StudentForm
from edgedistill.convert import parity
from edgedistill.convert.audit import Audit, Target, audit
from edgedistill.convert.describe import Facts
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.graph import Graph
from edgedistill.convert.job import ExportJob
from edgedistill.convert.parity import Reference, Rung
from edgedistill.convert.steps import Steps
from edgedistill.convert.writers import describe, finish
from edgedistill.runtime import predict_logits

#: What the precision of a file is called in a manifest, by the recipe that made it.
PRECISIONS = {"float16": "fp16", None: "fp32"}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A file with all that is known of it; `path` is where it lies now."""

    path: Path
    entry: ModelFile
    facts: Facts
    rung: Rung
    audit: Audit


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What files are measured with.

    Args:
        graph: the student as it was trained.
        reference: test frames, their labels and the student's answers.
        target: what the files are to be fast on.
        plain: by format, the fp32 file that others are compared with.
    """

    job: ExportJob
    graph: Graph
    reference: Reference
    target: Target
    steps: Steps
    plain: dict[str, Measured] = field(default_factory=dict)

    def measure(self, path: Path, *, quantization: str | None, student: StudentForm = "trained") -> Measured:
        """Finish a written file, read it back, and measure its answers and its speed."""
        finish(path, file_facts(self.job, self.graph))
        facts = describe(path)
        entry = self._entry(path, facts, quantization=quantization, student=student)
        draft = Bundle(path.parent, self.manifest([entry]))
        with self.steps(f"comparing {path.name} with the student on {len(self.reference.labels_n)} images"):
            logits = predict_logits(draft, self.reference.frames_bgr, file=path.name)
            rung = parity.compare(logits, self.reference, model=entry, settings=self.job.settings)
        with self.steps(f"timing {path.name}"):
            found = self._audit(draft, entry)
        return Measured(path=path, entry=self._with_figures(entry, rung, logits, found), facts=facts, rung=rung, audit=found)

    def _audit(self, draft: Bundle, entry: ModelFile) -> Audit:
        plain = self.plain.get(entry.format)
        if plain is None:
            return audit(draft, entry, plain=None, target=self.target)
        shutil.copyfile(plain.path, draft.path / plain.path.name)
        both = Bundle(draft.path, self.manifest([entry, plain.entry]))
        return audit(both, entry, plain=plain.entry, target=self.target)

    def _entry(self, path: Path, facts: Facts, *, quantization: str | None, student: StudentForm) -> ModelFile:
        return msgspec.convert(
            {
                "file": path.name,
                "format": path.suffix[1:],
                "precision": PRECISIONS.get(quantization, "int8"),
                "bytes": path.stat().st_size,
                "sha256": bundles.sha256_of(path),
                "input": msgspec.to_builtins(facts.input),
                "output": msgspec.to_builtins(facts.output),
                "minimum_runtime": facts.minimum_runtime,
                "quantization": quantization,
                "student": student,
                "pixel_mean": self.graph.pixel_mean,
                "scores": scores_of(self.job),
                "partitions": facts.partitions,
                "outside": facts.outside,
            },
            ModelFile,
        )

    def manifest(self, files: list[ModelFile]) -> Manifest:
        """Return a manifest of these files, without golden pair."""
        job = self.job
        return Manifest(
            format=bundles.FORMAT,
            name=job.name,
            task="classification",
            labels=list(job.labels),
            input=job.preprocess,
            files=files,
            provenance=job.provenance,
        )

    def _with_figures(self, entry: ModelFile, rung: Rung, logits_nc: np.ndarray, found: Audit) -> ModelFile:
        teacher = self.job.teacher_logits
        return msgspec.structs.replace(
            entry,
            accuracy=rung.accuracy,
            accuracy_interval=rung.accuracy_interval,
            drop=rung.drop,
            drop_interval=rung.drop_interval,
            agreement=rung.agreement,
            teacher_agreement=None if teacher is None else metrics.agreement(logits_nc, teacher),
            speed=found.speed,
        )


def file_facts(job: ExportJob, graph: Graph) -> FileFacts:
    """Return what is written into each file."""
    source = job.provenance
    taught = f", taught by {source.teacher.model}" if source.teacher is not None else ""
    return FileFacts(
        name=job.name,
        description=f"{source.student}{taught}, trained on {source.dataset} ({source.dataset_licence}) for {len(job.labels)} classes",
        author=job.settings.author,
        licence=source.student_licence or "unknown",
        labels=tuple(job.labels),
        spec=job.preprocess,
        pixel_mean=graph.pixel_mean,
        scores=scores_of(job),
    )


def scores_of(job: ExportJob) -> Scores:
    """Return what the files give."""
    return "probabilities" if job.settings.softmax else "logits"
