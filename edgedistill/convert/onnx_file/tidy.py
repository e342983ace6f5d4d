"""Roundabout ways of the exporter put straight: what is an average over the image is said as one, and nothing is reshaped twice."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgedistill.convert.onnx_file.model import attribute, constant, constants, remove_unused, replace_tensor, require_onnx, shapes


def tidy(model: Any) -> None:
    """Rewrite a model in place; its answers stay the same."""
    graph = model.graph
    values = constants(graph)
    for node in graph.node:
        _average(node, values)
    _gather_of_everything(graph, values)
    _reshape_twice(graph)
    _reshape_of_nothing(graph)
    remove_unused(graph)


def _average(node: Any, values: dict[str, np.ndarray]) -> None:
    """Make a mean over height and width what it is: integer kernels know the average, but no mean."""
    if node.op_type != "ReduceMean" or len(node.input) != 2 or node.input[1] not in values or attribute(node, "keepdims", 1) != 1:
        return
    if sorted(int(axis) % 4 for axis in values[node.input[1]].ravel()) == [2, 3]:
        node.op_type = "GlobalAveragePool"
        node.name = node.name.replace("ReduceMean", "GlobalAveragePool")
        del node.input[1]
        del node.attribute[:]


def _gather_of_everything(graph: Any, values: dict[str, np.ndarray]) -> None:
    """Make a reshape of a selection that takes every element in its order; this is how strides are exported."""
    known = shapes(graph)
    for node in graph.node:
        if node.op_type != "Gather" or attribute(node, "axis", 0) != 0 or node.input[1] not in values:
            continue
        indices = values[node.input[1]]
        if known.get(node.input[0]) != (indices.size,) or not np.array_equal(indices.ravel(), np.arange(indices.size)):
            continue
        shape = constant(f"{node.output[0]}_shape", np.array(indices.shape, np.int64))
        graph.initializer.append(shape)
        renamed = require_onnx().helper.make_node("Reshape", [node.input[0], shape.name], list(node.output), name=node.name)
        node.CopyFrom(renamed)
        node.name = node.name.replace("Gather", "Reshape")


def _reshape_twice(graph: Any) -> None:
    makers = {node.output[0]: node for node in graph.node if node.op_type == "Reshape"}
    for node in graph.node:
        while node.op_type == "Reshape" and node.input[0] in makers and _plain(graph, node):
            node.input[0] = makers[node.input[0]].input[0]


def _reshape_of_nothing(graph: Any) -> None:
    known, outputs = shapes(graph), {value.name for value in graph.output}
    for node in graph.node:
        same = known.get(node.output[0]) is not None and known.get(node.input[0]) == known.get(node.output[0])
        if node.op_type == "Reshape" and same and node.output[0] not in outputs:
            replace_tensor(graph, node.output[0], node.input[0])


def _plain(graph: Any, node: Any) -> bool:
    """Return whether a reshape names every side, or leaves one to be counted: then it does not matter what is reshaped."""
    shape = next((value for name, value in constants(graph).items() if name == node.input[1]), None)
    return shape is not None and bool((shape != 0).all())
