"""What a written ONNX file is, read back from the file itself: tensors, oldest runtime, operators, and those that stay float."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import Tensor
from edgedistill.convert.describe import Facts, tensor_of
from edgedistill.convert.onnx_file.kernels import unfused
from edgedistill.convert.onnx_file.model import load, require_onnx
from edgedistill.errors import ConvertError

#: The oldest onnxruntime that implements an opset (its compatibility table).
_ONNXRUNTIME_OF_OPSET = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18", 22: "1.21"}
#: The oldest one whose own operators quantize to 16 bits.
_ONNXRUNTIME_OF_16_BITS = "1.17"


def describe_onnx(path: Path) -> Facts:
    """Read an ONNX file's single input and output, and count the operators that onnxruntime runs in float though the file is quantized."""
    model = load(path)
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset not in _ONNXRUNTIME_OF_OPSET:
        raise ConvertError(f"{path.name} has opset {opset}, known are {sorted(_ONNXRUNTIME_OF_OPSET)}; export it with one of these")
    for role, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        if len(values) != 1:
            raise ConvertError(f"{path.name} has {len(values)} {role} where a classifier has one; the network must return one tensor")
    return Facts(
        input=_tensor(model.graph.input[0]),
        output=_tensor(model.graph.output[0]),
        minimum_runtime=f"onnxruntime>={_minimum(model, opset)}",
        partitions=None,
        operators=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        versions={"onnx opset": str(opset), "onnx ir": str(model.ir_version)},
        outside=unfused(path).floating,
    )


def _minimum(model: Any, opset: int) -> str:
    oldest = _ONNXRUNTIME_OF_OPSET[opset]
    own = any(node.domain == "com.microsoft" for node in model.graph.node)
    return max(oldest, _ONNXRUNTIME_OF_16_BITS, key=lambda text: int(text.split(".")[1])) if own else oldest


def _tensor(value: Any) -> Tensor:
    onnx = require_onnx()
    kind = value.type.tensor_type
    shape = [side.dim_value for side in kind.shape.dim]
    dtype: np.dtype[Any] = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    return tensor_of(value.name, shape, dtype, None)
