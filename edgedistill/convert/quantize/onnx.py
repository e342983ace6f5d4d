"""An fp32 ONNX file made smaller by onnxruntime's quantizer, with the ranges of the student's graph instead of a calibration of its own.

8-bit files take the camera's byte: a stored value is the pixel, its zero point the graph's `pixel_mean`. Weights of files that
multiply in 8 bits have 7 of them ("reduce range"). On x86 without VNNI, onnxruntime adds pairs of 8-bit products in 16 bits and clips
them: with 8-bit weights such a machine answers differently from an ARM board or a newer x86 (measured on trained MobileNets: 2 to 5
points of accuracy). With 7 bits nothing can be clipped, so what is measured on the workstation holds on every device. Activations
without sign are what its integer kernels take on every machine. The last layer's sums are 32-bit anyway and stay exact.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.convert import calibration
from edgedistill.convert.graph import centred
from edgedistill.convert.onnx_file import camera, islands, storage
from edgedistill.convert.onnx_file.model import constants, load, save, sort
from edgedistill.convert.onnx_file.values import values_of
from edgedistill.convert.quantize import Work
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, EdgeDistillError, MissingExtraError

#: What onnxruntime has integer kernels for, and what moves 8-bit values without computing.
_OPERATORS = (
    *("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "LeakyRelu", "Sigmoid", "Concat"),
    *("GlobalAveragePool", "AveragePool", "MaxPool", "Resize"),
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad"),
)
#: Calibration images on which tensors are matched with the graph's values.
_PROBES = 4
#: Operators whose output has the range of their input, for tensors that match no value of the graph.
_MOVING = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Pad", "MaxPool", "Identity")


def static_int8(work: Work, path: Path) -> None:
    """Quantize everything that onnxruntime has integer kernels for, which hard-swish is not among.

    Spelled out as a clipped sum and a product in 8 bits, hard-swish was no faster than the way to float and back.
    """
    _write(work, path, lambda model: _static(model, work))


def static_int8_float_islands(work: Work, path: Path) -> None:
    """Quantize convolutions, sums and pooling; hard-swish and the gates of squeeze-and-excitation stay float."""
    _write(work, path, lambda model: _static(model, work, keep_float=islands.gates(model.graph)))


def int16_activations(work: Work, path: Path) -> None:
    """Round activations to 16 bits, symmetric around 0, and weights to 8.

    onnxruntime has no integer kernels for it on the CPU: it computes in float between the roundings, slower than fp32. What is
    gained is the size, and that the file can be given to accelerators that do have such kernels.
    """
    _write(work, path, lambda model: _static(model, work, bits=16))


def weight_only_int8(work: Work, path: Path) -> None:
    """Store weights in 8 bits a channel; all arithmetic is float, as fast as fp32."""
    _write(work, path, storage.weights_as_int8, takes_bytes=True)


def float16(work: Work, path: Path) -> None:
    """Store weights in 16 bits; they become float32 when the file is loaded, for onnxruntime has no 16-bit convolution on the CPU.

    The input stays float32.
    """
    _write(work, path, storage.weights_as_float16, takes_bytes=False)


def _write(work: Work, path: Path, change: Callable[[Any], Any], *, takes_bytes: bool = True) -> None:
    """Change a copy of the fp32 model (in place, or by returning another) and save it."""
    source = load(work.fp32)
    try:
        with quietly():
            model = change(source) or source
            if takes_bytes:
                camera.take_bytes(model, work.graph.pixel_mean)
            save(model, path)
    except (EdgeDistillError, OSError):
        raise
    except Exception as error:  # onnx and onnxruntime raise classes of their own, some straight from Exception
        raise ConvertError(
            f"onnxruntime could not quantize {work.fp32.name}: {error}; choose another way, or export without int8"
        ) from error


def _static(model: Any, work: Work, *, bits: int = 8, keep_float: frozenset[str] = frozenset()) -> Any:
    """Return the model with activations and weights in QDQ form."""
    try:
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.calibrate import TensorData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    except ImportError as error:
        raise MissingExtraError(error.name or "onnxruntime", "workstation") from error
    image = camera.image_of(model.graph, work.graph.pixel_mean)
    ranges = _ranges(model, work) | {image.tensor: calibration.Range(-work.graph.pixel_mean, 255 - work.graph.pixel_mean)}
    stored: dict[str, Any] = camera.scale_and_zero_point(work.graph.pixel_mean)
    if bits == 16:
        stored["quant_type"] = QuantType.QUInt8
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=bits == 8,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8 if bits == 8 else QuantType.QInt16,
        tensors_range={name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()},
        nodes_to_quantize=[],
        nodes_to_exclude=[*image.nodes, *keep_float, *_without_range(model.graph, ranges)],
        op_types_to_quantize=_OPERATORS,
        extra_options={
            "TensorQuantOverrides": {image.tensor: [stored]},
            "OpTypesToExcludeOutputQuantization": ["Gemm"],
            "ActivationSymmetric": bits == 16,
        },
    )
    quantizer.quantize_model()
    sort(quantizer.model.model.graph)
    return quantizer.model.model


def _ranges(model: Any, work: Work) -> dict[str, calibration.Range]:
    """Return the range of each tensor that is a value of the graph, or that only moves one."""
    pixels = work.pixels_nhwc[:_PROBES]
    values = values_of(model, centred(work.graph, pixels).numpy())
    ranges = {tensor: work.ranges[node] for tensor, node in calibration.match(work.graph, values, pixels).items()}
    for node in model.graph.node:
        if node.op_type in _MOVING and node.output[0] not in ranges and node.input[0] in ranges:
            ranges[node.output[0]] = ranges[node.input[0]]
    return ranges


def _without_range(graph: Any, ranges: dict[str, calibration.Range]) -> list[str]:
    """Return the operators that take or give something of unknown range: they have to stay float."""
    known = set(ranges).union(constants(graph))
    outputs = {value.name for value in graph.output}
    return [node.name for node in graph.node if any(name and name not in known | outputs for name in (*node.input, *node.output))]


RECIPES: dict[str, Callable[[Work, Path], None]] = {
    "static_int8": static_int8,
    "static_int8_float_islands": static_int8_float_islands,
    "int16_activations": int16_activations,
    "weight_only_int8": weight_only_int8,
    "float16": float16,
}
