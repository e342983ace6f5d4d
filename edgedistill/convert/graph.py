"""The network as it is exported: raw camera pixels in, logits out, normalization inside the graph.

A file that takes pixels as the camera gives them cannot be fed with the wrong mean and deviation. How the graph becomes
a file is left to `onnx_fp32` and `tflite_fp32`.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from edgedistill.bundle import Preprocess
from edgedistill.errors import ConvertError
from edgedistill.recipe import PerChannel


class RawPixels(nn.Module):
    """A network that takes pixels (N, H, W, 3), RGB, 0 to 255, uint8 or float32, and returns logits (N, classes).

    Args:
        network: takes normalized float32 (N, 3, H, W).
        mean: of the normalization, RGB, 0 to 1.
        std: of the normalization, RGB, 0 to 1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, *, mean: PerChannel, std: PerChannel) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", _pixel_units(mean))
        self.register_buffer("std", _pixel_units(std))

    def forward(self, pixels_nhwc: torch.Tensor) -> torch.Tensor:
        """Return the logits of raw pixels."""
        # Normalized before the channels move: so the TFLite converter, which moves them back, finds nothing in its way.
        logits: torch.Tensor = self.network(((pixels_nhwc.float() - self.mean) / self.std).permute(0, 3, 1, 2))
        return logits


def prepare(student: nn.Module, spec: Preprocess, *, mean: PerChannel, std: PerChannel, classes: int) -> RawPixels:
    """Return a copy of the student, in evaluation mode on the CPU, that takes raw pixels; the student stays as it is.

    Raises ConvertError for weights that are not finite, for an input that is not raw RGB pixels, and for a network
    that fails on such an input or does not return (1, classes).
    """
    if spec.mean is not None or spec.color != "RGB":
        raise ConvertError(
            f"the files take raw RGB pixels, got color = {spec.color!r}, mean = {spec.mean}; "
            "leave mean and std out of the preprocessing, they go into the graph"
        )
    for name, tensor in student.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ConvertError(f"the student's weights are broken: {name} has NaN or infinite values; train it again with a smaller lr")
    network = copy.deepcopy(student).cpu().float().eval().to(memory_format=torch.contiguous_format)
    graph = RawPixels(network, mean=mean, std=std).eval().requires_grad_(False)
    _check_output(graph, spec, classes)
    return graph


def logits_of(graph: RawPixels, pixels_nhwc: np.ndarray, *, batch_size: int = 256) -> np.ndarray:
    """Return (N, classes) float32 logits of (N, H, W, 3) uint8 RGB pixels, computed by torch."""
    with torch.inference_mode():
        batches = torch.from_numpy(pixels_nhwc).split(batch_size)
        return torch.cat([graph(batch) for batch in batches]).numpy()


def example(spec: Preprocess, dtype: torch.dtype) -> torch.Tensor:
    """Return pixels (1, H, W, 3) to trace a graph with."""
    return torch.full((1, spec.height, spec.width, 3), 128, dtype=dtype)


def quantized_pixels(graph: RawPixels) -> tuple[float, int]:
    """Return scale and zero point that hold every normalized pixel in 8 bits without sign.

    With one mean and one deviation for all channels, and a mean that is a whole pixel value, the stored value of a
    pixel is the pixel itself: nothing is rounded.
    """
    low = float(((0 - graph.mean) / graph.std).min())
    high = float(((255 - graph.mean) / graph.std).max())
    scale = (high - low) / 255
    return scale, round(-low / scale)


def pixels_are_exact(graph: RawPixels) -> bool:
    """Return whether the values of `quantized_pixels` are the camera's bytes."""
    uniform = graph.mean.unique().numel() == 1 and graph.std.unique().numel() == 1
    mean = float(graph.mean[0])
    return uniform and 0 <= mean <= 255 and abs(mean - round(mean)) < 1e-4


def _pixel_units(values: PerChannel) -> torch.Tensor:
    return (torch.tensor(values, dtype=torch.float64) * 255).float()


def _check_output(graph: RawPixels, spec: Preprocess, classes: int) -> None:
    try:
        with torch.inference_mode():
            output = graph(example(spec, torch.uint8))
    except (RuntimeError, ValueError, TypeError) as error:
        raise ConvertError(
            f"the student fails on an image of {spec.height}x{spec.width}: {error}; give it the size it was trained at"
        ) from error
    shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
    if shape != (1, classes):
        raise ConvertError(f"the student returns {shape} for one image, expected (1, {classes}), one logit a label; replace its head")
