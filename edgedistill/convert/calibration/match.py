"""Which node of a graph each tensor of a file is, found by their values: converters rename, fuse and reorder, but do not recompute.

Names and structure are not looked at, so the same code serves every format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from edgedistill.convert.graph import Graph, activations

if TYPE_CHECKING:
    import torch
    from torch import fx

#: Largest difference of a tensor from its node, as a part of its largest magnitude: more than sums in another order give.
TOLERANCE = 1e-3
#: Paddings wider than this are not looked for.
_WIDEST = 8


def match(graph: Graph, values: Mapping[str, np.ndarray], pixels_nhwc: np.ndarray) -> dict[str, str]:
    """Return the node of each tensor of a file that has one; tensors that no node gives are left out.

    A tensor that only moves a node's values (reshaped, transposed, padded) is that node. Where several nodes have a tensor's values,
    such as a convolution and the ReLU behind it on an image without negative sums, it is the last of them, whose range is enough.

    Args:
        values: float tensors of the file by name, each (P, ...): what it gives on the first P images; more images tell more nodes apart.
        pixels_nhwc: (N, H, W, 3) uint8 RGB, at least those P images.
    """
    probes = max((len(value) for value in values.values() if value.ndim), default=1)
    nodes = node_values(graph, pixels_nhwc[:probes])
    found: dict[str, str] = {}
    for tensor, value in values.items():
        node = _nearest(value, nodes) or _padded(value, nodes)
        if node is not None:
            found[tensor] = node
    return found


def node_values(graph: Graph, pixels_nhwc: np.ndarray) -> dict[str, np.ndarray]:
    """Return the values of every node, in the order of the graph; 4-D ones as they are and channels last, each under its name."""
    nodes: dict[str, np.ndarray] = {}

    def take(node: fx.Node, value: torch.Tensor) -> None:
        nodes[node.name] = value.numpy().copy()

    activations(graph, pixels_nhwc, take)
    return nodes


def _layouts(value: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the value of a node as it is and, if it is an image, with its channels last."""
    return (value, value.transpose(0, 2, 3, 1)) if value.ndim == 4 else (value,)


def _nearest(value: np.ndarray, nodes: dict[str, np.ndarray]) -> str | None:
    """Return the last of the nodes that are nearest to a tensor, element by element in its order; None if none is near."""
    flat = value.reshape(-1)
    best, smallest = None, _allowed(value)
    for name, node in nodes.items():
        if node.size != flat.size:
            continue
        distance = min(float(np.abs(layout.reshape(-1) - flat).max()) for layout in _layouts(node)) if flat.size else 0.0
        if distance <= smallest:
            best, smallest = name, distance
    return best


def _padded(value: np.ndarray, nodes: dict[str, np.ndarray]) -> str | None:
    """Return the last of the nodes that a (P, H, W, C) or (P, C, H, W) tensor is the padded form of; None if there is none."""
    best = None
    for name, node in nodes.items():
        for layout in _layouts(node):
            if value.ndim == 4 and layout.ndim == 4 and _pads(value, layout):
                best = name
    return best


def _pads(outer: np.ndarray, inner: np.ndarray) -> bool:
    """Return whether a tensor is another one with a frame of one value around it."""
    margins = [large - small for large, small in zip(outer.shape, inner.shape, strict=True)]
    if min(margins) < 0 or max(margins) > _WIDEST or not any(margins) or margins[0]:
        return False
    allowed = _allowed(outer)
    for start in np.ndindex(*(margin + 1 for margin in margins)):
        place = tuple(slice(begin, begin + side) for begin, side in zip(start, inner.shape, strict=True))
        if np.abs(outer[place] - inner).max() <= allowed:
            frame = np.ones(outer.shape, bool)
            frame[place] = False
            return bool(np.ptp(outer[frame]) == 0)
    return False


def _allowed(value: np.ndarray) -> float:
    return TOLERANCE * float(np.abs(value).max(initial=0)) + 1e-6
