"""TFLite files: ranges and int8 from a committed fp32 file, and (slow) the conversion itself."""

from __future__ import annotations

import sys
from pathlib import Path

import blobs
import numpy as np
import pytest
import tiny_bundle
from torch import nn

from edgedistill.convert.describe import describe_tflite, read_operators
from edgedistill.convert.graph import logits_of, prepare
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.tflite_fp32 import write_tflite
from edgedistill.convert.tflite_int8 import KEPT, _extremes, quantize_tflite, ranges_of
from edgedistill.errors import ConvertError, MissingExtraError
from edgedistill.recipe import HALF_MEAN, HALF_STD

SOURCE = tiny_bundle.DATA / "tiny-fp32.tflite"
RNG = np.random.default_rng(0)
DIM = RNG.integers(60, 90, (20, 12, 16, 3), dtype=np.uint8)


def run(path: Path, pixels_nhwc: np.ndarray) -> np.ndarray:
    """Return a TFLite file's dequantized logits, one image at a time."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    image, logits = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rows = []
    for pixels in pixels_nhwc.astype(np.float32):
        stored = pixels - 128 if image["dtype"] == np.int8 else pixels
        interpreter.set_tensor(image["index"], stored[np.newaxis].astype(image["dtype"]))
        interpreter.invoke()
        scale, zero_point = logits["quantization"]
        value = interpreter.get_tensor(logits["index"])[0].astype(np.float32)
        rows.append((value - zero_point) * scale if scale else value)
    return np.array(rows)


def range_of(operator: str, ranges: dict) -> tuple[float, float]:
    """Return the range of the output of the file's first such operator."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(SOURCE))
    index = next(item.outputs[0] for item in read_operators(SOURCE)[0] if item.name == operator)
    name = next(item["name"] for item in interpreter.get_tensor_details() if item["index"] == index)
    return float(ranges[name]["min"].item()), float(ranges[name]["max"].item())


def test_the_input_ranges_are_black_to_white_whatever_the_images_show() -> None:
    ranges = ranges_of(SOURCE, DIM)
    name = describe_tflite(SOURCE).input.name
    assert (ranges[name]["min"].item(), ranges[name]["max"].item()) == (0, 255)
    assert ranges[name]["min"].shape == (1, 1, 1, 1)
    assert range_of("SUB", ranges) == (-128, 127)
    assert range_of("MUL", ranges) == pytest.approx((-128 / 127.5, 127 / 127.5))


def test_other_ranges_are_near_the_extremes_of_the_images_in_any_order() -> None:
    forward, backward = ranges_of(SOURCE, DIM), ranges_of(SOURCE, DIM[::-1])
    assert forward == backward
    low, high = range_of("FULLY_CONNECTED", forward)
    logits = run(SOURCE, DIM)
    assert (low, high) == pytest.approx(
        (np.percentile(logits.min(axis=-1), 100 - KEPT), np.percentile(logits.max(axis=-1), KEPT)), abs=1e-5
    )
    assert logits.min() <= low < high <= logits.max()


class BrightnessOnly:
    """An interpreter with one activation: the image's brightness and its negative."""

    def get_input_details(self) -> list[dict[str, int]]:
        return [{"index": 0}]

    def set_tensor(self, index: int, image: np.ndarray) -> None:
        self.brightness = float(image.mean())

    def invoke(self) -> None:
        self.answer = np.array([-self.brightness, self.brightness])

    def get_tensor(self, index: int) -> np.ndarray:
        return self.answer


@pytest.mark.parametrize(("kept", "expected"), [(KEPT, 10.0), (100, 200.0)])
def test_one_extreme_image_among_many_does_not_set_the_range(kept: float, expected: float) -> None:
    images = np.full((400, 2, 2, 3), 10, np.uint8)
    images[7] = 200
    assert _extremes(BrightnessOnly(), [1], images, kept=kept) == {1: pytest.approx((-expected, expected))}


def test_only_activations_have_ranges() -> None:
    operators, inputs = read_operators(SOURCE)
    assert len(ranges_of(SOURCE, DIM)) == len(inputs) + len(operators)


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tflite") / "x.tflite"
    pixels = np.stack([tiny_bundle.card(label, height=12, width=16)[..., ::-1] for label in tiny_bundle.LABELS] * 6)
    quantize_tflite(SOURCE, path, pixels_nhwc=np.concatenate([pixels, RNG.integers(0, 256, pixels.shape, dtype=np.uint8)]))
    return path


def test_int8_input_is_the_byte_less_128(int8: Path) -> None:
    facts = describe_tflite(int8)
    assert facts.input.dtype == facts.output.dtype == "int8"
    assert facts.input.quantization is not None
    assert (facts.input.quantization.scale, facts.input.quantization.zero_point) == (1.0, -128)
    assert facts.partitions == 1


def test_int8_answers_like_fp32(int8: Path) -> None:
    pixels = RNG.integers(0, 256, (50, 12, 16, 3), dtype=np.uint8)
    assert run(int8, pixels) == pytest.approx(run(SOURCE, pixels), abs=0.1)


def test_int8_says_nothing_on_the_way(int8: Path, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    quantize_tflite(SOURCE, tmp_path / "again.tflite", pixels_nhwc=DIM)
    out, err = capfd.readouterr()
    assert out == ""
    assert "it/s" not in err
    assert [item.name for item in tmp_path.iterdir()] == ["again.tflite"]


def test_int8_of_the_same_images_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        quantize_tflite(SOURCE, tmp_path / name, pixels_nhwc=DIM)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_that_cannot_be_quantized(tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"no flatbuffer at all, only text that is long enough")
    with pytest.raises(ConvertError, match=r"could not quantize broken\.tflite"):
        quantize_tflite(tmp_path / "broken.tflite", tmp_path / "x.tflite", pixels_nhwc=DIM)
    assert [item.name for item in tmp_path.iterdir()] == ["broken.tflite"]


def test_a_missing_quantizer_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
    with pytest.raises(MissingExtraError, match=r"ai-edge-quantizer is not installed.*edgedistill\[workstation\]"):
        quantize_tflite(SOURCE, tmp_path / "x.tflite", pixels_nhwc=DIM)


def test_a_missing_converter_says_what_to_install(student: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    graph = prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6)
    with pytest.raises(MissingExtraError, match=r"litert-torch is not installed.*edgedistill\[workstation\]"):
        write_tflite(graph, tmp_path / "x.tflite", spec=blobs.SPEC)


@pytest.mark.slow
def test_a_converted_student_answers_like_torch_without_transposes(student: nn.Module, tmp_path: Path, capfd) -> None:
    graph = prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=6)
    for name in ("a.tflite", "b.tflite"):
        write_tflite(graph, tmp_path / name, spec=blobs.SPEC)
    assert capfd.readouterr() == ("", "")
    facts = describe_tflite(tmp_path / "a.tflite")
    assert facts.input.shape == [1, 16, 16, 3]
    assert "TRANSPOSE" not in list(facts.operators)[:3]
    pixels = model_pixels(blobs.frames(64, seed=5)[0], blobs.SPEC)
    assert run(tmp_path / "a.tflite", pixels) == pytest.approx(logits_of(graph, pixels), abs=1e-3)
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()
    assert sys.prefix.encode() not in (tmp_path / "a.tflite").read_bytes()
    quantize_tflite(tmp_path / "a.tflite", tmp_path / "c.tflite", pixels_nhwc=pixels)
    quantized = describe_tflite(tmp_path / "c.tflite")
    assert quantized.operators["HARD_SWISH"] == quantized.operators["QUANTIZE"] == 1
