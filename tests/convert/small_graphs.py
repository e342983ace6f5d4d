"""Graphs of a few layers, to be computed by hand or drawn at random, and what tests ask of them."""

from __future__ import annotations

import numpy as np
import torch
from torch import fx, nn

from edgedistill.bundle import Preprocess
from edgedistill.convert.correct.channels import LAYERS
from edgedistill.convert.graph import Graph, activations, prepare

__all__ = ["LAYERS", "MEAN", "SPEC", "STD", "graph_of", "minmax", "named", "pixels", "set_weight"]

SIZE = 8
SPEC = Preprocess(height=SIZE, width=SIZE, resize="crop", interpolation="area")
#: With these the graph's input is a pixel minus 128 and the folded weights are the given ones.
MEAN, STD = (128 / 255,) * 3, (1 / 255,) * 3


def graph_of(*layers: nn.Module, classes: int) -> Graph:
    """Return the graph of layers in a row."""
    return prepare(nn.Sequential(*layers), SPEC, mean=MEAN, std=STD, classes=classes)


def pixels(count: int = 16, *, seed: int = 0) -> np.ndarray:
    """Return (count, SIZE, SIZE, 3) uint8 RGB noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8)


def set_weight(layer: nn.Module, weight: list, bias: list[float] | None = None) -> nn.Module:
    """Give a layer weights, as nested lists of its output and input channels, and a bias; it is returned."""
    values = torch.tensor(weight, dtype=torch.float32)
    layer.weight.data = values.reshape(layer.weight.shape)
    if bias is not None:
        layer.bias.data = torch.tensor(bias)
    return layer


def named(graph: Graph, name: str) -> fx.Node:
    """Return the node of a name."""
    return next(node for node in graph.module.graph.nodes if node.name == name)


def minmax(graph: Graph, images: np.ndarray) -> dict[str, tuple[float, float]]:
    """Return the smallest and the largest value of each node on images, 0 among them."""
    found: dict[str, tuple[float, float]] = {}

    def take(node: fx.Node, value: torch.Tensor) -> None:
        low, high = found.get(node.name, (0.0, 0.0))
        found[node.name] = (min(low, float(value.min())), max(high, float(value.max())))

    activations(graph, images, take)
    return found
