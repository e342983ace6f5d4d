"""`tflite:FILE`: a teacher that LiteRT or the older tflite-runtime runs."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.bundle import Quantization
from edgedistill.distill.teachers.file_teacher import Runner, open_file
from edgedistill.distill.teachers.files import existing, manifest_of
from edgedistill.distill.teachers.opening import Opened, Opening
from edgedistill.distill.teachers.tensor_input import Found, input_of
from edgedistill.errors import MissingExtraError, ModelError

INTERPRETERS = ("ai_edge_litert", "tflite_runtime")


def open_tflite(opening: Opening) -> Opened:
    """Open a TFLite file with one image input and one output of logits or probabilities."""
    spec = opening.spec
    path = existing(Path(opening.argument), spec)
    graph = Graph(path)
    bundled = manifest_of(path)
    manifest = bundled[0] if bundled is not None else None
    found = Found([-1, *graph.input["shape"][1:].tolist()], np.dtype(graph.input["dtype"]).name, quantization_of(graph.input))
    tensor = input_of(found, spec, manifest)
    runner = Runner("tflite", graph.run, graph.images)
    if graph.images == 1 and can_batch(graph):
        runner = Runner("tflite", graph.run, None)
    return open_file(opening, runner, tensor=tensor, manifest=manifest)


def quantization_of(details: dict[str, Any]) -> Quantization | None:
    """Return a tensor's scale and zero point, None for a tensor that is not quantized."""
    scale, zero_point = details["quantization"]
    return Quantization(scale=float(scale), zero_point=int(zero_point)) if scale else None


class Graph:
    """An interpreter whose input is resized when another number of images comes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open()
        self.images = int(self.input["shape"][0])

    def _open(self) -> None:
        make = _interpreter_class()
        try:
            self.interpreter = make(model_path=str(self.path), num_threads=torch.get_num_threads())
            self.interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"the interpreter refuses {self.path}: {error}; update ai-edge-litert, or convert the file anew") from error
        inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        if (len(inputs), len(outputs)) != (1, 1):
            raise ModelError(f"the teacher {self.path} has {len(inputs)} inputs and {len(outputs)} outputs; a classifier has one of each")
        self.input, self.output = inputs[0], outputs[0]

    def run(self, array: np.ndarray) -> np.ndarray:
        """Return the dequantized outputs, (N, …) float32; RuntimeError or ValueError where the graph does not take N images."""
        if len(array) != self.input["shape"][0]:
            self.interpreter.resize_tensor_input(self.input["index"], array.shape)
            self.interpreter.allocate_tensors()
            self.input = self.interpreter.get_input_details()[0]
        self.interpreter.set_tensor(self.input["index"], array)
        self.interpreter.invoke()
        answers = self.interpreter.get_tensor(self.output["index"])
        stored = quantization_of(self.output)
        return answers if stored is None else (answers.astype(np.float32) - stored.zero_point) * np.float32(stored.scale)

    def reset(self) -> None:
        """Open the file anew, with the number of images that it was made for."""
        self._open()


def can_batch(graph: Graph) -> bool:
    """Return whether a graph made for one image answers two at once as it answers each; some have the 1 in their shapes."""
    shape, dtype = (2, *graph.input["shape"][1:].tolist()), np.dtype(graph.input["dtype"])
    rng = np.random.default_rng(0)
    noise = rng.random(shape, np.float32) if dtype.kind == "f" else rng.integers(0, 100, shape).astype(dtype)
    single = np.concatenate([graph.run(noise[i : i + 1]) for i in range(2)])
    try:
        both = graph.run(noise)
        same = both.shape == single.shape and np.allclose(both, single, atol=1e-4 + np.abs(single).max() * 1e-2)
    except (RuntimeError, ValueError):
        same = False
    graph.reset()
    return same


def _interpreter_class() -> Any:
    for name in INTERPRETERS:
        if importlib.util.find_spec(name) is not None:
            return importlib.import_module(f"{name}.interpreter").Interpreter
    raise MissingExtraError("ai-edge-litert", "litert")
