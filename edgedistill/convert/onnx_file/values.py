"""The values between the operators of an ONNX file, for matching them with the student's graph and for finding where a file breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.convert.onnx_file.model import load, require_onnx
from edgedistill.errors import ConvertError, MissingExtraError


def tensor_values(path: Path, pixels_nhwc: np.ndarray) -> dict[str, np.ndarray]:
    """Return every float tensor that operators of a file make, by name, (N, ...) for N images.

    Args:
        pixels_nhwc: (N, H, W, 3), as the file takes them: float32 pixels minus the mean, or uint8 pixels.
    """
    return values_of(load(path), pixels_nhwc)


def values_of(model: Any, pixels_nhwc: np.ndarray) -> dict[str, np.ndarray]:
    """Return every float tensor of a loaded model, computed without optimization: none is fused away."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "workstation") from error
    onnx = require_onnx()
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    names = [name for node in shown.graph.node for name in node.output if name]
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        runs = [session.run(names, {name: image[np.newaxis]}) for image in pixels_nhwc]
    except Exception as error:  # onnxruntime raises many classes of its own, some straight from Exception
        raise ConvertError(f"onnxruntime cannot run the file to look into it: {error}; check its input, or write it again") from error
    stacked = {name: [run[i] for run in runs] for i, name in enumerate(names)}
    return {name: np.concatenate(values) for name, values in stacked.items() if values[0].dtype == np.float32 and values[0].ndim}
