"""The student as a TFLite file: one file, float32 RGB pixels 0 to 255 (1, H, W, 3) in, logits (1, classes) out."""

from __future__ import annotations

from pathlib import Path

import torch

from edgedistill.bundle import Preprocess
from edgedistill.convert.graph import RawPixels, example
from edgedistill.convert.quiet import quietly
from edgedistill.errors import ConvertError, MissingExtraError


def write_tflite(graph: RawPixels, path: Path, *, spec: Preprocess) -> None:
    """Convert the graph to `path` by litert-torch, without TensorFlow."""
    with quietly():
        try:
            import litert_torch
        except ImportError as error:
            raise MissingExtraError("litert-torch", "workstation") from error
        litert_torch.config.show_progress = False
        try:
            litert_torch.convert(graph, (example(spec, torch.float32),)).export(str(path))
        except Exception as error:
            raise ConvertError(f"litert-torch could not convert {path.name}: {error}; leave tflite out of export.formats") from error
    if not path.is_file():
        raise ConvertError(f"litert-torch wrote no {path.name}; leave tflite out of export.formats")
