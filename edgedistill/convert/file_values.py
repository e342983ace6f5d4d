"""Every value inside of a written file, for images: what a quantized file has made of a layer, in real numbers.

The files run step by step, without a delegate and without fusing, because only so all values are kept. What a fast kernel does
differently, such as clipping 16-bit sums on x86 without VNNI, is not seen here but in the file's own answers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.convert.keeping import open_keeping
from edgedistill.convert.onnx_file import load, tensor_values
from edgedistill.convert.onnx_file.model import require_onnx

#: From uint8 RGB pixels (1, H, W, 3) and the pixel mean to the values of a file by tensor name, float32, each (1, ...).
Values = Callable[[np.ndarray, int], dict[str, np.ndarray]]


def values_of(path: Path) -> Values:
    """Return what gives the values of an ONNX or TFLite file, which takes pixels as bytes or, minus the pixel mean, in float."""
    return _onnx_values(path) if path.suffix == ".onnx" else _tflite_values(path)


def _tflite_values(path: Path) -> Values:
    interpreter = open_keeping(path)
    taken = interpreter.get_input_details()[0]
    made = {int(index) for operator in interpreter._get_ops_details() for index in operator["outputs"]}  # no public call tells it
    details = [one for one in interpreter.get_tensor_details() if one["index"] in made and _is_number(one)]

    def values(pixels_nhwc: np.ndarray, pixel_mean: int) -> dict[str, np.ndarray]:
        centred = pixels_nhwc.astype(np.float32) - pixel_mean
        interpreter.set_tensor(taken["index"], _stored(centred, np.dtype(taken["dtype"]), *taken["quantization"]))
        interpreter.invoke()
        return {one["name"]: _real(interpreter.get_tensor(one["index"]), *one["quantization"]) for one in details}

    return values


def _is_number(detail: dict[str, Any]) -> bool:
    dtype = np.dtype(detail["dtype"])
    return dtype == np.float32 or (dtype in (np.int8, np.uint8, np.int16) and detail["quantization"][0] > 0)


def _stored(centred: np.ndarray, dtype: np.dtype[Any], scale: float, zero_point: int) -> np.ndarray:
    if not scale:
        return centred.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(centred / scale) + zero_point, limits.min, limits.max).astype(dtype)


def _real(stored: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
    return stored.astype(np.float32) if not scale else np.float32(scale) * (stored.astype(np.float32) - zero_point)


def _onnx_values(path: Path) -> Values:
    """Give what a tensor that is quantized is read back as, under the name that it has in float."""
    model = load(path)
    read_back = _read_back(model)
    takes_bytes = model.graph.input[0].type.tensor_type.elem_type == require_onnx().TensorProto.UINT8

    def values(pixels_nhwc: np.ndarray, pixel_mean: int) -> dict[str, np.ndarray]:
        found = tensor_values(path, pixels_nhwc if takes_bytes else pixels_nhwc.astype(np.float32) - pixel_mean)
        return {name: found.get(read_back.get(name, name), value) for name, value in found.items()}

    return values


def _read_back(model: Any) -> dict[str, str]:
    """Return, by name of a tensor that is quantized, the tensor that it is read back as.

    Where the quantizer has taken out the ReLU behind a sum, the sum has the ReLU's name and the range of 8 bits does the ReLU's work:
    only what is read back is what the name says.
    """
    stored = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    read = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {name: read[number] for name, number in stored.items() if number in read}
