"""The student's graph as an fp32 ONNX file: float32 (1, H, W, 3) pixels minus `pixel_mean` in, logits (1, classes) out.

Each operator is named after the student's layer that it comes from, such as `blocks.0.0.conv_dw/Conv`: what a runtime, a profiler or
the audit says of an operator can then be understood. The same graph gives the same bytes.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from edgedistill.convert.graph import Graph, blame
from edgedistill.convert.graph.prepare import example
from edgedistill.convert.onnx_file.model import INPUT, OUTPUT, require_onnx, save
from edgedistill.convert.onnx_file.tidy import tidy
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, MissingExtraError

#: What the exporter writes without a version conversion, and what onnxruntime reads since 1.14.
OPSET = 18
#: Where the exporter tells which layers an operator is in, outermost first, its own name last.
_SCOPES = "pkg.torch.onnx.name_scopes"


def write_onnx(graph: Graph, path: Path) -> None:
    """Write the graph to `path`, checked by onnx's own checker.

    Raises ConvertError for operators that ONNX does not have, and MissingExtraError.
    """
    require_onnx()
    try:
        import onnxscript  # noqa: F401  (the exporter needs it and says so less clearly)
    except ImportError as error:
        raise MissingExtraError(error.name or "onnxscript", "workstation") from error
    try:
        with quietly():
            model = _exported(graph)
            name_by_layer(model)
            tidy(model)
            _name_output(model.graph)
            save(model, path)
    except ConvertError:
        raise
    except OSError:
        raise
    except Exception as error:  # the exporter raises classes of its own, some straight from Exception
        raise ConvertError(f"torch.onnx could not export {path.name}: {blame(graph, error)}; leave onnx out of export.formats") from error


def _exported(graph: Graph) -> Any:
    program = torch.onnx.export(
        graph.module,
        (example(graph.spec),),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=[OUTPUT],
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _name_output(graph: Any) -> None:
    """Call the output what it is where softmax is part of the graph."""
    last = graph.node[-1]
    if last.op_type == "Softmax":
        last.output[0] = graph.output[0].name = "probabilities"


def name_by_layer(model: Any) -> None:
    """Name every operator LAYER/OPERATOR by what the exporter wrote beside it; a number makes names differ."""
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        layer = _layer_of(node)
        name = f"{layer}/{node.op_type}" if layer else node.op_type
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def _layer_of(node: Any) -> str:
    text = next((item.value for item in node.metadata_props if item.key == _SCOPES), "[]")
    try:
        scopes = ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return ""
    return str(scopes[-2]).removeprefix("network").removeprefix(".") if len(scopes) > 1 else ""
