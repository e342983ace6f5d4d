"""From an operator and its tensors to the operator's version, after LiteRT's rules (tflite/tools/versioning/op_version.cc).

Rules that no network of images meets (strings, complex numbers, sparse or shuffled weights) are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgedistill.convert.tflite_file.flatbuffer import TYPES


@dataclass(frozen=True)
class Signature:
    """What a rule looks at: the operator's options, and its inputs and outputs, None where one is left out."""

    options: Any
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]

    def input(self, number: int) -> str:
        """Return the type of an input, such as INT8; an empty text if there is none."""
        tensor = self.inputs[number] if number < len(self.inputs) else None
        return "" if tensor is None else TYPES[tensor.type]

    def rank(self) -> int:
        """Return the largest number of dimensions of an input."""
        return max((_rank(tensor) for tensor in self.inputs), default=0)


def needed(name: str, operator: Any, tensors: Sequence[Any]) -> int:
    """Return the version that an operator needs; 1 for one that has no rule."""
    rule = RULES.get(name)
    if rule is None:
        return 1
    pick = [tuple(tensors[i] if i >= 0 else None for i in indices) for indices in (operator.inputs, operator.outputs)]
    return rule(Signature(operator.builtinOptions, *pick))


def per_channel(tensor: Any, axis: int | None = None) -> bool:
    """Return whether a tensor has one scale an index of an axis; without one, of the axis it names itself, and more than one."""
    quantization = tensor.quantization
    scales = 0 if quantization is None or quantization.scale is None else len(quantization.scale)
    if axis is not None:
        return 0 < scales == tensor.shape[axis]
    return scales > 1 and scales == tensor.shape[quantization.quantizedDimension]


def _rank(tensor: Any) -> int:
    return 0 if tensor is None or tensor.shape is None else len(tensor.shape)


def _scale(tensor: Any) -> float:
    quantization = tensor.quantization
    return 0.0 if quantization is None or quantization.scale is None or not len(quantization.scale) else float(quantization.scale[0])


def _by_type(**versions: int) -> Callable[[Signature], int]:
    """Return the rule of an operator whose version is in the type of its first input; 1 for others."""
    return lambda found: versions.get(found.input(0), 1)


def _conv(found: Signature) -> int:
    kinds = found.input(0), found.input(1)
    if kinds == ("INT16", "INT8") and found.options.quantizedBiasType:
        return 8
    if found.inputs[0].shape[3] != found.inputs[1].shape[3]:
        return 6  # in groups
    hybrid = 5 if per_channel(found.inputs[1], 0) else 2
    return {("INT16", "INT8"): 4, ("INT16", "INT16"): 4, ("INT8", "INT8"): 3, ("INT8", "INT4"): 7, ("FLOAT32", "INT8"): hybrid}.get(
        kinds, 1
    )


def _depthwise(found: Signature) -> int:
    kinds = found.input(0), found.input(1)
    hybrid = 6 if per_channel(found.inputs[1], 3) else 4
    known = {("INT16", "INT8"): 5, ("INT16", "INT16"): 5, ("INT8", "INT8"): 3, ("INT8", "INT4"): 7, ("FLOAT32", "INT8"): hybrid}
    dilated = found.options.dilationWFactor != 1 or found.options.dilationHFactor != 1
    return known.get(kinds, 2 if dilated else 1)


def _fully_connected(found: Signature) -> int:
    kinds = found.input(0), found.input(1)
    if kinds == ("INT16", "INT4"):
        return 13
    if kinds == ("FLOAT32", "INT8") and per_channel(found.inputs[1], 0):
        return 12
    if kinds[0] == "INT16":
        return 11 if found.options.quantizedBiasType else 7
    if len(found.inputs) == 2:
        return 6
    if found.options.keepNumDims:
        return 5
    hybrid = 9 if found.options.asymmetricQuantizeInputs else 3
    return {("INT8", "INT8"): 4, ("INT8", "INT4"): 10, ("FLOAT32", "INT8"): hybrid}.get(kinds, 1)


def _mul(found: Signature) -> int:
    kind = found.input(0)
    quantized = any(tensor.quantization is not None for tensor in found.inputs)
    if (kind == "INT16" and not quantized) or kind == "UINT32":
        return 7
    if kind in ("INT64", "INT16"):
        return 5 if kind == "INT64" else 4
    scales = [_scale(tensor) for tensor in (*found.inputs, *found.outputs)]
    if all(scales) and scales[0] * scales[1] / scales[2] >= 1:
        return 3
    return 2 if kind == "INT8" else 1


def _add(found: Signature) -> int:
    kind = found.input(0)
    if kind == "INT16":
        return 5 if found.inputs[0].quantization is None else 1 if found.options.potScaleInt16 else 3
    return {"INT64": 4, "INT8": 2}.get(kind, 1)


def _sub(found: Signature) -> int:
    kind = found.input(0)
    if kind == "INT16" and not found.options.potScaleInt16:
        return 5
    if kind == "INT64":
        return 4
    if _broadcasts(found) and found.rank() > 4:
        return 3
    return 2 if kind == "INT8" else 1


def _div(found: Signature) -> int:
    return 2 if _broadcasts(found) and found.rank() > 4 else 1


def _extreme(found: Signature) -> int:
    kind = found.input(0)
    if kind == "INT16":
        return 4
    if _broadcasts(found) and found.rank() > 4:
        return 3
    return 2 if kind == "INT8" else 1


def _pad(found: Signature) -> int:
    if _rank(found.inputs[0]) > 4:
        return 4
    return {"INT16": 3, "INT8": 2}.get(found.input(0), 1)


def _transpose(found: Signature) -> int:
    kind, rank = found.input(0), _rank(found.inputs[0])
    if kind == "INT4":
        return 7
    if rank > 5:
        return 6
    if kind == "INT16":
        return 5
    if rank > 4:
        return 4
    return {"BOOL": 3, "INT8": 2}.get(kind, 1)


def _quantize(found: Signature) -> int:
    if per_channel(found.outputs[0]):
        return 3
    return 2 if TYPES[found.outputs[0].type] == "INT16" else 1


def _dequantize(found: Signature) -> int:
    kind = found.input(0)
    if kind == "INT8":
        return 5 if per_channel(found.inputs[0]) else 2
    return {"INT4": 6, "INT16": 3, "FLOAT16": 3}.get(kind, 1)


def _broadcasts(found: Signature) -> bool:
    if len(found.inputs) < 2:
        return False
    first, second = (list(tensor.shape) if tensor.shape is not None else [] for tensor in found.inputs[:2])
    return first != second


_THREE = _by_type(INT16=3, INT8=2)

RULES: dict[str, Callable[[Signature], int]] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _THREE,
    "BATCH_MATMUL": _by_type(INT16=3, INT8=2),
    "CONCATENATION": _by_type(UINT32=4, INT16=3, INT8=2),
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "DEQUANTIZE": _dequantize,
    "DIV": _div,
    "EXP": _by_type(INT16=2, INT8=2),
    "FULLY_CONNECTED": _fully_connected,
    "GELU": _by_type(INT8=2, UINT8=2),
    "LEAKY_RELU": _by_type(INT16=2),
    "LOGISTIC": _THREE,
    "MAXIMUM": _extreme,
    "MAX_POOL_2D": _THREE,
    "MEAN": _THREE,
    "MINIMUM": _extreme,
    "MUL": _mul,
    "PAD": _pad,
    "PADV2": _pad,
    "QUANTIZE": _quantize,
    "RELU": _by_type(INT16=3, INT8=2, UINT8=2),
    "RELU6": _THREE,
    "RSQRT": _THREE,
    "SOFTMAX": _THREE,
    "SUB": _sub,
    "SUM": _by_type(INT8=2),
    "TANH": _THREE,
    "TRANSPOSE": _transpose,
}
