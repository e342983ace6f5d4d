"""The source `-`: raw BGR frames on standard input, from any program that can write them.

It is read like a file: every frame in order, none dropped; who writes waits while the model is busy. A program that must not
wait, such as one that reads a camera, drops frames itself.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import threading

import numpy as np

from edgedistill.errors import SourceError
from edgedistill.runtime.frames import Opening, Traits
from edgedistill.runtime.wishes import Wishes

log = logging.getLogger("edgedistill.runtime")

#: How long one wait for bytes lasts, so that an interruption is seen in time.
WAIT_S = 0.1
EXAMPLE = (
    "ffmpeg -i clip.mp4 -f rawvideo -pix_fmt bgr24 -s 640x480 - | "
    "python -m edgedistill.runtime camera BUNDLE --source - --width 640 --height 480"
)


def raw_frames(text: str, wishes: Wishes) -> Opening:
    """Return how to open standard input as raw BGR24 frames of the wished size, which must be given."""
    height, width = wishes.height, wishes.width
    if height is None or width is None:
        raise SourceError(f"the source {text} is raw frames, whose size must be given: add --width and --height; for example: {EXAMPLE}")
    traits = Traits("standard input", fps=wishes.fps)
    return lambda: RawFrames(_standard_input(), (height, width), traits)


def _standard_input() -> int:
    """Return the file descriptor of standard input."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:  # closed, or replaced by something that is no file
        raise SourceError(f"standard input is closed; pipe frames into it, for example: {EXAMPLE}") from error
    if os.isatty(descriptor):
        raise SourceError(f"standard input is a terminal; pipe frames into it, for example: {EXAMPLE}")
    return descriptor


class RawFrames:
    """A `Capture` of frames of `size_hw`, blue, green and red a byte each, row by row, from a file descriptor that stays open."""

    def __init__(self, descriptor: int, size_hw: tuple[int, int], traits: Traits) -> None:
        self.traits = traits
        self._descriptor = descriptor
        self._shape = (*size_hw, 3)
        self._frame_bgr: np.ndarray | None = None
        self._interrupted = threading.Event()

    def grab(self) -> bool:
        frame_bgr = np.empty(self._shape, np.uint8)
        came = self._read_into(memoryview(frame_bgr.reshape(-1).data))
        whole = came == frame_bgr.nbytes
        self._frame_bgr = frame_bgr if whole else None
        if 0 < came < frame_bgr.nbytes and not self._interrupted.is_set():
            log.warning(
                "%s: the last frame is incomplete, %d of %d bytes; check that frames are BGR24 and %dx%d",
                *(self.traits.name, came, frame_bgr.nbytes, self._shape[1], self._shape[0]),
            )
        return came > 0

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return self._frame_bgr is not None, self._frame_bgr

    def interrupt(self) -> None:
        self._interrupted.set()

    def release(self) -> None:
        """Nothing to give back: standard input belongs to the process."""

    def _read_into(self, room: memoryview) -> int:
        """Fill `room` and return how many bytes came before the end or an interruption."""
        came = 0
        while came < len(room) and not self._interrupted.is_set():
            ready, _, _ = select.select([self._descriptor], [], [], WAIT_S)
            if ready:
                read = os.readv(self._descriptor, [room[came:]])
                if not read:
                    break
                came += read
        return came
