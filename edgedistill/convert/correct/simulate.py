"""An 8-bit file in torch: weights and values rounded where the file stores them, to see the shifts and to compare before writing.

Sums are float, not integer, and products are not rescaled by integer multipliers: the file's own answers differ by a step now and then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from edgedistill.convert.correct.channels import CLIPS, LAYERS, RELU
from edgedistill.convert.correct.weights import quantized_weight
from edgedistill.convert.graph import Graph, centred
from edgedistill.convert.graph.rewrite import aten, constant

#: Operators that move values without making new ones; the file stores their output with their input's range.
_MOVES = (
    *(aten.permute.default, aten.flatten.using_ints, aten.max_pool2d.default, aten.dropout.default, aten.clone.default, aten.alias.default),
    *(aten.constant_pad_nd.default, aten.pad.default),
)
_SOFTMAX = (aten.softmax.int, aten._softmax.default)


def stored(node: fx.Node) -> bool:
    """Say whether a file stores a node's value with a range of its own: not where it moves, before a fused activation, or as logits."""
    if node.op != "call_function" or node.target in _MOVES or gives_logits(node):
        return False
    users = list(node.users)
    fused = node.target in (*LAYERS, aten.add.Tensor) and len(users) == 1 and users[0].target in (RELU, *CLIPS)
    return not fused


def gives_logits(node: fx.Node) -> bool:
    """Say whether an operator is the last one but softmax: 8-bit files compute it in float."""
    return any(user.op == "output" or (user.target in _SOFTMAX and gives_logits(user)) for user in node.users)


def quantized(value: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """Return a value as 8 bits hold it, asymmetric over [low, high], which contains 0."""
    scale = max(high - low, 1e-9) / 255
    zero_point = round(-128 - low / scale)
    return (torch.clamp(torch.round(value / scale) + zero_point, -128, 127) - zero_point) * scale


class Simulation(fx.Interpreter):
    """Runs a graph as an 8-bit file would: `ranges` are (low, high) by node name; nodes without one stay float."""

    def __init__(self, graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> None:
        super().__init__(graph.module)
        self._ranges = ranges
        layers = [node for node in graph.module.graph.nodes if node.target in LAYERS and not gives_logits(node)]
        self.weights = {node: quantized_weight(constant(graph.module, node.args[1])) for node in layers}

    def run_node(self, n: fx.Node) -> Any:
        """Run one operator and round what it gives."""
        if n not in self.weights:
            return self.rounded(n, super().run_node(n))
        arguments, options = self.fetch_args_kwargs_from_env(n)
        return self.rounded(n, n.target(arguments[0], self.weights[n], *arguments[2:], **options))  # type: ignore[operator]

    def rounded(self, node: fx.Node, value: Any) -> Any:
        """Return a node's value as the file stores it."""
        return quantized(value, *self._ranges[node.name]) if node.name in self._ranges and stored(node) else value


def simulated_logits(
    graph: Graph, ranges: Mapping[str, tuple[float, float]], pixels_nhwc: np.ndarray, *, batch_size: int = 128
) -> np.ndarray:
    """Return (N, classes) float32 logits of (N, H, W, 3) uint8 RGB pixels as an 8-bit file would give them."""
    simulation = Simulation(graph, ranges)
    with torch.inference_mode():
        batches = (centred(graph, pixels_nhwc[start : start + batch_size]) for start in range(0, len(pixels_nhwc), batch_size))
        return np.concatenate([simulation.run(batch).numpy() for batch in batches])
