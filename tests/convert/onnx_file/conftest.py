"""A student's fp32 ONNX file and its ranges, made once."""

from __future__ import annotations

import blobs
import pytest

from edgedistill.convert import calibration
from edgedistill.convert.graph import Graph
from edgedistill.convert.onnx_file import write_onnx
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.quantize import Work


@pytest.fixture(scope="session")
def onnx_work(graph: Graph, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Return what ONNX recipes start from: the student's fp32 file and its ranges; do not change it."""
    path = tmp_path_factory.mktemp("onnx") / "blobs-fp32.onnx"
    write_onnx(graph, path)
    pixels = model_pixels(blobs.frames(32, seed=3)[0], blobs.SPEC)
    ranges = calibration.ranges_of(calibration.observe(graph, pixels), "percentile")
    return Work(graph=graph, fp32=path, ranges=ranges, pixels_nhwc=pixels)
