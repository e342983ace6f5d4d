"""The golden pair of a bundle: a few frames and what each file answers to them, so that a device can check itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from edgedistill.bundle import Bundle, Golden, sha256_of
from edgedistill.runtime import predict_logits

FILE_NAME = "golden.npz"
FRAMES = 4
#: Photographs are stored no larger than this: the pair proves the arithmetic, it is no data set.
_LONGEST_SIDE = 640


def write_golden(bundle: Bundle, frames_bgr: Sequence[np.ndarray] | np.ndarray) -> Golden:
    """Write `golden.npz` into the bundle's folder: `frames_bgr` (4, H, W, 3) uint8 and `logits/FILE` (4, classes) float32."""
    frames = golden_frames(frames_bgr)
    arrays = {f"logits/{model.file}": predict_logits(bundle, frames, file=model.file) for model in bundle.manifest.files}
    path = Path(bundle.path, FILE_NAME)
    with path.open("wb") as stream:
        np.savez_compressed(stream, frames_bgr=frames, **arrays)  # type: ignore[arg-type]
    return Golden(file=FILE_NAME, sha256=sha256_of(path))


def golden_frames(frames_bgr: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Return frames spread over the given ones, at the first one's size but no larger than 640 pixels, (4, H, W, 3)."""
    chosen = [frames_bgr[i] for i in np.linspace(0, len(frames_bgr) - 1, FRAMES).round().astype(int)]
    height, width = chosen[0].shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
    fitted = [frame if frame.shape[1::-1] == size_wh else cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA) for frame in chosen]
    return np.stack(fitted)
