"""Writing by litert-torch: what is missing or cannot be converted is told, and (slow) the file is the graph."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import blobs
import finished
import numpy as np
import pytest
from torch import nn

from edgedistill.convert.graph import Graph, logits_of
from edgedistill.convert.pixels import model_pixels
from edgedistill.convert.tflite_file import describe_tflite, write_tflite
from edgedistill.errors import ConvertError, MissingExtraError


def test_a_missing_converter_says_what_to_install(graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(MissingExtraError, match=r"litert-torch is not installed.*edgedistill\[workstation\]"):
        write_tflite(graph, tmp_path / "x.tflite")


class Converter(types.ModuleType):
    """Stands for litert-torch: fails, or writes nothing."""

    config = types.SimpleNamespace(show_progress=True)

    def __init__(self, failure: Exception | None) -> None:
        super().__init__("litert_torch")
        self.failure = failure

    def convert(self, module: nn.Module, example: object) -> Converter:
        if self.failure is not None:
            raise self.failure
        return self

    def export(self, path: str) -> None:
        """Write nothing."""


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (RuntimeError("\n  no lowering for aten.fft\n  a long trace"), r"could not convert x\.tflite: no lowering for aten\.fft; leave"),
        (ValueError(), r"could not convert x\.tflite: ValueError; leave tflite out"),
        (None, r"wrote no x\.tflite; leave tflite out of export\.formats"),
    ],
)
def test_a_failed_conversion_is_told_in_one_line(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, message: str
) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", Converter(failure))
    with pytest.raises(ConvertError, match=message):
        write_tflite(graph, tmp_path / "x.tflite")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_written_file_is_the_graph_and_the_same_each_time(graph: Graph, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path, again = tmp_path / "a.tflite", tmp_path / "b.tflite"
    write_tflite(graph, path)
    write_tflite(graph, again)
    assert capfd.readouterr() == ("", "")
    assert path.read_bytes() == again.read_bytes()
    assert sys.prefix.encode() not in path.read_bytes()
    found = describe_tflite(path)
    assert (found.input.shape, found.input.dtype, found.output.shape, found.partitions) == ([1, 16, 16, 3], "float32", [1, 6], 1)
    assert not {"SUB", "DIV"} & set(found.operators), "normalization is in the weights"
    pixels = model_pixels(blobs.frames(64, seed=5)[0], blobs.SPEC)
    expected = logits_of(graph, pixels)
    assert finished.raw(path, pixels.astype(np.float32) - graph.pixel_mean) == pytest.approx(expected, abs=1e-3)
    facts = finished.facts(labels=tuple(blobs.LABELS), spec=blobs.SPEC, pixel_mean=graph.pixel_mean)
    done = finished.finished(path, tmp_path / "c.tflite", facts)
    assert finished.run(done, facts, pixels) == pytest.approx(expected, abs=1e-3)
