"""Files to finish: the committed tiny ones and those of the shipped bundle, with the facts that fit them, and running them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tiny_bundle

from edgedistill import bundle
from edgedistill.bundle import ModelFile, Preprocess
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.tflite_file import describe_tflite, finish
from edgedistill.runtime.tflite import open_litert

SHIPPED = Path(__file__).parents[3] / "export" / "fashion-mnist-mobilenetv3"
TINY = {kind: tiny_bundle.DATA / f"tiny-{kind}.tflite" for kind in ("fp32", "int8")}


def facts(**changes: Any) -> FileFacts:
    """Return what is to be said of the tiny files, with some fields changed."""
    fields = {
        "name": "tiny",
        "description": "Tells colours apart",
        "author": "somebody",
        "licence": "CC0-1.0",
        "labels": tuple(tiny_bundle.LABELS),
        "spec": Preprocess(height=tiny_bundle.HEIGHT, width=tiny_bundle.WIDTH),
        "pixel_mean": 0,
        "scores": "logits",
    }
    return FileFacts(**(fields | changes))


def finished(source: Path, path: Path, facts: FileFacts) -> Path:
    """Return a finished copy of a file."""
    shutil.copy(source, path)
    finish(path, facts)
    return path


def shipped(kind: str, path: Path, **changes: Any) -> tuple[Path, FileFacts]:
    """Return a finished copy of one of the shipped TFLite files, and its facts."""
    loaded = bundle.load(SHIPPED)
    model, manifest = loaded.model(f"tflite-{kind}"), loaded.manifest
    fields = {"name": manifest.name, "labels": tuple(manifest.labels), "spec": manifest.input, "pixel_mean": model.pixel_mean}
    said = facts(**(fields | changes))
    return finished(SHIPPED / model.file, path, said), said


def entry(path: Path, facts: FileFacts, *, precision: str = "fp32") -> ModelFile:
    """Return a file's entry in a manifest."""
    found = describe_tflite(path)
    return ModelFile(
        file=path.name,
        format="tflite",
        precision=precision,  # type: ignore[arg-type]
        bytes=path.stat().st_size,
        sha256=bundle.sha256_of(path),
        input=found.input,
        output=found.output,
        minimum_runtime=found.minimum_runtime,
        pixel_mean=facts.pixel_mean,
        scores=facts.scores,
    )


def run(path: Path, facts: FileFacts, pixels_nhwc: np.ndarray) -> np.ndarray:
    """Return a finished file's logits by the runtime, (N, classes)."""
    engine = open_litert(path, entry(path, facts), 1)
    return np.stack([engine.run(pixels[np.newaxis]) for pixels in pixels_nhwc])


def raw(path: Path, inputs: np.ndarray) -> np.ndarray:
    """Return what a file gives for inputs stored as it takes them, (N, classes) float32, by the interpreter alone."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    image, scores = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for one in inputs.astype(image["dtype"]):
        interpreter.set_tensor(image["index"], one[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(scores["index"])[0].astype(np.float32))
    scale, zero_point = scores["quantization"]
    return (np.stack(rows) - zero_point) * np.float32(scale) if scale else np.stack(rows)


def noise(count: int, height: int = tiny_bundle.HEIGHT, width: int = tiny_bundle.WIDTH) -> np.ndarray:
    """Return (count, height, width, 3) uint8 pixels."""
    return np.random.default_rng(5).integers(0, 256, (count, height, width, 3), dtype=np.uint8)
