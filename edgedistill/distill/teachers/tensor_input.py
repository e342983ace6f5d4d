"""How the input tensor of a model file is filled with views: its size, layout, type and normalization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from edgedistill.bundle import Manifest, Preprocess, Quantization
from edgedistill.distill import feed
from edgedistill.errors import ModelError, RecipeError
from edgedistill.recipe import PerChannel
from edgedistill.recipe import Teacher as Spec


class Found(NamedTuple):
    """What a file says of its input: four sides, an int where they are fixed; its dtype; its quantization, if it has one."""

    shape: Sequence[Any]
    dtype: str
    quantization: Quantization | None = None


@dataclass(frozen=True)
class TensorInput:
    """An input tensor.

    Args:
        size: height and width.
        mean: RGB, 0 to 1, like `std`; both None where the file takes pixels as they are, 0 to 255.
    """

    size: tuple[int, int]
    layout: Literal["NCHW", "NHWC"]
    dtype: str
    quantization: Quantization | None
    mean: PerChannel | None
    std: PerChannel | None

    def fill(self, views_nhwc: torch.Tensor) -> np.ndarray:
        """Return views (N, H, W, 3) uint8 RGB as the file's input, (N, 3, H, W) or (N, H, W, 3) of its dtype."""
        images = feed.resized(views_nhwc.cpu(), self.size)
        if self.mean is not None and self.std is not None:
            images = feed.normalized(images, mean=self.mean, std=self.std)
        elif self.dtype != "float32":
            images = images.round().clamp(0, 255)
        values = images.contiguous().numpy() if self.layout == "NCHW" else np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
        if self.quantization is not None:
            limits = np.iinfo(self.dtype)
            values = np.clip(np.rint(values / self.quantization.scale) + self.quantization.zero_point, limits.min, limits.max)
        return values.astype(self.dtype)

    @property
    def identity(self) -> dict[str, Any]:
        """What answers depend on beside the file."""
        return {"size": list(self.size), "mean": self.mean and list(self.mean), "std": self.std and list(self.std)}


def input_of(found: Found, spec: Spec, manifest: Manifest | None) -> TensorInput:
    """Return how a file is filled, by what it says itself, by its bundle's manifest, or by the recipe.

    Raises ModelError for a tensor that is no image, RecipeError where the recipe has to say more.
    """
    layout = _layout(found.shape, spec)
    sides = tuple(found.shape[2:4] if layout == "NCHW" else found.shape[1:3])
    size = _size(sides, spec)
    if found.dtype not in ("float32", "uint8", "int8"):
        raise ModelError(f"the teacher {spec.model} takes {found.dtype}; a file takes pixels as float32, uint8 or int8; convert it anew")
    mean, std = (spec.mean, spec.std) if manifest is None or spec.mean is not None else _of_bundle(manifest, spec, found)
    quantization = found.quantization
    if found.dtype == "uint8" and mean is None and manifest is None:
        quantization = None  # the camera's bytes, which is how such files are used
    if found.dtype == "uint8" and quantization is None and mean is not None:
        raise RecipeError(f"teacher.mean: {spec.model} takes pixels as bytes, which cannot be normalized; take mean and std out")
    if mean is None and manifest is None and found.dtype != "uint8":
        raise RecipeError(
            f"teacher.mean: {spec.model} takes {found.dtype}, and nothing says how its pixels are normalized; set mean and std "
            "(RGB, 0 to 1), or for pixels of 0 to 255 mean = [0.0, 0.0, 0.0] and std = [0.0039215686, 0.0039215686, 0.0039215686]"
        )
    if found.dtype == "int8" and quantization is None:
        raise ModelError(f"the teacher {spec.model} takes int8 without scale and zero point, so pixels cannot be stored; convert it anew")
    return TensorInput(size, layout, found.dtype, quantization, mean, std)


def _layout(shape: Sequence[Any], spec: Spec) -> Literal["NCHW", "NHWC"]:
    if len(shape) == 4 and shape[3] == 3 and shape[1] != 3:
        return "NHWC"
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        return "NCHW"
    raise ModelError(
        f"the teacher {spec.model} takes a tensor {list(shape)}, expected images (N, 3, H, W) or (N, H, W, 3); give another file"
    )


def _size(sides: Sequence[Any], spec: Spec) -> tuple[int, int]:
    fixed = [side if isinstance(side, int) and side > 0 else None for side in sides]
    height, width = (side if side is not None else spec.input_size for side in fixed)
    if height is None or width is None:
        raise RecipeError(f"teacher.input_size: {spec.model} takes images of any size; say the one that it was trained at")
    if spec.input_size is not None and (height, width) != (spec.input_size, spec.input_size):
        raise RecipeError(
            f"teacher.input_size is {spec.input_size}, but {spec.model} takes images of {height}x{width}; take input_size out"
        )
    return height, width


def _of_bundle(manifest: Manifest, spec: Spec, found: Found) -> tuple[PerChannel | None, PerChannel | None]:
    """Return mean and std that a bundle's manifest gives one of its files: the bundle's own, or pixels less one number."""
    name = PurePath(spec.model.partition(":")[2]).name
    less = next((model.pixel_mean for model in manifest.files if model.file == name), 0)
    if manifest.input.mean is None and less and (found.dtype == "float32" or found.quantization is not None):
        return (less / 255,) * 3, (1 / 255,) * 3
    return _zero_to_one(manifest.input)


def _zero_to_one(spec: Preprocess) -> tuple[PerChannel | None, PerChannel | None]:
    """Return a manifest's mean and std, which are in pixel units."""
    if spec.mean is None or spec.std is None:
        return None, None
    mean, std = (tuple(value / 255 for value in values) for values in (spec.mean, spec.std))
    return mean, std  # type: ignore[return-value]
