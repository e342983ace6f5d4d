"""What 8 bits cost the students of `quantization/`: every gate's figures, and students made hard to quantize on purpose.

python models/int8_evidence.py train              train what is missing of quantization/*.toml into runs/quantization
python models/int8_evidence.py students [NAME…]   export all of them; quantization/students.json
python models/int8_evidence.py hard [NAME…]       static int8, corrected, and trained with fake quantization; quantization/hard.json

A student that is not there is left out, and told. Everything is measured through the device's own code on all test images.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgedistill import metrics, pipeline, recipe
from edgedistill.bundle import write_atomically
from edgedistill.convert.audit import read_target
from edgedistill.convert.aware import fake_quantized, points_of
from edgedistill.convert.correct.harden import made_hard
from edgedistill.convert.export import reference
from edgedistill.convert.forms import Forms
from edgedistill.convert.graph import Graph, centred, prepare
from edgedistill.convert.job import ExportJob
from edgedistill.convert.measure import Bench, Measured
from edgedistill.convert.pixels import calibration_pixels, model_pixels
from edgedistill.convert.quantize import quantize
from edgedistill.convert.steps import Steps
from edgedistill.distill import run, schedules
from edgedistill.runtime import predict_logits

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "models" / "quantization"
#: Where each student is: those of the shipped models, and those that `train` makes.
STUDENTS = {
    "embedded-mobilenetv2": "runs/quantization/embedded-mobilenetv2",
    "embedded-mobilenetv3": "models/fashion-mnist-mobilenetv3",
    "embedded-mobilenetv4": "runs/quantization/embedded-mobilenetv4",
    "embedded-efficientnet-lite0": "runs/quantization/embedded-efficientnet-lite0",
    "garments-mobilenetv2": "models/garments-mobilenetv2",
    "garments-mobilenetv3": "runs/quantization/garments-mobilenetv3",
    "garments-mobilenetv4": "runs/quantization/garments-mobilenetv4",
    "garments-efficientnet-lite0": "runs/teachers/garments-efficientnet-lite0",
}
HARD = ("embedded-mobilenetv2", "embedded-mobilenetv3")
#: How a hard student is quantized, in which forms.
ISLANDS, FORMS = "static_int8_float_islands", ("trained", "equalized", "quantization_aware")


def tell(text: str, done: int = 1, total: int = 1) -> None:
    """Write one line of progress."""
    print(text, file=sys.stderr, flush=True)


def there(names: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the students that are here."""
    for name in names:
        folder = ROOT / STUDENTS[name]
        if (folder / run.STUDENT).is_file():
            yield name, folder
        else:
            tell(f"{name} is not here; make it with: python models/int8_evidence.py train")


def train() -> None:
    """Train the students that are missing."""
    for file in sorted(FOLDER.glob("*.toml")):
        out = ROOT / "runs" / "quantization" / file.stem
        if not (out / run.STUDENT).is_file():
            schedules.distill(recipe.load(file), out, resume=out.exists(), progress=tell, say=tell)


def student(name: str, folder: Path, calibration: int) -> dict[str, Any]:
    """Export one student and return the figures of its files."""
    out = ROOT / "runs" / "quantization" / "bundles" / name
    exported = pipeline.export(folder, out, changes={"calibration": calibration}, progress=tell)
    return {
        "name": name,
        "student": exported.bundle.manifest.provenance.student,
        "calibration": calibration,
        "images": exported.rungs[0].images,
        "files": [msgspec.to_builtins(model) for model in exported.bundle.manifest.files],
        "tried": [f"{one.format} {one.student} {one.quantization}: {one.verdict}" for one in exported.attempts],
        "seconds": exported.seconds,
        "fake_agreement": fake_agreement(folder, calibration),
    }


def opened(folder: Path, workshop: Path, *, calibration: int, hard: bool) -> tuple[Forms, Bench]:
    """Return a run's forms and the bench to measure them, its graph made hard to quantize where wanted."""
    job, student = pipeline.export_job(folder, changes={"formats": ("tflite",), "int8": "qad", "calibration": calibration}, progress=tell)
    graph = prepare(student, job.preprocess, mean=job.mean, std=job.std, classes=len(job.labels))
    graph = made_hard(graph, 0) if hard else graph
    steps = Steps(tell)
    forms = Forms(graph, calibration_pixels(job.calibration_frames_bgr, job.preprocess), job=job, folder=workshop / "forms", steps=steps)
    return forms, Bench(job=job, graph=graph, reference=reference(graph, job), target=read_target("arm"), steps=steps)


def fake_agreement(folder: Path, calibration: int) -> float:
    """Return the fraction of test images that a run's fake-quantized graph, with exact sums, and its int8 TFLite file answer alike."""
    with tempfile.TemporaryDirectory() as workshop:
        forms, bench = opened(folder, Path(workshop), calibration=calibration, hard=False)
        work = forms.work("trained", "tflite")
        path = Path(workshop, f"{bench.job.name}-int8.tflite")
        quantize("tflite", ISLANDS, work, path)
        fake = fake_quantized(work.graph, work.ranges, points_of(path, work))
        measured = bench.measure(path, quantization=ISLANDS)
        found = answers(measured, bench)
        return metrics.agreement(found, in_torch(fake.double(), work.graph, bench.job))


def in_torch(module: Any, graph: Graph, job: ExportJob) -> np.ndarray:
    """Return the (N, classes) logits of a module in double precision that takes what a graph takes, on the test images."""
    import torch

    pixels = model_pixels(job.test_frames_bgr, job.preprocess)
    with torch.inference_mode():
        return np.concatenate([module(centred(graph, pixels[i : i + 64]).double()).numpy() for i in range(0, len(pixels), 64)])


def answers(measured: Measured, bench: Bench) -> np.ndarray:
    """Return a measured file's logits on the test images."""
    from edgedistill.bundle import Bundle

    loaded = Bundle(measured.path.parent, bench.manifest([measured.entry]))
    return predict_logits(loaded, bench.reference.frames_bgr, file=measured.entry.file)


def hard(name: str, folder: Path, calibration: int) -> dict[str, Any]:
    """Quantize a student that was made hard to quantize, and return how much of the loss each remedy takes back."""
    with tempfile.TemporaryDirectory() as workshop:
        forms, bench = opened(folder, Path(workshop), calibration=calibration, hard=True)
        ways: dict[str, dict[str, Any]] = {}
        for form in FORMS:
            path = Path(workshop, form, f"{name}-int8.tflite")
            path.parent.mkdir()
            quantize("tflite", ISLANDS, forms.work(form, "tflite"), path)
            rung = bench.measure(path, quantization=ISLANDS, student=form).rung
            ways[form] = {"accuracy": rung.accuracy, "drop": rung.drop, "interval": rung.drop_interval}
        lost = ways["trained"]["drop"]
        for way in ways.values():
            way["recovered"] = (lost - way["drop"]) / lost if lost > 0 else None
        plain = metrics.accuracy(bench.reference.logits_nc, bench.reference.labels_n)
        return {
            "name": name,
            "calibration": calibration,
            "images": len(bench.reference.labels_n),
            "accuracy": plain,
            "ways": ways,
            "seconds": bench.steps.seconds,
        }


def collect(what: str, names: tuple[str, ...], calibration: int) -> None:
    """Measure students one by one; each one's figures are kept as soon as they are there."""
    file = FOLDER / f"{what}.json"
    known = {entry["name"]: entry for entry in json.loads(file.read_text())["students"]} if file.is_file() else {}
    for name, folder in there(names):
        tell(f"== {name}")
        known[name] = (student if what == "students" else hard)(name, folder, calibration)
        ordered = [known[one] for one in STUDENTS if one in known]
        write_atomically(file, json.dumps({"schema": 1, "students": ordered}, indent=1).encode() + b"\n")


def main() -> None:
    """Run one subcommand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "students", "hard"))
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these students")
    parser.add_argument("--calibration", type=int, default=512)
    given = parser.parse_args()
    if given.what == "train":
        train()
        return
    collect(given.what, tuple(given.names) or (tuple(STUDENTS) if given.what == "students" else HARD), given.calibration)


if __name__ == "__main__":
    main()
