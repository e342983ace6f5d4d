"""The student's graph as a TFLite file by litert-torch: float32 (1, H, W, 3) pixels minus `pixel_mean` in, logits (1, classes) out."""

from __future__ import annotations

from pathlib import Path

from edgedistill.convert.graph import Graph, blame
from edgedistill.convert.graph.prepare import example
from edgedistill.convert.quiet import quietly
from edgedistill.convert.tflite_file.fourth_channel import beside
from edgedistill.errors import ConvertError, MissingExtraError


def write_tflite(graph: Graph, path: Path) -> None:
    """Convert the graph to `path`, without TensorFlow; the same graph gives the same bytes.

    Raises ConvertError and MissingExtraError.
    """
    with quietly():
        try:
            import litert_torch
        except ImportError as error:
            raise MissingExtraError("litert-torch", "workstation") from error
        litert_torch.config.show_progress = False
        try:
            litert_torch.convert(beside(graph).module, (example(graph.spec),)).export(str(path))
        except OSError:  # the disk, not the graph
            raise
        except Exception as error:  # the converter raises classes of its own, some straight from Exception
            reason = blame(graph, error)
            raise ConvertError(f"litert-torch could not convert {path.name}: {reason}; leave tflite out of export.formats") from error
    if not path.is_file():
        raise ConvertError(f"litert-torch wrote no {path.name}; leave tflite out of export.formats")
