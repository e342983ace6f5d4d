"""A trial: a network written as the file that it will be, its size and its latency on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from edgedistill.bundle import ModelFile, sha256_of
from edgedistill.convert.audit.speed import Limits, interleaved
from edgedistill.convert.calibration import observe, ranges_of
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.graph import Graph, prepare
from edgedistill.convert.quantize import Work, quantize
from edgedistill.convert.tflite_file import describe_tflite, finish, write_tflite
from edgedistill.distill.networks import Network
from edgedistill.distill.predict import preprocess_of
from edgedistill.recipe import Student
from edgedistill.runtime.engines import ENGINES

#: Long enough that a short disturbance does not move the median.
LIMITS = Limits(seconds=2.0, fewest=20, burst=5)


def write(network: Network, student: Student, path: Path, *, quantization: str | None, pixels_nhwc: np.ndarray, name: str) -> ModelFile:
    """Write a network to `path` as a finished TFLite file, and return its entry as a manifest would have it.

    Args:
        quantization: name of the int8 recipe, None for fp32.
        pixels_nhwc: (N, H, W, 3) uint8 RGB images for the ranges; they do not change size and speed.
        name: of the model.
    """
    labels = network.classes or ()
    spec = preprocess_of(network, student)
    graph = prepare(network.module, spec, mean=network.mean, std=network.std, classes=len(labels))
    _convert(graph, path, quantization=quantization, pixels_nhwc=pixels_nhwc)
    description = f"{student.model}, for {len(labels)} classes"
    facts = FileFacts(
        name=name,
        description=description,
        author="",
        licence=network.licence,
        labels=labels,
        spec=spec,
        pixel_mean=graph.pixel_mean,
        scores="logits",
    )
    finish(path, facts)
    return _entry(path, graph.pixel_mean, precision="fp32" if quantization is None else "int8")


def latency_ms(path: Path, model: ModelFile, *, threads: int) -> float:
    """Return the median latency of a TFLite file's `invoke` on this machine, by the interpreter that runs bundles."""
    engine = ENGINES["litert"].open(path, model, threads)
    engine.set_input(np.random.default_rng(0).integers(0, 256, model.input.shape, np.uint8))
    run: Callable[[], object] = engine.invoke
    return float(np.median(interleaved([run], limits=LIMITS)))


def _convert(graph: Graph, path: Path, *, quantization: str | None, pixels_nhwc: np.ndarray) -> None:
    plain = path if quantization is None else path.with_suffix(".fp32.tflite")
    write_tflite(graph, plain)
    if quantization is not None:
        ranges = ranges_of(observe(graph, pixels_nhwc), "minmax")
        quantize("tflite", quantization, Work(graph=graph, fp32=plain, ranges=ranges, pixels_nhwc=pixels_nhwc), path)


def _entry(path: Path, pixel_mean: int, *, precision: str) -> ModelFile:
    found = describe_tflite(path)
    tensors = {"input": msgspec.to_builtins(found.input), "output": msgspec.to_builtins(found.output)}
    kind = {"file": path.name, "format": "tflite", "precision": precision, "pixel_mean": pixel_mean}
    size = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    return msgspec.convert({**kind, **size, **tensors, "minimum_runtime": found.minimum_runtime}, ModelFile)
