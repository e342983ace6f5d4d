"""Every way to quantize an ONNX file, on a small trained student: what it answers, what is stored, which kernels it runs by."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import blobs
import numpy as np
import pytest
from onnx import numpy_helper
from test_onnx_write import run, secrets

from edgedistill.convert import calibration
from edgedistill.convert.graph import centred, logits_of
from edgedistill.convert.onnx_file import arithmetic, describe_onnx, load, tensor_values, unfused
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work, names, quantize
from edgedistill.errors import ConvertError, MissingExtraError

FRAMES, LABELS = blobs.frames(256, seed=2)
PIXELS = model_pixels(FRAMES, blobs.SPEC)
RECIPES = ("static_int8", "static_int8_float_islands", "int16_activations", "weight_only_int8", "float16")
STATIC = RECIPES[:3]
#: By recipe: the smallest correlation with the student's logits.
CORRELATION = dict.fromkeys(RECIPES, 0.9995) | {"static_int8": 0.995, "static_int8_float_islands": 0.995}


@pytest.fixture(scope="session")
def files(onnx_work: Work, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the student's file of every recipe; do not change them."""
    folder = tmp_path_factory.mktemp("recipes")
    for name in RECIPES:
        quantize("onnx", name, onnx_work, folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in RECIPES}


def feed(file: Path, work: Work, pixels: np.ndarray) -> np.ndarray:
    """Return pixels as the file takes them."""
    return pixels if describe_onnx(file).input.dtype == "uint8" else centred(work.graph, pixels).numpy()


def test_the_recipes_come_in_the_order_in_which_they_are_tried() -> None:
    assert names("onnx") == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_it_answers_like_the_student(files: dict[str, Path], onnx_work: Work, name: str) -> None:
    found, expected = run(files[name], feed(files[name], onnx_work, PIXELS)), logits_of(onnx_work.graph, PIXELS)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > CORRELATION[name]
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.98
    assert (found.argmax(1) == LABELS).mean() > 0.95


@pytest.mark.parametrize("name", RECIPES)
def test_the_same_ranges_give_the_same_bytes(files: dict[str, Path], onnx_work: Work, tmp_path: Path, capfd, name: str) -> None:
    quantize("onnx", name, onnx_work, tmp_path / "again.onnx")
    content = files[name].read_bytes()
    assert (tmp_path / "again.onnx").read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["again.onnx"]
    assert capfd.readouterr() == ("", "")
    assert [secret for secret in secrets(files[name].parent) if secret.encode() in content] == []


@pytest.mark.parametrize(
    ("name", "dtype", "runtime"),
    [(name, "float32" if name == "float16" else "uint8", "1.17" if name == "int16_activations" else "1.14") for name in RECIPES],
)
def test_eight_bit_files_take_the_cameras_bytes(files: dict[str, Path], name: str, dtype: str, runtime: str) -> None:
    facts = describe_onnx(files[name])
    assert (facts.input.dtype, facts.input.quantization, facts.output.dtype) == (dtype, None, "float32")
    assert facts.minimum_runtime == f"onnxruntime>={runtime}"


@pytest.mark.parametrize("name", RECIPES)
def test_every_byte_reaches_the_first_layer_unrounded(files: dict[str, Path], onnx_work: Work, name: str) -> None:
    bytes_nhwc = np.arange(256 * 3, dtype=np.int64).reshape(1, 16, 16, 3) * 85 % 256
    image = bytes_nhwc.astype(np.uint8)
    assert len(np.unique(image[..., 1])) == 256
    model = load(files[name])
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    values = tensor_values(files[name], feed(files[name], onnx_work, image))
    assert np.array_equal(values[first.input[0]], centred(onnx_work.graph, image).numpy().transpose(0, 3, 1, 2))


def test_no_way_through_float_leads_from_the_camera_to_the_first_layer(files: dict[str, Path]) -> None:
    nodes = list(load(files["static_int8"]).graph.node)
    assert [node.op_type for node in nodes[:2]] == ["Transpose", "DequantizeLinear"]
    assert nodes[0].input[0] == "pixels"
    assert nodes[1].input[0] == nodes[0].output[0]


def test_static_int8_runs_by_integer_kernels_but_for_hard_swish(files: dict[str, Path]) -> None:
    kernels = unfused(files["static_int8"])
    assert (kernels.integer["QLinearConv"], kernels.integer["QLinearAdd"], kernels.integer["QGemm"]) == (3, 1, 1)
    assert (kernels.floating, kernels.layers) == ({"HardSwish": 1}, {"HardSwish": ("depthwise.2",)})
    assert kernels.conversions == 2
    assert describe_onnx(files["static_int8"]).outside == kernels.floating


def test_int8_answers_the_same_with_integer_kernels_and_in_float_arithmetic(files: dict[str, Path]) -> None:
    # Without reduced weights, a processor that clips 16-bit sums would differ here by whole classes.
    exact, fused = tensor_values(files["static_int8"], PIXELS)["logits"], run(files["static_int8"], PIXELS)
    assert np.abs(exact - fused).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("static_int8", "U8S8 with reduce_range: weights of 7 bits"),
        ("static_int8_float_islands", "U8S8 with reduce_range: weights of 7 bits"),
        ("int16_activations", None),
        ("weight_only_int8", None),
        ("float16", None),
    ],
)
def test_how_a_file_multiplies_is_told(files: dict[str, Path], name: str, label: str | None) -> None:
    found = arithmetic(files[name])
    assert (found.label if found else None) == label


def stored(path: Path) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in load(path).graph.initializer}


@pytest.mark.parametrize(("name", "largest"), [("static_int8", 64), ("int16_activations", 127), ("weight_only_int8", 127)])
def test_weights_are_per_channel(files: dict[str, Path], name: str, largest: int) -> None:
    values = stored(files[name])
    weights = {name: value for name, value in values.items() if value.dtype == np.int8 and value.ndim >= 2}
    assert len(weights) == 4
    for key, weight in weights.items():
        scale = values[key.replace("_quantized", "_scale").replace("_int8", "_scale")]
        assert scale.size == len(weight)
        assert largest // 2 < np.abs(weight.astype(int)).max() <= largest


def test_16_bits_are_symmetric(files: dict[str, Path]) -> None:
    zero_points = [value for value in stored(files["int16_activations"]).values() if value.dtype == np.int16]
    assert zero_points
    assert not any(value.any() for value in zero_points)


def test_float16_stores_halves(files: dict[str, Path]) -> None:
    assert {value.dtype for value in stored(files["float16"]).values() if value.size >= 64} == {np.dtype(np.float16)}


@pytest.mark.parametrize("name", STATIC)
def test_logits_are_not_rounded(files: dict[str, Path], name: str) -> None:
    assert next(node for node in load(files[name]).graph.node if "logits" in node.output).op_type == "Gemm"


def test_the_ranges_are_the_graphs_own(files: dict[str, Path], onnx_work: Work) -> None:
    values = stored(files["static_int8"])
    scales = {float(value) for name, value in values.items() if value.dtype == np.float32 and value.size == 1}
    graph = onnx_work.graph.module.graph
    rounded = [node.name for node in graph.nodes if "add" in node.name or "hardswish" in node.name or "relu" in node.name]
    assert len(rounded) == 3
    for name in rounded:
        low, high = onnx_work.ranges[name]
        assert any(scale == pytest.approx((high - low) / 255, rel=1e-5) for scale in scales), name


def test_a_value_of_unknown_range_stays_float(onnx_work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def but_the_sum(*arguments):
        return {tensor: node for tensor, node in calibration_match(*arguments).items() if "add" not in node}

    calibration_match = calibration.match
    monkeypatch.setattr(calibration, "match", but_the_sum)
    quantize("onnx", "static_int8", onnx_work, tmp_path / "x.onnx")
    kernels = unfused(tmp_path / "x.onnx")
    assert kernels.floating["Add"] == 1
    assert (run(tmp_path / "x.onnx", PIXELS).argmax(1) == LABELS).mean() > 0.95


def test_a_file_that_is_none(onnx_work: Work, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(ConvertError, match=r"broken\.onnx is not an ONNX file"):
        quantize("onnx", "static_int8", dataclasses.replace(onnx_work, fp32=tmp_path / "broken.onnx"), tmp_path / "x.onnx")
    assert [item.name for item in tmp_path.iterdir()] == ["broken.onnx"]


def test_a_missing_quantizer_says_what_to_install(onnx_work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(MissingExtraError, match=r"edgedistill\[workstation\]"):
        quantize("onnx", "static_int8", onnx_work, tmp_path / "x.onnx")
