"""What OpenCV opens, as a `Capture`."""

from __future__ import annotations

import logging
import os
import time
from functools import cache

import cv2
import numpy as np

from edgedistill.runtime.frames import Traits

log = logging.getLogger("edgedistill.runtime")

#: So many failures in a row end a stream; one that takes so long is a time limit of FFmpeg's, and no broken packet.
MOST_FAILURES, LONG_S = 30, 1.0
#: OpenCV's level of logging at which it says nothing.
SILENT = 0
#: The first OpenCV whose reader of streams follows a change of their size.
FOLLOWS_SIZE = (4, 13)


def quiet() -> None:
    """Let neither FFmpeg nor OpenCV print: their messages may show a whole address with its password.

    This stays so, since streams may be opened at the same time; FFmpeg's reader takes its level from here whenever one is.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 4 has the one, 5 the other
    set_level(SILENT)


def one_thread() -> None:
    """Let OpenCV work in the calling thread alone, in the whole process.

    Each thread that has shared work among OpenCV's own ones leaves about a kilobyte when it ends (seen with 5.0), and live sources begin
    a new one at every reconnect. The interpreter has better use for the cores.
    """
    cv2.setNumThreads(1)


@cache
def warn_of_sizes() -> None:
    """Say once if this OpenCV does not notice that a stream changes its size, which nothing outside of it can see either."""
    version = tuple(int(part) for part in cv2.__version__.split(".")[:2])
    if version < FOLLOWS_SIZE:
        log.warning(
            "OpenCV %s gives wrong pictures once a stream changes its size; a newer one does not: pip install -U opencv-python-headless",
            cv2.__version__,
        )


class OpenCvCapture:
    """A `Capture` over an opened `cv2.VideoCapture`, which offers no way to interrupt a blocked read."""

    def __init__(self, capture: cv2.VideoCapture, traits: Traits) -> None:
        self.traits = traits
        self._capture = capture

    def grab(self) -> bool:
        return self._capture.grab()

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self._capture.retrieve()

    def interrupt(self) -> None:
        """OpenCV has nothing for this: releasing while another thread reads would crash."""

    def release(self) -> None:
        self._capture.release()


class StreamCapture(OpenCvCapture):
    """A capture of a stream: OpenCV says of a broken packet what it says of the end, so that one failure is not the end yet."""

    def __init__(self, capture: cv2.VideoCapture, traits: Traits) -> None:
        super().__init__(capture, traits)
        self._over = False
        warn_of_sizes()

    def grab(self) -> bool:
        for _ in range(MOST_FAILURES):
            began_s = time.monotonic()
            if self._capture.grab():
                return True
            if self._over or time.monotonic() - began_s >= LONG_S:
                break
        return False

    def interrupt(self) -> None:
        """Try no further after a read that fails; OpenCV has nothing to make it fail."""
        self._over = True
