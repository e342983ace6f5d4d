"""A capture of which only a part is looked at, turned or mirrored; in the capture's own thread, while the network runs."""

from __future__ import annotations

import logging

import cv2
import numpy as np

from edgedistill.runtime.frames import Capture, Traits
from edgedistill.runtime.wishes import Wishes, in_pixels

log = logging.getLogger("edgedistill.runtime")

ROTATE = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
FLIP = {"horizontal": 1, "vertical": 0, "both": -1}


class Oriented:
    """A `Capture` around another one: region of interest, then rotation, then mirror; frames come out in one piece of memory."""

    def __init__(self, capture: Capture, wishes: Wishes) -> None:
        self._capture, self._wishes = capture, wishes
        self._told = False
        self.grab, self.interrupt, self.release = capture.grab, capture.interrupt, capture.release

    @property
    def traits(self) -> Traits:
        """Those of the capture."""
        return self._capture.traits

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        """Decode and orient the grabbed frame; False as well if no pixel of it lies in the region of interest."""
        decoded, frame_bgr = self._capture.retrieve()
        if not decoded or frame_bgr is None:
            return False, None
        region_bgr = self._region(frame_bgr)
        if region_bgr.size == 0:
            if not self._told:
                self._told = True
                log.warning("%s: the region of interest lies outside of its frames of %dx%d", self.traits.name, *frame_bgr.shape[1::-1])
            return False, None
        return True, oriented(region_bgr, self._wishes)

    def _region(self, frame_bgr: np.ndarray) -> np.ndarray:
        if self._wishes.roi is None:
            return frame_bgr
        x, y, width, height = in_pixels(self._wishes.roi, *frame_bgr.shape[:2])
        return frame_bgr[y : y + height, x : x + width]


def oriented(frame_bgr: np.ndarray, wishes: Wishes) -> np.ndarray:
    """Return a frame (H, W, 3) rotated and mirrored as wished, in contiguous memory."""
    if wishes.rotate:
        frame_bgr = cv2.rotate(frame_bgr, ROTATE[wishes.rotate])
    if wishes.flip != "none":
        frame_bgr = cv2.flip(frame_bgr, FLIP[wishes.flip])
    return np.ascontiguousarray(frame_bgr)
