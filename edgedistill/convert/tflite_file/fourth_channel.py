"""The constant fourth channel of a student whose means differ by channel, as an operator that XNNPACK runs.

The graph pads it on, which becomes PADV2: outside of the delegate, and in 8 bits a cut through the graph. Put beside the image as a
constant it is a CONCATENATION, which is inside.
"""

from __future__ import annotations

import torch
from torch import fx

from edgedistill.convert.graph import Graph, copy_of
from edgedistill.convert.graph.rewrite import aten, called, clean, new_constant


def beside(graph: Graph) -> Graph:
    """Return a graph for one image that has its fourth channel as a constant beside the image; the same graph where it has none."""
    if not any(_adds_channel(node) for node in graph.module.graph.nodes):
        return graph
    result = copy_of(graph)
    for node in [node for node in result.module.graph.nodes if _adds_channel(node)]:
        level = torch.full((1, graph.spec.height, graph.spec.width, 1), float(node.args[2]))
        constant = new_constant(result.module, "fourth_channel", level, before=node)
        with result.module.graph.inserting_before(node):
            both = called(result.module, aten.cat.default, [node.args[0], constant], 3, like=node)
        node.replace_all_uses_with(both)
    clean(result.module)
    return result


def _adds_channel(node: fx.Node) -> bool:
    return node.target is aten.constant_pad_nd.default and node.args[0].op == "placeholder" and list(node.args[1]) == [0, 1]  # type: ignore[union-attr, arg-type]
