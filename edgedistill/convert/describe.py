"""What a written model file is, read back from the file itself: tensors, quantization, operators, delegate partitions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from edgedistill.bundle import Tensor
from edgedistill.errors import ConvertError

#: The oldest onnxruntime that implements an opset (its compatibility table).
_ONNXRUNTIME_OF_OPSET = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21"}
#: The oldest TFLite that MobileNet-family files of these converters were run on with right answers.
_TFLITE = "tflite>=2.14"


class Facts(NamedTuple):
    """What a manifest says of a file, as far as the file itself tells; `versions` are of its format."""

    input: Tensor
    output: Tensor
    minimum_runtime: str
    partitions: int | None
    operators: dict[str, int]
    versions: dict[str, str]


class Operator(NamedTuple):
    """One operator of a TFLite graph, with the indices of its tensors."""

    name: str
    inputs: list[int]
    outputs: list[int]


def describe_onnx(path: Path) -> Facts:
    """Read an ONNX file's single input and output."""
    import onnx

    model = onnx.load(str(path))
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset not in _ONNXRUNTIME_OF_OPSET:
        raise ConvertError(f"{path.name} has opset {opset}, known are {sorted(_ONNXRUNTIME_OF_OPSET)}; export it with one of these")
    return Facts(
        input=_onnx_tensor(model.graph.input[0]),
        output=_onnx_tensor(model.graph.output[0]),
        minimum_runtime=f"onnxruntime>={_ONNXRUNTIME_OF_OPSET[opset]}",
        partitions=None,
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        versions={"onnx opset": str(opset), "onnx ir": str(model.ir_version)},
    )


def describe_tflite(path: Path) -> Facts:
    """Read a TFLite file's single input and output, and count the parts of it that XNNPACK runs."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter._get_ops_details()  # no public call tells the delegate's parts
    operators, _ = read_operators(path)
    return Facts(
        input=_tflite_tensor(interpreter.get_input_details()),
        output=_tflite_tensor(interpreter.get_output_details()),
        minimum_runtime=_TFLITE,
        partitions=sum(operator["op_name"] == "DELEGATE" for operator in details),
        operators=dict(Counter(operator.name for operator in operators).most_common()),
        versions={},
    )


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


def _onnx_tensor(value: Any) -> Tensor:
    import onnx

    kind = value.type.tensor_type
    shape = [dimension.dim_value for dimension in kind.shape.dim]
    return _tensor(value.name, shape, np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)), None)


def _tflite_tensor(details: list[dict[str, Any]]) -> Tensor:
    if len(details) != 1:
        raise ConvertError(f"the file has {len(details)} inputs or outputs where a classifier has one; the network must return one tensor")
    scale, zero_point = details[0]["quantization"]
    quantization = {"scale": float(scale), "zero_point": int(zero_point)} if scale else None
    return _tensor(details[0]["name"], [int(side) for side in details[0]["shape"]], np.dtype(details[0]["dtype"]), quantization)


def _tensor(name: str, shape: list[int], dtype: np.dtype[Any], quantization: dict[str, float] | None) -> Tensor:
    layout = "NC" if len(shape) == 2 else "NHWC"
    raw = {"name": name, "shape": shape, "dtype": dtype.name, "layout": layout, "quantization": quantization}
    try:
        return msgspec.convert(raw, Tensor)
    except msgspec.ValidationError as error:
        raise ConvertError(f"tensor {name} is {dtype.name} {shape}: {error}; a file takes (1, H, W, 3) and gives (1, classes)") from error
