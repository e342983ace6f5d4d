"""Versions of operators and the oldest runtime, against LiteRT's rules, one case a rule, and stamped into real files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import finished
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edgedistill.convert.tflite_file import flatbuffer, versions
from edgedistill.convert.tflite_file.signatures import RULES, needed

F32, F16, I8, I16, I4, I32, I64, U8, U32, BOOL = (
    getattr(schema.TensorType, name)
    for name in ("FLOAT32", "FLOAT16", "INT8", "INT16", "INT4", "INT32", "INT64", "UINT8", "UINT32", "BOOL")
)


def tensor(kind: int, shape: tuple[int, ...] = (1, 4, 4, 8), scales: tuple[float, ...] = (), axis: int = 0) -> Any:
    """Return a tensor of a file; quantized where it has scales."""
    quantization = schema.QuantizationParametersT(scale=list(scales), quantizedDimension=axis) if scales else None
    return schema.TensorT(shape=list(shape), type=kind, quantization=quantization)


def version(name: str, inputs: list[Any], output: Any, **options: Any) -> int:
    """Return the version that an operator on these tensors needs."""
    tensors = [*inputs, output]
    operator = SimpleNamespace(
        inputs=list(range(len(inputs))), outputs=[len(inputs)], builtinOptions=SimpleNamespace(**options) if options else None
    )
    return needed(name, operator, tensors)


EACH = tuple(0.1 for _ in range(8))
KERNEL, DEPTHWISE, MATRIX = (8, 3, 3, 8), (1, 3, 3, 8), (8, 8)
FLAT = (1, 8)
BIAS = {"quantizedBiasType": 0}
DENSE = {"quantizedBiasType": 0, "keepNumDims": False, "asymmetricQuantizeInputs": False}
PLAIN = {"dilationWFactor": 1, "dilationHFactor": 1}


@pytest.mark.parametrize(
    ("image", "kernel", "options", "expected"),
    [
        (tensor(F32), tensor(F32, KERNEL), BIAS, 1),
        (tensor(F32), tensor(I8, KERNEL, (0.1,)), BIAS, 2),
        (tensor(I8), tensor(I8, KERNEL, EACH), BIAS, 3),
        (tensor(I16), tensor(I8, KERNEL, EACH), BIAS, 4),
        (tensor(F32), tensor(I8, KERNEL, EACH), BIAS, 5),
        (tensor(F32), tensor(F32, (8, 3, 3, 4)), BIAS, 6),
        (tensor(I8), tensor(I4, KERNEL, EACH), BIAS, 7),
        (tensor(I16), tensor(I8, KERNEL, EACH), {"quantizedBiasType": I64}, 8),
    ],
)
def test_convolutions(image: Any, kernel: Any, options: dict[str, Any], expected: int) -> None:
    assert version("CONV_2D", [image, kernel], tensor(image.type), **options) == expected


@pytest.mark.parametrize(
    ("image", "kernel", "options", "expected"),
    [
        (tensor(F32), tensor(F32, DEPTHWISE), PLAIN, 1),
        (tensor(F32), tensor(F32, DEPTHWISE), {"dilationWFactor": 2, "dilationHFactor": 1}, 2),
        (tensor(I8), tensor(I8, DEPTHWISE, EACH, 3), PLAIN, 3),
        (tensor(F32), tensor(I8, DEPTHWISE, (0.1,)), PLAIN, 4),
        (tensor(I16), tensor(I8, DEPTHWISE, EACH, 3), PLAIN, 5),
        (tensor(F32), tensor(I8, DEPTHWISE, EACH, 3), PLAIN, 6),
        (tensor(I8), tensor(I4, DEPTHWISE, EACH, 3), PLAIN, 7),
    ],
)
def test_depthwise_convolutions(image: Any, kernel: Any, options: dict[str, Any], expected: int) -> None:
    assert version("DEPTHWISE_CONV_2D", [image, kernel], tensor(image.type), **options) == expected


@pytest.mark.parametrize(
    ("features", "matrix", "inputs", "options", "expected"),
    [
        (tensor(F32, FLAT), tensor(F32, MATRIX), 3, {}, 1),
        (tensor(F32, FLAT), tensor(I8, MATRIX, (0.1,)), 3, {}, 3),
        (tensor(I8, FLAT), tensor(I8, MATRIX, EACH), 3, {}, 4),
        (tensor(F32, FLAT), tensor(F32, MATRIX), 3, {"keepNumDims": True}, 5),
        (tensor(F32, FLAT), tensor(F32, MATRIX), 2, {}, 6),
        (tensor(I16, FLAT), tensor(I8, MATRIX, EACH), 3, {}, 7),
        (tensor(F32, FLAT), tensor(I8, MATRIX, (0.1,)), 3, {"asymmetricQuantizeInputs": True}, 9),
        (tensor(I8, FLAT), tensor(I4, MATRIX, EACH), 3, {}, 10),
        (tensor(I16, FLAT), tensor(I8, MATRIX, EACH), 3, {"quantizedBiasType": I64}, 11),
        (tensor(F32, FLAT), tensor(I8, MATRIX, EACH), 3, {}, 12),
        (tensor(I16, FLAT), tensor(I4, MATRIX, EACH), 3, {}, 13),
    ],
)
def test_linear_layers(features: Any, matrix: Any, inputs: int, options: dict[str, Any], expected: int) -> None:
    tensors = [features, matrix, tensor(I32, (8,))][:inputs]
    assert version("FULLY_CONNECTED", tensors, tensor(features.type, FLAT), **(DENSE | options)) == expected


SCALED = tensor(I8, scales=(0.5,))
HALVES = tensor(I16, scales=(0.5,))


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        ([tensor(F32), tensor(F32)], tensor(F32), 1),
        ([SCALED, SCALED], tensor(I8, scales=(0.3,)), 2),
        ([SCALED, SCALED], tensor(I8, scales=(0.25,)), 3),
        ([HALVES, HALVES], HALVES, 4),
        ([tensor(I64), tensor(I64)], tensor(I64), 5),
        ([tensor(I16), tensor(I16)], tensor(I16), 7),
    ],
)
def test_products(inputs: list[Any], output: Any, expected: int) -> None:
    assert version("MUL", inputs, output) == expected


@pytest.mark.parametrize(
    ("name", "first", "options", "expected"),
    [
        ("ADD", tensor(F32), {}, 1),
        ("ADD", SCALED, {}, 2),
        ("ADD", HALVES, {"potScaleInt16": False}, 3),
        ("ADD", HALVES, {"potScaleInt16": True}, 1),
        ("ADD", tensor(I64), {}, 4),
        ("ADD", tensor(I16), {}, 5),
        ("SUB", tensor(F32), {}, 1),
        ("SUB", SCALED, {}, 2),
        ("SUB", tensor(F32, (1, 1, 4, 4, 8)), {}, 3),
        ("SUB", tensor(I64), {}, 4),
        ("SUB", HALVES, {"potScaleInt16": False}, 5),
        ("DIV", tensor(F32), {}, 1),
        ("DIV", tensor(F32, (1, 1, 4, 4, 8)), {}, 2),
        ("MINIMUM", tensor(F32), {}, 1),
        ("MAXIMUM", SCALED, {}, 2),
        ("MINIMUM", tensor(F32, (1, 1, 4, 4, 8)), {}, 3),
        ("MAXIMUM", HALVES, {}, 4),
    ],
)
def test_sums_and_others_of_two_inputs(name: str, first: Any, options: dict[str, Any], expected: int) -> None:
    assert version(name, [first, tensor(first.type)], tensor(first.type), **options) == expected


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"),
    [
        ("PAD", tensor(F32), F32, 1),
        ("PADV2", tensor(I8), I8, 2),
        ("PAD", tensor(I16), I16, 3),
        ("PADV2", tensor(F32, (1, 1, 4, 4, 8)), F32, 4),
        ("TRANSPOSE", tensor(F32), F32, 1),
        ("TRANSPOSE", tensor(I8), I8, 2),
        ("TRANSPOSE", tensor(BOOL), BOOL, 3),
        ("TRANSPOSE", tensor(F32, (1, 1, 4, 4, 8)), F32, 4),
        ("TRANSPOSE", tensor(I16), I16, 5),
        ("TRANSPOSE", tensor(F32, (1, 1, 1, 4, 4, 8)), F32, 6),
        ("TRANSPOSE", tensor(I4), I4, 7),
        ("QUANTIZE", tensor(F32), I8, 1),
        ("QUANTIZE", tensor(F32), I16, 2),
        ("DEQUANTIZE", tensor(U8), F32, 1),
        ("DEQUANTIZE", tensor(I8, scales=(0.1,)), F32, 2),
        ("DEQUANTIZE", tensor(I16), F32, 3),
        ("DEQUANTIZE", tensor(F16), F32, 3),
        ("DEQUANTIZE", tensor(I8, KERNEL, EACH), F32, 5),
        ("DEQUANTIZE", tensor(I4), F32, 6),
        ("CONCATENATION", tensor(U32), U32, 4),
        ("RELU", tensor(U8), U8, 2),
        ("GELU", tensor(I8), I8, 2),
        ("SUM", tensor(I8), I8, 2),
        ("LEAKY_RELU", tensor(I16), I16, 2),
        ("RESHAPE", tensor(I8), I8, 1),
        ("HARD_SWISH", tensor(I8), I8, 1),
        ("CUMSUM", tensor(I8), I8, 1),
    ],
)
def test_operators_of_one_input(name: str, source: Any, target: int, expected: int) -> None:
    assert version(name, [source], tensor(target)) == expected


def test_weights_quantized_by_channel_in_front_of_their_layer() -> None:
    by_channel = tensor(I8, KERNEL, EACH)
    assert version("QUANTIZE", [tensor(F32, KERNEL)], by_channel) == 3


@pytest.mark.parametrize("name", ["AVERAGE_POOL_2D", "LOGISTIC", "MAX_POOL_2D", "MEAN", "RELU6", "SOFTMAX", "TANH", "CONCATENATION"])
@pytest.mark.parametrize(("kind", "expected"), [(F32, 1), (I8, 2), (I16, 3)])
def test_operators_that_go_by_the_type(name: str, kind: int, expected: int) -> None:
    assert version(name, [tensor(kind)], tensor(kind)) == expected


def test_every_rule_has_its_runtimes_in_order() -> None:
    assert set(RULES) <= set(versions.RUNTIMES)
    for name, runtimes in versions.RUNTIMES.items():
        assert hasattr(schema.BuiltinOperator, name)
        assert all(len(version.split(".")) == 3 for version in runtimes)


@pytest.mark.parametrize(
    ("operator", "number", "runtime"),
    [
        ("FULLY_CONNECTED", 12, "2.17.0"),
        ("CONV_2D", 3, "1.14.0"),
        ("CONV_2D", 5, "2.4.0"),
        ("DEPTHWISE_CONV_2D", 6, "2.3.0"),
        ("DEQUANTIZE", 5, "2.7.0"),
        ("HARD_SWISH", 1, "1.15.0"),
        ("MUL", 7, "2.13.0"),
    ],
)
def test_some_lines_of_the_table(operator: str, number: int, runtime: str) -> None:
    assert versions.RUNTIMES[operator][number - 1] == runtime


def codes(model: Any) -> dict[str, int]:
    return {flatbuffer.operator_name(model, one): model.operatorCodes[one.opcodeIndex].version for one in model.subgraphs[0].operators}


def test_an_int8_file_is_stamped() -> None:
    model = flatbuffer.read(finished.TINY["int8"])
    assert codes(model)["CONV_2D"] == 1, "as the quantizer leaves it"
    versions.stamp(model)
    expected = {"SUB": 2, "MUL": 2, "PAD": 2, "CONV_2D": 3, "TRANSPOSE": 2, "MEAN": 2, "FULLY_CONNECTED": 5}
    assert codes(model) | {"MUL": 2} == expected
    assert versions.stamped(model) == "2.0.0"
    entry = flatbuffer.metadata(model, "min_runtime_version")
    assert entry is not None
    assert len(entry) == 16


def test_operators_of_one_kind_may_need_different_versions() -> None:
    model = flatbuffer.read(finished.TINY["fp32"])
    graph = model.subgraphs[0]
    pad = next(one for one in graph.operators if flatbuffer.operator_name(model, one) == "PAD")
    graph.operators.append(schema.OperatorT(opcodeIndex=pad.opcodeIndex, inputs=[len(graph.tensors)], outputs=pad.outputs))
    graph.tensors.append(schema.TensorT(shape=np.array([1, 2, 2, 1]), type=I8))
    versions.stamp(model)
    found = [model.operatorCodes[one.opcodeIndex].version for one in graph.operators if flatbuffer.operator_name(model, one) == "PAD"]
    assert found == [1, 2]


def test_a_version_is_never_lowered() -> None:
    model = flatbuffer.read(finished.TINY["fp32"])
    code = next(one for one in model.operatorCodes if max(one.builtinCode, one.deprecatedBuiltinCode) == schema.BuiltinOperator.CONV_2D)
    code.version = 6
    versions.stamp(model)
    assert codes(model)["CONV_2D"] == 6
    assert versions.stamped(model) == "2.9.0"


def test_an_operator_that_the_table_does_not_know_is_said_and_keeps_its_version(caplog: pytest.LogCaptureFixture) -> None:
    model = flatbuffer.read(finished.TINY["fp32"])
    model.operatorCodes[0] = schema.OperatorCodeT(deprecatedBuiltinCode=127, builtinCode=schema.BuiltinOperator.CUMSUM, version=4)
    versions.stamp(model)
    assert codes(model)["CUMSUM"] == 4
    assert caplog.messages == ["no runtime is known to be the oldest for CUMSUM v4: the minimum runtime may be too low"]


def test_a_file_without_a_stamp_is_as_new_as_its_operators() -> None:
    model = flatbuffer.read(finished.TINY["fp32"])
    model.metadata = []
    assert versions.stamped(model) == versions.minimum(model) == "2.0.0"
