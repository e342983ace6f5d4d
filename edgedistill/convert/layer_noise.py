"""Where a quantized file breaks: the signal-to-noise ratio of each layer's values on real images, the student's layers by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgedistill.convert.calibration import match, node_values
from edgedistill.convert.file_values import values_of
from edgedistill.convert.quantize import Work

if TYPE_CHECKING:
    from torch import fx

#: Images that the noise is taken from, and those of them that tensors are found in the graph with.
IMAGES, PROBES = 16, 2


class LayerError(NamedTuple):
    """A layer of the student in a quantized file: its signal-to-noise ratio, and that of what goes into it, in dB.

    `before_db` is infinite where everything that goes in is exact: a layer with much less than before is where the file breaks.
    """

    layer: str
    snr_db: float
    before_db: float

    def __str__(self) -> str:
        before = "exact input" if math.isinf(self.before_db) else f"{self.before_db:.1f} dB before it"
        return f"{self.layer}: {self.snr_db:.1f} dB ({before})"


def worst_layers(path: Path, work: Work, *, count: int = 5) -> list[LayerError]:
    """Return the layers of the file `path`, made from `work`, with the lowest signal-to-noise ratio, the worst first.

    A layer stands for the worst of its values. Layers that the file has merged into others are left out, and so are exact ones.
    """
    noise = snr_by_node(path, work)
    worst: dict[str, LayerError] = {}
    for node in work.graph.module.graph.nodes:
        if math.isinf(noise.get(node.name, math.inf)):
            continue
        layer = work.graph.layers.get(node.name) or node.name
        found = LayerError(layer, noise[node.name], _before(node, noise))
        if layer not in worst or found.snr_db < worst[layer].snr_db:
            worst[layer] = found
    return sorted(worst.values(), key=lambda error: error.snr_db)[:count]


def snr_by_node(path: Path, work: Work) -> dict[str, float]:
    """Return the signal-to-noise ratio, in dB, of each node of `work.graph` that the quantized file `path` has a tensor for."""
    pixels = work.pixels_nhwc[:IMAGES]
    tensors = _tensor_nodes(work)
    run = values_of(path)
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for image in pixels:
        nodes = node_values(work.graph, image[np.newaxis])
        found = run(image[np.newaxis], work.graph.pixel_mean)
        for name in tensors.keys() & found.keys():
            expected = nodes[tensors[name]]
            if expected.size == found[name].size:
                node = tensors[name]
                signal[node] = signal.get(node, 0.0) + float(np.square(expected, dtype=np.float64).sum())
                noise[node] = noise.get(node, 0.0) + _noise(expected, found[name])
    return {node: _decibels(signal[node], noise[node]) for node in signal if signal[node] > 0}


def _tensor_nodes(work: Work) -> dict[str, str]:
    """Return the node of each tensor of the fp32 file, whose names the quantized file keeps; one tensor a node, the last."""
    run = values_of(work.fp32)
    probes = work.pixels_nhwc[:PROBES]
    found = [run(image[np.newaxis], work.graph.pixel_mean) for image in probes]
    stacked = {name: np.concatenate([one[name] for one in found]) for name in found[0] if found[0][name].ndim > 1}
    by_node = {node: tensor for tensor, node in match(work.graph, stacked, probes).items()}
    return {tensor: node for node, tensor in by_node.items()}


def _noise(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the sum of squared differences, in whichever layout the file has the tensor."""
    layouts = (expected, expected.transpose(0, 2, 3, 1)) if expected.ndim == 4 else (expected,)
    flat = found.reshape(-1).astype(np.float64)
    return min(float(np.square(layout.reshape(-1) - flat).sum()) for layout in layouts)


def _decibels(signal: float, noise: float) -> float:
    return 10 * math.log10(signal / noise) if noise else math.inf


def _before(node: fx.Node, noise: Mapping[str, float]) -> float:
    """Return the lowest ratio among the nearest values in front of a node that the file has."""
    lowest, waiting, seen = math.inf, list(node.all_input_nodes), set()
    while waiting:
        source = waiting.pop()
        if source in seen:
            continue
        seen.add(source)
        if source.name in noise:
            lowest = min(lowest, noise[source.name])
        else:
            waiting += source.all_input_nodes
    return lowest
