"""What an ONNX file says of itself, in `metadata_props`: text by name, in the same order in every file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import edgedistill
from edgedistill.convert.facts import FileFacts
from edgedistill.convert.onnx_file.model import load, require_onnx, save
from edgedistill.errors import ConvertError


def finish(path: Path, facts: FileFacts) -> None:
    """Write facts into a file in place; a file that is finished already gets them instead of those it has."""
    model = load(path)
    del model.metadata_props[:]
    for key, value in properties(facts, dtype=_dtype(model)).items():
        model.metadata_props.add(key=key, value=value)
    save(model, path)


def properties(facts: FileFacts, *, dtype: str) -> dict[str, str]:
    """Return what is written into a file whose input has this dtype; numbers and lists are JSON.

    `mean` and `std` are what a caller does to an RGB pixel (0 to 255) before it becomes the input: `(pixel - mean) / std`.
    """
    mean = 0 if dtype == "uint8" else facts.pixel_mean
    return {
        "name": facts.name,
        "description": facts.description,
        "author": facts.author,
        "licence": facts.licence,
        "task": "classification",
        "labels": json.dumps(list(facts.labels), ensure_ascii=False),
        "color": facts.spec.color,
        "layout": "NHWC",
        "height": str(facts.spec.height),
        "width": str(facts.spec.width),
        "resize": facts.spec.resize,
        "interpolation": facts.spec.interpolation,
        "mean": str(mean),
        "std": "1",
        "pixel_mean": str(facts.pixel_mean),
        "scores": facts.scores,
        "edgedistill": edgedistill.__version__,
    }


def read_metadata(path: Path) -> dict[str, str]:
    """Return what a file says of itself; raises ConvertError for a file that is broken."""
    found = {item.key: item.value for item in load(path).metadata_props}
    if not all(isinstance(text, str) for text in (*found, *found.values())):  # protobuf gives bytes where they are not UTF-8
        raise ConvertError(f"{path.name} says of itself what is no text; write it again")
    return found


def _dtype(model: Any) -> str:
    onnx = require_onnx()
    return str(onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type).name)
