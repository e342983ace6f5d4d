"""How onnxruntime runs a quantized file: which operators become integer kernels, which stay float, and what the weights' bits mean.

The file is loaded as on a device and the graph that onnxruntime makes of it is read back. That graph holds for the machine it was
made on; which operators have integer kernels is the same on every processor.
"""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgedistill.convert.onnx_file.model import constants, load, makers
from edgedistill.errors import ConvertError, MissingExtraError

#: Operators that move values without computing with them.
_MOVING = frozenset(
    (
        "Transpose",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Pad",
        "Gather",
        "Slice",
        "Identity",
        "ReorderInput",
        "ReorderOutput",
        "Cast",
    )
)
#: Operators that onnxruntime takes apart when it loads a file; the parts have no names.
_TAKEN_APART = frozenset(("HardSwish", "Mish", "Gelu", "Celu"))
_INTEGER = frozenset(("QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"))


class Kernels(NamedTuple):
    """Operators of a quantized file by how they are computed; a file without quantized activations has none in any field.

    `integer` and `floating` count by operator, `conversions` are steps between 8 bits and float, `layers` names the
    student's layers of each floating operator.
    """

    integer: dict[str, int]
    floating: dict[str, int]
    conversions: int
    layers: dict[str, tuple[str, ...]]


class Arithmetic(NamedTuple):
    """How a file multiplies 8-bit numbers, and what that means for its answers on the processors it may run on."""

    label: str
    without_vnni: str
    with_vnni: str
    arm: str


def unfused(path: Path) -> Kernels:
    """Load a file as a device does and count its kernels.

    Softmax is float by design and not counted.
    """
    model = load(path)
    if not _quantizes_activations(model):
        return Kernels({}, {}, 0, {})
    whole = [node for node in model.graph.node if node.op_type in _TAKEN_APART]
    with tempfile.TemporaryDirectory() as folder:
        optimized = _optimized(path, Path(folder, "optimized.onnx"))
    integer: Counter[str] = Counter()
    layers: dict[str, list[str]] = defaultdict(list)
    conversions = 0
    for node in [*whole, *optimized.graph.node]:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            conversions += 1
        elif node.op_type in _INTEGER or node.op_type.startswith("QLinear"):
            integer[node.op_type] += 1
        elif node.op_type not in _MOVING and node.op_type != "Softmax" and (node.name or not whole):
            layers[node.op_type].append(layer_of(node.name))
    floating = {kind: len(names) for kind, names in sorted(layers.items(), key=lambda item: (-len(item[1]), item[0]))}
    return Kernels(dict(integer.most_common()), floating, conversions, {kind: tuple(layers[kind]) for kind in floating})


def layer_of(name: str) -> str:
    """Return the student's layer in an operator's name, which is LAYER/OPERATOR; the name itself where it has none."""
    layer, slash, _ = name.partition("/")
    return layer if slash else name


def arithmetic(path: Path) -> Arithmetic | None:
    """Return how a file multiplies, or None where no operator multiplies 8-bit activations with 8-bit weights."""
    model = load(path)
    pairs = _multiplied(model)
    if not pairs:
        return None
    if all(activation == np.uint8 and weight.dtype == np.int8 for activation, weight in pairs):
        reduced = all(np.abs(weight.astype(int)).max(initial=0) <= 64 for _, weight in pairs)
        return _REDUCED if reduced else _U8S8
    return _U8U8 if all(activation == weight.dtype == np.uint8 for activation, weight in pairs) else _S8S8


_ANY_ARM = "exact sums; faster than fp32 where it has the dot product (ARMv8.2, Cortex-A55 and A76 on)"
_REDUCED = Arithmetic(
    "U8S8 with reduce_range: weights of 7 bits",
    "exact sums: with 7-bit weights no pair of products exceeds the 16 bits that AVX2 adds them in",
    "exact sums; the bit that is left free costs a little resolution",
    _ANY_ARM,
)
_U8S8 = Arithmetic(
    "U8S8: weights of 8 bits",
    "wrong sums: AVX2 adds pairs of products in 16 bits and clips them; accuracy measured on such a machine is not a device's",
    "exact sums",
    _ANY_ARM,
)
_U8U8 = Arithmetic(
    "U8U8: weights without sign",
    "exact sums, by a slower way that widens to 16 bits first",
    "exact sums, by a slower way than U8S8's",
    _ANY_ARM,
)
_S8S8 = Arithmetic(
    "S8S8: activations with sign",
    "exact sums, but most layers stay float: x86 has integer kernels for activations without sign only",
    "as without VNNI",
    _ANY_ARM,
)


def _quantizes_activations(model: Any) -> bool:
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node) or bool(_multiplied(model))


def _multiplied(model: Any) -> list[tuple[np.dtype[Any], np.ndarray]]:
    """Return the stored type of the activations and the stored weights of every layer with both in 8 bits."""
    values, made = constants(model.graph), makers(model.graph)
    if any(values[node.input[2]].dtype.itemsize == 2 for node in made.values() if node.op_type == "QuantizeLinear"):
        return []  # onnxruntime has no integer kernels for 16 bits: all is multiplied in float
    pairs = []
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        activation, weight = (made.get(name) for name in node.input[:2])
        if activation is None or weight is None or not activation.op_type == weight.op_type == "DequantizeLinear":
            continue
        stored, zero_point = values.get(weight.input[0]), values.get(activation.input[2]) if len(activation.input) > 2 else None
        if stored is not None and zero_point is not None and zero_point.dtype.itemsize == 1:
            pairs.append((zero_point.dtype, stored))
    return pairs


def _optimized(path: Path, into: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "workstation") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = str(into)
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many classes of its own, some straight from Exception
        raise ConvertError(
            f"onnxruntime {onnxruntime.__version__} refuses {path.name}: {error}; export it again, or without int8"
        ) from error
    return load(into)
