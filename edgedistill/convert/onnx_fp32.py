"""The student as an ONNX file: one file, float32, uint8 RGB pixels (1, H, W, 3) in, logits (1, classes) out."""

from __future__ import annotations

from pathlib import Path

import torch

from edgedistill.bundle import Preprocess, write_atomically
from edgedistill.convert.graph import RawPixels, example
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, MissingExtraError

INPUT, OUTPUT = "pixels", "logits"
#: What the exporter writes without a version conversion, and what onnxruntime reads since 1.14.
OPSET = 18


def write_onnx(graph: RawPixels, path: Path, *, spec: Preprocess) -> None:
    """Export the graph to `path`, checked by onnx's own checker; the same student gives the same bytes."""
    try:
        import onnx
        import onnxscript  # noqa: F401  (the exporter needs it and says so less clearly)
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "workstation") from error
    try:
        with quietly():
            program = torch.onnx.export(
                graph,
                (example(spec, torch.uint8),),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
        strip(model)
        model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ConvertError(f"torch.onnx could not export {path.name}: {_first_line(error)}; leave onnx out of export.formats") from error
    write_atomically(path, model.SerializeToString(deterministic=True))


def strip(model: object) -> None:
    """Remove doc strings and metadata from an onnx.ModelProto: they hold stack traces with the exporting machine's paths."""
    from onnx import ModelProto

    assert isinstance(model, ModelProto)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, *model.functions):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
