"""Camera frame to model input: the only implementation, used in evaluation on the workstation and on the device.

`Preprocessor` turns a BGR frame into the pixels that the network sees; `Filling` writes these pixels into an
interpreter's input tensor (dtype, layout and quantization of the file). Where that tensor takes bytes, it gives the
preprocessor its memory to write into. Neither takes new memory for a frame. Augmentation is `distill.augment`'s business.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgedistill.bundle import ModelFile, Preprocess, Tensor
from edgedistill.errors import DataError

INTERPOLATIONS = {"area": cv2.INTER_AREA, "linear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}

#: The `input_lookup` of an int8 input that holds the camera's bytes exactly.
MINUS_128 = (np.arange(256) - 128).astype(np.int8)


class Preprocessor:
    """Turn frames into model pixels; buffers are reused, so a result is valid until the next call.

    Args:
        spec: the bundle's `manifest.input`.
    """

    def __init__(self, spec: Preprocess) -> None:
        self.spec = spec
        self._resized_bgr = np.empty((spec.height, spec.width, 3), np.uint8)
        self._pixels_nhwc = np.empty((1, spec.height, spec.width, 3), np.uint8)
        self._normalized_nhwc = np.empty((1, spec.height, spec.width, 3), np.float32) if spec.mean is not None else None

    def __call__(self, frame_bgr: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
        """Return (1, height, width, 3) pixels: uint8, or float32 when the spec has mean and std.

        Args:
            frame_bgr: (H, W, 3) uint8 of any size, as OpenCV gives it.
            into: (1, height, width, 3) uint8 memory for the pixels, such as an engine's `input_pixels()`; its own by default.
        """
        if frame_bgr.ndim != 3 or frame_bgr.shape[2] != 3 or frame_bgr.dtype != np.uint8 or frame_bgr.size == 0:
            raise DataError(f"a frame must be (H, W, 3) uint8 in BGR order, got shape {frame_bgr.shape} of {frame_bgr.dtype}")
        spec = self.spec
        pixels_nhwc = self._pixels_nhwc if into is None else into
        if pixels_nhwc.shape != self._pixels_nhwc.shape or pixels_nhwc.dtype != np.uint8 or not pixels_nhwc.flags.c_contiguous:
            raise DataError(
                f"pixels of shape {self._pixels_nhwc.shape} cannot be written into {pixels_nhwc.dtype} {pixels_nhwc.shape}; "
                "give whole uint8 memory of that shape, or none"
            )
        pixels = pixels_nhwc[0]
        resized = pixels if spec.color == "BGR" else self._resized_bgr
        region = center_crop(frame_bgr, spec.height, spec.width) if spec.resize == "crop" else frame_bgr
        cv2.resize(region, (spec.width, spec.height), dst=resized, interpolation=INTERPOLATIONS[spec.interpolation])
        if spec.color == "RGB":
            cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=pixels)
        if self._normalized_nhwc is None:
            return pixels_nhwc
        np.copyto(self._normalized_nhwc, pixels_nhwc)
        for channel, (mean, std) in enumerate(zip(spec.mean or (), spec.std or (), strict=True)):
            # one number at a time: with three, numpy would take memory for every frame
            values = self._normalized_nhwc[..., channel]
            np.subtract(values, np.float32(mean), out=values)
            np.divide(values, np.float32(std), out=values)
        return self._normalized_nhwc


def center_crop(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a view of the largest centred region of `frame` (H, W, …) with the aspect ratio height : width."""
    frame_h, frame_w = frame.shape[:2]
    crop_h = min(frame_h, max(1, round(frame_w * height / width)))
    crop_w = min(frame_w, max(1, round(frame_h * width / height)))
    top, left = (frame_h - crop_h) // 2, (frame_w - crop_w) // 2
    return frame[top : top + crop_h, left : left + crop_w]


def input_lookup(tensor: Tensor, *, pixel_mean: int = 0) -> np.ndarray | None:
    """Return the (256,) table from pixel to stored value of a quantized input; None where pixels are stored as they are.

    Args:
        pixel_mean: 0 to 255; the stored values stand for the pixel minus it. With scale 1 and this zero point, a byte is the pixel.
    """
    if tensor.quantization is None:
        return None
    scale, zero_point = tensor.quantization.scale, tensor.quantization.zero_point
    limits = np.iinfo(tensor.dtype)
    stored = np.rint((np.arange(256) - pixel_mean) / scale) + zero_point
    table = np.clip(stored, limits.min, limits.max).astype(tensor.dtype)
    if tensor.dtype == "int8" and np.array_equal(table, MINUS_128):
        return MINUS_128
    return None if tensor.dtype == "uint8" and np.array_equal(table, np.arange(256)) else table


def byte_view(tensor: np.ndarray, *, layout: str) -> np.ndarray | None:
    """Return an input tensor's memory as (1, H, W, 3) uint8 for the camera's bytes; None where a pixel takes more, or lies elsewhere.

    What was written there still has to go through `fill_input`, once, which converts it in place.
    """
    return tensor.view(np.uint8) if layout == "NHWC" and tensor.dtype.itemsize == 1 else None


def fill_input(pixels_nhwc: np.ndarray, into: np.ndarray, *, lookup: np.ndarray | None, layout: str, pixel_mean: int = 0) -> None:
    """Write pixels into an input tensor: copy, unless they lie there already, and convert in place, which takes no memory.

    Args:
        pixels_nhwc: (1, H, W, 3), what `Preprocessor` returned; may be the tensor's own memory, see `byte_view`.
        into: the tensor, (1, H, W, 3) or (1, 3, H, W), of the file's dtype, without gaps.
        lookup: what `input_lookup` returned for the tensor.
        layout: "NHWC" or "NCHW".
        pixel_mean: 0 to 255, what a float32 input is less than the pixel.
    """
    target = into.transpose(0, 2, 3, 1) if layout == "NCHW" else into
    if pixels_nhwc.shape != target.shape:
        raise DataError(f"the model takes pixels of shape {target.shape}, got {pixels_nhwc.shape}; use the bundle's own Preprocessor")
    np.copyto(target if lookup is None else target.view(np.uint8), pixels_nhwc, casting="unsafe")
    if lookup is MINUS_128:
        # Flipping the highest bit is the same as subtracting 128, and ten times faster than looking it up.
        stored = into.view(np.uint8)
        np.bitwise_xor(stored, 0x80, out=stored)
    elif lookup is not None:
        rows = into.reshape(-1, into.shape[-1])
        cv2.LUT(rows.view(np.uint8), lookup, dst=rows)
    elif pixel_mean and into.dtype == np.float32:
        np.subtract(into, np.float32(pixel_mean), out=into)


class Filling:
    """How one model file's input tensor is filled with pixels, wherever that tensor lies."""

    def __init__(self, model: ModelFile) -> None:
        self._layout, self._pixel_mean = model.input.layout, model.pixel_mean
        self._lookup = input_lookup(model.input, pixel_mean=model.pixel_mean)

    def pixels(self, tensor: np.ndarray) -> np.ndarray | None:
        """Return what `byte_view` does of the tensor."""
        return byte_view(tensor, layout=self._layout)

    def fill(self, pixels_nhwc: np.ndarray, tensor: np.ndarray) -> None:
        """Do what `fill_input` does to the tensor."""
        fill_input(pixels_nhwc, tensor, lookup=self._lookup, layout=self._layout, pixel_mean=self._pixel_mean)
