"""TFLite files by LiteRT (ai-edge-litert) or the older tflite-runtime, which share one interpreter interface."""

from __future__ import annotations

import importlib
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import ModelFile, Tensor
from edgedistill.errors import EngineError
from edgedistill.postprocess import dequantize, log_probabilities
from edgedistill.preprocess import Filling
from edgedistill.runtime.tensors import check_one, check_quantization, check_tensor, copy_bytes


def open_litert(path: Path, model: ModelFile, threads: int) -> TfliteEngine:
    """Open a TFLite file with ai-edge-litert."""
    interpreter = _interpreter("ai_edge_litert.interpreter", path, model, threads=threads)
    return TfliteEngine(interpreter, model, name="litert", version=version("ai-edge-litert"), threads=threads)


def open_tflite_runtime(path: Path, model: ModelFile, threads: int) -> TfliteEngine:
    """Open a TFLite file with tflite-runtime, for Python up to 3.11 and 32-bit boards."""
    interpreter = _interpreter("tflite_runtime.interpreter", path, model, threads=threads)
    return TfliteEngine(interpreter, model, name="tflite-runtime", version=version("tflite-runtime"), threads=threads)


def interpreter_class(module: str) -> Any:
    """Return the class `Interpreter` of a module such as ai_edge_litert.interpreter."""
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module).Interpreter
    except Exception as error:  # a build against another numpy fails with more than ImportError
        raise EngineError(
            f"{package} is installed but does not load: {error}; install it again, with a numpy that it supports (tflite-runtime: numpy<2)"
        ) from error


def _interpreter(module: str, path: Path, model: ModelFile, *, threads: int) -> Any:
    package, opened = module.partition(".")[0], interpreter_class(module)
    try:
        interpreter = opened(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise EngineError(f"{package} refuses {path}: {error}; update {package}, or copy the bundle again") from error
    details = (("input", model.input, interpreter.get_input_details()), ("output", model.output, interpreter.get_output_details()))
    for role, tensor, found in details:
        _check(path, role, tensor, found=found)
    return interpreter


def _check(path: Path, role: str, tensor: Tensor, *, found: list[dict[str, Any]]) -> None:
    check_one(path, role, len(found))
    check_tensor(path, tensor, shape=found[0]["shape"].tolist(), dtype=np.dtype(found[0]["dtype"]).name)
    scale, zero_point = found[0]["quantization"]
    check_quantization(path, tensor, scale=scale, zero_point=zero_point)


class TfliteEngine:
    """A loaded TFLite file.

    Input and output are written and read in the interpreter's own memory. A view of that memory must not be held while the
    interpreter runs, so each call takes a new one, which costs about a microsecond.
    """

    def __init__(self, interpreter: Any, model: ModelFile, *, name: str, version: str, threads: int) -> None:
        self.name, self.version, self.threads, self.model = name, version, threads, model
        self.invoke = interpreter.invoke
        self._input = interpreter.tensor(interpreter.get_input_details()[0]["index"])
        self._output = interpreter.tensor(interpreter.get_output_details()[0]["index"])
        self._filling = Filling(model)
        self._classes = math.prod(model.output.shape)

    def input_pixels(self) -> np.ndarray | None:
        return self._filling.pixels(self._input())

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        self._filling.fill(pixels_nhwc, self._input())

    def copy_input(self, tensor: np.ndarray) -> None:
        copy_bytes(tensor, self._input())

    def logits(self) -> np.ndarray:
        return self.read_logits(np.empty(self._classes, np.float32))

    def read_logits(self, into: np.ndarray) -> np.ndarray:
        scores = dequantize(self._output().reshape(-1), self.model.output.quantization, into=into)
        return scores if self.model.scores == "logits" else log_probabilities(scores, into=scores)

    def run(self, pixels_nhwc: np.ndarray) -> np.ndarray:
        self.set_input(pixels_nhwc)
        self.invoke()
        return self.logits()
