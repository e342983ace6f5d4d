"""Loading, checking and saving an ONNX model, and the small questions that are asked of its graph."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from edgedistill.bundle import write_atomically
from edgedistill.errors import ConvertError, MissingExtraError

INPUT, OUTPUT = "pixels", "logits"


def load(path: Path) -> Any:
    """Return the onnx.ModelProto of a file."""
    onnx = require_onnx()
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf's own classes, which differ between its versions
        raise ConvertError(f"{path.name} is not an ONNX file: {error}; write it again") from error


def save(model: Any, path: Path) -> None:
    """Write a model in one step, its order of fields fixed, after onnx's own check; nothing of the exporting machine is in it."""
    onnx = require_onnx()
    strip(model)
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    onnx.checker.check_model(model, full_check=True)
    write_atomically(path, model.SerializeToString(deterministic=True))


def strip(model: Any) -> None:
    """Remove doc strings and parts' metadata: they hold stack traces with the exporting machine's paths. The model's own metadata stays."""
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output, *model.functions):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for name in ("doc_string", "producer_name", "producer_version", "domain", "model_version"):
        model.ClearField(name)


def require_onnx() -> Any:
    """Return the package onnx, or say what to install."""
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError(error.name or "onnx", "workstation") from error
    return onnx


def constants(graph: Any) -> dict[str, np.ndarray]:
    """Return the arrays of a graph's initializers by name."""
    numpy_helper = require_onnx().numpy_helper
    return {item.name: numpy_helper.to_array(item) for item in graph.initializer}


def constant(name: str, value: np.ndarray) -> Any:
    """Return an initializer."""
    return require_onnx().numpy_helper.from_array(np.ascontiguousarray(value), name)


def readers(graph: Any) -> dict[str, list[Any]]:
    """Return the nodes that read each tensor."""
    found: dict[str, list[Any]] = defaultdict(list)
    for node in graph.node:
        for name in dict.fromkeys(node.input):
            found[name].append(node)
    return found


def makers(graph: Any) -> dict[str, Any]:
    """Return the node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output}


def shapes(graph: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a graph's tensors, as far as they are written in it."""
    typed = (*graph.input, *graph.value_info, *graph.output)
    found = {value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim) for value in typed}
    return found | {item.name: tuple(item.dims) for item in graph.initializer}


def attribute(node: Any, name: str, default: Any) -> Any:
    """Return a node's attribute."""
    found = next((item for item in node.attribute if item.name == name), None)
    return default if found is None else require_onnx().helper.get_attribute_value(found)


def replace_tensor(graph: Any, old: str, new: str) -> None:
    """Let all that read one tensor read another one."""
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == old:
                node.input[i] = new


def remove_unused(graph: Any) -> None:
    """Remove operators, constants and types of tensors that nobody uses."""
    outputs = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        used = outputs.union(*(other.input for other in graph.node))
        if not used.intersection(node.output):
            graph.node.remove(node)
    read = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in read]:
        graph.initializer.remove(item)
    made = {name for node in graph.node for name in node.output} - outputs
    for value in [value for value in graph.value_info if value.name not in made]:
        graph.value_info.remove(value)


def sort(graph: Any) -> None:
    """Bring operators into an order in which each comes after those it reads, as near to the present one as may be."""
    made = makers(graph)
    done: set[str] = set()
    ordered: list[Any] = []

    def visit(node: Any) -> None:
        waiting = [node]
        while waiting:
            current = waiting[-1]
            missing = [name for name in current.input if name in made and name not in done]
            if missing:
                waiting += [made[name] for name in reversed(missing)]
                continue
            waiting.pop()
            if not done.issuperset(current.output):
                done.update(current.output)
                ordered.append(current)

    for node in graph.node:
        visit(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
