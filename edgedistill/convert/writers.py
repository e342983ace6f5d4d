"""The writers of fp32 files by format, and what finishes and reads back a file of either format."""

from __future__ import annotations

from pathlib import Path

from edgedistill.convert.describe import Facts
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.graph import Graph


def write_fp32(graph: Graph, path: Path, *, onnx2tf: Path | None = None) -> None:
    """Write a graph in the format of the path's suffix; TFLite by litert-torch, or from ONNX by an environment with onnx2tf."""
    if path.suffix == ".onnx":
        from edgedistill.convert.onnx_file import write_onnx

        write_onnx(graph, path)
    elif onnx2tf is not None:
        from edgedistill.convert.onnx2tf_writer import write_by_onnx2tf
        from edgedistill.convert.onnx_file import write_onnx

        source = path.with_suffix(".source.onnx")
        write_onnx(graph, source)
        write_by_onnx2tf(source, path, python=onnx2tf)
    else:
        from edgedistill.convert.tflite_file import write_tflite

        write_tflite(graph, path)


def finish(path: Path, facts: FileFacts) -> None:
    """Write into a file what its users need to know of it."""
    if path.suffix == ".onnx":
        from edgedistill.convert import onnx_file

        onnx_file.finish(path, facts)
    else:
        from edgedistill.convert import tflite_file

        tflite_file.finish(path, facts)


def describe(path: Path) -> Facts:
    """Read back what a file is."""
    if path.suffix == ".onnx":
        from edgedistill.convert.onnx_file import describe_onnx

        return describe_onnx(path)
    from edgedistill.convert.tflite_file import describe_tflite

    return describe_tflite(path)
