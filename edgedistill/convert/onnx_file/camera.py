"""The input of 8-bit ONNX files: the camera's bytes, which reach the first convolution as they are.

What only moves or pads the image (channels first, a constant fourth channel) is done with bytes; nothing is rounded and nothing
is computed a pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from edgedistill.convert.onnx_file.model import INPUT, attribute, constant, constants, readers, remove_unused, replace_tensor, require_onnx


class Image(NamedTuple):
    """The last tensor that is still the image, and the operators on the way from the input to it."""

    tensor: str
    nodes: tuple[str, ...]


def image_of(graph: Any, pixel_mean: int) -> Image:
    """Follow the input through what moves and pads it with whole pixel values."""
    reading, values = readers(graph), constants(graph)
    tensor, names = INPUT, []
    while len(reading[tensor]) == 1 and _moves(reading[tensor][0], values, pixel_mean):
        node = reading[tensor][0]
        names.append(node.name)
        tensor = node.output[0]
    return Image(tensor, tuple(names))


def scale_and_zero_point(pixel_mean: int) -> dict[str, np.ndarray]:
    """Return how the image is stored: a real value is the stored byte minus `pixel_mean`."""
    return {"scale": np.array(1, np.float32), "zero_point": np.array(pixel_mean, np.uint8)}


def take_bytes(model: Any, pixel_mean: int) -> None:
    """Make the input uint8 in place: quantizing the image goes away, and who wants it in float gets it from DequantizeLinear."""
    graph = model.graph
    image = image_of(graph, pixel_mean)
    moving = [node for node in graph.node if node.name in image.nodes]
    users = readers(graph)[image.tensor]
    for node in users:
        if node.op_type == "QuantizeLinear":
            replace_tensor(graph, node.output[0], image.tensor)
    _dequantize(graph, image, [node for node in users if node.op_type != "QuantizeLinear"], pixel_mean=pixel_mean)
    for node in moving:
        if node.op_type == "Pad":
            _pad_with_bytes(graph, node, pixel_mean)
    graph.input[0].type.tensor_type.elem_type = require_onnx().TensorProto.UINT8
    stale = {name for node in moving for name in node.output}
    for value in [value for value in graph.value_info if value.name in stale]:
        graph.value_info.remove(value)
    remove_unused(graph)


def _moves(node: Any, values: dict[str, np.ndarray], pixel_mean: int) -> bool:
    if node.op_type != "Pad" or attribute(node, "mode", b"constant") != b"constant":
        return bool(node.op_type == "Transpose")
    value = _padding(node, values)
    stored = -1.0 if value is None else value + pixel_mean
    return stored == int(stored) and 0 <= stored <= 255


def _padding(node: Any, values: dict[str, np.ndarray]) -> float | None:
    """Return the constant that a Pad operator writes; None where it is none or not known."""
    if len(node.input) < 3 or not node.input[2]:
        return 0.0
    value = values.get(node.input[2])
    return None if value is None else float(value.reshape(-1)[0])


def _pad_with_bytes(graph: Any, node: Any, pixel_mean: int) -> None:
    value = _padding(node, constants(graph))
    assert value is not None
    stored = constant(f"{node.output[0]}_byte", np.array(int(value) + pixel_mean, np.uint8))
    graph.initializer.append(stored)
    node.input[:] = [*node.input[:2], stored.name, *node.input[3:]]


def _dequantize(graph: Any, image: Image, users: list[Any], *, pixel_mean: int) -> None:
    if not users:
        return
    stored = scale_and_zero_point(pixel_mean)
    parameters = [constant(f"{image.tensor}_{name}_of_pixels", value) for name, value in stored.items()]
    graph.initializer.extend(parameters)
    real = f"{image.tensor}_real"
    node = require_onnx().helper.make_node(
        "DequantizeLinear", [image.tensor, *(item.name for item in parameters)], [real], name="pixels/DequantizeLinear"
    )
    for user in users:
        user.input[:] = [real if name == image.tensor else name for name in user.input]
    position = max((i for i, other in enumerate(graph.node) if image.tensor in other.output), default=-1)
    graph.node.insert(position + 1, node)
