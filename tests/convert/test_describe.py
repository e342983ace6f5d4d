"""What is read back from model files: tensors, quantization, operators, the oldest runtime."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx
import pytest
import tiny_bundle

from edgedistill.bundle import Quantization, Tensor
from edgedistill.convert.describe import read_operators
from edgedistill.convert.onnx_file import describe_onnx
from edgedistill.convert.tflite_file import describe_tflite
from edgedistill.errors import ConvertError


@pytest.mark.parametrize(
    ("file", "dtype", "input_quantization", "output_quantization"),
    [
        ("tiny-fp32.tflite", "float32", None, None),
        ("tiny-int8.tflite", "int8", Quantization(scale=1.0, zero_point=-128), Quantization(scale=tiny_bundle.OUTPUT_STEP, zero_point=-61)),
    ],
)
def test_tflite(file: str, dtype: str, input_quantization: Quantization | None, output_quantization: Quantization | None) -> None:
    facts = describe_tflite(tiny_bundle.DATA / file)
    assert facts.input == Tensor(name=facts.input.name, shape=[1, 12, 16, 3], dtype=dtype, layout="NHWC", quantization=input_quantization)
    assert facts.output == Tensor(name=facts.output.name, shape=[1, 3], dtype=dtype, layout="NC", quantization=output_quantization)
    assert facts.operators["CONV_2D"] == facts.operators["FULLY_CONNECTED"] == 1
    assert facts.partitions == 1
    assert facts.minimum_runtime == "tflite>=2.0"


def test_tflite_operators_are_chained_by_their_tensors() -> None:
    operators, inputs = read_operators(tiny_bundle.DATA / "tiny-fp32.tflite")
    assert operators[0].inputs[0] == inputs[0]
    for earlier, later in itertools.pairwise(operators):
        assert earlier.outputs[0] in later.inputs


def write_model(path: Path, *, opset: int = 18, output: str = "float[1, 3] y", image: str = "uint8[1, 12, 16, 3] x") -> Path:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g ({image}) => ({output}) {{ y = Cast<to = 1>(x) }}'
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    return path


@pytest.mark.parametrize(("opset", "runtime"), [(17, "onnxruntime>=1.12"), (18, "onnxruntime>=1.14"), (21, "onnxruntime>=1.18")])
def test_onnx(tmp_path: Path, opset: int, runtime: str) -> None:
    facts = describe_onnx(write_model(tmp_path / "x.onnx", opset=opset))
    assert facts.input == Tensor(name="x", shape=[1, 12, 16, 3], dtype="uint8", layout="NHWC")
    assert facts.output == Tensor(name="y", shape=[1, 3], dtype="float32", layout="NC")
    assert (facts.minimum_runtime, facts.partitions, facts.operators) == (runtime, None, {"Cast": 1})
    assert facts.versions == {"onnx opset": str(opset), "onnx ir": "8"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opset": 11}, "has opset 11, known are"),
        ({"output": "float[1, N] y"}, r"tensor y is float32 \[1, 0\]"),
        ({"image": "int64[1, 12, 16, 3] x"}, "tensor x is int64"),
    ],
)
def test_an_onnx_file_that_no_manifest_can_hold(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        describe_onnx(write_model(tmp_path / "x.onnx", **changes))
