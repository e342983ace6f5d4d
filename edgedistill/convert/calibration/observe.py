"""The values of a graph on calibration images, kept so that neither the images' order nor the batches show in them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgedistill.convert.calibration.rules import Rule, rules_of
from edgedistill.convert.graph import Graph, activations
from edgedistill.errors import ConvertError

if TYPE_CHECKING:
    from torch import fx

Progress = Callable[[str], None]

#: Bins on each side of 0: four for each step of 8 bits, if values lie on both sides.
BINS = 512


@dataclass(frozen=True, kw_only=True)
class Values:
    """What one node gave, cut to what its rule says is seen of it.

    Args:
        lows: (N,) float32, each image's smallest value; the images lie in the order of their checksums.
        highs: (N,) float32, each image's largest value.
        below: (BINS,) int64, how many magnitudes of values below 0 lie in each of equal bins from 0 to the largest; None if not asked for.
        above: (BINS,) int64, the same of values above 0. Zeros, which 8 bits hold exactly, are in neither.
    """

    lows: np.ndarray
    highs: np.ndarray
    below: np.ndarray | None = None
    above: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What calibration images showed of a graph: values and rules by node, in the order of the graph; the input comes first."""

    values: dict[str, Values]
    rules: dict[str, Rule]
    images: int
    images_sha256: str


def observe(
    graph: Graph, pixels_nhwc: np.ndarray, *, histograms: bool = True, progress: Progress = lambda message: None, batch_size: int = 64
) -> Statistics:
    """Run calibration images through a graph and return what its nodes gave.

    Args:
        pixels_nhwc: (N, H, W, 3) uint8 RGB.
        histograms: run them a second time for the histograms that ranges of method `mse` are taken from.
        progress: is told each pass before it starts.

    Raises ConvertError for values that are not finite.
    """
    digests = _digests(pixels_nhwc)
    # Sums and matrix products differ in their last bits with an image's place in the batch: so each gets the same place every time.
    pixels_nhwc = pixels_nhwc[np.argsort(digests, kind="stable")]
    rules = rules_of(graph)
    progress(f"calibrating on {len(pixels_nhwc)} images: smallest and largest values")
    values = _extremes(graph, pixels_nhwc, rules, batch_size=batch_size)
    if histograms:
        progress(f"calibrating on {len(pixels_nhwc)} images: how values are distributed")
        values = _with_histograms(graph, pixels_nhwc, values, batch_size=batch_size)
    return Statistics(
        values=values, rules={name: rules[name] for name in values}, images=len(pixels_nhwc), images_sha256=images_sha256(pixels_nhwc)
    )


def images_sha256(pixels_nhwc: np.ndarray) -> str:
    """Return a checksum of (N, H, W, 3) uint8 images that is the same in every order of them."""
    return hashlib.sha256(str(pixels_nhwc.shape[1:]).encode() + b"".join(sorted(_digests(pixels_nhwc)))).hexdigest()


def _digests(pixels_nhwc: np.ndarray) -> list[bytes]:
    return [hashlib.sha256(image.tobytes()).hexdigest().encode() for image in pixels_nhwc]


def _extremes(graph: Graph, pixels_nhwc: np.ndarray, rules: dict[str, Rule], *, batch_size: int) -> dict[str, Values]:
    lows: dict[str, list[torch.Tensor]] = {}
    highs: dict[str, list[torch.Tensor]] = {}

    def take(node: fx.Node, value: torch.Tensor) -> None:
        low, high = torch.aminmax(value.flatten(1), dim=1)
        if not torch.isfinite(low + high).all():
            layer = graph.layers.get(node.name) or node.name
            raise ConvertError(
                f"the student's layer {layer} gives values that are not finite on calibration images; train it with a smaller lr"
            )
        lows.setdefault(node.name, []).append(low.clamp(*rules[node.name].bounds))
        highs.setdefault(node.name, []).append(high.clamp(*rules[node.name].bounds))

    activations(graph, pixels_nhwc, take, batch_size=batch_size)
    return {name: Values(lows=torch.cat(low).numpy(), highs=torch.cat(highs[name]).numpy()) for name, low in lows.items()}


def _with_histograms(graph: Graph, pixels_nhwc: np.ndarray, values: dict[str, Values], *, batch_size: int) -> dict[str, Values]:
    below, above = ({name: np.zeros(BINS, np.int64) for name in values} for _ in range(2))
    lowest = {name: float(item.lows.min()) for name, item in values.items()}
    highest = {name: float(item.highs.max()) for name, item in values.items()}

    def take(node: fx.Node, value: torch.Tensor) -> None:
        low, high = lowest[node.name], highest[node.name]
        value = value.clamp(low, high)
        zeros = value.numel() - int(torch.count_nonzero(value))
        for counts, side, largest in ((below[node.name], -value, -low), (above[node.name], value, high)):
            if largest > 0:
                counts += torch.histc(side, BINS, 0, largest).numpy().astype(np.int64)
                counts[0] -= zeros

    activations(graph, pixels_nhwc, take, batch_size=batch_size)
    return {name: replace(item, below=below[name], above=above[name]) for name, item in values.items()}
