"""A window with annotated frames, which OpenCV serves in the main thread only: the one thing here that is no `Output`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np

from edgedistill.errors import MissingExtraError, OutputError

WINDOW = "edgedistill"


@contextmanager
def window() -> Iterator[None]:
    """Open a window for `show` and close it at the end; raises if this OpenCV or this machine has none."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise OutputError("there is no screen to show a window on (DISPLAY is not set); leave --show out, or use --save FILE")
    try:
        cv2.namedWindow(WINDOW, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise MissingExtraError("an OpenCV with windows", "gui") from error
    try:
        yield
    finally:
        cv2.destroyAllWindows()


def show(image_bgr: np.ndarray) -> bool:
    """Show a frame in the window; return whether the run goes on, as `goes_on`."""
    cv2.imshow(WINDOW, image_bgr)
    return goes_on()


def goes_on() -> bool:
    """Let the window see what its user does; return whether the run goes on, False after q or Escape."""
    return cv2.waitKey(1) & 0xFF not in (ord("q"), 27)
