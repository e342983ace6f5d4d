"""A graph that rounds in float32 what an int8 TFLite file rounds in integers, with gradients through the rounding and to the ranges.

Weights: symmetric, one scale a channel, -127 to 127. Biases: 32 bits with the scale of input times weight. Values: asymmetric, one scale
a tensor, at the file's own tensors only, so that what the file fuses is rounded once. The sums between are float32, not integers: a value
that lies on the edge of two steps may fall on the other one. A module in `.double()` has the integers' own sums, at several times the cost.

The gradient passes rounding unchanged (straight through) and stops at values outside of their range. Ranges get that of LSQ+ (Bhalgat,
Lee, Nagel, Blankevoort and Kwak 2020, equations 4 and 6; Esser et al. 2020 for the scale), led on from scale and zero point to both ends:
an end moves by what is clipped there (as PACT's does, Choi et al. 2018) and by how rounding changes with the width of a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx

from edgedistill.convert.aware.points import Points
from edgedistill.convert.calibration import Range, Ranges
from edgedistill.convert.calibration.rules import Rule, rules_of
from edgedistill.convert.correct.weights import quantized_weight, weight_scale
from edgedistill.convert.graph import Graph, copy_of
from edgedistill.convert.graph.rewrite import aten
from edgedistill.errors import ConvertError

LOWEST, HIGHEST = -128, 127
_LARGEST_BIAS = 2.0**31
#: The smallest width of a range.
_NARROWEST = 1e-9
#: The names of the ranges in a fake quantized module: one row a range, (low, high).
RANGES, UNIT, LEARNED = "fake_ranges", "fake_unit", "fake_learned"

#: Averages, which the interpreter computes from the stored integers where they share their input's range.
_AVERAGES = (aten.adaptive_avg_pool2d.default, aten.avg_pool2d.default)
#: What float32 sums may be off at an average that lies between two integers.
_TIE = 1e-3
_LAYERS = (aten.conv2d.default, aten.linear.default)


def fake_quantized(graph: Graph, ranges: Ranges, points: Points) -> fx.GraphModule:
    """Return a copy of a graph that answers like the file that `points` were read from, quantized with these ranges.

    It takes centred pixels (N, H, W, 3) and returns logits (N, classes). Its weights have the graph's names; the parameter
    `fake_ranges` (R, 2) holds the ranges' ends, each as a part of the range's first width, so that all learn at one rate.

    Raises ConvertError for a point that has no range.
    """
    module = copy_of(graph).module
    owners = sorted(set(points.stored.values()))
    if missing := [name for name in owners if name not in ranges]:
        raise ConvertError(f"the nodes {', '.join(missing)} are stored in 8 bits and have no range; calibrate this very graph")
    rows = {name: row for row, name in enumerate(owners)}
    _register_ranges(module, graph, {name: ranges[name] for name in owners})
    nodes = list(module.graph.nodes)
    with module.graph.inserting_before(nodes[0]):
        steps = module.graph.call_function(steps_of, tuple(module.graph.get_attr(name) for name in (RANGES, UNIT)))
    rules = rules_of(graph)
    for layer in [node for node in nodes if node.target in _LAYERS and _is_integer(node, points)]:
        if (source := _source(layer, rules, points)) is not None:
            _round_weights(module, layer, steps, rows[points.stored[source]])
    for node in [node for node in nodes if node.name in points.stored]:
        readers = list(node.users)
        owner = points.stored[node.name]
        rounding = fake_average if node.target in _AVERAGES and owner != node.name else fake_value
        with module.graph.inserting_after(node):
            rounded = module.graph.call_function(rounding, (node, steps, rows[owner]))
        for reader in readers:
            reader.replace_input_with(node, rounded)
    module.graph.lint()
    module.recompile()
    return module


def learned(module: fx.GraphModule, graph: Graph, ranges: Ranges, points: Points) -> tuple[Graph, Ranges]:
    """Return a graph with the weights of a fake quantized module, and the ranges with those that it has learned."""
    result = copy_of(graph)
    weights = dict(module.named_parameters()) | dict(module.named_buffers())
    with torch.no_grad():
        for name, own in (*result.module.named_parameters(), *result.module.named_buffers()):
            own.copy_(weights[name])
        ends = ends_of(getattr(module, RANGES), getattr(module, UNIT))
    found = {name: Range(*ends[row].tolist()) for row, name in enumerate(sorted(set(points.stored.values())))}
    groups = _moved_together(graph)
    of_group = {groups[name]: value for name, value in found.items()}
    return result, {name: found.get(name, of_group.get(groups[name], value)) for name, value in ranges.items()}


def ranged(graph: Graph, points: Points) -> frozenset[str]:
    """Return the nodes whose ranges a fake quantized module has: the points' owners, and all that only move their values."""
    groups = _moved_together(graph)
    owned = {groups[name] for name in points.stored.values()}
    return frozenset(name for name, group in groups.items() if group in owned)


def steps_of(ends: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Return (R, 2) scales and zero points of ranges, as ai-edge-quantizer computes them: in float32, whatever the ends are in."""
    low, high = ends_of(ends.float(), unit.float()).unbind(1)
    scale = (high - low).clamp_min(_NARROWEST) / (HIGHEST - LOWEST)
    zero = LOWEST - low / scale
    return torch.stack([scale, _Replaced.apply(zero, zero.detach().round())], dim=1).to(ends.dtype)


def ends_of(ends: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """Return (R, 2) low and high in the values' own units; 0 is always between them."""
    low, high = (ends * unit).unbind(1)
    return torch.stack([low.clamp_max(0), high.clamp_min(0)], dim=1)


def fake_value(value: torch.Tensor, steps: torch.Tensor, row: int) -> torch.Tensor:
    """Return a value as 8 bits with the given row's scale and zero point hold it."""
    rounded: torch.Tensor = _Rounded.apply(value, *steps[row].unbind())
    return rounded


def fake_average(value: torch.Tensor, steps: torch.Tensor, row: int) -> torch.Tensor:
    """Return an average of values that are in 8 bits already; halves go away from the integer 0, as AVERAGE_POOL_2D rounds them."""
    scale, zero = steps[row].detach().unbind()
    stored = value.detach() / scale + zero
    rounded: torch.Tensor = _Replaced.apply(value, (stored.sign() * (stored.abs() + (0.5 + _TIE)).floor() - zero) * scale)
    return rounded


def fake_weight(weight: torch.Tensor) -> torch.Tensor:
    """Return a weight, output channels first, as 8 bits hold it."""
    stored = quantized_weight(weight)
    if weight.dtype != torch.float32:  # in which a whole number of steps is not exact
        scale = weight_scale(weight)
        stored = (stored / scale).round().to(weight.dtype) * scale.to(weight.dtype)
    rounded: torch.Tensor = _Replaced.apply(weight, stored)
    return rounded


def fake_bias(bias: torch.Tensor, weight: torch.Tensor, steps: torch.Tensor, row: int) -> torch.Tensor:
    """Return a bias as 32 bits hold it, for a layer whose input has the given row's scale."""
    scale = steps[row, 0].detach().float() * weight_scale(weight).flatten()
    stored = (bias.detach().float() / scale).round().clamp(-_LARGEST_BIAS, _LARGEST_BIAS)
    rounded: torch.Tensor = _Replaced.apply(bias, stored.to(bias.dtype) * scale.to(bias.dtype))
    return rounded


class _Replaced(torch.autograd.Function):
    """One value in the place of another, whose gradient it passes on."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, replacement: torch.Tensor) -> torch.Tensor:
        return replacement

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class _Rounded(torch.autograd.Function):
    """Values rounded to 256 steps; the gradients of value, scale and zero point."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
        rounded = _in_steps(value, scale, zero)[1] * scale
        ctx.save_for_backward(value, scale, zero)
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        value, scale, zero = ctx.saved_tensors
        exact, steps = _in_steps(value, scale, zero)
        passed = gradient * ((exact - steps).abs_() <= 0.5)
        if not ctx.needs_input_grad[1]:
            return passed, None, None
        # Inside, the scale's gradient is the rounding error in steps; outside it is the step at the end, and the zero point moves that end.
        of_scale = (gradient * steps).sum() - (passed * exact).sum()
        return passed, of_scale, (passed.sum() - gradient.sum()) * scale


def _in_steps(value: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how many steps from 0 a value is, exactly and rounded to one of the 256 that there are."""
    exact = value / scale
    return exact, exact.round().clamp_(float(LOWEST - zero), float(HIGHEST - zero))


def _register_ranges(module: fx.GraphModule, graph: Graph, ranges: Mapping[str, Range]) -> None:
    """Give a module its ranges; those that an operator prescribes and ends at 0, as behind a ReLU, are not learned."""
    rules = rules_of(graph)
    ends = torch.tensor(list(ranges.values()), dtype=torch.float32).reshape(-1, 2)
    unit = (ends[:, 1:] - ends[:, :1]).clamp_min(_NARROWEST)
    fixed = torch.tensor([name in rules and _is_fixed(name, rules) for name in ranges], dtype=torch.bool)
    # A power of two is no rounding: the ends that the file gets are the very ones that were calibrated.
    unit = 2.0 ** unit.log2().ceil()
    module.register_parameter(RANGES, torch.nn.Parameter(ends / unit))
    module.register_buffer(UNIT, unit)
    module.register_buffer(LEARNED, (ends != 0) & ~fixed[:, None])


def _is_fixed(name: str, rules: Mapping[str, Rule]) -> bool:
    rule = rules[name]
    return _is_fixed(rule.like, rules) if rule.like is not None else rule.fixed is not None


def _round_weights(module: fx.GraphModule, layer: fx.Node, steps: fx.Node, row: int) -> None:
    arguments = list(layer.args)
    weight = arguments[1]
    with module.graph.inserting_before(layer):
        arguments[1] = module.graph.call_function(fake_weight, (weight,))
        if len(arguments) > 2 and arguments[2] is not None:
            arguments[2] = module.graph.call_function(fake_bias, (arguments[2], weight, steps, row))
    layer.args = tuple(arguments)


def _is_integer(layer: fx.Node, points: Points) -> bool:
    """Return whether the first tensor of the file behind a layer is in 8 bits, and not made by an operator in float."""
    return next((n.name not in points.floating for n in _chain(layer) if n.name in points.stored or n.name in points.floating), False)


def _chain(node: fx.Node) -> Iterator[fx.Node]:
    """Return a node and those behind it, as far as each has one reader."""
    yield node
    while len(node.users) == 1:
        node = next(iter(node.users))
        yield node


def _source(layer: fx.Node, rules: Mapping[str, Rule], points: Points) -> str | None:
    """Return the rounded node that a layer reads, directly or moved or padded; None where it reads float values."""
    name: str | None = getattr(layer.args[0], "name", None)
    while name is not None and name not in points.stored:
        name = rules[name].like if name in rules else None
    return name


def _moved_together(graph: Graph) -> dict[str, str]:
    """Return, by node, the node whose values it moves, itself where it makes new ones: they have one range."""
    groups: dict[str, str] = {}
    for name, rule in rules_of(graph).items():
        groups[name] = groups[rule.like] if rule.like is not None else name
    return groups
