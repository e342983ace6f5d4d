"""OpenCV, an interpreter that the files were not made for, reads the fp32 ONNX files and answers as torch does."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgedistill.convert.graph import Graph, centred, logits_of, prepare, with_softmax
from edgedistill.convert.onnx_file import write_onnx
from edgedistill.convert.quantize import Work
from edgedistill.distill import run

MODELS = Path(__file__).parents[3] / "models"
#: Shipped students: one with hard-swish and gates, one with a mean for each channel, which makes a fourth channel, and a ResNet.
SHIPPED = ("fashion-mnist-mobilenetv3", "garments-mobilenetv2", "fashion-mnist-resnet10t")


def by_opencv(path: Path, graph: Graph, pixels_nhwc: np.ndarray) -> np.ndarray:
    """Return OpenCV's answers, (N, classes)."""
    network = cv2.dnn.readNetFromONNX(str(path))
    answers = []
    for image in centred(graph, pixels_nhwc).numpy():
        network.setInput(image[np.newaxis])
        answers.append(network.forward().reshape(1, -1).copy())
    return np.concatenate(answers)


def test_opencv_answers_like_torch(onnx_work: Work) -> None:
    pixels = onnx_work.pixels_nhwc
    assert by_opencv(onnx_work.fp32, onnx_work.graph, pixels) == pytest.approx(logits_of(onnx_work.graph, pixels), abs=1e-4)


@pytest.mark.slow
def test_opencv_gives_probabilities(onnx_work: Work, tmp_path: Path) -> None:
    graph, pixels = with_softmax(onnx_work.graph), onnx_work.pixels_nhwc
    write_onnx(graph, tmp_path / "x.onnx")
    assert by_opencv(tmp_path / "x.onnx", graph, pixels) == pytest.approx(logits_of(graph, pixels), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_opencv_answers_like_a_shipped_student(name: str, tmp_path: Path) -> None:
    finished = run.load(MODELS / name)
    student = finished.student
    graph = prepare(student.module, finished.preprocess, mean=student.mean, std=student.std, classes=len(student.classes))
    write_onnx(graph, tmp_path / "x.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (8, graph.spec.height, graph.spec.width, 3), np.uint8)
    expected = logits_of(graph, pixels)
    assert by_opencv(tmp_path / "x.onnx", graph, pixels) == pytest.approx(expected, abs=1e-4 * float(np.abs(expected).max()))
