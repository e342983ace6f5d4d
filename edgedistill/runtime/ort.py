"""ONNX files by onnxruntime, on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import ModelFile
from edgedistill.errors import EngineError
from edgedistill.postprocess import dequantize, log_probabilities
from edgedistill.preprocess import Filling
from edgedistill.runtime.tensors import check_one, check_tensor, copy_bytes

DTYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int8)": "int8"}


def open_onnxruntime(path: Path, model: ModelFile, threads: int) -> OnnxEngine:
    """Open an ONNX file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"onnxruntime is installed but does not load: {error}; install it again") from error
    try:
        session = onnxruntime.InferenceSession(str(path), session_options(threads), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many classes of its own, some straight from Exception
        raise EngineError(
            f"onnxruntime {onnxruntime.__version__} refuses {path}: {error}; update onnxruntime, or copy the bundle again"
        ) from error
    for role, tensor, found in (("input", model.input, session.get_inputs()), ("output", model.output, session.get_outputs())):
        check_one(path, role, len(found))
        check_tensor(path, tensor, shape=found[0].shape, dtype=DTYPES.get(found[0].type, found[0].type))
    return OnnxEngine(session, model, version=onnxruntime.__version__, threads=threads)


def session_options(threads: int) -> Any:
    """Return how onnxruntime runs here: between frames its threads sleep instead of spinning, which would keep all cores busy."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxEngine:
    """A loaded ONNX file, with its input and output bound to buffers that are used for every frame."""

    name = "onnxruntime"

    def __init__(self, session: Any, model: ModelFile, *, version: str, threads: int) -> None:
        self.version, self.threads, self.model = version, threads, model
        self._input = np.zeros(model.input.shape, model.input.dtype)
        self._output = np.zeros(model.output.shape, model.output.dtype)
        self._filling = Filling(model)
        self._session = session
        self._binding = session.io_binding()
        name_in, name_out = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._binding.bind_input(name_in, "cpu", 0, self._input.dtype, self._input.shape, self._input.ctypes.data)
        self._binding.bind_output(name_out, "cpu", 0, self._output.dtype, self._output.shape, self._output.ctypes.data)

    def input_pixels(self) -> np.ndarray | None:
        return self._filling.pixels(self._input)

    def set_input(self, pixels_nhwc: np.ndarray) -> None:
        self._filling.fill(pixels_nhwc, self._input)

    def copy_input(self, tensor: np.ndarray) -> None:
        copy_bytes(tensor, self._input)

    def invoke(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def logits(self) -> np.ndarray:
        return self.read_logits(np.empty(self._output.size, np.float32))

    def read_logits(self, into: np.ndarray) -> np.ndarray:
        scores = dequantize(self._output.reshape(-1), self.model.output.quantization, into=into)
        return scores if self.model.scores == "logits" else log_probabilities(scores, into=scores)

    def run(self, pixels_nhwc: np.ndarray) -> np.ndarray:
        self.set_input(pixels_nhwc)
        self.invoke()
        return self.logits()
