"""Which operator of a graph a converter stumbled over, and which layer of the student it comes from.

The tracers keep what a node's `stack_trace` says through decomposition and quote it when they fail, so `label` writes the
node's name there. It also keeps the paths of this machine, which a real stack trace is full of, out of the files.
"""

from __future__ import annotations

import re

from torch import fx

from edgedistill.convert.graph.checks import first_line, operator
from edgedistill.convert.graph.prepare import Graph
from edgedistill.convert.graph.rewrite import name_of

_TARGET = re.compile(r"call_function\[target=(?:torch\.ops\.)?([\w.]+)\]")
_FAMILIES = re.compile(r"^(special|linalg|fft|prims|aten|_)+_*")


def blame(graph: Graph, error: BaseException) -> str:
    """Return what a converter's error says about a graph: the operator, the layer that uses it, the reason, and what to do.

    For an error that names no operator it is the first line of its text.
    """
    text = "\n".join(str(one) for one in _chain(error))
    target = _TARGET.search(text)
    if target is None:
        return first_line(error)
    nodes = _labelled(graph, text) or _of_that_name(graph, target[1])
    name = operator(nodes[0]) if nodes else ".".join(target[1].split(".")[:2])
    layers = list(dict.fromkeys(f"layer {layer}" if (layer := graph.layers[node.name]) else "the student's own forward" for node in nodes))
    used = f", which {' and '.join(layers[:3])} uses" if layers else ""
    return f"it cannot write {name}{used} ({_reason(error)}); put operators there that it knows"


def _chain(error: BaseException | None) -> list[BaseException]:
    """Return an error and what it was raised from, the outermost first."""
    errors: list[BaseException] = []
    while error is not None and error not in errors:
        errors.append(error)
        error = error.__cause__ or error.__context__
    return errors


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost error that is not a bare key."""
    texts = [first_line(one) for one in _chain(error) if not isinstance(one, KeyError)]
    return re.sub(r"<[^>]*object at 0x[0-9a-f]+>", "…", texts[-1] if texts else first_line(error))


def _labelled(graph: Graph, text: str) -> list[fx.Node]:
    names = re.findall(r"edgedistill node (\w+)", text)
    return [node for node in graph.module.graph.nodes if node.name in names and node.name in graph.layers]


def _of_that_name(graph: Graph, target: str) -> list[fx.Node]:
    """Return the nodes that an operator of the converter's own, decomposed graph may come from."""
    stem = _FAMILIES.sub("", target.split(".")[1] if "." in target else target)
    found = {node: _FAMILIES.sub("", name_of(node)) for node in graph.module.graph.nodes if node.name in graph.layers}
    same = [node for node, name in found.items() if name == stem]
    return same or [node for node, name in found.items() if name and (name.startswith(stem) or stem.startswith(name))]
