"""Camera frame to model input: the only implementation, used in evaluation on the workstation and on the device.

`Preprocessor` turns a BGR frame into the pixels that the network sees; `fill_input` writes these pixels into an
interpreter's input tensor (dtype, layout and quantization of the file). Augmentation is `distill.augment`'s business.
"""

from __future__ import annotations

import cv2
import numpy as np

from edgedistill.bundle import Preprocess, Tensor
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

    def __call__(self, frame_bgr: np.ndarray) -> np.ndarray:
        """Return (1, height, width, 3) pixels: uint8, or float32 when the spec has mean and std.

        Args:
            frame_bgr: (H, W, 3) uint8 of any size, as OpenCV gives it.
        """
        if frame_bgr.ndim != 3 or frame_bgr.shape[2] != 3 or frame_bgr.dtype != np.uint8 or frame_bgr.size == 0:
            raise DataError(f"a frame must be (H, W, 3) uint8 in BGR order, got shape {frame_bgr.shape} of {frame_bgr.dtype}")
        spec = self.spec
        pixels = self._pixels_nhwc[0]
        resized = pixels if spec.color == "BGR" else self._resized_bgr
        region = center_crop(frame_bgr, spec.height, spec.width) if spec.resize == "crop" else frame_bgr
        cv2.resize(region, (spec.width, spec.height), dst=resized, interpolation=INTERPOLATIONS[spec.interpolation])
        if spec.color == "RGB":
            cv2.cvtColor(resized, cv2.COLOR_BGR2RGB, dst=pixels)
        if self._normalized_nhwc is None:
            return self._pixels_nhwc
        np.subtract(self._pixels_nhwc, np.asarray(spec.mean, np.float32), out=self._normalized_nhwc)
        np.divide(self._normalized_nhwc, np.asarray(spec.std, np.float32), out=self._normalized_nhwc)
        return self._normalized_nhwc


def center_crop(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return a view of the largest centred region of `frame` (H, W, …) with the aspect ratio height : width."""
    frame_h, frame_w = frame.shape[:2]
    crop_h = min(frame_h, max(1, round(frame_w * height / width)))
    crop_w = min(frame_w, max(1, round(frame_h * width / height)))
    top, left = (frame_h - crop_h) // 2, (frame_w - crop_w) // 2
    return frame[top : top + crop_h, left : left + crop_w]


def input_lookup(tensor: Tensor) -> np.ndarray | None:
    """Return the (256,) table from pixel to stored value of a quantized input; None where pixels are stored as they are."""
    if tensor.quantization is None:
        return None
    scale, zero_point = tensor.quantization.scale, tensor.quantization.zero_point
    limits = np.iinfo(tensor.dtype)
    stored = np.rint(np.arange(256) / scale) + zero_point
    table = np.clip(stored, limits.min, limits.max).astype(tensor.dtype)
    if tensor.dtype == "int8" and np.array_equal(table, MINUS_128):
        return MINUS_128
    return None if tensor.dtype == "uint8" and np.array_equal(table, np.arange(256)) else table


def fill_input(pixels_nhwc: np.ndarray, into: np.ndarray, *, lookup: np.ndarray | None, layout: str) -> None:
    """Write pixels into an input tensor in place.

    Args:
        pixels_nhwc: (1, H, W, 3), what `Preprocessor` returned.
        into: the tensor, (1, H, W, 3) or (1, 3, H, W), of the file's dtype.
        lookup: what `input_lookup` returned for the tensor.
        layout: "NHWC" or "NCHW".
    """
    target = into.transpose(0, 2, 3, 1) if layout == "NCHW" else into
    if pixels_nhwc.shape != target.shape:
        raise DataError(f"the model takes pixels of shape {target.shape}, got {pixels_nhwc.shape}; use the bundle's own Preprocessor")
    if lookup is None:
        np.copyto(target, pixels_nhwc, casting="unsafe")
    elif lookup is MINUS_128:
        # Flipping the highest bit is the same as subtracting 128, and twenty times faster than looking it up.
        np.bitwise_xor(pixels_nhwc, 0x80, out=target.view(np.uint8))
    else:
        np.take(lookup, pixels_nhwc, out=target, mode="clip")
