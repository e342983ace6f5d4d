"""An fp32 ONNX file made int8: static QDQ, per-channel weights, ranges from real training images.

Weights are int8 of 7 bits ("reduce range"), activations uint8. On x86 without VNNI, onnxruntime adds pairs of 8-bit
products in 16 bits and clips them: with 8-bit weights such a machine answers differently from an ARM board or a newer x86
(measured on trained MobileNets: 2 to 5 points of accuracy). With 7 bits nothing can be clipped, so what is measured on
the workstation holds on every device, at a cost within the noise of the measurement. Activations without sign are what
onnxruntime's fused integer kernels take on every machine; signed ones leave layers in float on x86. Normalization and
logits are kept exact.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import write_atomically
from edgedistill.convert.graph import RawPixels, pixels_are_exact, quantized_pixels
from edgedistill.convert.onnx_fp32 import INPUT, strip
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, MissingExtraError


def quantize_onnx(source: Path, path: Path, *, graph: RawPixels, pixels_nhwc: np.ndarray) -> None:
    """Quantize the fp32 file `source` into `path`.

    Args:
        graph: what `source` was exported from; its normalization gives the range of the first tensor.
        pixels_nhwc: (N, H, W, 3) uint8 RGB calibration pixels.
    """
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise MissingExtraError(error.name or "onnxruntime", "workstation") from error
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8.") as folder, quietly():
        prepared, quantized = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        try:
            # The exporter has folded what there is to fold; a second optimization would take hard-swish apart.
            quant_pre_process(str(source), str(prepared), skip_optimization=True)
            normalized = _normalized_tensor(onnx.load(str(source)))
            quantize_static(
                str(prepared),
                str(quantized),
                _reader(pixels_nhwc),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
                extra_options=_options(graph, normalized),
            )
            model = onnx.load(str(quantized))
            if pixels_are_exact(graph):
                _take_pixels_as_stored(model, normalized)
            strip(model)
            onnx.checker.check_model(model, full_check=True)
        except Exception as error:
            raise ConvertError(f"onnxruntime could not quantize {source.name}: {error}; export without int8") from error
    write_atomically(path, model.SerializeToString(deterministic=True))


def _options(graph: RawPixels, normalized: str) -> dict[str, Any]:
    scale, zero_point = quantized_pixels(graph)
    stored = {"scale": np.array(scale, np.float32), "zero_point": np.array(zero_point, np.uint8)}
    # The last layer's sums are 32-bit anyway: rounding the logits to 8 bits would only lose close decisions.
    return {"TensorQuantOverrides": {normalized: [stored]}, "OpTypesToExcludeOutputQuantization": ["Gemm"]}


def _reader(pixels_nhwc: np.ndarray) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Hands the calibration pixels to onnxruntime one image at a time."""

        def __init__(self) -> None:
            self.images: Iterator[np.ndarray] = iter(pixels_nhwc)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next image, or None after the last."""
            image = next(self.images, None)
            return None if image is None else {INPUT: image[np.newaxis]}

    return Reader()


def _normalized_tensor(model: Any) -> str:
    """Return the name of the normalized image, the last tensor of what `RawPixels` puts in front of the network."""
    name = INPUT
    for kind in ("Cast", "Sub", "Div", "Transpose"):
        node = next((node for node in model.graph.node if node.input and node.input[0] == name), None)
        if node is not None and node.op_type == kind:
            name = node.output[0]
    return str(name)


def _take_pixels_as_stored(model: Any, normalized: str) -> None:
    """Feed the network with the transposed pixels themselves, which are the stored values, instead of by a way through float."""
    nodes = model.graph.node
    users = [node for node in nodes if normalized in node.input]
    transpose = next(node for node in nodes if normalized in node.output)
    if transpose.op_type != "Transpose" or [node.op_type for node in users] != ["QuantizeLinear"]:
        return  # something else needs the image in float
    for node in nodes:
        for i, name in enumerate(node.input):
            if name == users[0].output[0]:
                node.input[i] = normalized
    transpose.input[0] = INPUT
    nodes.remove(users[0])
    _remove_unused(model.graph)
    # Its type is another one now; the checker infers it.
    kept = [value for value in model.graph.value_info if value.name != normalized]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def _remove_unused(graph: Any) -> None:
    """Remove operators and constants whose results nobody takes."""
    outputs = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        used = outputs.union(*(other.input for other in graph.node))
        if not used.intersection(node.output):
            graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)
