"""Frames to the pixels a file is calibrated and compared on, by the device's own preprocessing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgedistill.bundle import Preprocess
from edgedistill.errors import ConvertError
from edgedistill.preprocess import Preprocessor

#: Below this, ranges depend on which images happen to be there.
FEWEST_CALIBRATION_FRAMES = 16


def model_pixels(frames_bgr: Sequence[np.ndarray] | np.ndarray, spec: Preprocess) -> np.ndarray:
    """Return (N, height, width, 3) uint8 RGB pixels of N frames, each (H, W, 3) uint8 BGR of any size."""
    prepare = Preprocessor(spec)
    pixels = np.empty((len(frames_bgr), spec.height, spec.width, 3), np.uint8)
    for i, frame in enumerate(frames_bgr):
        pixels[i] = prepare(frame)[0]
    return pixels


def calibration_pixels(frames_bgr: Sequence[np.ndarray] | np.ndarray, spec: Preprocess) -> np.ndarray:
    """Return the pixels of calibration frames; raises ConvertError if there are too few of them or they are all alike."""
    if len(frames_bgr) < FEWEST_CALIBRATION_FRAMES:
        raise ConvertError(
            f"int8 needs at least {FEWEST_CALIBRATION_FRAMES} calibration images, got {len(frames_bgr)}; "
            "raise export.calibration (some hundreds are good) or export without int8"
        )
    pixels = model_pixels(frames_bgr, spec)
    if (pixels == pixels[0]).all():
        raise ConvertError(
            f"all {len(pixels)} calibration images are alike, so they show no ranges; calibrate on real training images of every class"
        )
    return pixels
