"""How both of MediaPipe's loops read: a frame, turned to RGB, as an image of MediaPipe."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

import cv2
import mediapipe
import numpy as np
from measured import Measured

VERSION = f"mediapipe {version('mediapipe')}"


def images(source: str, found: Measured) -> Iterator[tuple[np.ndarray, mediapipe.Image]]:
    """Yield each frame of a source (BGR) with its image until the source or the measurement is over."""
    capture = cv2.VideoCapture(source)
    while capture.isOpened() and not found.over:
        good, frame_bgr = capture.read()
        if not good:
            break
        yield frame_bgr, mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=cv2.cvtColor(frame_bgr, cv2.COLOR_BGR2RGB))
    capture.release()
