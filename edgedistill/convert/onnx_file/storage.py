"""Weights of an ONNX file stored in fewer bits; the arithmetic stays float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgedistill.convert.onnx_file.model import constant, constants, remove_unused, replace_tensor, require_onnx

#: Smaller ones, biases above all, gain nothing and lose precision.
_FEWEST = 64


def weights_as_int8(model: Any) -> None:
    """Store the weights of every layer in 8 bits a channel, symmetric, in place.

    They become float by Cast and Mul and not by DequantizeLinear, which means the same: onnxruntime computes those two once when
    it loads the file, but DequantizeLinear, kept for integer kernels that are of no use here, anew for every image.
    """
    onnx = require_onnx()

    def store(name: str, weight: np.ndarray, axis: int) -> list[Any]:
        others = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(weight).max(axis=others, keepdims=True)
        scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
        stored = np.rint(weight / scale).clip(-127, 127).astype(np.int8)
        model.graph.initializer.extend([constant(f"{name}_int8", stored), constant(f"{name}_scale", scale)])
        return [
            onnx.helper.make_node("Cast", [f"{name}_int8"], [f"{name}_steps"], name=f"{name}/Cast", to=onnx.TensorProto.FLOAT),
            onnx.helper.make_node("Mul", [f"{name}_steps", f"{name}_scale"], [f"{name}_real"], name=f"{name}/Mul"),
        ]

    _store(model.graph, store)


def weights_as_float16(model: Any) -> None:
    """Store the weights of every layer as float16, in place; what 16 bits cannot hold is clipped to their largest value."""
    onnx = require_onnx()
    limit = float(np.finfo(np.float16).max)

    def store(name: str, weight: np.ndarray, axis: int) -> list[Any]:
        model.graph.initializer.append(constant(f"{name}_float16", weight.clip(-limit, limit).astype(np.float16)))
        return [onnx.helper.make_node("Cast", [f"{name}_float16"], [f"{name}_real"], name=f"{name}/Cast", to=onnx.TensorProto.FLOAT)]

    _store(model.graph, store)


def _store(graph: Any, store: Callable[[str, np.ndarray, int], list[Any]]) -> None:
    """Replace each layer's weight by what operators make of its stored form, once also where layers share it."""
    values = constants(graph)
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in values and values[node.input[1]].size >= _FEWEST:
            axes.setdefault(node.input[1], _channel_axis(node, values[node.input[1]]))
    added: list[Any] = []
    for name, axis in axes.items():
        replace_tensor(graph, name, f"{name}_real")
        added += store(name, values[name], axis)
    nodes = [*added, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unused(graph)


def _channel_axis(node: Any, weight: np.ndarray) -> int:
    """Return the axis of a weight that output channels lie along."""
    if node.op_type == "Conv":
        return 0
    transposed = any(item.name == "transB" and item.i for item in node.attribute)
    return 0 if transposed else weight.ndim - 1
