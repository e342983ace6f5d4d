"""Which operators of an ONNX file lose most in 8 bits: the gates of squeeze-and-excitation."""

from __future__ import annotations

from typing import Any

from edgedistill.convert.onnx_file.model import makers, shapes


def gates(graph: Any) -> frozenset[str]:
    """Return the operators between an average over the image and the product that scales the image's channels by it, product included.

    They work on one number a channel: in float they cost next to nothing, and the product keeps what a gate near 0 makes small.
    """
    known, made = shapes(graph), makers(graph)
    found: set[str] = set()
    for node in graph.node:
        if node.op_type != "Mul" or len(known.get(node.output[0], ())) != 4 or known[node.output[0]][2:] == (1, 1):
            continue
        for name in node.input:
            if known.get(name, ())[2:] == (1, 1) and name in made:
                found |= {node.name} | _pooled(made[name], made, known)
    return frozenset(found)


def _pooled(last: Any, made: dict[str, Any], known: dict[str, tuple[int, ...]]) -> set[str]:
    """Return an operator and all before it that work on one number a channel, up to the average."""
    found, waiting = set(), [last]
    while waiting:
        node = waiting.pop()
        if node.name in found or node.op_type == "GlobalAveragePool" or known.get(node.output[0], ())[2:] != (1, 1):
            continue
        found.add(node.name)
        waiting += [made[name] for name in node.input if name in made]
    return found
