"""Weights as an 8-bit file has them: the one quantizer that bias correction and the fake quantization of training share."""

from __future__ import annotations

import torch

#: Symmetric and narrow: -128 is not used, as kernels for 8-bit weights expect.
LARGEST = 127
#: The smallest range of a channel; a channel of zeros has a scale all the same.
_SMALLEST_RANGE = 1e-9


def weight_scale(weight: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """Return what one step of each channel's integers is worth, float32, of the weight's rank, 1 long in all axes but `axis`."""
    others = [i for i in range(weight.ndim) if i != axis]
    return weight.detach().float().abs().amax(others, keepdim=True).clamp_min(_SMALLEST_RANGE) / LARGEST


def quantized_weight(weight: torch.Tensor, axis: int = 0) -> torch.Tensor:
    """Return a weight as 8 bits hold it, back in float32, without gradient.

    Args:
        weight: of a convolution (O, I, h, w) or a linear layer (O, I), both with `axis` 0.
        axis: of the channels that have a scale each: max |w| / 127. Halves are rounded to even.
    """
    scale = weight_scale(weight, axis)
    return (weight.detach().float() / scale).round().clamp(-LARGEST, LARGEST) * scale
