"""Cross-layer equalization: channels scaled so that each uses the range it is stored with, and the network computes the same.

Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, section 4.1: f(s x) = s f(x) for ReLU
(eq. 3 to 5), so a layer's output channels may be divided by s and the next layer's input channels multiplied (eq. 6 and 7),
with s_i = sqrt(r1_i r2_i) / r2_i (eq. 11), repeated over all pairs until nothing moves. Three things differ:

- r1 is what the channels reach on images, where images are given, since it is values that have one scale for all channels;
  weights have a scale for each output channel. Without images it is the range of the weights, as in the paper.
- A depthwise layer has one input for each output channel, so its weights lose nothing whatever s is: r2 = 1 for it.
- Residual sums are not left out: all that writes or reads the tensors of a stream gets the same s.

ReLU6 clips at the same value for all channels, because a clip per channel is no operator of the 8-bit kernels. With images, the
channels that never reach it are scaled within it, those that do keep their scale. Without images, its groups stay as they are.
Absorbing high biases (section 4.1.3) is left out: it is not exact at borders padded with zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import fx

from edgedistill.convert.correct.channels import Group, by_input_channel, groups_of
from edgedistill.convert.correct.simulate import stored
from edgedistill.convert.graph import Graph, activations, copy_of
from edgedistill.convert.graph.batch_norm import set_weights, weights_of
from edgedistill.convert.graph.rewrite import clean

Weights = dict[fx.Node, tuple[torch.Tensor, torch.Tensor]]

#: Rounds over all groups, and the change of the factors below which no further one is made.
_ROUNDS, _STILL = 20, 1e-3
#: A channel is scaled up to this part of a clip: on other images it may reach more than on these.
_OF_CLIP = 0.9
#: Factors are kept within this and its inverse; beyond it a channel carries nothing.
_LARGEST = 1e6


def equalize(graph: Graph, pixels_nhwc: np.ndarray | None = None) -> Graph:
    """Return a copy of a graph with equalized channels.

    Args:
        graph: computes the same as the copy, but for float rounding.
        pixels_nhwc: (N, H, W, 3) uint8 RGB images to see what channels reach, None to go by the weights.
    """
    result = copy_of(graph)
    groups = [group for group in groups_of(result) if pixels_nhwc is not None or not group.clips]
    weights = {node: weights_of(result.module, node) for group in groups for node in (*group.writers, *group.readers)}
    reached = {} if pixels_nhwc is None else _reached(result, pixels_nhwc)
    for _ in range(_ROUNDS):
        changes = [_equalize_group(group, weights, reached) for group in groups]
        if max(changes, default=0.0) < _STILL:
            break
    write(result, weights)
    return result


def rescale(group: Group, weights: Weights, factors: torch.Tensor) -> None:
    """Divide a group's channels by factors (C,): its writers' outputs by them, its readers' inputs times them, in place."""
    for layer in group.writers:
        weight, bias = weights[layer]
        weight.div_(factors.view(-1, *[1] * (weight.ndim - 1)))
        bias.div_(factors)
    for layer in group.readers:
        columns = by_input_channel(layer, weights[layer][0], len(factors))
        columns.mul_(factors.view(len(columns), 1, -1, 1))


def write(graph: Graph, weights: Weights) -> None:
    """Give the layers of a graph new weights."""
    for layer, (weight, bias) in weights.items():
        set_weights(graph.module, layer, weight, bias=bias)
    clean(graph.module)


def _reached(graph: Graph, pixels_nhwc: np.ndarray) -> dict[fx.Node, torch.Tensor]:
    """Return the largest magnitude (C,), float64, of each channel of each stored value with channels."""
    found: dict[fx.Node, torch.Tensor] = {}

    def take(node: fx.Node, value: torch.Tensor) -> None:
        if stored(node) and value.ndim in (2, 4):
            most = value.abs().amax([i for i in range(value.ndim) if i != 1]).double()
            found[node] = torch.maximum(found[node], most) if node in found else most

    activations(graph, pixels_nhwc, take)
    return found


def _equalize_group(group: Group, weights: Weights, reached: dict[fx.Node, torch.Tensor]) -> float:
    """Scale a group's channels, and what they reach, by its factors and return the largest change: |log s|."""
    channels = len(weights[group.writers[0]][0])
    seen = [node for node in group.nodes if node in reached and len(reached[node]) == channels]
    factors = _factors(group, weights, [reached[node] for node in seen])
    rescale(group, weights, factors)
    reached.update({node: reached[node] / factors for node in seen})
    return float(factors.log().abs().max())


def _factors(group: Group, weights: Weights, values: list[torch.Tensor]) -> torch.Tensor:
    """Return what each channel (C,) is divided by: 1 for channels that carry nothing."""
    writing = torch.stack([weights[layer][0].flatten(1).abs().amax(1) for layer in group.writers]).amax(0)
    first = _relative(values) if values else writing
    second = _read(group, weights, len(writing))
    alive = (first > 0) & (writing > 0) & (second > 0 if second is not None else True)
    if not alive.any():
        return torch.ones_like(writing)
    wanted = first.clone() if second is None else (first / second).sqrt()
    wanted[~alive] = 1
    if group.clips:
        return _within_clip(wanted, torch.stack(values).amax(0), alive=alive, clip=min(group.clips))
    # A factor common to all channels changes no rounding; without it the factors come to rest.
    wanted[alive] /= wanted[alive].log().mean().exp()
    return wanted.clamp(1 / _LARGEST, _LARGEST)


def _relative(values: list[torch.Tensor]) -> torch.Tensor:
    """Return the largest part (C,) of a tensor's range that each channel uses in any of a group's tensors."""
    return torch.stack([value / value.amax().clamp_min(1e-30) for value in values]).amax(0)


def _read(group: Group, weights: Weights, channels: int) -> torch.Tensor | None:
    """Return the largest weight (C,) that reads each channel; None if only depthwise layers do."""
    found = []
    for layer in group.readers:
        columns = by_input_channel(layer, weights[layer][0], channels)
        if columns.shape[2] > 1:
            found.append(columns.abs().amax((1, 3)).flatten())
    return torch.stack(found).amax(0) if found else None


def _within_clip(wanted: torch.Tensor, most: torch.Tensor, *, alive: torch.Tensor, clip: float) -> torch.Tensor:
    """Return factors with which no channel that stays below the clip reaches it, and 1 for those that reach it."""
    clipped = most >= clip * (1 - 1e-6)
    anchor = wanted[clipped & alive] if (clipped & alive).any() else (wanted / most)[alive] * _OF_CLIP * clip
    factors = torch.maximum(wanted / anchor.log().mean().exp(), most / (_OF_CLIP * clip))
    factors[clipped | ~alive] = 1
    return factors.clamp(1 / _LARGEST, _LARGEST)
