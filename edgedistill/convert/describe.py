"""What is read back from a written model file of either format; the readers are in `onnx_file` and `tflite_file`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgedistill.bundle import Tensor
from edgedistill.errors import ConvertError


class Facts(NamedTuple):
    """What a manifest says of a file, as far as the file itself tells; `versions` are of its format.

    `outside` are the operators that run outside of the delegate, with their numbers.
    """

    input: Tensor
    output: Tensor
    minimum_runtime: str
    partitions: int | None
    operators: dict[str, int]
    versions: dict[str, str]
    outside: dict[str, int] = {}


class Operator(NamedTuple):
    """One operator of a TFLite graph, with the indices of its tensors."""

    name: str
    inputs: list[int]
    outputs: list[int]


def read_operators(path: Path) -> tuple[list[Operator], list[int]]:
    """Return a TFLite file's operators in their order, and the indices of its inputs."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    graph = model.Subgraphs(0)
    found = []
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        code = model.OperatorCodes(operator.OpcodeIndex())
        # Old readers know codes up to 127 only, in a field of their own; the larger of the two counts.
        name = names[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
        found.append(Operator(name, operator.InputsAsNumpy().tolist(), operator.OutputsAsNumpy().tolist()))
    return found, graph.InputsAsNumpy().tolist()


def tensor_of(name: str, shape: list[int], dtype: np.dtype[Any], quantization: dict[str, float] | None) -> Tensor:
    """Return a file's input or output as a manifest describes it; raises ConvertError for one that no manifest can hold."""
    layout = "NC" if len(shape) == 2 else "NHWC"
    raw = {"name": name, "shape": shape, "dtype": dtype.name, "layout": layout, "quantization": quantization}
    try:
        return msgspec.convert(raw, Tensor)
    except msgspec.ValidationError as error:
        raise ConvertError(f"tensor {name} is {dtype.name} {shape}: {error}; a file takes (1, H, W, 3) and gives (1, classes)") from error
