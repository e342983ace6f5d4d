"""What a written TFLite file is, read back from the file itself: tensors, operators, delegate partitions, minimum runtime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import Tensor
from edgedistill.convert.audit.outside import parts
from edgedistill.convert.describe import Facts, tensor_of
from edgedistill.convert.tflite_file import flatbuffer, versions
from edgedistill.convert.tflite_file.flatbuffer import operator_name
from edgedistill.errors import ConvertError


def describe_tflite(path: Path) -> Facts:
    """Read a file's single input and output, and count the parts of it that XNNPACK runs and the operators outside of them.

    Raises ConvertError for a file that the interpreter refuses or that is no classifier.
    """
    model = flatbuffer.read(path)
    graph = model.subgraphs[0]
    if (len(graph.inputs), len(graph.outputs)) != (1, 1):
        raise ConvertError(
            f"{path.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs where a classifier has one of each; "
            "the network must take and return one tensor"
        )
    image, scores = tensor(graph.tensors[graph.inputs[0]]), tensor(graph.tensors[graph.outputs[0]])
    found = parts(path)
    return Facts(
        input=image,
        output=scores,
        minimum_runtime=f"tflite>={versions.stamped(model).removesuffix('.0')}",
        partitions=found.partitions,
        operators=dict(Counter(operator_name(model, operator) for operator in graph.operators).most_common()),
        versions={},
        outside=dict(Counter(name for _, name in found.outside).most_common()),
    )


def tensor(found: Any) -> Tensor:
    """Return a tensor of a model as a manifest describes it; raises ConvertError for one that no manifest can hold."""
    name, kind = flatbuffer.text(found.name), flatbuffer.TYPES.get(found.type, "of an unknown type")
    stored = None
    if (scales := _values(found.quantization, "scale")) and (points := _values(found.quantization, "zeroPoint")):
        stored = {"scale": float(scales[0]), "zero_point": int(points[0])}
    try:
        dtype = np.dtype(kind.lower())
    except TypeError as error:
        raise ConvertError(f"tensor {name} is {kind}, which no engine here takes; convert the student again") from error
    return tensor_of(name, [] if found.shape is None else [int(side) for side in found.shape], dtype, stored)


def _values(quantization: Any, name: str) -> list[Any]:
    values = getattr(quantization, name, None)
    return [] if values is None else list(values)
