"""A frame with the answer written on it."""

from __future__ import annotations

import cv2
import numpy as np

from edgedistill.runtime.camera import Result

FONT = cv2.FONT_HERSHEY_SIMPLEX
UNICODE_FONT = int(cv2.__version__.partition(".")[0]) >= 5


def annotate(frame_bgr: np.ndarray, result: Result) -> np.ndarray:
    """Return a copy of a frame with the answer and the latency written on it.

    Args:
        frame_bgr: (H, W, 3) uint8; the letters grow with the smaller side.
    """
    image_bgr = frame_bgr.copy()
    height, width = image_bgr.shape[:2]
    scale = max(0.3, min(height, width) / 480 * 0.8)
    texts = [f"{label} {score:.0%}" for _, label, score in result.top_k] or ["-"]
    texts.append(f"{result.stages_ms['total']:.1f} ms" + (f", {result.dropped} dropped" if result.dropped else ""))
    line_height = round(34 * scale)
    panel = image_bgr[: min(height, line_height * len(texts) + round(14 * scale)), :]
    panel //= 3
    thickness = max(1, round(2 * scale))
    for number, text in enumerate(texts, start=1):
        # Before OpenCV 5 the built-in font has no letters beyond ASCII, and draws one question mark a byte.
        plain = text if UNICODE_FONT else text.encode("ascii", "replace").decode()
        fitting = min(scale, scale * (width - 16 * scale) / max(1, cv2.getTextSize(plain, FONT, scale, thickness)[0][0]))
        colour = (255, 255, 255) if number < len(texts) else (150, 230, 255)
        cv2.putText(image_bgr, plain, (round(8 * scale), line_height * number), FONT, fitting, colour, thickness, cv2.LINE_AA)
    return image_bgr
