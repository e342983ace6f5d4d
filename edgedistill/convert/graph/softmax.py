"""Softmax at the end of a graph, for files that are to give probabilities."""

from __future__ import annotations

import dataclasses

from edgedistill.convert.graph.prepare import Graph, copy_of
from edgedistill.convert.graph.rewrite import aten, called


def with_softmax(graph: Graph) -> Graph:
    """Return a copy of a graph that gives probabilities (N, classes) instead of logits; one that gives them already comes back as it is."""
    if graph.module.graph.output_node().all_input_nodes[0].target is aten.softmax.int:
        return graph
    copied = copy_of(graph)
    output = copied.module.graph.output_node()
    logits = output.all_input_nodes[0]
    with copied.module.graph.inserting_before(output):
        node = called(copied.module, aten.softmax.int, logits, 1, like=logits)
    output.replace_input_with(logits, node)
    copied.module.recompile()
    return dataclasses.replace(copied, layers=copied.layers | {node.name: copied.layers.get(logits.name, "")})
