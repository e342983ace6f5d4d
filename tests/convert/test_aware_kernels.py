"""Fake quantization against what LiteRT's int8 kernels give, one operator after the other, and against a whole file."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import blobs
import numpy as np
import pytest
import small_graphs
import torch
from torch import nn
from torch.nn import functional

from edgedistill.convert import calibration
from edgedistill.convert.aware import Points, fake_quantized, points_of
from edgedistill.convert.aware.points import points_in
from edgedistill.convert.correct.harden import made_hard
from edgedistill.convert.graph import Graph, centred
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work, quantize
from edgedistill.convert.quantize.tflite_tensors import read_tensors
from edgedistill.convert.quiet import quietly
from edgedistill.convert.tflite_file import write_tflite

pytestmark = pytest.mark.slow


class Operators(nn.Module):
    """Every operator that MobileNets are made of; each is the end of a graph of its own."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.end = end
        torch.manual_seed(0)
        self.stem, self.depthwise, self.pointwise = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8 * 16, 10)
        self.stem.weight.data /= 128  # it sees pixels minus 128

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        positive = x.relu()
        ends = {
            "conv": lambda: positive,
            "depthwise": lambda: functional.relu6(3 * self.depthwise(x)),
            "add": lambda: x + self.pointwise(x).relu(),
            "average": lambda: functional.adaptive_avg_pool2d(x, (2, 1)),
            "excite": lambda: positive * functional.hardsigmoid(self.pointwise(positive.mean((2, 3), keepdim=True))),
            "hardswish": lambda: functional.hardswish(x),
            "linear": lambda: self.head(positive.flatten(1)),
        }
        return ends[self.end]().flatten(1)


def int8_file(work: Work, path: Path) -> Points:
    """Write a file that is int8 to its very end, but for hard-swish, and return its points."""
    from ai_edge_quantizer import quantizer, recipe, recipe_manager

    rules, tensors = recipe_manager.RecipeManager(), read_tensors(work)
    rules.load_quantization_recipe(recipe.static_wi8_ai8())
    rules.add_quantization_config(regex=".*", operation_name="HARD_SWISH", algorithm_key="no_quantize")
    statistics = {
        name: {
            key: np.full((1,) * tensors.ranks[name], end, np.float32) for key, end in zip(("min", "max"), tensors.ranges[name], strict=True)
        }
        for name in tensors.ranges
    }
    with quietly(), contextlib.redirect_stderr(io.StringIO()):
        task = quantizer.Quantizer(str(work.fp32), rules.get_quantization_recipe())
        path.write_bytes(bytes(task.quantize(statistics, enable_progress_bar=False, enable_progress_report=False).quantized_model))
    return points_in(path, tensors.nodes)


def answers(path: Path, graph: Graph, pixels: np.ndarray) -> tuple[np.ndarray, float, int]:
    """Return what a file answers as it is stored, with scale and zero point."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = taken["quantization"]
    assert scale in (0, 1)
    found = []
    for image in pixels:
        interpreter.set_tensor(taken["index"], (image.astype(np.float32) - graph.pixel_mean + zero).astype(taken["dtype"])[np.newaxis])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    return np.stack(found), *given["quantization"]


@pytest.mark.parametrize(
    ("end", "own"),
    [
        ("conv", {"relu"}),
        ("depthwise", {"conv2d", "relu6"}),
        ("add", {"conv2d", "relu_1", "add"}),
        ("average", {"conv2d"}),
        ("excite", {"relu", "mean", "hardtanh_default", "mul_tensor", "mul"}),
        ("hardswish", {"conv2d", "hardswish"}),
        ("linear", {"relu", "flatten_1"}),
    ],
)
def test_an_operator_gives_the_kernels_integers(tmp_path: Path, end: str, own: set[str]) -> None:
    rng = np.random.default_rng(0)
    pixels = (small_graphs.pixels(128) * rng.random((128, 1, 1, 3))).astype(np.uint8)
    network = Operators(end)
    graph = small_graphs.graph_of(network, classes=network(torch.zeros(1, 3, 8, 8)).shape[1])
    write_tflite(graph, tmp_path / "fp32.tflite")
    ranges = calibration.ranges_of(calibration.observe(graph, pixels[:64], histograms=False), "percentile")
    points = int8_file(Work(graph=graph, fp32=tmp_path / "fp32.tflite", ranges=ranges, pixels_nhwc=pixels), tmp_path / "int8.tflite")
    assert own <= set(points.stored.values())
    with torch.no_grad():
        found = fake_quantized(graph, ranges, points)(centred(graph, pixels)).numpy()
    expected, scale, zero = answers(tmp_path / "int8.tflite", graph, pixels)
    steps = np.abs(np.rint(found / scale + zero) - expected)
    assert steps.max() <= 1
    assert (steps == 0).mean() > 0.999


def test_on_a_student_hard_to_quantize_double_precision_decides_as_the_file_does(tmp_path: Path) -> None:
    """Small channels beside large ones make answers of the last step's rounding."""
    graph = made_hard(small_graphs.graph_of(*_layers(), classes=10), 0)
    pixels = (small_graphs.pixels(512) * np.random.default_rng(0).random((512, 1, 1, 3))).astype(np.uint8)
    write_tflite(graph, tmp_path / "fp32.tflite")
    ranges = calibration.ranges_of(calibration.observe(graph, pixels[:64], histograms=False), "percentile")
    work = Work(graph=graph, fp32=tmp_path / "fp32.tflite", ranges=ranges, pixels_nhwc=pixels)
    quantize("tflite", "static_int8", work, tmp_path / "int8.tflite")
    module = fake_quantized(graph, ranges, points_of(tmp_path / "int8.tflite", work)).double()
    with torch.no_grad():
        found = module(centred(graph, pixels).double()).numpy()
    expected, _, _ = answers(tmp_path / "int8.tflite", graph, pixels)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.995


def _layers() -> list[nn.Module]:
    torch.manual_seed(0)
    blocks = [[nn.Conv2d(8, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.ReLU(), nn.Conv2d(32, 8, 1)] for _ in range(3)]
    return [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), *(layer for block in blocks for layer in block), nn.Flatten(), nn.Linear(128, 10)]


def test_a_students_file_and_its_fake_quantization_agree(graph: Graph, tmp_path: Path) -> None:
    """Hard-swish and the last layer are float islands."""
    pixels = model_pixels(blobs.frames(512, seed=2)[0], blobs.SPEC)
    pixels = (pixels * np.random.default_rng(0).random((512, 1, 1, 1))).astype(np.uint8)  # darker ones, that are not so sure
    write_tflite(graph, tmp_path / "fp32.tflite")
    ranges = calibration.ranges_of(calibration.observe(graph, pixels[:64], histograms=False), "percentile")
    work = Work(graph=graph, fp32=tmp_path / "fp32.tflite", ranges=ranges, pixels_nhwc=pixels)
    quantize("tflite", "static_int8_float_islands", work, tmp_path / "int8.tflite")
    points = points_of(tmp_path / "int8.tflite", work)
    assert {"hardswish", "linear"} <= points.floating
    assert {"permute", "relu", "conv2d_1", "hardswish", "conv2d_2", "add"} <= set(points.stored.values())
    with torch.no_grad():
        found = fake_quantized(graph, ranges, points)(centred(graph, pixels)).numpy()
    expected, _, _ = answers(tmp_path / "int8.tflite", graph, pixels)
    assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.995
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
