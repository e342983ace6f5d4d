"""Bias correction: what 8 bits shift the output of a layer by, on average over calibration images, is taken off its bias.

Nagel et al. 2019, Data-Free Quantization, section 4.2: rounding weights shifts a channel's mean by E[(W~ - W) x] (eq. 17), which
the bias can take back (eq. 18); the expectations are taken from images (appendix D), layer after layer. Each layer sees what the
rounded and corrected layers in front of it give, so that the shift of rounded and clipped values is taken off as well. The layer
of the logits has float weights in the file; its bias takes what is left of the shifts of its input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import fx

from edgedistill.convert.correct.channels import LAYERS, shapes_of
from edgedistill.convert.correct.simulate import Simulation
from edgedistill.convert.graph import Graph, centred, copy_of
from edgedistill.convert.graph.batch_norm import set_weights, weights_of
from edgedistill.convert.graph.rewrite import clean

#: Values of one tensor of all images: 256 MiB of float32, of which a handful are in memory at a time.
_MOST_VALUES = 2**26


def correct_bias(graph: Graph, ranges: Mapping[str, tuple[float, float]], pixels_nhwc: np.ndarray) -> Graph:
    """Return a copy of a graph whose layers give, in 8 bits, the mean of each output channel that they give in float.

    Args:
        ranges: (low, high) that each stored value will have, by node name.
        pixels_nhwc: (N, H, W, 3) uint8 RGB calibration images; as many of them as fit in memory are looked at, evenly chosen.
    """
    result = copy_of(graph)
    inputs = centred(graph, _fitting(graph, pixels_nhwc))
    correcting = _Correcting(result, ranges)
    with torch.inference_mode():
        correcting.run(torch.cat([inputs, inputs]))
    for layer, shift in correcting.shifts.items():
        weight, bias = weights_of(result.module, layer)
        set_weights(result.module, layer, weight, bias=bias - shift)
    clean(result.module)
    return result


class _Correcting(Simulation):
    """Runs a batch whose first half goes through the float graph and whose second half, the same images, through the corrected 8-bit one.

    `shifts` are what was taken off the layers' output channels, (O,) float64 each.
    """

    def __init__(self, graph: Graph, ranges: Mapping[str, tuple[float, float]]) -> None:
        super().__init__(graph, ranges)
        self.shifts: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one operator on both halves; a layer's second half is corrected before it is rounded."""
        value = fx.Interpreter.run_node(self, n)
        if n.op != "call_function" or not isinstance(value, torch.Tensor):
            return value
        wanted, given = value.chunk(2)
        if n.target in LAYERS:
            arguments, options = self.fetch_args_kwargs_from_env(n)
            given = n.target(arguments[0].chunk(2)[1], self.weights.get(n, arguments[1]), *arguments[2:], **options)
            self.shifts[n] = _means(given) - _means(wanted)
            given = given - self.shifts[n].float().view(-1, *[1] * (given.ndim - 2))
        return torch.cat([wanted, self.rounded(n, given)])


def _means(value: torch.Tensor) -> torch.Tensor:
    """Return the mean (O,), float64, of each channel of a value (N, O) or (N, O, h, w)."""
    return value.double().mean([i for i in range(value.ndim) if i != 1])


def _fitting(graph: Graph, pixels_nhwc: np.ndarray) -> np.ndarray:
    largest = max(math.prod(shape) for shape in shapes_of(graph).values())
    count = min(len(pixels_nhwc), max(1, _MOST_VALUES // largest))
    return pixels_nhwc[np.linspace(0, len(pixels_nhwc) - 1, count).round().astype(int)]
