"""Running a graph: on pixels as they come, and with every value between kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import fx

from edgedistill.convert.graph.prepare import Graph


def centred(graph: Graph, pixels_nhwc: np.ndarray) -> torch.Tensor:
    """Return (N, H, W, 3) float32 input of a graph for uint8 RGB pixels of that shape."""
    return torch.from_numpy(pixels_nhwc).float() - graph.pixel_mean


def logits_of(graph: Graph, pixels_nhwc: np.ndarray, *, batch_size: int = 128) -> np.ndarray:
    """Return (N, classes) float32 logits of (N, H, W, 3) uint8 RGB pixels, computed by torch."""
    with torch.inference_mode():
        return np.concatenate([graph.module(batch).numpy() for batch in _batches(graph, pixels_nhwc, batch_size)])


def activations(graph: Graph, pixels_nhwc: np.ndarray, take: Callable[[fx.Node, torch.Tensor], None], *, batch_size: int = 64) -> None:
    """Run a graph on (N, H, W, 3) uint8 RGB pixels and show `take` every float value, by node, batch after batch.

    The input comes first, as the placeholder's value; constants are left out.
    """
    watching = _Watching(graph.module, take)
    with torch.inference_mode():
        for batch in _batches(graph, pixels_nhwc, batch_size):
            watching.run(batch)


class _Watching(fx.Interpreter):
    """Runs a graph node by node and shows what each gives."""

    def __init__(self, module: fx.GraphModule, take: Callable[[fx.Node, torch.Tensor], None]) -> None:
        super().__init__(module)
        self._take = take

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n.op in ("placeholder", "call_function") and isinstance(value, torch.Tensor) and value.is_floating_point():
            self._take(n, value)
        return value


def _batches(graph: Graph, pixels_nhwc: np.ndarray, batch_size: int) -> Iterator[torch.Tensor]:
    for start in range(0, len(pixels_nhwc), batch_size):
        yield centred(graph, pixels_nhwc[start : start + batch_size])
