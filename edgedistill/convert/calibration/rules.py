"""What a graph's operators say of their ranges, whatever the images show."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import fx

from edgedistill.convert.calibration.span import Range
from edgedistill.convert.graph import Graph
from edgedistill.convert.graph.rewrite import aten

EVERYTHING = Range(-math.inf, math.inf)
#: Operators that pad, with the place of the value among their arguments.
_PADS = {aten.constant_pad_nd.default: 2, aten.pad.default: 3}

#: Operators whose values are their input's, or some of them, and 0.
_MOVES = frozenset(
    {
        aten.permute.default,
        aten.transpose.int,
        aten.view.default,
        aten.reshape.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.unsqueeze.default,
        aten.expand.default,
        aten.contiguous.default,
        aten.clone.default,
        aten.alias.default,
        aten.dropout.default,
        aten.slice.Tensor,
        aten.select.int,
        aten.channel_shuffle.default,
        aten.pixel_shuffle.default,
        aten.max_pool2d.default,
        aten.constant_pad_nd.default,
        aten.pad.default,
    }
)
#: Operators whose ranges TFLite prescribes: https://ai.google.dev/edge/litert/models/quantization_spec.
_PRESCRIBED = {
    aten.sigmoid.default: Range(0.0, 255 / 256),
    aten.softmax.int: Range(0.0, 255 / 256),
    aten._softmax.default: Range(0.0, 255 / 256),
    aten.tanh.default: Range(-1.0, 127 / 128),
}
#: What operators see of their input; beyond it their answer does not change.
_SEEN: dict[Any, Range] = {
    aten.relu.default: Range(0.0, math.inf),
    aten.relu6.default: Range(0.0, 6.0),
    aten.hardswish.default: Range(-3.0, math.inf),
}


class Rule(NamedTuple):
    """How a node's range comes about: `fixed`, the same as that of the node `like`, or by its values cut to `bounds`."""

    fixed: Range | None = None
    like: str | None = None
    bounds: Range = EVERYTHING


def rules_of(graph: Graph) -> dict[str, Rule]:
    """Return the rule of the input and of every operator, in the order of the graph."""
    pixels = Range(float(-graph.pixel_mean), float(255 - graph.pixel_mean))
    rules: dict[str, Rule] = {}
    for node in graph.module.graph.nodes:
        if node.op == "placeholder":
            rules[node.name] = Rule(fixed=pixels)
        elif node.op == "call_function":
            rules[node.name] = _rule(node, rules)
    return rules


def _rule(node: fx.Node, rules: dict[str, Rule]) -> Rule:
    if node.target in _PRESCRIBED:
        return Rule(fixed=_PRESCRIBED[node.target])
    source = node.args[0] if node.args else None
    if node.target in _MOVES and isinstance(source, fx.Node) and source.name in rules and _stays_inside(node, rules[source.name]):
        return Rule(like=source.name)
    own = _seen(node)
    users = [_seen(user) for user in node.users]
    low = min((seen.low for seen in users), default=-math.inf)
    high = max((seen.high for seen in users), default=math.inf)
    return Rule(bounds=Range(max(own.low, low), min(own.high, high)))


def is_clip(node: fx.Node) -> bool:
    """Return whether a node cuts its input off at fixed values, which converters make part of the operator that gives the input."""
    return node.target in (aten.relu.default, aten.relu6.default, aten.hardtanh.default)


def _seen(node: fx.Node) -> Range:
    """Return what an operator sees of its input; what those that are known here give lies in it, too."""
    if node.target is aten.hardtanh.default:
        return Range(min(_number(node, 1, -1.0), 0.0), max(_number(node, 2, 1.0), 0.0))
    return _SEEN.get(node.target, EVERYTHING)


def _stays_inside(node: fx.Node, source: Rule) -> bool:
    """Return whether a padding's value, if the operator is one, lies in its input's range for certain."""
    if node.target not in _PADS:
        return True
    value = _number(node, _PADS[node.target], 0.0)
    return value == 0 or (source.fixed is not None and source.fixed.low <= value <= source.fixed.high)


def _number(node: fx.Node, place: int, default: float) -> float:
    """Return an argument of an operator, or what it has by default."""
    value: Any = node.args[place] if len(node.args) > place else None
    return default if value is None else float(value)
