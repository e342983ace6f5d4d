"""Normalization folded into the first convolution, exactly, also where the image is padded.

With one mean for all channels that is a whole pixel value, dividing the weights by the deviation is all: a padded pixel is
0, which is the mean. Otherwise the input gets a fourth channel that has one value inside of the image and, like the others, 0
where it is padded; its weights take away what the channels' means differ from the common one.
"""

from __future__ import annotations

import torch
from torch import fx

from edgedistill.convert.graph.batch_norm import has_weights, set_weights, weights_of
from edgedistill.convert.graph.rewrite import aten, called, clean, constant
from edgedistill.recipe import PerChannel

#: Means this near to a whole pixel value are taken for it: 128 / 255 is not exact in binary.
_WHOLE = 1e-4
_STEPS = (aten.sub.Tensor, aten.div.Tensor, aten.permute.default)


def in_pixels(mean: PerChannel, std: PerChannel) -> tuple[int, torch.Tensor, torch.Tensor]:
    """Return the whole pixel value nearest to the means, the channels' offsets from it and their deviations, (3,) in pixel values."""
    means, deviations = (torch.tensor(values, dtype=torch.float64) * 255 for values in (mean, std))
    common = min(255, max(0, round(float(means.mean()))))
    offsets = means - common
    offsets[offsets.abs() < _WHOLE] = 0
    return common, offsets.float(), deviations.float()


def fold(module: fx.GraphModule, pixel_mean: int) -> bool:
    """Fold `(pixels - mean) / std` into the convolution that reads it and return true; false, and nothing is changed, where others do."""
    pixels = next(node for node in module.graph.nodes if node.op == "placeholder")
    steps = _followed(pixels)
    convolution = _reader(steps[-1]) if steps else None
    if convolution is None:
        return False
    subtract, divide, move = steps
    offsets, deviations = (constant(module, node.args[1]).double() for node in (subtract, divide))
    weight, bias = weights_of(module, convolution)
    weight = weight / deviations[:, None, None]
    image = pixels
    if offsets.any():
        level = _level(pixel_mean)
        weight = torch.cat([weight, -(weight * offsets[:, None, None]).sum(1, keepdim=True) / level], dim=1)
        with module.graph.inserting_before(move):
            image = called(module, aten.constant_pad_nd.default, pixels, [0, 1], level, like=move)
    set_weights(module, convolution, weight, bias=bias)
    divide.replace_all_uses_with(image)
    clean(module)
    return True


def _level(pixel_mean: int) -> float:
    """Return the fourth channel's value: the larger end of the centred pixels' range, so that it widens no range and is never 0."""
    return float(255 - pixel_mean if pixel_mean < 128 else -pixel_mean)


def _followed(pixels: fx.Node) -> list[fx.Node]:
    """Return the steps of the normalization behind the input, in order; an empty list where they are not all there, once each."""
    steps: list[fx.Node] = []
    readers = [user for user in pixels.users if user.target is not aten.sym_size.int]
    for target in _STEPS:
        if len(readers) != 1 or readers[0].target is not target:
            return []
        steps.append(readers[0])
        readers = list(readers[0].users)
    return steps


def _reader(move: fx.Node) -> fx.Node | None:
    """Return the ungrouped convolution that is the only reader of the image, directly or behind a padding with zeros."""
    node = move
    for _ in range(2):
        if len(node.users) != 1:
            return None
        before, node = node, next(iter(node.users))
        if node.target is aten.conv2d.default:
            groups = node.args[6] if len(node.args) > 6 else 1
            return node if groups == 1 and node.args[0] is before and has_weights(node) else None
        if not _pads_with_zeros(node):
            return None
    return None


def _pads_with_zeros(node: fx.Node) -> bool:
    """Return whether a node pads height and width, and only these, with zeros."""
    if node.target not in (aten.constant_pad_nd.default, aten.pad.default) or len(node.args[1]) > 4:  # type: ignore[arg-type]
        return False
    options = [*node.args[2:], *node.kwargs.values()]  # a value; or a mode, and a value
    return all(option is None or option == "constant" or option == 0 for option in options)
