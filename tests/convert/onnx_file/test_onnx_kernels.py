"""What is told of quantized files: kernels, layers, and how their weights are multiplied; on graphs written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgedistill.convert.onnx_file import arithmetic, describe_onnx, unfused
from edgedistill.convert.onnx_file.kernels import layer_of
from edgedistill.errors import ConvertError


def write(path: Path, text: str, **constants: np.ndarray) -> Path:
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    path.write_bytes(model.SerializeToString())
    return path


def quantized(path: Path, *, largest: int = 64, weight: type = np.int8, zero_point: int = 0, activation: type = np.uint8) -> Path:
    """Write x -> convolution -> softmax, in 8 bits: the weights go up to `largest`."""
    weights = np.full((3, 3, 1, 1), largest).astype(weight)
    text = f"""<ir_version: 8, opset_import: ["" : 18]> g ({np.dtype(activation).name}[1, 3, 4, 4] x) => (float[1, 3, 4, 4] y) {{
        a = DequantizeLinear(x, s, za)
        b = DequantizeLinear(w, s, zw)
        c = Conv(a, b)
        q = QuantizeLinear(c, s, za)
        y = DequantizeLinear(q, s, za) }}"""
    scale = np.array(0.02, np.float32)
    return write(path, text, w=weights, s=scale, za=np.array(zero_point, activation), zw=np.array(0, weight))


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"largest": 64}, "U8S8 with reduce_range"),
        ({"largest": -64}, "U8S8 with reduce_range"),
        ({"largest": 65}, "U8S8: weights of 8 bits"),
        ({"largest": -65}, "U8S8: weights of 8 bits"),
        ({"weight": np.uint8}, "U8U8"),
        ({"activation": np.int8}, "S8S8"),
    ],
)
def test_how_weights_are_multiplied(tmp_path: Path, options: dict, label: str) -> None:
    found = arithmetic(quantized(tmp_path / "x.onnx", **options))
    assert found is not None
    assert found.label.startswith(label)
    assert ("wrong sums" in found.without_vnni) == (label == "U8S8: weights of 8 bits")
    assert found.with_vnni
    assert found.arm.startswith("exact sums")


def test_an_integer_kernel_and_its_way_out(tmp_path: Path) -> None:
    kernels = unfused(quantized(tmp_path / "x.onnx"))
    assert (kernels.integer, kernels.floating, kernels.conversions, kernels.layers) == ({"QLinearConv": 1}, {}, 1, {})


def test_what_stays_float_is_told_with_its_layers(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18]> g (uint8[1, 3] x) => (uint8[1, 3] y) {
        a = DequantizeLinear(x, s, z)
        b = Exp(a)
        c = HardSwish(b)
        d = HardSwish(c)
        e = Softmax(d)
        y = QuantizeLinear(e, s, z) }"""
    path = write(tmp_path / "x.onnx", text, s=np.array(0.1, np.float32), z=np.array(0, np.uint8))
    model = onnx.load(str(path))
    for node, name in zip(model.graph.node[1:4], ("odd/Exp", "blocks.0/HardSwish", "blocks.1/HardSwish"), strict=True):
        node.name = name
    path.write_bytes(model.SerializeToString())
    kernels = unfused(path)
    assert kernels.floating == {"HardSwish": 2, "Exp": 1}
    assert kernels.layers == {"HardSwish": ("blocks.0", "blocks.1"), "Exp": ("odd",)}
    assert (kernels.integer, kernels.conversions) == ({}, 2)
    assert arithmetic(path) is None


@pytest.mark.parametrize(("name", "layer"), [("blocks.0.1.conv/Conv_2", "blocks.0.1.conv"), ("Transpose", "Transpose"), ("", "")])
def test_the_layer_in_a_name(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def plain(path: Path, *, opset: int = 18, output: str = "float[1, 3] y", image: str = "uint8[1, 12, 16, 3] x") -> Path:
    return write(path, f'<ir_version: 8, opset_import: ["" : {opset}]> g ({image}) => ({output}) {{ y = Cast<to = 1>(x) }}')


def test_a_file_in_float_has_nothing_left_in_float(tmp_path: Path) -> None:
    assert unfused(plain(tmp_path / "x.onnx")) == ({}, {}, 0, {})
    assert arithmetic(plain(tmp_path / "x.onnx")) is None


@pytest.mark.parametrize(("opset", "runtime"), [(17, "onnxruntime>=1.12"), (18, "onnxruntime>=1.14"), (21, "onnxruntime>=1.18")])
def test_the_oldest_runtime(tmp_path: Path, opset: int, runtime: str) -> None:
    facts = describe_onnx(plain(tmp_path / "x.onnx", opset=opset))
    assert (facts.minimum_runtime, facts.partitions, facts.operators) == (runtime, None, {"Cast": 1})
    assert facts.versions == {"onnx opset": str(opset), "onnx ir": "8"}
    assert (facts.input.shape, facts.input.dtype, facts.output.layout) == ([1, 12, 16, 3], "uint8", "NC")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"opset": 11}, "has opset 11, known are"),
        ({"output": "float[1, N] y"}, r"tensor y is float32 \[1, 0\]"),
        ({"image": "int64[1, 12, 16, 3] x"}, "tensor x is int64"),
        ({"image": "uint8[1, 12, 16, 3] x, uint8[1] z"}, "has 2 inputs where a classifier has one"),
    ],
)
def test_a_file_that_no_manifest_can_hold(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        describe_onnx(plain(tmp_path / "x.onnx", **changes))


def test_a_file_that_onnxruntime_refuses(tmp_path: Path) -> None:
    path = quantized(tmp_path / "x.onnx")
    model = onnx.load(str(path))
    model.graph.node.append(helper.make_node("Nonsense", ["y"], ["z"], domain="nobody"))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    model.opset_import.add(domain="nobody", version=1)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ConvertError, match=r"refuses x\.onnx"):
        unfused(path)
