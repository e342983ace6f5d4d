"""Views as a network wants them: its own size and normalization. Every teacher and student is fed by this."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgedistill.recipe import PerChannel


def resized(views_nhwc: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Return (N, H, W, 3) uint8 RGB views as (N, 3, *size) float32, 0 to 255, channels last in memory."""
    images = views_nhwc.permute(0, 3, 1, 2).float()
    if tuple(images.shape[2:]) != size:
        images = functional.interpolate(images, size=size, mode="bilinear", antialias=True)
    return images


def normalized(images_nchw: torch.Tensor, *, mean: PerChannel, std: PerChannel) -> torch.Tensor:
    """Return (pixel - mean) / std of (N, 3, H, W) pixels, 0 to 255; `mean` and `std` are RGB, 0 to 1."""
    mean_c, std_c = (torch.tensor(value, device=images_nchw.device).view(1, 3, 1, 1) * 255 for value in (mean, std))
    return (images_nchw - mean_c) / std_c
