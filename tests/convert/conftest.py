"""A trained student and its ONNX files, made once: what most tests of converting start from."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import blobs
import pytest
from torch import nn

from edgedistill.convert.graph import RawPixels, prepare
from edgedistill.convert.onnx_fp32 import write_onnx
from edgedistill.convert.onnx_int8 import quantize_onnx
from edgedistill.convert.pixels import model_pixels
from edgedistill.recipe import HALF_MEAN, HALF_STD


class OnnxPair(NamedTuple):
    """The fp32 file, the int8 file and the graph they come from."""

    fp32: Path
    int8: Path
    graph: RawPixels


@pytest.fixture(scope="session")
def student() -> nn.Module:
    """Return a student that knows its task; do not change it."""
    return blobs.trained()


@pytest.fixture(scope="session")
def onnx_pair(student: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> OnnxPair:
    """Return the student's ONNX files; do not change them."""
    folder = tmp_path_factory.mktemp("onnx")
    graph = prepare(student, blobs.SPEC, mean=HALF_MEAN, std=HALF_STD, classes=len(blobs.LABELS))
    write_onnx(graph, folder / "blobs-fp32.onnx", spec=blobs.SPEC)
    pixels = model_pixels(blobs.frames(32, seed=3)[0], blobs.SPEC)
    quantize_onnx(folder / "blobs-fp32.onnx", folder / "blobs-int8.onnx", graph=graph, pixels_nhwc=pixels)
    return OnnxPair(folder / "blobs-fp32.onnx", folder / "blobs-int8.onnx", graph)
