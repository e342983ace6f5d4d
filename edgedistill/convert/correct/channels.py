"""Which channels of a graph can be scaled without changing what it computes: groups of tensors that share their channels.

Between a layer that writes a tensor and the layers that read it stand operators that commute with a positive factor per
channel: ReLU, pooling, padding with zeros, residual sums, the product with a squeeze-and-excitation gate. All tensors that
these connect have to be scaled alike. Hard-swish, sigmoid, concatenation and what else does not commute ends a group and locks it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from edgedistill.convert.graph import Graph, activations
from edgedistill.convert.graph.prepare import example
from edgedistill.convert.graph.rewrite import aten

LAYERS = (aten.conv2d.default, aten.conv2d.padding, aten.linear.default)
RELU = aten.relu.default
CLIPS = (aten.hardtanh.default, aten.relu6.default)
#: f(s x) = s f(x) for a factor s > 0 of each channel.
_SAME_CHANNELS = (
    RELU,
    aten.max_pool2d.default,
    aten.avg_pool2d.default,
    aten.adaptive_avg_pool2d.default,
    aten.dropout.default,
    aten.clone.default,
    aten.alias.default,
)


@dataclass
class Group:
    """Tensors that share their channels.

    Args:
        nodes: that give these tensors.
        writers: layers among them; the factors go into their output channels.
        readers: layers that read one of them; the inverse factors go into their input channels.
        locked: whether somebody reads or writes one of them that does not commute with factors.
        clips: the upper bounds of the clips (ReLU6) among them.
    """

    nodes: list[fx.Node] = field(default_factory=list)
    writers: list[fx.Node] = field(default_factory=list)
    readers: list[fx.Node] = field(default_factory=list)
    locked: bool = False
    clips: list[float] = field(default_factory=list)


def groups_of(graph: Graph) -> list[Group]:
    """Return the groups of a graph whose channels can be scaled, in its order; where `clips` is not empty only within limits."""
    groups: dict[fx.Node, Group] = {}
    shapes = shapes_of(graph)
    for node in graph.module.graph.nodes:
        inputs = [other for other in node.all_input_nodes if other in groups]
        if node not in shapes:
            _lock(groups, inputs)
            continue
        groups[node] = Group(nodes=[node], locked=node.op == "placeholder")
        if not inputs:
            continue
        if node.target in LAYERS:
            groups[node].writers.append(node)
            groups[inputs[0]].readers.append(node)
        elif (same := _same_channels(node, shapes)) is None:
            _lock(groups, [*inputs, node])
        else:
            _lock(groups, [other for other in inputs if other not in same])
            for other in same:
                _merge(groups, node, other)
    distinct = {id(group): group for group in groups.values()}.values()
    return [group for group in distinct if group.writers and group.readers and not group.locked]


def shapes_of(graph: Graph) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shape of each float value of a graph for one image."""
    shapes: dict[fx.Node, tuple[int, ...]] = {}
    pixels = example(graph.spec).to(torch.uint8).numpy()
    activations(graph, pixels, lambda node, value: shapes.update({node: tuple(value.shape)}))
    return shapes


def _same_channels(node: fx.Node, shapes: dict[fx.Node, tuple[int, ...]]) -> list[fx.Node] | None:
    """Return the inputs that have to be scaled as the output is; None if the operator does not commute with factors."""
    first, arguments = node.args[0], node.args[1:]
    if not isinstance(first, fx.Node) or first not in shapes or len(shapes[first]) not in (2, 4):
        return None
    if node.target in (aten.add.Tensor, aten.mul.Tensor, aten.div.Tensor):
        return _of_two(node, shapes)
    commutes = (
        node.target in _SAME_CHANNELS
        or clip_of(node) is not None
        or (node.target is aten.mean.dim and sorted(int(i) % 4 for i in _list(arguments[0])) == [2, 3])
        or _pads_zeros(node)
        or (node.target is aten.flatten.using_ints and tuple(arguments) == (1,))
    )
    return [first] if commutes else None


def _pads_zeros(node: fx.Node) -> bool:
    if node.target not in (aten.constant_pad_nd.default, aten.pad.default):
        return False
    sides, *rest = node.args[1:]
    return len(_list(sides)) <= 4 and all(value in ("constant", None, 0) for value in rest)


def clip_of(node: fx.Node) -> float | None:
    """Return the upper bound of a clip from 0 to it; None for anything else."""
    if node.target is aten.relu6.default:
        return 6.0
    if node.target is aten.hardtanh.default and len(node.args) > 2 and node.args[1] == 0:
        return float(node.args[2])  # type: ignore[arg-type]
    return None


def _of_two(node: fx.Node, shapes: dict[fx.Node, tuple[int, ...]]) -> list[fx.Node] | None:
    first, second = node.args[0], node.args[1]
    assert isinstance(first, fx.Node)
    if isinstance(second, int | float):
        return [first] if node.target is not aten.add.Tensor and second > 0 else None
    if not isinstance(second, fx.Node) or second not in shapes or node.kwargs:
        return None
    if node.target is aten.add.Tensor:
        return [first, second] if shapes[first] == shapes[second] else None
    # A gate of one value per channel leaves the factors of what it gates; x * f(x) does not commute.
    larger = [value for value in (first, second) if shapes[value] == shapes[node]]
    return larger if node.target is aten.mul.Tensor and len(larger) == 1 else None


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _lock(groups: dict[fx.Node, Group], nodes: list[fx.Node]) -> None:
    for node in nodes:
        groups[node].locked = True


def _merge(groups: dict[fx.Node, Group], node: fx.Node, other: fx.Node) -> None:
    kept, gone = groups[other], groups[node]
    if (clip := clip_of(node)) is not None:
        kept.clips.append(clip)
    if kept is gone:
        return
    for name in ("nodes", "writers", "readers", "clips"):
        getattr(kept, name).extend(getattr(gone, name))
    kept.locked |= gone.locked
    groups.update(dict.fromkeys(gone.nodes, kept))


def by_input_channel(layer: fx.Node, weight: torch.Tensor, channels: int) -> torch.Tensor:
    """Return a layer's weight as (groups, outputs of a group, inputs of a group, values of a weight): a view, to read and to scale.

    A linear layer behind a flattened image has some inputs for each of the `channels`, next to each other.
    """
    groups = 1
    if layer.target is not aten.linear.default:
        groups = int(layer.args[6]) if len(layer.args) > 6 else 1  # type: ignore[arg-type]
    return weight.view(groups, len(weight) // groups, channels // groups, -1)
