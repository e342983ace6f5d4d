"""Both ends of a file: the camera's bytes in, float scores out, whatever the operators between work with.

A quantized input becomes uint8 with scale 1 and zero point `pixel_mean`: the byte is the pixel, and the value that it stands
for is the pixel minus `pixel_mean`, which is what the network takes. A quantized output becomes float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ai_edge_litert import schema_py_generated as schema

from edgedistill.convert.tflite_file.flatbuffer import TYPES, new_buffer, operator_name, text
from edgedistill.errors import ConvertError

_QUANTIZED = ("INT8", "INT16")


@dataclass(frozen=True)
class _Kind:
    """Type and quantization of a new tensor; float ones have none."""

    type: int
    scale: float | None = None
    zero_point: int = 0


def take_bytes(model: Any, pixel_mean: int) -> None:
    """Put operators in front of a quantized input that make it of the camera's uint8 pixels; others stay as they are.

    Raises ConvertError for an 8-bit input that would round the pixels.
    """
    graph = model.subgraphs[0]
    index = _only(graph.inputs, "input")
    stored = graph.tensors[index]
    kind = TYPES[stored.type]
    if kind not in _QUANTIZED:
        return
    if kind == "INT8":
        _check_exact(stored, pixel_mean)
    pixels = _like(model, stored, "pixels", _Kind(schema.TensorType.UINT8, 1.0, pixel_mean))
    centred = _like(model, stored, "centred", _Kind(schema.TensorType.FLOAT32))
    # By way of floats, exactly: XNNPACK has no operator that makes int8 of uint8, and QUANTIZE alone would run outside of it.
    steps = [_operator(model, "DEQUANTIZE", pixels, centred), _operator(model, "QUANTIZE", centred, index)]
    graph.operators = [*steps, *graph.operators]
    graph.inputs = [pixels]
    _point_signatures(model, index, pixels)


def give_floats(model: Any) -> None:
    """Put an operator behind a quantized output that makes floats of it; others stay as they are."""
    graph = model.subgraphs[0]
    index = _only(graph.outputs, "output")
    if TYPES[graph.tensors[index].type] in _QUANTIZED:
        _append(model, "DEQUANTIZE")


def give_probabilities(model: Any) -> None:
    """Put softmax behind a float output of logits, unless it is there."""
    graph = model.subgraphs[0]
    if operator_name(model, graph.operators[-1]) != "SOFTMAX":
        _append(model, "SOFTMAX")


def name_ends(model: Any, *, output: Literal["logits", "probabilities"]) -> None:
    """Name input and output, the signature's too, as what they are."""
    graph = model.subgraphs[0]
    names = {_only(graph.inputs, "input"): "pixels", _only(graph.outputs, "output"): output}
    for index, name in names.items():
        graph.tensors[index].name = name
    for signature in model.signatureDefs or []:
        for entry in [*signature.inputs, *signature.outputs]:
            entry.name = names[entry.tensorIndex]


def _append(model: Any, name: str) -> None:
    graph = model.subgraphs[0]
    index = _only(graph.outputs, "output")
    output = _like(model, graph.tensors[index], name.lower(), _Kind(schema.TensorType.FLOAT32))
    graph.operators = [*graph.operators, _operator(model, name, index, output)]
    graph.outputs = [output]
    _point_signatures(model, index, output)


def _only(indices: Sequence[int], role: str) -> int:
    if len(indices) != 1:
        raise ConvertError(f"the file has {len(indices)} {role}s where a classifier has one; the network must take and return one tensor")
    return int(indices[0])


def _check_exact(stored: Any, pixel_mean: int) -> None:
    scale, zero_point = float(stored.quantization.scale[0]), int(stored.quantization.zeroPoint[0])
    if scale != 1 or zero_point != pixel_mean - 128:
        raise ConvertError(
            f"the input {text(stored.name)} has scale {scale:g} and zero point {zero_point}, which would round the camera's bytes; "
            f"expected 1 and {pixel_mean - 128}: give the input the range {-pixel_mean} to {255 - pixel_mean} when quantizing"
        )


def _like(model: Any, tensor: Any, name: str, kind: _Kind) -> int:
    quantization = None
    if kind.scale is not None:
        quantization = schema.QuantizationParametersT(scale=[kind.scale], zeroPoint=[kind.zero_point])
    tensors = model.subgraphs[0].tensors
    tensors.append(
        schema.TensorT(
            shape=tensor.shape, type=kind.type, buffer=new_buffer(model), name=name, quantization=quantization, hasRank=tensor.hasRank
        )
    )
    return len(tensors) - 1


def _operator(model: Any, name: str, source: int, target: int) -> Any:
    number = getattr(schema.BuiltinOperator, name)
    model.operatorCodes.append(schema.OperatorCodeT(deprecatedBuiltinCode=min(number, 127), builtinCode=number))
    options = {
        "QUANTIZE": (schema.BuiltinOptions.QuantizeOptions, schema.QuantizeOptionsT()),
        "DEQUANTIZE": (schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()),
        "SOFTMAX": (schema.BuiltinOptions.SoftmaxOptions, schema.SoftmaxOptionsT(beta=1.0)),
    }
    kind, values = options[name]
    return schema.OperatorT(
        opcodeIndex=len(model.operatorCodes) - 1,
        inputs=[source],
        outputs=[target],
        builtinOptionsType=kind,
        builtinOptions=values,
    )


def _point_signatures(model: Any, old: int, new: int) -> None:
    for signature in model.signatureDefs or []:
        for entry in [*signature.inputs, *signature.outputs]:
            if entry.tensorIndex == old:
                entry.tensorIndex = new
