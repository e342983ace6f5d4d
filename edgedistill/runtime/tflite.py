"""TFLite files by LiteRT (ai-edge-litert) or the older tflite-runtime, which share one interpreter interface."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import ModelFile, Tensor
from edgedistill.errors import EngineError
from edgedistill.postprocess import dequantize
from edgedistill.preprocess import fill_input, input_lookup
from edgedistill.runtime.tensors import check_one, check_quantization, check_tensor


def open_litert(path: Path, model: ModelFile, threads: int) -> TfliteEngine:
    """Open a TFLite file with ai-edge-litert."""
    interpreter = _interpreter("ai_edge_litert.interpreter", path, model, threads=threads)
    return TfliteEngine(interpreter, model, name="litert", version=version("ai-edge-litert"), threads=threads)


def open_tflite_runtime(path: Path, model: ModelFile, threads: int) -> TfliteEngine:
    """Open a TFLite file with tflite-runtime, for Python up to 3.11 and 32-bit boards."""
    interpreter = _interpreter("tflite_runtime.interpreter", path, model, threads=threads)
    return TfliteEngine(interpreter, model, name="tflite-runtime", version=version("tflite-runtime"), threads=threads)


def _interpreter(module: str, path: Path, model: ModelFile, *, threads: int) -> Any:
    package = module.partition(".")[0]
    try:
        interpreter_class = importlib.import_module(module).Interpreter
    except Exception as error:  # a build against another numpy fails with more than ImportError
        raise EngineError(
            f"{package} is installed but does not load: {error}; install it again, with a numpy that it supports (tflite-runtime: numpy<2)"
        ) from error
    try:
        interpreter = interpreter_class(model_path=str(path), num_threads=threads)
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


def output_lookup(tensor: Tensor) -> np.ndarray | None:
    """Return the (256,) float32 value of each stored byte of a quantized output; None for a float one."""
    if tensor.quantization is None:
        return None
    return dequantize(np.arange(256, dtype=np.uint8).view(tensor.dtype), tensor.quantization)


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
        self._lookup = input_lookup(model.input)
        self._real_values = output_lookup(model.output)

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        fill_input(pixels_nhwc, self._input(), lookup=self._lookup, layout=self.model.input.layout)

    def logits(self) -> np.ndarray:
        stored = self._output().reshape(-1)
        return stored.copy() if self._real_values is None else self._real_values[stored.view(np.uint8)]

    def run(self, pixels_nhwc: np.ndarray) -> np.ndarray:
        self.set_input(pixels_nhwc)
        self.invoke()
        return self.logits()
