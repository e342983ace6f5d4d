"""The camera's byte is the input of 8-bit files: whatever the normalization, nothing is rounded, at padded borders neither."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import blobs
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from test_onnx_write import IMAGENET_MEAN, IMAGENET_STD, UNIFORM, operators, run
from torch import nn

from edgedistill.convert import calibration
from edgedistill.convert.graph import centred, logits_of, prepare
from edgedistill.convert.onnx_file import camera, load, tensor_values, unfused, write_onnx
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work, quantize
from edgedistill.recipe import HALF_MEAN, HALF_STD

PIXELS = model_pixels(blobs.frames(64, seed=2)[0], blobs.SPEC)
#: Every byte in every channel, the three channels' neighbours all different.
EVERY_BYTE = np.stack([np.random.default_rng(seed).permutation(256).reshape(16, 16) for seed in range(3)], axis=-1)[np.newaxis].astype(
    np.uint8
)


class Normalized(NamedTuple):
    """A student with its normalization, and what its files are made from."""

    student: nn.Module
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    work: Work


def work_of(student: nn.Module, folder: Path, *, mean=HALF_MEAN, std=HALF_STD) -> Work:
    graph = prepare(student, blobs.SPEC, mean=mean, std=std, classes=6)
    write_onnx(graph, folder / "fp32.onnx")
    ranges = calibration.ranges_of(calibration.observe(graph, PIXELS), "minmax")
    return Work(graph=graph, fp32=folder / "fp32.onnx", ranges=ranges, pixels_nhwc=PIXELS)


@pytest.fixture(
    scope="module", params=[(UNIFORM, HALF_STD), (HALF_MEAN, HALF_STD), (IMAGENET_MEAN, IMAGENET_STD)], ids=["128", "half", "imagenet"]
)
def normalized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Normalized:
    """Return a small student with each normalization; its first convolution pads."""
    mean, std = request.param
    torch.manual_seed(1)
    layers = (nn.Conv2d(3, 8, 3, stride=1, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    student = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 6)).eval()
    return Normalized(student, mean, std, work_of(student, tmp_path_factory.mktemp("normalized"), mean=mean, std=std))


@pytest.mark.slow
def test_fp32_answers_like_the_student_behind_its_normalization(normalized: Normalized) -> None:
    scaled = (torch.from_numpy(PIXELS).float() / 255 - torch.tensor(normalized.mean)) / torch.tensor(normalized.std)
    expected = normalized.student(scaled.permute(0, 3, 1, 2)).detach().numpy()
    assert run(normalized.work.fp32, centred(normalized.work.graph, PIXELS).numpy()) == pytest.approx(expected, abs=1e-5)
    assert set(operators(normalized.work.fp32)) <= {"Pad", "Transpose", "Conv", "Relu", "GlobalAveragePool", "Reshape", "Gemm"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["static_int8", "int16_activations", "weight_only_int8"])
def test_every_byte_is_exact_also_at_the_border(normalized: Normalized, tmp_path: Path, name: str) -> None:
    quantize("onnx", name, normalized.work, tmp_path / "x.onnx")
    model = load(tmp_path / "x.onnx")
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    values = tensor_values(tmp_path / "x.onnx", EVERY_BYTE)
    graph = normalized.work.graph
    image = centred(graph, EVERY_BYTE).permute(0, 3, 1, 2)
    if "Pad" in operators(tmp_path / "x.onnx"):
        image = torch.cat([image, torch.full((1, 1, 16, 16), 255.0 - graph.pixel_mean)], dim=1)
    assert np.array_equal(values[first.input[0]], image.numpy())
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    weight, bias = (torch.from_numpy(np.array(values.get(key, constants.get(key)))) for key in first.input[1:3])
    assert values[first.output[0]] == pytest.approx(nn.functional.conv2d(image, weight, bias, padding=1).clamp(min=-1e9).numpy(), abs=1e-4)


@pytest.mark.slow
def test_integer_kernels_answer_like_torch_whatever_the_normalization(normalized: Normalized, tmp_path: Path) -> None:
    quantize("onnx", "static_int8", normalized.work, tmp_path / "x.onnx")
    kernels = unfused(tmp_path / "x.onnx")
    assert (kernels.integer["QLinearConv"], kernels.floating, kernels.conversions) == (2, {}, 0)
    found, expected = run(tmp_path / "x.onnx", PIXELS), logits_of(normalized.work.graph, PIXELS)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.999


class Twice(nn.Module):
    """Uses the normalized image a second time, so that normalization cannot go into the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.head = nn.Linear(11, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat([self.stem(x).relu().mean((2, 3)), x.mean((2, 3))], 1))


@pytest.mark.slow
def test_normalization_that_stays_in_front_works_on_exact_bytes(tmp_path: Path) -> None:
    torch.manual_seed(2)
    work = work_of(Twice().eval(), tmp_path, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    assert not work.graph.folded
    quantize("onnx", "static_int8", work, tmp_path / "x.onnx")
    values = tensor_values(tmp_path / "x.onnx", EVERY_BYTE)
    assert any(np.array_equal(value, centred(work.graph, EVERY_BYTE).numpy()) for value in values.values() if value.shape == (1, 16, 16, 3))
    found, expected = run(tmp_path / "x.onnx", PIXELS), logits_of(work.graph, PIXELS)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995


def parsed(body: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]> g (float[1, 2, 2, 3] pixels) => {body}')
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}{i}"
    return model


def answers(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"pixels": pixels})[0]


PAD = """<int64[8] room = {0, 0, 0, 0, 0, 0, 0, 1}, float level = {155.0}>
{ p = Pad(pixels, room, level) t = Transpose<perm = [0, 3, 1, 2]>(p) y = Neg(t) }"""


@pytest.mark.parametrize(
    ("body", "tensor", "nodes"),
    [
        (f"(float[1, 4, 2, 2] y) {PAD}", "t", ("Pad0", "Transpose1")),
        ("(float[1, 2, 2, 3] y) { y = Neg(pixels) }", "pixels", ()),
        ("(float[1, 3, 2, 2] y) { t = Transpose<perm = [0, 3, 1, 2]>(pixels) y = Add(t, t) }", "t", ("Transpose0",)),
        ("(float[1, 2, 2, 3] y) { t = Transpose<perm = [0, 3, 1, 2]>(pixels) u = Neg(pixels) y = Neg(u) }", "pixels", ()),
        (f"(float[1, 4, 2, 2] y) {PAD.replace('155.0', '155.5')}", "pixels", ()),
        (f"(float[1, 4, 2, 2] y) {PAD.replace('155.0', '156.0')}", "pixels", ()),
        (f"(float[1, 4, 2, 2] y) {PAD.replace('155.0', '-101.0')}", "pixels", ()),
        (f"(float[1, 4, 2, 2] y) {PAD.replace('Pad(', 'Pad<mode = ' + chr(34) + 'edge' + chr(34) + '>(')}", "pixels", ()),
    ],
)
def test_how_far_the_image_goes(body: str, tensor: str, nodes: tuple[str, ...]) -> None:
    assert camera.image_of(parsed(body).graph, 100) == camera.Image(tensor, nodes)


@pytest.mark.parametrize(
    "body",
    [
        f"(float[1, 4, 2, 2] y) {PAD}",
        f"(float[1, 4, 2, 2] y) {PAD.replace(', level)', ')')}",
        "(float[1, 2, 2, 3] y) { y = Neg(pixels) }",
        f"(float[1, 4, 2, 2] y) {PAD.replace('155.0', '155.5')}",
        "(float[1, 2, 2, 3] y) { a = Neg(pixels) b = Exp(a) y = Add(b, pixels) }",
    ],
)
def test_bytes_give_what_their_floats_gave(body: str) -> None:
    model = parsed(body)
    pixels = np.array([0, 1, 99, 100, 101, 127, 128, 200, 253, 254, 255, 50], np.uint8).reshape(1, 2, 2, 3)
    expected = answers(model, pixels.astype(np.float32) - 100)
    camera.take_bytes(model, 100)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert np.array_equal(answers(model, pixels), expected)


def test_quantizing_the_image_goes_away() -> None:
    model = parsed(
        """(float[1, 3, 2, 2] y) <float s = {1.0}, uint8 z = {100}>
        { t = Transpose<perm = [0, 3, 1, 2]>(pixels) q = QuantizeLinear(t, s, z) d = DequantizeLinear(q, s, z) y = Neg(d) }"""
    )
    camera.take_bytes(model, 100)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "DequantizeLinear", "Neg"]
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert np.array_equal(answers(model, pixels), 100 - pixels.astype(np.float32).transpose(0, 3, 1, 2))
