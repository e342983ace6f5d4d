"""Where a file breaks: a student of two layers whose files are broken on purpose, one layer at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_bundle
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.convert import parity
from edgedistill.convert.file_values import values_of
from edgedistill.convert.graph import Graph, prepare
from edgedistill.convert.layer_noise import LayerError, snr_by_node, worst_layers
from edgedistill.convert.quantize import Work
from edgedistill.convert.tflite_file.flatbuffer import pack, read, text

SPEC = Preprocess(height=tiny_bundle.HEIGHT, width=tiny_bundle.WIDTH)
FP32, INT8 = tiny_bundle.DATA / "tiny-fp32.tflite", tiny_bundle.DATA / "tiny-int8.tflite"


class Colours(nn.Module):
    """The network of the tiny bundle, its normalization inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.Linear(3, 3)
        with torch.no_grad():
            mix = 1.5 * torch.eye(3) - 0.5
            self.conv.weight.copy_((mix / 9)[:, :, None, None].expand(3, 3, 3, 3))
            self.conv.bias.fill_(0.1)
            self.head.weight.copy_(4 * torch.eye(3) - 1)
            self.head.bias.copy_(torch.tensor([0.2, 0.0, -0.2]))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.conv((pixels - 128) / 127.5)).mean((2, 3)))


@pytest.fixture(scope="module")
def graph() -> Graph:
    return prepare(Colours().eval(), SPEC, mean=(0.0, 0.0, 0.0), std=(1 / 255, 1 / 255, 1 / 255), classes=3)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Return darker and darker red cards with noise, (6, H, W, 3) uint8 RGB; the int8 file was calibrated on a red card."""
    rng = np.random.default_rng(5)
    card = tiny_bundle.card("red", height=SPEC.height, width=SPEC.width)[..., ::-1].astype(int)
    darker = np.stack([card * share // 10 for share in range(10, 4, -1)])
    return (darker + rng.integers(-20, 20, darker.shape)).clip(0, 255).astype(np.uint8)


def work(graph: Graph, pixels: np.ndarray, fp32: Path) -> Work:
    return Work(graph=graph, fp32=fp32, ranges={}, pixels_nhwc=pixels)


def damaged(path: Path, *, shape: list[int]) -> Path:
    """Write the int8 TFLite file with the weights of this shape set to 0."""
    model = read(INT8)
    (tensor,) = [one for one in model.subgraphs[0].tensors if list(one.shape) == shape and model.buffers[one.buffer].data is not None]
    model.buffers[tensor.buffer].data = np.zeros_like(model.buffers[tensor.buffer].data)
    path.write_bytes(pack(model))
    return path


def onnx_fp32(path: Path) -> Path:
    path.write_bytes(tiny_bundle.onnx_model())
    return path


def onnx_quantized(path: Path, *, tensor: str, step: float) -> Path:
    """Write the ONNX file with one tensor rounded to multiples of a step, in 8 bits."""
    model = onnx.load_from_string(tiny_bundle.onnx_model())
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.float32(step), "step"))
    graph.initializer.append(numpy_helper.from_array(np.uint8(0), "zero"))
    for node in graph.node:
        node.input[:] = ["read_back" if name == tensor else name for name in node.input]
    place = next(i for i, node in enumerate(graph.node) if tensor in node.output)
    graph.node.insert(place + 1, helper.make_node("QuantizeLinear", [tensor, "step", "zero"], ["stored"]))
    graph.node.insert(place + 2, helper.make_node("DequantizeLinear", ["stored", "step", "zero"], ["read_back"]))
    onnx.save(model, str(path))
    return path


def test_a_sound_int8_file_has_little_noise_anywhere(graph: Graph, pixels: np.ndarray) -> None:
    found = worst_layers(INT8, work(graph, pixels, FP32))
    assert [error.layer for error in found] == ["head", "mean", "relu"]  # the convolution is merged with its ReLU; pixels are exact
    assert all(35 < error.snr_db < 60 for error in found)
    assert [error.snr_db for error in found] == sorted(error.snr_db for error in found)


@pytest.mark.parametrize(("shape", "layer"), [([3, 3, 3, 3], "relu"), ([3, 3], "head")])
def test_the_layer_that_is_broken_in_tflite_is_named(
    graph: Graph, pixels: np.ndarray, tmp_path: Path, shape: list[int], layer: str
) -> None:
    found = worst_layers(damaged(tmp_path / "x.tflite", shape=shape), work(graph, pixels, FP32))
    broken = [error for error in found if error.snr_db < 6 and error.before_db > 30]
    assert [error.layer for error in broken] == [layer]


def test_the_layer_that_is_broken_in_onnx_is_named(graph: Graph, pixels: np.ndarray, tmp_path: Path) -> None:
    fine = onnx_quantized(tmp_path / "fine.onnx", tensor="relu", step=0.01)
    coarse = onnx_quantized(tmp_path / "coarse.onnx", tensor="relu", step=1.5)
    start = work(graph, pixels, onnx_fp32(tmp_path / "fp32.onnx"))
    ratios, rough = snr_by_node(fine, start), snr_by_node(coarse, start)
    assert ratios["relu"] > 35
    assert rough["relu"] < 15
    assert rough["conv2d"] > 100  # what lies in front is untouched
    assert worst_layers(coarse, start)[0].layer in ("relu", "mean", "head")


def test_the_ratio_is_signal_over_noise_of_all_images(graph: Graph, pixels: np.ndarray, tmp_path: Path) -> None:
    step = 0.3
    start = work(graph, pixels, onnx_fp32(tmp_path / "fp32.onnx"))
    found = snr_by_node(onnx_quantized(tmp_path / "x.onnx", tensor="relu", step=step), start)
    network = Colours()
    with torch.inference_mode():
        exact = torch.relu(network.conv((torch.from_numpy(pixels).permute(0, 3, 1, 2) - 128.0) / 127.5)).double()
    rounded = (exact / step).round().clamp(0, 255) * step
    expected = 10 * math.log10(float(exact.square().sum() / (exact - rounded).square().sum()))
    assert found["relu"] == pytest.approx(expected, abs=0.05)


def test_a_sum_whose_relu_was_taken_out_is_what_is_read_back_of_it(graph: Graph, pixels: np.ndarray, tmp_path: Path) -> None:
    """onnxruntime's quantizer gives the convolution the ReLU's name, and leaves cutting off what is below 0 to the 8 bits."""
    path = onnx_quantized(tmp_path / "x.onnx", tensor="relu", step=0.01)
    model = onnx.load(str(path))
    (relu,) = [node for node in model.graph.node if node.op_type == "Relu"]
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    model.graph.node.remove(relu)
    convolution.output[0] = "relu"
    onnx.save(model, str(path))
    found = snr_by_node(path, work(graph, pixels, onnx_fp32(tmp_path / "fp32.onnx")))
    assert found["relu"] > 35


def test_only_so_many_layers_are_named(graph: Graph, pixels: np.ndarray) -> None:
    assert len(worst_layers(INT8, work(graph, pixels, FP32), count=1)) == 1


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (LayerError("blocks.0.conv", 12.34, 30.06), "blocks.0.conv: 12.3 dB (30.1 dB before it)"),
        (LayerError("stem", 40.0, math.inf), "stem: 40.0 dB (exact input)"),
    ],
)
def test_a_layer_is_shown_with_what_goes_in(error: LayerError, shown: str) -> None:
    assert str(error) == shown


def test_the_ladder_offers_the_same(graph: Graph) -> None:
    assert parity.worst_layers is worst_layers
    assert parity.LayerError is LayerError


def test_values_of_a_tflite_file_are_real_numbers_under_its_names(graph: Graph, pixels: np.ndarray) -> None:
    plain, small = (values_of(path)(pixels[:1], graph.pixel_mean) for path in (FP32, INT8))
    common = plain.keys() & small.keys()
    assert len(common) >= 3
    for name in common:
        assert small[name].dtype == np.float32
        assert np.abs(small[name] - plain[name]).max() <= 0.05 * np.abs(plain[name]).max() + 0.05
    names = {text(tensor.name) for tensor in read(FP32).subgraphs[0].tensors}
    assert plain.keys() <= names


@pytest.mark.parametrize("kind", ["bytes", "floats"])
def test_values_of_an_onnx_file_that_takes_bytes_or_floats(pixels: np.ndarray, tmp_path: Path, kind: str) -> None:
    model: Any = onnx.load_from_string(tiny_bundle.onnx_model())
    if kind == "floats":  # it takes pixels minus 100 in float
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
        next(item for item in model.graph.initializer if item.name == "mean").CopyFrom(numpy_helper.from_array(np.float32(28), "mean"))
    path = tmp_path / "x.onnx"
    onnx.save(model, str(path))
    found = values_of(path)(pixels[:1], 100)
    assert found["scaled"] == pytest.approx((pixels[:1].astype(np.float32) - 128) / 127.5, abs=1e-6)
    assert found["logits"].shape == (1, 3)
